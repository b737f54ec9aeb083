package build

import (
	"runtime/debug"
	"testing"
)

func TestBuild(t *testing.T) {
	stamped := func(settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{GoVersion: "go1", Main: debug.Module{Version: "v1"}, Settings: settings}
	}
	rev, clean, dirty := debug.BuildSetting{Key: "vcs.revision", Value: "abc"},
		debug.BuildSetting{Key: "vcs.modified", Value: "false"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	tags := debug.BuildSetting{Key: "-tags", Value: "gpu"}
	for _, c := range []struct {
		info         *debug.BuildInfo
		revision, id string
	}{
		{nil, "unknown", "unknown"},
		{stamped(), "unknown", "go1 v1"},
		{stamped(tags, rev, clean), "abc", "go1 v1 gpu abc false"},
		{stamped(tags, rev, dirty), "abc-dirty", "go1 v1 gpu abc true"},
	} {
		if r, i := revision(c.info), id(c.info); r != c.revision || i != c.id {
			t.Errorf("%+v: %q %q, want %q %q", c.info, r, i, c.revision, c.id)
		}
	}
}

// Package build says which build of the program runs.
package build

import "runtime/debug"

// Version is that of the program. CHANGELOG.md says what each has, and docs/status.md whether it has been released.
const Version = "v0.1.0"

// Revision is the git revision that the go command stamped on the program, with "-dirty" behind it where the source had
// changes beside it; "unknown" where there is no stamp.
func Revision() string {
	info, _ := debug.ReadBuildInfo()
	return revision(info)
}

func revision(info *debug.BuildInfo) string {
	rev, dirty := "unknown", ""
	for _, s := range settings(info) {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return rev + dirty
}

// ID tells one build of the program from another: by Go's version, the module's, the revision and the build tags.
func ID() string {
	info, _ := debug.ReadBuildInfo()
	return id(info)
}

func id(info *debug.BuildInfo) string {
	if info == nil {
		return "unknown"
	}
	id := info.GoVersion + " " + info.Main.Version
	for _, s := range settings(info) {
		if s.Key == "vcs.revision" || s.Key == "vcs.modified" || s.Key == "-tags" {
			id += " " + s.Value
		}
	}
	return id
}

func settings(info *debug.BuildInfo) []debug.BuildSetting {
	if info == nil {
		return nil
	}
	return info.Settings
}

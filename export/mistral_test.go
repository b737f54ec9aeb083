package export

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/decode"
	"headroom/model"
)

// TestWindowsGoOutAsMistral: a window in all layers goes out as Mistral's and comes back; one that Mistral does not
// have goes out as the project's own class.
func TestWindowsGoOutAsMistral(t *testing.T) {
	with := func(also func(*attention.Config)) change {
		return func(_ *model.Config, a *attention.Config) { a.Window = 5; also(a) }
	}
	for _, kind := range []string{"mha", "gqa-2", "mqa"} {
		for _, pattern := range []attention.Pattern{"", "window,window"} {
			checkpoint, m := tiny(t, kind, with(func(a *attention.Config) { a.Pattern = pattern }))
			dir := filepath.Join(t.TempDir(), "hf")
			r, err := HF(checkpoint, Options{Dir: dir, DType: "fp32", ShardBytes: 1 << 30})
			if err != nil || r.Class != Mistral {
				t.Fatalf("%s: %+v, %v", kind, r, err)
			}
			text, err := os.ReadFile(filepath.Join(dir, "config.json"))
			var j map[string]any
			if err != nil || json.Unmarshal(text, &j) != nil || j["sliding_window"] != 5.0 || j["model_type"] != "mistral" {
				t.Errorf("%s: %s (%v)", kind, text, err)
			}
			(&specimen{Model: m}).goesThereAndBack(t, checkpoint)
		}
	}
	for name, change := range map[string]change{
		"some layers": with(func(a *attention.Config) { a.Pattern = "window,full" }),
		"partly":      with(func(a *attention.Config) { a.RopeDim = 4 }),
		"normed":      with(func(a *attention.Config) { a.QKNorm = attention.AllNorm }),
		"normed and based apart": with(func(a *attention.Config) {
			a.QKNorm, a.Pattern, a.WindowRopeTheta = attention.HeadNorm, "window,full", 300
		}),
		"scaled": with(func(a *attention.Config) {
			a.RopeScaling = attention.RopeScaling{Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 40}
		}),
	} {
		checkpoint, m := tiny(t, "gqa-2", change)
		t.Run(name, func(t *testing.T) {
			(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.window is 5")
		})
	}
	checkpoint, m := tiny(t, "mla", plainMLA, windowed)
	(&specimen{Model: m}).goesOutAsOwn(t, checkpoint, "attention.window is 5")
}

// TestMistralIsRead: what is not said of a window is what the library takes then, and null is no window.
func TestMistralIsRead(t *testing.T) {
	dir := filepath.Join("testdata", "transformers", "mistral")
	window := map[string]int{`{}`: 5, `{"sliding_window": null}`: 0, `{"sliding_window": 3}`: 3}
	for change, want := range map[string]string{
		`{"sliding_window": 0}`:                   "sliding_window must be positive or null, it is 0",
		`{"sliding_window": "all"}`:               "sliding_window",
		`{"layer_types": ["sliding_attention"]}`:  "layer_types are not known here of MistralForCausalLM",
		`{"architectures": ["LlamaForCausalLM"]}`: "a sliding window (of 5) is not known here",
		`{"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
			"high_freq_factor": 4.0, "original_max_position_embeddings": 32}}`: "llama3",
		`{}`: "", `{"sliding_window": null}`: "", `{"sliding_window": 3}`: "",
	} {
		back := filepath.Join(t.TempDir(), "back")
		_, err := Read(changed(t, dir, change), back, 0)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", change, err, want)
			}
			continue
		}
		m, bad := decode.Load(back)
		if err != nil || bad != nil || m.Attention.Window != window[change] {
			t.Errorf("%s: a window of %d (%v, %v)", change, m.Attention.Window, err, bad)
		}
	}
	var silent foreign
	if err := json.Unmarshal([]byte(`{"architectures": ["MistralForCausalLM"]}`), &silent); err != nil ||
		silent.Window.mistral() != 4096 {
		t.Errorf("a Mistral that says nothing has a window of %d (%v)", silent.Window.mistral(), err)
	}
}

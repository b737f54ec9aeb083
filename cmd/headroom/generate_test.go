package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestGenerate trains a model of a sentence and lets it go on, plainly and with guesses.
func TestGenerate(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("text.txt", []byte(strings.Repeat("pack my box with five dozen liquor jugs. ", 80)),
		0o666); err != nil {
		t.Fatal(err)
	}
	must := func(line string, more ...string) string {
		t.Helper()
		code, out, logs := headroom(append(strings.Fields(line), more...)...)
		if code != 0 {
			t.Fatalf("%s: code %d, %s", line, code, logs)
		}
		return out
	}
	must("prepare --tokenizer bytes --out shards text.txt")
	for _, run := range []string{"mla", "gta-2"} {
		must("train --attention " + run +
			" --set data.train=shards --set data.tokenizer=bytes --set model.width=16 --set model.layers=1 --set model.mlp=32" +
			" --set model.context=64 --set attention.heads=2 --set attention.head_dim=8 --set train.steps=60 --set " +
			"train.warmup=1 --set train.lr=0.02" +
			" --set train.batch=8 --out " + run)
	}
	plain := must("generate mla --temperature 0 --max-tokens 40 --prompt", "pack my ")
	for _, more := range []string{"--lookup 3", "--draft gta-2", "--draft mla/checkpoints/latest --guesses 2"} {
		if text := must("generate mla --temperature 0 --max-tokens 40 "+more+" --prompt", "pack my "); text != plain {
			t.Errorf("%s: %q, plainly %q", more, text, plain)
		}
	}
	var r struct {
		Text, Reason string
		Tokens       []int32
		Pages        int
	}
	if err := json.Unmarshal([]byte(
		must("generate mla --seed 4 --temperature 1 --top-k 20 --top-p 0.9 --max-tokens 9 --json --prompt a")),
		&r); err != nil {
		t.Fatal(err)
	}
	if r.Reason != "length" || len(r.Tokens) != 9 || r.Pages != 1 {
		t.Errorf("%+v", r)
	}
	var faster struct {
		SpeedUp           float64 `json:"speed_up"`
		Drafted, Accepted int
	}
	if err := json.Unmarshal([]byte(
		must("generate mla --temperature 0 --max-tokens 40 --draft mla --speed-up --json --prompt", "pack my ")),
		&faster); err != nil {
		t.Fatal(err)
	}
	if faster.SpeedUp <= 0 || faster.Drafted == 0 || faster.Accepted != faster.Drafted {
		// the model guesses its own tokens
		t.Errorf("%+v", faster)
	}
	if text := must("generate mla --temperature 0 --prompt pack --stop", string(plain[3])); strings.Contains(
		text, string(plain[3])) {
		t.Errorf("%q goes on after %q", text, plain[3])
	}
	for _, c := range [][2]string{
		{"generate mla", "headroom: generate: give one of --prompt and --prompt-file"},
		{"generate mla --prompt=", "headroom: generate: the prompt is empty"},
		{"generate mla --prompt-file none", "headroom: generate: open none"},
		{"generate mla --prompt-file text.txt",
			"headroom: decode: a prompt of 3281 tokens leaves no room in the model's context of 64"},
		{"generate mla --prompt a --max-tokens 0", "headroom: decode: at least one new token must be asked for, not 0"},
		{"generate mla --prompt a --tokenizer gpt2",
			"headroom: decode: token 50256 at position 0 is none of the model's 257"},
		{"generate mla --prompt a --draft mla --lookup 2", "headroom: generate: give one of --draft and --lookup"},
		{"generate mla --prompt a --speed-up", "headroom: generate: --speed-up is that of guesses: give --draft or --lookup"},
		{"generate mla --prompt a --draft mla --guesses 0",
			"headroom: decode: a draft model must guess at least one token, not 0"},
		{"generate none --prompt a", "headroom: lab: "},
	} {
		code, out, logs := headroom(strings.Fields(c[0])...)
		if code != 2 || out != "" || !strings.HasPrefix(logs[strings.LastIndex("\n"+strings.TrimSuffix(logs, "\n"), "\n"):],
			c[1]) {
			t.Errorf("%s: code %d, out %q, logs %q", c[0], code, out, logs)
		}
	}
}

func TestBenchDecode(t *testing.T) {
	small := "bench decode --set model.width=16 --set model.layers=1 --set model.mlp=16 --set attention.heads=4 --set " +
		"attention.head_dim=8 --steps 1 --batch 1,2 --context 70"
	code, out, logs := headroom(strings.Fields(small + " --json")...)
	var r struct {
		Results []struct {
			Attention string
			Batch     int
			TokenMS   float64 `json:"token_ms"`
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatal(code, err, logs)
	}
	if len(r.Results) != 8 || r.Results[7].Attention != "gla-2" || r.Results[7].Batch != 2 || r.Results[7].TokenMS <= 0 {
		t.Errorf("%+v", r.Results)
	}
	if code, out, _ := headroom(strings.Fields(small + " --attention mqa")...); code != 0 ||
		strings.Count(out, "\n") != 2 || !strings.HasPrefix(out, "mqa ") {
		t.Errorf("code %d, %q", code, out)
	}
	if code, out, _ := headroom(strings.Fields(small + " --attention gta-2 --prefill")...); code != 0 ||
		strings.Count(out, "% of a product's") != 2 {
		t.Errorf("code %d, %q", code, out)
	}
	if code, _, logs := headroom(strings.Fields(
		"bench decode --set model.width=16 --attention mqa --batch 1000000000 --context 70")...); code != 1 ||
		!strings.HasSuffix(logs, "headroom: bench: no case could be timed\n") {
		t.Errorf("what cannot fit: code %d, %q", code, logs)
	}
	for line, want := range map[string]string{
		"bench decode --steps 0":             "headroom: bench: steps must be at least 1, not 0",
		"bench decode --batch 0":             "headroom: bench: batch and context must be positive, not 0",
		"bench decode --attention gxa":       `headroom: attention: "gxa" is not a kind`,
		"bench decode --checkpoint x x.yaml": "headroom: bench: a checkpoint has its own configuration: give no other",
	} {
		if code, _, logs := headroom(strings.Fields(line)...); code != 2 || !strings.HasPrefix(logs, want) {
			t.Errorf("%s: code %d, %q", line, code, logs)
		}
	}
}

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutAndBack takes a run to another program's directory, verifies it, and trains on what comes back.
func TestOutAndBack(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("text.txt", []byte(strings.Repeat("pack my box with five dozen liquor jugs. ", 80)),
		0o666); err != nil {
		t.Fatal(err)
	}
	run := func(want int, line string) (out, logs string) {
		t.Helper()
		code, out, logs := headroom(strings.Fields(line)...)
		if code != want {
			t.Fatalf("%s: code %d, %s", line, code, logs)
		}
		return out, logs
	}
	run(0, "prepare --tokenizer bytes --out shards text.txt")
	size := " --set data.train=shards --set data.tokenizer=bytes --set model.width=16 --set model.layers=1 --set " +
		"model.mlp=32 --set model.context=64" +
		" --set attention.heads=2 --set attention.head_dim=8 --set train.steps=40 --set train.warmup=1 --set train.lr=0.02 " +
		"--set train.batch=8"
	run(0, "train --attention gta-2"+size+" --out first")
	if out, _ := run(0, "export first --out hf"); !strings.Contains(out, "in fp32") { // as it was trained
		t.Error(out)
	}
	if out, _ := run(0, "export first --dtype bf16 --no-tokenizer --out half"); !strings.Contains(out, "in bf16") {
		t.Error(out)
	}
	if _, err := os.Stat("half/tokenizer.json"); err == nil {
		t.Error("--no-tokenizer left a tokenizer.json")
	}
	run(2, "export first --out hf")
	if out, _ := run(0, "verify export hf first"); !strings.Contains(out, "holds") {
		t.Error(out)
	}
	card, err := os.ReadFile("hf/README.md")
	if err != nil || !strings.Contains(string(card), "gta-2 attention") ||
		!strings.Contains(string(card), "Trained on shards") || !strings.Contains(string(card), "kind: gta") {
		t.Errorf("%s, %v", card, err)
	}
	run(0, "import hf --out back")
	a, _ := run(0, "generate first --temperature 0 --max-tokens 20 --prompt pack")
	b, _ := run(0, "generate back --temperature 0 --max-tokens 20 --prompt pack")
	if a != b {
		t.Errorf("%q, back again %q", a, b)
	}
	if err := os.CopyFS("flipped", os.DirFS("back")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("flipped/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)-20] ^= 1
	if err := os.WriteFile("flipped/model.safetensors", text, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, logs := run(2, "generate flipped --prompt pack"); !strings.Contains(logs,
		"flipped/model.safetensors is damaged: its SHA-256 is ") {
		t.Error(logs)
	}
	on := " --set data.train=shards --set train.steps=4 --set train.warmup=1 --set train.lr=0.001"
	run(0, "train --from back"+on+" --out more")
	loss := func(dir string, first bool) float64 {
		text, err := os.ReadFile(filepath.Join(dir, "metrics.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		line := lines[len(lines)-1]
		if first {
			line = lines[0]
		}
		var step struct{ Loss float64 }
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatal(err)
		}
		return step.Loss
	}
	if was, now, random := loss("first", false), loss("more", true), loss("first", true); now > was+0.3 || now > random-1 {
		t.Errorf("training went on at %v, behind %v; random weights began at %v", now, was, random)
	}
	if _, logs := run(2, "train --from back --set model.layers=2"+on+" --out other"); !strings.Contains(logs,
		"from must be a checkpoint of this model") {
		t.Error(logs)
	}
	for line, want := range map[string]string{
		"train --from nowhere --out x":                          "nowhere",
		"export nowhere --out x":                                "nowhere",
		"export first --format onnx --out x":                    "format must be hf or gguf",
		"export first --no-tokenizer --tokenizer bytes --out x": "give one of",
		"import first --out x":                                  "config.json",
		"verify export first first":                             "config.json",
		"serve":                                                 "give a checkpoint",
		"serve first --rows 0":                                  "at least 1",
		"serve first --tls-cert x":                              "give both",
		"serve first --keys nowhere":                            "nowhere",
		"serve first --addr 127.0.0.1:99999":                    "99999",
		"serve first --cache-mib 0 --timeout 0s":                "above 0",
		"serve --random --set model.layers=nothing":             "model.layers",
	} {
		code, _, logs := headroom(strings.Fields(line)...)
		if code == 0 || !strings.Contains(logs, want) || strings.Count(strings.TrimSpace(logs), "\n") > 0 {
			t.Errorf("%s: code %d, %s", line, code, logs)
		}
	}
}

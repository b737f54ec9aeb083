package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func headroom(args ...string) (code int, out, logs string) {
	var o, l bytes.Buffer
	code = run(context.Background(), args, &o, &l)
	return code, o.String(), l.String()
}

func TestBadUsage(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("train: {lrr: 1}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"fly", `headroom: unknown command "fly" for "headroom"`},
		{"train", `headroom: required flag(s) "out" not set`},
		{"train --out x a b", "headroom: accepts at most 1 arg(s), received 2"},
		{"train --out x --fast", "headroom: unknown flag: --fast"},
		{"config print " + bad, "headroom: configs: " + bad + ":1: unknown key train.lrr: the nearest known key is train.lr"},
		{"config print --attention gxa", `headroom: attention: "gxa" is not a kind`},
		{"config print --set train.lr=-1", "headroom: configs: train: lr must be positive, not -1"},
		{"config print --preset x", `headroom: configs: preset "x": must be one of quickstart, `},
		{"train --preset quickstart --out " + dir + "/r", "headroom: configs: data.train must name"},
		{"train --preset quickstart --device cuda --set data.train=x --out " + dir + "/r", "headroom: "},
		{"eval " + dir, "headroom: model: "},
		{"compare " + dir + "/none.yaml", "headroom: lab: open "},
		{"prepare --out " + dir + "/s " + dir + "/none", "headroom: data: stat "},
		{"bench train --steps 0", "headroom: bench: steps must be at least 1, not 0"},
		{"train --out x --gpus -1", "headroom: --gpus must be at least 1, not -1"},
		{"train --out x --gpus 0", "headroom: --gpus must be at least 1, not 0"},
		{"train --out x --rank 1",
			"headroom: train: --rank and --local-rank count among --world-size processes, which is not given"},
		{"train --out x --local-rank -1", "headroom: --local-rank must be at least 0, not -1"},
		{"prepare --out " + dir + "/s --shard-tokens 0 x", "headroom: --shard-tokens must be at least 1, not 0"},
		{"tokenizer train --out x --min-count 0 x", "headroom: --min-count must be at least 1, not 0"},
		{"generate x --cache-mib -1", "headroom: --cache-mib must be at least 0, not -1"},
		{"serve x --gpus -1", "headroom: --gpus must be at least 1, not -1"},
	} {
		code, out, logs := headroom(strings.Fields(c.args)...)
		if code != 2 || out != "" || !strings.HasPrefix(logs, c.want) || strings.Count(logs, "\n") != 1 {
			t.Errorf("%s: code %d, out %q, logs %q", c.args, code, out, logs)
		}
	}
}

func TestConfigPrint(t *testing.T) {
	code, _, logs := headroom("config", "print", "--preset", "183m-gla_q-2", "--set", "train.lr=0.5")
	if code != 2 || !strings.Contains(logs, "must be one of quickstart, 124m-tpa") {
		t.Errorf("code %d, %q", code, logs) // the paper has no GLA_q at this size
	}
	code, out, logs := headroom("config", "print", "--preset", "433m-gla_q-2", "--set", "train.lr=0.5")
	for _, line := range []string{"  mlp: 3280", "# preset 433m-gla_q-2\n", "  kind: gla_q", "  lr: 0.5", "# --set\n",
		"  tokens: 50000000000"} {
		if code != 0 || logs != "" || !strings.Contains(out, line) {
			t.Errorf("code %d, logs %q, no %q in\n%s", code, logs, line, out)
		}
	}
}

func TestPresetsAndVersion(t *testing.T) {
	code, out, _ := headroom("config", "presets")
	if names := strings.Fields(out); code != 0 || names[0] != "quickstart" || !slices.Contains(names, "1471m-mla") ||
		len(names) != 35 {
		t.Errorf("code %d: %d presets %v", code, len(names), names)
	}
	if code, out, _ := headroom("version"); code != 0 || !strings.HasPrefix(out, "headroom v0.1.0, revision ") {
		t.Errorf("code %d, %q", code, out)
	}
}

// TestPath goes from text to a measured checkpoint by the commands alone.
func TestPath(t *testing.T) {
	t.Chdir(t.TempDir())
	text := []byte(strings.Repeat("pack my box with five dozen liquor jugs. ", 80))
	if err := os.WriteFile("text.txt", text, 0o666); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) string {
		t.Helper()
		code, out, logs := headroom(args...)
		if code != 0 {
			t.Fatalf("%v: code %d, %s", args, code, logs)
		}
		return out
	}
	must("prepare", "--tokenizer", "bytes", "--out", "shards", "text.txt")
	tiny := []string{"train", "--attention", "gla-2", "--set", "data.train=shards", "--set", "data.val.box=shards",
		"--set", "data.tokenizer=bytes",
		"--set", "model.width=16", "--set", "model.layers=1", "--set", "model.mlp=16", "--set", "model.context=16", "--set",
		"attention.heads=2",
		"--set", "attention.head_dim=8", "--set", "train.steps=4", "--set", "train.warmup=1", "--set", "train.batch=2",
		"--out", "run", "--json"}
	type result struct {
		Sets []struct {
			Set string
			NLL float64
		}
	}
	var trained, measured result
	if err := json.Unmarshal([]byte(must(tiny...)), &trained); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(must("eval", "run", "--data", "again=shards", "--json")), &measured); err != nil {
		t.Fatal(err)
	}
	if trained.Sets[0].Set != "box" || measured.Sets[0].Set != "again" || trained.Sets[0].NLL != measured.Sets[0].NLL {
		t.Errorf("trained %+v, measured %+v", trained, measured)
	}
	if out := must("eval", "run/checkpoints/latest", "--stride", "4", "--tokens", "64"); !strings.HasPrefix(
		out, "box: perplexity ") {
		t.Errorf("eval prints %q", out)
	}
	for key, want := range map[string]string{
		"eval.context=10000000":    "eval: context must be at most the model's 16",
		"train.batch=100000000":    "headroom: train: graph: the tensors of a step need ",
		"eval.batch=1000000000":    "headroom: eval: graph: the tensors of a step need ",
		"model.vocab=100000000000": "headroom: graph: no room for the parameters",
	} {
		many := append(slices.Clone(tiny[:len(tiny)-3]), "--set", key, "--out", "many")
		code, out, logs := headroom(many...)
		if last := logs[strings.LastIndex(strings.TrimSuffix(logs, "\n"), "\n")+1:]; code != 2 || out != "" ||
			!strings.Contains(last, want) || strings.Contains(logs, "goroutine") {
			t.Errorf("%s: code %d, %q, %q", key, code, out, logs)
		}
		if err := os.RemoveAll("many"); err != nil {
			t.Fatal(err)
		}
	}
	speeds := must("eval", "run", "--tokens", "64", "--decode", "1x8,2x70")
	if lines := strings.Split(speeds, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "decode 1x8: ") ||
		!strings.Contains(lines[2], " MiB in fp32, on cpu") {
		t.Errorf("eval with decode prints %q", speeds)
	}
	if code, _, logs := headroom(tiny...); code != 2 ||
		!strings.Contains(logs, "run holds a run at step 4: go on with --resume") {
		t.Errorf("a second run in the same place: code %d, %q", code, logs)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestCacheType gives every command that decodes an 8-bit cache: each says its bytes, and each refuses what is no type.
// One head of 16 for key and value in 2 layers takes 256 bytes a token in float32, and 4·(16+1) in fp8.
func TestCacheType(t *testing.T) {
	t.Chdir(t.TempDir())
	sentences := strings.Repeat("pack my box with five dozen jugs. ", 60)
	if err := os.WriteFile("text.txt", []byte(sentences), 0o666); err != nil {
		t.Fatal(err)
	}
	model := " --set model.width=16 --set model.layers=2 --set model.mlp=16 --set model.context=32" +
		" --set attention.heads=2 --set attention.head_dim=16 --attention mqa"
	must := func(line string, more ...string) []byte {
		t.Helper()
		code, out, logs := headroom(append(strings.Fields(line), more...)...)
		if code != 0 {
			t.Fatalf("%s: code %d, %s", line, code, logs)
		}
		return []byte(out)
	}
	must("prepare --tokenizer bytes --out shards text.txt")
	must("train --set data.train=shards --set data.tokenizer=bytes --set train.steps=20 --set train.warmup=1 --out run" +
		model)

	type kept struct {
		Cache   string `json:"cache_type"`
		Bytes   int    `json:"cache_bytes_per_token"`
		Whole   int    `json:"cache_bytes"`
		Element int    `json:"element_bytes"`
	}
	var text kept
	out := must("generate run --max-tokens 3 --json --cache-type fp8 --prompt pack")
	if err := json.Unmarshal(out, &text); err != nil || text.Cache != "fp8" || text.Bytes != 68 || text.Whole != 64*68 {
		t.Errorf("generate: %+v, %v", text, err)
	}
	var bench struct{ Results []kept }
	if err := json.Unmarshal(must("bench decode --steps 1 --batch 2 --context 10 --json --cache-type fp32,fp8"+model),
		&bench); err != nil || len(bench.Results) != 2 || bench.Results[0] != (kept{"fp32", 0, 2 * 10 * 256, 4}) ||
		bench.Results[1] != (kept{"fp8", 0, 2 * 10 * 68, 4}) {
		t.Errorf("bench decode: %+v, %v", bench, err)
	}
	var measured struct {
		Sets, Decode []kept
		Cached       []struct {
			kept
			Sets []struct{ Perplexity float64 }
		}
	}
	if err := json.Unmarshal(must("eval run --data box=shards --tokens 100 --decode 1x8 --json --cache-type bf16,fp8"),
		&measured); err != nil || len(measured.Sets) != 1 || len(measured.Cached) != 2 || len(measured.Decode) != 2 ||
		measured.Cached[1].kept != (kept{"fp8", 68, 0, 0}) || measured.Cached[1].Sets[0].Perplexity <= 1 ||
		measured.Decode[1] != (kept{"fp8", 0, 8 * 68, 0}) {
		t.Errorf("eval: %+v, %v", measured, err)
	}
	lines := string(must("eval run --data box=shards --tokens 100 --cache-type fp32,fp8"))
	if strings.Count(lines, "\n") != 3 ||
		!strings.Contains(lines, "box through a cache in fp8, 68 bytes a token: perplexity ") {
		t.Errorf("eval prints %q", lines)
	}
	var status kept
	serveStatus(t, &status, "serve", "run", "--cache-type", "fp8", "--addr", "127.0.0.1:0")
	if status.Cache != "fp8" || status.Bytes != 68 {
		t.Errorf("serve: %+v", status)
	}
	const refused = `headroom: attention: cache-type must be fp32, bf16 or fp8, not "int8"`
	for line, want := range map[string]string{
		"generate run --prompt a --cache-type int8":    refused,
		"serve run --cache-type int8":                  refused,
		"bench decode --cache-type int8":               refused,
		"eval run --data box=shards --cache-type int8": refused,
		"eval run --cache-type fp8":                    "headroom: eval: --cache-type measures sets and times decoding: ",
		"bench decode --device cuda --cache-type fp32": "headroom: lab: a cache in fp32 has no kernels beside a precision " +
			"of bf16 on cuda: leave cache-type out, or take fp8 beside bf16",
	} {
		code, out, logs := headroom(strings.Fields(line)...)
		if last := logs[strings.LastIndex("\n"+strings.TrimSuffix(logs, "\n"), "\n"):]; code != 2 || out != "" ||
			!strings.HasPrefix(last, want) {
			t.Errorf("%s: code %d, %q, %q", line, code, out, logs)
		}
	}
}

// serveStatus starts a server in this process, reads its status and ends it.
func serveStatus(t *testing.T, status any, args ...string) {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	read, write := io.Pipe()
	var logs bytes.Buffer
	done := make(chan int)
	go func() {
		code := run(ctx, args, write, &logs)
		write.Close()
		done <- code
	}()
	address, err := bufio.NewReader(read).ReadString('\n')
	if err == nil {
		var answer *http.Response
		if answer, err = http.Get(strings.TrimSpace(address) + "/status"); err == nil {
			err = json.NewDecoder(answer.Body).Decode(status)
			answer.Body.Close()
		}
	}
	end()
	if code := <-done; code != 0 || err != nil {
		t.Fatalf("code %d, %v, %s", code, err, logs.String())
	}
}

package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestSpecialTokensEverywhere imports a model whose texts begin with token 257 and may end with any byte, and finds
// that in prepare, generate, serve, export and verify.
func TestSpecialTokensEverywhere(t *testing.T) {
	t.Chdir(t.TempDir())
	run := func(line string) string {
		t.Helper()
		code, out, logs := headroom(strings.Fields(line)...)
		if code != 0 {
			t.Fatalf("%s: code %d, %s", line, code, logs)
		}
		return out
	}
	put(t, strings.Repeat("pack my box with five dozen liquor jugs. ", 20), "text.txt")
	run("prepare --tokenizer bytes --out shards text.txt")
	run("train --attention gqa-2 --set data.train=shards --set data.tokenizer=bytes --set model.vocab=260 --set " +
		"model.width=16 --set model.layers=1" +
		" --set model.mlp=32 --set model.context=64 --set attention.heads=2 --set attention.head_dim=8 --set train.steps=2 " +
		"--set train.warmup=1 --out first")
	run("export first --out hf")
	rewrite := func(path string, change func(map[string]any)) {
		t.Helper()
		var whole map[string]any
		text, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(text, &whole)
		}
		if err != nil {
			t.Fatal(err)
		}
		change(whole)
		if text, err = json.Marshal(whole); err != nil {
			t.Fatal(err)
		}
		put(t, string(text), path)
	}
	every := []int{}
	for id := range 257 {
		every = append(every, id)
	}
	rewrite("hf/tokenizer.json", func(f map[string]any) {
		f["post_processor"] = nil
		f["added_tokens"] = []any{map[string]any{"id": 257, "content": "<|begin|>", "special": true},
			map[string]any{"id": 258, "content": "<|turn|>", "special": true}}
	})
	put(t, `{"bos_token": "<|begin|>", "eos_token": "<|turn|>"}`, "hf/tokenizer_config.json")
	rewrite("hf/generation_config.json", func(f map[string]any) { f["eos_token_id"], f["bos_token_id"] = every, 257 })
	var imported struct {
		Begin string
		Ends  []string
	}
	if err := json.Unmarshal([]byte(run("import hf --out back --json")), &imported); err != nil ||
		imported.Begin != "<|begin|>" || len(imported.Ends) != 258 || imported.Ends[0] != "<|turn|>" {
		t.Errorf("import says %+v (%v)", imported, err)
	}

	var made struct {
		Reason       string
		PromptTokens int `json:"prompt_tokens"`
		Tokens       []int
	}
	out := run("generate back --temperature 0 --max-tokens 9 --prompt <|turn|>ab --json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Reason != "end" || made.PromptTokens != 4 ||
		len(made.Tokens) != 1 {
		t.Errorf("generate says %s (%v)", out, err)
	}
	put(t, "ab", "two.txt")
	run("prepare --tokenizer back/tokenizer.json --out two two.txt")
	if got := shardIDs(t, "two/two_000000.bin"); !slices.Equal(got, []uint16{257, 'a', 'b', 258}) {
		t.Errorf("a document is %v", got)
	}
	run("export back --out again")
	if out := run("verify export again back"); !strings.Contains(out, "holds") ||
		!strings.Contains(out, "texts, what begins and what ends them") {
		t.Error(out)
	}
	servesSpecials(t, "back")

	const warning = "texts will not begin and end as in training"
	train := "train --attention mha --set data.train=two --set data.tokenizer=back/tokenizer.json --set model.vocab=260 " +
		"--set model.width=8 --set model.layers=1" +
		" --set model.mlp=8 --set model.context=2 --set attention.heads=1 --set attention.head_dim=8 --set train.steps=2 " +
		"--set train.warmup=1 --set train.batch=1 --out "
	if code, _, logs := headroom(strings.Fields(train + "same")...); code != 0 || strings.Contains(logs, warning) {
		t.Errorf("code %d, %s", code, logs)
	}
	put(t, `{"eos_token": "<|begin|>"}`, "back/tokenizer_config.json")
	if code, _, logs := headroom(strings.Fields(train + "other")...); code != 0 || !strings.Contains(logs, warning) {
		t.Errorf("code %d, %s", code, logs)
	}
}

// shardIDs are the tokens of a shard of 16 bits a token.
func shardIDs(t *testing.T, path string) (ids []uint16) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for raw = raw[1024:]; len(raw) > 0; raw = raw[2:] {
		ids = append(ids, binary.LittleEndian.Uint16(raw))
	}
	return ids
}

// servesSpecials starts a server, and asks it what begins and ends a text.
func servesSpecials(t *testing.T, checkpoint string) {
	t.Helper()
	server := program(t, "serve", checkpoint, "--addr", "127.0.0.1:0")
	pipe, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Signal(syscall.SIGTERM)
	url, err := bufio.NewReader(pipe).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(url)
	for _, c := range []struct{ path, body, want string }{
		{"/tokenizer_info", "",
			`"bos_token":"<|begin|>","bos_token_id":257,"eos_token":"<|turn|>","eos_token_id":258,"eos_token_ids":[258,0,1,`},
		{"/tokenize", `{"prompt":"<|turn|>a"}`, `"tokens":[257,258,97]`},
		{"/v1/completions", `{"prompt":"ab","max_tokens":9,"temperature":0}`, `"finish_reason":"stop"`},
		{"/v1/completions", `{"prompt":"ab","max_tokens":9,"temperature":0}`, `"prompt_tokens":3,"completion_tokens":1`},
		{"/v1/completions", `{"prompt":"ab","max_tokens":9,"temperature":0,"ignore_eos":true}`, `"completion_tokens":9`},
	} {
		send := func() (*http.Response, error) {
			return http.Post(url+c.path, "application/json", strings.NewReader(c.body))
		}
		if c.body == "" {
			send = func() (*http.Response, error) { return http.Get(url + c.path) }
		}
		r, err := send()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !strings.Contains(string(text), c.want) {
			t.Errorf("%s %s: %s, want %s (%v)", c.path, c.body, fmt.Sprintf("%.300s", text), c.want, err)
		}
	}
}

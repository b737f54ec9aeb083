package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/data"
	"headroom/internal/graph"
	"headroom/model"
)

// TestBlocksAreDocuments: what a set's blocks count is each document's own tokens, the token before the next one with
// it, and their likelihoods add up to that of the set, whatever the windows are.
func TestBlocksAreDocuments(t *testing.T) {
	dir := t.TempDir()
	file, out := filepath.Join(dir, "texts.jsonl"), filepath.Join(dir, "shards")
	var text bytes.Buffer
	for _, n := range []int{30, 7, 51, 12} {
		line, _ := json.Marshal(map[string]string{"text": strings.Repeat("x", n)})
		text.Write(append(line, '\n'))
	}
	if err := os.WriteFile(file, text.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Prepare(context.Background(),
		data.Options{Tokenizer: "bytes", Out: out, Inputs: []string{file}}); err != nil {
		t.Fatal(err)
	}
	set, err := data.Open(out, data.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	config, kind := tinyConfigs()
	config.Vocab = 257
	m, err := model.New(config, kind)
	if err != nil {
		t.Fatal(err)
	}
	store, err := graph.NewStore(graph.NewCPU(), m.Params())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Init(3); err != nil {
		t.Fatal(err)
	}
	for _, stride := range []int{0, 2} {
		r := measure(t, store, m, Config{Batch: 4, Stride: stride}, set)
		if len(r.Blocks) != 4 {
			t.Fatalf("stride %d: blocks %v", stride, r.Blocks)
		}
		sum := 0.0
		for i, tokens := range []int64{31, 8, 52, 12} { // each with the token before the next document
			if r.Blocks[i].Tokens != tokens {
				t.Errorf("stride %d: block %d has %d tokens, not %d", stride, i, r.Blocks[i].Tokens, tokens)
			}
			sum += r.Blocks[i].NLL
		}
		near(t, "the blocks' sum", sum, r.NLL*float64(r.Tokens), 1e-9*sum)
	}
	if r := measure(t, store, m, Config{Batch: 4, Tokens: 35}, set); len(r.Blocks) != 2 || r.Blocks[1].Tokens != 4 {
		t.Errorf("of 35 tokens: %v", r.Blocks)
	}
	if r := measure(t, store, m, Config{Batch: 4, Tokens: 20}, set); r.Blocks != nil {
		t.Errorf("one document has blocks %v", r.Blocks)
	}
}

// TestManyDocumentsShareBlocks: no more blocks than are kept, of about as many tokens, with nothing lost.
func TestManyDocumentsShareBlocks(t *testing.T) {
	b := newBlocks(&data.Meta{EndOfText: 0, Totals: data.Totals{Documents: 1000}})
	nats, n := 0.0, int64(0)
	for i := range 1000 {
		for j := range 5 + i%11 {
			target := int32(1)
			if j == 0 && i > 0 {
				target = 0
			}
			b.add(target, float64(i))
			nats, n = nats+float64(i), n+1
		}
	}
	all := b.all()
	if len(all) != mostBlocks {
		t.Errorf("%d blocks", len(all))
	}
	for _, x := range all {
		nats, n = nats-x.NLL, n-x.Tokens
		if x.Tokens < 130 || x.Tokens > 190 { // 10,000 by 64, give or take two documents
			t.Errorf("a block of %d tokens", x.Tokens)
		}
	}
	if n != 0 || math.Abs(nats) > 1e-6 {
		t.Errorf("%d tokens and %g nats are lost", n, nats)
	}
	none := newBlocks(nil)
	if none.add(0, 1); none.all() != nil {
		t.Error("shards without documents have blocks")
	}
}

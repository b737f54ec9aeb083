package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"headroom/data"
)

// documentShards prepares sets of many short documents.
func documentShards(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var text strings.Builder
	for i := range 200 {
		fmt.Fprintf(&text, "{\"text\": \"number %d\"}\n", i)
	}
	for _, name := range []string{"train", "val"} {
		file := filepath.Join(dir, name+".jsonl")
		if err := os.WriteFile(file, []byte(text.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := data.Prepare(context.Background(), data.Options{Tokenizer: "bytes", Out: filepath.Join(dir, name),
			Inputs: []string{file}}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDocumentMask: a run with data.documents: mask is measured within documents, by itself, by eval and where its
// checkpoint has been moved away from it; its hash is another, and older runs are those without.
func TestDocumentMask(t *testing.T) {
	dir := documentShards(t)
	const mask = "data.documents=mask"
	r := Run{Dir: filepath.Join(dir, "run"), Config: load(t, tiny(dir), mask)}
	result, err := r.Do(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !result.Sets[0].Masked || result.Hash == load(t, tiny(dir)).Absolute().Hash() {
		t.Errorf("got %+v", result)
	}
	checkpoint, c, err := Checkpoint(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Measure(context.Background(), checkpoint, c)
	if err != nil || again[0].NLL != result.Sets[0].NLL ||
		!strings.Contains(Measurements(again), "within their documents") {
		t.Errorf("measured again %+v, %v", again, err)
	}
	c.Data.Documents = data.NoMask
	across, _, err := Measure(context.Background(), checkpoint, c)
	if err != nil || across[0].NLL == result.Sets[0].NLL || across[0].Masked {
		t.Errorf("measured across documents %+v, %v", across, err)
	}
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(checkpoint, moved); err != nil {
		t.Fatal(err)
	}
	_, c, err = Checkpoint(moved)
	if err != nil || c.Data.Documents != data.DocumentMask {
		t.Errorf("moved: %+v, %v", c.Data, err)
	}
	if _, err := MeasureCached(context.Background(), moved, c, nil); err == nil ||
		!strings.Contains(err.Error(), "data.documents: mask") {
		t.Errorf("through a cache: %v", err)
	}
}

// TestDocumentMaskRefuses: shards that mark no documents, or mark them by another token, and words that are neither.
func TestDocumentMaskRefuses(t *testing.T) {
	dir := documentShards(t)
	raw := filepath.Join(dir, "raw.bin")
	if err := os.WriteFile(raw, []byte(strings.Repeat("a\x00b\x00", 500)), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ want, set string }{
		{"data: documents must be none or mask, not \"masks\"", "data.documents=masks"},
		{"data: documents is mask, but none of the first 992 tokens of the shards is 256", "data.train=" + raw},
	} {
		config := load(t, tiny(dir), "data.headerless=true", "data.documents=mask")
		if key, value, _ := strings.Cut(c.set, "="); key == "data.train" {
			config.Data.Train = value
		} else {
			config.Data.Documents = value
		}
		_, err := Run{Dir: filepath.Join(dir, "bad"), Config: config}.Do(context.Background())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", c.set, err)
		}
	}
	other, config := int32(5), load(t, tiny(dir), "data.documents=mask")
	if err := divided("shards", &data.Meta{Begin: &other}, config); err == nil || !strings.Contains(err.Error(),
		"documents of shards begin with token 5, and those of data.tokenizer bytes with 256") {
		t.Errorf("shards of another token: %v", err)
	}
}

// TestArmsOfOneMask: a comparison of arms that differ in what they read is refused where its file does not say that
// they may, and warned of where it does.
func TestArmsOfOneMask(t *testing.T) {
	dir := documentShards(t)
	arms := strings.Replace(comparison(dir, ""), "b: {", "b: {data: {documents: mask}, ", 1)
	if _, err := (Order{}).open(context.Background(), []byte(arms), dir); err == nil ||
		!strings.Contains(err.Error(), "arm b changes data.documents from none to mask") {
		t.Errorf("got %v", err)
	}
	arms = strings.Replace(arms, "arms:", "vary: [data.documents, attention.*, model.mlp]\narms:", 1)
	c, err := Order{}.open(context.Background(), []byte(arms), dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Concerns()
	if err != nil || !strings.Contains(strings.Join(all, "\n"), "the arms differ in data.documents") {
		t.Errorf("%q, %v", all, err)
	}
	estimates, err := c.Estimate(context.Background())
	if err != nil || estimates[0].Documents != 0 || estimates[1].Documents < 2 || estimates[1].Documents > 3 {
		t.Errorf("%+v, %v: a row of 16 has documents of about 11 bytes and their beginnings", estimates, err)
	}
}

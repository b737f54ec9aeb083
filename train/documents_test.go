package train

import (
	"context"
	"slices"
	"strings"
	"testing"

	"headroom/data"
)

// TestDocumentsResume: a run within documents that stops half way goes on bit for bit, and is another run than the one
// across documents.
func TestDocumentsResume(t *testing.T) {
	tokens := shard(t, 300)
	masked := func(dir string) Run {
		r := tiny(t, dir, tokens, tinyConfig())
		r.Documents = &data.Documents{Begin: 3}
		r.Settings = map[string]string{"data.documents": data.DocumentMask}
		return r
	}
	whole, part, plain := masked(t.TempDir()), masked(t.TempDir()), tiny(t, t.TempDir(), tokens, tinyConfig())
	train(t, whole)
	train(t, plain)
	if slices.Equal(losses(lines(t, whole.Dir)), losses(lines(t, plain.Dir))) {
		t.Error("documents have changed no loss")
	}
	ctx, stop := context.WithCancel(context.Background())
	part.Data = &hooked{Source: part.Data, before: func(n int) {
		if n == 6 {
			stop()
		}
	}}
	if sum, err := part.Train(ctx); err != nil || !sum.Interrupted {
		t.Fatalf("%+v, %v", sum, err)
	}
	again := masked(part.Dir)
	again.Resume = true
	train(t, again)
	sameRun(t, whole, again)

	other := tiny(t, part.Dir, tokens, tinyConfig())
	other.Resume, other.Settings = true, map[string]string{"data.documents": data.NoMask}
	if _, err := other.Train(context.Background()); err == nil ||
		!strings.Contains(err.Error(), `data.documents was "mask", now "none"`) {
		t.Errorf("resumed across documents: %v", err)
	}
}

package export

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"headroom/internal/safetensors"
	"headroom/model"
)

//go:embed verify_hf.py
var verifyScript []byte

// A library is what verify_hf.py reports.
type library struct {
	Version     string   `json:"library"`
	Class       Class    `json:"class"`
	Logits      float64  `json:"logits"` // largest differences, from here: of one pass
	Steps       float64  `json:"steps"`  // token by token through the cache
	Padded      *float64 `json:"padded,omitempty"`
	NoPositions *float64 `json:"padded_without_positions,omitempty"`
	BF16        float64  `json:"bf16_logits"`               // computed in bf16
	Cache       int      `json:"cache_elements"`            // of a token, in one layer
	CacheWant   int      `json:"cache_elements_of_paper"`   // what the kind's layout says
	Greedy      int      `json:"greedy_equal"`              // tokens
	GreedyAnew  int      `json:"greedy_uncached_equal"`     // without a cache
	GreedyBatch int      `json:"greedy_padded_equal"`       // beside a longer row
	Tokenizer   *bool    `json:"tokenizer_equal,omitempty"` // the ids of all texts
	Decoded     *bool    `json:"decoded_equal,omitempty"`   // and the way back
	End         *int32   `json:"end,omitempty"`             // the tokenizer's
	Begin       *int32   `json:"begin,omitempty"`
}

// hasLibrary says whether a Python can import what is needed.
func hasLibrary(ctx context.Context, python string) error {
	if err := exec.CommandContext(ctx, python, "-c", "import torch, transformers, safetensors").Run(); err != nil {
		return fmt.Errorf("export: %s has no torch, transformers and safetensors: %w", python, err)
	}
	return nil
}

// inLibrary runs an export in the transformers library by a Python that has it.
func (v *Verdict) inLibrary(ctx context.Context, python, dir string, q request, want []float32,
	t *model.Transformer) error {
	work, err := os.MkdirTemp("", "headroom-verify-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer os.RemoveAll(work)
	file, err := v.writeWork(work, q, want, t.Config.Vocab)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	cmd := exec.CommandContext(ctx, python, file, dir, work)
	var out, logs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &logs
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
		return fmt.Errorf("export: %s: %w: %s", python, err, lines[len(lines)-1])
	}
	l := &library{}
	if err := json.Unmarshal(out.Bytes(), l); err != nil {
		return fmt.Errorf("export: %s printed %.200q", python, out.String())
	}
	l.CacheWant = t.CacheLayout(0).Elements()
	v.Library, v.By, v.Logits, v.Greedy = l, l.Version, l.Logits, l.Greedy
	v.judge()
	v.judgeLibrary(l, q)
	return nil
}

// writeWork writes what verify_hf.py reads, and the script itself, to a folder.
func (v *Verdict) writeWork(work string, q request, want []float32, vocab int) (script string, err error) {
	script = filepath.Join(work, "verify_hf.py")
	return script, errors.Join(
		safetensors.Write(filepath.Join(work, "logits.safetensors"), nil,
			[]safetensors.Tensor{{Name: "logits", DType: safetensors.F32,
				Shape: []int{v.Rows, v.Length, vocab}, Values: func() ([]float32, error) { return want, nil }}}),
		writeJSON(filepath.Join(work, "request.json"), q),
		os.WriteFile(script, verifyScript, 0o666),
	)
}

func (v *Verdict) judgeLibrary(l *library, q request) {
	v.fail(l.Class != v.Class, "it loads as %s", l.Class)
	v.fail(!(l.Steps <= v.Tolerance), "token by token a logit is %.3g off", l.Steps)
	for name, p := range map[string]*float64{"padded": l.Padded, "padded without positions": l.NoPositions} {
		v.fail(p != nil && !(*p <= v.Tolerance), "%s a logit is %.3g off", name, value(p))
	}
	v.fail(v.Class != DeepSeek && l.Cache != l.CacheWant, "the cache has %d elements a token and layer, not %d",
		l.Cache, l.CacheWant)
	v.fail(l.GreedyAnew != v.GreedyOf, "without a cache %d of %d greedy tokens are others", v.GreedyOf-l.GreedyAnew,
		v.GreedyOf)
	v.fail(l.GreedyBatch != v.GreedyOf, "beside a longer row %d of %d greedy tokens are others",
		v.GreedyOf-l.GreedyBatch, v.GreedyOf)
	v.fail(l.Tokenizer != nil && !*l.Tokenizer, "the tokenizer makes other ids of a text")
	v.fail(l.End != nil && *l.End != q.Ends[0], "the tokenizer ends a text with another token than %v", q.Ends)
	v.fail(l.Begin != nil && q.Begin >= 0 && *l.Begin != q.Begin, "the tokenizer begins a text with another token than %d",
		q.Begin)
	v.fail(l.Decoded != nil && !*l.Decoded, "the tokenizer makes another text of its ids")
}

func value(p *float64) float64 {
	if p == nil {
		return 0
	}
	return *p
}

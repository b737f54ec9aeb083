package train

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
	"headroom/data"
	"headroom/internal/graph"
	"headroom/internal/safetensors"
	"headroom/model"
)

// A reference is what testdata/reference/reference.py wrote: runs of another program's model and optimizer.
type reference struct {
	Torch, Transformers   string
	Steps, Batch, Context int
	Model                 struct {
		Vocab     int     `json:"vocab_size"`
		Width     int     `json:"hidden_size"`
		MLP       int     `json:"intermediate_size"`
		Layers    int     `json:"num_hidden_layers"`
		Heads     int     `json:"num_attention_heads"`
		Groups    int     `json:"num_key_value_heads"`
		HeadDim   int     `json:"head_dim"`
		NormEps   float64 `json:"rms_norm_eps"`
		Positions int     `json:"max_position_embeddings"`
	}
	Runs map[string]struct {
		Config struct {
			Tie                     bool
			Accumulate, Warmup      int
			Schedule                string
			Decay, LR               float64
			MinLR                   float64 `json:"min_lr"`
			Beta1, Beta2, Eps, Clip float64
			WeightDecay             float64 `json:"weight_decay"`
			ZLoss                   float64
		}
		Float32 struct{ Losses, Norms, Rates []float64 }
	}
}

// batches are the tokens of a reference: [steps, 2, B, T+1].
type batches struct {
	tokens []int32
	each   int // micro-batches that a step takes of the two
	n      int
}

func (b *batches) Next(to *data.Batch) error {
	at := (b.n/b.each*2 + b.n%b.each) * to.B * (to.T + 1)
	for row := range to.B {
		x := b.tokens[at+row*(to.T+1):][:to.T+1]
		copy(to.Inputs[row*to.T:], x[:to.T])
		copy(to.Targets[row*to.T:(row+1)*to.T], x[1:])
	}
	b.n++
	return nil
}

func (b *batches) State() data.State        { return data.State{} }
func (b *batches) Restore(data.State) error { return nil }

// TestReference trains as Hugging Face's Llama was trained with torch.optim.AdamW, from the same weights on the same
// batches in float32: every loss, gradient norm and rate of 50 steps is the same but for rounding.
func TestReference(t *testing.T) {
	dir := filepath.Join("testdata", "reference")
	text, err := os.ReadFile(filepath.Join(dir, "reference.json"))
	must(t, err) // reference.py beside it writes it, on a machine with torch and transformers
	var ref reference
	must(t, json.Unmarshal(text, &ref))
	f, err := safetensors.Open(filepath.Join(dir, "reference.safetensors"))
	must(t, err)
	defer f.Close()
	raw, info, err := f.Bytes("tokens")
	must(t, err)
	tokens := make([]int32, len(raw)/4)
	for i := range tokens {
		tokens[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	if want := []int{ref.Steps, 2, ref.Batch, ref.Context + 1}; ref.Steps < 50 || len(ref.Runs) < 2 ||
		!slices.Equal(info.Shape, want) {
		t.Fatalf("%d steps and %d runs on tokens %v, not %v", ref.Steps, len(ref.Runs), info.Shape, want)
	}
	for name, run := range ref.Runs {
		t.Run(name, func(t *testing.T) {
			m, err := model.New(
				model.Config{Layers: ref.Model.Layers, Width: ref.Model.Width, MLP: ref.Model.MLP, Vocab: ref.Model.Vocab,
					Context: ref.Model.Positions, NormEps: ref.Model.NormEps, Tie: run.Config.Tie, InitStd: 0.02},
				attention.Config{Kind: attention.GQA, Heads: ref.Model.Heads, Groups: ref.Model.Groups, HeadDim: ref.Model.HeadDim,
					Bias: "none", RopeTheta: 10000})
			must(t, err)
			from := t.TempDir()
			must(t, m.Write(from, func(name string) ([]float32, error) { return foreign(f, name) }, nil))
			store, err := graph.NewStore(graph.NewCPU(), m.Params())
			must(t, err)
			defer store.Close()
			c, x := Default(), run.Config
			c.From, c.Steps, c.Batch, c.Context, c.Accumulate = from, ref.Steps, ref.Batch, ref.Context, x.Accumulate
			c.LR, c.MinLR, c.Warmup, c.Schedule, c.Decay = x.LR, x.MinLR, x.Warmup, x.Schedule, x.Decay
			c.Beta1, c.Beta2, c.Eps, c.WeightDecay, c.Clip, c.ZLoss = x.Beta1, x.Beta2, x.Eps, x.WeightDecay, x.Clip, x.ZLoss
			c, err = c.Resolve(ref.Model.Positions, 1)
			must(t, err)
			r := Run{Dir: t.TempDir(), Config: c, Model: m, Store: store, Data: &batches{tokens: tokens, each: c.Accumulate},
				Log: slog.New(slog.DiscardHandler)}
			if _, err := r.Train(context.Background()); err != nil {
				t.Fatal(err)
			}
			got, want := lines(t, r.Dir), run.Float32
			if len(got) != ref.Steps || len(want.Losses) != ref.Steps || len(want.Norms) != ref.Steps ||
				len(want.Rates) != ref.Steps {
				t.Fatalf("%d lines, the reference has %d losses", len(got), len(want.Losses))
			}
			loss, norm := 0.0, 0.0
			for i, l := range got {
				loss = max(loss, math.Abs(l.Loss-want.Losses[i]))
				norm = max(norm, math.Abs(l.GradNorm/want.Norms[i]-1))
				if math.Abs(l.LR-want.Rates[i]) > 1e-12 {
					t.Errorf("step %d: rate %v, the reference's is %v", i+1, l.LR, want.Rates[i])
				}
			}
			t.Logf("torch %s, transformers %s: losses %.2g apart at most, gradient norms %.2g of themselves", ref.Torch,
				ref.Transformers, loss, norm)
			if !(loss < 2e-5) || !(norm < 1e-4) {
				t.Errorf("losses are %.3g apart at most, 2e-5 may be; gradient norms %.3g of themselves, 1e-4 may be", loss, norm)
			}
		})
	}
}

// foreign is a parameter of ours from the tensors of Hugging Face's Llama, whose linear layers are [out, in].
func foreign(f *safetensors.File, ours string) ([]float32, error) {
	name := strings.NewReplacer("blocks.", "layers.", ".attn.Wq", ".self_attn.q_proj.weight", ".attn.Wk",
		".self_attn.k_proj.weight", ".attn.Wv", ".self_attn.v_proj.weight",
		".attn.Wo", ".self_attn.o_proj.weight", ".mlp.Wgate", ".mlp.gate_proj.weight", ".mlp.Wup", ".mlp.up_proj.weight",
		".mlp.Wdown", ".mlp.down_proj.weight",
		".norm1", ".input_layernorm.weight", ".norm2", ".post_attention_layernorm.weight").Replace("model." + ours)
	switch ours {
	case "embed":
		name = "model.embed_tokens.weight"
	case "head":
		name = "lm_head.weight"
	case "norm":
		name = "model.norm.weight"
	}
	x, info, err := f.Float32(name)
	if err != nil || !strings.Contains(name, "_proj.") {
		return x, err
	}
	if len(info.Shape) != 2 {
		return nil, fmt.Errorf("%s has shape %v", name, info.Shape)
	}
	out, in := info.Shape[0], info.Shape[1]
	turned := make([]float32, len(x))
	for o := range out {
		for i := range in {
			turned[i*out+o] = x[o*in+i]
		}
	}
	return turned, nil
}

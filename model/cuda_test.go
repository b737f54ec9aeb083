//go:build gpu

package model

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"headroom/attention"
	"headroom/internal/device"
	"headroom/internal/graph"
)

func openCUDA(t *testing.T, activation graph.DType) graph.Backend {
	t.Helper()
	backend, err := graph.NewCUDA(0, activation)
	if err != nil {
		if os.Getenv("HEADROOM_GPU_TESTS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return backend
}

// TestGoldenCUDA: in float32 the GPU agrees with PyTorch within rounding, like the CPU.
func TestGoldenCUDA(t *testing.T) {
	backend := openCUDA(t, graph.F32)
	eachGolden(t, func(t *testing.T, g golden) { checkGolden(t, g, backend, 2e-5) })
}

// middling is a model of the kind whose heads have the widths that the GPU's bf16 kernels are made for.
func middling(t testing.TB, kind string, change ...func(*attention.Config)) *Transformer {
	t.Helper()
	k, groups, err := attention.Parse(kind)
	if err != nil {
		t.Fatal(err)
	}
	a := attention.Default()
	a.Kind, a.Groups, a.Heads, a.HeadDim = k, groups, 4, 64
	for _, f := range change {
		f(&a)
	}
	c := Default()
	c.Layers, c.Width, c.MLP, c.Vocab, c.Context = 2, 128, 192, 300, 130
	m, err := New(c, a)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// trained runs steps of a fixed batch and returns losses and the gradients of the last step.
func trained(t *testing.T, m *Transformer, backend graph.Backend, steps int) (losses []float64,
	grads map[string][]float32) {
	t.Helper()
	store, err := graph.NewStore(backend, m.Params())
	if err != nil {
		t.Fatal(err)
	}
	return trainedOn(t, m, store, steps)
}

func trainedOn(t *testing.T, m *Transformer, store *graph.Store, steps int) (losses []float64,
	grads map[string][]float32) {
	t.Helper()
	const B = 2
	T := m.Config.Context
	defer store.Close()
	err := store.Init(3)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := graph.NewTrainer(store, B, T, 1, func(b *graph.Builder) *graph.Node {
		return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 1e-4)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	r := rand.New(rand.NewPCG(5, 6))
	batch := graph.Batch{"tokens": make([]int32, B*T), "targets": make([]int32, B*T)}
	for i := range B * T {
		batch["tokens"][i], batch["targets"][i] = r.Int32N(300), r.Int32N(300)
	}
	batch["targets"][7] = -1
	for i := range steps {
		s, err := tr.Step([]graph.Batch{batch}, graph.Hyper{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Decay: 0.1,
			Clip: 1, Step: i + 1})
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, s.Loss)
	}
	grads = map[string][]float32{}
	for _, p := range m.Params() {
		if grads[p.Name], err = store.Grad(p.Name); err != nil {
			t.Fatal(err)
		}
	}
	return losses, grads
}

// distance is ‖a - b‖ / ‖b‖, or ‖a‖ where b is zero, as the gradient of a weight is that only a zero gain leads to.
func distance(a, b []float32) float64 {
	var d, n float64
	for i := range b {
		d += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		n += float64(b[i]) * float64(b[i])
	}
	if n == 0 {
		n = 1
	}
	return math.Sqrt(d / n)
}

// TestTrainingCUDA holds one step's gradients and the losses of several steps on the GPU against the CPU, in float32
// and in bf16, and two runs against each other bit for bit: every kind, and every switch with some kinds.
func TestTrainingCUDA(t *testing.T) {
	for _, d := range attention.Descriptions {
		trainsAsOnCPU(t, d.Name(2), middling(t, d.Name(2)), 20)
	}
	for _, kind := range []string{"gqa-2", "mfa"} {
		for _, norm := range []string{attention.HeadNorm, attention.AllNorm} {
			m := middling(t, kind, func(a *attention.Config) { a.QKNorm = norm })
			trainsAsOnCPU(t, kind+" with qk_norm "+norm, m, 4)
		}
	}
	for name, change := range map[string]func(*attention.Config){
		"gate head":                 func(a *attention.Config) { a.Gate = attention.HeadGate },
		"gate element":              func(a *attention.Config) { a.Gate = attention.ElementGate },
		"gate element of 8 columns": func(a *attention.Config) { a.Gate, a.GateWidth = attention.ElementGate, 8 },
		"window": func(a *attention.Config) {
			a.Window, a.Pattern, a.WindowRopeTheta = 40, "window,full", 3000
		},
		"rope_scaling": func(a *attention.Config) {
			a.RopeScaling = attention.RopeScaling{Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalContext: 40}
		},
	} {
		for _, kind := range []string{"gta-2", "gla-2"} {
			trainsAsOnCPU(t, kind+" with "+name, middling(t, kind, change), 4)
		}
	}
	gemma := middling(t, "gqa-2")
	gemma.Config.Norm, gemma.Config.Activation, gemma.Config.EmbedScale = BothNorms, GELUTanh, true
	if gemma, err := New(gemma.Config, gemma.Attention); err != nil {
		t.Error(err)
	} else {
		trainsAsOnCPU(t, "gqa-2 with norms on both sides, GELU and scaled embeddings", gemma, 4)
	}
	trainsAsOnCPU(t, "gqa-2 with scale_dim", middling(t, "gqa-2", func(a *attention.Config) { a.ScaleDim = 40 }), 4)
	trainsAsOnCPU(t, "gqa-2 with tie_kv", middling(t, "gqa-2", func(a *attention.Config) { a.TieKV = true }), 4)
}

func trainsAsOnCPU(t *testing.T, what string, m *Transformer, steps int) {
	wantLosses, _ := trained(t, m, graph.NewCPU(), steps)
	_, want := trained(t, m, graph.NewCPU(), 1)
	for name, c := range map[string]struct {
		activation graph.DType
		grad, loss float64
	}{"fp32": {graph.F32, 1e-4, 1e-4}, "bf16": {graph.BF16, 5e-2, 2e-2}} {
		t.Run(what+"/"+name, func(t *testing.T) {
			backend := openCUDA(t, c.activation)
			_, grads := trained(t, m, backend, 1)
			for _, p := range m.Params() {
				if d := distance(grads[p.Name], want[p.Name]); !(d < c.grad) {
					t.Errorf("%s: gradient differs from the CPU's by %.3g", p.Name, d)
				}
			}
			losses, last := trained(t, m, backend, steps)
			for i := range losses {
				if d := math.Abs(losses[i] - wantLosses[i]); !(d < c.loss) {
					t.Fatalf("step %d: loss %v, on the CPU %v", i+1, losses[i], wantLosses[i])
				}
			}
			again, lastAgain := trained(t, m, backend, steps)
			if !slices.Equal(losses, again) {
				t.Error("two runs have different losses")
			}
			for name := range last {
				if !slices.Equal(last[name], lastAgain[name]) {
					t.Errorf("%s: two runs have different gradients", name)
				}
			}
		})
	}
}

// TestForwardCUDA: a pass that only measures, which reuses memory that training keeps, says what the CPU says of every
// token, and the same bits each time. Its kernels have so many blocks that some start when others are done.
func TestForwardCUDA(t *testing.T) {
	const B, T = 64, 128
	r := rand.New(rand.NewPCG(5, 6))
	tokens, targets := make([]int32, B*T), make([]int32, B*T)
	for i := range tokens {
		tokens[i], targets[i] = r.Int32N(300), r.Int32N(300)
	}
	forward := func(t *testing.T, m *Transformer, backend graph.Backend, times int) (all [][]float32) {
		t.Helper()
		store, err := graph.NewStore(backend, m.Params())
		if err == nil {
			err = store.Init(3)
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := graph.Compile(store, B, T, func(b *graph.Builder) []*graph.Node {
			return []*graph.Node{m.NLL(b, b.Tokens("tokens"), b.Tokens("targets"))}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range times {
			err := errors.Join(p.SetTokens("tokens", tokens), p.SetTokens("targets", targets), p.RunAll())
			nll, bad := p.Output(0, nil)
			if err = errors.Join(err, bad); err != nil {
				t.Fatal(err)
			}
			all = append(all, nll)
		}
		return all
	}
	for _, d := range attention.Descriptions {
		kind := d.Name(2)
		m := middling(t, kind)
		want := forward(t, m, graph.NewCPU(), 1)[0]
		for name, c := range map[string]struct {
			activation graph.DType
			off        float64
		}{"fp32": {graph.F32, 1e-4}, "bf16": {graph.BF16, 5e-2}} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				all := forward(t, m, openCUDA(t, c.activation), 20)
				for i, x := range all[0] {
					if d := math.Abs(float64(x) - float64(want[i])); !(d < c.off) {
						t.Fatalf("token %d: %v nats, on the CPU %v", i, x, want[i])
					}
				}
				for i, again := range all {
					if !slices.Equal(again, all[0]) {
						t.Errorf("pass %d has other bits than the first", i+1)
					}
				}
			})
		}
	}
}

// TestOneRankCUDA: a group of one rank trains with the same bits as a process alone. Its sums and copies go through
// NCCL, on a stream beside the one that is recorded, as those of several do.
func TestOneRankCUDA(t *testing.T) {
	m := middling(t, "gla-2")
	for name, activation := range map[string]graph.DType{"fp32": graph.F32, "bf16": graph.BF16} {
		backend := openCUDA(t, activation) // one, for another would choose other algorithms
		want, wantGrads := trained(t, m, backend, 5)
		for what, shard := range map[string]graph.Sharding{"optimizer": graph.ShardOptimizer, "weights": graph.ShardWeights} {
			t.Run(name+"/"+what, func(t *testing.T) {
				id, err := device.NewCommID()
				if err != nil {
					t.Fatal(err)
				}
				group, err := backend.Join(id, 0, 1)
				if err != nil {
					t.Fatal(err)
				}
				store, err := graph.NewGroupStore(backend, m.Params(), group, shard)
				if err != nil {
					t.Fatal(err)
				}
				losses, grads := trainedOn(t, m, store, 5)
				if !slices.Equal(losses, want) {
					t.Errorf("losses %v, alone %v", losses, want)
				}
				for name := range wantGrads {
					if !slices.Equal(grads[name], wantGrads[name]) {
						t.Errorf("%s: gradients differ from those of a process alone", name)
					}
				}
				if err := group.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

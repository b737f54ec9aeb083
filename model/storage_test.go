package model_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headroom/decode/decodetest"
	"headroom/internal/graph"
)

// narrow is a backend that keeps activations in bf16, as a GPU does, and computes nothing.
type narrow struct{ *graph.CPU }

func (narrow) Activation() graph.DType { return graph.BF16 }

// Compile refuses what no GPU does: to bring a gradient from bf16 to float32 by a copy.
func (narrow) Compile(in *graph.Instr) (graph.Kernel, error) {
	if _, copies := in.Attr.(graph.Copy); copies && in.In[0].Type != in.Out[0].Type {
		return nil, fmt.Errorf("a copy from %v to %v", in.In[0].Type, in.Out[0].Type)
	}
	return func() error { return nil }, nil
}

func (narrow) Capture([]graph.Kernel) (graph.Recording, error) { return recording{}, nil }

type recording struct{}

func (recording) Run() error   { return nil }
func (recording) Close() error { return nil }

// TestParameterGradientsAreMadeInFloat32: every kind, with the switches drawn at random too, has kernels that write
// the gradients of its parameters as float32 and add those of later micro-batches to them.
func TestParameterGradientsAreMadeInFloat32(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	for _, kind := range decodetest.Kinds {
		for i := range 12 {
			tiny := decodetest.Tiny(t, kind)
			if i > 0 {
				tiny = decodetest.Tiny(t, kind, decodetest.Switched(r))
			}
			m := tiny.Transformer
			store, err := graph.NewStore(narrow{graph.NewCPU()}, m.Params())
			if err != nil {
				t.Fatal(err)
			}
			tr, err := graph.NewTrainer(store, 2, 8, 1+i%2, func(b *graph.Builder) *graph.Node {
				return m.Loss(b, b.Tokens("tokens"), b.Tokens("targets"), 0)
			})
			if err != nil {
				t.Fatalf("%s: %v (%+v)", kind, err, m.Attention)
			}
			tr.Close()
			store.Close()
		}
	}
}

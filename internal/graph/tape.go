package graph

import (
	"fmt"

	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// Do runs the op by its CPU kernel on values of its own, for gorgonia's tape machine. Every result is a copy, views
// too: the tape machine reuses what it thinks nobody reads and does not know of aliases.
func (o *Op) Do(in ...gorgonia.Value) (gorgonia.Value, error) {
	switch a := o.Attr.(type) {
	case Reshape:
		return o.result(clone(in[0])), nil
	case Part:
		n := a.Shape.tensor().TotalSize()
		return o.result(clone(in[0])[a.Offset : a.Offset+n]), nil
	case Saved:
		x := append([]float32(nil), o.Forward.aux[a.Index]...)
		for i := range x {
			x[i] *= in[1].Data().(float32)
		}
		return o.result(x), nil
	}
	instr := &Instr{Attr: o.Attr}
	for _, v := range in {
		instr.In = append(instr.In, hostBuf(v.Data()))
	}
	if o.Forward != nil {
		for _, x := range o.Forward.aux {
			instr.In = append(instr.In, hostBuf(x))
		}
	}
	flat := make([]float32, o.shape().TotalSize())
	rest := flat
	for _, s := range o.Attr.outputs() {
		instr.Out = append(instr.Out, Out{Buf: hostBuf(rest[:s.TotalSize()])})
		rest = rest[s.TotalSize():]
	}
	o.aux = nil
	for _, x := range o.Attr.aux() {
		o.aux = append(o.aux, make([]float32, x.Shape.TotalSize()))
		instr.Aux = append(instr.Aux, Out{Buf: hostBuf(o.aux[len(o.aux)-1])})
	}
	cpuKernel(instr)()
	return o.result(flat), nil
}

func (o *Op) result(x []float32) gorgonia.Value {
	s := o.shape()
	if s.IsScalar() {
		return gorgonia.NewF32(x[0])
	}
	return tensor.New(tensor.WithShape(s...), tensor.WithBacking(x))
}

func clone(v gorgonia.Value) []float32 {
	x, ok := v.Data().([]float32)
	if !ok {
		panic(fmt.Sprintf("graph: a %T is no tensor", v))
	}
	return append([]float32(nil), x...)
}

// Package roofline says what GPUs can do by their data sheets, and what that leaves at an arithmetic intensity.
package roofline

import (
	"fmt"
	"strings"
)

// A GPU is as fast as its sheet says: dense bf16 operations and bytes of memory a second.
type GPU struct {
	Name      string  `json:"name"`
	FLOPs     float64 `json:"flops"`
	Bandwidth float64 `json:"bandwidth"`
	Memory    float64 `json:"memory"` // bytes
	Link      float64 `json:"link"`   // bytes a second to its neighbours, each way
}

// GPUs are the SXM parts.
var GPUs = []GPU{
	{"A100", 312e12, 2.039e12, 80e9, 300e9},
	{"H100", 989e12, 3.35e12, 80e9, 450e9},
	{"H200", 989e12, 4.8e12, 141e9, 450e9},
	{"B200", 2250e12, 8e12, 180e9, 900e9},
}

// Find returns a GPU by its name, in any case.
func Find(name string) (GPU, error) {
	var names []string
	for _, g := range GPUs {
		if strings.EqualFold(g.Name, name) {
			return g, nil
		}
		names = append(names, g.Name)
	}
	return GPU{}, fmt.Errorf("roofline: no figures for GPU %q: there are %s", name, strings.Join(names, ", "))
}

// Ridge is the intensity from which arithmetic is the limit and no longer memory.
func (g GPU) Ridge() float64 { return g.FLOPs / g.Bandwidth }

// Attainable is the most operations a second at an intensity: min(FLOPs, intensity · bandwidth).
func (g GPU) Attainable(intensity float64) float64 { return min(g.FLOPs, intensity*g.Bandwidth) }

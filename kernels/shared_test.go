//go:build !gpu

package kernels

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// instances are the lines of a CUDA source that instantiate a macro, each as its arguments.
func instances(t *testing.T, path, macro string) (all [][]string) {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+macro+`\(([^()]*)\)$`).FindAllStringSubmatch(string(source), -1) {
		all = append(all, strings.Split(m[1], ", "))
	}
	if len(all) == 0 {
		t.Errorf("%s: no line of %s", path, macro)
	}
	return all
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAttentionShared: Go launches the Hopper kernels of attention with the tiles and the shared memory that they were
// made for, which a static_assert of theirs holds against their own layout.
func TestAttentionShared(t *testing.T) {
	seen := map[string]int{}
	check := func(macro string, shape func(tiles attentionTiles, d, dv int) string) {
		path := strings.ToLower(macro) + ".cu"
		for _, a := range instances(t, path, macro) {
			d, dv := number(t, a[0]), 64
			if macro != "ATTENTION_QUERY_GRADIENT" {
				dv = number(t, a[1])
			}
			tiles, ok := hopperTiles[[2]int{d, dv}]
			if got := strings.Join(a, ", "); !ok && dv != 64 || !matched(shape(tiles, d, dv), got) {
				t.Errorf("%s: %s(%s), Go has %s", path, macro, got, shape(tiles, d, dv))
			}
			seen[macro]++
		}
	}
	check("ATTENTION_FORWARD", func(k attentionTiles, d, dv int) string {
		return fmt.Sprintf("%d, %d, %d, %d, %d, %d", d, dv, k.groups, k.keys, k.stages, k.forwardShared(d, dv))
	})
	check("ATTENTION_BACKWARD_QUERY", func(k attentionTiles, d, dv int) string {
		return fmt.Sprintf("%d, %d, 2, %d, _, %d", d, dv, k.queryStages, k.queryShared(d, dv))
	})
	check("ATTENTION_BACKWARD_KEY", func(k attentionTiles, d, dv int) string {
		return fmt.Sprintf("%d, %d, %d, %d, _, _, %d", d, dv, k.keyQueries, k.keyStages, k.keyShared(d, dv))
	})
	check("ATTENTION_QUERY_GRADIENT", func(_ attentionTiles, d, _ int) string {
		return fmt.Sprintf("%d, %d, %d", d, gradientStages, new(attentionTiles).gradientShared(d))
	})
	gradients := map[string]bool{}
	for _, k := range hopperTiles {
		if k.gradient != "" {
			gradients[k.gradient] = true
		}
	}
	want := map[string]int{"ATTENTION_FORWARD": len(hopperTiles), "ATTENTION_BACKWARD_QUERY": len(hopperTiles),
		"ATTENTION_BACKWARD_KEY": len(hopperTiles), "ATTENTION_QUERY_GRADIENT": len(gradients)}
	if !maps.Equal(seen, want) {
		t.Errorf("kernels %v, Go has %v", seen, want)
	}
}

// matched holds arguments against a pattern, in which _ stands for anything.
func matched(pattern, args string) bool {
	a, b := strings.Split(pattern, ", "), strings.Split(args, ", ")
	return slices.EqualFunc(a, b, func(p, x string) bool { return p == "_" || p == x })
}

// TestStepAttendShared: the same of the kernels that attend within a decode step, by their names.
func TestStepAttendShared(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range instances(t, "step_attend.cu", "ATTEND") {
		kind := strings.TrimPrefix(a[0], "step_attend_")
		cache, widths, _ := strings.Cut(kind, "_")
		dims := strings.Split(widths, "_")
		W := number(t, dims[0])
		E, width := W, 2*W // of KV
		switch cache {
		case Tied:
			width = W + 32
		case Latent:
			E = W + number(t, dims[1])
			width = E
		}
		want := fmt.Sprintf("%s, %d, %d, %d, %v, %d, %d", a[0], E/16, W/16, stepAttends[kind], cache == KV, width,
			stepAttendShared(E, W, width, stepAttends[kind]))
		if got := strings.Join(a, ", "); got != want {
			t.Errorf("ATTEND(%s), Go has %s", got, want)
		}
		seen[kind] = true
	}
	if len(seen) != len(stepAttends) {
		t.Errorf("kernels %v, Go has %v", seen, stepAttends)
	}
}

// asserted are the sizes that static_asserts of a CUDA source name, by what they are of: "splitBytes<128, false>(8,
// true)".
func asserted(t *testing.T, path string) map[string]int {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for _, line := range regexp.MustCompile(`(?m)^static_assert\((.*)\);`).FindAllStringSubmatch(string(source), -1) {
		for _, m := range regexp.MustCompile(`(\w+(?:<[^<>]*>)?(?:::bytes)?\([^()]*\)) == (\d+)`).FindAllStringSubmatch(
			line[1], -1) {
			all[m[1]] = number(t, m[2])
		}
	}
	return all
}

// TestLayouts: shared memory that kernels divide by numbers of the launch is what Go gives them. Their files name sizes
// by static_asserts on the layout that they use; here are Go's.
func TestLayouts(t *testing.T) {
	const most = 232448 // of an H100's block
	wants := map[string]map[string]int{
		"attention_portable.cu": {
			"forwardBytes(64)": portableShared(64), "forwardBytes(256)": portableShared(256),
			"gradientBytes(64, 64)": portableGradientShared(64, 64), "gradientBytes(256, 128)": portableGradientShared(256, 128),
			"statisticsBytes()": portableStats,
		},
		"attention_fp32.cu": {
			"forwardBytes(64, 64)": plainShared(64, 64), "forwardBytes(256, 128)": plainShared(256, 128),
			"gradientBytes(64, 64)": plainGradientShared(64, 64), "gradientBytes(256, 128)": plainGradientShared(256, 128),
		},
		"decode_latent_split.cu": {}, "decode_latent_wide.cu": {}, "decode_latent_seesaw.cu": {}, "decode_mma.cu": {},
	}
	for _, L := range decodeDims[Latent] {
		for _, rows := range []int{16, 128} {
			for _, page := range []int{1, 64} {
				k := DecodeShape{Cache: Latent, B: 1, T: 1, H: rows, G: 1, P: L, R: 64, Dv: L, Page: page}.latentTiling(most)
				if L > 256 && rows > 64 {
					wants["decode_latent_seesaw.cu"][fmt.Sprintf("seesawBytes<%d>()", L)] = k.shared
				} else if L > 256 {
					wants["decode_latent_wide.cu"][fmt.Sprintf("wideBytes<%d>(%d)", L, k.stages)] = k.shared
				} else {
					pair := rows > 64
					wants["decode_latent_split.cu"][fmt.Sprintf("splitBytes<%d, %v>(%d, %v)", L, pair, k.stages, !pair && page == 1)] =
						k.shared
				}
			}
		}
	}
	for _, a := range instances(t, "decode_mma.cu", "DECODE") {
		cache, dv, step := strings.ToLower(a[2]), number(t, a[1]), number(t, a[3])
		d := DecodeShape{Cache: cache, B: 1, T: 1, H: 32 * step, G: 4, P: dv, Dv: dv, Page: 64}
		if cache != KV {
			d.R = 48
		}
		k, err := d.smallTiling(most)
		warps := (k.threads - copyThreads) / 32
		tokens := d.smallTokens(warps, k.rows, k.heads, step)
		if name := fmt.Sprintf("decode_%s_%d_n%d", cache, dv, step); err != nil || k.kernel != name ||
			number(t, a[4])*16*warps != tokens*k.rows*k.heads {
			t.Errorf("DECODE(%s): Go has %+v, %d tokens, %v", strings.Join(a, ", "), k, tokens, err)
		}
		call := fmt.Sprintf("Memory<%d, %s, %d>::bytes(%d, %d, %d, %d, %d, %d)",
			dv, a[2], step, warps, k.rows, k.heads, tokens, d.R, k.stages)
		wants["decode_mma.cu"][call] = k.shared
	}
	for path, want := range wants {
		if got := asserted(t, path); !maps.Equal(got, want) {
			for _, of := range slices.Sorted(maps.Keys(want)) {
				if got[of] != want[of] {
					t.Errorf("%s: static_assert(%s == %d); is missing, the file has %d", path, of, want[of], got[of])
				}
				delete(got, of)
			}
			if len(got) > 0 {
				t.Errorf("%s: Go does not know %v", path, got)
			}
		}
	}
}

// TestConstants: numbers that both sides write are the same.
func TestConstants(t *testing.T) {
	for _, c := range []struct{ name, path, theirs string }{
		{"stageLimit", "decode_mma.cuh", `\bkMaxStages = (\d+)`},
		{"copyChunk", "decode_mma.cuh", `\bkChunk = (\d+)`},
		{"walkBytes", "decode_mma.cuh", `\bWALK = (\d+)`},
		{"tileAlign", "decode_latent_split.cu", `return (\d+) \+ kFixedBytes`},
		{"splitBytes", "decode_latent_split.cu", `\bkFixedBytes = (\d+)`},
		{"splitBytes", "decode_latent_seesaw.cu", `\bkSeesawFixed = (\d+)`},
		{"sampleBlocks", "step_sample.cu", `\bsample_blocks = (\d+)`},
		{"sampleThreads", "step_sample.cu", `\bsample_threads = (\d+)`},
		{"sampleStatic", "step_sample.cu", `static_assert\(sizeof\(Sampler\) <= (\d+)\)`},
		{"stepWarps", "step_product.cu", `\bstep_warps = (\d+)`},
		{"stepUnit", "step_product.cu", `\bstep_unit = (\d+)`},
		{"stepRing", "step_product.cu", `\bstep_ring = NT == 1 \? (\d+)`},
		{"stepRingWide", "step_product.cu", `\bstep_ring = NT == 1 \? \d+ : (\d+)`},
		{"stepAttendWarps", "step_attend.cu", `\bATTEND_WARPS = (\d+)`},
		{"normAhead", "rmsnorm.cu", `\bahead = (\d+)`},
		{"embedChunk", "embed.cu", `\bchunk = (\d+)`},
		{"classifierBlocks", "classifier_wide.cu", `\bblocks = (\d+)`},
	} {
		source, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(c.theirs).FindSubmatch(source)
		ours := constant(t, c.name)
		if m == nil || number(t, string(m[1])) != ours {
			t.Errorf("%s: %s gives %q, %s is %d in Go", c.path, c.theirs, m, c.name, ours)
		}
	}
}

// constant is a number among the package's constants, whatever its build tags.
func constant(t *testing.T, name string) int {
	t.Helper()
	paths, _ := filepath.Glob("*.go")
	for _, path := range paths {
		source, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range source.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok || general.Tok != token.CONST {
				continue
			}
			for _, spec := range general.Specs {
				for i, id := range spec.(*ast.ValueSpec).Names {
					if id.Name == name {
						return evaluated(t, spec.(*ast.ValueSpec).Values[i])
					}
				}
			}
		}
	}
	t.Fatalf("no constant %s", name)
	return 0
}

func evaluated(t *testing.T, e ast.Expr) int {
	t.Helper()
	value, err := types.Eval(token.NewFileSet(), nil, token.NoPos, types.ExprString(e))
	if err != nil {
		t.Fatal(err)
	}
	return number(t, value.Value.String())
}

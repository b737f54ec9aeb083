package ref

import (
	"bytes"
	"flag"
	"go/scanner"
	"go/token"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write passes_avx2.go anew")

// TestPasses: the passes of eight words at a time are those of sixteen, with half of each number that says how many.
func TestPasses(t *testing.T) {
	source, err := os.ReadFile("passes_avx512.go")
	if err != nil {
		t.Fatal(err)
	}
	want := halved(t, source)
	if *update {
		if err := os.WriteFile("passes_avx2.go", want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile("passes_avx2.go"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("passes_avx2.go is not what passes_avx512.go makes of it: GOEXPERIMENT=nosimd go test ./kernels/ref -run "+
			"TestPasses -update (%v)", err)
	}
}

// halved takes numbers and the ends of names by half, and the comments away.
func halved(t *testing.T, source []byte) []byte {
	halves := strings.NewReplacer("Float32x16", "Float32x8", "Float64x8", "Float64x4")
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(source))
	s.Init(file, source, func(at token.Position, message string) { t.Fatalf("%v: %s", at, message) }, 0)
	out := []byte("//go:build goexperiment.simd && amd64\n\n// Code generated from passes_avx512.go by TestPasses; DO " +
		"NOT EDIT.\n\npackage ref\n\n")
	end := bytes.Index(source, []byte("import "))
	for {
		pos, kind, text := s.Scan()
		if kind == token.EOF {
			return append(out, source[end:]...)
		}
		at := file.Offset(pos)
		half := text
		switch {
		case kind == token.INT:
			half = map[string]string{"32": "16", "16": "8", "8": "4"}[text]
			if half == "" {
				half = text
			}
		case kind == token.IDENT:
			if half = halves.Replace(text); half == text && strings.HasSuffix(text, "16") {
				half = strings.TrimSuffix(text, "16") + "8"
			}
		}
		if half != text && at >= end {
			out = append(append(out, source[end:at]...), half...)
			end = at + len(text)
		}
	}
}

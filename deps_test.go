package headroom

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// lattice is who may import whom: "a < b" lets b, and whatever stands above b, import a, and nothing else is allowed.
const lattice = `
	kernels/ref, internal/device < kernels < internal/graph < attention < model < decode <
		eval < train < serve, watch < configs < internal/lab < cmd/headroom;
	data < eval, train;
	internal/disk < data, internal/safetensors;
	internal/build < train;
	internal/roofline < model;
	internal/ranks < internal/lab;
	internal/safetensors < model, train, export;
	data, decode < export < cmd/headroom;
	decode < decode/host < decode/cuda < internal/lab;
	decode/host < serve, export;
	decode < decode/decodetest;
	internal/graph < internal/graph/graphtest;
	serve/load < cmd/headroom;
	data < data/blob < cmd/headroom;
`

// forTests may be imported by the tests of every package, and by nothing else.
var forTests = []string{"internal/corpus", "decode/decodetest", "internal/graph/graphtest"}

// fences name the only packages that may import what matches, in any file of theirs.
var fences = []struct {
	what  string
	match func(path string) bool
	only  []string
}{
	{"gorgonia and its tensors", under("gorgonia.org/gorgonia", "gorgonia.org/tensor"), []string{"internal/graph"}},
	{"gorgonia.org/cu", under("gorgonia.org/cu"), []string{"internal/device"}},
	{"cgo", under("C"), []string{"internal/device", "kernels/ref"}},
	{"clouds", under("github.com/minio"), []string{"data/blob"}},
}

func under(roots ...string) func(string) bool {
	return func(path string) bool {
		return slices.ContainsFunc(roots, func(root string) bool { return path == root || strings.HasPrefix(path, root+"/") })
	}
}

// below gives every package of the lattice what it may import.
func below(text string) map[string]map[string]bool {
	may := map[string]map[string]bool{}
	for rule := range strings.SplitSeq(text, ";") {
		var under []string
		for group := range strings.SplitSeq(rule, "<") {
			var here []string
			for name := range strings.SplitSeq(group, ",") {
				if name = strings.TrimSpace(name); name != "" {
					here = append(here, name)
				}
			}
			for _, name := range here {
				if may[name] == nil {
					may[name] = map[string]bool{}
				}
				for _, low := range under {
					may[name][low] = true
				}
			}
			under = append(under, here...)
		}
	}
	for range may { // what the packages below may import, as many times as the chain is long
		for _, lows := range may {
			for low := range maps.Clone(lows) {
				maps.Copy(lows, may[low])
			}
		}
	}
	return may
}

// A source is one Go file of the module, whatever its build tags.
type source struct {
	folder, path string
	test         bool
	file         *ast.File
}

func sources(t *testing.T) (all []source) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") ||
			d.Name() == "testdata") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		all = append(all, source{filepath.ToSlash(filepath.Dir(name)), name, strings.HasSuffix(name, "_test.go"), file})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImports(t *testing.T) {
	may := below(lattice)
	for _, s := range sources(t) {
		known := may[s.folder] != nil || slices.Contains(forTests, s.folder) || s.folder == "."
		if !known {
			t.Errorf("%s: package %s has no place in the lattice", s.path, s.folder)
			continue
		}
		for _, spec := range s.file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			for _, f := range fences {
				if f.match(imported) && !slices.Contains(f.only, s.folder) {
					t.Errorf("%s imports %s: %s only through %s", s.path, imported, f.what, strings.Join(f.only, ", "))
				}
			}
			ours, ok := strings.CutPrefix(imported, "headroom/")
			// an engine is tested on a device, which stands above it in a folder of its own
			inside := ours == s.folder || strings.HasPrefix(ours, s.folder+"/")
			if !ok || may[s.folder][ours] || s.test && (inside || slices.Contains(forTests, ours)) {
				continue
			}
			t.Errorf("%s imports %s, which does not stand below %s", s.path, ours, s.folder)
		}
	}
}

func TestLattice(t *testing.T) {
	may := below("a, b < c < d; e < d; f < e")
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"c", "a", true}, {"d", "b", true}, {"d", "f", true},
		{"a", "b", false}, {"a", "c", false}, {"c", "e", false}, {"e", "a", false},
	} {
		if may[c.from][c.to] != c.ok {
			t.Errorf("%s may import %s: %v", c.from, c.to, !c.ok)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		if s.test || s.folder == "." {
			continue
		}
		if comments[s.folder] == nil {
			comments[s.folder] = []string{}
		}
		if s.file.Doc != nil {
			comments[s.folder] = append(comments[s.folder], s.path)
		}
	}
	for folder, files := range comments {
		if len(files) != 1 {
			t.Errorf("%s has %d package comments, not one: %v", folder, len(files), files)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	all := sources(t)
	known := interfaceMethods(all)
	for _, s := range all {
		if s.test {
			continue
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				receiver := receiver(d)
				if d.Doc == nil && d.Name.IsExported() && (receiver == "" || ast.IsExported(receiver) && !known[d.Name.Name]) {
					t.Errorf("%s: func %s has no doc comment", s.path, strings.TrimPrefix(receiver+"."+d.Name.Name, "."))
				}
			case *ast.GenDecl:
				for _, name := range undocumented(d) {
					t.Errorf("%s: %s %s has no doc comment", s.path, d.Tok, name)
				}
			}
		}
	}
}

// interfaceMethods are the names whose contract stands at an interface: one of ours, of the standard library or of
// gorgonia (its Op).
func interfaceMethods(all []source) map[string]bool {
	known := map[string]bool{}
	for name := range strings.FieldsSeq(
		"String Error Unwrap Close Read Write Arity InferShape ReturnsPtr CallsExtern OverwritesInput Hashcode") {
		known[name] = true
	}
	for _, s := range all {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok {
				for _, method := range i.Methods.List {
					for _, name := range method.Names {
						known[name.Name] = true
					}
				}
			}
			return true
		})
	}
	return known
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	return typ.(*ast.Ident).Name
}

// undocumented lists the exported names of a declaration that neither it nor their own line explains.
func undocumented(d *ast.GenDecl) (names []string) {
	if d.Doc != nil {
		return nil
	}
	typed := false // constants of a type that stands on their first line are explained by the type
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil {
				names = append(names, s.Name.Name)
			}
		case *ast.ValueSpec:
			typed = typed || s.Type != nil
			for _, name := range s.Names {
				if name.IsExported() && s.Doc == nil && s.Comment == nil && !typed {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}

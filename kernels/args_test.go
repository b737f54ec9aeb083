//go:build !gpu

package kernels

// The tests here and in shared_test.go read the sources of both sides, which a machine that runs the tests of a GPU
// build need not have.

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A field of a struct that Go writes and CUDA reads: where it lies, and what it is ("ptr", "int", "float" with their
// bits).
type field struct {
	name string
	at   int
	what string
}

// A layout is such a struct, field by field.
type layout struct {
	fields []field
	size   int
}

// A raw field is one as it is declared: so many of a basic kind or of a struct of this side.
type raw struct {
	name, typ string
	count     int
}

// basics are the kinds that fields have, by what each side calls them.
var basics = map[string]string{
	"device.Ptr": "ptr64", "int32": "int32", "int64": "int64", "uint64": "int64", "float32": "float32",
	"float64": "float64",
	"int":     "int32", "unsigned": "int32", "float": "float32", "double": "float64", "long": "int64", "int64_t": "int64",
	"uint64_t": "int64",
}

// folded is how names of both sides are compared: kCache, key_out and N are kcache, keyout and n.
func folded(name string) string {
	if name == "unused" { // as CUDA calls what Go calls _
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

// lay places fields one after the other, each at a multiple of its own size, as both compilers do.
func lay(fields []raw, structs map[string][]raw) (l layout, align int, err error) {
	align = 1
	for _, f := range fields {
		inner, most := layout{fields: []field{{}}}, 1
		if nested, ok := structs[f.typ]; ok {
			if inner, most, err = lay(nested, structs); err != nil {
				return l, 0, err
			}
		} else if what, ok := basics[f.typ]; ok {
			inner.fields[0].what = what
			inner.size, _ = strconv.Atoi(what[len(what)-2:])
			inner.size /= 8
			most = inner.size
		} else {
			return l, 0, fmt.Errorf("field %s: type %q is not known here", f.name, f.typ)
		}
		align = max(align, most)
		l.size = (l.size + most - 1) / most * most
		for i := range f.count {
			for _, g := range inner.fields {
				name := f.name
				if f.count > 1 {
					name = fmt.Sprintf("%s[%d]", f.name, i)
				}
				l.fields = append(l.fields, field{strings.TrimSuffix(folded(name)+"."+g.name, "."), l.size + g.at, g.what})
			}
			l.size += inner.size
		}
	}
	l.size = (l.size + align - 1) / align * align
	return l, align, nil
}

// goStructs reads all structs of the package's sources, whatever their build tags.
func goStructs(t *testing.T) (structs map[string][]raw, files map[string]string) {
	structs, files = map[string][]raw{}, map[string]string{}
	paths, _ := filepath.Glob("*.go")
	for _, path := range paths {
		source, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(source, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			typ, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			fields := []raw{}
			for _, f := range typ.Fields.List {
				count, of := 1, f.Type
				if array, ok := of.(*ast.ArrayType); ok && array.Len != nil {
					count, _ = strconv.Atoi(array.Len.(*ast.BasicLit).Value)
					of = array.Elt
				}
				name := ""
				switch of := of.(type) {
				case *ast.Ident:
					name = of.Name
				case *ast.SelectorExpr:
					name = of.X.(*ast.Ident).Name + "." + of.Sel.Name
				}
				for _, id := range f.Names {
					fields = append(fields, raw{id.Name, name, count})
				}
			}
			structs[spec.Name.Name], files[spec.Name.Name] = fields, path
			return true
		})
	}
	return structs, files
}

var (
	cudaComment = regexp.MustCompile(`//[^\n]*`)
	cudaStruct  = regexp.MustCompile(
		`(?m)^(?:template <typename E> )?struct (\w+) \{\n((?:\t[^\n(){}]*;[ \t]*\n|\s*\n)+)\};`)
	cudaArray = regexp.MustCompile(`^(\w+)\[(\d+)\]$`)
)

// cudaStructs reads the structs of fields alone of all CUDA sources, whose text it returns too, without comments.
func cudaStructs(t *testing.T) (structs map[string][]raw, files, texts map[string]string) {
	structs, files, texts = map[string][]raw{}, map[string]string{}, map[string]string{}
	paths, _ := filepath.Glob("*.cu*")
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = cudaComment.ReplaceAllString(string(source), "")
		for _, m := range cudaStruct.FindAllStringSubmatch(texts[path], -1) {
			if structs[m[1]] != nil {
				t.Errorf("%s and %s both have a struct %s", files[m[1]], path, m[1])
			}
			structs[m[1]], files[m[1]] = cudaFields(m[2]), path
		}
	}
	return structs, files, texts
}

func cudaFields(body string) (fields []raw) {
	for statement := range strings.SplitSeq(body, ";") {
		statement = strings.TrimPrefix(strings.TrimSpace(statement), "const ")
		if statement == "" {
			continue
		}
		typ, names, _ := strings.Cut(strings.Replace(statement, "unsigned long long", "uint64_t", 1), " ")
		for name := range strings.SplitSeq(names, ",") {
			f := raw{strings.TrimSpace(name), typ, 1}
			if name, ok := strings.CutPrefix(f.name, "*"); ok {
				f.name, f.typ = name, "device.Ptr"
			}
			if m := cudaArray.FindStringSubmatch(f.name); m != nil {
				f.name = m[1]
				f.count, _ = strconv.Atoi(m[2])
			}
			fields = append(fields, f)
		}
	}
	return fields
}

// shared says that a struct is one that Go writes and CUDA reads: its name ends in Args, or it lies in one of those or
// in device memory.
func shared(name string) bool {
	return strings.HasSuffix(name, "Args") || slices.Contains([]string{"placepart", "stepsampling", "hyper"}, folded(name))
}

// TestArguments holds each struct that Go hands to CUDA against its twin of the same name there: names, kinds and
// places of the fields. A static_assert beside the CUDA struct names the size, so that nvcc says it too.
func TestArguments(t *testing.T) {
	ours, ourFiles := goStructs(t)
	theirs, theirFiles, texts := cudaStructs(t)
	twins := map[string]string{}
	for name := range theirs {
		if shared(name) {
			twins[folded(name)] = name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		twin := twins[folded(name)]
		switch {
		case !shared(name):
			continue
		case twin == "":
			t.Errorf("%s: %s has no struct of that name in CUDA", ourFiles[name], name)
			continue
		}
		delete(twins, folded(name))
		a, _, err := lay(ours[name], ours)
		if err != nil {
			t.Errorf("%s: %s: %v", ourFiles[name], name, err)
			continue
		}
		b, _, err := lay(theirs[twin], theirs)
		if err != nil {
			t.Errorf("%s: %s: %v", theirFiles[twin], twin, err)
			continue
		}
		for i := range max(len(a.fields), len(b.fields)) {
			if i >= len(a.fields) || i >= len(b.fields) || a.fields[i] != b.fields[i] {
				t.Errorf("%s of %s and %s of %s differ at field %d: %v, %v", name, ourFiles[name], twin, theirFiles[twin], i,
					a.fields[min(i, len(a.fields)):], b.fields[min(i, len(b.fields)):])
				break
			}
		}
		if a.size != b.size {
			t.Errorf("%s of %s has %d bytes, %s of %s %d", name, ourFiles[name], a.size, twin, theirFiles[twin], b.size)
		}
		asserted := regexp.MustCompile(fmt.Sprintf(`static_assert\(sizeof\(%s(<bf16>)?\) == %d\);`, twin, a.size))
		if !asserted.MatchString(texts[theirFiles[twin]]) {
			t.Errorf("%s: static_assert(sizeof(%s) == %d); is missing", theirFiles[twin], twin, a.size)
		}
	}
	for _, twin := range twins {
		t.Errorf("%s: %s has no struct of that name in Go", theirFiles[twin], twin)
	}
}

// TestArgumentNames: every kernel takes one struct, whose name says that TestArguments holds it.
func TestArgumentNames(t *testing.T) {
	_, _, texts := cudaStructs(t)
	kernel := regexp.MustCompile(`__global__[^;{]*?\b\w+(?:##\w+)*\(([^;{]*)\) \{`)
	argument := regexp.MustCompile(`^const __grid_constant__ \w*Args(<\w+>)? \w$`)
	found := 0
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		text := regexp.MustCompile(`\bATTENTION\(([\w#]+)\)`).ReplaceAllString(texts[path], "$1") // it makes two names of one
		all := kernel.FindAllStringSubmatch(
			regexp.MustCompile(`__launch_bounds__\([^()]*\)|__cluster_dims__\([^()]*\)`).ReplaceAllString(text, ""), -1)
		for _, m := range all {
			if !argument.MatchString(m[1]) {
				t.Errorf("%s: a kernel takes (%s), not one const __grid_constant__ struct of a name in Args", path, m[1])
			}
		}
		found += len(all)
		if n := strings.Count(text, "__global__"); n != len(all) {
			t.Errorf("%s: %d kernels, %d of them read here", path, n, len(all))
		}
	}
	if found < 40 {
		t.Errorf("%d kernels in all", found)
	}
}

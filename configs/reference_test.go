package configs

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"headroom/attention"
)

var writeReference = flag.Bool("write", false, "write docs/config.md instead of comparing it")

const reference = "../docs/config.md"

// TestReference holds docs/config.md, the reference of all keys, against the schema, its defaults and the comments of
// its fields. With -write it writes the page.
func TestReference(t *testing.T) {
	want := referencePage(t)
	if *writeReference {
		if err := os.WriteFile(reference, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: write it by `go test ./configs -run TestReference -write`%s", reference,
			firstDifference(string(got), want))
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("\nline %d is  %s\nshould be %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("\nit has %d lines and should have %d", len(g), len(w))
}

const referenceHead = `# Configuration

This page is made from the program's own schema by ` + "`go test ./configs -run TestReference -write`" + `; do not edit it.

A run is one YAML file of the five parts below. Every key has a default but data.train. Values override each other in
this order: flags (` + "`--set train.lr=3e-4`" + `), the environment (` + "`HEADROOM_TRAIN_LR`" + `, so for every key), the file, the
preset that the file names by ` + "`preset:`" + `, the defaults. ` + "`headroom config print FILE`" + ` prints every value and where it came
from. Whole numbers may be written as 25e9. An unknown key is an error that names the nearest one.
`

const comparisonHead = `
## A comparison

The file of ` + "`headroom compare`" + ` has keys of its own. [compare.md](compare.md) says what its table means.

| key | takes | what it is |
| --- | --- | --- |
`

// referencePage is the reference as it must be.
func referencePage(t *testing.T) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	run, section := reflect.ValueOf(Default()), ""
	for _, f := range schema {
		part, _, _ := strings.Cut(f.key, ".")
		last := len(f.index) - 1
		at := run.Type().FieldByIndex(f.index[:last]).Type
		fields := fieldComments(t, filepath.Join("..", filepath.FromSlash(strings.TrimPrefix(at.PkgPath(), "headroom/"))),
			at.Name())
		if part != section {
			section = part
			fmt.Fprintf(&b, "\n## %s\n\n| key | takes | default | what it is |\n| --- | --- | --- | --- |\n", part)
		}
		comment := fields[at.Field(f.index[last]).Name].comment
		if comment == "" {
			t.Errorf("%s has no comment at %s.%s", f.key, at, at.Field(f.index[last]).Name)
		}
		value, err := inline(run.FieldByIndex(f.index))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", f.key, strings.TrimSuffix(describe(f.typ), " in 64 bits"),
			value, comment)
		if f.key == lastOf("attention") {
			kindDefaults(&b)
		}
	}
	b.WriteString(comparisonHead)
	for _, f := range inOrder(fieldComments(t, "../internal/lab", "spec")) {
		if f.comment == "" {
			t.Errorf("%s of a comparison has no comment", f.key)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.key, f.takes, f.comment)
	}
	return b.String()
}

func lastOf(section string) (key string) {
	for _, f := range schema {
		if strings.HasPrefix(f.key, section+".") {
			key = f.key
		}
	}
	return key
}

// kindDefaults says which dimensions a kind sets itself, by which rule.
func kindDefaults(b *strings.Builder) {
	b.WriteString(
		"\nA key that is 0 gets its value from the kind; a number of groups that stands here holds in any case:\n\n")
	b.WriteString("| kind | " + strings.Join(kindKeys, " | ") + " |\n|" + strings.Repeat(" --- |", 1+len(kindKeys)) + "\n")
	for _, d := range attention.Descriptions {
		c := attention.Default()
		c.Kind, c.Groups, c.Heads, c.HeadDim = d.Kind, 3, 8, 64 // 3 groups are no kind's own
		small := c.Laws()
		c.HeadDim = 128
		large := c.Laws()
		fmt.Fprintf(b, "| %s |", d.Kind)
		for _, key := range kindKeys {
			law := small[key]
			if large[key] != law {
				law += ", " + large[key]
			}
			fmt.Fprintf(b, " %s |", law)
		}
		b.WriteString("\n")
	}
}

var kindKeys = []string{"groups", "rope_dim", "latents", "latent_dim", "query_latent_dim"}

// A fieldComment is what the source says of a field.
type fieldComment struct {
	key, takes, comment string
	at                  token.Pos
}

func inOrder(fields map[string]fieldComment) (all []fieldComment) {
	for _, f := range fields {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b fieldComment) int { return int(a.at - b.at) })
	return all
}

// fieldComments reads the comments of a struct's fields, above them or behind them, by field.
func fieldComments(t *testing.T, dir, typ string) map[string]fieldComment {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	all, set := map[string]fieldComment{}, token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != typ {
				return true
			}
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				comment := f.Doc.Text()
				if comment == "" {
					comment = f.Comment.Text()
				}
				key := ""
				if f.Tag != nil {
					key = reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml")
				}
				for _, id := range f.Names {
					all[id.Name] = fieldComment{key, takes(f.Type), strings.Join(strings.Fields(comment), " "), f.Pos()}
				}
			}
			return false
		})
	}
	if len(all) == 0 {
		t.Fatalf("%s has no struct %s", dir, typ)
	}
	return all
}

// takes says what a field of a comparison takes, by its type in the source.
func takes(typ ast.Expr) string {
	switch typ := typ.(type) {
	case *ast.Ident:
		return map[string]string{"string": "a string", "int": "a whole number"}[typ.Name]
	case *ast.ArrayType:
		return "a list"
	}
	return "keys"
}

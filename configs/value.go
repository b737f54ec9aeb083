package configs

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"headroom/attention"
)

// convert reads a YAML value as a field's type, strictly: a string is no number, a number no string, and nothing is
// rounded or cut off.
func convert(n *yaml.Node, typ reflect.Type) (any, error) {
	n = follow(n)
	if typ == patternType {
		return convertPattern(n)
	}
	switch typ.Kind() {
	case reflect.Map:
		return convertMap(n, typ)
	case reflect.Slice:
		return convertSlice(n, typ)
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return nil, fmt.Errorf("must be %s, not %s", describe(typ), show(n))
	}
	v := reflect.New(typ).Elem()
	ok := false
	switch typ.Kind() {
	case reflect.Bool:
		var b bool
		ok = n.ShortTag() == "!!bool" && n.Decode(&b) == nil
		v.SetBool(b)
	case reflect.String:
		ok = n.ShortTag() == "!!str"
		v.SetString(n.Value)
	case reflect.Float32, reflect.Float64:
		f, isNumber := number(n)
		ok = isNumber && !math.IsNaN(f) && !math.IsInf(f, 0)
		v.SetFloat(f)
	case reflect.Int, reflect.Int32, reflect.Int64:
		var i int64
		if i, ok = whole[int64](n); ok {
			ok = !v.OverflowInt(i)
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		var u uint64
		if u, ok = whole[uint64](n); ok {
			ok = !v.OverflowUint(u)
			v.SetUint(u)
		}
	default:
		panic("configs: no rule for a field of type " + typ.String())
	}
	if !ok {
		return nil, fmt.Errorf("must be %s, not %s", describe(typ), show(n))
	}
	return v.Interface(), nil
}

func convertMap(n *yaml.Node, typ reflect.Type) (any, error) {
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("must be names with values, not %s", show(n))
	}
	m := reflect.MakeMap(typ)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if n.Content[i].Kind != yaml.ScalarNode || name == "" {
			return nil, errors.New("must have names that are not empty")
		}
		v, err := convert(n.Content[i+1], typ.Elem())
		if err != nil {
			return nil, fmt.Errorf("at %s %w", quoteOdd(name), err)
		}
		if m.MapIndex(reflect.ValueOf(name)).IsValid() {
			return nil, fmt.Errorf("must not name %s twice", quoteOdd(name))
		}
		m.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(v))
	}
	return m.Interface(), nil
}

var patternType = reflect.TypeFor[attention.Pattern]()

// convertPattern reads a list of words, or a string of them.
func convertPattern(n *yaml.Node) (any, error) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		return attention.PatternOf(n.Value), nil
	}
	words, err := convertSlice(n, reflect.TypeFor[[]string]())
	if err != nil {
		return nil, err
	}
	return attention.PatternOf(strings.Join(words.([]string), ",")), nil
}

func convertSlice(n *yaml.Node, typ reflect.Type) (any, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("must be a list, not %s", show(n))
	}
	s := reflect.MakeSlice(typ, 0, len(n.Content))
	for i, item := range n.Content {
		v, err := convert(item, typ.Elem())
		if err != nil {
			return nil, fmt.Errorf("at position %d %w", i+1, err)
		}
		s = reflect.Append(s, reflect.ValueOf(v))
	}
	return s.Interface(), nil
}

// convertText reads a value that stands outside a YAML file, in a flag or in the environment. A string needs no quotes
// there; maps and lists are written as in YAML: {books: data/books}.
func convertText(text string, typ reflect.Type) (any, error) {
	switch {
	case typ == patternType:
		return attention.PatternOf(text), nil
	case typ.Kind() == reflect.String:
		return reflect.ValueOf(text).Convert(typ).Interface(), nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || len(document.Content) != 1 {
		return nil, fmt.Errorf("must be %s, not %.60q", describe(typ), text)
	}
	return convert(document.Content[0], typ)
}

// follow replaces an alias by what it stands for. yaml.v3 refuses an alias of an alias and of itself.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func number(n *yaml.Node) (f float64, ok bool) {
	if tag := n.ShortTag(); tag != "!!float" && tag != "!!int" {
		return 0, false
	}
	return f, n.Decode(&f) == nil
}

// whole reads an integer, which may be written as 25e9.
func whole[I int64 | uint64](n *yaml.Node) (i I, ok bool) {
	if n.ShortTag() == "!!int" {
		return i, n.Decode(&i) == nil
	}
	f, ok := number(n)
	if !ok || f != math.Trunc(f) || math.Abs(f) >= 1<<53 || !strings.ContainsAny(n.Value, "eE") {
		return 0, false
	}
	i = I(f)
	return i, float64(i) == f
}

// describe names what a field of a type takes.
func describe(typ reflect.Type) string {
	if typ == patternType {
		return "a list"
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a finite number"
	case reflect.Map:
		return "names with values"
	case reflect.Slice:
		return "a list"
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0 in " + strconv.Itoa(typ.Bits()) + " bits"
	}
	return "a whole number in " + strconv.Itoa(typ.Bits()) + " bits"
}

// show is a value as it stands in the file, or what it is where that is long.
func show(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null":
		return "nothing"
	case n.ShortTag() == "!!str":
		return fmt.Sprintf("%.60q", n.Value)
	}
	return quoteOdd(n.Value)
}

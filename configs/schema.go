package configs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// A field is one key of the schema: a leaf of the Run struct, or a map of names to paths.
type field struct {
	key   string // train.lr
	typ   reflect.Type
	index []int
}

// schema lists the fields of Run in the order in which they are declared.
var schema = fields("", reflect.TypeFor[Run](), nil)

func fields(prefix string, typ reflect.Type, index []int) (all []field) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		at := append(slices.Clone(index), i)
		switch {
		case name == "-":
		case f.Type.Kind() == reflect.Struct:
			all = append(all, fields(prefix+name+".", f.Type, at)...)
		default:
			all = append(all, field{prefix + name, f.Type, at})
		}
	}
	return all
}

// Keys are all keys of a run, in the order of the schema.
func Keys() (keys []string) {
	for _, f := range schema {
		keys = append(keys, f.key)
	}
	return keys
}

func (f field) isMap() bool { return f.typ.Kind() == reflect.Map }

// env is the name of the environment variable that sets a field: HEADROOM_TRAIN_LR for train.lr.
func (f field) env() string {
	return "HEADROOM_" + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// find returns the field of a key.
func find(key string) (field, bool) {
	for _, f := range schema {
		if f.key == key {
			return f, true
		}
	}
	return field{}, false
}

// isSection says whether keys lie below this one.
func isSection(key string) bool {
	return slices.ContainsFunc(schema, func(f field) bool { return strings.HasPrefix(f.key, key+".") })
}

// unknown is the error for a key that is not in the schema.
func unknown(where, key string) error {
	if len(key) > 80 {
		key = key[:80]
	}
	best, least := "", 200
	for _, f := range schema {
		if d := distance(key, f.key); d < least {
			best, least = f.key, d
		}
		section, _, _ := strings.Cut(f.key, ".")
		if d := distance(key, section); d < least {
			best, least = section, d
		}
	}
	return fmt.Errorf("configs: %s: unknown key %s: the nearest known key is %s", where, quoteOdd(key), best)
}

// quoteOdd quotes a key that would not read well as it is.
func quoteOdd(key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) || len(key) > 80 {
		return fmt.Sprintf("%.80q", key)
	}
	return key
}

// distance is the number of letters to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

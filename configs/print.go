package configs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the run as YAML that loads to the same run, with where each value came from. Dimensions that the kind of
// attention gives are shown as they are, with the rule.
func (r *Resolved) Print(w io.Writer) error {
	shown, laws := r.Run, r.Attention.Laws()
	shown.Attention = r.Attention.Resolve()
	return shown.write(w, func(key string) string {
		if law, ok := laws[strings.TrimPrefix(key, "attention.")]; ok && strings.HasPrefix(key, "attention.") {
			return fmt.Sprintf("default of %s: %s", r.Attention.Kind, law)
		}
		return r.From[key]
	})
}

// YAML is the run as YAML that loads to the same run.
func (r Run) YAML() string {
	var b bytes.Buffer
	if err := r.write(&b, nil); err != nil {
		panic(err) // writing to a buffer does not fail
	}
	return b.String()
}

// Hash is the Hash of the run's YAML, by which runs are told apart.
func (r Run) Hash() string { return Hash(r.YAML()) }

// Hash is 12 hexadecimal digits of the SHA-256 of a configuration's text.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// write puts down section after section, with a comment on each key where from is given.
func (r Run) write(w io.Writer, from func(key string) string) error {
	var lines, comments []string
	section := ""
	for _, f := range schema {
		at := strings.Split(f.key, ".")
		depth := len(at) - 1
		if head := strings.Join(at[:depth], "."); head != section {
			for i := range depth {
				if !strings.HasPrefix(section+".", strings.Join(at[:i+1], ".")+".") {
					lines, comments = append(lines, strings.Repeat("  ", i)+at[i]+":"), append(comments, "")
				}
			}
			section = head
		}
		value, err := inline(reflect.ValueOf(r).FieldByIndex(f.index))
		if err != nil {
			return err
		}
		comment := ""
		if from != nil {
			comment = "# " + from(f.key)
		}
		lines, comments = append(lines, strings.Repeat("  ", depth)+at[depth]+": "+value), append(comments, comment)
	}
	width := 0
	for i, line := range lines {
		if comments[i] != "" && len(line) <= 48 {
			width = max(width, len(line))
		}
	}
	for i, line := range lines {
		if comments[i] != "" {
			line = fmt.Sprintf("%-*s  %s", width, line, comments[i])
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// inline is a value as YAML in one line.
func inline(v reflect.Value) (string, error) {
	var n yaml.Node
	if err := n.Encode(v.Interface()); err != nil {
		return "", err
	}
	setFlow(&n)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	if err := e.Encode(&n); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// setFlow writes mappings and lists in one line and quotes strings of several lines.
func setFlow(n *yaml.Node) {
	switch {
	case n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode:
		n.Style = yaml.FlowStyle
	case strings.ContainsAny(n.Value, "\n\r\t"):
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		setFlow(child)
	}
}

// A Change is a key that has another value in two runs.
type Change struct{ Key, From, To string }

// Changes lists what differs between two runs, in the order of the schema. A dimension that is left to the kind of
// attention is the one that the kind gives, and a path is the same from whichever directory it is written.
func Changes(a, b Run) (all []Change) {
	a = a.like(b)
	whole, other := a, b
	whole.Attention, other.Attention = a.Attention.Resolve(), b.Attention.Resolve()
	equal := func(a, b Run, f field) bool {
		x, y := reflect.ValueOf(a).FieldByIndex(f.index), reflect.ValueOf(b).FieldByIndex(f.index)
		return reflect.DeepEqual(x.Interface(), y.Interface()) || f.isMap() && x.Len()+y.Len() == 0
	}
	for _, f := range schema {
		if equal(a, b, f) || equal(whole, other, f) {
			continue
		}
		x, y := reflect.ValueOf(whole).FieldByIndex(f.index), reflect.ValueOf(other).FieldByIndex(f.index)
		all = append(all, Change{f.key, fmt.Sprint(x.Interface()), fmt.Sprint(y.Interface())})
	}
	return all
}

// Matches says whether a key is among patterns such as model.mlp and attention.*.
func Matches(key string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		section, all := strings.CutSuffix(p, "*")
		return key == p || all && strings.HasPrefix(key, section)
	})
}

// CheckPatterns refuses patterns that match no key.
func CheckPatterns(where string, patterns []string) error {
	for _, p := range patterns {
		if !slices.ContainsFunc(schema, func(f field) bool { return Matches(f.key, []string{p}) }) {
			return unknown(where, p)
		}
	}
	return nil
}

package eval

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Choice is a text whose continuation is scored. White space at the end of the context is scored with it.
type Choice struct{ Context, Continuation string }

// length is the number of characters of the continuation, without the space before it, by which a log-likelihood is
// divided.
func (c Choice) length() float64 {
	return float64(max(1, utf8.RuneCountInString(strings.TrimPrefix(c.Continuation, " "))))
}

// An Item is one question of a task: some choices of which one is right, or a single one, whose last word is to be
// found.
type Item struct {
	Line    int // in its file, from 1
	Choices []Choice
	Gold    int
}

// TaskNames are the tasks that ReadItems knows.
func TaskNames() []string {
	return []string{"arc_easy", "hellaswag", "lambada", "openbookqa", "piqa", "sciq", "winogrande"}
}

// ReadItems reads a JSONL file with the fields that the task's data set has, and puts questions as
// lm-evaluation-harness does; of the first most lines, where most is not 0.
func ReadItems(task, path string, most int) ([]Item, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("eval: %s: %w", task, err)
	}
	defer f.Close()
	items, err := parseItems(task, f, most)
	if err != nil {
		return nil, fmt.Errorf("eval: %s: %s: %w", task, path, err)
	}
	return items, nil
}

func parseItems(task string, r io.Reader, most int) (items []Item, err error) {
	if !slices.Contains(TaskNames(), task) {
		return nil, fmt.Errorf("there is no such task; there are %s", strings.Join(TaskNames(), ", "))
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	for n := 1; lines.Scan() && (most == 0 || len(items) < most); n++ {
		if len(strings.TrimSpace(lines.Text())) == 0 {
			continue
		}
		d := fields{}
		item := Item{Line: n}
		err := json.Unmarshal(lines.Bytes(), &d.object)
		if err == nil {
			item.Choices, item.Gold, err = d.question(task), d.gold, d.err
		}
		if err == nil && (item.Gold < 0 || item.Gold >= len(item.Choices)) {
			err = fmt.Errorf("the answer is none of the %d choices", len(item.Choices))
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		items = append(items, item)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, errors.New("there are no items")
	}
	return items, nil
}

// fields is one line. The first field that is missing or of another type is the error.
type fields struct {
	object map[string]json.RawMessage
	gold   int
	err    error
}

func (d *fields) get(key string, to any) {
	if d.err != nil {
		return
	}
	if raw, ok := d.object[key]; !ok {
		d.err = fmt.Errorf("there is no field %q", key)
	} else if err := json.Unmarshal(raw, to); err != nil {
		d.err = fmt.Errorf("field %q: %w", key, err)
	}
}

func (d *fields) text(key string) (s string) {
	d.get(key, &s)
	return s
}

// number reads 3 and "3".
func (d *fields) number(key string) int {
	var raw json.RawMessage
	d.get(key, &raw)
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("field %q must be a number, not %s", key, raw)
	}
	return n
}

// labelled reads choices with labels, and which of them answerKey names.
func (d *fields) labelled() []string {
	var c struct{ Text, Label []string }
	d.get("choices", &c)
	key := strings.TrimSpace(d.text("answerKey"))
	if d.err == nil && len(c.Text) != len(c.Label) {
		d.err = fmt.Errorf("field \"choices\" has %d texts and %d labels", len(c.Text), len(c.Label))
	}
	d.gold = slices.Index(c.Label, key)
	return c.Text
}

// question makes an item of a line, in the words of the task.
func (d *fields) question(task string) []Choice {
	switch task {
	case "hellaswag":
		var endings []string
		d.get("endings", &endings)
		d.gold = d.number("label")
		for i := range endings {
			endings[i] = clean(endings[i])
		}
		return after(clean(d.text("activity_label")+": "+d.text("ctx_a")+" "+capitalize(d.text("ctx_b"))), endings)
	case "piqa":
		d.gold = d.number("label")
		return after("Question: "+d.text("goal")+"\nAnswer:", []string{d.text("sol1"), d.text("sol2")})
	case "arc_easy":
		return after("Question: "+d.text("question")+"\nAnswer:", d.labelled())
	case "openbookqa":
		return after(d.text("question_stem"), d.labelled())
	case "sciq":
		d.gold = 3
		return after(strings.TrimLeftFunc(d.text("support"), space)+"\nQuestion: "+d.text("question")+"\nAnswer:",
			[]string{d.text("distractor1"), d.text("distractor2"), d.text("distractor3"), d.text("correct_answer")})
	case "winogrande": // what follows the gap is scored after each way to fill it
		before, rest, ok := strings.Cut(d.text("sentence"), "_")
		if d.err == nil && !ok {
			d.err = errors.New(`field "sentence" has no _`)
		}
		d.gold = d.number("answer") - 1
		rest = " " + strings.TrimFunc(rest, space)
		return []Choice{{before + d.text("option1"), rest}, {before + d.text("option2"), rest}}
	}
	text := d.text("text") // lambada
	at := strings.LastIndexByte(text, ' ')
	if d.err == nil && (at < 0 || at == len(text)-1) {
		d.err = errors.New(`field "text" has no last word`)
	}
	return []Choice{{text[:max(at, 0)], text[max(at, 0):]}}
}

// after makes choices that each follow the question and a space.
func after(question string, choices []string) (all []Choice) {
	for _, c := range choices {
		all = append(all, Choice{question, " " + c})
	}
	return all
}

// space is what Python takes for white space.
func space(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

var brackets = regexp.MustCompile(`\[.*?\]`)

// clean removes the marks of WikiHow from hellaswag's texts.
func clean(s string) string {
	s = strings.ReplaceAll(strings.TrimFunc(s, space), " [title]", ". ")
	return strings.ReplaceAll(brackets.ReplaceAllString(s, ""), "  ", " ")
}

// capitalize makes the first letter upper case and all others lower case, as in Python.
func capitalize(s string) string {
	first, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(first)) + strings.ToLower(s[n:])
}

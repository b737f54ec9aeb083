package eval

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestItems(t *testing.T) {
	for _, c := range []struct {
		task, line string
		gold       int
		choices    []Choice
	}{
		{
			"hellaswag",
			`{"activity_label": "Baking", "ctx_a": "A cook [step] stirs.", "ctx_b": "then SHE", "endings": ["eats [x] it.", " sings."], "label": "1"}`, 1,
			[]Choice{{"Baking: A cook stirs. Then she", " eats it."}, {"Baking: A cook stirs. Then she", " sings."}}},
		{
			"hellaswag",
			`{"activity_label": "Roof", "ctx_a": "How to fix [title] Look", "ctx_b": "", "endings": ["up.", "down."], "label": 0}`, 0,
			[]Choice{{"Roof: How to fix. Look", " up."}, {"Roof: How to fix. Look", " down."}}},
		{"piqa", `{"goal": "boil water", "sol1": "heat it", "sol2": "cool it", "label": 0}`, 0,
			[]Choice{{"Question: boil water\nAnswer:", " heat it"}, {"Question: boil water\nAnswer:", " cool it"}}},
		{
			"arc_easy",
			`{"question": "What is wet?", "choices": {"text": ["sand", "rain", "sun"], "label": ["A", "B", "C"]}, "answerKey": "B"}`, 1,
			[]Choice{{"Question: What is wet?\nAnswer:", " sand"}, {"Question: What is wet?\nAnswer:", " rain"},
				{"Question: What is wet?\nAnswer:", " sun"}}},
		{
			"openbookqa",
			`{"question_stem": "Birds", "choices": {"text": ["fly", "read"], "label": ["1", "2"]}, "answerKey": "1"}`, 0,
			[]Choice{{"Birds", " fly"}, {"Birds", " read"}}},
		{
			"sciq",
			`{"support": " Ice melts.", "question": "What melts?", "distractor1": "rock", "distractor2": "iron", "distractor3": "air", "correct_answer": "ice"}`, 3,
			[]Choice{{"Ice melts.\nQuestion: What melts?\nAnswer:", " rock"},
				{"Ice melts.\nQuestion: What melts?\nAnswer:", " iron"},
				{"Ice melts.\nQuestion: What melts?\nAnswer:", " air"}, {"Ice melts.\nQuestion: What melts?\nAnswer:", " ice"}}},
		{
			"winogrande",
			`{"sentence": "The cup fits not in the box as _ is too large.", "option1": "the cup", "option2": "the box", "answer": "1"}`, 0,
			[]Choice{{"The cup fits not in the box as the cup", " is too large."},
				{"The cup fits not in the box as the box", " is too large."}}},
		{"lambada", `{"text": "he came home and shut the door"}`, 0, []Choice{{"he came home and shut the", " door"}}},
	} {
		items, err := parseItems(c.task, strings.NewReader("\n"+c.line+"\n"), 0)
		if err != nil || len(items) != 1 {
			t.Errorf("%s: %v, %+v", c.task, err, items)
			continue
		}
		if i := items[0]; i.Line != 2 || i.Gold != c.gold || len(i.Choices) != len(c.choices) {
			t.Errorf("%s: %+v", c.task, i)
		}
		for j, want := range c.choices {
			if got := items[0].Choices[j]; got != want {
				t.Errorf("%s: choice %d is %q, not %q", c.task, j, got, want)
			}
		}
	}
}

func TestBadItems(t *testing.T) {
	good := `{"text": "one two"}` + "\n"
	for _, c := range []struct{ task, text, want string }{
		{"boolq", "", "there is no such task; there are arc_easy, hellaswag, lambada"},
		{"lambada", "", "there are no items"},
		{"lambada", good + "{", "line 2: unexpected end of JSON input"},
		{"lambada", good + "\n{}", `line 3: there is no field "text"`},
		{"lambada", `{"text": 3}`, `line 1: field "text": json: cannot unmarshal number`},
		{"lambada", `{"text": "one "}`, `line 1: field "text" has no last word`},
		{"winogrande", `{"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}`,
			`line 1: field "sentence" has no _`},
		{"winogrande", `{"sentence": "a _", "option1": "a", "option2": "b", "answer": "3"}`,
			"line 1: the answer is none of the 2 choices"},
		{"piqa", `{"goal": "g", "sol1": "a", "sol2": "b", "label": ""}`, `line 1: field "label" must be a number, not ""`},
		{"arc_easy", `{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "E"}`,
			"line 1: the answer is none of the 2 choices"},
		{"arc_easy", `{"question": "q", "choices": {"text": ["a", "b"], "label": ["A"]}, "answerKey": "A"}`,
			`line 1: field "choices" has 2 texts and 1 labels`},
		{"hellaswag", `{"activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": [], "label": "0"}`,
			"line 1: the answer is none of the 0 choices"},
	} {
		if _, err := parseItems(c.task, strings.NewReader(c.text), 0); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s, %q: got %v, want %s", c.task, c.text, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "l.jsonl")
	if _, err := ReadItems("lambada", path, 0); err == nil || !strings.HasPrefix(err.Error(), "eval: lambada: open ") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat(good, 5)), 0o666); err != nil {
		t.Fatal(err)
	}
	if items, err := ReadItems("lambada", path, 3); err != nil || len(items) != 3 {
		t.Errorf("got %d items, %v", len(items), err)
	}
}

// FuzzItems: no text brings the reader down, and what it takes has an answer among its choices.
func FuzzItems(f *testing.F) {
	f.Add(`{"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"}`)
	f.Add(`{"question": "q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A", "text": "a b"}`)
	f.Add(`{"activity_label": "[", "ctx_a": "", "ctx_b": "ß", "endings": ["", "]"], "label": 1}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, task := range TaskNames() {
			items, err := parseItems(task, strings.NewReader(text), 0)
			for _, item := range items {
				if err == nil && (item.Gold < 0 || item.Gold >= len(item.Choices)) {
					t.Errorf("%s: %+v", task, item)
				}
			}
		}
	})
}

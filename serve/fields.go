package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// whole is a whole number. It may be written as 16 or as 16.0, which clients send whose language has floating-point
// numbers only.
type whole int

// UnmarshalJSON takes what is a whole number, however it is written.
func (w *whole) UnmarshalJSON(text []byte) error {
	if i, err := strconv.Atoi(string(text)); err == nil {
		*w = whole(i)
		return nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return &json.UnmarshalTypeError{Value: nameOf(text), Type: reflect.TypeFor[int]()}
	}
	*w = whole(f)
	return nil
}

// nameOf is the name of a JSON value's type in an error.
func nameOf(text []byte) string {
	switch text[0] {
	case '"':
		return "string"
	case '[':
		return "array"
	case '{':
		return "object"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number " + string(text)
}

// unsupported is the value of a key that the server does not implement and that would change the answer. Values that
// ask for nothing (null, false, 0 and empty ones) are accepted.
type unsupported struct{}

// UnmarshalJSON refuses all other values. The decoder adds the key's name to the error.
func (*unsupported) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "null", "false", `""`, "[]", "{}":
		return nil
	}
	if f, err := strconv.ParseFloat(string(text), 64); err == nil && f == 0 {
		return nil
	}
	return &json.UnmarshalTypeError{Value: nameOf(text), Type: reflect.TypeFor[unsupported]()}
}

// A format is the requested form of an answer. Only text is supported.
type format struct{}

// UnmarshalJSON refuses all other forms.
func (*format) UnmarshalJSON(text []byte) error {
	var f *struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return bad("response_format", `response_format must be an object, {"type": "text"}`)
	}
	if f != nil && f.Type != "text" {
		return bad("response_format",
			`response_format of type %.40q is not supported: leave it out, or make it {"type": "text"}`, f.Type)
	}
	return nil
}

// stops is a string or a list of them. An empty string stops nothing.
type stops []string

// UnmarshalJSON reads both forms.
func (s *stops) UnmarshalJSON(text []byte) error {
	many := []*string{new(string)}
	into := any(&many[0])
	if text[0] == '[' {
		into = &many
	} else if string(text) == "null" {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return errStop
	}
	for _, one := range many {
		if one == nil {
			return errStop
		}
		if *one != "" {
			*s = append(*s, *one)
		}
	}
	return nil
}

var errStop = bad("stop", "stop must be a string or a list of strings")

// contentText is the text of a message: a string, or a list of parts that are texts, which are joined by line breaks.
func contentText(raw json.RawMessage) (string, error) {
	var text string
	if len(raw) == 0 || raw[0] == 'n' {
		return "", fmt.Errorf("has no content")
	}
	if raw[0] == '"' {
		return text, json.Unmarshal(raw, &text)
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", fmt.Errorf("has a content that is neither a text nor a list of parts")
	}
	if len(parts) == 0 {
		return "", fmt.Errorf("has no content: its list of parts is empty")
	}
	var texts []string
	for i, p := range parts {
		switch {
		case p.Type != "text":
			return "", fmt.Errorf("has a part %d of type %.40q: this model reads text alone", i, p.Type)
		case p.Text == nil:
			return "", fmt.Errorf("has a part %d without a text", i)
		}
		texts = append(texts, *p.Text)
	}
	return strings.Join(texts, "\n"), nil
}

// tokenIDs reads a list of token ids.
func tokenIDs(raw json.RawMessage) (ids []int32, err error) {
	if err = json.Unmarshal(raw, &ids); err == nil && !bytes.Contains(raw, []byte("null")) { // which would be read as 0
		return ids, nil
	}
	var many []*whole // the form 1.0
	if err = json.Unmarshal(raw, &many); err != nil {
		return nil, err
	}
	ids = make([]int32, len(many))
	for i, id := range many {
		if id == nil || int(*id) != int(int32(*id)) {
			return nil, fmt.Errorf("the token at position %d must be a whole number of 32 bits", i)
		}
		ids[i] = int32(*id)
	}
	return ids, nil
}

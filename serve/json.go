package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// decodeJSON reads one JSON value and nothing behind it.
func decodeJSON(body io.Reader, into any) error {
	d := json.NewDecoder(body)
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more == io.EOF {
			return nil
		} else if more == nil || !errors.As(more, new(*http.MaxBytesError)) {
			return bad("", "the body has more than one JSON value")
		} else {
			err = more
		}
	}
	var r *refusal
	var typ *json.UnmarshalTypeError
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &long):
		return tooLong(long)
	case errors.As(err, &typ) && typ.Type == reflect.TypeFor[unsupported]():
		return &refusal{http.StatusBadRequest, field(typ.Field), field(typ.Field) + " is not supported: leave it out",
			"unsupported_parameter"}
	case errors.As(err, &typ):
		return bad(field(typ.Field), "%s must be %s, not a JSON %s", field(typ.Field), kind(typ), typ.Value)
	case err == io.EOF:
		return bad("", "the body is empty: it must be a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("", "the body ends in the middle of its JSON")
	}
	return bad("", "the body is no JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
}

func tooLong(e *http.MaxBytesError) error {
	return &refusal{status: http.StatusRequestEntityTooLarge,
		reason: fmt.Sprintf("the body is longer than %d bytes", e.Limit)}
}

// field is the last key of a path.
func field(path string) string {
	if path == "" {
		return "body"
	}
	return path[strings.LastIndexByte(path, '.')+1:]
}

// kind describes the type that a key must have.
func kind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "int", "int32", "int64":
		return "a whole number within range"
	case "float64":
		return "a number within range"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	case "slice":
		return "a list"
	}
	return "an object"
}

// shape tells values apart by how they begin: it is the first byte of a JSON value and, of a list, the first byte of
// its first element too unless that is a number.
func shape(raw []byte) string {
	if len(raw) == 0 || raw[0] == 'n' {
		return "null"[:min(4, 4*len(raw))]
	}
	if raw[0] != '[' {
		return string(raw[:1])
	}
	inner := bytes.TrimLeft(raw[1:], " \t\r\n")
	if len(inner) > 0 && strings.ContainsRune(`"[]`, rune(inner[0])) {
		return "[" + string(inner[:1])
	}
	return "["
}

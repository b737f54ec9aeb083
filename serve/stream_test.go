package serve

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"headroom/decode"
)

// TestStreamComesWhileItIsMade: a client has the first tokens of a stream while the device is still at a later pass.
func TestStreamComesWhileItIsMade(t *testing.T) {
	read := make(chan struct{})
	d := &idealDevice{held: map[int]*int32{}}
	d.look = func() {
		if d.passes == 4 {
			<-read
		}
	}
	m := tiny(t, "mha")
	e, err := decode.NewEngine(m, d, decode.Options{Pages: 8, Rows: 1, Vocabulary: letters{}})
	if err != nil {
		t.Fatal(err)
	}
	url, stop := serveIdeal(t, m, e, 1)
	defer stop()
	never := time.AfterFunc(2*time.Minute, func() {
		t.Error("nothing came before the answer was whole")
		close(read)
	})
	body, _ := json.Marshal(object{"prompt": []int{1, 2, 3}, "max_tokens": 12, "temperature": 0, "stream": true,
		"ignore_eos": true})
	a, err := http.Post(url+"/v1/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text := ""
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		event, ok := strings.CutPrefix(lines.Text(), "data: {")
		if !ok {
			continue
		}
		var part answer
		if err := json.Unmarshal([]byte("{"+event), &part); err != nil {
			t.Fatal(err)
		}
		if text += part.Choices[0].Text; text != "" && never.Stop() {
			close(read)
		}
	}
	if len(text) != 12 {
		t.Errorf("the stream is %q, of 12 tokens", text)
	}
}

package data

import "fmt"

// What attention does with the documents of a row, as data.documents says.
const (
	NoMask       = "none" // it reads all documents of the row that lie before
	DocumentMask = "mask" // it reads its own document
)

// Documents says where the documents of a row start: at the token that each of them begins with, and at the row's own
// start, where the rest of a document may lie whose beginning is in another row. Nil is a row that is not divided.
type Documents struct{ Begin int32 }

// Starts writes where the document of each input of a batch starts in its row.
func (d *Documents) Starts(b *Batch, starts []int32) {
	for at, token := range b.Inputs {
		switch t := int32(at % b.T); {
		case t == 0 || token == d.Begin:
			starts[at] = t
		default:
			starts[at] = starts[at-1]
		}
	}
}

// sampled is how many tokens PerRow reads.
const sampled = 1 << 20

// PerRow is how many documents, or parts of one, a row of t tokens has on average, by the first tokens of a set. A set
// none of whose tokens begins a document is an error: a mask would do nothing.
func (d *Documents) PerRow(set *Tokens, t int) (float64, error) {
	rows := min(max(sampled/t, 1), int(set.Len()/int64(t)))
	if rows < 1 {
		return 0, fmt.Errorf("data: %d tokens: a row has %d", set.Len(), t)
	}
	row := NewBatch(1, t)
	documents, begun := 0, false
	for i := range rows {
		if err := set.Read(row.Inputs, int64(i)*int64(t)); err != nil {
			return 0, err
		}
		documents++
		for at, token := range row.Inputs {
			if token == d.Begin {
				begun = true
				documents += min(at, 1) // at 0 it is where the row starts
			}
		}
	}
	if !begun {
		return 0, fmt.Errorf("data: documents is %s, but none of the first %d tokens of the shards is %d, with which "+
			"documents of the tokenizer begin: prepare the shards with headroom prepare, or set data.documents to %s",
			DocumentMask, rows*t, d.Begin, NoMask)
	}
	return float64(documents) / float64(rows), nil
}

// Documents are those of shards that the tokenizer made.
func (t *Tokenizer) Documents() *Documents {
	begin, _ := t.Document()
	return &Documents{begin}
}

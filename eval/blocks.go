package eval

import "headroom/data"

// A Block is how well a model predicts one document of a set, or a few that follow each other in a set of many. What a
// block is depends on the text alone, so that the blocks of two models on one text belong together.
type Block struct {
	Tokens int64   `json:"tokens"`
	NLL    float64 `json:"nats"` // the sum over these tokens
}

// mostBlocks is how many blocks a result keeps.
const mostBlocks = 64

// blocks gathers the documents of a set as they are measured.
type blocks struct {
	begins    int32 // the token before each document; negative where it is not known
	documents []Block
	open      Block
}

func newBlocks(meta *data.Meta) *blocks {
	b := &blocks{begins: -1}
	if meta != nil && meta.Documents > 0 {
		b.begins = meta.Begins()
	}
	return b
}

// add counts one target, which belongs to the document that it follows.
func (b *blocks) add(target int32, nll float64) {
	if b.begins < 0 {
		return
	}
	b.open.Tokens++
	b.open.NLL += nll
	if target == b.begins {
		b.documents, b.open = append(b.documents, b.open), Block{}
	}
}

// all are the blocks of what was added: neighbouring documents together, of about as many tokens each, where there are
// too many. One block alone says nothing of how texts differ, and is left out.
func (b *blocks) all() []Block {
	documents := b.documents
	if b.open.Tokens > 0 {
		documents = append(documents, b.open)
	}
	if len(documents) < 2 {
		return nil
	}
	if len(documents) <= mostBlocks {
		return documents
	}
	total := int64(0)
	for _, d := range documents {
		total += d.Tokens
	}
	var all []Block
	var sum Block
	seen := int64(0)
	for _, d := range documents {
		sum.Tokens += d.Tokens
		sum.NLL += d.NLL
		seen += d.Tokens
		if seen*mostBlocks >= total*int64(len(all)+1) {
			all, sum = append(all, sum), Block{}
		}
	}
	return all // the last block ends at the last document
}

// Package data turns text into token shards and token shards into batches.
//
// Prepare reads text, source and jsonl files and writes shards in llm.c's format beside a meta.json. Open maps shards
// into memory. Loader draws shuffled training windows from them with an exact position; Windows walks them in order for
// evaluation and counts every target once.
//
// The letters of shapes: B batch, T tokens of a window, V vocabulary.
package data

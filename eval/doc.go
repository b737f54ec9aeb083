// Package eval measures trained models and says what a comparison of them shows.
//
// Perplexity measures the loss on sets of tokens, each token but a set's first once; Tasks answers zero-shot questions.
// A Comparison holds the figures of all arms and seeds: Mean gives an arm's interval over its seeds, Paired the
// difference of two arms with its test, Holm corrects a family of tests, and Optimum says where the best learning rate
// lies. A Report writes tables, curves and charts as one page.
//
// Losses are in nats a token throughout, intervals are of 95%, and n is the number of seeds.
package eval

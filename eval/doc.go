// Package eval measures trained models: perplexity on named token sets, comparisons over seeds, and reports.
package eval

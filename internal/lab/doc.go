// Package lab carries out experiments: one run from its configuration to a finished run directory, a comparison of arms
// over seeds as many such runs, and the quickstart as one such comparison.
package lab

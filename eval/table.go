package eval

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text is the comparison for a terminal: aligned columns.
func (c *Comparison) Text() string { return terminal(c) }

// Markdown is the comparison with Markdown tables.
func (c *Comparison) Markdown() string { return document(c.Name, c) }

// A writer puts itself down, with tables of one form.
type writer interface {
	write(s *strings.Builder, table func(*strings.Builder, [][]string))
}

func terminal(w writer) string {
	var s strings.Builder
	w.write(&s, plain)
	return s.String()
}

func document(title string, w writer) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# %s\n\n", title)
	w.write(&s, markdown)
	return s.String()
}

// write puts down the measurements, then the learning rates, the differences, the laws over sizes and what failed.
func (c *Comparison) write(s *strings.Builder, table func(*strings.Builder, [][]string)) {
	table(s, c.measured())
	for i, line := range c.remarks() {
		if i == 0 {
			s.WriteString("\n")
		}
		s.WriteString(line + "\n")
	}
	section := func(caption string, rows [][]string, key func() []string) {
		if len(rows) < 2 {
			return
		}
		fmt.Fprintf(s, "\n%s:\n\n", caption)
		table(s, rows)
		s.WriteString("\n")
		for _, line := range key() {
			s.WriteString("- " + line + "\n")
		}
	}
	section("Learning rates by "+c.by(), c.rates(), c.rateKey)
	section(c.caption(), c.differences(), c.key)
	c.writeLaws(s, table)
	for _, line := range c.failed() {
		s.WriteString("\n" + line + "\n")
	}
}

// failed names what has no result, and why.
func (c *Comparison) failed() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for i := range c.Arms {
		a := &c.Arms[i]
		for _, f := range a.Failures {
			add("%s, seed %d, failed: %s", a.ID(), f.Seed, f.Reason)
		}
		for _, r := range a.Rates {
			for _, f := range r.Failures {
				add("%s, learning rate %g, seed %d, failed: %s", a.ID(), r.LR, f.Seed, f.Reason)
			}
		}
		for _, d := range a.Decode {
			if d.Failure != "" {
				add("%s, decode %s, failed: %s", a.ID(), d.of(), d.Failure)
			}
		}
	}
	return lines
}

func (c *Comparison) measured() [][]string {
	head := []string{"arm", "attention", "parameters", "cache B/token/layer"}
	fp8 := !slices.ContainsFunc(c.Arms, func(a Arm) bool { return a.CacheFP8 == 0 })
	if fp8 {
		head = append(head, "in fp8")
	}
	if c.swept() {
		head = append(head, "learning rate")
	}
	for _, set := range c.Sets {
		head = append(head, "loss "+set, "perplexity "+set)
	}
	head = append(head, c.columns()...)
	for _, d := range c.decodeCases() {
		head = append(head, "decode "+d.of()+" tokens/s")
	}
	rows := [][]string{append(head, "training tokens/s")}
	for _, a := range c.Arms {
		row := []string{a.ID(), a.Attention, thousands(a.Parameters), thousands(a.CacheBytes)}
		if fp8 {
			row = append(row, thousands(a.CacheFP8))
		}
		if c.swept() {
			row = append(row, a.rate())
		}
		for _, set := range c.Sets {
			row = append(row, a.Loss[set].nats(), Estimate{Mean: a.Perplexity[set], N: a.Loss[set].N}.alone())
		}
		for _, name := range c.columns() {
			row = append(row, a.More[name].String())
		}
		for _, d := range c.decodeCases() {
			row = append(row, a.decodes(d))
		}
		if len(a.Failures) > 0 {
			row[0] += fmt.Sprintf(" (%d failed)", len(a.Failures))
		}
		rows = append(rows, append(row, a.TokensPerSecond.whole()))
	}
	return rows
}

// decimals are the places that a figure of this size is worth.
func decimals(x float64) int {
	switch x = math.Abs(x); {
	case x < 100:
		return 3
	case x < 1000:
		return 1
	}
	return 0
}

// String is the mean with its interval, or the mean alone where there is one value.
func (e Estimate) String() string {
	switch e.N {
	case 0:
		return "-"
	case 1:
		if e.Half == 0 {
			return fmt.Sprintf("%.*f", decimals(e.Mean), e.Mean)
		}
	}
	return fmt.Sprintf("%.*f ± %.*f", decimals(e.Mean), e.Mean, decimals(e.Mean), e.Half)
}

// alone is the mean without its interval.
func (e Estimate) alone() string { return Estimate{Mean: e.Mean, N: min(e.N, 1)}.String() }

// nats is a loss with its interval.
func (e Estimate) nats() string {
	switch {
	case e.N == 0:
		return "-"
	case e.N == 1:
		return fmt.Sprintf("%.4f", e.Mean)
	}
	return fmt.Sprintf("%.4f ± %.4f", e.Mean, e.Half)
}

// rate is a speed: the mean in whole numbers, with its interval where it is of one machine's repeats.
func (e Estimate) rate() string {
	switch {
	case e.N == 0:
		return "-"
	case e.Half == 0:
		return thousands(int64(math.Round(e.Mean)))
	}
	return thousands(int64(math.Round(e.Mean))) + " ± " + thousands(int64(math.Ceil(e.Half)))
}

// whole is rate without its interval.
func (e Estimate) whole() string { return Estimate{Mean: e.Mean, N: e.N}.rate() }

// plain aligns columns: words to the left, the first row included, numbers to the right.
func plain(s *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if numeric(rows, i) {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString(cell + "  ")
		}
		s.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

func markdown(s *strings.Builder, rows [][]string) {
	for i, row := range rows {
		s.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i > 0 {
			continue
		}
		for column := range row {
			if numeric(rows, column) {
				s.WriteString("| ---: ")
			} else {
				s.WriteString("| --- ")
			}
		}
		s.WriteString("|\n")
	}
}

// numeric says that a column holds nothing but numbers below its head.
func numeric(rows [][]string, column int) bool {
	for _, row := range rows[1:] {
		if strings.Trim(row[column], "0123456789.,±e -") != "" {
			return false
		}
	}
	return true
}

// thousands writes 183454464 as 183,454,464.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

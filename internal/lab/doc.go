// Package lab does what a researcher asks for: one run from its configuration to a finished run directory, a comparison
// of arms over seeds on top of it, and the quickstart on top of that.
package lab

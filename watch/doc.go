// Package watch follows the metrics of all runs under some directories, and shows them on a page and in a terminal.
package watch

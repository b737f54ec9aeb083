// Package ranks finds out which of several processes this one is, whoever launched them, starts those of one machine
// itself where nobody has, and brings them together over TCP.
package ranks

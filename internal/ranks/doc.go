// Package ranks finds the rank of this process in a job from the variables of its launcher, starts the processes of one
// machine itself where there is no launcher, and connects all ranks over TCP.
package ranks

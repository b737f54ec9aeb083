// Package load sends completions to an OpenAI-compatible server and measures how they fare: in a closed loop, where so
// many clients each wait for their answer before they ask again, or in an open one, where requests come at random times
// whether or not the server keeps up (a Poisson process). In an open loop latency counts from when a request was due,
// so that a server that stalls does not hide it.
package load

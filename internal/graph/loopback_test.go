package graph

// Loopback is graphtest's, which this package's own tests cannot import: one of package graph_test hands it over.
var Loopback func(size int) []Group

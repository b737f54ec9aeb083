package graph_test

import (
	"headroom/internal/graph"
	"headroom/internal/graph/graphtest"
)

func init() { graph.Loopback = graphtest.Loopback }

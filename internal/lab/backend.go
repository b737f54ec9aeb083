package lab

import (
	"fmt"
	"log/slog"

	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// Backend opens the device that train.device names. A device that this binary lacks is an error, never a quiet
// substitute.
func Backend(device, precision string) (graph.Backend, error) {
	switch {
	case device == "cpu" && precision == "fp32":
		if ref.BLAS != "openblas" {
			slog.Warn("built without OpenBLAS: products are about ten times slower; make build links it", "products", ref.BLAS)
		}
		return graph.NewCPU(), nil
	case device == "cpu":
		return nil, fmt.Errorf("lab: train.precision on the cpu must be fp32, not %s", precision)
	case device == "cuda" && precision == "fp32":
		return graph.NewCUDA(0, graph.F32)
	case device == "cuda" && precision == "bf16":
		return graph.NewCUDA(0, graph.BF16)
	case device == "cuda":
		return nil, fmt.Errorf("lab: train.precision must be fp32 or bf16, not %s", precision)
	}
	return nil, fmt.Errorf("lab: train.device must be cpu or cuda, not %s", device)
}

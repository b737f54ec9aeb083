package lab

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"

	"headroom/attention"
	"headroom/decode"
	"headroom/decode/cuda"
	"headroom/decode/host"
	"headroom/internal/graph"
	"headroom/kernels/ref"
)

// Backend opens the device that train.device names. A device that this binary lacks is an error, never a quiet
// substitute.
func Backend(device, precision string) (graph.Backend, error) { return backend(device, precision, 0) }

// openDevice is backend, which tests replace.
var openDevice = backend

// backend opens the GPU of that number, where the device is one.
func backend(device, precision string, ordinal int) (graph.Backend, error) {
	switch {
	case device == "cpu" && precision == "fp32":
		if ref.BLAS != "openblas" {
			slog.Warn("built without OpenBLAS: products are about ten times slower; make build links it", "products", ref.BLAS)
		}
		return graph.NewCPU(), nil
	case device == "cpu":
		return nil, fmt.Errorf("lab: train.precision on the cpu must be fp32, not %s", precision)
	case device == "cuda" && precision == "fp32":
		return graph.NewCUDA(ordinal, graph.F32)
	case device == "cuda" && precision == "bf16":
		return graph.NewCUDA(ordinal, graph.BF16)
	case device == "cuda":
		return nil, fmt.Errorf("lab: train.precision must be fp32 or bf16, not %s", precision)
	}
	return nil, fmt.Errorf("lab: train.device must be cpu or cuda, not %s", device)
}

// Decoder opens the device that a model decodes on, or parts of one that each hold a shard of the model. An empty
// precision is bf16 on cuda and fp32 on the cpu, and an empty type of cache is the precision.
func Decoder(device, precision string, parts int, cache attention.CacheType) (decode.Backend, error) {
	types := map[string]graph.DType{"": graph.BF16, "bf16": graph.BF16, "fp32": graph.F32}
	t, known := types[precision]
	switch {
	case !known:
		return nil, fmt.Errorf("lab: precision must be fp32 or bf16, not %s", precision)
	case device == "cpu" && precision == "bf16":
		return nil, errors.New("lab: precision on the cpu must be fp32, not bf16")
	case parts < 1:
		return nil, fmt.Errorf("lab: tensor-parallel must be at least 1, not %d", parts)
	case cache != "" && cache.Validate() != nil:
		return nil, cache.Validate()
	case device == "cpu":
		return host.Sharded(parts, cmp.Or(cache, attention.FP32)), nil
	case device == "cuda" && cache != "" && string(cache) != t.String() && (cache != attention.FP8 || t != graph.BF16):
		return nil, fmt.Errorf("lab: a cache in %s has no kernels beside a precision of %s on cuda: "+
			"leave cache-type out, or take fp8 beside bf16", cache, t)
	}
	if device == "cuda" && cache == attention.FP8 {
		slog.Warn("no GPU has decoded a model with a cache in fp8 yet (docs/status.md): hold the first answers against " +
			"--cache-type bf16")
	}
	switch {
	case device == "cuda" && parts > 1:
		return cuda.Sharded(parts, t, cache)
	case device == "cuda":
		return cuda.New(0, t, cache)
	}
	return nil, fmt.Errorf("lab: device must be cpu or cuda, not %s", device)
}

// ProductCeiling is the operations a second of one large product on the device of a Decoder, measured now.
func ProductCeiling(device, precision string) (float64, error) {
	if precision == "" {
		precision = map[bool]string{true: "bf16", false: "fp32"}[device == "cuda"]
	}
	b, err := Backend(device, precision)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	return b.ProductCeiling()
}

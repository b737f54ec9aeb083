# CUDA: `make cuda` builds bin/headroom with GPU kernels, `make gpu-tests` the tests for a GPU machine. Neither needs a GPU.
# Each kernels/*.cu becomes a fatbin of sm_90a machine code and compute_80 PTX; the build embeds them all.

CUDA_HOME ?= $(CURDIR)/.tools/cuda
NVCC := $(CUDA_HOME)/bin/nvcc
NVCCFLAGS := -O3 -std=c++17 -Xptxas -v,-warn-spills -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_80,code=compute_80
IMAGES := $(patsubst kernels/%.cu,kernels/image/%.fatbin,$(wildcard kernels/*.cu))
# The C compiler finds cuda.h and our libcuda.a by its own variables: those of cgo would have Go compile the C of every package,
# net and all that imports it too, once more beside the build without a GPU.
CUDA_TAGS = $(TAGS) gpu$(if $(STATIC), static)
CUDA_PATHS = C_INCLUDE_PATH="$(CUDA_HOME)/include" LIBRARY_PATH="$(CURDIR)/bin/cuda"

.PHONY: cuda cuda-images cuda-lint cuda-test gpu-tests

cuda: setup $(NVCC) ## bin/headroom with CUDA kernels (installs nvcc into .tools; STATIC=1 for a machine without OpenBLAS)
	@$(MAKE) --no-print-directory -j$$(nproc) cuda-images bin/cuda/libcuda.a
	$(CUDA_PATHS) $(GO) build -buildvcs=auto -ldflags=-w -tags "$(CUDA_TAGS)" -o bin/headroom ./cmd/headroom
	@! readelf -d bin/headroom | grep -q libcuda || { echo "the driver's libcuda.so stood before ours: linking again"; \
		$(CUDA_PATHS) CGO_LDFLAGS="-L$(CURDIR)/bin/cuda" $(GO) build -buildvcs=auto -ldflags=-w -tags "$(CUDA_TAGS)" -o bin/headroom ./cmd/headroom; }

cuda-lint: $(NVCC) ## vet the files that only a CUDA build has
	@$(MAKE) --no-print-directory -j$$(nproc) cuda-images bin/cuda/libcuda.a
	$(CUDA_PATHS) $(GO) vet -tags "$(CUDA_TAGS)" ./...

cuda-test: setup $(NVCC) ## tests of the CUDA build that need no GPU: the decode device is simulated
	@$(MAKE) --no-print-directory -j$$(nproc) cuda-images bin/cuda/libcuda.a
	$(CUDA_PATHS) $(GO) test -tags "$(CUDA_TAGS)" ./decode/cuda

gpu-tests: setup $(NVCC) ## gpu-tests/: test binaries and run.sh, to be copied to a GPU machine without Go
	@$(MAKE) --no-print-directory -j$$(nproc) cuda-images bin/cuda/libcuda.a
	$(CUDA_PATHS) GO="$(GO)" TAGS="$(TAGS) gpu static" scripts/gpu-tests.sh gpu-tests

cuda-images: $(IMAGES)
	@cat $(IMAGES:kernels/image/%.fatbin=bin/cuda/%.log) >bin/cuda/ptxas.log
	@rm -f $(filter-out $(IMAGES),$(wildcard kernels/image/*.fatbin))
	@grep -hE 'Performance Loss|warning [:#]' bin/cuda/ptxas.log | sort | uniq -c || true

kernels/image/%.fatbin: kernels/%.cu $(wildcard kernels/*.cuh) cuda.mk | $(NVCC)
	@mkdir -p kernels/image bin/cuda
	@echo "nvcc $<"
	@$(NVCC) $(NVCCFLAGS) -fatbin -o $@ $< >bin/cuda/$*.log 2>&1 || { cat bin/cuda/$*.log; rm -f $@; exit 1; }

# These compile the other file a second time.
kernels/image/attention_fp32_masked.fatbin: kernels/attention_fp32.cu
kernels/image/attention_portable_masked.fatbin: kernels/attention_portable.cu
kernels/image/attention_forward_masked.fatbin: kernels/attention_forward.cu
kernels/image/attention_backward_key_masked.fatbin: kernels/attention_backward_key.cu
kernels/image/attention_backward_query_masked.fatbin: kernels/attention_backward_query.cu
kernels/image/attention_query_gradient_masked.fatbin: kernels/attention_query_gradient.cu

bin/cuda/libcuda.a: scripts/lazy-cuda.sh | $(NVCC)
	@mkdir -p bin/cuda
	scripts/lazy-cuda.sh $(CUDA_HOME)/lib64/stubs/libcuda.so $@

$(CURDIR)/.tools/cuda/bin/nvcc:
	scripts/install-nvcc.sh

# headroom: make help lists the targets.

SHELL := /bin/bash
GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The normal build: products by OpenBLAS, loops by Go's SIMD package. A plain `go build ./cmd/headroom` works too, without
# either, and says that it is slow.
export GOEXPERIMENT := simd
TAGS := openblas
GOBUILD := $(GO) build -buildvcs=auto -ldflags=-w -tags $(TAGS)

.DEFAULT_GOAL := build
.PHONY: help setup build quickstart quickstart-short test lint clients bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: ## install what a fresh Debian or Ubuntu lacks: gcc and OpenBLAS
	@scripts/setup.sh

build: setup ## bin/headroom with OpenBLAS and SIMD
	@mkdir -p bin
	$(GOBUILD) -o bin/headroom ./cmd/headroom

quickstart: build ## train and compare four attention kinds on real text, about eight minutes on two cores
	bin/headroom quickstart

quickstart-short: build ## the same path with one seed and few steps, for CI
	bin/headroom quickstart --short

test: setup ## build, vet and every test
	$(GO) vet -tags $(TAGS) ./...
	$(GO) test -tags $(TAGS) ./...

lint: setup ## gofmt and staticcheck
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; test -z "$$unformatted" || { echo "not gofmt'ed: $$unformatted"; exit 1; }
	$(GO) run $(STATICCHECK) -tags $(TAGS) ./...

clients: build ## llama.cpp and other real clients, where there is node with npm
	scripts/clients/run.sh bin/headroom

bench: build ## training speed on this machine's CPU
	bin/headroom bench train --device cpu

clean: ## remove what was built
	rm -rf bin gpu-tests

-include cuda.mk

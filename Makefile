# Lyre. `make` alone lists the targets; each works on a fresh clone and ends with one line of result.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
export PATH := $(PATH):/usr/sbin:/sbin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## the release binary: target/release/lyre
	@tests/peers.sh build
	$(CARGO) build --release --locked

demo: ## run a whole pair on this machine, break it in turn, print the table
	@tests/peers.sh build
	$(CARGO) build --profile demo --locked --bin lyre
	target/demo/lyre demo

test: ## everything: lint, unit, simulation, black box against the real peers
	@tests/peers.sh test
	$(MAKE) --no-print-directory lint
	tests/run.sh

lint: ## rustfmt, clippy, doc warnings
	@tests/peers.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items -q
	@echo "lint: ok"

dist: ## the binary as it is shipped and measured: target/dist/lyre
	@tests/peers.sh build
	$(CARGO) build --profile dist --locked --bin lyre

deb: dist ## the Debian package: target/deb/lyre_VERSION_ARCHITECTURE.deb
	@tests/peers.sh test
	rootfs/pack/deb.sh target/dist/lyre target/deb

bench: bench-http bench-failover ## every number of the README, beside its peers

bench-http: dist ## data plane against HAProxy and nginx -> docs/bench/http.md
	@tests/peers.sh bench
	$(CARGO) bench --bench http --locked

bench-failover: dist ## failover gaps against keepalived + HAProxy -> docs/bench/failover.md
	@tests/peers.sh bench
	$(CARGO) bench --bench failover --locked

clean: ## remove what was built
	$(CARGO) clean

.PHONY: help build demo test lint dist deb bench bench-http bench-failover clean

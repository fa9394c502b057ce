# Everything a developer, a packager or CI runs. `make help` lists it.
# `demo` and `test` install what they need first (scripts/setup); nothing has to be prepared by hand.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

arch := $(shell uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
# What we test is what we ship: the same Node, from the lock file. Debian's sbin has nft and ip, also for an ordinary user.
export PATH := $(CURDIR)/node_modules/node-linux-$(arch)/bin:$(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

.PHONY: setup
setup: ## install what is needed on Debian 12, as root or with sudo; quick when nothing is missing
	@scripts/setup

.PHONY: demo
demo: ## run the proxy with a stand-in for AWS and show who gets which role; no AWS, root or Docker needed
	@scripts/setup --demo
	@node scripts/demo.ts

.PHONY: test
test: ## everything: format, types, unit tests, packets in namespaces, the booted hosts
	@scripts/setup --packaging
	@scripts/test all

.PHONY: test-unit
test-unit: ## format, types and unit tests: seconds
	@scripts/setup
	@scripts/test static unit

.PHONY: test-netns
test-netns: ## the firewall and the proof of identity with real packets in network namespaces (root)
	@scripts/setup
	@scripts/test netns

.PHONY: test-attacks
test-attacks: ## a hostile container against the booted hosts, with and without each protection (root); ATTACK_SECONDS=60
	@scripts/setup
	@scripts/test attacks

.PHONY: test-host
test-host: ## the booted systemd hosts with Docker and Podman (root)
	@scripts/setup --packaging
	@scripts/test host

.PHONY: bench
bench: ## throughput beside a bare node:http server, what a flood does to others, time to start; as ratios
	@scripts/setup
	@node scripts/build.ts
	@node test/bench/main.ts
	@node test/bench/neighbour.ts
	@node test/bench/start.ts

.PHONY: fuzz
fuzz: ## odd requests without end for FUZZ_SECONDS (default 600); FUZZ_SEED repeats a run
	@scripts/setup
	@node test/load/fuzz.ts $(or $(FUZZ_SECONDS),600) $(or $(FUZZ_SEED),$$RANDOM)

.PHONY: proof
proof: ## each attack for a minute, with every set of layers, on both booted hosts: hours (root)
	@scripts/setup
	@ATTACK_SECONDS=$(or $(ATTACK_SECONDS),60) scripts/test attacks

.PHONY: test-sdks
test-sdks: ## the full matrix of AWS SDKs, on a machine that has their toolchains; writes docs/conformance.md
	@scripts/setup
	@scripts/test-sdks --write

.PHONY: testhost
testhost: ## boot a systemd host with Docker and the AWS stand-in, and get a shell in it (root)
	@scripts/setup
	@scripts/testhost

.PHONY: build
build: ## dist/ec2metaproxy and dist/notify.node; ARCH=arm64 for the other architecture
	@scripts/setup
	@node scripts/build.ts

.PHONY: check-reproducible
check-reproducible: ## build twice and compare byte by byte
	@scripts/setup
	@scripts/check-reproducible

.PHONY: schema
schema: ## write the JSON Schema that the package ships
	@node scripts/schema.ts

.PHONY: sbom
sbom: build ## what is in the executable: CycloneDX and licences
	@node scripts/sbom.ts

.PHONY: package
package: sbom ## the RPM and the DEB, in dist/
	@scripts/setup --packaging
	@scripts/package

.PHONY: repo
repo: package ## apt and yum repositories in dist/repo, signed: make repo KEY=FINGERPRINT
	@scripts/repo

.PHONY: format
format: ## write the format, and what the linter can mend
	@biome check --write .

.PHONY: clean
clean: ## remove what was built
	rm -rf dist .tap/test-results

# Everything that developers, packagers and CI run. `make help` lists the targets.
# `demo` and `test` install what they need first (scripts/setup); no manual preparation is needed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

arch := $(shell uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
# Test what we ship: the same Node, from the lock file. sbin: on Debian, an ordinary user needs it for nft and
# ip.
export PATH := $(CURDIR)/node_modules/node-linux-$(arch)/bin:$(CURDIR)/node_modules/.bin:$(PATH):/usr/sbin:/sbin

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

.PHONY: setup
setup: ## install dependencies on Debian 12, as root or with sudo; quick if nothing is missing
	@scripts/setup

.PHONY: demo
demo: ## run the proxy with a stand-in for AWS and show who gets which role; no AWS, root or Docker needed
	@scripts/setup --demo
	@node scripts/demo.ts

.PHONY: test
test: ## run everything: format, types, unit tests, packets in namespaces, booted hosts
	@scripts/setup --packaging
	@scripts/test all

.PHONY: test-unit
test-unit: ## run format, type and unit checks: seconds
	@scripts/setup
	@scripts/test static unit

.PHONY: test-netns
test-netns: ## test the firewall and the proof of identity with real packets in network namespaces (root)
	@scripts/setup
	@scripts/test netns

.PHONY: test-attacks
test-attacks: ## attack the booted hosts from a container, with and without each protection (root); ATTACK_SECONDS=60
	@scripts/setup
	@scripts/test attacks

.PHONY: test-host
test-host: ## test booted systemd hosts with Docker and Podman (root)
	@scripts/setup --packaging
	@scripts/test host

.PHONY: bench
bench: ## measure, as ratios: throughput compared with a bare node:http server, effect of a flood on others, start-up, the guard (root)
	@scripts/setup
	@node scripts/build.ts
	@node test/bench/main.ts
	@node test/bench/neighbour.ts
	@node test/bench/start.ts
	@node test/bench/guard.ts

.PHONY: fuzz
fuzz: ## send odd requests for FUZZ_SECONDS (default 600); FUZZ_SEED repeats a run
	@scripts/setup
	@node test/load/fuzz.ts $(or $(FUZZ_SECONDS),600) $(or $(FUZZ_SEED),$$RANDOM)

.PHONY: proof
proof: ## attack for a minute each, with every set of layers, and start and stop 500 containers: hours (root)
	@scripts/setup --packaging
	@ATTACK_SECONDS=$(or $(ATTACK_SECONDS),60) scripts/test attacks
	@MEASURE_SECONDS=180 CHURN=$(or $(CHURN),500) TEST_ONLY='host/guard' scripts/test host

.PHONY: test-sdks
test-sdks: ## test all AWS SDKs, on a machine that has their toolchains; writes docs/conformance.md
	@scripts/setup
	@scripts/test-sdks --write

.PHONY: testhost
testhost: ## boot a systemd host with Docker and the AWS stand-in, and open a shell in it (root)
	@scripts/setup
	@scripts/testhost

.PHONY: build
build: ## build dist/ec2metaproxy and dist/notify.node; ARCH=arm64 for the other architecture
	@scripts/setup
	@node scripts/build.ts

.PHONY: check-reproducible
check-reproducible: ## build twice and compare byte by byte
	@scripts/setup
	@scripts/check-reproducible

.PHONY: schema
schema: ## write the JSON Schema for the package
	@node scripts/schema.ts

.PHONY: refusals
refusals: ## write the tables of docs/refusals.md
	@node scripts/refusals.ts

.PHONY: sbom
sbom: build ## list what is in the executable: CycloneDX and licences
	@node scripts/sbom.ts

.PHONY: package
package: sbom ## build the RPM and the DEB in dist/
	@scripts/setup --packaging
	@scripts/package

.PHONY: repo
repo: package ## build signed apt and yum repositories in dist/repo: make repo KEY=FINGERPRINT
	@scripts/repo

.PHONY: format
format: ## format the code and apply the linter's fixes
	@biome check --write .

.PHONY: clean
clean: ## remove build output
	rm -rf dist .tap/test-results

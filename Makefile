# Two commands matter: `make run` and `make test`. Both set up a bare Debian 12 or Ubuntu 24.04 (as root or with sudo) first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

# A Node.js fetched by scripts/node-setup.sh comes first; its headers build the native addon.
export PATH := $(CURDIR)/.work/node/bin:$(PATH)
ifneq ($(wildcard $(CURDIR)/.work/node/include),)
export npm_config_nodedir := $(CURDIR)/.work/node
endif
# onnxruntime-node would otherwise download a GPU library during its installation.
export ONNXRUNTIME_NODE_INSTALL := skip
# GStreamer blocks one thread of Node's pool per open pull.
export UV_THREADPOOL_SIZE ?= 16

STAMPS := .work/stamps
SOURCES := $(shell find src test bench demo models -type f -not -path '*/__pycache__/*' 2>/dev/null)
ARGS ?=

.PHONY: run test test-tfjs check build fuzz clean distclean help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  /p' Makefile | expand -t 18

run: $(STAMPS)/apt-run dist/.stamp ## set up, build and start Sightline with the demonstration channel
	@exec node dist/src/cli/main.js serve --demo $(ARGS)

test: $(STAMPS)/apt-run $(STAMPS)/apt-test dist/.stamp ## set up, build, lint and run all tests (FILES=part-of-a-path runs some)
	@npx --no-install biome check .
	@node dist/test/run.js $(FILES)

test-tfjs: $(STAMPS)/apt-run dist/.stamp ## prepare tfjs-node in .work/tfjs (1.6 GB, built against TensorFlow's Python wheel) and run the engines' tests
	@scripts/tfjs-setup.sh
	@node dist/test/run.js test/model/engines

build: $(STAMPS)/apt-run dist/.stamp ## set up and compile into dist/

fuzz: $(STAMPS)/apt-run dist/.stamp ## the parsers' tests with ten times as many mutations (FUZZ_TIMES=n sets the factor)
	@FUZZ_TIMES=$${FUZZ_TIMES:-10} node dist/test/run.js --limit-seconds 3600 test/transport test/gateway

clean: ## remove what the build made
	rm -rf dist coverage $(STAMPS)

check: dist/.stamp ## lint and types
	@npm run --silent check

distclean: clean ## also remove node_modules and .work
	rm -rf node_modules .work

# The stamps are there to make second runs quick: apt is asked once per package list, npm once per lock file, tsc once per change.
$(STAMPS)/apt-%: scripts/apt-packages.txt scripts/apt-install.sh
	@scripts/apt-install.sh $*
	@mkdir -p $(@D) && touch $@

$(STAMPS)/node: scripts/node-setup.sh
	@scripts/node-setup.sh
	@mkdir -p $(@D) && touch $@

# A second make sees the headers of a Node.js that the first one has just fetched (npm_config_nodedir above).
node_modules/.stamp: package.json package-lock.json | $(STAMPS)/apt-run $(STAMPS)/node
	@if [ -d .work/node/include ] && [ -z "$${npm_config_nodedir:-}" ]; then export npm_config_nodedir="$(CURDIR)/.work/node"; fi; \
	  npm ci --no-audit --no-fund
	@test -e node_modules/gstreamer-superficial/build/Release/gstreamer-superficial.node \
	  || { echo "the GStreamer addon (an optional dependency of npm's) was not built; npm ci --foreground-scripts shows why" >&2; exit 1; }
	@touch $@

dist/.stamp: node_modules/.stamp $(SOURCES) package.json tsconfig.json
	@npm run --silent build
	@touch $@

# V3M. The two commands: `make run` boots a Debian kernel under our VMM, `make test` runs all tests.
# Both install what is missing first; `make build` only builds.
SHELL := /bin/bash
export PATH := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/v3m/node/bin:$(PATH)
JOBS := $(shell nproc)

.PHONY: run build test test-full native firmware noise bypass netbench programs ts setup-run setup-test lint format bench clean

run: setup-run build
	node dist/examples/first-run.js

build: native firmware noise bypass netbench ts

native:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C native release
firmware:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C firmware
noise:
	@$(MAKE) --no-print-directory -s -C src/noise
bypass:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C bypass
netbench:
	@$(MAKE) --no-print-directory -s -C src/netbench/program
programs:
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C test/programs
ts:
	@scripts/build-ts

setup-run:
	@scripts/setup run
setup-test:
	@scripts/setup test

test: setup-test build programs
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C native asan fuzz
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C firmware/lwk/test
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C bypass tests
	scripts/test
test-full: setup-test build programs
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C native asan fuzz
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C firmware/lwk/test
	@$(MAKE) --no-print-directory -s -j$(JOBS) -C bypass tests
	V3M_TEST_FULL=1 scripts/test

lint:
	npx biome check .
	npx tsc --noEmit -p tsconfig.json
	$(MAKE) -C native format-check tidy
	$(MAKE) -C firmware/lwk format-check
	$(MAKE) -C bypass format-check tidy
	$(MAKE) -C src/netbench/program format-check tidy
format:
	npx biome check --write .
	$(MAKE) -C native format
	$(MAKE) -C firmware/lwk format
	$(MAKE) -C bypass format
	$(MAKE) -C src/netbench/program format

bench: build
	node dist/bench/boot.js
	node dist/bench/exit.js
	@$(MAKE) --no-print-directory -s -C test/programs bench
	node dist/bench/lwk.js

clean:
	rm -rf dist results
	$(MAKE) -C native clean
	$(MAKE) -C firmware clean
	$(MAKE) -C src/noise clean
	$(MAKE) -C bypass clean
	$(MAKE) -C src/netbench/program clean
	$(MAKE) -C test/programs clean

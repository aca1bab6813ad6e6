# The commands of this project. `make` alone prints the menu.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
DIR    ?= repositories
BIND   ?= 127.0.0.1:8000

# What `make twins` runs: tests/kernels asks both by itself, and what is not named asks no kernel (tests/kernels/test_choice.py).
TWINS ?= $(addprefix tests/,archive graph library odb pack refs repo service web test_cli.py) \
         $(addprefix compat/test_,fetch.py partial.py push.py shallow.py)

.DEFAULT_GOAL := help
.PHONY: twins bench-reads bench-connections bench-fetching help setup serve test check format lint types layers tests compat bench torture mutations row-mutations bench-durability real-repos conformance fuzz fuzz-sanitized fuzz-coverage fuzz-http properties clean bench-check bench-growth bench-limits

help: ## print this menu
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

KERNELS = setup.py $(wildcard govc/kernels/*.pyx govc/kernels/*.pxd govc/kernels/*.h)

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip setuptools wheel Cython
	GOVC_BUILD=python $(BIN)/python -m pip install -qq -e . --no-build-isolation
	@touch $@

$(VENV)/.kernels: $(VENV)/.installed $(KERNELS)
	@touch $@.begun # a source that changes while they are compiled is newer than they are
	$(BIN)/python setup.py -q build_ext --inplace
	@mv $@.begun $@

$(VENV)/.installed-test: $(VENV)/.installed
	GOVC_BUILD=python $(BIN)/python -m pip install -qq -e '.[test]' --no-build-isolation
	@touch $@

setup: $(VENV)/.installed-test $(VENV)/.kernels ## create the environment with everything that the tests need

serve: $(VENV)/.installed $(VENV)/.kernels ## serve the folder DIR (repositories/) on BIND, with a first repository when it is empty
	$(BIN)/govc serve $(DIR) --bind $(BIND) --first-repository

test: setup ## install what is needed and run every test, lint, types and layers
	sh compat/install.sh
	$(MAKE) --no-print-directory lint types layers
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup tests compat
	$(MAKE) --no-print-directory twins

check: format test ## format, lint, types, layers, tests

format: setup ## format the sources
	$(BIN)/ruff format protocol govc tests compat bench

lint: setup ## format check and lint
	$(BIN)/ruff format --check protocol govc tests compat bench
	$(BIN)/ruff check protocol govc tests compat bench

types: setup ## mypy --strict
	$(BIN)/mypy

layers: setup ## the arrows between the rooms
	$(BIN)/lint-imports --no-cache

tests: setup ## the fast tests only (no server, no clients)
	$(BIN)/python -m pytest -q tests

twins: setup ## with no compiled kernel, as without a compiler: every room that asks one, and the wire; TWINS=tests: all fast tests
	sh compat/install.sh
	GOVC_KERNELS=python GOVC_COMPAT_FRONTENDS=gunicorn $(BIN)/python -m pytest -q -n 2 --dist loadgroup $(TWINS)

compat: setup ## the scenarios with real clients against real servers
	sh compat/install.sh
	$(BIN)/python -m pytest -q compat

bench: setup ## ROWS=1,4 BENCH_REPOS="NAME=PATH .." KEEP=FOLDER PATIENCE=3: every row of the table beside its peers; writes bench/RESULTS.md (some ROWS alone are printed only); RESUME=1: of a run in KEEP
	sh compat/install.sh
	$(BIN)/python -m bench $(if $(ROWS),--rows $(ROWS)) $(if $(PATIENCE),--patience $(PATIENCE)) $(if $(KEEP),--keep $(KEEP)) $(if $(RESUME),--resume) $(BENCH_REPOS)

bench-check: setup ## has anything become slower than what bench/check.json records? Names it, in about a minute
	$(BIN)/python -m bench.check

bench-limits: setup ## PACKS="NAME=REPOSITORY ..": what no server does faster on this machine; writes bench/LIMITS.md
	$(BIN)/python -m bench.limits $(PACKS)

bench-growth: setup ## how costs grow, as pictures in docs/growth/ (needs pip install 'govc[bench]')
	sh compat/install.sh
	$(BIN)/python -m pip install -qq -e '.[bench]' --no-build-isolation
	$(BIN)/python -m bench.growth

torture: setup ## SECONDS=120 SEED=n: real clients while servers are killed, plain git beside
	$(BIN)/python -m compat.torture $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

mutations: setup ## break the log's rules one by one: does a test notice each?
	$(BIN)/python -m tests.simulation.mutations

row-mutations: setup ## break sixty rows of docs/conformance.md one by one: does a test notice each?
	$(BIN)/python -m tests.conformance.mutations

bench-durability: setup ## what a durable push costs, beside git-http-backend; writes bench/DURABILITY.md
	sh compat/install.sh
	$(BIN)/python -m bench.durability

bench-connections: setup ## 10,000 connections at once: idle ones, slow readers, working ones; writes bench/CONNECTIONS.md
	$(BIN)/python -m bench.connections --write

bench-fetching: setup ## REPOS="NAME=PATH ..": one fetch request, in process, beside git http-backend with the same bytes
	$(BIN)/python -m bench.fetching $(REPOS)

bench-reads: setup ## REPOS="NAME=PATH ..": reads through the library, beside libgit2; writes bench/READS.md
	$(BIN)/python -m bench.reads $(REPOS)

real-repos: setup ## REPOS="a.git b.git": clone, fetch and push real repositories; writes compat/RESULTS.md
	$(BIN)/python -m compat.real_repositories $(REPOS)

conformance: setup ## fill in the tests' column of docs/conformance.md from their markers
	$(BIN)/python -m tests.conformance.table

fuzz: setup ## MINUTES=5 SEED=n: hostile inputs for every parser (docs/fuzzing.md)
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

fuzz-sanitized: setup ## MINUTES=5 SEED=n: the same for the compiled kernels, built with address and undefined-behaviour checks
	$(BIN)/python -m tests.fuzz --sanitized --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

fuzz-coverage: setup ## INPUTS=3000: which branches of each parser the fuzzers reach
	$(BIN)/python -m tests.fuzz --coverage $(or $(INPUTS),3000) --seed $(or $(SEED),1)

fuzz-http: setup ## MINUTES=5 SEED=n: mutated requests to govc and to git http-backend, whose answers must agree
	$(BIN)/python -m compat.differential --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

properties: setup ## the properties with a long random profile
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -q -p no:randomly tests -k "property or arbitrary or any_split or random"

clean: ## remove the environment and what the tools left
	rm -f govc/kernels/*.so govc/kernels/*_c.c
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

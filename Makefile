.DEFAULT_GOAL := help
.PHONY: help install run test soak check check-speed format bench bench-long lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TWO_AT_A_TIME := --numprocesses 2 --dist worksteal
BENCH := $(or $(TIERGATE_BENCH),../shared/bench)

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.runtime: requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

install: $(VENV)/.development ## everything locked into .venv, for development

run: $(VENV)/.runtime ## start the gateway on 127.0.0.1:4000 with the embedded store and the sandbox provider
	@exec $(BIN)/tiergate serve

test: install ## the whole test suite, two tests at a time: most of them wait
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

soak: install ## faults and overload at length: gateways killed under 10,000 requests, three times the load for a minute
	TIERGATE_SOAK=1 $(BIN)/python -m pytest tests/faults tests/live/test_hostile_catalog.py

check: install ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

check-speed: install ## the micro-benchmarks against the last release's
	$(BIN)/python -m benchmarks.check_regression

format: install ## format the code and sort imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## measure speed: pieces of work, the whole gateway, and beside reference stacks; some ten minutes
	$(BIN)/python -m benchmarks.micro_chat
	$(BIN)/python -m benchmarks.micro_routing
	$(BIN)/python -m benchmarks.micro_catalog
	$(BIN)/python -m benchmarks.micro_pieces
	$(BIN)/python -m benchmarks.micro_engine
	$(BIN)/python -m benchmarks.micro_ledger
	@if test -x "$(BENCH)/run.sh"; then export TIERGATE_BENCH="$(BENCH)"; \
	$(BIN)/python -m benchmarks.whole $(if $(LONG),--long) && \
	$(BIN)/python -m benchmarks.side_by_side $(if $(LONG),,--reps 1 --scale 0.5 --retries 0); \
	else echo "no bench at $(BENCH): set TIERGATE_BENCH to measure beside the reference stacks"; fi

bench-long: ## the same at length, with a soak of twenty minutes
	$(MAKE) bench LONG=1

# Extras are kept: older pip takes a pin without them for another package, and wants the newest release of that.
lock: ## resolve the dependencies anew into the lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --no-strip-extras pyproject.toml --group build -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --no-strip-extras pyproject.toml --group build --group dev -c requirements.lock -o requirements-dev.lock

clean: ## remove what can be made again; data/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

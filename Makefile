# The README's commands. Each does its own set-up: Python >= 3.10, make and git are all it needs.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
OLDEST := .venv-oldest
BIN := $(VENV)/bin
# What depends on the versions of FastAPI and PyMongo.
OLDEST_TESTS := tests/conformance tests/instrumentation tests/zero_code tests/health/test_database.py \
	tests/integration/test_mongodb.py tests/integration/test_service.py tests/integration/test_end_to_end.py \
	tests/integration/test_documented.py tests/integration/test_zero_code.py tests/status_page
TESTS := tests --ignore tests/benchmarks
# Tests wait for processes and servers: two for each core keep the cores busy. Those without servers wait for threads
# and time limits: three for two cores.
CORES := $$($(PYTHON) -c 'import os; print(os.cpu_count())')
WORKERS := $$((2 * $(CORES)))
UNIT_WORKERS := $$((3 * $(CORES) / 2))
# What is tried while writing; one file: make unit UNIT=tests/redact
UNIT := $(TESTS) --ignore tests/integration --ignore tests/conformance
PIP_FLAGS := --quiet --disable-pip-version-check
# Every process that a test starts would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo flow unit test dashboards registry package matrix lint bench bench-quick bench-collector collector clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, e.g.: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

$(OLDEST)/.ready: pyproject.toml tests/constraints-oldest.txt
	@echo "Setting up $(OLDEST) (once) ..."
	@$(PYTHON) -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install $(PIP_FLAGS) -c tests/constraints-oldest.txt -e '.[test]'
	@touch $@

demo: $(VENV)/.ready ## run the example delivery API under traffic on PORT (8000)
	@PORT=$(PORT) $(BIN)/python -m examples.earlybird.demo

flow: $(VENV)/.ready ## follow one order of the example through four processes, as they export it
	@$(BIN)/python -m examples.earlybird.flow

lint: $(VENV)/.ready ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

unit: $(VENV)/.ready ## while writing: no servers, under a minute
	@$(BIN)/python -m pytest -q -n $(UNIT_WORKERS) --dist worksteal --hypothesis-profile quick -m 'not integration and not slow' $(UNIT)

test: lint $(OLDEST)/.ready ## everything CI runs
	@$(BIN)/python -m tests.integration.builds all
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=20 $(TESTS)
	@$(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal --durations=20 $(OLDEST_TESTS)

dashboards: $(VENV)/.ready ## build the Grafana dashboards that the package ships (Python >= 3.11)
	@$(BIN)/python -m tests.dashboards
	@$(BIN)/otel-monitoring export all --out collector-config

registry: $(VENV)/.ready ## write the tables of docs/metrics.md from docs/registry
	@$(BIN)/python -m tests.registry

package: $(VENV)/.ready ## build the sdist and the wheel into dist/ and check them
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation
	@$(BIN)/twine check --strict dist/*

matrix: $(VENV)/.ready ## try every Python and releases of FastAPI and PyMongo (40 minutes; ROWS="3.13 0.142.4")
	@$(BIN)/python -m tests.matrix $(ROWS)

bench: $(VENV)/.ready ## measure what everything costs, beside peers in environments of their own, and the goals (three quarters of an hour)
	@$(BIN)/python -m tests.benchmarks

bench-quick: $(VENV)/.ready ## the same in small, in less than 3 minutes, before each merge: fails where a goal is far
	@$(BIN)/python -m tests.benchmarks --quick

bench-collector: $(VENV)/.ready ## the throughput of collector-config/ beside a bare Collector
	@$(PYTHON) -m tests.integration.builds collector >/dev/null
	@$(BIN)/python -m tests.benchmarks --sections collector

collector: ## build the OpenTelemetry Collector for collector-config/ (needs Go); prints its path
	@$(PYTHON) -m tests.integration.builds collector

clean: ## remove the environments and caches of this checkout
	@rm -rf $(VENV) $(OLDEST) .mypy_cache .pytest_cache .ruff_cache .hypothesis

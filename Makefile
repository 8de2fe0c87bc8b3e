# `make demo` and `make test` are all a newcomer needs; both set up what is missing and are quick when run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check lint serve bench fuzz starter-scores clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("modelshelf needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## the whole product on the starter models: install, list, generate; leaves demo-output/contact-sheet.png
	$(BIN)/python -m tests.demo

# The order of the tests is drawn from it: the same each time, so that a failure can be seen again, and another now and then.
SEED ?= 26

test: $(READY)  ## every test, in the order of SEED=26; another order now and then: make test SEED=$$RANDOM
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --randomly-seed=$(SEED)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## lint, types, import directions, every test

bench: $(READY)  ## every benchmark that needs no download; one by name: .venv/bin/python -m tests.benchmarks catalog
	$(BIN)/python -m tests.benchmarks

$(VENV)/.fuzz: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

SECONDS ?= 60
fuzz: $(VENV)/.fuzz  ## fuzzes the probe of files for SECONDS (60) seconds
	$(BIN)/python -m tests.probes.fuzz -max_total_time=$(SECONDS)

serve: $(READY)  ## the service on http://127.0.0.1:8420
	$(BIN)/modelshelf serve

starter-scores: $(READY)  ## score the starter models on the held-out prompts
	$(BIN)/python -m tests.starter.scores

clean:
	rm -rf $(VENV) demo-output

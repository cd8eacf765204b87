# Everything from an empty clone, on a machine with python3 (3.11 or later) and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := out/demo

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types docs pins clean

help:
	@echo "make demo   replay a built-in day, recorded and by the rules, and question both in SQL"
	@echo "make test   run the tests"
	@echo "make lint   check style"
	@echo "make types  check types"
	@echo "make docs   write the reference pages anew from the code"
	@echo "make clean  remove the environment, caches and out/"

install: $(STAMP)

$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("replay needs Python 3.11 or later; try make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP)
	$(BIN)/replay import scenario datasets/demo-squeeze/scenario.toml --out $(DEMO)/tape --force
	$(BIN)/replay check $(DEMO)/tape
	$(BIN)/replay run $(DEMO)/tape --rules hyperliquid@2023-02 --out $(DEMO)/recorded --force
	$(BIN)/replay sql $(DEMO)/recorded --query liquidation-audit
	$(BIN)/replay run $(DEMO)/tape --rules hyperliquid@2023-02 --liquidations rules --out $(DEMO)/ruled --force
	$(BIN)/replay sql $(DEMO)/ruled --query liquidation-misses
	$(BIN)/replay sql $(DEMO)/ruled --query engagements
	$(BIN)/replay sql $(DEMO)/ruled --query liquidation-misses --out $(DEMO)/misses.csv --force
	@echo
	@echo "The tape is in $(DEMO)/tape, the runs in $(DEMO)/recorded and $(DEMO)/ruled, a table in $(DEMO)/misses.csv."
	@echo "Ask them more: $(BIN)/replay sql $(DEMO)/ruled --list"

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python docs/generate.py

# Pins are chosen anew from pyproject.toml; `uv` has to be installed for it.
pins:
	printf 'hatchling>=1.27\neditables\n' | uv pip compile pyproject.toml - --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command 'make pins' \
		--upgrade --quiet --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find replay tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Everything from an empty clone, on a machine with python3 (3.11 or later) and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := out/demo

.DEFAULT_GOAL := help
.PHONY: help install demo test bench lint types docs pins clean

help:
	@echo "make demo   replay a crash day under the rules of two exchanges: numbers side by side, and a report of each"
	@echo "make test   run the tests"
	@echo "make bench  measure: the loop against the bare scan, a cascade through the waterfall"
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
	$(BIN)/replay import demo-crash datasets/demo-crash/dataset.toml --out $(DEMO)/crash --force
	$(BIN)/replay check $(DEMO)/crash
	$(BIN)/replay run $(DEMO)/crash --rules hyperliquid@2025-10-10 --liquidations rules --out $(DEMO)/hyperliquid --force
	$(BIN)/replay run $(DEMO)/crash --rules bybit@2025-09-23 --liquidations rules --out $(DEMO)/bybit --force
	$(BIN)/replay run $(DEMO)/crash --rules bybit@2025-09-23 --liquidations rules \
		--add datasets/demo-crash/own-hedge.toml --out $(DEMO)/hedge --force
	$(BIN)/replay sql $(DEMO)/hyperliquid --query waterfall-split
	$(BIN)/replay sql $(DEMO)/bybit --query waterfall-split
	@for run in hyperliquid bybit; do \
		$(BIN)/replay sql $(DEMO)/$$run --query waterfall-split --out $(DEMO)/$$run.parquet --force || exit 1; done
	$(BIN)/replay sql $(DEMO)/hyperliquid - < datasets/demo-crash/side-by-side.sql
	$(BIN)/replay report $(DEMO)/hyperliquid --tape $(DEMO)/crash --out $(DEMO)/hyperliquid.html --force
	$(BIN)/replay report $(DEMO)/bybit --tape $(DEMO)/crash --out $(DEMO)/bybit.html --force
	@echo
	@echo "Would my hedge have been closed under the rules of bybit? (datasets/demo-crash/own-hedge.toml)"
	$(BIN)/replay explain $(DEMO)/hedge --account "my hedge"
	@echo
	@echo "Look at the day under each rule book: open $(DEMO)/hyperliquid.html and $(DEMO)/bybit.html in a browser."
	@echo "The tape is in $(DEMO)/crash, the runs in $(DEMO)/hyperliquid and $(DEMO)/bybit."
	@echo "Ask them more: $(BIN)/replay sql $(DEMO)/hyperliquid --list"

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 $(ARGS)

# Sizes by BENCH_FILLS; see docs/benchmarks.md for the runs beside peers.
bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks -q --benchmark-columns=min,median,max,rounds $(ARGS)

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

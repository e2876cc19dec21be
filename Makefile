# Every habit is one word here. `make` alone lists them.
# PYTHON makes the virtual environment: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format lint types wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with the package, editable, and the tools; the other targets do it when needed

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is too old: Python 3.10 or newer is needed; make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install ## a whole run on scikit-learn's digits, nothing to download: a table and runs/digits/seed_0/report/curve.png
	$(BIN)/python -m assl_lightning

test: install ## the tests: minutes on two CPU cores
	$(BIN)/python -m pytest

test-slow: install ## the tests that take longer or need data that is not in the package
	$(BIN)/python -m pytest -m slow

check: lint types ## what the continuous integration asks of the code, beside the tests

format: install ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## format and habits, changed nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy --strict
	$(BIN)/mypy

wheel: install ## dist/*.whl, made from the sdist
	$(BIN)/python -m build

clean: ## caches and built files; .venv and runs stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

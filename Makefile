# Every habit is one word here. `make` alone lists them.
# PYTHON makes the virtual environment: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format lint types wheel compare-digits compare-fashion-mnist clean

RUN := $(BIN)/python -m assl_lightning
REPORT := $(BIN)/python -m assl_lightning.report

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

compare-digits: install ## the README's digits table and figure: 40 runs, about 40 minutes
	$(RUN) -m +experiment=digits_supervised 'seed=range(10)' 'run_dir=runs/compare_digits/supervised/seed_$${seed}'
	$(RUN) -m acquisition=random,assl,assl_div 'seed=range(10)' 'run_dir=runs/compare_digits/$${acquisition.name}/seed_$${seed}'
	$(REPORT) runs/compare_digits --title "Digits: test accuracy against labels"
	cp runs/compare_digits/report/curves.png docs/figures/digits.png

compare-fashion-mnist: install ## the README's Fashion-MNIST table and figure: 6 runs, about 40 minutes
	$(RUN) -m +experiment=fashion_mnist acquisition=random,assl seed=0,1,2 \
		'run_dir=runs/compare_fashion_mnist/$${acquisition.name}/seed_$${seed}'
	$(REPORT) runs/compare_fashion_mnist --title "Fashion-MNIST: test accuracy against labels"
	cp runs/compare_fashion_mnist/report/curves.png docs/figures/fashion_mnist.png

clean: ## caches and built files; .venv and runs stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

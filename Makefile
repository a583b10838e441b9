# make demo: the main job on real data. make fast: what one runs while working. make test: the
# suite. make wheel: the installed package, outside the checkout. make bench: speed beside PyTorch.
# Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := elpv,weights,timm,report,tensorboard,onednn
# Files of tests that take long; `make fast` runs the others.
LONG := analysis augment base benchmarks checkpoint cli_data cli_describe cli_disk \
	cli_layer_probes cli_layer_transfer cli_look cli_predict cli_resume cli_score_vs_accuracy \
	cli_similarity compilations cores door frozen language layer_transfer methods models \
	objectives ops parallel parity probes probes_protocol switch together train

.PHONY: demo fast test test-all wheel bench lint clean

demo: .venv/demo
	$(BIN)/python -m experiments.transfer --config=configs/demo.py --workdir=runs/demo

fast: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist worksteal \
		$(filter-out $(LONG:%=tests/test_%.py),$(wildcard tests/test_*.py))

test: .venv/dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: .venv/dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

# The README's first block, run by the installed wheel in an environment and a folder of its own.
wheel: .venv/dev
	$(BIN)/python -m tests.wheel --python=$(PYTHON)

bench: .venv/bench
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.flagship --json=runs/flagship.json
	$(BIN)/python -m benchmarks.cached
	$(BIN)/python -m benchmarks.together
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.augment
	$(BIN)/python -m benchmarks.frozen
	$(BIN)/python -m benchmarks.ops
	$(BIN)/python -m benchmarks.start

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/pyrefly check

# The stamps are written last, so that a broken installation is done again.
.venv/demo: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

.venv/dev: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@ .venv/demo

.venv/bench: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv build *.egg-info

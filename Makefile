# make demo: the main job on real data. make study DATA=my_photos/: what to do with your own images
# (QUICK=1 in minutes). make fast: what one runs while working. make test: the
# suite. make wheel: the installed package, outside the checkout. make bench: speed beside PyTorch.
# make bench-gpu: one table of a GPU in ten minutes. make docs: the documentation's site, into
# build/docs. make lab: its notebook, run at a small size. make test-newest: the suite with the
# newest packages that setup.py allows, on Python 3.13. Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
# The newest Python that is supported: on the PATH, or one of pyenv's.
NEWEST ?= $(shell { python3.13 -c 'import sys; print(sys.executable)' || \
	ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.13*/bin/python; } 2>/dev/null | tail -n 1)
EXTRAS := elpv,weights,timm,text,report,tensorboard,onednn
# Files of tests that take long; `make fast` runs the others.
LONG := audit augment base benchmarks checkpoint cli_audit cli_data cli_describe cli_disk \
	cli_layer_probes cli_layer_transfer cli_look cli_predict cli_resume \
	cli_score_vs_accuracy cli_similarity captions compilations cores describe door frozen language \
	layer_transfer methods models objectives ops parallel parity probes probes_protocol \
	card names publish serve stablehlo link outside processes reliability \
	switch together train adapt adaptation distil few_shot grow growth language_runs languages \
	detectors multitask own_images pretrain scenarios self_supervised semi_supervised simulation source_head \
	subwords text text_studies words_study

.PHONY: demo study fast test test-all test-newest wheel bench bench-gpu lint docs lab clean

demo: .venv/demo
	$(BIN)/python -m experiments.transfer --config=configs/demo.py --workdir=runs/demo

study: .venv/demo
	@test -n "$(DATA)" || { echo "which images? make study DATA=my_photos/" >&2; exit 2; }
	$(BIN)/python -m experiments.study "$(DATA)" $(if $(QUICK),--quick)

fast: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist worksteal \
		$(filter-out $(LONG:%=tests/test_%.py),$(wildcard tests/test_*.py))

# Most of the suite's time is compiling: here with few optimizations, in `test-all` with all.
test: .venv/dev lint
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-all: .venv/dev lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

test-newest: .venv-newest/dev
	.venv-newest/bin/python -m pytest -n 2 --dist worksteal

# The README's first block, run by the installed wheel in an environment and a folder of its own.
wheel: .venv/dev
	$(BIN)/python -m tests.wheel --python=$(PYTHON)

# Offline once it is set up; whatever Sphinx warns of is an error, a link into nothing too.
docs: lab
	$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs

# The notebook at a small size, in about a minute. `make lab SMALL=` runs it in full, and keeps what it
# shows in docs/lab.ipynb.
SMALL ?= 1
lab: .venv/docs
	rm -rf build/lab/runs
	mkdir -p build/lab
	$(BIN)/jupytext --quiet --to ipynb --output build/lab/lab.ipynb docs/lab.md
	SMALL=$(SMALL) $(BIN)/jupyter-execute --inplace build/lab/lab.ipynb
	$(if $(SMALL),,cp build/lab/lab.ipynb docs/lab.ipynb)

bench: .venv/bench
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.flagship --json=runs/flagship.json
	$(BIN)/python -m benchmarks.cached
	$(BIN)/python -m benchmarks.together
	$(BIN)/python -m benchmarks.adaptations
	$(BIN)/python -m benchmarks.objectives
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.augment
	$(BIN)/python -m benchmarks.frozen
	$(BIN)/python -m benchmarks.ops
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.winograd
	$(BIN)/python -m benchmarks.depthwise
	$(BIN)/python -m benchmarks.probes
	$(BIN)/python -m benchmarks.scenarios
	$(BIN)/python -m benchmarks.language
	$(BIN)/python -m benchmarks.words
	$(BIN)/python -m benchmarks.words_judged

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

.venv-newest/dev: setup.py
	@test -n "$(NEWEST)" || { echo "make test-newest needs a python3.13: on the PATH, or pyenv install 3.13" >&2; exit 1; }
	test -x .venv-newest/bin/python || $(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy=eager -e ".[dev]"
	touch $@

# On a machine with an NVIDIA GPU.
bench-gpu: .venv/bench
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "jax[cuda12]"
	$(BIN)/python -m benchmarks.gpu

.venv/bench: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench,$(EXTRAS)]"
	touch $@

.venv/docs: setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv .venv-newest build *.egg-info

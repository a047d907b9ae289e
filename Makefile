# make run     set up .venv and train the default recipe on the small dataset
# make test    the test suite
# make slow    the tests that take minutes
# make lint    ruff and mypy
# make docs    the documentation with its tutorials, in docs/_build/html; make pages leaves tutorials unexecuted
# make bench   speed of the spectral layer against others, of a step's parts, and seconds to quality; in an environment of its own

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt

BENCH_PIP := .venv-bench/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt

# A machine without a GPU needs only the CPU build of torch, a tenth of the download.
CPU_TORCH := --extra-index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 10
TORCH_OPTIONS ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || echo "$(CPU_TORCH)")

.PHONY: run test slow lint docs pages bench clean

run: $(READY)
	$(BIN)/python -m ptychofno.train

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going -j auto docs docs/_build/html

pages: $(READY)
	$(BIN)/python -m sphinx -q -W --keep-going -D nb_execution_mode=off -D suppress_warnings=myst-nb.lexer docs docs/_build/pages

# neuraloperator brings packages that nothing else here needs.
bench: .venv-bench/.ready
	.venv-bench/bin/python experiments/bench/bench.py
	.venv-bench/bin/python experiments/bench/spent.py
	mkdir -p outputs/bench
	.venv-bench/bin/python experiments/seconds/seconds.py outputs/bench/seconds.csv outputs/bench/seconds.png

.venv-bench/.ready: pyproject.toml constraints.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	$(BENCH_PIP) --quiet $(TORCH_OPTIONS) torch || $(BENCH_PIP) --quiet torch
	$(BENCH_PIP) --quiet --editable '.[bench]'
	touch $@

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --quiet $(TORCH_OPTIONS) torch || $(PIP) --quiet torch
	$(PIP) --quiet --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv .venv-bench build dist docs/_build docs/reference docs/findings src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

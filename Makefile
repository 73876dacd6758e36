# make demo       the whole chain on the synthetic clinic, from a fresh machine
# make test       the tests, from a fresh machine
# make torture    the long fault and attack tests
# make benchmarks the ratios of docs/benchmarks.md (long)
# make docs       docs/cli.md from the real help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMNIFUSE_TEST_DATA ?= $(realpath ../shared/data)

.PHONY: demo test torture benchmarks docs lint clean

$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/.installed
	rm -rf demo-workspace
	$(BIN)/omnifuse demo demo-workspace

test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not torture and not slow" --numprocesses auto --dist loadfile

torture: $(VENV)/.installed
	$(BIN)/python -m pytest -m "torture or slow"

docs: $(VENV)/.installed
	$(BIN)/python docs/make_cli.py

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/make_cli.py --check

clean:
	rm -rf $(VENV) .venv-wheel build dist demo-workspace *.egg-info

# make demo    install into .venv and run the main job: label, train, evaluate, molecular dynamics
# make test    install everything that CI needs, then lint, type-check and test
# make lint | types | wheel | clean
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the environment. Both are left alone once installed, until
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
INSTALLED := $(CURDIR)/build/installed

# Bytecode is written when a module is first imported, not for all of torch at once: this halves the installation.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile --prefer-binary
OFFLINE := --no-deps --no-build-isolation

.PHONY: help demo test lint types wheel clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo
	$(BIN)/sciml demo

# One process per core is faster than threads on the small tensors of tests, and its sums are reproducible. The tests
# of a file stay in one process, so that what they share is made once.
test: export OMP_NUM_THREADS = 1
test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy cannot see sciml.potentials through the mapping of folders in pyproject.toml: it gets a real copy.
types: $(INSTALLED)
	cd $(INSTALLED) && $(BIN)/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p sciml

.PHONY: $(INSTALLED)
$(INSTALLED): $(VENV)/.test
	rm -rf build
	$(PIP_INSTALL) --quiet $(OFFLINE) --target $@ .

wheel: $(VENV)/.test
	rm -rf build
	$(BIN)/python -m pip wheel --disable-pip-version-check $(OFFLINE) --wheel-dir dist .

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) --editable '.[label]' --constraint constraints.txt
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	$(PIP_INSTALL) --editable '.[label,dask,notebook,test]' --constraint constraints.txt
	touch $@ $(VENV)/.demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is missing or older than Python 3.11; name another one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

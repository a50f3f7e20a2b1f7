# Everything runs in virtual environments made here. Paths are relative, so the checkout's own path may hold spaces.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
PAGES ?=

# The tests start some hundreds of Python processes: each would compile every module it imports, anew.
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
LINT_VENV := .venv-lint
SLITHER_VENV := .venv-slither
PACKAGE_DIRS := src frontend ir passes backends runtime
SOURCES := $(shell find $(PACKAGE_DIRS) -type f -not -name '*.pyc')

.PHONY: help demo test test-all bench lint slither format clean

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*##/  make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo-stamp  ## Compile a PyTorch-trained classifier, deploy it on an embedded EVM, check it (no torch needed)
	@$(VENV)/bin/python examples/demo.py

test: $(VENV)/.dev-stamp  ## Run the tests (PYTEST_ARGS='-k name', WORKERS=4)
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

test-all: $(VENV)/.dev-stamp  ## Run those too that cost much and repeat others (CONTRIBUTING.md lists them)
	$(VENV)/bin/python -m pytest --all -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

bench: $(VENV)/.bench-stamp  ## Measure gas, times and memory: writes benchmarks/results.md and others (PAGES='results growth')
	$(VENV)/bin/python -m benchmarks --workers $(WORKERS) $(PAGES)

lint: $(LINT_VENV)/.package-stamp  ## Check style, types and the direction of imports
	$(LINT_VENV)/bin/ruff check .
	$(LINT_VENV)/bin/ruff format --check .
	$(LINT_VENV)/bin/mypy -p ml2sc
	$(LINT_VENV)/bin/lint-imports

slither: $(VENV)/.dev-stamp $(SLITHER_VENV)/.stamp  ## Run slither on emitted contracts
	SLITHER='$(CURDIR)/$(SLITHER_VENV)/bin/slither' $(VENV)/bin/python -m pytest tests/slither $(PYTEST_ARGS)

format: $(LINT_VENV)/.tools-stamp  ## Sort imports and format the code
	$(LINT_VENV)/bin/ruff check --select I --fix .
	$(LINT_VENV)/bin/ruff format .

clean:  ## Remove the virtual environments and everything built
	rm -rf $(VENV) $(LINT_VENV) $(SLITHER_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "ml2sc needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $*

# pyrevm only makes big checks faster and has no wheel for some platforms: go on without it.
$(VENV)/.demo-stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[fast]' \
		|| $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable .
	@touch $@

$(VENV)/.dev-stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	@touch $@ $(VENV)/.demo-stamp

$(VENV)/.bench-stamp: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[bench]'
	@touch $@ $(VENV)/.demo-stamp

# It pins old versions of what ml2sc uses.
$(SLITHER_VENV)/.stamp: | $(SLITHER_VENV)/bin/python
	$(SLITHER_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile 'slither-analyzer==0.11.*'
	@touch $@

# mypy and import-linter do not see through an editable install's folder map: they get a plain one.
$(LINT_VENV)/.tools-stamp: pyproject.toml | $(LINT_VENV)/bin/python
	$(LINT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile 'setuptools>=77' '.[lint]'
	@touch $@

# Without build/, which would keep modules that the sources no longer have.
$(LINT_VENV)/.package-stamp: $(LINT_VENV)/.tools-stamp $(SOURCES)
	@rm -rf build
	$(LINT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-build-isolation --no-deps --force-reinstall .
	@rm -rf build
	@touch $@

# Targets run in whatever environment is active; `make install` fills it.
PYTHON ?= python

.PHONY: install test test-slow lint ci

install:
	$(PYTHON) -m pip install -e ".[train,dev]"

test:
	$(PYTHON) -m pytest -m "not slow"

test-slow:
	$(PYTHON) -m pytest

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

ci:
	bash .ci/run

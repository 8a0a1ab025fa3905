# Targets run in whatever environment is active; `make install` fills it.
PYTHON ?= python

BUNDLES ?=

.PHONY: install test test-slow test-arm lint ci

install:
	$(PYTHON) -m pip install -e ".[train,dev]"

test:
	$(PYTHON) -m pytest

test-slow:
	$(PYTHON) -m pytest -m "slow or not slow"

# Needs Debian's debootstrap and qemu-user-static: make test-arm BUNDLES="runs/NAME/export/int8 …"
test-arm:
	PYTHON=$(PYTHON) tests/arm/verify $(BUNDLES)

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

ci:
	bash .ci/run

# Targets run in whatever environment is active; `make install` fills it.
PYTHON ?= python

BUNDLES ?=

# What the API reference shows; a package that says what is public hides its modules.
API = rdi_tf $(addprefix rdi_tf.,attacks calibration compression config costs data early_exit errors evaluation export export.compare \
	export.verify export.write importing latency models network policies reporting thresholds training)

.PHONY: install test test-slow test-arm android figure6 lint docs ci

install:
	$(PYTHON) -m pip install -e ".[train,dev]"

test:
	$(PYTHON) -m pytest -n auto

test-slow:
	$(PYTHON) -m pytest -m "slow or not slow"

# Needs Debian's debootstrap and qemu-user-static: make test-arm BUNDLES="runs/NAME/export/int8 …"
test-arm:
	PYTHON=$(PYTHON) tests/arm/verify $(BUNDLES)

# The demo app, tested and signed: android_demo/target/rdi-demo.apk. Needs Debian packages and Maven; docs/android.md.
android:
	PYTHON=$(PYTHON) android_demo/build.sh

# The paper's Figure 6: hours of training, attacks and times. What is done is not done again; ARGS="--dry-run" says what is left.
figure6:
	$(PYTHON) benchmarks/figure6.py $(ARGS)

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

# docs/commands.md from --help, docs/configuration.md from the dataclasses; the API reference as pages in build/api.
docs:
	mkdir -p build
	$(PYTHON) -m rdi_tf.cli.reference > build/commands.md && mv build/commands.md docs/commands.md
	$(PYTHON) -m rdi_tf.cli.config_reference > build/configuration.md && mv build/configuration.md docs/configuration.md
	$(PYTHON) -m pdoc --docformat google --output-directory build/api $(API)

ci:
	bash .ci/run

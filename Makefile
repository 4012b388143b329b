# One word for each thing to do; every target works on a fresh clone with python3, pip, git and make alone.
PYTHON ?= python3
TRAINER ?= trainers/hyperlpr.py
# Whole files to each worker, in the order of their names, by which the long ones are not last. Three workers on two cores,
# because most tests wait for real processes.
PYTEST ?= -n 3 --dist loadfile --no-loadscope-reorder
BOOT = $(PYTHON) -m supervisor.bootstrap

.PHONY: run test frameworks check lint slow core clean

run:  ## the main job: start or resume the example's run
	$(PYTHON) -m supervisor start $(TRAINER)

test:  ## all tests but the frameworks', in a private environment that makes itself
	$(BOOT) test -m "not frameworks" $(PYTEST)

frameworks:  ## the tests with TensorFlow, Keras, JAX, transformers, Accelerate, Lightning: an environment of 3 GB
	$(BOOT) frameworks -m frameworks $(PYTEST)

check: lint  ## what to run before each commit: lint and the fast tests
	$(BOOT) test -m "not slow and not plates and not network and not frameworks" $(PYTEST)

lint:  ## format, lint, types, layers
	$(BOOT) exec test ruff format --check .
	$(BOOT) exec test ruff check .
	$(BOOT) exec test mypy
	$(BOOT) exec test lint-imports

slow:  ## real processes, real kills, faults
	$(BOOT) test -m "slow and not frameworks" $(PYTEST)

core:  ## the core's tests without torch, on any Python: make core PYTHON=python3.13
	$(BOOT) core -m "not more" -n 2

clean:  ## private environments and caches; runs and checkpoints stay
	rm -rf .supervisor .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

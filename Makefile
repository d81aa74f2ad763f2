# One door: `make check`. Everything runs in .venv, which any target makes when it is missing.
PYTHON ?= python3
BIN := .venv/bin

FUZZ_SECONDS ?= 60

# Two halves of about equal length, side by side; one thread each, so that no thread waits spinning for another.
HALF := tests/service tests/hostile tests/ledger tests/benchmarks tests/worker/pipelines
HALVES := test-half test-other-half
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo install test $(HALVES) check fuzz format

demo: install
	$(BIN)/sanitizer sanitize examples/backdoored-resnet18.safetensors --samples examples/clean-500.zip \
		--triggered examples/triggered-200.npz --out out/demo

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[worker,dev]'
	touch $@

test: install
	$(MAKE) --jobs=2 $(HALVES)

test-half: install
	$(PYTEST) $(HALF)

test-other-half: install
	$(PYTEST) $(HALF:%=--ignore=%)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --jobs=2 $(HALVES)

# Every reader of foreign bytes under a coverage-guided fuzzer, FUZZ_SECONDS each.
fuzz: install
	$(BIN)/pip install --quiet --editable '.[worker,dev,fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.run $(FUZZ_SECONDS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

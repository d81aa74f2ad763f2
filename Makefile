# One door: `make check`. Everything runs in .venv, which any target makes when it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo install test check format

demo: install
	$(BIN)/sanitizer sanitize examples/backdoored-resnet18.safetensors --samples examples/clean-500.zip \
		--triggered examples/triggered-200.npz --out out/demo

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[worker,dev]'
	touch $@

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Everything sets itself up: a virtual environment with the tested versions, then the command.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEARCH_FLAGS ?=

.PHONY: search test unit lint format docs clean

search: $(READY)  ## the main job: NAS-Bench-201 cells on handwritten digits, trained for real
	$(BIN)/lm-searcher run examples/digits.toml $(SEARCH_FLAGS)

test: $(READY)  ## the whole test suite
	$(BIN)/pytest

unit: $(READY)  ## the quick tests
	$(BIN)/pytest -m "not slow"

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## the documentation, as HTML in site/
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) runs site build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

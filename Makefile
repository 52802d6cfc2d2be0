# Everything sets itself up: a virtual environment with the tested versions, then the command.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEARCH_FLAGS ?=
JOBS ?= 2
TEST_FLAGS ?=
PYTEST := $(BIN)/pytest -n $(JOBS) --dist worksteal $(TEST_FLAGS)

.PHONY: install search test unit nightly lint format docs clean

install: $(READY)  ## the virtual environment

search: $(READY)  ## the main job: NAS-Bench-201 cells on handwritten digits, trained for real
	$(BIN)/lm-searcher run examples/digits.toml $(SEARCH_FLAGS)

test: $(READY)  ## all tests but the nightly ones, JOBS at a time
	$(PYTEST)

unit: $(READY)  ## the quick tests
	$(PYTEST) -m "not slow"

nightly: $(READY)  ## all tests, with a thousand random codes for each space
	$(PYTEST) --nightly

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

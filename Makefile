# make demo: everything from nothing to a gallery of restorations. make test: the same set-up and the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m ex5lib demo

test: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "This project needs Python 3.11 or later: make PYTHON=python3.12 demo, say." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e .
	touch $@

clean:
	rm -rf $(VENV) results

# make demo: from a bare clone to a gallery of restorations. make test: the same set-up, then the tests.
# make check: style, types and the core's tests, in a minute. make lint: style and types alone.
# make report: runs the five notebooks and builds one report from them.
# make assignment: writes assignment/: student/, all that students need, without solutions; teacher/, the rest.
# make site: writes site/: the assignment, the notebooks without solutions, the documents, a reference of the library.
# make test-cluster: schedulers and workers on this machine, some of which are killed.
# make test-browser: tests explorer and sliders in the Chromium on this machine (or the one that EX5_CHROMIUM names).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The exact versions that were tested. CONSTRAINTS= takes the newest instead.
CONSTRAINTS ?= constraints.txt

# Two processes of one thread each finish sooner than one of two, and need 6 GB of memory.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# What a change in the networks, the degradations or the search can break.
CORE := $(addprefix tests/test_,ops.py networks.py degradations.py losses.py latents.py adam.py recipes.py projector.py \
	loop.py unknown.py tuning.py repository.py package.py)

.PHONY: demo test check report assignment site test-browser test-cluster lint clean

demo: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m ex5lib demo

test: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(TEST)
	EX5_RECIPE=smoke $(TEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=600 notebooks

report: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m ex5lib report

assignment: $(VENV)/installed
	$(BIN)/python scripts/assignment.py make

site: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) -r requirements-site.txt
	$(BIN)/python -m scripts.website

# Playwright and axe, which looks for what hinders people with disabilities, are not in the requirements: only this
# target uses them, and nobody else should have to download their 50 MB. Another axe would find other things.
test-browser: $(VENV)/installed
	$(BIN)/python -m pip install --disable-pip-version-check "playwright>=1.40" axe-playwright-python==0.1.8
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m pytest tests/browser

test-cluster: $(VENV)/installed
	$(BIN)/python -m ex5lib fetch
	$(BIN)/python -m pytest tests/cluster

check: lint
	$(BIN)/python -m ex5lib fetch
	$(TEST) -m "not slow" $(CORE)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: requirements.txt requirements-dev.txt pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "This project needs Python 3.11 or later. Name one, for example: make PYTHON=python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check $(addprefix -c ,$(CONSTRAINTS)) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) results assignment build site

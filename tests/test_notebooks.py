"""The notebooks as files: what a reader finds in them, and their first cell on Colab. ``nbval`` runs them."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import torch
from packaging.requirements import Requirement

from ex5lib.course.handin import NOTEBOOKS as NAMES

# DESIGN's table of figures, by the names under which the notebooks show them.
FIGURES = {
    "3.1_alignment": {"detection", "square"},
    "3.2_inversion": {"by-hand", "iterations", "losses", "bad-result", "weights", "steps", "eyes", "spaces", "uniform"},
    "3.3.1_deblurring": {"result", "losses", "distances", "weights", "kernel-sizes"},
    "3.3.2_colorization": {"result", "weights", "portrait"},
    "3.3.3_inpainting": {"result", "grid"},
}


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def notebook(name, root) -> nbformat.NotebookNode:
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def _code(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_these_five_and_no_other(root):
    assert sorted(path.stem for path in (root / "notebooks").glob("*.ipynb")) == list(NAMES)


def test_stored_outputs_are_complete_small_and_of_a_real_run(name, notebook, root):
    assert (root / "notebooks" / f"{name}.ipynb").stat().st_size < 4e6
    assert [cell.execution_count for cell in _code(notebook)] == list(range(1, len(_code(notebook)) + 1))
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = {
        output.metadata["ex5lib"]["figure"]
        for output in outputs
        if "figure" in output.get("metadata", {}).get("ex5lib", {})
    }
    assert shown >= FIGURES[name]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    steps = [int(count) for count in re.findall(r": (\d+) steps in", text)]
    assert name == "3.1_alignment" or max(steps) >= 85  # of fast or karras2020; smoke takes 4
    assert not re.search(r"/(root|home|work|tmp|content)/", text)


def test_every_notebook_says_the_same_things_with_every_recipe(notebook):
    """At least three cells whose output nbval compares: they may hold no number that a search decides."""
    checked = [cell for cell in _code(notebook) if "# NBVAL_CHECK_OUTPUT" in cell.source]
    assert len(checked) >= 3
    for cell in checked:
        assert "section.run(" not in cell.source
        assert "check_claim" not in cell.source
        assert "nbgrader" not in cell.metadata or cell.metadata.nbgrader.locked
        assert cell.outputs


def test_parameters_come_first_and_need_no_input(notebook):
    (parameters,) = [cell for cell in _code(notebook) if "parameters" in cell.metadata.get("tags", ())]
    assert parameters is _code(notebook)[1]
    assigned = {node.targets[0].id for node in ast.parse(parameters.source).body}
    assert assigned == {"photo", "generator", "recipe", "device", "out"}


def test_a_notebook_imports_only_the_library_tensors_and_plots(notebook):
    imported = set()
    for cell in _code(notebook)[1:]:  # the first one prepares Colab
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    assert imported <= {"ex5lib", "torch", "numpy", "matplotlib"}


def test_cells_are_short_and_every_figure_is_talked_about(notebook):
    seen = [cell for cell in _code(notebook) if "hide-input" not in cell.metadata.get("tags", ())]
    assert max(len(cell.source.splitlines()) for cell in seen) <= 28
    assert max(len(cell.source.splitlines()) for cell in _code(notebook)) <= 36
    last = max(i for i, cell in enumerate(notebook.cells) if "section.show(" in cell.source)
    assert any(cell.cell_type == "markdown" for cell in notebook.cells[last:])


def test_exercises_are_questions_whose_solutions_are_folded_and_python(notebook):
    exercises = [cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", ())]
    assert len(exercises) >= 3
    for number, cell in enumerate(exercises, start=1):
        assert cell.source.startswith(f"**{number}.** ")
        assert cell.source.count("<details><summary>Solution</summary>") == cell.source.count("</details>") == 1
    solutions = re.findall(r"```python\n(.*?)```", "".join(cell.source for cell in exercises), re.S)
    assert solutions
    for solution in solutions:
        ast.parse(solution)


def test_a_notebook_says_first_what_is_learned_and_last_what_was(notebook):
    first = notebook.cells[0].source
    for words in ("**You will learn**", "**You need**", "**It takes**"):
        assert words in first
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    (summary,) = [text for text in texts if "## Summary" in text]
    assert summary.count("\n- ") >= 3
    assert texts.index(summary) > len(texts) // 2


def test_the_report_is_introduced_before_it_is_cited(notebook):
    """By the sentence that says what it is."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    cited = re.search(r"[Tt]he\s+report\b", text)
    if cited:
        assert text[cited.start() :].startswith("The report.** This exercise comes from a university course.")


def test_plumbing_is_folded_in_jupyter_and_on_colab(notebook):
    """The first cell, checks, and cells that only show or judge what others made."""
    for cell in _code(notebook):
        folded = "hide-input" in cell.metadata.get("tags", ())
        assert folded == bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        assert folded == (cell.metadata.get("cellView") == "form")
        plumbing = ("with check(", "check_claim(", "sweep_html(", "section.finish(", "google.colab")
        if any(word in cell.source for word in plumbing):
            assert folded, cell.source
        if "SOLUTION" in cell.source or "section.run(" in cell.source.replace("half = section.run(", ""):
            assert not folded, cell.source


def test_sliders_and_figures_run_from_less_to_more(notebook):
    for cell in _code(notebook):
        for less, more in re.findall(r'"(÷ \d+)".*?"(× \d+)"', cell.source, re.S):
            assert less[2:] == more[2:]
        assert not re.search(r'"× \d+".*"÷ \d+"', cell.source), cell.source


def test_badge_and_first_cell_have_the_repositorys_address(name, notebook, root):
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    repository = urls["Repository"].removeprefix("https://github.com/")
    badge = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
    assert f"]({badge})" in notebook.cells[0].source
    assert f'REPOSITORY = "{urls["Repository"]}"' in _code(notebook)[0].source
    assert badge in (root / "README.md").read_text(), "run: python scripts/notebooks.py address"


def test_all_notebooks_begin_with_the_same_cells(root):
    heads = set()
    for name in NAMES:
        cells = _code(nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4))
        heads.add((cells[0].source, cells[1].source))
    assert len(heads) == 1


# Runs at the start of every Python that finds it: hides the project, which is installed where the tests run.
HIDE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.path = [path for path in sys.path if path not in ({root!r}, "")]
"""
BEFORE = """
import google.colab, importlib.util, torch
assert importlib.util.find_spec("ex5lib") is None
before = torch.__version__, torch.__file__
"""
AFTER = """
import ipywidgets, ex5lib
assert before == (torch.__version__, torch.__file__)
assert ipywidgets.__version__ == "7.7.1"
assert pathlib.Path("../data/astronaut.png").exists()
print(ex5lib.__file__, os.getcwd(), sep="|")
"""
EXPLORE = """
exploration = ex5lib.explore(ex5lib.load_generator(), torch.zeros(1, 3, 256, 256)).exploration
widget = widget._Widget(exploration)  # in ipywidgets 7, as elsewhere
widget._heard(widget, {"do": "change", "degradation": "blur"}, [])
assert widget.state["choice"]["degradation"] == "blur"
"""


@pytest.fixture
def colab(root, tmp_path) -> dict[str, str]:
    """The environment of a Python that looks like Colab's.

    It can import google.colab, has ipywidgets 7.7 and not ex5lib, and the repository's address leads to this one.
    """
    extra = tmp_path / "site"
    (extra / "google" / "colab").mkdir(parents=True)
    (extra / "google" / "colab" / "__init__.py").write_text("")
    (extra / "sitecustomize.py").write_text(HIDE.format(root=str(root)))
    older = ["ipywidgets==7.7.1", "ipython_genutils"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-t", extra, *older], check=True)
    bare = tmp_path / "origin.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", root, bare], check=True)
    address = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    redirect = {"COUNT": "1", "KEY_0": f"url.{bare.as_uri()}.insteadOf", "VALUE_0": address}
    environment = os.environ | {f"GIT_CONFIG_{name}": value for name, value in redirect.items()}
    return environment | {"PYTHONPATH": str(extra), "PYTHONSAFEPATH": "1"}


def _run(code: str, where: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=where, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_on_colab_the_first_cell_fetches_the_project_once_and_leaves_torch_alone(root, tmp_path, colab):
    first = _code(nbformat.read(root / "notebooks" / "3.2_inversion.ipynb", as_version=4))[0].source
    content = tmp_path / "content"
    content.mkdir()
    clone = content / "gan-inversion"
    expected = f"{clone / 'ex5lib' / '__init__.py'}|{clone / 'notebooks'}"
    told, *_, last = _run(BEFORE + first + AFTER + EXPLORE, content, colab).splitlines()
    assert last == expected
    assert told.startswith("GPU: " if torch.cuda.is_available() else "This runtime has no GPU, so a search")
    # A runtime that was restarted, and the cell run twice: nothing is fetched again.
    offline = colab | {"GIT_CONFIG_VALUE_0": "https://nowhere.invalid"}
    assert _run(BEFORE + first + "\n" + first + AFTER, content, offline).splitlines()[-1] == expected


def test_colab_keeps_its_own_dlib_and_what_it_preinstalls(root):
    spec = importlib.util.spec_from_file_location("colab_script", root / "scripts" / "colab.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = (root / "requirements.txt").read_text()
    everything, without = script.wanted(text, has_dlib=False), script.wanted(text, has_dlib=True)
    assert {line.split(">")[0] for line in set(everything) - set(without)} == {"dlib-bin"}
    assert not any(line.startswith("#") for line in everything)
    has = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (root / ".ci" / "colab-constraints.txt").read_text(), re.M))
    assert {"torch", "numpy", "protobuf", "ipywidgets"} <= set(has)
    for line in without:  # .ci/colab asks pip; this compares the bounds
        requirement = Requirement(line)
        assert requirement.name not in has or has[requirement.name] in requirement.specifier


def test_anywhere_else_the_first_cell_does_nothing(root, tmp_path):
    first = _code(nbformat.read(root / "notebooks" / "3.2_inversion.ipynb", as_version=4))[0].source
    _run(first + "\nassert os.listdir() == []", tmp_path, dict(os.environ))

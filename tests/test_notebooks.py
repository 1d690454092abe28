"""The notebooks as files: what a reader finds in them, and their first cell on Colab. ``nbval`` runs them."""

import ast
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

from ex5lib.course.handin import NOTEBOOKS, OPTIONAL
from scripts import colab as colab_script

NAMES = (*NOTEBOOKS, *OPTIONAL)


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def notebook(name, root) -> nbformat.NotebookNode:
    return nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)


def _code(notebook) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_stored_outputs_are_complete_small_and_of_a_real_run(name, notebook, root):
    assert (root / "notebooks" / f"{name}.ipynb").stat().st_size < 4e6
    assert [cell.execution_count for cell in _code(notebook)] == list(range(1, len(_code(notebook)) + 1))
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = {output.get("metadata", {}).get("ex5lib", {}).get("figure") for output in outputs}
    asked = re.findall(r"section\.show\(\s*\"([\w-]+)\"", "".join(cell.source for cell in _code(notebook)))
    assert set(asked) == shown - {None} != set()
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    steps = [int(count) for count in re.findall(r": (\d+) steps in", text)]
    assert name == "3.1_alignment" or max(steps) >= 85  # of fast or karras2020; smoke takes 4
    assert not re.search(r"/(root|home|work|tmp|content)/", text)


def test_parameters_come_first_and_need_no_input(notebook):
    (parameters,) = [cell for cell in _code(notebook) if "parameters" in cell.metadata.get("tags", ())]
    assert parameters is _code(notebook)[1]
    assigned = {node.targets[0].id for node in ast.parse(parameters.source).body}
    assert assigned == {"photo", "generator", "recipe", "device", "out"}


def test_solutions_of_exercises_are_folded_and_python(name, notebook):
    exercises = [cell.source for cell in notebook.cells if "exercise" in cell.metadata.get("tags", ())]
    assert all(text.count("<details>") == text.count("</details>") == 1 for text in exercises)
    assert name in OPTIONAL or all(
        re.search(r"\*Points\.\* \*\*2\*\*: .+ \*\*1\*\*: .+ \*\*0\*\*: ", text) for text in exercises
    )
    solutions = re.findall(r"```python\n(.*?)```", "".join(exercises), re.S)
    assert solutions
    for solution in solutions:
        ast.parse(solution)


def test_what_a_figure_shows_is_asked_before_it_is_told(notebook):
    seen = [cell.source for cell in notebook.cells if "seen" in cell.metadata.get("tags", ())]
    assert len(seen) >= 3
    for text in seen:
        question, _, rest = text.partition("\n\n<!-- ### BEGIN SOLUTION -->\n")
        assert re.fullmatch(r"\*\*Look\.\*\* .+[?.]", question, re.S)
        assert "?" in question
        assert rest.endswith("\n<!-- ### END SOLUTION -->")


def test_the_badge_opens_this_notebook(name, notebook, root):
    address = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    repository = address.removeprefix("https://github.com/")
    badge = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb"
    assert f"]({badge})" in notebook.cells[0].source
    assert badge in (root / "README.md").read_text(), "run: python scripts/notebooks.py address"


def test_these_are_all_notebooks_and_they_begin_with_the_same_cells(root):
    assert sorted(path.stem for path in (root / "notebooks").glob("*.ipynb")) == list(NAMES)
    codes = [_code(nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)) for name in NAMES]
    assert len({(first.source, second.source) for first, second, *_ in codes}) == 1


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
from ex5lib.explorer.widget import _Widget
G = ex5lib.load_generator("../tests/data/uncond_32.pkl")
widget = _Widget(ex5lib.explore(G, torch.zeros(1, 3, 256, 256)).exploration)  # in ipywidgets 7, as elsewhere
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
    assert ("no GPU" in told) != torch.cuda.is_available()
    # A runtime that was restarted, and the cell run twice: nothing is fetched again.
    offline = colab | {"GIT_CONFIG_VALUE_0": "https://nowhere.invalid"}
    assert _run(BEFORE + first + "\n" + first + AFTER, content, offline).splitlines()[-1] == expected


def test_colab_keeps_its_own_dlib_and_what_it_preinstalls(root):
    lines = (root / "requirements.txt").read_text().splitlines()
    everything, without = (colab_script.wanted(lines, has_dlib) for has_dlib in (False, True))
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

"""Marking a class: right work gets its points however it was written, nothing ends the run, nobody marks himself."""

import csv
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from scripts import assignment

SETUP = "import contextlib\nimport numpy as np\nfrom ex5lib.course import check\nside = 3.0"
AREA = """def area(a, b):
    ### BEGIN SOLUTION
    return a * b
    ### END SOLUTION"""
AREA_CHECK = """with check("area: of a rectangle"):
    assert np.allclose(area(2, side), 6), f"it is {area(2, side)}, not 6."
### BEGIN HIDDEN TESTS
with check("area: of another one"):
    assert np.allclose(area(4, 5), 20), "of another rectangle it is wrong."
### END HIDDEN TESTS"""
NEGATIVE_CHECK = """with check("area: of a negative side"):
    assert np.allclose(area(-2, 3), 0) or np.allclose(area(-2, 3), -6), "it is neither 0 nor -6." """
BOX = """def box(a, b, c):
    ### BEGIN SOLUTION
    return area(a, b) * c
    ### END SOLUTION"""
BOX_CHECK = """with check("box: its volume"):
    assert np.allclose(box(1, 2, 3), 6), f"it is {box(1, 2, 3)}, not 6." """
QUESTION = "**1.** Why?\n\n<!-- ### BEGIN SOLUTION -->\nBecause.\n<!-- ### END SOLUTION -->"
LINE = "def line(x):\n    ### BEGIN SOLUTION\n    return 2 * x\n    ### END SOLUTION"
LINE_CHECK = 'with check("line: twice x"):\n    assert line(2) == 4, "it is not twice x."'


def _cell(code: str, name: str = "", points: int = 0, **metadata) -> NotebookNode:
    kind = {"grade_id": name, "schema_version": 3, "task": False, "solution": not points, "grade": bool(points)}
    about = {"nbgrader": kind | ({"points": points, "locked": True} if points else {"locked": False})} if name else {}
    return new_code_cell(code, metadata=about | metadata)


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """Two notebooks: three checks of two tasks and a question, and one check of one task."""
    folder = tmp_path_factory.mktemp("course") / "notebooks"
    question = {"grade": True, "grade_id": "why", "points": 2, "solution": True, "locked": False, "schema_version": 3}
    first = [
        new_markdown_cell("# Areas"),
        _cell(SETUP, tags=["setup"]),
        _cell("shown = 1"),
        _cell(AREA, "area"),
        _cell(AREA_CHECK, "check-area", 3),
        _cell(NEGATIVE_CHECK, "check-negative", 1),
        _cell(BOX, "box"),
        _cell(BOX_CHECK, "check-box", 2),
        new_markdown_cell(QUESTION, metadata={"nbgrader": question | {"task": False}}),
        _cell("raise SystemExit('a search of an hour')"),
    ]
    second = [
        new_markdown_cell("# Lines"),
        _cell(SETUP, tags=["setup"]),
        _cell(LINE, "line"),
        _cell(LINE_CHECK, "check-line", 4),
    ]
    folder.mkdir()
    for name, cells in (("1_areas", first), ("2_lines", second)):
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder


def _solved(notebook: NotebookNode, **codes: str) -> NotebookNode:
    """The student's copy with other code in the cells of the given names; "-" for "_"."""
    for cell in notebook.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        if name in codes:
            cell.source = codes[name]
    return notebook


def _insert(notebook: NotebookNode, before: int, *codes: str) -> NotebookNode:
    notebook.cells[before:before] = [new_code_cell(code) for code in codes]
    return notebook


GOOD = "def area(a, b):\n    return a * b"
GOOD_BOX = "def box(a, b, c):\n    return area(a, b) * c"
BAD = "def area(a, b):\n    return -1"
ALL = {"area": 4, "box": 2, "line": 4}
AREA_AT = 3  # the cell of the first task


def helper_elsewhere(areas):
    areas.cells[1].source += "\nimport operator"  # among the imports that were given
    _insert(areas, AREA_AT, "%matplotlib inline\ndef times(a, b):\n    return operator.mul(a, b)", "1 / 0")
    return _solved(areas, area="def area(a, b):\n    return times(a, b)", box=GOOD_BOX)


def split(areas):
    pasted = areas.cells[AREA_AT].copy()  # with its metadata, as JupyterLab does
    areas.cells.insert(AREA_AT + 1, nbformat.from_dict(pasted | {"id": "other", "source": GOOD}))
    areas.cells[AREA_AT].source = "factor = 1"
    return _solved(areas, box=GOOD_BOX)


def pasted_twice(areas):
    stub = nbformat.from_dict(areas.cells[AREA_AT].copy() | {"id": "other"})
    _solved(areas, area=GOOD, box=GOOD_BOX)
    areas.cells.insert(AREA_AT + 1, stub)
    return areas


def no_ids_and_no_metadata(areas):
    _solved(areas, area=GOOD, box=GOOD_BOX)
    areas.nbformat_minor = 0
    for cell in areas.cells:
        cell.pop("id")
        cell.metadata = {}
    return areas


def checks_deleted(areas):
    _solved(areas, area=GOOD, box=GOOD_BOX)
    areas.cells = [cell for cell in areas.cells if "with check" not in cell.source]
    return areas


STUDENTS: dict[str, tuple[Callable[[NotebookNode], NotebookNode], dict[str, float], str]] = {
    # how the first notebook is written, the points that differ from all, and what the page must say
    "full": (lambda n: _solved(n, area=GOOD, box=GOOD_BOX), {}, "passed"),
    "empty": (lambda n: n, {"area": 0, "box": 0}, r"area \| 0 of 3 \| not written yet \|"),
    "half": (lambda n: _solved(n, area=GOOD), {"box": 0}, r"box \| 0 of 2 \| not written yet \|"),
    "needs": (lambda n: _solved(n, box=GOOD_BOX), {"area": 0, "box": 0}, "it needs area, which is not written yet"),
    "part": (lambda n: _solved(n, area="def area(a, b):\n    return max(a, 1) * b", box=GOOD_BOX), {"area": 3},
             "area: of a negative side: it is neither 0 nor -6"),
    "wrong": (lambda n: _solved(n, area=BAD, box="box = print"), {"area": 0, "box": 0}, "it is -1, not 6"),
    "helper": (helper_elsewhere, {}, "cell 5 ended in ZeroDivisionError: division by zero"),
    "leans": (lambda n: _solved(n, area="def area(a, b):\n    return a * b * shown", box=GOOD_BOX), {}, "passed"),
    "split": (split, {}, "passed"),
    "twice": (pasted_twice, {}, "passed"),
    "colab": (no_ids_and_no_metadata, {}, "passed"),
    "checkless": (checks_deleted, {}, "passed"),
    "taskless": (lambda n: n.cells.pop(AREA_AT) and n, {"area": 0, "box": 0}, "there is no cell for it"),
    "moved": (lambda n: n.cells.insert(1, _solved(n, area=GOOD, box=GOOD_BOX).cells.pop(AREA_AT)) or n, {}, "passed"),
    "endless": (lambda n: _solved(n, area="def area(a, b):\n    while True: pass", box="def box(*a): return 6"),
                {"area": 0}, r"area \| 0 of 3 \| it was stopped after 1 s \|"),
    "endless-cell": (lambda n: _insert(_solved(n, area=GOOD, box=GOOD_BOX), AREA_AT, "while True: print('x')"), {},
                     "it was stopped after 1 s"),
    "asleep": (lambda n: _solved(n, area=GOOD, box="import time\ndef box(*a):\n    time.sleep(10**6)"), {"box": 0},
               "it was stopped after 1 s"),
    "exit": (lambda n: _solved(n, area="import os\ndef area(a, b):\n    os._exit(0)", box="def box(*a): return 6"),
             {"area": 0}, "it ended the process"),
    "crash": (lambda n: _solved(n, area="import ctypes\nctypes.string_at(0)", box="def box(*a): return 6"),
              {"area": 0}, "there is no area; cell 4: it ended the process that ran it"),
    "leave": (lambda n: _solved(n, area="def area(a, b):\n    raise SystemExit", box="def box(*a): return 6"),
              {"area": 0}, r"your code raised SystemExit \(in `raise SystemExit`\)"),
    "hungry": (lambda n: _solved(n, area=GOOD, box="def box(*a):\n    return len(bytearray(2 * 2**30))"),
               {"box": 0}, "MemoryError: it needs more memory"),
    "syntax": (lambda n: _solved(n, area="def area(a, b)\n    return a * b", box=GOOD_BOX), {"area": 0, "box": 0},
               r"there is no area; cell 4 ended in SyntaxError: expected ':' in line 1 \(in `def area\(a, b\)`\)"),
    "asks": (lambda n: _solved(n, area="def area(a, b):\n    return a * float(input())", box="def box(*a): return 6"),
             {"area": 0}, "EOFError: nobody answers input"),
    "typo": (lambda n: _solved(n, area="def area(a, b):\n    return a * c", box="def box(*a): return 6"), {"area": 0},
             r"your code raised NameError: name 'c' is not defined \(in `return a \* c`\)"),
    "numpy": (lambda n: _solved(n, area=BAD + "\nnp.allclose = lambda *a, **k: True", box="import numpy\ndef box(*a):\n"
              "    numpy.core.numeric.isclose = numpy.isclose = lambda *a, **k: True\n    return 5"),
              {"area": 0, "box": 0}, "cell 4 replaces numpy.allclose, which was undone"),
    "hidden": (lambda n: _solved(n, area="def area(a, b):\n    np.allclose = lambda *a, **k: True\n    return -1",
                                 box="def box(*a): return 6"),
               {"area": 0}, "your code replaces numpy.allclose while it is checked"),
    "suppress": (lambda n: _solved(n, area=BAD + "\ndef check(task): return contextlib.suppress(Exception)\n"
                                   "import ex5lib.course.claims\nex5lib.course.claims.check = check\n"
                                   "ex5lib.course.check = check", box="np = None\ndef box(*a): return 5"),
                 {"area": 0, "box": 0}, "cell 4 redefines check, which its check does not use"),
    "edited": (lambda n: _solved(n, area=BAD, box="def box(*a): return 6", check_area="with check('area'):\n    pass"),
               {"area": 0}, "cell 5: the check check-area was changed; the original one counts"),
}  # fmt: skip
FILES = {  # what is in the first notebook's file
    "blank": (b"", "the file is empty"),
    "conflict": (b'{"cells": [\n<<<<<<< HEAD\n', "git's conflict markers"),
    "damaged": (b'{"cells": 3}', "it is no notebook"),
    "absent": (None, "the notebook is absent"),
}


def _mark(course: Path, hand_ins: Path, out: Path) -> str:
    command = [sys.executable, "-m", "scripts.marking", hand_ins, "--notebooks", course, "--out", out]
    limits = ["--seconds", "1", "--gigabytes", "1", "--jobs", "2"]
    done = subprocess.run(
        [*command, *limits], cwd=assignment.ROOT, capture_output=True, text=True, timeout=500,
        env=os.environ | {"PYTHONPATH": str(assignment.ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return {row["hand-in"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def marked(course, tmp_path_factory) -> Path:
    """The folder of a class's marks, beside its hand-ins."""
    place = tmp_path_factory.mktemp("class")
    areas, lines = (nbformat.read(path, as_version=4) for path in sorted(course.glob("*.ipynb")))
    solved = nbformat.writes(_solved(assignment.student_copy(lines), line="def line(x):\n    return x + x"))
    for name, (write, _, _) in STUDENTS.items():
        (place / "in" / name / "notebooks").mkdir(parents=True)
        text = json.dumps(write(assignment.student_copy(areas)))  # as it is, even if nbformat would repair it
        (place / "in" / name / "notebooks" / "1_areas.ipynb").write_text(text)
    for name, (content, _) in FILES.items():
        with zipfile.ZipFile(place / "in" / f"{name}.zip", "w") as archive:
            archive.writestr("notebooks/2_lines (1).ipynb", solved)
            archive.writestr("student.json", json.dumps({"name": "Ada", "number": "0042"}))
            if content is not None:
                archive.writestr("notebooks/1_areas.ipynb", content)
    (place / "in" / "torn.zip").write_bytes(b"PK not a zip")
    _mark(course, place / "in", place / "marks")
    return place / "marks"


def test_nobody_is_lost_and_all_marks_are_as_expected(marked):
    marks = _rows(marked / "marks.csv")
    assert set(marks) == {*STUDENTS, *FILES, "torn"}
    for name, row in marks.items():
        expected = dict.fromkeys(ALL, 0) | ({"line": 4} if name in FILES else {})
        if name in STUDENTS:
            expected = ALL | STUDENTS[name][1] | {"line": 0}
        found = {task: float(row[f"{1 + (task == 'line')} {task}"]) for task in ALL}
        assert found == expected, name
        assert float(row["sum"]) == sum(expected.values())
    assert (marks["absent"]["name"], marks["absent"]["number"], marks["full"]["name"]) == ("Ada", "0042", "")


def test_every_student_is_told_the_reason(marked):
    told = {name: words for name, (_, _, words) in STUDENTS.items()}
    told |= {name: re.escape(words) for name, (_, words) in FILES.items()} | {"torn": "a zip cannot be read"}
    for name, words in told.items():
        page = (marked / "feedback" / f"{name}.md").read_text()
        assert re.search(words, page), page
        assert ("not written yet" in page) == (name in ("empty", "half", "needs", "taskless")), page


def test_a_person_is_told_what_to_read_and_what_they_write_counts(course, marked):
    areas = marked.parent / "in" / "half" / "notebooks" / "1_areas.ipynb"
    notebook = nbformat.read(areas, as_version=4)
    notebook.cells[-2].source += " Since it is so."
    _insert(notebook, -1, "area(1, 2)")
    nbformat.write(notebook, areas)
    assert _mark(course, marked.parent / "in", marked).splitlines()[0].startswith("1_areas: 1 of ")  # no other again
    assert "### half\n\nSince it is so.\n\n```python\narea(1, 2)\n```" in (marked / "answers.md").read_text()
    assert _rows(marked / "marks.csv")["half"]["1 why"] == ""
    with (marked / "read.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    odd = {row["hand-in"] for row in rows if row["task"] in ("1_areas", "")}
    assert odd == {
        "numpy",
        "hidden",
        "suppress",
        "edited",
        "exit",
        "crash",
        "asleep",
        "endless",
        "endless-cell",
        "torn",
    } | set(FILES) - {"absent"}
    (answer,) = (row for row in rows if row["task"] == "1 why")
    answer["points"] = "1,5"
    rows.append({"hand-in": "hungry", "task": "1 box", "points": "1", "why": "on my machine it ran"})
    with (marked / "read.csv").open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    _mark(course, marked.parent / "in", marked)
    marks = _rows(marked / "marks.csv")
    assert (marks["half"]["1 why"], marks["half"]["sum"]) == ("1.5", "5.5")
    assert (marks["hungry"]["1 box"], marks["hungry"]["sum"]) == ("1", "5")
    text = (marked / "read.csv").read_text(encoding="utf-8-sig")
    assert "half,1 why,2,1.5,answer" in text  # they are there the next time, too
    assert "hungry,1 box,,1,on my machine it ran" in text

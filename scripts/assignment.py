"""Make the assignment from the notebooks.

    python scripts/assignment.py make        write assignment/: the students' copy, the solution, the guide, and the
                                             source for nbgrader

The notebooks in notebooks/ are the only source, with nbgrader's markers and metadata: students write what is between
``### BEGIN SOLUTION`` and ``### END SOLUTION``, and do not see what is between ``### BEGIN HIDDEN TESTS`` and
``### END HIDDEN TESTS``. ``python -m scripts.marking`` marks what they hand in.
"""

import copy
import re
import shutil
import sys
import textwrap
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ex5lib.course.handin import NO_ANSWER

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "notebooks"
_FOLDER = 'out = "../results/report"  # for figures, numbers and what is handed in'
CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"  # as nbgrader's

_SOLUTION = re.compile(r"^([ \t]*)[^\n]*### BEGIN SOLUTION.*?### END SOLUTION[^\n]*$", re.M | re.S)
_HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.M | re.S)
_MARKERS = re.compile(r"^[^\n]*### (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)[^\n]*\n?", re.M)
_OF_TESTS = re.compile(r"^# NBVAL_CHECK_OUTPUT\n", re.M)  # for the project's own tests
_BADGE = re.compile(r"^.*colab-badge\.svg.*\n+", re.M)
_NO_FOLDER = re.compile(r"^out = None.*$", re.M)


def sources() -> dict[str, NotebookNode]:
    """The notebooks by name."""
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted(SOURCES.glob("*.ipynb"))}


def student_copy(source: NotebookNode) -> NotebookNode:
    """A notebook without solutions, hidden checks and outputs."""
    notebook = nbgrader_source(source)
    for cell in notebook.cells:
        stub = CODE_STUB if cell.cell_type == "code" else NO_ANSWER
        cell.source = _SOLUTION.sub(lambda match, stub=stub: textwrap.indent(stub, match[1]), cell.source)
        cell.source = _HIDDEN.sub("", cell.source).rstrip("\n")
    return notebook


def nbgrader_source(source: NotebookNode) -> NotebookNode:
    """A notebook from which nbgrader makes the students' copy: with solutions, hidden checks and their markers."""
    notebook = copy.deepcopy(source)
    notebook.cells[0].source = _BADGE.sub("", notebook.cells[0].source)  # it would lead to the solution
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = _OF_TESTS.sub("", cell.source)
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = _NO_FOLDER.sub(_FOLDER, cell.source)
    return notebook


def solution_copy(source: NotebookNode) -> NotebookNode:
    """A notebook with its solutions and all checks, but without markers; the outputs stay."""
    notebook = copy.deepcopy(source)
    for cell in notebook.cells:
        cell.source = _OF_TESTS.sub("", _MARKERS.sub("", cell.source)).rstrip("\n")
    return notebook


def _about(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def teachers_guide(notebooks: dict[str, NotebookNode]) -> str:
    """The guide as Markdown: a fixed text, and the marking scheme from the notebooks' metadata."""
    rows, sums = [], {True: 0, False: 0}
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            about = _about(cell)
            if about.get("points"):
                automatic = cell.cell_type == "code"
                sums[automatic] += about["points"]
                asked = re.findall(r'with check\("(.*?)"\)', cell.source) or [_first_sentence(cell.source)]
                how = "checked" if automatic else "read"
                rows.append(f"| {name} | {asked[0]} | {about['points']} | {how} |")
    text = (Path(__file__).with_name("teacher.md")).read_text(encoding="utf-8")
    return text.format(
        rows="\n".join(rows), automatic=sums[True], read=sums[False], report=100 - sum(sums.values()), total=100
    )


def _first_sentence(exercise: str) -> str:
    number, question = re.match(r"\*\*(\d+)\.\*\* (.*?)(?=<!--|$)", exercise, re.S).groups()
    question = " ".join(question.split()).replace("|", "\\|")
    return f"exercise {number}: " + re.split(r"(?<=[.?])\s+(?=[A-Z`])", question)[0]


def make(folder: Path) -> None:
    """Write the students' copy, the solution, nbgrader's source and the teacher's guide."""
    notebooks = sources()
    for name, made in (("student", student_copy), ("solution", solution_copy), ("source", nbgrader_source)):
        place = folder / name / "notebooks"
        shutil.rmtree(folder / name, ignore_errors=True)
        place.mkdir(parents=True)
        for stem, source in notebooks.items():
            nbformat.write(made(source), place / f"{stem}.ipynb")
    for name in ("student", "solution"):
        shutil.copytree(ROOT / "data", folder / name / "data", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(Path(__file__).with_name("student.md"), folder / "student" / "README.md")
    (folder / "teacher.md").write_text(teachers_guide(notebooks), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["make"]:
        sys.exit(__doc__)
    make(ROOT / "assignment")
    print("written to assignment: student/, solution/, source/ for nbgrader, teacher.md")

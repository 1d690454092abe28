"""Make the assignment from the notebooks.

    python scripts/assignment.py make        write assignment/: student/, all that students need, and teacher/, the rest
    python scripts/assignment.py check       prove that nothing of a solution is in assignment/student/

The notebooks in notebooks/ are the only source, with nbgrader's markers and metadata: students write what is between
``### BEGIN SOLUTION`` and ``### END SOLUTION``, and do not see what is between ``### BEGIN HIDDEN TESTS`` and
``### END HIDDEN TESTS``. A text cell tagged "seen" asks what a figure shows, and answers it between the same markers;
students answer it themselves, for their report. ``python -m scripts.marking`` marks what they hand in.
"""

import copy
import re
import sys
import textwrap
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from ex5lib.course.handin import NO_ANSWER

ROOT = Path(__file__).parents[1]
# Without the project, in teacher/, there is nbgrader's source of them.
SOURCES = next(filter(Path.is_dir, (ROOT / "notebooks", ROOT / "source" / "notebooks")))
_FOLDER = 'out = "../results/report"  # for figures, numbers and what is handed in'
CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"  # as nbgrader's

_SOLUTION = re.compile(r"^([ \t]*)[^\n]*### BEGIN SOLUTION.*?### END SOLUTION[^\n]*$", re.M | re.S)
_HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.M | re.S)
_MARKERS = re.compile(r"^[^\n]*### (?:BEGIN|END) (?:SOLUTION|HIDDEN TESTS)[^\n]*\n?", re.M)
_OF_TESTS = re.compile(r"^# NBVAL_CHECK_OUTPUT\n", re.M)  # for the project's own tests
_BADGE = re.compile(r"^.*colab-badge\.svg.*\n+", re.M)
_NO_FOLDER = re.compile(r"^out = None.*$", re.M)
_COLAB = re.compile(r"\A# @title On Colab this fetches the project.*", re.S)  # which has the solutions


def sources() -> dict[str, NotebookNode]:
    """The notebooks by name."""
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted(SOURCES.glob("*.ipynb"))}


def student_copy(source: NotebookNode) -> NotebookNode:
    """A notebook without solutions, hidden checks and outputs."""
    notebook = nbgrader_source(source)
    for cell in notebook.cells:
        cell.source = _HIDDEN.sub("", _unsolved(cell)).rstrip("\n")
    return notebook


def _unsolved(cell: NotebookNode) -> str:
    stub = CODE_STUB if cell.cell_type == "code" else NO_ANSWER
    return _SOLUTION.sub(lambda match: textwrap.indent(stub, match[1]), cell.source)


def shown_copy(source: NotebookNode) -> NotebookNode:
    """A student's copy with the outputs of a real run, but for those of checks: they name the hidden ones."""
    notebook = student_copy(source)
    outputs = {cell.id: cell.get("outputs") for cell in source.cells if not _about(cell)}
    for cell in notebook.cells:
        if outputs.get(cell.id):
            cell.outputs = outputs[cell.id]
    return notebook


def nbgrader_source(source: NotebookNode) -> NotebookNode:
    """A notebook from which nbgrader makes the students' copy: with solutions, hidden checks and their markers."""
    notebook = copy.deepcopy(source)
    notebook.cells[0].source = _BADGE.sub("", notebook.cells[0].source)  # it would lead to the solution
    for cell in notebook.cells:
        if "seen" in cell.metadata.get("tags", ()):  # nbgrader knows no answers without points
            cell.source, cell.metadata.tags = _unsolved(cell), ["report"]
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = _COLAB.sub(lambda _: _students_colab(), _OF_TESTS.sub("", cell.source))
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = _NO_FOLDER.sub(_FOLDER, cell.source)
    return notebook


def _students_colab() -> str:
    """The first cell of a students' notebook."""
    return Path(__file__).with_name("colab_cell.py").read_text(encoding="utf-8").strip()


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
    rows, sums = [], {"checked": 0, "read": 0, "bonus": 0}
    for name, notebook in notebooks.items():
        for cell in notebook.cells:
            about = _about(cell)
            if about.get("points"):
                answered = "bonus" if "bonus" in cell.metadata.get("tags", ()) else "read"
                how = "checked" if cell.cell_type == "code" else answered
                sums[how] += about["points"]
                asked = re.findall(r'with check\("(.*?)"\)', cell.source) or [_first_sentence(cell.source)]
                rows.append(f"| {name} | {asked[0]} | {about['points']} | {how} |")
    text = (Path(__file__).with_name("teacher.md")).read_text(encoding="utf-8")
    return text.format(rows="\n".join(rows), report=100 - sums["checked"] - sums["read"], total=100, **sums)


def _first_sentence(exercise: str) -> str:
    number, question = re.match(r"\*\*(\d+)\.\*\* (?:\*\(bonus\)\* )?(.*?)(?=<!--|$)", exercise, re.S).groups()
    question = " ".join(question.split()).replace("|", "\\|")
    return f"exercise {number}: " + re.split(r"(?<=[.?])\s+(?=[A-Z`])", question)[0]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # where this folder is found as the package that it is
    from scripts.release import PLACE, check, make

    match sys.argv[1:]:
        case ["make"]:
            make(PLACE)
        case ["check"]:
            check(PLACE / "student")
        case _:
            sys.exit(__doc__)

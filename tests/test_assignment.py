"""The assignment: what students get, what markers get, and what the checks tell a student who is not there yet."""

import copy
import re
import subprocess
import sys

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from ex5lib.course.handin import NOTEBOOKS, OPTIONAL
from scripts import assignment


@pytest.fixture(scope="module")
def sources() -> dict[str, NotebookNode]:
    return assignment.sources()


def _about(notebook: NotebookNode) -> dict[str, dict]:
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata}


def test_a_students_copy_has_everything_but_the_solutions_and_hidden_checks(sources):
    assert sorted(sources) == sorted([*NOTEBOOKS, *OPTIONAL])
    for name, source in sources.items():
        copied = assignment.student_copy(source)
        text = "\n".join(cell.source for cell in copied.cells)
        assert not re.search(r"SOLUTION|HIDDEN TESTS|<summary>Solution|colab-badge", text), name
        assert len(copied.cells) == len(source.cells)
        assert _about(copied) == _about(source)
        for before, after in zip(source.cells, copied.cells, strict=True):
            if before.cell_type == "code":
                assert after.outputs == []
                assert after.execution_count is None
            solved, hidden = "BEGIN SOLUTION" in before.source, "BEGIN HIDDEN" in before.source
            told = "NotImplementedError" if before.cell_type == "code" else "Your answer"
            assert (told in after.source) == solved
            if hidden:
                assert after.source
                assert before.source.removeprefix("# NBVAL_CHECK_OUTPUT\n").startswith(after.source)
            if after.cell_type == "code":
                compile(after.source, name, "exec")
        assert 'out = "../results/report"' in text


def test_the_solution_is_the_source_without_markers_and_nbgraders_with_them(sources):
    for source in sources.values():
        for before, after in zip(source.cells, assignment.solution_copy(source).cells, strict=True):
            cut = ("### BEGIN", "### END", "NBVAL")
            kept = [line for line in before.source.splitlines() if not any(word in line for word in cut)]
            assert after.source == "\n".join(kept).rstrip("\n")
        given = assignment.nbgrader_source(source)
        both = (assignment.student_copy(each) for each in (given, source))  # what nbgrader makes of it, by its markers
        assert len({tuple(cell.source for cell in copied.cells) for copied in both}) == 1
        assert any("### BEGIN HIDDEN TESTS" in cell.source for cell in given.cells)
        assert not any(cell.get("outputs") or "NBVAL" in cell.source for cell in given.cells)


def test_every_task_of_code_is_checked_and_every_name_is_used_once(sources):
    for name, source in sources.items():
        waiting = False
        for cell in source.cells:
            about = cell.metadata.get("nbgrader", {})
            if "seen" not in cell.metadata.get("tags", ()):
                assert ("BEGIN SOLUTION" in cell.source) == bool(about.get("solution"))
            if about and cell.cell_type == "code":
                assert about.grade or not waiting  # one check or more follow the task right away
                waiting = about.solution
                if about.grade:
                    assert about.locked
                    assert (about.points > 0) == (name in NOTEBOOKS)
                    assert "with check(" in cell.source
        assert not waiting
        names = [cell.metadata.nbgrader.grade_id for cell in source.cells if "nbgrader" in cell.metadata]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in names)  # all that nbgrader takes


# One mistake, to see that it costs what its check gives and nothing else; test_solutions.py has the others.
# A notebook, what is right in it, what a student writes instead, the check that fails, and what it says.
WRONG = [
    (
        "3.3.2_colorization", "0.299 * red + 0.587 * green", "0.587 * red + 0.299 * green",
        "check-grey", "pure red must become 0.299, not 0.587: mind the order R, G, B",
    ),
]  # fmt: skip


def test_unsolved_copies_and_wrong_attempts_fail_the_checks_that_are_meant_for_them_and_no_other(sources, tmp_path):
    """Marking begins with the solutions, which must pass."""
    photo = tmp_path / "face.png"  # of which only the face is left: it is found sooner
    Image.open(assignment.ROOT / "data" / "astronaut.png").crop((120, 20, 340, 240)).save(photo)
    places = {name: tmp_path / name for name in ("notebooks", "class/unsolved", "class/attempt")}
    for place in places.values():
        place.mkdir(parents=True)
    for name, source in copy.deepcopy(sources).items():
        (parameters,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
        parameters.source = parameters.source.replace("../data/astronaut.png", photo.as_posix())
        attempt = assignment.solution_copy(source)
        for right, instead in [(right, instead) for of, right, instead, *_ in WRONG if of == name]:
            assert sum(right in cell.source + "\n" for cell in attempt.cells) == 1
            for cell in attempt.cells:
                cell.source = (cell.source + "\n").replace(right, instead)
        made = (source, assignment.student_copy(source), attempt)
        for place, notebook in zip(places.values(), made, strict=True):
            nbformat.write(notebook, place / f"{name}.ipynb")
    command = [sys.executable, "-m", "scripts.marking", tmp_path / "class", "--notebooks", tmp_path / "notebooks"]
    done = subprocess.run([*command, "--out", tmp_path / "out"], cwd=assignment.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    pages = [(tmp_path / "out" / "feedback" / f"{name}.md").read_text() for name in ("unsolved", "attempt")]
    unsolved, attempt = (re.findall(r"^\| ([\w-]+) \| (\d+) of (\d+) \| (.*) \|$", page, re.M) for page in pages)
    checks = [
        check.removeprefix("check-")
        for name, source in sources.items()
        for check, about in _about(source).items()
        if name in NOTEBOOKS and about["grade"] and about["locked"]
    ]
    assert [check for check, *_ in unsolved] == checks == [check for check, *_ in attempt]
    assert sum(int(of) for _, _, of, _ in unsolved) >= 30
    for check, points, _, said in unsolved:
        assert (points, said) == ("0", "not written yet"), check
    expected = {failing.removeprefix("check-"): told for *_, failing, told in WRONG}
    for check, points, of, said in attempt:
        if check in expected:
            assert points == "0"
            assert re.search(expected.pop(check), said), said
        else:
            assert (points, said) == (of, "passed"), check
    assert not expected


def test_making_the_assignment_writes_both_copies_and_a_guide_whose_points_add_up(sources, tmp_path):
    assignment.make(tmp_path)
    for kind in ("student", "solution", "source"):
        assert sorted(path.stem for path in (tmp_path / kind / "notebooks").glob("*.ipynb")) == sorted(sources)
        assert (tmp_path / kind / "data" / "astronaut.png").is_file() == (
            kind != "source"
        )  # where notebooks look for it
    guide = (tmp_path / "teacher.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 3\.\S+ \| .+ \| (\d+) \| (checked|read) \|$", guide, re.M)
    graded = [about for source in sources.values() for about in _about(source).values() if about.get("points")]
    assert len(rows) == len(graded)
    sums = [sum(int(points) for points, how in rows if how == kind) for kind in ("checked", "read")]
    report = int(re.search(r"(\d+) for the report", guide)[1])
    assert sum(sums) + report == 100

"""The assignment: what students get, what markers get, and what the checks tell a student who is not there yet."""

import copy
import re

import pytest
from nbformat import NotebookNode
from PIL import Image

from ex5lib.course.handin import NOTEBOOKS
from scripts import assignment


@pytest.fixture(scope="module")
def sources() -> dict[str, NotebookNode]:
    return assignment.sources()


def _about(notebook: NotebookNode) -> dict[str, dict]:
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata}


def test_a_students_copy_has_everything_but_the_solutions_and_hidden_checks(sources):
    assert sorted(sources) == sorted(NOTEBOOKS)
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
    for source in sources.values():
        waiting = False
        for cell in source.cells:
            about = cell.metadata.get("nbgrader", {})
            assert ("BEGIN SOLUTION" in cell.source) == bool(about.get("solution"))
            if about and cell.cell_type == "code":
                assert about.grade == waiting  # a check follows the task right away
                waiting = about.solution
                if about.grade:
                    assert about.locked
                    assert about.points > 0
                    assert "with check(" in cell.source
        assert not waiting
        names = [cell.metadata.nbgrader.grade_id for cell in source.cells if "nbgrader" in cell.metadata]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[\w-]+", name, re.ASCII) for name in names)  # all that nbgrader takes


# One mistake, to see that it costs what its check gives and nothing else; test_solutions.py has the others.
WRONG = "3.3.2_colorization", "0.299 * red + 0.587 * green", "0.587 * red + 0.299 * green", "check-grey"


def test_unsolved_copies_and_a_wrong_attempt_fail_the_checks_that_are_meant_for_them_and_no_other(sources, tmp_path):
    """All in one kernel. That the solutions pass is for nbval to see, which runs them with the notebooks."""
    photo = tmp_path / "face.png"  # of which only the face is left: it is found sooner
    Image.open(assignment.ROOT / "data" / "astronaut.png").crop((120, 20, 340, 240)).save(photo)
    sources = {name: copy.deepcopy(source) for name, source in sources.items()}
    for source in sources.values():
        (parameters,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", ())]
        parameters.source = parameters.source.replace("../data/astronaut.png", photo.as_posix())
    name, right, instead, failing = WRONG
    attempt = assignment.solution_copy(sources[name])
    assert sum(right in cell.source for cell in attempt.cells) == 1
    for cell in attempt.cells:
        cell.source = cell.source.replace(right, instead)
    unsolved = [(source, assignment.student_copy(source)) for source in sources.values()]
    marks = assignment.grade([*unsolved, (sources[name], attempt)])

    checks = {
        name: [check for check, about in _about(source).items() if about["grade"] and about["locked"]]
        for name, source in sources.items()
    }
    assert [mark.check for mark in marks] == [check for each in (*sources, name) for check in checks[each]]
    count = sum(map(len, checks.values()))
    assert sum(mark.of for mark in marks[:count]) >= 30
    for mark in marks[:count]:
        assert mark.points == 0
        assert re.match(r"✗ not written yet: \w+.*: .+\.$", mark.said), mark
    for mark in marks[count:]:
        if mark.check == failing:
            assert mark.points == 0
            assert "pure red must become 0.299, not 0.587: mind the order R, G, B" in mark.said
        else:
            assert (mark.points, mark.said) == (mark.of, "passed"), mark


def test_making_the_assignment_writes_both_copies_and_a_guide_whose_points_add_up(sources, tmp_path):
    assignment.make(tmp_path)
    for kind in ("student", "solution", "source"):
        assert sorted(path.stem for path in (tmp_path / kind / "notebooks").glob("*.ipynb")) == sorted(NOTEBOOKS)
        assert (tmp_path / kind / "data" / "astronaut.png").is_file() == (
            kind != "source"
        )  # where notebooks look for it
    guide = (tmp_path / "teacher.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 3\.\S+ \| .+ \| (\d+) \| (checked|read) \|$", guide, re.M)
    graded = [about for source in sources.values() for about in _about(source).values() if about["grade"]]
    assert len(rows) == len(graded)
    sums = [sum(int(points) for points, how in rows if how == kind) for kind in ("checked", "read")]
    report = int(re.search(r"(\d+) for the report", guide)[1])
    assert sum(sums) + report == 100

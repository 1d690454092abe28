"""The assignment: what students get, what markers get, and what the checks tell a student who is not there yet."""

import importlib.util
import re
from types import ModuleType

import nbformat
import pytest
from nbformat import NotebookNode

from ex5lib.course.handin import NOTEBOOKS


@pytest.fixture(scope="module")
def assignment(root) -> ModuleType:
    spec = importlib.util.spec_from_file_location("assignment_script", root / "scripts" / "assignment.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture(scope="module")
def sources(assignment) -> dict[str, NotebookNode]:
    return assignment.sources()


def _about(notebook: NotebookNode) -> dict[str, dict]:
    return {c.metadata.nbgrader.grade_id: c.metadata.nbgrader for c in notebook.cells if "nbgrader" in c.metadata}


def test_a_students_copy_has_everything_but_the_solutions_and_hidden_checks(assignment, sources):
    assert sorted(sources) == sorted(NOTEBOOKS)
    for name, source in sources.items():
        copy = assignment.student_copy(source)
        text = "\n".join(cell.source for cell in copy.cells)
        assert not re.search(r"SOLUTION|HIDDEN TESTS|<summary>Solution|colab-badge", text), name
        assert len(copy.cells) == len(source.cells)
        assert _about(copy) == _about(source)
        for before, after in zip(source.cells, copy.cells, strict=True):
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


def test_the_solution_is_the_source_without_markers(assignment, sources):
    for source in sources.values():
        for before, after in zip(source.cells, assignment.solution_copy(source).cells, strict=True):
            assert "###" not in re.sub(r"^### \w.*$", "", after.source, flags=re.M)
            cut = ("### BEGIN", "### END", "NBVAL")
            kept = [line for line in before.source.splitlines() if not any(word in line for word in cut)]
            assert after.source == "\n".join(kept).rstrip("\n")


def test_what_nbgrader_gets_becomes_the_students_copy_once_its_markers_are_cut(assignment, sources):
    for source in sources.values():
        given = assignment.nbgrader_source(source)
        assert [cell.source for cell in assignment.student_copy(given).cells] == [
            cell.source for cell in assignment.student_copy(source).cells
        ]
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


WRONG = {
    "blur on the photo only": (
        "3.3.1_deblurring", "distance(blur(generated), blur(photo))", "distance(generated, blur(photo))",
        "check-both-blurred", "of two equal images it must be 0, and is .*: is only one of them blurred?",
    ),
    "channels in the order B, G, R": (
        "3.3.2_colorization", "0.299 * red + 0.587 * green + 0.114 * blue",
        "0.114 * red + 0.587 * green + 0.299 * blue",
        "check-grey", "pure red must become 0.299, not 0.114: mind the order R, G, B",
    ),
    "a mask that is 1 where pixels are known": (
        "3.3.3_inpainting", "    return mask\n", "    return 1 - mask\n",
        "check-mask", "it is inverted: 1 is for the missing pixels",
    ),
    "a composite that adds to the photo": (
        "3.3.3_inpainting", "(1 - share) * photo + share * generated", "photo + share * generated",
        "check-composite-hole", "a weighted mean, also between 0 and 1",
    ),
    "a start that moves with w": (
        "3.2_inversion", "w = w.clone().requires_grad_()", "w = w.detach().requires_grad_()",
        "check-search", "it changes the start that it was given: optimise a clone",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def marks(assignment, sources) -> dict[str, list]:
    """Marks of the solution, of the copy that students get, and of the wrong attempts, all in one kernel."""
    solved = [(source, assignment.solution_copy(source)) for source in sources.values()]
    unsolved = [(source, assignment.student_copy(source)) for source in sources.values()]
    attempts = {}
    for name, right, instead, *_ in WRONG.values():
        attempt = attempts.setdefault(name, assignment.solution_copy(sources[name]))
        assert sum(right in cell.source + "\n" for cell in attempt.cells) == 1
        for cell in attempt.cells:
            cell.source = (cell.source + "\n").replace(right, instead)
    wrong = [(sources[name], attempt) for name, attempt in attempts.items()]
    found = assignment.grade([*solved, *unsolved, *wrong])
    count = sum(about["grade"] and about["locked"] for source in sources.values() for about in _about(source).values())
    return {"solved": found[:count], "unsolved": found[count : 2 * count], "wrong": found[2 * count :]}


def test_the_solution_gets_full_marks(marks):
    assert {mark.said for mark in marks["solved"]} == {"passed"}
    assert sum(mark.points for mark in marks["solved"]) == sum(mark.of for mark in marks["solved"]) >= 30


def test_an_unsolved_copy_gets_nothing_and_is_told_at_every_check_what_is_missing(marks):
    assert [mark.check for mark in marks["unsolved"]] == [mark.check for mark in marks["solved"]]
    assert sum(mark.points for mark in marks["unsolved"]) == 0
    for mark in marks["unsolved"]:
        assert re.match(r"✗ not written yet: \w+.*: .+\.$", mark.said), mark


def test_wrong_attempts_fail_the_check_that_is_meant_for_them_and_no_other(marks):
    expected = {failing: told for *_, failing, told in WRONG.values()}
    for mark in marks["wrong"]:
        if mark.check in expected:
            assert mark.points == 0
            assert re.search(expected.pop(mark.check), mark.said), mark
        else:
            assert mark.points == mark.of, mark
    assert not expected


def test_making_the_assignment_writes_both_copies_and_a_guide_whose_points_add_up(assignment, sources, tmp_path):
    assignment.make(tmp_path)
    for kind in ("student", "solution", "source"):
        assert sorted(path.stem for path in (tmp_path / kind / "notebooks").glob("*.ipynb")) == sorted(NOTEBOOKS)
    for kind in ("student", "solution"):
        assert (tmp_path / kind / "data" / "astronaut.png").is_file()  # where the notebooks look for it
    guide = (tmp_path / "teacher.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 3\.\S+ \| .+ \| (\d+) \| (checked|read) \|$", guide, re.M)
    graded = [about for source in sources.values() for about in _about(source).values() if about["grade"]]
    assert len(rows) == len(graded)
    sums = [sum(int(points) for points, how in rows if how == kind) for kind in ("checked", "read")]
    report = int(re.search(r"(\d+) for the report", guide)[1])
    assert re.search(rf"^{sums[0]} points are given by checks, {sums[1]} for answers", guide, re.M)
    assert sum(sums) + report == 100
    assert "{" not in guide
    student = nbformat.read(tmp_path / "student" / "notebooks" / "3.2_inversion.ipynb", as_version=4)
    nbformat.validate(student)

"""The assignment: what students get, what markers get, and what the checks tell a student who is not there yet."""

import copy
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
import typst
from nbformat import NotebookNode
from PIL import Image
from pypdf import PdfReader

from ex5lib.course.handin import NOTEBOOKS, OPTIONAL
from scripts import assignment, release
from scripts.leaks import leaks


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
        assert not re.search(r"SOLUTION|HIDDEN TESTS|<summary>Solution|colab-badge|github", text), name
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
            seen = "seen" in cell.metadata.get("tags", ())
            assert ("BEGIN SOLUTION" in cell.source) == bool(about.get("solution") or seen)
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


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("assignment")
    release.make(folder)
    return folder


def test_students_get_all_that_they_need_and_teachers_a_guide_whose_points_add_up(sources, made):
    student, teacher = made / "student", made / "teacher"
    for place in (student / "notebooks", teacher / "solution", teacher / "source" / "notebooks"):
        assert sorted(path.stem for path in place.glob("*.ipynb")) == sorted(sources)
    for notebooks in (student / "notebooks", teacher / "solution"):
        assert (notebooks / ".." / "data" / "astronaut.png").is_file()  # where notebooks look for it
    (wheel,) = student.glob("*.whl")
    assert all((student / name).is_file() for name in ("README.md", "handout.pdf", "colab.py"))
    lines = (student / "requirements.txt").read_text().splitlines()
    assert [re.split("[>=]", line)[0] for line in lines[1:]] == [f"./{wheel.name}", "jupyter", "papermill", "mistune"]
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.partition("/")[0] for name in archive.namelist()}
        assert inside == {"ex5lib", "stylegan2_ada", f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"}

    guide = (teacher / "teacher.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| 3\.\S+ \| .+ \| (\d+) \| (checked|read|bonus) \|$", guide, re.M)
    graded = [about for source in sources.values() for about in _about(source).values() if about.get("points")]
    assert len(rows) == len(graded)
    assert [how for _, how in rows].count("read") == 8  # the core; the rest is a bonus
    sums = [sum(int(points) for points, how in rows if how == kind) for kind in ("checked", "read")]
    report = int(re.search(r"(\d+) for the report", guide)[1])
    assert sum(sums) + report == 100

    first, second = (page.extract_text() for page in PdfReader(student / "handout.pdf").pages)  # exactly two
    assert re.search(r"Notebook 3.1.*What comes out", first, re.S)
    assert re.search(rf"together 100 points {sums[0]} {100 - sums[0]} \d+\n", second)
    assert second.count("\n3.3.") == 3
    assert all(heading in second for heading in ("Hand in", "AI assistants", "Ten likely troubles", "Licences"))


def test_students_are_led_to_no_repository_but_to_their_own_folder(made, tmp_path):
    (tmp_path / "site" / "google" / "colab").mkdir(parents=True)
    (tmp_path / "site" / "google" / "colab" / "__init__.py").write_text("class drive: mount = staticmethod(print)")
    notebook = nbformat.read(made / "student" / "notebooks" / "3.2_inversion.ipynb", as_version=4)
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "code")

    def run(code: str) -> subprocess.CompletedProcess:
        code = code.replace("/content/drive", (tmp_path / "drive").as_posix())
        environment = {"PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    on_colab = f"import google.colab\n{first}\nprint(os.getcwd())"
    assert "upload it there as a whole, unzipped" in run(on_colab).stderr
    folder = tmp_path / "drive" / "MyDrive" / "courses" / "any name"
    shutil.copytree(made / "student", folder, ignore=shutil.ignore_patterns("*.png", "*.jpg"))
    (folder / "colab.py").write_text("print('installed from', __file__)")  # the real one runs in .ci/colab
    done = run(on_colab)
    assert done.stdout.splitlines()[-1] == str(folder / "notebooks"), done.stderr
    assert f"installed from {folder / 'colab.py'}" in done.stdout
    assert run(first).stdout == ""  # anywhere else


def _lines(notebook: NotebookNode, kind: str, marker: str) -> list[str]:
    """All lines of a notebook's code or text between markers."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)
    blocks = re.findall(rf"### BEGIN {marker}[^\n]*\n(.*?)\n[^\n]*### END", text, re.S)
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_the_check_finds_nothing_as_it_is_but_every_line_that_is_planted_anywhere(sources, made, tmp_path):
    release.check(made / "student")
    source = sources["3.3.3_inpainting"]
    kinds = {
        "solution": _lines(source, "code", "SOLUTION"),
        "hidden test": _lines(source, "code", "HIDDEN TESTS"),
        "answer": _lines(source, "markdown", "SOLUTION"),
    }

    def zipped(path: str, content: str | bytes) -> bytes:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(path, content)
        return (tmp_path / "a.zip").read_bytes()

    expected = {}
    for kind, lines in kinds.items():
        line = max(lines, key=len)
        assert len(line) > 40
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
        output, metadata, text = (copy.deepcopy(page) for _ in range(3))
        output.cells[0].outputs = [nbformat.v4.new_output("stream", text=f"a\n{line}\n")]
        metadata.cells[0].metadata["kept"] = {"deep": [line, {}]}
        text.cells[0].source = f"def f():\n    {line}  # here"
        files = {
            "README.md": "See\n  " + line.replace(" ", "\n  ", 1) + " there.",
            "a.whl": zipped("ex5lib/course/a.py", f"x = 1\n{line}\n"),
            "b.zip": zipped("c.whl", zipped("deep/a.txt", line)),
            "handout.pdf": typst.compile(f"= Title\n#{json.dumps(line, ensure_ascii=False)}".encode()),
            **{f"{i}.ipynb": nbformat.writes(each) for i, each in enumerate((output, metadata, text))},
            "own.whl": zipped("ex5lib/degradations/known.py", line),
        }
        (tmp_path / "planted" / kind).mkdir(parents=True)
        for name, content in files.items():
            path = tmp_path / "planted" / kind / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        expected |= {f"{kind}/{name}": kind for name in files}
    del expected["solution/own.whl"]  # where the library does what students write, solutions may be alike
    (tmp_path / "planted" / "a.py").write_text('URL = "https://example.org/project"')

    lines = _lines(sources["3.1_alignment"], "code", "SOLUTION")
    short = next(i for i, line in enumerate(lines) if len(line) < 25)
    (tmp_path / "planted" / "short.txt").write_text(lines[short])  # alone it may be chance
    (tmp_path / "planted" / "two.txt").write_text("\n".join(lines[short : short + 2]))
    expected |= {"a.py": "address", "two.txt": "solution"}
    told = leaks(tmp_path / "planted", sources, "https://example.org/project")
    assert {
        (re.match(r"[^./]*/?[^./]*\.\w+", words)[0], words.split(": ")[1].split(" of ")[0]) for words in told
    } == set(expected.items())
    with pytest.raises(SystemExit, match=r"hidden test of 3\.3\.3"):
        release.check(tmp_path / "planted")

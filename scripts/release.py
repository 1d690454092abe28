"""Write the assignment's folders, and prove that the students' holds nothing of a solution."""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat

from scripts.assignment import ROOT, nbgrader_source, solution_copy, sources, student_copy, teachers_guide
from scripts.handout import write_handout
from scripts.leaks import leaks

PLACE = ROOT / "assignment"
_HERE = Path(__file__).parent
_OF_WHEEL = ("pyproject.toml", "LICENSE", "requirements*.txt", "ex5lib", "stylegan2_ada", "data")
_OF_NOTEBOOKS = ("jupyter", "papermill", "mistune")  # what the library does not need, in requirements-dev.txt


def make(folder: Path) -> None:
    """Write student/, all that students need, and teacher/, the rest, and check the former."""
    notebooks = sources()
    student, teacher = folder / "student", folder / "teacher"
    for place in (student, teacher):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(ROOT / "data", place / "data", ignore=shutil.ignore_patterns("__pycache__"))
    for made, place in (
        (student_copy, student / "notebooks"),
        (solution_copy, teacher / "solution"),  # beside data/, where notebooks look for the photos
        (nbgrader_source, teacher / "source" / "notebooks"),
    ):
        place.mkdir(parents=True)
        for stem, source in notebooks.items():
            nbformat.write(made(source), place / f"{stem}.ipynb")
    shutil.copyfile(_HERE / "student.md", student / "README.md")
    shutil.copyfile(_HERE / "colab.py", student / "colab.py")
    wheel = build_wheel(student)
    (student / "requirements.txt").write_text(_requirements(wheel), encoding="utf-8")
    write_handout(student / "handout.pdf", notebooks)

    (teacher / "teacher.md").write_text(teachers_guide(notebooks), encoding="utf-8")
    shutil.copyfile(student / "handout.pdf", teacher / "handout.pdf")
    shutil.copytree(_HERE / "marking", teacher / "scripts" / "marking", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("assignment.py", "colab_cell.py"):
        shutil.copyfile(_HERE / name, teacher / "scripts" / name)
    check(student)
    print(f"written to {folder}: student/ for the students, and teacher/ (teacher.md says how to go on)")


def check(student: Path) -> None:
    """Exit with a list unless the students' folder is free of solutions, hidden tests and model answers."""
    if not student.is_dir():
        sys.exit(f"There is no {student}: make it first, with make assignment.")
    if found := leaks(student, sources(), _address()):
        sys.exit("Students must not get this:\n" + "\n".join(f"  {words}" for words in found))
    print(f"{student} holds nothing of a solution, a hidden test or a model answer")


def build_wheel(folder: Path) -> Path:
    """Build the library's wheel from what git would commit, and return its path.

    Its description is the students' README, and it does not name the project's address, where the solutions are.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_OF_WHEEL]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(
            temporary
        )  # a copy, because setuptools would put stale files from an earlier build/ into the wheel
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, source / name)
        project = source / "pyproject.toml"
        project.write_text(project.read_text(encoding="utf-8").replace(f'Repository = "{_address()}"', ""), "utf-8")
        shutil.copyfile(_HERE / "student.md", source / "README.md")
        options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (wheel,) = folder.glob("ex5lib-*.whl")
    return wheel


def _address() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"]


def _requirements(wheel: Path) -> str:
    """The students' requirements.txt: the wheel, whose metadata names the rest, and what only notebooks need."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    more = [line for line in lines if line.startswith(_OF_NOTEBOOKS)]
    comment = "# The library, and what Jupyter and the report need: no exact versions, so that what is installed stays."
    return "\n".join([comment, f"./{wheel.name}", *more, ""])

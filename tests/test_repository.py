"""The files that describe the project agree with each other and with the machine that runs them."""

import ast
import graphlib
import inspect
import re
import shutil
import tomllib
from pathlib import Path

import torch

from ex5lib.cli.app import app
from scripts import notebooks

# conda-forge's names where they differ, and what only one of the two lists can have.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "dlib-bin": "dlib",
    "pillow-heif": "pillow_heif",
}


def _requirements(text: str) -> dict[str, str]:
    lines = (line.strip(" -") for line in text.splitlines())
    return dict(match.groups() for line in lines if (match := re.fullmatch(r"([\w-]+)(>=[\d.]+(?:,<[\d.]+)?)", line)))


def test_pip_and_conda_list_the_same_libraries_with_the_same_bounds(root):
    pip = _requirements((root / "requirements.txt").read_text() + (root / "requirements-dev.txt").read_text())
    conda = _requirements((root / "environment.yml").read_text())
    assert len(pip) > 15
    assert conda.pop("python") == ">=3.11"
    assert {CONDA_NAMES.get(name, name): bound for name, bound in pip.items()} == conda


# A room of the library imports only from itself and from those before it.
ROOMS = [
    "errors", "files", "devices", "samples", "images", "weights", "faces", "degradations", "figures", "inversion",
    "restoration", "explorer", "course", "cli", "__main__",
]  # fmt: skip


def _imported(path: Path, package: str) -> set[str]:
    """The modules of a package, by dotted name inside it, that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name.removeprefix(f"{package}.") for name in found if name.startswith(f"{package}.")} | (found & {package})


def test_networks_know_nothing_of_the_library(root):
    for path in (root / "stylegan2_ada").rglob("*.py"):
        assert not _imported(path, "ex5lib"), path


def test_imports_inside_the_library_run_downward_and_never_in_a_circle(root):
    folder = root / "ex5lib"
    files = {".".join(path.relative_to(folder).with_suffix("").parts): path for path in folder.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items() if name != "__init__"}
    assert {name.partition(".")[0] for name in files} == set(ROOMS)
    imports = {name: _imported(path, "ex5lib") & set(files) for name, path in files.items()}
    for name, imported in imports.items():
        room = name.partition(".")[0]
        upward = [other for other in imported if ROOMS.index(other.partition(".")[0]) > ROOMS.index(room)]
        assert not upward, f"{name} imports {upward}"
    rooms = {name for name in files if "." not in name}  # a module's import runs its room's __init__ as well
    graphlib.TopologicalSorter({name: imported - rooms for name, imported in imports.items()}).prepare()


def test_the_designs_degradation_works_as_it_says(root):
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / "design.md").read_text(), re.S)
    (example,) = [block for block in blocks if "class Interlace" in block]
    scope: dict = {}
    exec(example.partition("\ndone = ")[0], scope)
    interlace = scope["Interlace"]()
    for size in (256, 1024):
        image = torch.zeros(1, 3, size, size)
        assert (interlace(image)[0, 0, :: size // 256, 0].view(64, 4) == torch.tensor([0, 0, -1, -1])).all()


def test_the_readme_names_only_commands_and_options_that_exist(root):
    text = (root / "README.md").read_text() + "".join(path.read_text() for path in (root / "docs").glob("*.md"))
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for name, rest in re.findall(r"(?:python -m ex5lib|\bex5) (\w+)([^\n`#]*)", text):
        assert name in commands
        (callback,) = [c.callback for c in app.registered_commands if c.callback.__name__ == name]
        known = {parameter.replace("_", "-") for parameter in inspect.signature(callback).parameters}
        assert set(re.findall(r"--([\w-]+)", rest)) <= known


def test_a_new_address_is_written_into_every_link_and_nothing_else(root, tmp_path, monkeypatch):
    for name in ("README.md", "pyproject.toml", "notebooks"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copyfile
        copy(root / name, tmp_path / name)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    originals = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.[im][pd]*")}
    notebooks.address()
    assert {path: path.read_text(encoding="utf-8") for path in originals} == originals  # they are up to date
    project = (tmp_path / "pyproject.toml").read_text()
    for new in ("x/y", "a-b/c.d"):
        (tmp_path / "pyproject.toml").write_text(re.sub(r"github\.com/[^\"]+", f"github.com/{new}", project))
        notebooks.address()
    old = tomllib.loads(project)["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    for path, before in originals.items():
        after = path.read_text(encoding="utf-8")
        links = len(re.findall("colab.research.google.com/github/", before))
        assert after.count("a-b/c.d") == before.count(old) >= links >= 1, path
        assert "<!-- badge" not in after
        hidden = re.findall(r"<!-- badge \[!\[Open in Colab\]\S+ -->", before)
        assert len(hidden) == (links if old.startswith("OWNER/") else 0)  # a placeholder's badges would lead nowhere

"""The files that describe the project agree with each other and with the machine that runs them."""

import ast
import importlib.util
import re
import shutil
import tomllib

import torch

from ex5lib.__main__ import app

# conda-forge's names where they differ, and what only one of the two lists can have.
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "dlib-bin": "dlib",
}


def _requirements(text: str) -> dict[str, str]:
    lines = (line.strip(" -") for line in text.splitlines())
    return dict(match.groups() for line in lines if (match := re.fullmatch(r"([\w-]+)>=([\d.]+)", line)))


def test_pip_and_conda_list_the_same_libraries_with_the_same_bounds(root):
    pip = _requirements((root / "requirements.txt").read_text() + (root / "requirements-dev.txt").read_text())
    conda = _requirements((root / "environment.yml").read_text())
    assert len(pip) > 15
    assert conda.pop("python") == "3.11"
    assert {CONDA_NAMES.get(name, name): bound for name, bound in pip.items()} == conda


def test_requirements_have_lower_bounds_only(root):
    texts = [(root / name).read_text() for name in ("requirements.txt", "requirements-dev.txt")]
    lines = [line for text in texts for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in lines), lines


def test_the_repositorys_address_stands_once(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    address = project["urls"]["Repository"]
    texts = [path for path in root.rglob("*") if path.suffix in {".py", ".md", ".toml", ".yml", ".txt"}]
    holders = [
        path.name
        for path in texts
        if not {".venv", "results"} & set(path.relative_to(root).parts) and address in path.read_text(encoding="utf-8")
    ]
    assert holders == ["pyproject.toml"]
    assert project["requires-python"] == ">=3.11"


def test_networks_know_nothing_of_the_library(root):
    for path in (root / "stylegan2_ada").glob("*.py"):
        assert "ex5lib" not in path.read_text(), path


def test_imports_inside_the_library_run_downward(root):
    order = ["errors", "files", "devices", "images", "zoo", "alignment", "degradations", "losses", "latents"]
    order += ["recipes", "warm_start", "projector", "metrics", "figures", "experiments", "explorer", "upload"]
    order += ["section", "report", "reference_synthesis", "bench", "__main__"]
    files = {path.stem: path for path in (root / "ex5lib").glob("*.py") if path.stem != "__init__"}
    assert set(files) == set(order)
    for name, path in files.items():
        imported = []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "ex5lib":
                imported += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module.startswith("ex5lib."):
                imported.append(node.module.removeprefix("ex5lib."))
        upward = [other for other in imported if order.index(other) >= order.index(name)]
        assert not upward, f"{name} imports {upward}"


def test_the_readmes_degradation_works_as_it_says(root):
    (example,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.S)
        if "class Interlace" in block
    ]
    definition = example.partition("\nrun = ")[0]
    assert len(definition.strip().splitlines()) <= 12  # an import, a blank line and ten lines
    scope: dict = {}
    exec(definition, scope)
    interlace = scope["Interlace"]()
    for size in (256, 1024):
        image = torch.zeros(1, 3, size, size)
        assert (interlace(image)[0, 0, :: size // 256, 0].view(64, 4) == torch.tensor([0, 0, -1, -1])).all()


def test_the_readme_names_only_commands_and_options_that_exist(root):
    text = (root / "README.md").read_text()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for name, rest in re.findall(r"python -m ex5lib (\w+)([^\n`#]*)", text):
        assert name in commands
        (callback,) = [c.callback for c in app.registered_commands if c.callback.__name__ == name]
        known = {parameter.replace("_", "-") for parameter in callback.__annotations__}
        assert set(re.findall(r"--([\w-]+)", rest)) <= known


def test_a_new_address_is_written_into_every_link_and_nothing_else(root, tmp_path):
    spec = importlib.util.spec_from_file_location("notebooks_script", root / "scripts" / "notebooks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for name in ("README.md", "pyproject.toml", "notebooks"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copyfile
        copy(root / name, tmp_path / name)
    script.ROOT = tmp_path
    originals = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.[im][pd]*")}
    script.address()
    assert {path: path.read_text(encoding="utf-8") for path in originals} == originals  # they are up to date
    project = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(re.sub(r"github\.com/[^\"]+", "github.com/a-b/c.d", project))
    script.address()
    old = tomllib.loads(project)["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    for path, before in originals.items():
        after = path.read_text(encoding="utf-8")
        links = len(re.findall("colab.research.google.com/github/", before))
        assert after.count("a-b/c.d") == before.count(old) >= links >= 1, path

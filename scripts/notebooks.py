"""Keep the notebooks in order.

    python scripts/notebooks.py store results/report     copy the outputs of an executed report into notebooks/;
                                                         3.4's only if it was made with --optional
    python scripts/notebooks.py address                  write the repository's address from pyproject.toml into the
                                                         notebooks and the README; while it is a placeholder, badges
                                                         would lead nowhere, and are hidden in comments

Progress bars and other widgets are not stored, because they show nothing without a kernel. The explorer's picture is.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

from ex5lib.course.handin import OPTIONAL
from ex5lib.course.report import with_outputs
from ex5lib.course.section import METADATA
from ex5lib.files import replacing

ROOT = Path(__file__).parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
# In a badge's link, in the notebooks' first cell (with escaped quotes), and in the README's clone command.
ADDRESS = re.compile(
    r"(colab\.research\.google\.com/github/|REPOSITORY = \\\"https://github\.com/|git clone https://github\.com/)"
    r"[\w.-]+/[\w.-]+(?=/blob/|\\\"| )"
)
BADGE = re.compile(r"(?:<!-- badge )?(\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\))(?: -->)?")
PLACEHOLDER = "OWNER/"


def store(report: Path) -> None:
    """Copy the outputs of ``report``/notebooks into the repository's notebooks."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        done = report / "notebooks" / path.name
        if path.stem in OPTIONAL and not done.exists():
            continue
        notebook, executed = (nbformat.read(p, as_version=4) for p in (path, done))
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        recipe = executed.metadata[METADATA]["request"]["recipe"]
        if recipe == "smoke":
            sys.exit(
                f"{path.name} was run with the recipe smoke, whose results are not worth storing: run make report."
            )
        if not {cell.source for cell in code} <= {cell.source for cell in executed.cells}:
            sys.exit(f"The code of {path.name} has changed since it was executed: run make report.")
        with_outputs(notebook, executed)
        for count, cell in enumerate(code, start=1):
            cell.execution_count = count
            cell.outputs = [output for output in cell.outputs if _is_worth_storing(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
                if output.output_type == "execute_result":
                    output.execution_count = count
        with replacing(path) as temporary:
            nbformat.write(notebook, temporary)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, recipe {recipe}")


def _is_worth_storing(output: nbformat.NotebookNode) -> bool:
    is_log = output.output_type == "stream" and output.name == "stderr"
    data = output.get("data", {})
    return not is_log and (WIDGET not in data or "text/html" in data)


def address() -> None:
    """Write the address from pyproject.toml's [project.urls] into every link that needs it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"].removeprefix("https://github.com/")
    for path in [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        text = ADDRESS.sub(rf"\g<1>{repository}", text)
        text = BADGE.sub(r"<!-- badge \1 -->" if repository.startswith(PLACEHOLDER) else r"\1", text)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["store", folder]:
            store(Path(folder))
        case ["address"]:
            address()
        case _:
            sys.exit(__doc__)

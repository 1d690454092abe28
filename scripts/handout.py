"""The two pages that students get on paper: handout.typ with today's points, times and pictures, as a PDF."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import typst
from matplotlib import get_data_path
from nbformat import NotebookNode

from ex5lib.course.handin import OPTIONAL
from ex5lib.course.lesson_figures import plot_landmarks
from ex5lib.faces.alignment import align_face
from ex5lib.samples import sample_photo
from scripts.assignment import ROOT

_TEXT = Path(__file__).with_name("handout.typ")
_MINUTES = re.compile(r"^\| \[(3\.\S+) (.+?)\]\(.*?\) \|.*?\| (\d+) min \|", re.M)  # in the README's table


def write_handout(path: Path, notebooks: Mapping[str, NotebookNode]) -> None:
    """Write the handout as a PDF.

    Args:
        notebooks: the sources, by name, whose metadata hold the points.
    """
    graded = [notebook for name, notebook in notebooks.items() if name not in OPTIONAL]
    minutes = _MINUTES.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    rows = [
        {"number": number, "name": name, "minutes": int(time)} | _points(notebook)
        for (number, name, time), notebook in zip(minutes, graded, strict=True)
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copyfile(_TEXT, folder / "handout.typ")
        shutil.copyfile(ROOT / "docs" / "gallery.jpg", folder / "gallery.jpg")
        (folder / "notebooks.json").write_text(json.dumps(rows), encoding="utf-8")
        plot_landmarks(align_face(sample_photo())).savefig(folder / "landmarks.svg")
        fonts = [Path(get_data_path(), "fonts", "ttf")]
        typst.compile(folder / "handout.typ", output=path, font_paths=fonts, ignore_system_fonts=True)


def _points(notebook: NotebookNode) -> dict[str, int]:
    """A notebook's points for code and for answers, but not those of a bonus."""
    points = {"code": 0, "markdown": 0}
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade") and "bonus" not in cell.metadata.get("tags", ()):
            points[cell.cell_type] += about["points"]
    return {"checked": points["code"], "read": points["markdown"]}

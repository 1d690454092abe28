"""The two pages that students get on paper: handout.typ with today's points, times and pictures, as a PDF."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import typst
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from nbformat import NotebookNode

from ex5lib.faces.alignment import AlignedFace, align_face
from ex5lib.images.tensors import to_uint8
from ex5lib.samples import sample_photo
from scripts.assignment import ROOT

_TEXT = Path(__file__).with_name("handout.typ")
_MINUTES = re.compile(r"^\| \[(3\.\S+) (.+?)\]\(.*?\) \|.*?\| (\d+) min \|", re.M)  # in the README's table
_BLUE, _ORANGE, _GREEN, _PINK, _INK = "#0072b2", "#d55e00", "#007a58", "#b0578d", "#1f2933"


def write_handout(path: Path, notebooks: Mapping[str, NotebookNode]) -> None:
    """Write the handout as a PDF.

    Args:
        notebooks: the sources, by name, whose metadata hold the points.
    """
    minutes = _MINUTES.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    rows = [
        {"number": number, "name": name, "minutes": int(time)} | _points(notebook)
        for (number, name, time), notebook in zip(minutes, notebooks.values(), strict=True)
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
    """A notebook's points for code and for answers."""
    points = {"code": 0, "markdown": 0}
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade"):
            points[cell.cell_type] += about["points"]
    return {"checked": points["code"], "read": points["markdown"]}


def plot_landmarks(face: AlignedFace) -> Figure:
    """A face's numbered landmarks; and FFHQ's square with the vectors that make it."""
    figure = Figure(figsize=(7.1, 3.55), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        ax.imshow(to_uint8(face.photo), interpolation="lanczos", alpha=0.5)
        ax.set_axis_off()
    used = {*range(36, 48), 48, 54}
    for number, point in enumerate(face.landmarks):
        colour = _ORANGE if number in used else _INK
        left.scatter(*point, s=5, color=colour, linewidths=0)
        left.annotate(
            str(number), point, _beside(face.landmarks, number), textcoords="offset points", color=colour,
            fontsize=6 if number in used else 5, ha="center", va="center",
        )  # fmt: skip
    _frame(left, face.landmarks, 0.06)

    eyes = face.landmarks[36:48].reshape(2, 6, 2).mean(axis=1)
    middle, mouth, centre = eyes.mean(axis=0), face.landmarks[[48, 54]].mean(axis=0), face.quad.mean(axis=0)
    right.fill(*face.quad.T, fill=False, edgecolor=_GREEN, linewidth=1.2)
    right.scatter(*face.landmarks[sorted(used)].T, s=2, color=_INK, linewidths=0)
    arrows = [  # name, start, end, colour, where the name goes, width
        ("x", centre, face.quad[2:].mean(axis=0), _GREEN, (14, 6), 1.2),
        ("y", centre, face.quad[1:3].mean(axis=0), _PINK, (7, -14), 1.2),
        ("e", eyes[0], eyes[1], _ORANGE, (0, 7), 2.2),
        ("m", middle, mouth, _BLUE, (-7, -4), 2.2),
    ]
    for name, start, end, colour, offset, width in arrows:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        right.annotate("", end, start, arrowprops=style)
        right.annotate(
            f"${name}$", (start + end) / 2, offset, textcoords="offset points", color=colour, fontsize=12, ha="center",
            va="center",
        )  # fmt: skip
    right.scatter(*centre, s=14, color=_INK, zorder=3)
    _frame(right, face.quad, 0.03)
    return figure


# Landmarks: first, end, and where their numbers go: into a direction, or away from their middle.
_PARTS = [
    (0, 17, None), (17, 22, None), (22, 27, None), (27, 31, (1, 0)), (31, 36, (0, 1)), (36, 42, None), (42, 48, None),
    (48, 60, None), (60, 61, (1, 0)), (61, 64, (0, -1)), (64, 65, (-1, 0)), (65, 68, (0, -1)),
]  # fmt: skip


def _beside(landmarks: np.ndarray, number: int) -> np.ndarray:
    """Where a landmark's number goes, in points from it."""
    first, end, direction = next(part for part in _PARTS if part[0] <= number < part[1])
    away = direction or (landmarks[number] - landmarks[first:end].mean(axis=0)) * (1, -1)  # an image's y points down
    return 6 * np.array(away) / np.linalg.norm(away)


def _frame(ax: Axes, points: np.ndarray, margin: float) -> None:
    """Show a square around points, and a margin as a share of its side."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = (0.5 + margin) * (high - low).max()
    x, y = (low + high) / 2
    ax.set_xlim(x - half, x + half)
    ax.set_ylim(y + half, y - half)

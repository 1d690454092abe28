"""The plots. Each takes images, Projections or detections and returns a matplotlib Figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ex5lib.files import replacing
from ex5lib.images.tensors import resize_area, to_uint8

if TYPE_CHECKING:  # imported where it is used: a command's help and its errors do not wait for it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 512  # px of an image in a figure; more would only make files large
SIDE = 2.8  # inches of an image in a figure
_COLUMNS = 4  # images side by side: a page has room for that many of 256 px
_LETTERS = 34  # in a line of the title above an image
INK = "#1f2933"
# The colours of Okabe and Ito, which everybody can tell apart, and a line style for each, for print in grey.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
# Where an aligned face has its eyes and its mouth: top, bottom, left, right as shares of the side.
EYES = (0.41, 0.55, 0.24, 0.76)
_DETAILS = (EYES, (0.60, 0.80, 0.27, 0.73))


def empty_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def show_image(ax: Axes, image: Tensor, title: str = "") -> None:
    """Draw an image [1, 3, H, W] without axes, at 512 px if it is square."""
    ax.imshow(to_uint8(resize_area(image, _PANEL) if image.shape[2] == image.shape[3] else image))
    ax.set_title(title, fontsize=10, color=INK)
    ax.set_axis_off()


def part_of(image: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """The part of a square image [1, 3, S, S] that a box of shares names."""
    top, bottom, left, right = (round(share * image.shape[2]) for share in box)
    return image[:, :, top:bottom, left:right]


def plot_images(
    images: Sequence[Tensor], titles: Sequence[str], *, columns: int | None = None, details: bool = False
) -> Figure:
    """Images [1, 3, H, W] in rows, each under its title.

    Args:
        images, titles: one title per image; long ones are wrapped.
        columns: images in a row; None takes at most four, and rows of about one length.
        details: below each aligned face, show its eyes and its mouth enlarged.
    """
    columns = columns or -(-len(images) // -(-len(images) // _COLUMNS))
    rows = -(-len(images) // columns)
    letters = _LETTERS * max(1, max(image.shape[3] / image.shape[2] for image in images))
    titles = ["\n".join(textwrap.fill(line, round(letters)) for line in title.split("\n")) for title in titles]
    boxes = _DETAILS if details else ()
    shares = [(bottom - top) / (right - left) for top, bottom, left, right in boxes]
    heights = [SIDE * max(image.shape[2] / image.shape[3] for image in images), *(SIDE * share for share in shares)]
    lines = max(title.count("\n") for title in titles) + 1
    height = sum(heights) + 0.1 + 0.18 * lines + 0.05 * len(boxes)
    figure = empty_figure(SIDE * columns, height * rows)
    axes = figure.subplots(rows * len(heights), columns, squeeze=False, height_ratios=heights * rows)
    for ax in axes.flatten():
        ax.set_axis_off()
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        row, column = divmod(i, columns)
        face, *below = axes[row * len(heights) : (row + 1) * len(heights), column]
        show_image(face, image, title)
        for ax, box in zip(below, boxes, strict=True):
            ax.imshow(to_uint8(part_of(image, box)))
    return figure


def plot_iterations(run, original: Tensor | None = None, *, details: bool = False) -> Figure:
    """The snapshots of a run in order, followed by the original if it is given; ``details`` as in ``plot_images``."""
    images = [run.snapshots[step] for step in sorted(run.snapshots)]
    titles = ["start" if step == 0 else f"{step} steps" for step in sorted(run.snapshots)]
    if original is not None:
        images, titles = [*images, original], [*titles, "original"]
    return plot_images(images, titles, details=details)


def plot_answers(answers: Sequence[Tensor]) -> Figure:
    """Several answers [1, 3, S, S] for one photo, then a map that is bright where they differ."""
    from matplotlib import colormaps

    spread = torch.cat(list(answers)).clamp(-1, 1).std(dim=0).square().mean(dim=0).sqrt()  # [S, S]
    colours = colormaps["inferno"]((2 * spread).clamp(max=1).cpu().numpy())[..., :3]
    difference = torch.from_numpy(colours).float().permute(2, 0, 1)[None] * 2 - 1
    titles = [f"answer {i + 1}" for i in range(len(answers))]
    return plot_images([*answers, difference], [*titles, "where they differ"])


def plot_losses(run) -> Figure:
    """The perceptual distance over the steps on a linear axis; below it the other weighted terms, logarithmic.

    Steps that compare the face alone have a line of their own.

    Dotted lines mark where a coarse-to-fine search changes its image size; distances are not comparable across them.
    """
    history, settings = run.history, run.settings
    colours = settings["color_weight"] * history["color_distance"]
    identity = settings.get("identity_weight", 0.0) * history["identity_distance"]
    others = {
        "colours: λ$_c$ c": (colours, 3),
        "identity: λ$_i$ ‖f − f‖²": (identity, 5),
        "latent: λ$_w$ ‖w − w̄‖": (history["score"] - history["distance"] - colours - identity, 2),
        "noise: λ$_n$ R(n)": (settings["noise_weight"] * history["noise_regularization"], 4),
    }
    others = {label: line for label, line in others.items() if np.any(line[0] > 3e-6)}  # less is rounding
    figure = empty_figure(9, 5.4 if others else 3.4)
    panels = figure.subplots(2 if others else 1, sharex=True, squeeze=False, height_ratios=(3, 2) if others else (1,))
    top, *below = panels.flatten()
    face = np.asarray(history["face"], bool)
    whole = np.flatnonzero(~face)
    top.plot(whole, history["distance"][whole], color=COLOURS[1], linewidth=1.8, label="the whole at 256 px")
    if face.any():
        top.plot(
            np.flatnonzero(face), history["distance"][face], color=COLOURS[6], linestyle="--", linewidth=1.6,
            label="the face at 512 px",
        )  # fmt: skip
        top.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    top.set(ylabel="perceptual distance d", ylim=(0, None), xlim=(0, max(run.num_steps - 1, 1)))
    for ax in below:
        for label, (values, i) in others.items():
            drawn = np.where(values > 0, values, np.nan)
            ax.plot(whole, drawn[whole], label=label, color=COLOURS[i], linestyle=STYLES[i], linewidth=1.6)
        ax.set(yscale="log", ylabel="added to it")
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[-1, 0].set_xlabel("step")
    sizes = np.asarray(history["size"])
    starts = [0, *(np.flatnonzero(np.diff(sizes)) + 1)]
    for first in starts if len(starts) > 1 else []:
        for ax in panels.flatten() if first else ():
            ax.axvline(first - 0.5, color="#9aa5b1", linewidth=1, linestyle=":")
        top.annotate(
            f"{sizes[first]:.0f} px", (first, 1), (0, 3), ("data", "axes fraction"), "offset points", va="bottom",
            fontsize=8, color=INK,
        )  # fmt: skip
    for ax in panels.flatten():
        ax.grid(which="major", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def plot_alignment(face) -> Figure:
    """The photo with every detected face (dashed if unsure), the landmarks and the square; beside it the crop."""
    figure = empty_figure(9.6, 5.1)
    left, right = figure.subplots(1, 2)
    sure = [detection.sure for detection in face.detections]
    origin = "given by hand" if not sure else "detected face" if sure[face.index] else "perhaps a face"
    height, width = face.photo.shape[2:]
    step = max(max(height, width) // 1024, 1)
    small = F.avg_pool2d(face.photo, step)  # a large scan would take gigabytes to draw
    show_image(left, small, f"{origin}, {len(face.landmarks)} landmarks, FFHQ crop")
    left.images[0].set_extent((-0.5, step * small.shape[3] - 0.5, step * small.shape[2] - 0.5, -0.5))
    for i, detection in enumerate(face.detections):
        colour = "#e69f00" if i == face.index else "#9aa5b1"
        corners = np.vstack([detection.box, detection.box[:1]])
        left.plot(*corners.T, color=colour, linewidth=1.6, linestyle="-" if detection.sure else "--")
        left.annotate(
            f"face {i}{'' if detection.sure else '?'}, score {detection.score:.2f}",
            corners[detection.box[:, 1].argmin()],
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": colour, "pad": 1.5},
        )
    left.plot(*np.vstack([face.quad, face.quad[:1]]).T, color="#009e73", linewidth=1.6)
    left.scatter(*face.landmarks.T, s=3 if len(face.landmarks) > 5 else 16, color="#56b4e9")
    # The square may extend beyond the photo; show all of it.
    left.set_xlim(min(0, face.quad[:, 0].min()) - 0.5, max(width, face.quad[:, 0].max()) - 0.5)
    left.set_ylim(max(height, face.quad[:, 1].max()) - 0.5, min(0, face.quad[:, 1].min()) - 0.5)
    show_image(right, face.image, f"aligned, {face.image.shape[2]} × {face.image.shape[3]} px")
    return figure


def plot_gallery(rows: Sequence[tuple[str, Sequence[tuple[str, Tensor]]]]) -> Figure:
    """Rows of captioned images: (name of the row, [(title, image), …]), all of one length."""
    columns = max(len(cells) for _, cells in rows)
    figure = empty_figure((SIDE + 0.05) * columns + 0.4, (SIDE + 0.25) * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, cells) in zip(axes, rows, strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, (title, image) in zip(line, cells, strict=False):
            show_image(ax, image, title)
        line[0].text(
            -0.06, 0.5, name, rotation=90, va="center", ha="right", fontsize=12, color=INK,
            transform=line[0].transAxes,
        )  # fmt: skip
    return figure


def save_animation(frames: Sequence[Tensor], path: Path) -> None:
    """Write images [1, 3, H, W], at least one, as an endless loop of ten seconds that rests on the last image."""
    first, *others = (Image.fromarray(to_uint8(frame)) for frame in frames)
    pause = round(8000 / len(frames))  # ms
    durations = [pause] * len(others) + [pause + 2000]
    with replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=6)


def save_figure(figure: Figure, path: str | Path, dpi: int = 120) -> Path:
    """Write a figure to a file, in the format that its suffix names; returns the path."""
    path = Path(path)
    quickly: dict = {"pil_kwargs": {"compress_level": 1}} if path.suffix == ".png" else {}
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **quickly)
    return path

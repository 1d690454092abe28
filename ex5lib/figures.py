"""The plots. Each takes images, Projections or detections and returns a matplotlib Figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor

from ex5lib.files import replacing
from ex5lib.images import resize_area, to_uint8

_PANEL = 512  # px of an image in a figure; more would only make files large
_INK = "#1f2933"


def _show(ax: Axes, image: Tensor, title: str = "", *, size: int = _PANEL) -> None:
    ax.imshow(to_uint8(resize_area(image, size) if image.shape[2] == image.shape[3] else image))
    ax.set_title(title, fontsize=10, color=_INK)
    ax.set_axis_off()


def plot_images(images: Sequence[Tensor], titles: Sequence[str], *, columns: int | None = None) -> Figure:
    """Images [1, 3, S, S] side by side, or in rows of ``columns``, each under its title."""
    columns = columns or len(images)
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.85 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in axes:
        ax.set_axis_off()
    for ax, image, title in zip(axes, images, titles, strict=False):
        _show(ax, image, title)
    return figure


def plot_iterations(run, original: Tensor | None = None) -> Figure:
    """The snapshots of a run in order, beside the original where there is one."""
    images = [run.snapshots[step] for step in sorted(run.snapshots)]
    titles = ["start" if step == 0 else f"{step} steps" for step in sorted(run.snapshots)]
    if original is not None:
        images, titles = [*images, original], [*titles, "original"]
    return plot_images(images, titles)


def plot_losses(run) -> Figure:
    """Every term of the objective, weighted as it entered, over the steps; logarithmic axis.

    Dotted lines part the stages of a coarse-to-fine search, whose distances are not comparable across them.
    """
    history, settings = run.history, run.settings
    lines = {
        "objective L": (history["loss"], _INK, 2.2),
        "perceptual distance d": (history["distance"], "#d1495b", 1.6),
        "λ$_w$ ‖w − w̄‖": (settings["latent_weight"] * history["latent_distance"], "#2e86ab", 1.6),
        "λ$_n$ R(n)": (settings["noise_weight"] * history["noise_regularization"], "#8a9a5b", 1.2),
    }
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    ax = figure.subplots()
    for label, (values, colour, width) in lines.items():
        if np.any(values > 0):  # a weight of 0 has no line on a logarithmic axis
            ax.plot(np.where(values > 0, values, np.nan), label=label, color=colour, linewidth=width)
    ax.set(yscale="log", xlabel="step", ylabel="value", xlim=(0, max(run.steps - 1, 1)))
    sizes = np.asarray(history["size"])
    starts = [0, *(np.flatnonzero(np.diff(sizes)) + 1)]
    for first in starts if len(starts) > 1 else []:
        if first:
            ax.axvline(first - 0.5, color="#9aa5b1", linewidth=1, linestyle=":")
        ax.annotate(
            f"{sizes[first]:.0f} px", (first, 1), (3, -3), ("data", "axes fraction"), "offset points", va="top",
            fontsize=8, color=_INK,
        )  # fmt: skip
    ax.grid(which="major", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def plot_alignment(face) -> Figure:
    """The photo with every detected face, the 68 landmarks and the oriented square; beside it the crop."""
    figure = Figure(figsize=(9.6, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    _show(left, face.photo, "detected face, 68 landmarks, FFHQ crop")
    for i, detection in enumerate(face.detections):
        colour = "#ffb000" if i == face.index else "#9aa5b1"
        corners = np.vstack([detection.box, detection.box[:1]])
        left.plot(*corners.T, color=colour, linewidth=1.6)
        left.annotate(
            f"face {i}, score {detection.score:.2f}",
            corners[detection.box[:, 1].argmin()],
            xytext=(0, 3),
            textcoords="offset points",
            color=colour,
            fontsize=8,
        )
    left.plot(*np.vstack([face.quad, face.quad[:1]]).T, color="#2ec4b6", linewidth=1.6)
    left.scatter(*face.landmarks.T, s=4, color="#ff4d6d")
    height, width = face.photo.shape[2:]
    # The square may reach beyond the photo; show all of it.
    left.set_xlim(min(0, face.quad[:, 0].min()) - 0.5, max(width, face.quad[:, 0].max()) - 0.5)
    left.set_ylim(max(height, face.quad[:, 1].max()) - 0.5, min(0, face.quad[:, 1].min()) - 0.5)
    _show(right, face.image, f"aligned, {face.image.shape[2]} × {face.image.shape[3]} px")
    return figure


def plot_gallery(rows: Sequence[tuple[str, Sequence[tuple[str, Tensor]]]]) -> Figure:
    """Rows of captioned images: (name of the row, [(title, image), …]), all of one length."""
    columns = max(len(cells) for _, cells in rows)
    figure = Figure(figsize=(2.75 * columns + 0.4, 2.95 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, cells) in zip(axes, rows, strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, (title, image) in zip(line, cells, strict=False):
            _show(ax, image, title)
        line[0].text(
            -0.06, 0.5, name, rotation=90, va="center", ha="right", fontsize=12, color=_INK,
            transform=line[0].transAxes,
        )  # fmt: skip
    return figure


def plot_quality(curves: dict[str, dict[str, tuple]]) -> Figure:
    """Distance over wall time, a panel for each target."""
    figure = Figure(figsize=(4.2 * len(curves), 3.6), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    for ax, (name, lines) in zip(axes, curves.items(), strict=True):
        for (recipe, (seconds, distances)), colour in zip(lines.items(), ("#8a9a5b", "#d1495b"), strict=True):
            ax.plot(seconds, distances, label=recipe, color=colour, linewidth=1.8)
        ax.set(xscale="log", yscale="log", xlabel="seconds", title=name)
        for axis in (ax.xaxis, ax.yaxis):  # plain numbers, not powers of ten
            axis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(ScalarFormatter())
        ax.grid(which="both", alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("perceptual distance d")
    axes[0].legend(frameon=False)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 120) -> Path:
    """Write a figure to a file whose suffix names the format; returns the path."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)
    return Path(path)

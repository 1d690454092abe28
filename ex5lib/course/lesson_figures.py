"""Figures that only a lesson draws: how a GAN works, and plots of numbers."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter
from torch import Tensor

from ex5lib.figures import COLOURS, EYES, INK, SIDE, STYLES, empty_figure, part_of, show_image
from ex5lib.images.tensors import resize_area, to_uint8

_OUTLINE = [withStroke(linewidth=2, foreground="black")]  # readable on any photo


def plot_gan(generated: Tensor, photo: Tensor) -> Figure:
    """A style-based GAN as boxes and arrows, with a generated image and a photo [1, 3, S, S]."""
    figure = empty_figure(10.5, 3.2)
    ax = figure.subplots()
    ax.set_axis_off()
    boxes = {
        "z\n~ N(0, I)": (0.1, 1.1, 0.9, 0.9, "#eef2f5"),
        "mapping\nnetwork": (1.5, 1.1, 1.2, 0.9, "#cfe8f3"),
        "w": (3.2, 1.1, 0.6, 0.9, "#eef2f5"),
        "synthesis\nnetwork": (4.3, 1.1, 1.3, 0.9, "#cfe8f3"),
        "noise n": (4.4, 2.6, 1.1, 0.45, "#eef2f5"),
        "discriminator": (7.9, 1.1, 1.35, 0.9, "#f8d9dc"),
        "real?": (9.7, 1.25, 0.7, 0.6, "#eef2f5"),
    }
    for text, (x, y, width, height, colour) in boxes.items():
        ax.add_patch(FancyBboxPatch((x, y), width, height, "round,pad=0.02,rounding_size=0.1", fc=colour, ec=INK))
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9, color=INK)
    for image, bottom, title in ((generated, 1.75, "generated"), (photo, 0.1, "photo")):
        ax.imshow(to_uint8(resize_area(image, 256)), extent=(6.1, 7.35, bottom, bottom + 1.25), zorder=2)
        ax.text(6.05, bottom + 0.6, title, ha="right", va="center", fontsize=8, color=INK, rotation=90)
    arrows = [
        ((1.0, 1.55), (1.5, 1.55)), ((2.7, 1.55), (3.2, 1.55)), ((3.8, 1.55), (4.3, 1.55)), ((4.95, 2.6), (4.95, 2.0)),
        ((5.6, 1.75), (5.95, 2.1)), ((7.35, 2.3), (7.9, 1.75)), ((7.35, 0.7), (7.9, 1.35)), ((9.25, 1.55), (9.7, 1.55)),
    ]  # fmt: skip
    for start, end in arrows:
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK})
    ax.set(xlim=(0, 10.5), ylim=(0, 3.2), aspect="equal")  # set last, because imshow changes them
    return figure


def plot_discriminator() -> Figure:
    """Densities of photos and of generated images along one axis, and the discriminator that tells them apart best."""
    x = np.linspace(-4, 4, 400)
    figure = empty_figure(9, 2.8)
    axes = figure.subplots(1, 2, sharey=True)
    photos = _bell(x, 0.8, 0.8)
    times = (("early in training", -1.2, 0.7), ("at the end", 0.7, 0.84))
    for ax, (title, mean, width) in zip(axes, times, strict=True):
        generated = _bell(x, mean, width)
        ax.plot(x, photos, color=COLOURS[1], label="p(x), photos")
        ax.plot(x, generated, color=COLOURS[2], linestyle="-.", label="q(x), generated images")
        ax.plot(x, photos / (photos + generated), color=COLOURS[0], linestyle="--", label="D*(x) = p / (p + q)")
        ax.set(title=title, xlabel="x")
        ax.spines[["top", "right"]].set_visible(False)
    _legend_beside(axes[-1])
    return figure


def _legend_beside(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _bell(x: np.ndarray, mean: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * np.sqrt(2 * np.pi))


def plot_curves(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str, log: str = ""
) -> Figure:
    """Lines {label: (x, y)} in one plot; ``log`` names the logarithmic axes, "x", "y" or "xy"."""
    figure = empty_figure(9, 4.2)
    ax = figure.subplots()
    for (label, (x, y)), colour, style in zip(curves.items(), cycle(COLOURS), cycle(STYLES)):
        ax.plot(x, y, label=label, color=colour, linestyle=style, linewidth=1.8)
    ax.set(xlabel=xlabel, ylabel=ylabel, **{f"{name}scale": "log" for name in log})
    for axis in (getattr(ax, f"{name}axis") for name in log):  # enough labels to read values within one decade
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.25)
    _legend_beside(ax)
    return figure


def plot_histograms(values: dict[str, np.ndarray], *, xlabel: str) -> Figure:
    """Histograms {label: values} on one axis, each normalised to area 1."""
    figure = empty_figure(9, 3.4)
    ax = figure.subplots()
    for (label, numbers), colour, hatch in zip(values.items(), cycle(COLOURS[1:]), cycle(("", "////"))):
        ax.hist(numbers, bins=80, density=True, alpha=0.6, color=colour, hatch=hatch, label=label)
    ax.set(xlabel=xlabel, ylabel="density")
    _legend_beside(ax)
    return figure


def plot_eyes(strips: dict[str, Tensor], colours: dict[str, np.ndarray]) -> Figure:
    """The eyes of aligned faces [1, 3, S, S], each beside the colours [2, 3] of its irises, sRGB in [0, 1]."""
    figure = empty_figure(10, 2.1 * len(strips))
    axes = figure.subplots(len(strips), 2, width_ratios=(4.6, 1), squeeze=False)
    for (left, right), (title, face) in zip(axes, strips.items(), strict=True):
        left.imshow(to_uint8(part_of(face, EYES)))
        left.set_title(title, fontsize=10, color=INK, loc="left")
        right.imshow(colours[title][None], aspect="auto")
        right.set_title("irises", fontsize=10, color=INK)
        left.set_axis_off()
        right.set_axis_off()
    return figure


def plot_map(values: Tensor, title: str, image: Tensor, image_title: str) -> Figure:
    """An image [1, 3, S, S] beside a map of values [S, S] with its colour scale."""
    figure = empty_figure(2 * SIDE + 0.8, SIDE + 0.3)
    left, right = figure.subplots(1, 2)
    show_image(left, image, image_title)
    drawn = right.imshow(values.numpy(), cmap="magma")
    right.set_title(title, fontsize=10, color=INK)
    right.set_axis_off()
    figure.colorbar(drawn, ax=right, shrink=0.85)
    return figure


def plot_landmarks(photo: Tensor, landmarks: np.ndarray, quad: np.ndarray) -> Figure:
    """A photo [1, 3, H, W] with its 68 landmarks by number, e and m between eyes and mouth, and the square's x and y.

    Args:
        landmarks: [68, 2], (x, y) in px.
        quad: the square's corners [4, 2]: upper left, lower left, lower right, upper right.
    """
    figure = empty_figure(7.6, 7.6)
    ax = figure.subplots()
    ax.imshow(to_uint8(photo))
    counted = {*range(36, 48), 48, 54}  # those that fix the square
    for number, point in enumerate(landmarks):
        ax.plot(*point, ".", color=COLOURS[6 if number in counted else 1], markersize=4)
        ax.annotate(
            str(number), point, (2, 2), textcoords="offset points", fontsize=6.5, color="white", path_effects=_OUTLINE,
            weight="bold" if number in counted else "normal",
        )  # fmt: skip
    left, right = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    middle, mouth, centre = (left + right) / 2, landmarks[[48, 54]].mean(axis=0), quad.mean(axis=0)
    x, y = (quad[3] - quad[0]) / 2, (quad[1] - quad[0]) / 2
    arrows = {"e": (left, right), "m": (middle, mouth), "x": (centre, centre + x), "y": (centre, centre + y)}
    for name, (start, end) in arrows.items():
        colour = COLOURS[5] if name in "em" else "white"
        ax.annotate(
            "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0, "shrinkB": 0}
        )
        place = start + 0.65 * (end - start)
        ax.annotate(
            name, place, (5, 5), textcoords="offset points", fontsize=15, style="italic", color=colour,
            path_effects=_OUTLINE,
        )  # fmt: skip
    ax.plot(*np.vstack([quad, quad[:1]]).T, color=COLOURS[3], linewidth=2)
    edge = 0.06 * np.linalg.norm(x)
    ax.set(
        xlim=(quad[:, 0].min() - edge, quad[:, 0].max() + edge), ylim=(quad[:, 1].max() + edge, quad[:, 1].min() - edge)
    )
    ax.set_axis_off()
    return figure

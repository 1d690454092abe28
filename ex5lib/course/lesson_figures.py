"""Figures that only a lesson draws: how a GAN works, and plots of numbers."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter
from torch import Tensor

from ex5lib.faces.alignment import AlignedFace
from ex5lib.figures import COLOURS, EYES, INK, SIDE, STYLES, empty_figure, part_of, show_image
from ex5lib.images.tensors import resize_area, to_uint8


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


def plot_landmarks(face: AlignedFace) -> Figure:
    """A face's numbered landmarks; and FFHQ's square with the vectors that make it."""
    landmarks = np.asarray(face.landmarks)
    figure = empty_figure(7.1, 3.55)
    left, right = figure.subplots(1, 2)
    for ax in (left, right):
        ax.imshow(to_uint8(face.photo), interpolation="lanczos", alpha=0.5)
        ax.set_axis_off()
    used = {*range(36, 48), 48, 54}
    for number, point in enumerate(landmarks):
        colour = COLOURS[1] if number in used else INK
        left.scatter(*point, s=5, color=colour, linewidths=0)
        left.annotate(
            str(number), point, _beside(landmarks, number), textcoords="offset points", color=colour,
            fontsize=6 if number in used else 5, ha="center", va="center",
        )  # fmt: skip
    _frame(left, landmarks, 0.06)

    eyes = landmarks[36:48].reshape(2, 6, 2).mean(axis=1)
    middle, mouth, centre = eyes.mean(axis=0), landmarks[[48, 54]].mean(axis=0), face.quad.mean(axis=0)
    right.fill(*face.quad.T, fill=False, edgecolor=COLOURS[3], linewidth=1.2)
    right.scatter(*landmarks[sorted(used)].T, s=2, color=INK, linewidths=0)
    arrows = [  # name, start, end, colour, where the name goes, width
        ("x", centre, face.quad[2:].mean(axis=0), COLOURS[3], (14, 6), 1.2),
        ("y", centre, face.quad[1:3].mean(axis=0), COLOURS[4], (7, -14), 1.2),
        ("e", eyes[0], eyes[1], COLOURS[1], (0, 7), 2.2),
        ("m", middle, mouth, COLOURS[2], (-7, -4), 2.2),
    ]
    for name, start, end, colour, offset, width in arrows:
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
        right.annotate("", end, start, arrowprops=style)
        right.annotate(
            f"${name}$", (start + end) / 2, offset, textcoords="offset points", color=colour, fontsize=12, ha="center",
            va="center",
        )  # fmt: skip
    right.scatter(*centre, s=14, color=INK, zorder=3)
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

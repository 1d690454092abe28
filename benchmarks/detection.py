"""How often damaged faces are found: right, wrong, or refused. Run it by python -m benchmarks.detection.

Every photo is made here: one of the sample photos or a generated face (ψ = 0.7), put off-centre on a plain, cloudy or
boarded wall, and damaged. A generated face is aligned by construction, so its true square is known; that of a sample
photo is where the undamaged photo's face is found. The thresholds in ``faces.detection`` were chosen on the numbers 0
to 19 of each kind; from 20 on, the generated faces are new ones.
"""

import time
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.faces import bench_face
from ex5lib import weights
from ex5lib.degradations.known import GaussianBlur, Grayscale
from ex5lib.errors import FaceError, UnsureFaceError
from ex5lib.faces.alignment import AlignedFace, align_face
from ex5lib.figures import plot_alignment, save_figure
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.samples import sample_photo

# What is covered, as corners in the face's square, in units of its side.
_COVERED = {
    "bar over the eyes": [(0.2, 0.42), (0.8, 0.42), (0.8, 0.53), (0.2, 0.53)],
    "lower half": [(0.12, 0.61), (0.88, 0.61), (0.88, 1.02), (0.12, 1.02)],
    "left half": [(0.02, 0.12), (0.5, 0.12), (0.5, 1.02), (0.02, 1.02)],
    "hat region": [(0.08, -0.06), (0.92, -0.06), (0.92, 0.38), (0.08, 0.38)],
}
KINDS = ("scratch", *_COVERED, "noise", "blur 41", "grey", "turned", "small")
_SAMPLES = ("astronaut.png", "officer.jpg", "portrait.jpg", "president.jpg", "vice-president.jpg")
# Found right: no farther off than this (share of the side), no larger or smaller, no more turned (degrees).
CENTRE, SIZE, ANGLE = 0.12, 1.3, 12


@dataclass(frozen=True)
class Case:
    """A photo [1, 3, H, W], the corners [4, 2] of its face's true square, and the mask [1, 1, H, W] of a hole in it."""

    kind: str
    number: int
    photo: Tensor
    quad: np.ndarray
    mask: Tensor | None


def make_case(kind: str, number: int) -> Case:
    """The photo of that kind and number, the same on every call; every fourth shows a person from ``data/``."""
    random = np.random.default_rng((KINDS.index(kind), number))
    picture, quad = _face(KINDS.index(kind), number)
    side = random.uniform(60, 110) if kind == "small" else random.uniform(150, 600)
    canvas = (side * random.uniform(1.6, 3.2, 2)).clip(max(256, 1.3 * side), 1600).astype(int)
    angle = random.uniform(-180, 180) if kind == "turned" else random.uniform(-8, 8)
    centre = canvas / 2 + (canvas - 1.1 * side) / 2 * random.uniform(-1, 1, 2)
    photo, quad = _placed(picture, quad, _wall(canvas, random), side, np.radians(angle), centre)
    return Case(kind, number, *_damaged(photo, quad, kind, random))


@cache
def _generator():
    return weights.load_generator(device="cpu")


@cache
def _sample(name: str) -> tuple[Image.Image, np.ndarray]:
    found = align_face(sample_photo(name), size=64)
    return Image.fromarray(to_uint8(found.photo)), found.quad


def _face(kind: int, number: int) -> tuple[Image.Image, np.ndarray]:
    if number % 4 == number // 4 % 2:
        return _sample(_SAMPLES[(number // 4 + kind) % len(_SAMPLES)])
    return _generated(1000 + 100 * (number // 20) + 2 * ((7 * kind + number // 2) % 24) + number % 2)


@cache
def _generated(seed: int) -> tuple[Image.Image, np.ndarray]:
    picture = Image.fromarray(to_uint8(bench_face(f"sample-{seed}", _generator())))
    return picture, np.array([(0, 0), (0, 1024), (1024, 1024), (1024, 0)]) - 0.5


def _wall(size: np.ndarray, random: np.random.Generator) -> Image.Image:
    width, height = size
    colour, pattern = random.uniform(40, 220, 3), random.integers(3)
    wall = np.full((height, width, 3), colour)
    if pattern == 1:  # clouds and leaves: noise at every scale
        for scale in (2, 5, 12, 30, 80):
            rough = gaussian_filter(random.standard_normal((height, width, 1)), (scale, scale, 0))
            wall += rough / rough.std() * 12 * random.uniform(0.5, 1.5, 3)
    elif pattern == 2:  # boards, each a little lighter or darker, with dark gaps
        board = random.integers(20, 90)
        x = np.arange(width) // board
        wall += random.uniform(-35, 35, (x[-1] + 1, 3))[x] - 60 * (np.arange(width) % board < 3)[:, None]
    return Image.fromarray(wall.clip(0, 255).astype(np.uint8))


def _placed(
    picture: Image.Image, quad: np.ndarray, wall: Image.Image, side: float, angle: float, centre: np.ndarray
) -> tuple[Image.Image, np.ndarray]:
    """The picture on the wall, its edges feathered, so that its face's square has that side, angle and centre."""
    own = np.linalg.norm(quad[3] - quad[0])
    shrink = max(int(own / side), 1)
    small, quad = picture.reduce(shrink), (quad + 0.5) / shrink
    upright = quad[3] - quad[0]
    turn = angle - np.arctan2(upright[1], upright[0])
    forward = side / np.linalg.norm(upright) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    back = np.linalg.inv(forward)
    shift = quad.mean(axis=0) - back @ centre
    affine = (*back[0], shift[0], *back[1], shift[1])
    edge = 0.03 * min(small.size)
    alpha = Image.new("L", small.size)
    ImageDraw.Draw(alpha).rectangle((edge, edge, small.width - edge, small.height - edge), fill=255)
    small.putalpha(alpha.filter(ImageFilter.GaussianBlur(edge / 2)))
    layer = small.transform(wall.size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    photo = Image.alpha_composite(wall.convert("RGBA"), layer).convert("RGB")
    return photo, (quad - quad.mean(axis=0)) @ forward.T + centre - 0.5


def _damaged(
    photo: Image.Image, quad: np.ndarray, kind: str, random: np.random.Generator
) -> tuple[Tensor, np.ndarray, Tensor | None]:
    image, side = from_uint8(np.asarray(photo)), np.linalg.norm(quad[3] - quad[0])
    if kind == "noise":
        noise = torch.from_numpy(random.standard_normal(tuple(image.shape))).float()
        return (image + random.uniform(0.2, 0.5) * noise).clamp(-1, 1), quad, None
    if kind == "blur 41":  # as wide as that blur is on the aligned face at 256 px
        sigma = float(GaussianBlur(41).sigma * side / 256)
        return from_uint8(np.asarray(photo.filter(ImageFilter.GaussianBlur(sigma)))), quad, None
    if kind == "grey":
        return Grayscale()(image), quad, None
    if kind not in ("scratch", *_COVERED):
        return image, quad, None
    if kind == "scratch":  # through the face from top to bottom, 3 to 5 % of the side wide
        x, lean, width = random.uniform(0.35, 0.65), random.uniform(-0.2, 0.2), random.uniform(0.015, 0.025)
        corners = [(x - lean - width, 0), (x - lean + width, 0), (x + lean + width, 1), (x + lean - width, 1)]
        colour = (0, 0, 0) if random.random() < 0.5 else (255, 255, 255)
    else:
        corners, colour = _COVERED[kind], tuple(int(v) for v in random.integers(0, 256, 3))
    corners = np.array(corners)
    corners = quad[0] + corners[:, :1] * (quad[3] - quad[0]) + corners[:, 1:] * (quad[1] - quad[0])
    hole = Image.new("L", photo.size)
    ImageDraw.Draw(hole).polygon([tuple(corner) for corner in corners], fill=255)
    photo.paste(colour, mask=hole)
    mask = torch.from_numpy(np.asarray(hole).copy())[None, None].float() / 255
    return from_uint8(np.asarray(photo)), quad, mask


def errors(quad: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """How far off a square is: its centre (share of the true side), its size (a ratio ≥ 1), its angle (degrees)."""
    axis, true_axis = quad[3] - quad[0], true[3] - true[0]
    size, true_size = np.linalg.norm(axis), np.linalg.norm(true_axis)
    centre = np.linalg.norm(quad.mean(axis=0) - true.mean(axis=0)) / true_size
    cosine = (axis @ true_axis) / (size * true_size)
    return centre, max(size / true_size, true_size / size), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def verdict(case: Case, *, use_mask: bool = False) -> tuple[str, AlignedFace | None]:
    """ "right", "wrong" or "refused", and the face that was or would have been taken."""
    try:
        found = align_face(case.photo, mask=case.mask if use_mask else None, size=256)
    except UnsureFaceError as error:
        return "refused", error.guess
    except FaceError:
        return "refused", None
    centre, size, angle = errors(found.quad, case.quad)
    return "right" if centre <= CENTRE and size <= SIZE and angle <= ANGLE else "wrong", found


def main(
    first: Annotated[int, typer.Option(help="Number of the first photo of each kind.")] = 0,
    per_kind: Annotated[int, typer.Option(help="Photos of each kind.")] = 20,
    use_mask: Annotated[bool, typer.Option("--mask", help="Only holes; the detector is told where they are.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for drawings of the wrong and refused ones.")] = None,
):
    """Print how many photos of each kind are found right, wrong or not at all, and the median time."""
    total: Counter[str] = Counter()
    print(f"{'':20}{'right':>8}{'wrong':>8}{'refused':>9}{'seconds':>9}")
    for kind in ("scratch", *_COVERED) if use_mask else KINDS:
        counts: Counter[str] = Counter()
        seconds = []
        for number in range(first, first + per_kind):
            case = make_case(kind, number)
            began = time.perf_counter()
            word, face = verdict(case, use_mask=use_mask)
            seconds.append(time.perf_counter() - began)
            counts[word] += 1
            if out is not None and word != "right" and face is not None:
                save_figure(plot_alignment(face), out / f"{kind}-{number}-{word}.png")
        print(f"{kind:20}{_row(counts)}{np.median(seconds):9.1f}", flush=True)
        total += counts
    print(f"{'all':20}{_row(total)}")


def _row(counts: Counter) -> str:
    return f"{counts['right']:8}{counts['wrong']:8}{counts['refused']:9}"


if __name__ == "__main__":
    typer.run(main)

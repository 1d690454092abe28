"""What is painted over or scratched in a photo of a face, judged by the photo alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ex5lib.images.tensors import to_uint8
from ex5lib.restoration.metrics import face_mask


def painted_region(face: Tensor) -> Tensor | None:
    """The part of a face [1, 3, S, S] that is painted in one colour, as a mask [1, 1, S, S]; None if nothing is.

    In a photo of a face, an area of a few hundred pixels that is constant to within a level and ends abruptly is a
    white or black background, clipped light or shadow (``_is_clipped``), or paint. Only areas that reach into the face
    count. Scratches and letters are told otherwise (``_strokes``).
    """
    from scipy.ndimage import binary_dilation, binary_fill_holes, label, maximum_filter, minimum_filter

    pixels = to_uint8(face).astype(int)
    span = np.stack([maximum_filter(c, 3) - minimum_filter(c, 3) for c in np.moveaxis(pixels, 2, 0)]).max(axis=0)
    regions, _ = label(span <= 2, np.ones((3, 3)))
    inside = face_mask(face, pixels.shape[0])[0, 0].numpy() > 0.5
    large = np.append(False, np.bincount(regions.ravel())[1:] >= 1.5e-3 * regions.size)  # by number
    speckles = inside & ~binary_dilation(large[regions], iterations=6)
    mask = _strokes(pixels, inside)
    for number in np.flatnonzero(large):
        region = regions == number
        if (region & inside).sum() < 0.2 * region.sum():
            continue
        colour = np.median(pixels[region], axis=0)
        alike = binary_dilation(region, iterations=2) & (np.abs(pixels - colour).max(axis=2) <= 12)
        ring = binary_dilation(alike, iterations=3) & ~binary_dilation(alike)
        constant, abrupt = np.abs(pixels[region] - colour).max() <= 4, np.abs(pixels[ring] - colour).mean() > 20
        if constant and abrupt and not _is_clipped(pixels, colour, alike, speckles):
            mask |= binary_fill_holes(binary_dilation(alike, iterations=2))
    return torch.from_numpy(mask).float()[None, None] if mask.any() else None


def _strokes(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Scratches and letters [S, S] on a face, with the soft edges around them.

    White ones are brighter than what lies on both sides, of one colour, and long. So is a row of teeth, but that is
    one, and covers less than 0.6 % of the crop. A dark scratch must be thin and half as long as the crop, or it may be
    a brow or a mouth; go down 0.3 of it, or it may be the frame of glasses; and cross the face, or it may be hair.

    Args:
        pixels: [S, S, 3].
        inside: the face [S, S].
    """
    from scipy.ndimage import binary_erosion

    size = len(pixels)
    white = list(_lines(pixels, pixels.min(axis=2), above=185, contrast=50, least=0.08 * size))
    if (
        sum((line & inside).sum() > 0.2 * line.sum() for line in white) < 3
        or (np.any(white, axis=0) & inside).sum() < 0.01 * size**2
    ):
        white = []
    deep = binary_erosion(inside, iterations=size // 24)
    black = [
        _course(line)
        for line in _lines(pixels, 255 - pixels.max(axis=2), above=165, contrast=40, least=0.5 * size)
        if line.sum() < 0.02 * size * _length(line)
        and line.any(axis=1).sum() > 0.3 * size
        and (line & deep).sum() > 0.2 * line.sum()
    ]
    return _unless_clipped(pixels, white, inside, 0.8) | _unless_clipped(pixels, black, inside, 0.2)


def _lines(pixels: np.ndarray, light: np.ndarray, *, above: int, contrast: int, least: float) -> Iterator[np.ndarray]:
    """Lines [S, S] of one colour, in which ``light`` [S, S] is above a level, and by a contrast above what lies around.

    Args:
        least: their length in px, measured along rows or columns.
    """
    from scipy.ndimage import find_objects, grey_opening, label

    width = len(pixels) // 24
    parts, _ = label((light > above) & (light - grey_opening(light, (width, width)) > contrast), np.ones((3, 3)))
    for number, place in enumerate(find_objects(parts), start=1):
        part = parts[place] == number
        if max(part.shape) < least:
            continue
        core = pixels[place][part & (light[place] >= np.median(light[place][part]))]
        if np.quantile(np.abs(core - np.median(core, axis=0)).max(axis=1), 0.8) <= 16:
            line = np.zeros(light.shape, bool)
            line[place] = part
            yield line


def _length(line: np.ndarray) -> int:
    """How long a line [S, S] is, in px, measured along rows or columns."""
    return max(line.any(axis=0).sum(), line.any(axis=1).sum())


def _course(line: np.ndarray) -> np.ndarray:
    """A line [S, S] without the brows, lids and lips that it crosses, which are as dark; empty if it is not straight.

    It is the way through its middle from one end of its longest axis to the other, as thick as it is in most places.
    """
    from scipy.ndimage import distance_transform_edt
    from skimage.graph import route_through_array

    points = np.argwhere(line)
    away = points - points.mean(axis=0)
    along = away @ np.linalg.svd(away, full_matrices=False)[2][0]
    depth = distance_transform_edt(line)
    way, _ = route_through_array(
        np.where(line, 1 / np.maximum(depth, 1), -1), *points[[along.argmin(), along.argmax()]]
    )
    off = np.ones_like(line)
    off[tuple(np.transpose(way))] = False
    if len(way) > 1.2 * _length(line):
        return np.zeros_like(line)
    return line & (distance_transform_edt(off) <= np.median(depth[~off]))


def _unless_clipped(pixels: np.ndarray, lines: Sequence[np.ndarray], inside: np.ndarray, share: float) -> np.ndarray:
    """Lines [S, S] and their soft edges; nothing if they are clipped light or shadow.

    Args:
        share: of their pixels that are darker than what counts as their colour.
    """
    from scipy.ndimage import binary_dilation

    thin = np.any([np.zeros_like(inside), *lines], axis=0)
    if not thin.any():
        return thin
    whole = binary_dilation(thin, np.ones((3, 3)), iterations=round(len(pixels) / 170))
    colour = np.quantile(pixels[thin], share, axis=0)
    return np.zeros_like(inside) if _is_clipped(pixels, colour, thin, inside & ~whole) else whole


def _is_clipped(pixels: np.ndarray, colour: np.ndarray, region: np.ndarray, speckles: np.ndarray) -> bool:
    """Whether a black or white region [S, S] is clipped shadow or light, not paint.

    In a hard or overexposed photo, many small spots of the face are as black or white, and the region's edge is shaded:
    just outside, the difference from its colour is less than 0.8 of the difference a few pixels farther out. If such
    spots cover a hundredth of the face, paint of that colour cannot be recognised. ``speckles`` [S, S] are the pixels
    of the face that are not in or near a large region of one colour.
    """
    from scipy.ndimage import distance_transform_edt

    if colour.max() > 2 and colour.min() < 253:
        return False
    away, difference = distance_transform_edt(~region), np.abs(pixels - colour)
    alike = (difference.max(axis=2) <= 2)[speckles].mean() if speckles.any() else 0
    near, far = (difference[(low < away) & (away <= high)].mean() for low, high in ((1.5, 2.5), (4.5, 8.5)))
    return bool(alike > (1e-3 if near < 0.8 * far else 1e-2))

"""Loading masks, however they were painted, and keeping them small."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ex5lib.errors import FileError, SettingError
from ex5lib.images.colors import to_rgb
from ex5lib.images.decoding import read_photo, readable


def load_mask(path: str | Path) -> Tensor:
    """Load a mask, in which white is to be filled in and black is kept, with grey only at edges.

    In a picture with transparent parts these are kept if what is painted is black and white, or has one colour and
    covers less than half (strokes on an empty layer). Otherwise, as in a copy of the photo from which the hole was
    erased, the transparent parts are to be filled in. Two values of any grey will do: the brighter is to be filled in.

    Returns:
        float32 [1, 1, H, W]: 1 where a pixel is to be removed, 0 where it is kept.

    Raises:
        FileError: as in ``load_image``, except that there is no minimum size.
        FileError: if the picture is not a mask but, say, a copy of the photo with a hole painted on it.
    """
    path = str(path)
    picture = read_photo(path)
    with readable(path):
        colors = np.asarray(to_rgb(picture, "black"))
        opacity = np.full(colors.shape[:2], 255, np.uint8)
        if picture.has_transparency_data:
            opacity = np.asarray(picture.convert("RGBA").getchannel("A"))
    grey = np.asarray(Image.fromarray(colors).convert("L"))
    opaque = opacity.min() >= 128
    if opaque:
        grey = _stretched(grey)
    r, g, b = np.moveaxis(colors, 2, 0)
    spread = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
    painted = (spread > 64).mean() < 0.001 and _has_two_values(grey)
    if painted and (opaque or grey.max() >= 128):
        hole = grey
    elif not opaque and opacity.max() >= 128 and _has_two_values(opacity):
        solid = np.asarray(picture.convert("RGBA"))[opacity >= 128, :3].astype(int)
        alike = np.abs(solid - np.median(solid, axis=0)).max(axis=1) <= 32
        strokes = alike.mean() > 0.99 and len(solid) < opacity.size / 2
        hole = opacity if strokes else 255 - opacity
    else:
        found = "transparent all over" if opacity.max() < 128 else "not black and white"
        raise FileError(
            f"{path} is not a mask, because it is {found}: on a black picture of the photo's size, paint white what is "
            "to be filled in, or erase it from a copy of the photo and save that as a transparent PNG."
        )
    share = torch.from_numpy(hole.astype(np.float32) / 255)[None, None]
    return torch.where((share < 0.1) | (share > 0.9), share.round(), share)  # the ripples that JPEG leaves at edges


def packed(mask: Tensor) -> bytes:
    """A mask [1, 1, H, W] with one bit a pixel, row by row, 1 where it is removed."""
    return np.packbits((mask > 0.5).cpu().numpy()).tobytes()


def unpacked(bits: bytes, height: int, width: int) -> Tensor:
    """The mask [1, 1, H, W] in {0, 1} of such bits; SettingError if there are too few or too many."""
    if len(bits) != -(-height * width // 8):
        raise SettingError(f"A mask of {width} × {height} px has {-(-height * width // 8)} bytes, not {len(bits)}.")
    pixels = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width)
    return torch.from_numpy(pixels).float().view(1, 1, height, width)


def _stretched(grey: np.ndarray) -> np.ndarray:
    """Exactly two values, such as 0 and 1 or two greys, as 0 and 255; any other values unchanged."""
    levels = np.flatnonzero(np.bincount(grey.ravel()))
    return np.uint8(255) * (grey == levels[1]) if len(levels) == 2 else grey


def _has_two_values(grey: np.ndarray) -> bool:
    """Whether 8-bit pixels [H, W] are black or white except at edges: antialiased, feathered a little, or from JPEG.

    Of photos' pixels at least 11 % were between black and white; of masks', however much blurred, at most 7 %.
    """
    from scipy.ndimage import maximum_filter  # imported here: it takes a quarter of a second

    between = (grey > 64) & (grey < 191)
    if not 0.001 < between.mean() < 0.1:  # what follows is slow
        return bool(between.mean() < 0.1)
    edge = max(4, max(grey.shape) // 64)
    far = between & ~maximum_filter(~between, 2 * edge + 1)
    return bool(far.mean() < 0.001)

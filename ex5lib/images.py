"""Loading, saving and converting images. Everywhere else an image is a float32 tensor [N, 3, H, W] in [−1, 1]."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ex5lib.errors import FileError, SettingError
from ex5lib.files import replacing
from ex5lib.photos import normalized, read_photo, readable, to_rgb

MIN_SIZE = 64

IMAGE_SUFFIXES = frozenset(  # of the files in a folder that are taken for photos; load_image itself looks inside
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "tif", "tiff", "webp", "avif", "heic", "heif", "hif", "gif"),
        *("bmp", "jp2", "j2k", "jpf", "jpx", "ppm", "pgm", "pbm", "pnm", "tga", "qoi", "dds", "psd"),
    )
)


def load_image(path: str | Path) -> Tensor:
    """Load a photo of any common kind: 8, 12 or 16 bits, RGB, CMYK, palette, grey, with any colour profile.

    It is rotated according to its EXIF data and converted to sRGB; transparent pixels are put on white.

    Args:
        path: of the file, whose kind is told by its contents; a leading ~ means the home directory.

    Returns:
        float32 [1, 3, H, W] in [−1, 1].

    Raises:
        FileError: if the file is missing, not an image, damaged, implausibly large, or smaller than 64 px.
    """
    return _as_tensor(read_photo(path), str(path))


def from_picture(picture: Image.Image, name: str = "The picture") -> Tensor:
    """A PIL image of any mode as an image tensor, treated as ``load_image`` treats a file.

    Returns:
        float32 [1, 3, H, W] in [−1, 1].

    Raises:
        FileError: if it is damaged, has floating-point pixels, or fewer than 64 px on a side; the message calls it
            ``name``.
    """
    with readable(name):
        picture = normalized(picture, name)
    return _as_tensor(picture, name)


def _as_tensor(picture: Image.Image, name: str) -> Tensor:
    if min(picture.size) < MIN_SIZE:
        raise FileError(
            f"{name} is {picture.width} × {picture.height} px: a photo needs at least {MIN_SIZE} px on each side."
        )
    with readable(name):
        return from_uint8(np.asarray(to_rgb(picture, "white")))


def load_mask(path: str | Path) -> Tensor:
    """Load a mask, in which white is to be filled in and black is kept, with grey at edges only.

    In a picture with transparent parts these are kept, if what is painted is black and white (strokes on an empty
    layer). If it is anything else, such as a copy of the photo out of which the hole was erased, the transparent parts
    are to be filled in. Two values of any grey will do: the brighter is to be filled in.

    Returns:
        float32 [1, 1, H, W]: 1 where a pixel is to be removed, 0 where it is kept.

    Raises:
        FileError: as in ``load_image``, except that there is no minimum size.
        FileError: if the picture is no mask but, say, a copy of the photo with a hole painted on it.
    """
    path = str(path)
    picture = read_photo(path)
    with readable(path):
        opacity = np.asarray(picture.convert("RGBA").getchannel("A")) if picture.has_transparency_data else None
        colors = np.asarray(to_rgb(picture, "black"))
    grey = np.asarray(Image.fromarray(colors).convert("L"))
    opaque = opacity is None or opacity.min() >= 128
    if opaque:
        grey = _stretched(grey)
    r, g, b = np.moveaxis(colors, 2, 0)
    spread = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
    painted = (spread > 64).mean() < 0.001 and _has_two_values(grey)
    if painted and (opaque or grey.max() >= 128):
        hole = grey
    elif not opaque and opacity.max() >= 128 and _has_two_values(opacity):
        hole = 255 - opacity
    else:
        found = "transparent all over" if not opaque and opacity.max() < 128 else "not black and white"
        raise FileError(
            f"{path} is no mask, because it is {found}: paint white what is to be filled in on a black picture of the "
            "photo's size, or erase it from a copy of the photo to transparency, and save that as PNG."
        )
    share = torch.from_numpy(hole.astype(np.float32) / 255)[None, None]
    return torch.where((share < 0.1) | (share > 0.9), share.round(), share)  # the ripples that JPEG leaves at edges


def _stretched(grey: np.ndarray) -> np.ndarray:
    """Exactly two values, such as 0 and 1 or two greys, as 0 and 255; any other values unchanged."""
    levels = np.flatnonzero(np.bincount(grey.ravel()))
    return np.uint8(255) * (grey == levels[1]) if len(levels) == 2 else grey


def _has_two_values(grey: np.ndarray) -> bool:
    """Whether 8-bit pixels [H, W] are black or white, but for edges: antialiased, feathered a little, or from JPEG.

    Of photos, at least 11 % were between black and white, and of masks, blurred by as much as makes sense, at most 7 %.
    """
    from scipy.ndimage import maximum_filter  # imported here: it takes a quarter of a second

    between = (grey > 64) & (grey < 191)
    if not 0.001 < between.mean() < 0.1:  # what follows is slow
        return bool(between.mean() < 0.1)
    edge = max(4, max(grey.shape) // 64)
    far = between & ~maximum_filter(~between, 2 * edge + 1)
    return bool(far.mean() < 0.001)


def from_uint8(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] → float32 [1, 3, H, W] in [−1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """One image tensor [1, 3, H, W] → uint8 [H, W, 3]; values outside [−1, 1] are clamped.

    Raises:
        SettingError: if the tensor is not one image.
    """
    check_image(image, batch=1)
    return ((image[0].detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def save_image(image: Tensor, path: str | Path) -> Path:
    """Write one image tensor [1, 3, H, W] to a file, in the format that its suffix names; returns the path.

    Raises:
        SettingError: if the tensor is not one image.
    """
    picture = Image.fromarray(to_uint8(image))
    with replacing(path) as temporary:
        picture.save(temporary, quality=95, compress_level=3)  # the first for JPEG; the second makes PNG twice as fast
    return Path(path)


def check_image(image: Tensor, batch: int | None = None) -> None:
    """Raise SettingError unless image is [N, 3, H, W], with N = batch if that is given."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or (batch and len(image) != batch):
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise SettingError(f"An image tensor is [{batch or 'N'}, 3, H, W] in [−1, 1], not {found}.")


def checked_target(target: Tensor, name: str = "The target") -> Tensor:
    """A search's target [N, 3, H, H] in float32, detached; error messages call it ``name``.

    Raises:
        SettingError: if it is empty, not square, not floating-point, not finite, or not scaled to [−1, 1].
    """
    check_image(target)
    if not len(target):
        raise SettingError("The batch is empty: give at least one photo.")
    height, width = target.shape[2:]
    if height != width:
        raise SettingError(f"{name} is {width} × {height} px, but it must be square, like an aligned face.")
    if not target.is_floating_point():
        raise SettingError(f"{name} is {target.dtype}: scale it to floats in [−1, 1], 8 bits as x / 127.5 − 1.")
    target = target.detach().float()
    if not target.isfinite().all():
        raise SettingError(f"{name} contains NaN or infinity: find the step that produced them.")
    if target.abs().max() > 2:  # a network's output may go a little beyond 1
        low, high = target.min().item(), target.max().item()
        raise SettingError(f"{name} has values from {low:.3g} to {high:.3g}: scale them to [−1, 1].")
    return target


def resize_area(image: Tensor, size: int) -> Tensor:
    """Shrink a square image [N, C, S, S] to [N, C, size, size] by area averaging; a smaller one is returned as is."""
    source = image.shape[-1]
    if source <= size:
        return image
    if source % size == 0:
        return F.avg_pool2d(image, source // size)
    # PyTorch's own raises on MPS, is not deterministic on CUDA, and counts whole pixels only.
    weights = _overlaps(source, size, image.device).to(image.dtype)
    return weights @ image @ weights.T


def _overlaps(source: int, size: int, place: torch.device) -> Tensor:
    """[size, source]: the share of each new pixel that an old one covers. It is made on the device, without a copy."""
    # In units in which an old pixel is ``size`` wide and a new one ``source``: whole numbers, so nothing is rounded.
    old, new = torch.arange(source, device=place) * size, torch.arange(size, device=place)[:, None] * source
    covered = torch.minimum(old + size, new + source) - torch.maximum(old, new)
    return covered.clamp(min=0) / source


def resize(image: Tensor, size: int) -> Tensor:
    """Scale a square image [N, C, S, S] up or down to [N, C, size, size] by antialiased bicubic interpolation."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)

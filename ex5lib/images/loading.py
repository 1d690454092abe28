"""Loading photos as image tensors, and saving image tensors as files."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib.errors import FileError
from ex5lib.files import replacing
from ex5lib.images.decoding import normalized, read_photo, readable, to_rgb
from ex5lib.images.tensors import from_uint8, to_uint8

MIN_SIZE = 64

IMAGE_SUFFIXES = frozenset(  # which files of a folder count as photos; load_image itself looks inside
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
        path: of the file; its contents say which format it has. A leading ~ means the home directory.

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


def save_image(image: Tensor, path: str | Path) -> Path:
    """Write one image tensor [1, 3, H, W] to a file, in the format that its suffix names; returns the path.

    Raises:
        SettingError: if the tensor is not one image.
    """
    picture = Image.fromarray(to_uint8(image))
    with replacing(path) as temporary:
        picture.save(temporary, quality=95, compress_level=3)  # the first for JPEG; the second makes PNG twice as fast
    return Path(path)

"""Loading photos as image tensors, and saving image tensors as files."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib.errors import FileError
from ex5lib.files import replacing
from ex5lib.images.colors import to_rgb
from ex5lib.images.decoding import normalized, read_photo, readable
from ex5lib.images.extras import Extras, extras_of
from ex5lib.images.tensors import from_uint8, to_uint8

MIN_SIZE = 32
_PREVIEW = 960  # px of the longer side: sharp on a phone, and small enough for a page of hundreds

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
        FileError: if the file is missing, not an image, damaged, implausibly large, or smaller than 32 px.
    """
    return load_photo(path)[0]


def load_photo(photo: str | Path | Image.Image) -> tuple[Tensor, Extras]:
    """A photo's file or PIL image as ``load_image`` returns it, and what to keep when it is saved.

    Raises:
        FileError: as there; it calls a PIL image "The picture".
    """
    if isinstance(photo, Image.Image):
        name = "The picture"
        with readable(name):
            photo = normalized(photo, name)
    else:
        name, photo = str(photo), read_photo(photo)
    with readable(name):
        extras = extras_of(photo)
    return _as_tensor(photo, name), extras


def _as_tensor(picture: Image.Image, name: str) -> Tensor:
    if min(picture.size) < MIN_SIZE:
        raise FileError(
            f"{name} is {picture.width} × {picture.height} px: a photo needs at least {MIN_SIZE} px on each side."
        )
    with readable(name):
        return from_uint8(np.asarray(to_rgb(picture, "white")))


def save_image(image: Tensor, path: str | Path, extras: Extras | None = None) -> Path:
    """Write one image tensor [1, 3, H, W] to a file, in the format that its suffix names; returns the path.

    Args:
        image: the image.
        path: of the file.
        extras: of a photo of the same size, for formats that can hold them.

    Raises:
        SettingError: if the tensor is not one image.
    """
    picture = Image.fromarray(to_uint8(image))
    extras = extras or Extras()
    if Path(path).suffix.lower() not in (".jpg", ".jpeg"):  # which have no opacity
        picture = extras.added_to(picture)
    with replacing(path) as temporary:
        # The first option is for JPEG; the second makes PNG twice as fast.
        picture.save(temporary, quality=95, compress_level=3, **extras.options)
    return Path(path)


def save_preview(image: Tensor, path: Path) -> Path:
    """Write an image [1, 3, H, W] as a small JPEG, for a page that shows many; returns the path."""
    picture = Image.fromarray(to_uint8(image))
    picture.thumbnail((_PREVIEW, _PREVIEW))
    with replacing(path) as temporary:
        picture.save(temporary, quality=85)
    return path

"""Frames: the small JPEGs in which the explorer and the sweeps send images to the page."""

import base64
import io

from PIL import Image
from torch import Tensor

from ex5lib.errors import SettingError
from ex5lib.images.tensors import check_image, resize, resize_area, to_uint8

FRAME_SIZE = 256  # of a sweep
PICTURE_SIZE = 512  # of the explorer
FULL_SIZE = 1024  # of the explorer when one zooms in


def jpeg(image: Tensor, size: int = FRAME_SIZE) -> bytes:
    """One image [1, 3, S, S] as a JPEG of at most ``size`` px; larger ones are averaged down.

    Raises:
        SettingError: if it is not one square image.
    """
    check_image(image, batch=1)
    rows, columns = image.shape[2:]
    if rows != columns:
        raise SettingError(f"The image is {columns} × {rows} px, but it must be square, like an aligned face.")
    return encoded(resize_area(image, size), size)


def encoded(image: Tensor, longest: int) -> bytes:
    """An image [1, 3, H, W] of any shape as a JPEG whose sides are at most ``longest`` px."""
    picture, buffer = Image.fromarray(to_uint8(image)), io.BytesIO()
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def painted(mask: Tensor) -> bytes:
    """A mask [1, 1, H, W] in [0, 1] as a PNG: blue where it is 1, transparent where it is 0."""
    blue = Image.new("RGB", (mask.shape[3], mask.shape[2]), "#0072b2")
    blue.putalpha(Image.fromarray((255 * mask[0, 0].clamp(0, 1)).byte().numpy()))
    buffer = io.BytesIO()
    blue.save(buffer, "PNG")
    return buffer.getvalue()


def png(image: Tensor) -> bytes:
    """One image [1, 3, H, W] as a PNG of its own size."""
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(buffer, "PNG")
    return buffer.getvalue()


def data_uri(frame: bytes) -> str:
    """A JPEG as the source of an HTML image."""
    return f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}"


def preview(image: Tensor, size: int = PICTURE_SIZE) -> Tensor:
    """An image [1, 3, S, S] at a size of the explorer's."""
    return resize(resize_area(image.clamp(-1, 1), size), size)

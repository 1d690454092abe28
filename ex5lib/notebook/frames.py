"""Frames: the small JPEGs in which the explorer and the sweeps send images to the page."""

import base64
import io

from PIL import Image, ImageDraw
from torch import Tensor

from ex5lib.degradations import REFERENCE_SIZE
from ex5lib.errors import SettingError
from ex5lib.images import check_image, resize_area, to_uint8

FRAME_SIZE = REFERENCE_SIZE  # px; small enough to send ten times a second, and a hole's corners need no scaling
_OUTLINE, _BLANK = "#ffb000", "#d9dee3"


def jpeg(image: Tensor, outline: tuple[int, int, int, int] | None = None) -> bytes:
    """One image [1, 3, S, S] as a JPEG of at most 256 px.

    Args:
        image: larger ones are averaged down.
        outline: top, left, height and width, in px of the frame, of a hole to draw a line around.

    Raises:
        SettingError: if it is not one square image.
    """
    check_image(image, batch=1)
    rows, columns = image.shape[2:]
    if rows != columns:
        raise SettingError(f"The image is {columns} × {rows} px, but it must be square, like an aligned face.")
    picture = Image.fromarray(to_uint8(resize_area(image, FRAME_SIZE)))
    if outline is not None:
        top, left, height, width = outline
        ImageDraw.Draw(picture).rectangle((left - 2, top - 2, left + width + 1, top + height + 1), None, _OUTLINE, 2)
    return _encoded(picture)


def blank() -> bytes:
    """A grey frame, where there is no image yet."""
    return _encoded(Image.new("RGB", (FRAME_SIZE, FRAME_SIZE), _BLANK))


def data_uri(frame: bytes) -> str:
    """A JPEG as the address of an HTML image."""
    return f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}"


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()

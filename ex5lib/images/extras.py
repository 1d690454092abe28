"""What a photo's file holds beside its colours, and a restored photo should keep: opacity, EXIF data, resolution."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

_TEXTS = (0x10E, 0x10F, 0x110, 0x131, 0x132, 0x13B, 0x8298)  # description, make, model, software, date, artist, rights
_EXIF, _GPS = 0x8769, 0x8825
_COLOR_SPACE = 0xA001
_UNTRUE = (  # once the photo is turned, enlarged or saved again
    *(0x927C, 0xA002, 0xA003, 0xA005),  # maker's note, width, height, Adobe RGB
    *(0x9214, 0xA214, 0xA20E, 0xA20F, 0xA210),  # where the subject is, in px; px of the camera in an inch
)


@dataclass(frozen=True, eq=False)
class Extras:
    """What is kept of a photo's file when the photo is saved again.

    Attributes:
        exif: its EXIF data (date, camera, place), without what no longer holds: orientation, thumbnail, colour space.
        dpi: its resolution (horizontal, vertical), if it states one.
        alpha: its opacity, a picture of mode "L" and of the photo's size; None if it is opaque.
    """

    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    alpha: Image.Image | None = None

    def added_to(self, picture: Image.Image) -> Image.Image:
        """The picture with this opacity, if there is any; what lay on white is as it was before."""
        if self.alpha is None:
            return picture
        share = np.asarray(self.alpha, np.float32)[:, :, None] / 255
        pixels = (np.asarray(picture) - 255 * (1 - share)) / share.clip(1 / 255)
        made = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
        made.putalpha(self.alpha)
        return made

    def enlarged(self, factor: int) -> "Extras":
        """Those of the photo when it has ``factor`` times as many pixels a side; a print of it keeps its size."""
        if factor == 1:
            return self
        dpi = self.dpi and (self.dpi[0] * factor, self.dpi[1] * factor)
        alpha = self.alpha and self.alpha.resize(
            (self.alpha.width * factor, self.alpha.height * factor), Image.Resampling.LANCZOS
        )
        return replace(self, dpi=dpi, alpha=alpha)

    @property
    def options(self) -> dict:
        """How Pillow writes them."""
        return {key: value for key, value in (("exif", self.exif), ("dpi", self.dpi)) if value}


def extras_of(picture: Image.Image) -> Extras:
    """What to keep of a normalized picture."""
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    return Extras(picture.info.get("exif", b""), picture.info.get("dpi"), alpha)


def kept_exif(picture: Image.Image) -> bytes:
    """The EXIF data of a picture that is now upright and in sRGB; empty if they cannot be read."""
    try:
        exif, tags = picture.getexif(), Image.Exif()
        for tag in _TEXTS:
            if tag in exif:
                tags[tag] = exif[tag]
        if camera := exif.get_ifd(_EXIF):
            tags[_EXIF] = {tag: value for tag, value in camera.items() if tag not in _UNTRUE} | {_COLOR_SPACE: 1}
        if place := exif.get_ifd(_GPS):
            tags[_GPS] = dict(place)
        return tags.tobytes() if tags else b""
    except Exception:  # Pillow raises nearly anything on damaged tags
        return b""

"""Colours of image files in sRGB, however the file says what they are: a profile, chromaticities, code points, EXIF."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

_D65 = (0.3127, 0.3290)
_SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
_ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
# ITU-T H.273's code points, as HEIC, AVIF and PNG give them; others are as good as sRGB.
_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),  # BT.2020
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),  # Display P3
}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_WHITE = 203  # cd/m²: of white paper in pictures with a wider range (ITU-R BT.2408)
_INTEROPERABILITY = 0xA005  # a part of EXIF
_ROWS = 256  # converted at a time: floats of a large photo would not fit


def _srgb_to_linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(x: np.ndarray) -> np.ndarray:
    x = x.clip(0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def _pq_to_linear(x: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084; 1 is white paper."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = x ** (1 / m2)
    return 10_000 / _WHITE * ((power - c1).clip(0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_to_linear(x: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 on a screen of 1000 cd/m²; 1 is white paper."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(x <= 0.5, x * x / 3, (np.exp((x - c) / a) + b) / 12)
    return 1000 / _WHITE * scene**1.2


_CURVES = {16: _pq_to_linear, 18: _hlg_to_linear}


@dataclass(frozen=True)
class Coding:
    """What RGB values mean where no ICC profile says it.

    Attributes:
        primaries: (x, y) of red, green, blue and white.
        curve: from values in [0, 1] to linear light; 1 is white.
    """

    primaries: tuple[tuple[float, float], ...] = _SRGB
    curve: Callable[[np.ndarray], np.ndarray] = _srgb_to_linear

    def to_srgb(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] → the same in sRGB."""
        light = self.curve(np.arange(256) / 255).astype(np.float32)  # of each value
        matrix = (np.linalg.inv(_to_xyz(_SRGB)) @ _to_xyz(self.primaries)).astype(np.float32).T
        made = np.empty_like(pixels)
        for top in range(0, len(pixels), _ROWS):
            linear = light[pixels[top : top + _ROWS]] @ matrix
            made[top : top + _ROWS] = (255 * _linear_to_srgb(linear)).round()
        return made


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """The matrix from linear RGB to XYZ, adapted to D65."""
    xyz = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    white, rgb = xyz[:, 3], xyz[:, :3]
    x, y = _D65
    gain = (_BRADFORD @ (x / y, 1, (1 - x - y) / y)) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ np.diag(gain) @ _BRADFORD @ rgb @ np.diag(np.linalg.solve(rgb, white))


def stated_coding(picture: Image.Image) -> Coding | None:
    """What a file states about its colours beside a profile; None if nothing, or if it is sRGB.

    PNG: the chunks gAMA and cHRM. HEIC, AVIF: code points for a wider range or gamut. EXIF: Adobe RGB, as cameras that
    follow DCF tell it.
    """
    if codes := picture.info.get("code_points"):
        primaries, transfer = codes
        return Coding(_PRIMARIES.get(primaries, _SRGB), _CURVES.get(transfer, _srgb_to_linear))
    if "srgb" in picture.info:
        return None
    gamma, chromaticity = picture.info.get("gamma"), picture.info.get("chromaticity")
    if picture.format == "PNG" and (gamma or chromaticity):
        gamma = gamma or 1 / 2.2
        plain = abs(gamma - 1 / 2.2) < 0.005  # how writers say sRGB
        return Coding(_chromaticities(chromaticity), _srgb_to_linear if plain else lambda x: x ** (1 / gamma))
    try:
        if str(picture.getexif().get_ifd(_INTEROPERABILITY).get(1, "")).strip("\0 ") == "R03":
            return Coding(_ADOBE_RGB, lambda x: x ** (563 / 256))
    except Exception:  # Pillow raises nearly anything on damaged tags
        pass
    return None


def _chromaticities(stated: tuple[float, ...] | None) -> tuple[tuple[float, float], ...]:
    """PNG's cHRM as (x, y) of red, green, blue and white; sRGB's if it is missing or impossible."""
    if stated is None or len(stated) != 8:
        return _SRGB
    white, red, green, blue = zip(stated[::2], stated[1::2], strict=True)
    primaries = (red, green, blue, white)
    if min(y for _, y in primaries) < 0.01 or max(map(max, primaries)) > 1:
        return _SRGB
    sides = np.array([red, green, blue])
    return primaries if abs(np.linalg.det(sides[1:] - sides[0])) > 0.01 else _SRGB


def code_points(head: bytes) -> tuple[int, int] | None:
    """The primaries and the curve that the head of an AVIF file names; None if it is sRGB or names none."""
    found = re.search(rb"colrnclx(....)", head, re.DOTALL)
    if found is None:
        return None
    return wide(int.from_bytes(found[1][:2], "big"), int.from_bytes(found[1][2:], "big"))


def wide(primaries: int, transfer: int) -> tuple[int, int] | None:
    """The code points if they stand for more than sRGB."""
    return (primaries, transfer) if primaries in _PRIMARIES or transfer in _CURVES else None


def to_rgb(picture: Image.Image, background: str) -> Image.Image:
    """A normalized picture in sRGB, its transparent pixels on a background ("white" or "black")."""
    profile, coding = picture.info.get("icc_profile"), picture.info.get("coding")
    mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    picture = picture if picture.mode == mode else picture.convert(mode)
    if profile:
        picture = _from_profile(picture, profile)
    elif coding is not None and mode != "CMYK":
        picture = Image.fromarray(coding.to_srgb(np.asarray(picture.convert("RGB"))))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    """Grey, RGB or CMYK pixels in sRGB; unchanged if the ICC profile is damaged or made for other pixels."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}[source.profile.xcolor_space.strip()]
        if mode == "RGB" and picture.mode == "L":  # common: a grey photo with the profile of a screen
            picture = picture.convert("RGB")
        return ImageCms.profileToProfile(  # type: ignore[return-value]  # None only if it works in place
            picture,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # a damaged profile raises nearly anything
        return picture

"""Reading photos as they come from cameras, phones, scanners and editors: upright, 8 bits a channel, in sRGB."""

import io
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ex5lib.errors import Ex5Error, FileError

# Pillow reads more formats, but photos do not come in them. EPS it would give to Ghostscript, which runs the file.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "JPEG2000", "PPM", "TGA", "QOI", "DDS", "PSD")

_TURNS = {  # EXIF's orientation → what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION, _PHOTOMETRIC, _BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 274, 262, 258, 281, 341  # TIFF's


def read_photo(path: str | Path) -> Image.Image:
    """Read an image file, whatever its name says it is; a leading ~ means the home directory.

    Returns:
        A PIL image with 8 bits a channel or with floating-point pixels, upright, with its ICC profile.

    Raises:
        FileError: if the file is missing, not an image, damaged, or implausibly large.
    """
    if re.match(r"(https?|ftp):/", str(path)):
        address = re.sub(r":/+", "://", str(path), count=1)  # as a Path, it has lost a slash
        raise FileError(f"{address} is an address on the web: download the photo first, then name its file.")
    path = Path(os.path.expanduser(path))
    name = str(path)
    with readable(name):
        if path.is_dir():
            raise FileError(f"{name} is a folder: name an image file in it.")
        if path.is_file() and path.stat().st_size == 0:
            raise FileError(f"{name} is empty: save or download the image again.")
        with path.open("rb") as file:
            source = _opened(file)
            lower = None
            if tiles := _tiles_of_lower_bytes(source):
                lower = _opened(io.BytesIO(path.read_bytes()))
                lower.tile = tiles  # type: ignore[attr-defined]  # a picture that was opened has them
            return normalized(source, name, lower)


def normalized(source: Image.Image, name: str, lower: Image.Image | None = None) -> Image.Image:
    """A picture with 8 bits a channel, rotated according to its EXIF data if these can be read.

    Args:
        source: the picture, which stays as it is; of its metadata, the colour profile and transparency are kept.
        name: what error messages call it.
        lower: the lower bytes of 16-bit RGB, if there are any; then ``source`` has the upper ones.

    Raises:
        FileError: if its pixels are floating-point or have more than 16 bits.
    """
    picture = _loaded(source)
    if picture.mode == "F":
        raise FileError(f"{name} has floating-point pixels: save it as JPEG or PNG.")
    kept: dict = {key: value for key, value in source.info.items() if key in ("icc_profile", "transparency")}
    if lower is not None or picture.mode.startswith("I"):
        values = np.asarray(picture)
        if lower is not None:
            values = values.astype(np.uint16) << 8 | np.asarray(_loaded(lower))
        picture = Image.fromarray(_eight_bits(values, getattr(source, "tag_v2", {}), name))
        kept.pop("transparency", None)  # a colour of 16 bits
    turn = _turn(source)
    picture = picture if turn is None else picture.transpose(turn)
    picture.info = kept
    return picture


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn any error in reading an image into a FileError that calls the image ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on large photos, which are common (bombs raise), and on odd metadata
            yield
    except Ex5Error:
        raise
    except FileNotFoundError:
        raise FileError(f"There is no file {name}: check its name and folder.") from None
    except PermissionError:
        raise FileError(f"{name} cannot be read: its permissions do not allow it.") from None
    except Image.DecompressionBombError:
        raise FileError(
            f"{name} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels: scale it down first."
        ) from None
    except UnidentifiedImageError:
        raise FileError(f"{name} is not an image that can be read: save it as JPEG or PNG.") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno:  # from the system, not from a decoder
            raise FileError(f"{name} cannot be read ({error.strerror}): check the name and the disk.") from None
        reason = f" ({' '.join(str(error).split())})" if str(error) else ""
        raise FileError(f"{name} is damaged or truncated{reason}: save or download it again.") from None


def _opened(file: BinaryIO) -> Image.Image:
    try:
        return _identified(file)
    except Exception:  # Pillow reads the EXIF data of JPEG and AVIF immediately, and fails if they are damaged
        file.seek(0)
        head = file.read(12)
        if not head.startswith(b"\xff\xd8") and not head.endswith((b"avif", b"avis")):
            raise
        return _identified(io.BytesIO((head + file.read()).replace(b"Exif", b"none")))


def _identified(file: BinaryIO) -> Image.Image:
    Image.init()
    file.seek(0)
    try:
        return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError:
        import pillow_heif  # imported here: only HEIC needs it

        file.seek(0)
        if not pillow_heif.is_supported(file):
            raise
        found = pillow_heif.open_heif(file)  # turned upright by libheif
        if Image.MAX_IMAGE_PIXELS and found.size[0] * found.size[1] > 2 * Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError from None
        data = found.data  # decoding may correct the size
        picture = Image.frombytes(found.mode, found.size, data, "raw", found.mode, found.stride)
        picture.info["icc_profile"] = found.info.get("icc_profile")
        return picture


def _loaded(picture: Image.Image) -> Image.Image:
    """A copy of the picture in memory."""
    try:
        picture.load()
    except Exception:
        if getattr(picture, "tile", True):  # else the pixels were decoded, and only a tag of a TIFF is damaged
            raise
    return picture.copy()


def _turn(picture: Image.Image) -> Image.Transpose | None:
    for _ in range(2):  # if a damaged tag makes Pillow fail, a second call finds the tags before it
        try:
            return _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
        except Exception:  # Pillow raises nearly anything on damaged tags, too
            continue
    return None


def to_rgb(picture: Image.Image, background: str) -> Image.Image:
    """A normalized picture in sRGB, its transparent pixels on a background ("white" or "black")."""
    profile = picture.info.get("icc_profile")
    mode = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}.get(picture.mode, "RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    picture = picture.convert(mode)
    return (_from_profile(picture, profile) if profile else picture).convert("RGB")


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


def _tiles_of_lower_bytes(picture: Image.Image) -> list:
    """Tiles that make Pillow, which keeps only the upper bytes of 16-bit RGB, decode the lower ones; else none.

    They name the other byte order.
    """
    tiles = []
    for tile in getattr(picture, "tile", ()):
        raw, *rest = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if not re.fullmatch("RGB[AX]?;16[BLN]", str(raw)):
            return []
        tiles.append(tile._replace(args=(raw[:-1] + ("L" if raw[-1] == "B" else "B"), *rest)))
    return tiles


def _eight_bits(values: np.ndarray, tags: Mapping, name: str) -> np.ndarray:
    """Pixels of up to 16 bits as uint8, scaled by the bits that are really used."""
    if values.min() < 0 or values.max() > 65535:
        raise FileError(f"{name} has pixels of more than 16 bits: save it as JPEG or PNG.")
    white = _white(values, tags)
    scaled = (values * np.float32(255 / white)).round().astype(np.uint8)
    return 255 - scaled if tags.get(_PHOTOMETRIC) == 0 else scaled  # 0: black is the highest value


def _white(values: np.ndarray, tags: Mapping) -> int:
    """The value that stands for white: 2^n − 1 for the n bits that are really used.

    A TIFF may state n, or 2^n − 1 as its highest value. (PNG's sBIT does not count: it says how many bits there were
    before they were spread over all 16.) Where nothing is stated, 12 bits, as from scanners, cameras and microscopes,
    are recognised by how they use their range: nothing above 4095, something in its upper quarter, one value in a
    thousand in its upper half, and more than the 16 levels that 8 bits have down there. A photo of 16 bits like that
    would show nothing brighter than 15 of 255.
    """
    for key in (_MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE):
        stated = tags.get(key)  # a number, or one for each channel
        stated = stated[0] if isinstance(stated, tuple) and stated else stated
        if stated in (1023, 4095, 16383, 65535) and values.max() <= stated:  # others are only this photo's highest
            return stated
    if tags.get(_BITS_PER_SAMPLE) in (12, (12,)):
        return 4095
    if values.max() > 4095:
        return 65535
    counts = np.bincount(values.ravel(), minlength=4096)
    twelve = counts[3072:].any() and counts[2048:].sum() >= values.size / 1000 and np.count_nonzero(counts) > 16
    return 4095 if twelve else 65535

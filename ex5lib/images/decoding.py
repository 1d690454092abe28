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
from PIL import Image, UnidentifiedImageError

from ex5lib.errors import Ex5Error, FileError
from ex5lib.images.colors import code_points, stated_coding, wide
from ex5lib.images.extras import kept_exif

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
_MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # may hold an animation
_HEAD = 65536  # bytes, in which an AVIF file says what its colours are
_PAGE_KIND, _SMALLER_PICTURES, _DNG = 254, 330, 50706  # TIFF's; the last one is the version of a raw file
_ORIENTATION, _PHOTOMETRIC, _BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE, _S_MAX_SAMPLE_VALUE = 274, 262, 258, 281, 341  # TIFF's


def read_photo(path: str | Path) -> Image.Image:
    """Read an image file, whatever its name says it is; a leading ~ means the home directory.

    Of a TIFF file's pages the largest is read. A JPEG that lacks only the mark of its end is read with a warning.

    Returns:
        A PIL image with 8 bits a channel, upright, with what its file says of its colours, EXIF data and resolution.

    Raises:
        FileError: if the file is missing, not an image, damaged, implausibly large, or holds several pictures of which
            none is the photo: an album, an animation, a camera's raw file.
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
            source = _at_photo(_opened(file), name)
            lower = None
            if tiles := _tiles_of_lower_bytes(source):
                lower = _at_photo(_opened(io.BytesIO(path.read_bytes())), name)
                lower.tile = tiles  # type: ignore[attr-defined]  # a picture that was opened has them
            try:
                return normalized(source, name, lower)
            except OSError:
                if (whole := _with_end(path)) is None:
                    raise
    warnings.warn(f"{name} lacks its last bytes, but no pixels: save it again to mend it.", stacklevel=2)
    return normalized(whole, name)


def normalized(source: Image.Image, name: str, lower: Image.Image | None = None) -> Image.Image:
    """A picture with 8 bits a channel, rotated according to its EXIF data if these can be read.

    Args:
        source: the picture, which stays as it is; of its metadata, colours, transparency, EXIF data without what no
            longer holds, and resolution are kept.
        name: what error messages call it.
        lower: the lower bytes of 16-bit RGB, if there are any; then ``source`` has the upper ones.

    Raises:
        FileError: if its pixels are floating-point or have more than 16 bits.
    """
    picture = _loaded(source)
    if picture.mode == "F":
        raise FileError(f"{name} has floating-point pixels: save it as JPEG or PNG.")
    kept: dict = {key: value for key, value in source.info.items() if key in ("icc_profile", "transparency", "dpi")}
    kept |= {"coding": stated_coding(source), "exif": kept_exif(source)}
    if lower is not None or picture.mode.startswith("I"):
        values = np.asarray(picture)
        if lower is not None:
            values = values.astype(np.uint16) << 8 | np.asarray(_loaded(lower))
        picture = Image.fromarray(_eight_bits(values, getattr(source, "tag_v2", {}), name))
        kept.pop("transparency", None)  # a colour of 16 bits
    turn = _turn(source)
    if turn is not None:
        picture = picture.transpose(turn)
        if turn not in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM):
            kept["dpi"] = kept.get("dpi", ())[::-1]
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
        opened = Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
        if opened.format == "AVIF":
            file.seek(0)
            opened.info["code_points"] = code_points(file.read(_HEAD))
        return opened
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
        nclx = found.info.get("nclx_profile") or {}
        codes = wide(nclx.get("color_primaries", 0), nclx.get("transfer_characteristics", 0))
        picture.info |= {"icc_profile": found.info.get("icc_profile"), "code_points": codes}
        if exif := found.info.get("exif"):
            picture.info["exif"] = _upright(exif)
        return picture


def _upright(exif: bytes) -> bytes:
    """EXIF data of a picture that has been turned upright."""
    try:
        tags = Image.Exif()
        tags.load(exif)
        tags.pop(_ORIENTATION, None)
        return tags.tobytes()
    except Exception:  # damaged
        return b""


def _at_photo(picture: Image.Image, name: str) -> Image.Image:
    """A file's picture, at the page that is the photo: the largest, if the others are previews of it.

    Raises:
        FileError: if that cannot be told.
    """
    try:
        count = getattr(picture, "n_frames", 1)
    except Exception:  # damaged pages behind the first
        count = 1
    if picture.format in _MOVING and count > 1:
        raise FileError(f"{name} is an animation of {count} pictures: save the one that you want as a file of its own.")
    if picture.format != "TIFF":
        return picture
    areas, raw = {}, False
    for page in range(count):
        try:
            picture.seek(page)
        except Exception:  # a page of a kind that Pillow does not know, or a damaged one
            continue
        tags = picture.tag_v2  # type: ignore[attr-defined]
        kind = tags.get(_PAGE_KIND, 0)
        raw |= _DNG in tags or (kind == 1 and _SMALLER_PICTURES in tags)
        if kind != 4:  # a mask
            areas[page] = picture.width * picture.height
    if raw:
        raise FileError(
            f"{name} is a camera's raw file, and only its preview can be read: develop it to a JPEG or TIFF first."
        )
    largest = max(areas, key=areas.__getitem__, default=0)
    if sum(2 * area > areas[largest] for area in areas.values()) > 1:
        raise FileError(f"{name} holds {len(areas)} pictures: save the one that you want as a file of its own.")
    picture.seek(largest)
    return picture


def _with_end(path: Path) -> Image.Image | None:
    """The picture of a JPEG file to which the mark of its end was added; None if it lacks pixels, too.

    A decoder makes up the pixels that it lacks from whatever follows. Nothing follows the last one, so it reads the
    same picture with one thing after it and another.
    """
    data = path.read_bytes().rstrip(b"\xff")
    if not data.startswith(b"\xff\xd8"):
        return None
    first, second = (_opened(io.BytesIO(data + after + b"\xff\xd9")) for after in (b"", b"\xa5\x5a" * 500))
    return first if np.array_equal(np.asarray(first), np.asarray(second)) else None


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

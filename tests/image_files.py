"""Image files: of every format, with pixels, tags and colour profiles that Pillow cannot write, and damaged ones."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pillow_heif
from PIL import Image

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "JPEG2000", "PPM", "TGA", "QOI", "DDS", "PSD")


def picture() -> Image.Image:
    """A photo-like picture of 70 × 90 px that is not symmetric."""
    y, x = np.mgrid[:90, :70]
    return Image.fromarray(np.stack([x * 3, y * 2, 255 - x - y], axis=2).astype(np.uint8))


def encoded(format: str, **options) -> bytes:
    """The picture as a file of a format."""
    buffer = io.BytesIO()
    if format == "HEIF":
        pillow_heif.from_pillow(picture()).save(buffer, quality=90, **options)
    elif format == "PSD":  # Pillow does not write it: header, three empty sections, raw planes
        header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 90, 70, 8, 3) + bytes(12) + struct.pack(">H", 0)
        buffer.write(header + np.asarray(picture()).transpose(2, 0, 1).tobytes())
    else:
        picture().save(buffer, format, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG file of uint16 pixels [H, W] or [H, W, 3], with further chunks before the pixels."""
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    pieces = {"IHDR": header, **chunks, "IDAT": zlib.compress(rows), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind.encode(), body) for kind, body in pieces.items())


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff(pixels: np.ndarray, order: str = "<", deflate: bool = False, **tags: int) -> bytes:
    """A TIFF file of uint16 pixels [H, W] or [H, W, 3]; further tags by number, as in ``tag_281=4095``."""
    height, width, channels = *pixels.shape[:2], pixels.size // (pixels.shape[0] * pixels.shape[1])
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    entries = {256: width, 257: height, 258: 16, 259: 8 if deflate else 1, 262: 2 if channels == 3 else 1}
    entries |= {273: 8, 277: channels, 278: height, 279: len(data)}
    entries |= {int(name.removeprefix("tag_")): value for name, value in tags.items()}
    directory = struct.pack(f"{order}H", len(entries))
    for tag, value in sorted(entries.items()):
        directory += struct.pack(f"{order}HHII", tag, 4, 1, value)  # all as 32-bit numbers
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + directory + bytes(4)


def profile(space: str, tags: dict[str, bytes]) -> bytes:
    """An ICC profile, version 2, of a colour space such as "RGB "."""
    pcs, kind = (b"Lab ", b"prtr") if space == "CMYK" else (b"XYZ ", b"mntr")
    texts = {"desc": b"desc" + bytes(8) + bytes(79), "cprt": b"text\0\0\0\0none\0"}
    tags = {"wtpt": _xyz(0.9642, 1, 0.8249), **texts, **tags}
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"", 0x02400000, kind, space.encode(), pcs)
    head += bytes(12) + b"acsp" + bytes(28) + _fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + table + body


def power(gamma: float) -> bytes:
    """A tone curve x^gamma."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def srgb_curve() -> bytes:
    """sRGB's tone curve, as a table of 4,096 values."""
    y = srgb_to_linear(np.linspace(0, 1, 4096))
    return b"curv\0\0\0\0" + struct.pack(">I", len(y)) + np.round(y * 65535).astype(">u2").tobytes()


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def rgb_profile(colorants: list, curve: bytes) -> bytes:
    """A profile of RGB by the colours of its three primaries in XYZ, adapted to D50, and its tone curve."""
    tags = {f"{name}XYZ": _xyz(*color) for name, color in zip("rgb", colorants, strict=True)}
    return profile("RGB ", tags | {f"{name}TRC": curve for name in "rgb"})


def cmyk_profile(lab: np.ndarray) -> bytes:
    """A profile of CMYK by the colours L*, a*, b* [2, 2, 2, 2, 3] of no or all ink of each kind."""
    codes = np.round(lab * [255 / 100, 1, 1] + [0, 128, 128]).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint8).tobytes()
    unity = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unity + 4 * ramp + codes.tobytes() + 3 * ramp
    return profile("CMYK", {"A2B0": table})


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def damaged_files(count: int) -> Iterator[bytes]:
    """So many damaged files of each format, and of some other ways to write a few of them."""
    whole = [encoded(name) for name in FORMATS]
    whole.append(encoded("JPEG", icc_profile=rgb_profile(np.eye(3).tolist(), power(1))))
    whole += [encoded("TIFF", compression="tiff_adobe_deflate"), encoded("DDS", pixel_format="DXT1")]
    whole.append(tiff(np.asarray(picture())[:, :, 0].astype(np.uint16) * 200))
    for data in whole:
        for seed in range(count):
            yield _damaged(data, np.random.default_rng(20 * seed))


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with a few bytes changed, cut off, taken out, or repeated; half of the time near its head."""
    body = bytearray(data)
    reach = min(len(body), 200) if rng.random() < 0.5 else len(body)
    at, some, kind = int(rng.integers(reach)), int(rng.integers(1, 40)), rng.integers(4)
    if kind == 0:
        for i in rng.integers(reach, size=rng.integers(1, 9)):
            body[i] = rng.choice([0, 255, 127, 128, rng.integers(256)])
    elif kind == 1:
        del body[at:]
    elif kind == 2:
        del body[at : at + some]
    else:
        body[at:at] = body[at : at + some]
    return bytes(body)


def exif_files(count: int) -> Iterator[tuple[str, bytes]]:
    """Files with whole pixels and damaged EXIF blocks, so many of each format that has such blocks, with its name."""
    tags = Image.Exif()
    tags.update(
        {274: 6, 270: "a picture", 282: 72.0, 306: "2020:01:01", 34665: {37500: b"a note", 40961: 1}, 271: "me"}
    )
    whole = tags.tobytes().removeprefix(b"Exif\0\0")
    place = whole[:8] + bytes(6) + b"stands for the block" * 30
    others = {name: encoded(name, exif=place) for name in ("AVIF", "HEIF")}
    for seed in range(count):
        block = _damaged(whole, np.random.default_rng(seed))
        yield from ((name, encoded(name, exif=b"Exif\0\0" + block)) for name in ("JPEG", "PNG", "WEBP"))
        for name, data in others.items():
            yield name, data.replace(place, block.ljust(len(place), b"\0"))

"""Image files and colour profiles, written byte by byte where Pillow cannot write them."""

import struct
import zlib

import numpy as np


def png(pixels: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG file of uint16 pixels [H, W] or [H, W, 3], with further chunks before the pixels."""
    colour = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
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
    pcs, kind = ("Lab ", "prtr") if space == "CMYK" else ("XYZ ", "mntr")
    tags = {
        "wtpt": xyz(0.9642, 1, 0.8249),
        "desc": b"desc" + bytes(8) + bytes(79),
        "cprt": b"text\0\0\0\0none\0",
    } | tags
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s", 128 + len(table) + len(body), b"", 0x02400000, *(t.encode() for t in (kind, space, pcs))
    )
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *_fixed(0.9642, 1, 0.8249))
    return head.ljust(128, b"\0") + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *_fixed(*values))


def power(gamma: float) -> bytes:
    """A tone curve x^gamma."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def srgb_curve() -> bytes:
    """sRGB's tone curve, as a table of 4,096 values."""
    x = np.linspace(0, 1, 4096)
    y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", len(y)) + np.round(y * 65535).astype(">u2").tobytes()


def rgb_profile(colorants: list, curve: bytes) -> bytes:
    """A profile of RGB by the colours of its three primaries in XYZ, adapted to D50, and its tone curve."""
    tags = {f"{name}XYZ": xyz(*color) for name, color in zip("rgb", colorants, strict=True)}
    return profile("RGB ", tags | {f"{name}TRC": curve for name in "rgb"})


def cmyk_profile(lab: np.ndarray) -> bytes:
    """A profile of CMYK by the colours L*, a*, b* [2, 2, 2, 2, 3] of no or all ink of each kind."""
    codes = np.round(lab * [255 / 100, 1, 1] + [0, 128, 128]).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint8).tobytes()
    unity = struct.pack(">9i", *_fixed(1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unity + 4 * ramp + codes.tobytes() + 3 * ramp
    return profile("CMYK", {"A2B0": table})


def _fixed(*values: float) -> list[int]:
    return [round(value * 65536) for value in values]

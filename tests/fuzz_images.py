"""Damaged image files, made deterministically: damaged EXIF blocks, and damaged files of every format.

Run by hand, all of them are tried, in a minute or two; the suite tries every 20th.

    PYTHONPATH=. python tests/fuzz_images.py
"""

import io
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image, ImageCms
from torch import Tensor

from ex5lib.errors import FileError
from ex5lib.images.loading import load_image

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


def whole_files() -> dict[str, bytes]:
    """One file of each format, several of those that have many ways to be written."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = {format: encoded(format) for format in FORMATS}
    files["JPEG with a profile"] = encoded("JPEG", icc_profile=profile)
    files["TIFF, deflated"] = encoded("TIFF", compression="tiff_adobe_deflate")
    files["DDS, compressed"] = encoded("DDS", pixel_format="DXT1")
    deep = io.BytesIO()
    Image.fromarray(np.asarray(picture())[:, :, 0].astype(np.uint16) * 200).save(deep, "TIFF")
    return files | {"TIFF of 16 bits": deep.getvalue()}


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with a few bytes changed, cut off, taken out, or repeated; half of the time near its head."""
    body = bytearray(data)
    reach = min(len(body), 200) if rng.random() < 0.5 else len(body)
    at = int(rng.integers(reach))
    kind = rng.integers(4)
    if kind == 0:
        for i in rng.integers(reach, size=rng.integers(1, 9)):
            body[i] = rng.choice([0, 255, 127, 128, rng.integers(256)])
    elif kind == 1:
        del body[at:]
    elif kind == 2:
        del body[at : at + int(rng.integers(1, 40))]
    else:
        body[at:at] = body[at : at + int(rng.integers(1, 40))]
    return bytes(body)


def exif_block(rng: np.random.Generator) -> bytes:
    """An EXIF block of a few common tags, orientation among them, whose types, counts and values are often wrong."""
    order = rng.choice(["<", ">"])
    tags = [274, 282, 283, 296, 271, 272, 306, 34665, 34853, 40965, 33432, 37500, 36864, 40961, 270]
    chosen = rng.permutation(tags)[: rng.integers(1, 9)].tolist()
    if 274 not in chosen:
        chosen.append(274)
    entries = b""
    for tag in sorted(chosen) if rng.random() < 0.7 else chosen:
        kind, count, value = 3, 1, int(rng.integers(1, 9))
        if tag != 274 or rng.random() < 0.3:
            kind = int(rng.integers(0, 15))
            count = int(rng.choice([0, 1, 1, 2, 4, 5, 100, 2**31, 2**32 - 1]))
            value = int(rng.choice([0, 1, 8, 26, 100, 2**16, 2**32 - 1, int(rng.integers(2**32))]))
        if kind == 3 and value < 2**16:
            entries += struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, kind, count, value)
    number = len(chosen) if rng.random() < 0.8 else int(rng.integers(0, 300))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    block = head + struct.pack(f"{order}H", number) + entries + struct.pack(f"{order}I", int(rng.choice([0, 8, 9999])))
    block += rng.integers(256, size=rng.integers(0, 60), dtype=np.uint8).tobytes()
    return b"Exif\0\0" + (damaged(block, rng) if rng.random() < 0.3 else block)


def exif_files(step: int = 1) -> Iterator[tuple[str, bytes]]:
    """Files with whole pixels and damaged EXIF blocks: 6,000 JPEG, 600 of each other format that has such blocks, or
    every ``step``-th of them; each with the format's name."""
    jpeg, png = encoded("JPEG"), encoded("PNG")
    whole = b"II*\0\x08\0\0\0" + bytes(6) + b"stands for the block" * 30
    others = {
        "WEBP": encoded("WEBP", exif=whole),
        "AVIF": encoded("AVIF", exif=whole),
        "HEIF": encoded("HEIF", exif=whole),
    }
    for seed in range(0, 6000, step):
        block = exif_block(np.random.default_rng(seed))
        yield "JPEG", jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]
        if seed % (10 * step) == 0:
            tiff = block[6:]
            chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
            yield "PNG", png[:33] + chunk + png[33:]  # after the header
            for name, data in others.items():
                assert whole in data
                yield name, data.replace(whole, tiff.ljust(len(whole), b"\0"))


def damaged_files(step: int = 1) -> Iterator[tuple[str, bytes]]:
    """400 damaged files of each format, or every ``step``-th of them, each with the format's name."""
    for name, data in whole_files().items():
        for seed in range(0, 400, step):
            yield name, damaged(data, np.random.default_rng(seed))


def outcome(data: bytes, path: Path) -> Tensor | str:
    """The image in a file, or "refused" in one sentence that names it, or the exception that escaped."""
    path.write_bytes(data)
    try:
        return load_image(path)
    except FileError as error:
        sentence = str(error)
        return "refused" if str(path) in sentence and "\n" not in sentence else f"not a sentence: {sentence}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def exif_outcomes(path: Path, step: int = 1) -> Counter:
    """What becomes of the files with damaged EXIF: (format, "the picture, upright or turned"), or anything else."""
    counts, upright = Counter(), {}
    for name, data in exif_files(step):
        if name not in upright:
            image = outcome(encoded(name), path)
            upright[name] = [turned.rot90(k, (2, 3)) for turned in (image, image.flip(3)) for k in range(4)]
        found = outcome(data, path)
        if not isinstance(found, str):
            alike = [turned.shape == found.shape and (turned - found).abs().mean() < 0.01 for turned in upright[name]]
            found = "whole" if any(alike) else "another picture"
        counts[name, found] += 1
    return counts


def damage_outcomes(path: Path, step: int = 1) -> Counter:
    """What becomes of the damaged files: (format, "image" or "refused"), or anything else."""
    counts = Counter()
    for name, data in damaged_files(step):
        found = outcome(data, path)
        counts[name, found if isinstance(found, str) else "image"] += 1
    return counts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for outcomes in (exif_outcomes, damage_outcomes):
            began = time.perf_counter()
            for (name, found), count in outcomes(Path(folder, "photo.jpg")).items():
                print(f"{name}: {count} {found}")
            print(f"{time.perf_counter() - began:.0f} s")

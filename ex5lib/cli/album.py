"""A folder of photos: which of its files are searched, where their results go, and which process takes which."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ex5lib.errors import FileError, SettingError
from ex5lib.images.loading import IMAGE_SUFFIXES


def photos_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder, and its other files, each sorted by name; hidden files and folders are neither.

    Files whose names begin with a dot are the system's: macOS writes a ``._me.jpg`` beside ``me.jpg`` on some disks.

    Raises:
        FileError: if there is no image.
    """
    # A link that leads nowhere is a photo that will fail; a pipe would keep its reader waiting for ever.
    seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in seen if path.is_file() or (path.is_symlink() and not path.exists())]
    photos = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise FileError(f"There is no image in {folder}: name a folder of JPEG or PNG files, or one file.")
    return photos, [path for path in files if path not in set(photos)]


def skipped(others: Sequence[Path]) -> str:
    """One line about the files that are no images: how many, and by which suffixes."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in others)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    return (
        f"skipped {len(others)} {'file that is no image' if len(others) == 1 else 'files that are no images'}: {kinds}"
    )


def output_folders(photos: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Each photo with the folder to write its result to: its name without the suffix, unless that is ambiguous."""
    stems = Counter(path.stem.casefold() for path in photos)  # some file systems do not tell a from A
    names = {path.name.casefold() for path in photos}

    def is_clear(stem: str) -> bool:
        return stems[stem] == 1 and stem not in names and not stem.endswith((".csv", ".html"))  # as summaries do

    return {path: out / (path.stem if is_clear(path.stem.casefold()) else path.name) for path in photos}


def parse_share(text: str) -> tuple[int, int]:
    """ "3/8" → (3, 8).

    Raises:
        SettingError: if it is no share.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise SettingError(f'"{text}" is no share of a folder: write 3/8 for the third of eight.')
    return int(part), int(parts)


@contextmanager
def claimed(out: Path, photo: Path) -> Iterator[bool]:
    """Claim a photo for this process; whether that worked, or another process has claimed it.

    The claim is a lock of the operating system on a hidden file in ``out``. It goes with the process that holds it,
    however that ends. Between machines it holds if the disk that they share passes locks on, as NFS (from version 4,
    or with its lock service), Lustre (mounted with ``flock``), GPFS and CephFS do.
    """
    name = hashlib.sha256(os.fsencode(photo.name)).hexdigest()[:16]  # a name may be long already
    out.mkdir(parents=True, exist_ok=True)
    path = out / f".claim-{name}"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"No photo can be claimed in {out} ({reason}): choose another --out.") from None
    try:
        yield True
    finally:
        with suppress(OSError):  # Windows does not remove what is open, but filelock will
            path.unlink(missing_ok=True)
        lock.release()

"""A folder of photos: which files are searched, where their results go, and which process takes which."""

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
    """The images of a folder, and its other files, each sorted by name, without hidden files and subfolders.

    Names that begin with a dot are the system's: macOS writes a ``._me.jpg`` beside ``me.jpg`` on some disks.

    Raises:
        FileError: if there is no image.
    """
    # A broken link counts as a photo that fails; a pipe would block its reader for good.
    seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in seen if path.is_file() or (path.is_symlink() and not path.exists())]
    photos = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    if not photos:
        raise FileError(f"There is no image in {folder}: name a folder of JPEG or PNG files, or one file.")
    return photos, [path for path in files if path not in set(photos)]


def skipped(others: Sequence[Path]) -> str:
    """One line about the files that are not images: how many, and with which suffixes."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in others)
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    which = "1 file that is not an image" if len(others) == 1 else f"{len(others)} files that are not images"
    return f"skipped {which}: {kinds}"


def output_folders(photos: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Each photo with the folder for its result: its name without the suffix, unless that is ambiguous."""
    stems = Counter(path.stem.casefold() for path in photos)  # to some file systems, a and A are the same
    names = {path.name.casefold() for path in photos}

    def is_clear(stem: str) -> bool:
        return stems[stem] == 1 and stem not in names and not stem.endswith((".csv", ".html"))  # like summaries

    return {path: out / (path.stem if is_clear(path.stem.casefold()) else path.name) for path in photos}


def parse_share(text: str) -> tuple[int, int]:
    """ "3/8" → (3, 8).

    Raises:
        SettingError: if it is not a share.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise SettingError(f'"{text}" is not a share of a folder: write 3/8 for the third of eight.')
    return int(part), int(parts)


@contextmanager
def claimed(out: Path, photo: Path) -> Iterator[bool]:
    """Claim a photo for this process; yields whether that worked, that is, whether no other process has claimed it.

    The claim is a lock of the operating system on a hidden file in ``out``. It ends with its process, even if that
    crashes. It works between machines if their shared disk passes locks on, as NFS (from version 4, or with its lock
    service), Lustre (mounted with ``flock``), GPFS and CephFS do.
    """
    name = hashlib.sha256(os.fsencode(photo.name)).hexdigest()[:16]  # the photo's name may be too long already
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
        with suppress(OSError):  # Windows does not remove open files, but filelock will
            path.unlink(missing_ok=True)
        lock.release()

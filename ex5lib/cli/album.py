"""A folder of photos: which files are searched, and where their results go."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ex5lib.errors import FileError
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

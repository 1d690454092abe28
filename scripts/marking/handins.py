"""A class's hand-ins: zips or folders, one for each student, as a course's web site collects them."""

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode

from ex5lib.course.handin import ABOUT
from ex5lib.errors import FileError

_ARCHIVES = {".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".xz"}
_LARGEST = 64 * 2**20  # bytes of a notebook
_CONFLICT = re.compile(rb"^\s*<{7} ", re.M)


@dataclass
class HandIn:
    """What one student handed in."""

    name: str  # of the zip or folder
    about: dict[str, str] = field(default_factory=dict)  # the student's name and number, if `submit` made it
    notebooks: dict[str, bytes] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


def read_hand_ins(folder: Path, names: Sequence[str]) -> list[HandIn]:
    """The hand-ins in a folder, or the folder itself as one if it holds notebooks, with those of the given names."""
    if any(folder.glob("*.ipynb")):
        return [_hand_in(folder, names)]
    places = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [_hand_in(path, names) for path in places if path.is_dir() or path.suffix.lower() in _ARCHIVES]


def _hand_in(path: Path, names: Sequence[str]) -> HandIn:
    made = HandIn(path.name if path.is_dir() or path.with_suffix("").exists() else path.stem)
    files: dict[str, bytes] = {}
    try:
        for file, content in _files(path):
            files[file] = content
    except Exception as error:  # whatever may be wrong with a zip: torn, encrypted, of another kind
        made.trouble.append(f"a zip cannot be read ({error}): ask for a new one")
    for name in names:
        candidates = [file for file in files if PurePosixPath(file).stem == name]
        if not candidates:  # a browser or Colab may have added to the name: 3.1_alignment (1).ipynb
            start = name.partition("_")[0] + "_"
            candidates = [file for file in files if PurePosixPath(file).name.startswith(start)]
        if candidates:
            chosen = min(candidates, key=lambda file: (file.count("/"), file))
            made.notebooks[name] = files[chosen]
            if len({files[file] for file in candidates}) > 1:
                made.trouble.append(f"there are several of {name}: {chosen} was marked")
    for file, content in files.items():
        if PurePosixPath(file).name == ABOUT:
            try:
                about = json.loads(content)
                made.about = {key: str(about[key]).lstrip("=+-@\t ") for key in ("name", "number")}  # no formula
            except (ValueError, KeyError, TypeError):
                made.trouble.append(f"{file} is damaged")
    return made


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """The notebooks, and what says whose they are, in a folder or zip and in the zips in that."""
    if path.is_dir():
        for file in sorted(path.rglob("*"), key=lambda file: (file.suffix.lower() == ".zip", file)):
            relative = file.relative_to(path)
            if not file.is_file() or _is_aside(relative.as_posix()):
                continue
            if file.suffix.lower() == ".zip":
                yield from _zipped(file.read_bytes(), relative.as_posix() + "/")
            elif _is_wanted(relative.as_posix(), file.stat().st_size):
                yield relative.as_posix(), file.read_bytes()
    else:
        yield from _zipped(path.read_bytes())


def _zipped(content: bytes, before: str = "") -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if not _is_aside(entry.filename) and _is_wanted(entry.filename, entry.file_size):
                yield before + entry.filename, archive.read(entry)


def _is_aside(file: str) -> bool:
    """Whether a file is what Jupyter, macOS or git keep beside the notebooks."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(file).parts)


def _is_wanted(file: str, size: int) -> bool:
    return (file.endswith(".ipynb") or PurePosixPath(file).name == ABOUT) and size <= _LARGEST


def parse(content: bytes) -> NotebookNode:
    """A notebook from a file's content; FileError if it is empty or in conflict, or what nbformat raises."""
    if not content.strip():
        raise FileError("the file is empty")
    if _CONFLICT.search(content):
        raise FileError("git's conflict markers (<<<<<<<) are in the file")
    return nbformat.reads(content.decode("utf-8"), as_version=4)

"""A results folder: which of its files this program wrote, and which request its result answers.

``metrics.json`` marks a folder as complete. It is removed before any file changes, and written again, with the list of
files, when all files are. In between, a hidden list says which files are being removed and written, in case the process
is killed.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ex5lib.errors import FileError
from ex5lib.files import file_digest, replacing

RECORD = "metrics.json"
_UNFINISHED = ".unfinished.json"
_FACE = re.compile(r"face\d+")
# Nothing else is ever removed, whatever a list says.
OWN_FILES = frozenset(
    {
        "projection.npz", "generator.safetensors", "search.webp",
        "original.png", "aligned.png", "photo.png", "degraded.png", "result.png", "composite.png",
        "before.jpg", "after.jpg",
        *(f"answer{i}.png" for i in range(2, 9)),
        "answers.png", "alignment.png", "comparison.png", "iterations.png", "losses.png",
    }
)  # fmt: skip


def begin(folder: Path, names: Iterable[str] = (), faces: Iterable[int] = ()) -> None:
    """Make a folder ready for a new result: mark it as incomplete, and remove the files of an earlier result.

    Args:
        folder: created if it is missing.
        names: of the new result's files, in ``OWN_FILES``; these are not removed but will be replaced.
        faces: indices of the new result's faces, whose results are in ``face0``, ``face1`` …
    """
    names, faces = set(names), set(faces)
    if unknown := names - OWN_FILES:
        raise ValueError(f"{unknown} must be listed in OWN_FILES, or a later run could not remove them.")
    earlier, earlier_faces = _own(folder)
    listed = {"files": sorted(earlier | names), "faces": sorted(earlier_faces | faces)}
    with replacing(folder / _UNFINISHED) as temporary:
        temporary.write_text(json.dumps(listed), encoding="utf-8")
    (folder / RECORD).unlink(missing_ok=True)
    for name in earlier - names:
        (folder / name).unlink(missing_ok=True)
    for face in earlier_faces - faces:
        _remove(folder / f"face{face}")


def finish(folder: Path, names: Iterable[str], report: dict) -> Path:
    """Mark a folder as complete: write the report and the files' names to ``metrics.json``; returns its path."""
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(report | {"files": sorted(names)}, indent=2), encoding="utf-8")
    (folder / _UNFINISHED).unlink(missing_ok=True)
    return folder / RECORD


def receive(folder: Path, files: dict[str, bytes]) -> None:
    """Write a result that was made elsewhere: its files by their names in its folder, faces first, records last."""
    parts: dict[str, dict[str, bytes]] = {}
    for name, content in files.items():
        face, _, own = name.rpartition("/")
        parts.setdefault(face, {})[own] = content
    for face in sorted(parts, reverse=True):
        if face and not _FACE.fullmatch(face):
            raise ValueError(f"{face} is no folder of a result.")
        part = parts[face]
        record = json.loads(part.pop(RECORD))
        begin(folder / face, part, record.get("faces", ()))
        for name, content in part.items():
            with replacing(folder / face / name) as temporary:
                temporary.write_bytes(content)
        finish(folder / face, part, record)


def _own(folder: Path) -> tuple[set[str], set[int]]:
    """The names of this program's files in a folder, and the faces whose results are in its subfolders."""
    files: set[str] = set()
    faces: set[int] = set()
    for name in (RECORD, _UNFINISHED):
        report = _read(folder / name)
        # A report with settings but no list of files: any of them may be ours.
        listed = report.get("files", sorted(OWN_FILES) if "settings" in report else [])
        files |= {own for own in OWN_FILES if isinstance(listed, list) and own in listed}
        numbers = report.get("faces", [])
        faces |= {i for i in numbers if isinstance(i, int) and i >= 0} if isinstance(numbers, list) else set()
    return files, faces


def _remove(folder: Path) -> None:
    """Remove a result, and its folder unless it holds other files."""
    if folder.is_dir() and any(_own(folder)):
        begin(folder)
        (folder / _UNFINISHED).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def _read(path: Path) -> dict:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def read_record(folder: Path) -> dict:
    """The content of a folder's ``metrics.json``; empty if there is none, or it cannot be read."""
    return _read(folder / RECORD)


def finished_request(folder: Path) -> dict | None:
    """The request that a folder's result answers; None if there is no result, or its search was stopped."""
    report = read_record(folder)
    try:
        if not all((folder / name).is_file() for name in report["files"]):
            return None
        if "faces" in report:
            requests = [finished_request(folder / f"face{face}") for face in report["faces"]]
            return None if None in requests else report["request"]
        if report.get("stopped"):
            return None
        settings = report["settings"]
        tuning = settings.get("tune", {"done": 0, "num_steps": 0})
        finished = report["metrics"]["search"]["num_steps"] == settings["num_steps"]
        return report["request"] if finished and tuning["done"] == tuning["num_steps"] else None
    except (KeyError, TypeError, AttributeError):
        return None


def content(path: str | Path) -> str:
    """How a request names a file: by its SHA-256, because another file may get the same name."""
    return f"sha256:{file_digest(path)}"


def check_kept(folder: Path, inputs: Iterable[Path], names: Iterable[str] = OWN_FILES | {RECORD}) -> None:
    """Check that writing a result to a folder will not replace or remove a file that it is made from.

    Args:
        folder: of the result, in which ``face0``, ``face1`` … may be written or removed, too.
        inputs: the files. Both a link and its target count.
        names: of the files that may be replaced.

    Raises:
        FileError: if it would.
    """
    home, names = folder.resolve(), frozenset(names)
    for path in inputs:
        for place in (path.resolve(), path.parent.resolve() / path.name):
            inside = place.parent == home or (place.parent.parent == home and _FACE.fullmatch(place.parent.name))
            if inside and place.name in names:
                raise FileError(f"{path} would be replaced by a file of the result: choose another --out.")

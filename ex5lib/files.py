"""Writing files so that none is left half-written, and the digest of a file."""

import hashlib
import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ex5lib.errors import FileError

_DAY = 24 * 60 * 60
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_LEFTOVER = re.compile(r"\.writing-(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,9})-.*")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` to write to; rename it to ``path`` when the block succeeds.

    Missing folders are created. The temporary name keeps the suffix, by which image writers pick the format. It also
    names the process, so that files which a killed process left in the folder are recognised and removed.

    Raises:
        FileError: if the disk is full or cannot be written to; it names ``path``, which the system's error does not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    name = path.parent / f".writing-{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}{path.suffix}"
    try:
        name.touch(exist_ok=False)  # with the user's permissions, which tempfile would not give it
        yield name
        os.replace(name, path)
    except (OSError, SafetensorError) as error:
        reason = _reason(error, str(name))
        if reason is None:
            raise
        raise FileError(f"{path} could not be written ({reason}): make room there, or choose another folder.") from None
    finally:
        name.unlink(missing_ok=True)


def _reason(error: OSError | SafetensorError, temporary: str) -> str | None:
    """Why a temporary file could not be written; None if the error is about something else."""
    if isinstance(error, SafetensorError):  # the system's error, as text
        match = re.search(r"I/O error: (.+) \(os error \d+\)", str(error))
        return match[1] if match else None
    if error.errno is None or error.filename not in (None, temporary):
        return None
    return error.strerror


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(".writing-*"):
        match = _LEFTOVER.fullmatch(path.name)
        with suppress(OSError):
            if match and _is_abandoned(path.stat().st_mtime, match["machine"], int(match["process"])):
                path.unlink()


def _is_abandoned(written: float, machine: str, process: int) -> bool:
    """Whether no process is writing a temporary file any more; on another machine, only its age can tell."""
    if machine != _MACHINE:
        return time.time() - written > _DAY
    import psutil  # imported here: only a writer that sees another's file needs it

    try:
        return psutil.Process(process).create_time() > written + 60  # another process has the number by now
    except psutil.Error:
        return not psutil.pid_exists(process)


def check_writable(folder: str | Path) -> None:
    """Check, before any long work, that a folder can be created and written to, without creating it.

    Raises:
        FileError: if it cannot.
    """
    folder = Path(folder).absolute()
    parents = [folder, *folder.parents]
    existing = next(path for path in parents if os.path.exists(path))
    reason = None if existing.is_dir() else "is a file"
    if reason is None and not os.access(existing, os.W_OK | os.X_OK):
        reason = "cannot be written to"
    if reason:
        raise FileError(f"Nothing can be written to {folder}, because {existing} {reason}: choose another --out.")
    for name in folder.relative_to(existing).parts:
        try:
            os.lstat(existing / name)  # a file system refuses a name that is too long before it looks for it
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError(f"There can be no folder {folder} ({error.strerror}): choose another --out.") from None


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

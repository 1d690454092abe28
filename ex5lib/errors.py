"""Errors that the user can fix: one class for each remedy.

Every message is one sentence that says what is wrong and what to do.
"""

import difflib
from collections.abc import Iterable


class Ex5Error(Exception):
    """Base of the errors that the command line and the notebooks print as one sentence."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a page of traceback."""
        return [f"{type(self).__name__}: {self}"]


class SettingError(Ex5Error, ValueError):
    """An argument is out of range, unknown, or of the wrong shape: change it.

    Attributes:
        setting: its name, for a page to show the message there; empty if no single one is to blame.
    """

    def __init__(self, message: str, setting: str = ""):
        super().__init__(message)
        self.setting = setting


class FileError(Ex5Error, OSError):
    """A file or folder is missing, unreadable, not what it should be, or cannot be written: name another one."""


class FaceError(Ex5Error, LookupError):
    """No face, or not the one asked for, was found: use another photo, choose another face, or crop it by hand."""


class UnsureFaceError(FaceError):
    """What was found may not be a face: look at it, then say which it is or where the face is.

    Attributes:
        guess: the ``AlignedFace`` that would have been taken.
    """

    def __init__(self, message: str, guess):
        super().__init__(message)
        self.guess = guess


class WeightsError(Ex5Error, RuntimeError):
    """Pretrained weights cannot be fetched, verified or read: fetch them again or use another file."""


class DeviceError(Ex5Error, RuntimeError):
    """The machine lacks the device, the memory or the compiler: choose another device or a smaller job."""


class DivergedError(Ex5Error, ArithmeticError):
    """The search ran into NaN or infinity: lower the rates or weights."""


class ClusterError(Ex5Error, RuntimeError):
    """A cluster's scheduler or workers are gone, or run another version: start them, or install the same one there."""


class CheckFailed(Ex5Error, AssertionError):
    """What a student has written is missing or wrong: write or correct it."""


class ReportError(Ex5Error, RuntimeError):
    """A notebook of the report failed: open it and run it by hand."""


def sentence(error: Ex5Error | OSError) -> str:
    """What to tell the user about an error of this project or of the system."""
    if isinstance(error, Ex5Error) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SettingError:
    """The error for a name that is not among the known ones; it suggests the nearest."""
    known, name = sorted(known), name if len(name) <= 40 else f"{name[:40]} …"
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'did you mean "{nearest[0]}"? ' if nearest else ""
    return SettingError(f'There is no {kind} "{name}": {hint}Known: {", ".join(known)}.')

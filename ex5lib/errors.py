"""Everything that can go wrong because of what the user gave: one exception each, one sentence in each message."""

import difflib
from collections.abc import Iterable


class Ex5Error(Exception):
    """Base of the errors that the command line and the notebooks print as one sentence."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a page of traceback."""
        return [f"{type(self).__name__}: {self}"]


class MissingFileError(Ex5Error, FileNotFoundError):
    """There is no file of that name."""


class NotAnImageError(Ex5Error, ValueError):
    """A folder, an empty file, or a file that holds no image."""


class TruncatedImageError(Ex5Error, ValueError):
    """An image file that ends too early."""


class ImageTooLargeError(Ex5Error, ValueError):
    """So many pixels that the file is taken for a decompression bomb."""


class ImageTooSmallError(Ex5Error, ValueError):
    """Too few pixels to find a face in."""


class ImageShapeError(Ex5Error, ValueError):
    """A tensor that is no image tensor, [N, 3, H, W] in [−1, 1]."""


class NoFaceError(Ex5Error, LookupError):
    """No face was found in a photo."""


class FaceIndexError(Ex5Error, IndexError):
    """A photo has fewer faces than were asked for."""


class MaskError(Ex5Error, ValueError):
    """A mask of another aspect ratio, or one that leaves nothing to keep or to fill."""


class KernelSizeError(Ex5Error, ValueError):
    """A blur kernel whose size is negative, even, or larger than the image; or a sigma that is not positive."""


class RectangleError(Ex5Error, ValueError):
    """A hole that does not lie inside the image."""


class SettingError(Ex5Error, ValueError):
    """A number of steps, a weight, a latent or another setting outside its range."""


class UnknownNameError(Ex5Error, KeyError):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        known = sorted(known)
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f'did you mean "{nearest[0]}"? ' if nearest else ""
        self.sentence = f'There is no {kind} "{name}": {hint}Known: {", ".join(known)}.'
        super().__init__(self.sentence)

    def __str__(self) -> str:  # KeyError would print the repr
        return self.sentence


class OutputError(Ex5Error, OSError):
    """A place that cannot be written to."""


class DivergedError(Ex5Error, ArithmeticError):
    """The optimisation ran into NaN or infinity."""


class CompilerError(Ex5Error, RuntimeError):
    """Networks were to be compiled on a machine that has no compiler."""


class OutOfMemoryError(Ex5Error, MemoryError):
    """The device has too little memory for the run."""


class DeviceError(Ex5Error, ValueError):
    """A device that this machine does not have."""


class CacheError(Ex5Error, OSError):
    """The cache folder cannot be written."""


class DownloadError(Ex5Error, ConnectionError):
    """Weights could not be fetched."""


class CorruptWeightsError(Ex5Error, ValueError):
    """A weights file whose content is not what it must be."""


class ProjectionFileError(Ex5Error, ValueError):
    """A file that is not a saved projection."""


class ReportError(Ex5Error, RuntimeError):
    """A notebook of the report could not be run to its end."""

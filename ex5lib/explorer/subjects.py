"""The explorer's photos: files that arrive in parts, and the faces in them."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from PIL import Image
from torch import Tensor

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.errors import FaceError, FileError, UnsureFaceError
from ex5lib.explorer.choices import Choice
from ex5lib.faces.alignment import AlignedFace, load_face
from ex5lib.faces.landmarks import quick_crop
from ex5lib.faces.masks import fitted_mask
from ex5lib.images.frames import data_uri, jpeg
from ex5lib.images.masks import load_mask
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration.diagnosis import Damage, examine

MAX_BYTES = 100_000_000  # of an uploaded file
_THUMBNAIL = 96
_Read = TypeVar("_Read")


@dataclass(frozen=True, eq=False)
class Subject:
    """A face to explore.

    Attributes:
        name: of its photo.
        damages: what was found wrong with it, if it was examined.
        sure: whether it is a face beyond doubt.
        offer: for a page to offer it among others: a picture and words; None if the photo surely shows only this one.
    """

    face: AlignedFace
    name: str
    damages: Sequence[Damage] = ()
    sure: bool = True
    offer: dict | None = None

    @cached_property
    def digest(self) -> str:
        """Identifies the face."""
        return hashlib.sha256(self.face.image.cpu().contiguous().numpy().tobytes()).hexdigest()

    @property
    def hint(self) -> str:
        """What to do with it first."""
        if self.sure:
            return "Press Run."
        return f"{self.name} may not show a face here: press Run if it does, or choose another photo."

    def outlined(self, index: int) -> dict:
        """For a page to offer it in its photo: a picture, words, its corners in shares of the photo's sides."""
        height, width = self.face.photo.shape[2:]
        corners = ((self.face.quad + 0.5) / (width, height)).round(5).tolist()
        picture, sure = (self.offer["picture"], self.offer["sure"]) if self.offer else ("", self.sure)
        return {"picture": picture, "words": f"Face {index + 1}", "sure": sure, "corners": corners}

    def as_json(self, choice: Choice) -> dict:
        """For the page's state: the photo's name, and the damage, accepted or not."""
        damages = [{"reason": each.reason, "accepted": choice.accepts(each)} for each in self.damages]
        return {"name": self.name, "damages": damages}


class Upload:
    """A file that arrives in parts."""

    def __init__(self) -> None:
        self._content, self._of = bytearray(), ("", 0)

    def part(self, name: str, size: int, at: int, data: bytes) -> bytes | None:
        """Take the part of a file of ``size`` bytes that begins at ``at``; returns the file after the last part.

        FileError, and nothing is kept of the part, if the file is empty or too large, or parts do not fit together.
        """
        if not size:
            raise FileError(f"{name} is empty: choose another file.")
        if size > MAX_BYTES:
            raise FileError(f"{name} is larger than {MAX_BYTES // 10**6} MB: scale it down or save it as JPEG.")
        goes_on = at == len(self._content) and (name, size) == self._of
        if not (at == 0 or goes_on) or at + len(data) > size:
            raise FileError(f"{name} did not arrive whole: choose it again.")
        self._of = name, size
        self._content[at:] = data
        if len(self._content) < size:
            return None
        content, self._content = bytes(self._content), bytearray()
        return content


def plain_name(name: str) -> str:
    """A file's name as a page sends it, without folders and without characters that cannot be shown."""
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(letter if letter.isprintable() else " " for letter in last).strip()[:100]
    return shown if shown.strip(".") else "photo"


def subjects_in(name: str, source: bytes | Path, size: int) -> list[Subject]:
    """The faces of a photo that a page has sent or chosen; arguments and returns as in ``find_subjects``.

    Raises:
        FileError, FaceError: if it is not a photo, or there is no face in it.
    """
    try:
        if isinstance(source, Path):
            return find_subjects(name, source, size)
        return _decoded(name, source, lambda path: find_subjects(name, path, size))
    except FaceError:
        raise FaceError(
            f"No face was found in {name}: choose a photo with a larger, better-lit face turned to the camera."
        ) from None


def find_subjects(
    name: str,
    photo: Path | Tensor,
    size: int,
    *,
    face: int | None = None,
    aligned: bool = False,
    every: bool = False,
) -> list[Subject]:
    """The faces of a photo, examined, the best first.

    Args:
        name: of the file.
        photo: the file, or the photo [1, 3, H, W].
        size: side of the crops in px.
        face, aligned, every: as in ``load_face``; the face that is asked for comes first.

    Raises:
        FileError, FaceError, SettingError: as ``load_face``, except that an unsure face is returned.
    """
    try:
        found = load_face(photo, face=face, aligned=aligned, every=every, size=size)
    except UnsureFaceError as error:
        found = error.guess
    sure = face is not None or not found.detections or found.detections[0].sure
    if len(found.detections) < 2 and sure:
        return [Subject(found, name, examine(found))]
    others = [found.another(i) for i in range(len(found.detections)) if i != found.index]
    picture, subjects = Image.fromarray(to_uint8(found.photo)), []
    for each in (found, *others):
        detection = each.detections[each.index]
        thumbnail = data_uri(jpeg(from_uint8(quick_crop(picture, each.quad, _THUMBNAIL))))
        words = f"score {detection.score:.2f}" + ", perhaps no face" * (not detection.sure)
        offer = {"picture": thumbnail, "words": words, "sure": detection.sure}
        subjects.append(Subject(each, name, examine(each), detection.sure or (each is found and sure), offer))
    return subjects


def mask_in(name: str, content: bytes, face: AlignedFace) -> Tensor:
    """A mask's file, painted on the photo or on the face, as a mask [1, 1, S, S] for the face.

    One of 256 × 256 px is taken for one that this page has saved, which belongs to the face.

    Raises:
        FileError, SettingError: as ``load_mask`` and ``fitted_mask``.
    """
    mask = read_mask(name, content)
    return fitted_mask(mask, face, "crop" if mask.shape[2:] == (REFERENCE_SIZE, REFERENCE_SIZE) else None)


def read_mask(name: str, content: bytes) -> Tensor:
    """A mask's file, [1, 1, h, w]; FileError as in ``load_mask``."""
    return _decoded(name, content, load_mask)


def _decoded(name: str, content: bytes, load: Callable[[Path], _Read]) -> _Read:
    with TemporaryDirectory() as folder:
        path = Path(folder, "photo")
        path.write_bytes(content)
        try:
            return load(path)
        except FileError as error:
            raise FileError(str(error).replace(str(path), name)) from None

"""The explorer's photos: files that arrive in parts, and the faces in them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from ex5lib.errors import FaceError, FileError, UnsureFaceError
from ex5lib.faces.alignment import AlignedFace, load_face
from ex5lib.faces.landmarks import quick_crop
from ex5lib.images.frames import data_uri, jpeg
from ex5lib.images.loading import load_image
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration.diagnosis import Damage, examine

MAX_BYTES = 100_000_000  # of an uploaded file
_THUMBNAIL = 96


@dataclass(frozen=True, eq=False)
class Subject:
    """A face to explore, its photo's name, and the damage found in it, if it was examined."""

    face: AlignedFace
    name: str
    damages: tuple[Damage, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Identifies the face."""
        return hashlib.sha256(self.face.image.cpu().contiguous().numpy().tobytes()).hexdigest()


class Upload:
    """A file that arrives in parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def part(self, name: str, size: int, at: int, data: bytes) -> bytes | None:
        """Take the part of a file of ``size`` bytes that begins at ``at``; returns the file after the last part.

        Raises:
            FileError: if the file is empty or too large, or a part is missing.
        """
        if not size:
            raise FileError(f"{name} is empty: choose another file.")
        if size > MAX_BYTES:
            raise FileError(f"{name} is larger than {MAX_BYTES // 10**6} MB: scale it down or save it as JPEG.")
        if at == 0:
            self._parts = []
        if at != sum(map(len, self._parts)):
            self._parts = []
            raise FileError(f"{name} did not arrive whole: choose it again.")
        self._parts.append(data)
        if at + len(data) < size:
            return None
        content, self._parts = b"".join(self._parts), []
        return content


def find_subjects(name: str, source: bytes | Path, size: int) -> tuple[list[Subject], list[dict], bool]:
    """The faces of a photo, the best first.

    Args:
        name: of the file.
        source: the file, or its bytes.
        size: side of the crops in px.

    Returns:
        the faces; their pictures with words, for a page to offer, JSON-ready; whether the first is surely a face.

    Raises:
        FileError: if it is not a photo.
        FaceError: if there is no face in it.
    """
    if isinstance(source, bytes):
        with TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(source)
            try:
                photo = load_image(path)
            except FileError as error:
                raise FileError(str(error).replace(f"{folder}/", "")) from None
    else:
        photo = load_image(source)
    sure = True
    try:
        found = load_face(photo, size=size)
    except UnsureFaceError as error:
        found, sure = error.guess, False
    except FaceError:
        raise FaceError(
            f"No face was found in {name}: choose a photo with a larger, better-lit face turned to the camera."
        ) from None
    order = [found.index, *(i for i in range(len(found.detections)) if i != found.index)]
    aligned = [found if i == found.index else found.another(i) for i in order]
    subjects = [Subject(face, name, tuple(examine(face))) for face in aligned]
    if len(subjects) == 1 and sure:
        return subjects, [], sure
    scores = [f"score {found.detections[i].score:.2f}" for i in order]
    faces = [{"picture": _thumbnail(one), "words": words} for one, words in zip(subjects, scores, strict=True)]
    return subjects, faces, sure


def _thumbnail(subject: Subject) -> str:
    crop = quick_crop(Image.fromarray(to_uint8(subject.face.photo)), subject.face.quad, _THUMBNAIL)
    return data_uri(jpeg(from_uint8(crop)))

"""The explorer's photos: files that arrive in parts, and the faces in them."""

import hashlib
from collections.abc import Sequence
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
    damages: Sequence[Damage] = ()

    @cached_property
    def digest(self) -> str:
        """Identifies the face."""
        return hashlib.sha256(self.face.image.cpu().contiguous().numpy().tobytes()).hexdigest()


class Upload:
    """A file that arrives in parts."""

    def __init__(self) -> None:
        self._content = bytearray()

    def part(self, name: str, size: int, at: int, data: bytes) -> bytes | None:
        """Take the part of a file of ``size`` bytes that begins at ``at``; returns the file after the last part.

        FileError if the file is empty or too large, or a part is missing.
        """
        if not size:
            raise FileError(f"{name} is empty: choose another file.")
        if size > MAX_BYTES:
            raise FileError(f"{name} is larger than {MAX_BYTES // 10**6} MB: scale it down or save it as JPEG.")
        if at == 0:
            self._content.clear()
        if at != len(self._content):
            self._content.clear()
            raise FileError(f"{name} did not arrive whole: choose it again.")
        self._content += data
        if len(self._content) < size:
            return None
        content, self._content = bytes(self._content), bytearray()
        return content


def find_subjects(name: str, source: bytes | Path, size: int) -> tuple[list[Subject], list[dict], bool]:
    """The faces of a photo, the best first.

    Args:
        name: of the file.
        source: the file, or its bytes.
        size: side of the crops in px.

    Returns:
        the faces; their pictures with words, for a page to offer; whether the first is surely a face.

    Raises:
        FileError, FaceError: if it is not a photo, or there is no face in it.
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
    aligned = [found, *(found.another(i) for i in range(1, len(found.detections)))]  # the first was found best
    subjects = [Subject(face, name, examine(face)) for face in aligned]
    if len(subjects) == 1 and sure:
        return subjects, [], sure
    picture, faces = Image.fromarray(to_uint8(photo)), []
    for face, detection in zip(aligned, found.detections, strict=True):
        thumbnail = data_uri(jpeg(from_uint8(quick_crop(picture, face.quad, _THUMBNAIL))))
        faces.append({"picture": thumbnail, "words": f"score {detection.score:.2f}"})
    return subjects, faces, sure

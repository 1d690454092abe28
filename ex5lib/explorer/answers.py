"""Restored photos: which are kept, what a page tells of them, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ex5lib.errors import FileError
from ex5lib.explorer.order import Order
from ex5lib.images.extras import Extras
from ex5lib.images.frames import encoded
from ex5lib.images.loading import save_image
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration.enlargement import put_back
from ex5lib.restoration.metrics import identity_distance, likeness
from ex5lib.restoration.restored import Restoration

SHOWN_SIZE = 4096  # px, the longest side of a photo on the page
SUFFIXES = {"png": "image/png", "jpg": "image/jpeg"}
_KEPT = 4  # answers, each with a whole photo


@dataclass(frozen=True, eq=False)
class Answer:
    """A restored photo.

    Attributes:
        order: what was asked for.
        pixels: [H, W, 3], perhaps enlarged.
        extras: what the photo's own file held.
        alike: for each face, whether it still seems to be the same person.
        found: of unknown damage, in words.
        note: what speaks against the damage that was assumed, and how large the photo has become.
        stopped: whether the search was ended early.
    """

    order: Order
    pixels: np.ndarray
    extras: Extras
    alike: list[str]
    found: list[str]
    note: str
    stopped: bool
    number: int = 0

    @cached_property
    def picture(self) -> bytes:
        """A JPEG for the page."""
        return encoded(from_uint8(self.pixels), SHOWN_SIZE)

    def file(self, suffix: str) -> bytes:
        """The content of a file of that kind, as the command line writes it."""
        with TemporaryDirectory() as folder:
            return save_image(from_uint8(self.pixels), Path(folder, f"photo.{suffix}"), self.extras).read_bytes()


def restored(found: Sequence[Restoration], order: Order, *, early: bool) -> Answer:
    """The photo with all faces that were found in it; ``early`` says that others were left out.

    It becomes as large as the smallest of them needs.
    """
    factor = max(done.enlarged for done in found)
    photo = put_back([(done.face, done.result, done.degradation) for done in found], factor)
    notes = [done.note for done in found if done.note]
    if factor > 1:
        height, width = photo.shape[2:]
        notes.append(f"The photo is {factor} times larger: {width} × {height} px.")
    unknown = [part for done in found for part in done.degradation.modules() if getattr(part, "unknown", False)]
    return Answer(
        order,
        to_uint8(photo),
        found[0].face.extras.enlarged(factor),
        [likeness(identity_distance(done.best_image, done.face.image)) for done in found],
        [getattr(part, "words", str(part)) for part in unknown],
        " ".join(dict.fromkeys(notes)),
        early or any(done.stopped for done in found),
    )


class Answers:
    """The latest answers for a photo."""

    def __init__(self) -> None:
        self._kept: list[Answer] = []

    @property
    def numbers(self) -> list[int]:
        return [answer.number for answer in self._kept]

    def add(self, answer: Answer, number: int) -> Answer:
        """Keep an answer, with a number."""
        answer = replace(answer, number=number)
        self._kept = [*self._kept, answer][-_KEPT:]
        return answer

    def of(self, order: Order) -> Answer | None:
        """The one that was searched to the end for this order."""
        return next((each for each in self._kept if each.order == order and not each.stopped), None)

    def get(self, number: str) -> Answer:
        """The one with that number; FileError if it is not kept."""
        for answer in self._kept:
            if str(answer.number) == number:
                return answer
        raise FileError("That answer is not kept any more: choose another one.")

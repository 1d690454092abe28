"""The photo while its face is searched: previews, pasted into a small copy of it."""

import time

import torch
from torch import Tensor, nn

from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import encoded
from ex5lib.images.tensors import resize_photo
from ex5lib.restoration.paste import paste
from ex5lib.restoration.restored import Restoration

_SIDE = 1024  # px, the longest
_SHARE = 0.1  # of the search's time that drawing may take


class LivePhoto:
    """A small copy of a photo, [1, 3, H, W], in which faces appear one after the other.

    Args:
        factor: by which the photo itself is enlarged.
    """

    def __init__(self, photo: Tensor, factor: int = 1):
        height, width = photo.shape[2:]
        scale = min(factor, _SIDE / max(height, width))
        self._photo = resize_photo(photo, round(width * scale), round(height * scale))
        self._next = 0.0

    def begin(self, face: AlignedFace, degradation: nn.Module) -> None:
        """From now on this face is searched."""
        self._face, self._degradation = face, degradation

    def step(self, image: Tensor) -> bytes:
        """The photo with an image [1, 3, S, S] of a step in it, as JPEG; empty if the last one is too recent."""
        began = time.monotonic()
        if began < self._next:
            return b""
        picture = encoded(self._with(image, self._degradation), _SIDE)
        self._next = time.monotonic() + (time.monotonic() - began) / _SHARE
        return picture

    def end(self, done: Restoration) -> None:
        """Keep a face that is done."""
        self._photo = self._with(done.result, done.degradation)

    @torch.no_grad()
    def _with(self, image: Tensor, degradation: nn.Module) -> Tensor:
        return paste(self._photo, [(self._face, image.float().cpu(), degradation)])

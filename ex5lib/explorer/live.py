"""The photo while its face is searched: previews, pasted into a small copy of it."""

import time
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import encoded
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration.paste import paste
from ex5lib.restoration.pipeline import Restoration

_SIDE = 1024  # px, the longest
_SHARE = 0.1  # of the search's time that drawing may take


class LivePhoto:
    """A small copy of a photo, [1, 3, H, W], in which faces appear one after the other."""

    def __init__(self, photo: Tensor):
        height, width = photo.shape[2:]
        self._scale = min(1.0, _SIDE / max(height, width))
        size = round(width * self._scale), round(height * self._scale)
        self._photo = from_uint8(np.asarray(Image.fromarray(to_uint8(photo)).resize(size, Image.Resampling.LANCZOS)))
        self._next = 0.0

    def begin(self, face: AlignedFace, degradation: nn.Module) -> None:
        """From now on this face is searched."""
        quad = (face.quad + 0.5) * self._scale - 0.5
        self._face, self._degradation = replace(face, photo=self._photo, quad=quad), degradation

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

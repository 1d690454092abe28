"""What a person marks on a photo, to be replaced."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace
from ex5lib.faces.masks import fitted_mask, is_like
from ex5lib.images.masks import packed, unpacked
from ex5lib.images.tensors import resize_area
from ex5lib.restoration.paste import quad_in, to_photo

_LONGEST = 1024  # px, the longest side of a photo that is painted on
_TOO_MUCH = 0.9  # of a face's crop


@dataclass(frozen=True)
class Marks:
    """A mask of the whole photo, height × width px, packed: 1 where it is to be replaced."""

    height: int = 0
    width: int = 0
    bits: bytes = b""

    @classmethod
    def none(cls, photo: Tensor) -> "Marks":
        """Nothing yet on a photo [1, 3, H, W]."""
        height, width = photo.shape[2:]
        scale = min(1.0, _LONGEST / max(height, width))
        height, width = max(round(scale * height), 1), max(round(scale * width), 1)
        return cls(height, width, packed(torch.zeros(1, 1, height, width)))

    def painted(self, bits: bytes) -> "Marks":
        """Another mask of the same size; SettingError if it has another size."""
        unpacked(bits, self.height, self.width)
        return replace(self, bits=bits)

    def read(self, mask: Tensor, face: AlignedFace) -> "Marks":
        """The same from a mask [1, 1, h, w] that was painted on the photo, at any size.

        One of 256 × 256 px is taken for one that the second mode has saved, which belongs to the face.

        Raises:
            SettingError: if it has not the photo's proportions.
        """
        if mask.shape[2:] == (REFERENCE_SIZE, REFERENCE_SIZE) and not face.already_aligned:
            return replace(self, bits=packed(self.found(face, mask)))
        if not is_like(face.photo, mask):
            height, width = mask.shape[2:]
            raise SettingError(f"The mask is {width} × {height} px: it must have the proportions of the whole photo.")
        return replace(self, bits=packed(interpolate(mask, (self.height, self.width), mode="area")))

    def __bool__(self) -> bool:
        return any(self.bits)

    def on(self, face: AlignedFace) -> Tensor | None:
        """The part on a face's crop, [1, 1, S, S]; None if there is none. SettingError if hardly anything is left."""
        if not self:
            return None
        photo = self._photo()  # a map of a large one would take much memory
        small = replace(face, photo=photo, quad=quad_in(photo, face))
        try:
            fitted = fitted_mask(unpacked(self.bits, self.height, self.width), small, "photo")
        except SettingError:
            fitted = torch.ones(1, 1, 1, 1)
        if fitted.mean() > _TOO_MUCH:
            raise SettingError("Too much of the face is marked: leave more of it, or use the eraser.")
        return fitted if fitted.max() > 0.5 else None

    def found(self, face: AlignedFace, hole: Tensor) -> Tensor:
        """A hole [1, 1, S, S] in a face's crop as it lies on the photo: [1, 1, height, width]."""
        quad = quad_in(self._photo(), face)
        side = max(1, round(float(np.linalg.norm(quad[3] - quad[0]))))
        return to_photo(resize_area(hole, side), quad, (slice(0, self.height), slice(0, self.width)))

    def _photo(self) -> Tensor:
        return torch.zeros(1, 1, self.height, self.width).expand(-1, 3, -1, -1)

"""A photo whose face has few pixels grows when it is restored, or it could not show what was found."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from ex5lib.degradations.known import Downsample
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.tensors import resize_photo
from ex5lib.restoration.paste import paste

MOST = 8
_SIDE = 512  # px of the photo that a face with its hair should get
_MILLION_PIXELS = 40  # of an enlarged photo, at most: in memory they take half a gigabyte, while pasting twice that


def enlargement(face: AlignedFace, damage: nn.Module | None, asked: int | None = None) -> int:
    """By how much the sides of a face's photo are multiplied when its result is put back.

    That is the smallest whole number with which the face's crop is 512 px wide, but at most 8, if ``damage`` includes
    few pixels (``Downsample``); otherwise 1. A photo that was used as the aligned crop is not enlarged.

    Args:
        damage: what the photo itself suffers from.
        asked: the number to take instead.

    Raises:
        SettingError: if the photo would become too large with the number asked for.
    """
    if face.landmarks is None:
        return 1
    megapixels = face.photo.shape[2] * face.photo.shape[3] / 1e6
    largest = max(1, math.isqrt(int(_MILLION_PIXELS / megapixels)))
    if asked is not None:
        if asked > largest:
            raise SettingError(
                f"Enlarged {asked} times, the photo would have {megapixels * asked**2:.0f} million pixels, more than "
                f"{_MILLION_PIXELS}: enlarge it {largest} times at most."
            )
        return asked
    if damage is None or not any(isinstance(part, Downsample) for part in damage.modules()):
        return 1
    side = float(np.linalg.norm(face.quad[3] - face.quad[0]))
    return max(1, min(math.ceil(_SIDE / side), MOST, largest))


def put_back(faces: Sequence[tuple[AlignedFace, Tensor, nn.Module]], factor: int = 1) -> Tensor:
    """The photo of one or more faces, enlarged, with the results in it: [1, 3, factor · H, factor · W].

    Args:
        faces: as in ``paste``, all of one photo.
    """
    photo = faces[0][0].photo
    if factor > 1:
        photo = resize_photo(photo, factor * photo.shape[3], factor * photo.shape[2])
    return paste(photo, faces)

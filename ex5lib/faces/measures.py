"""What can be read off an aligned face as numbers: its smile, the turn of its head, its eyes, its hair and its skin."""

import numpy as np
from torch import Tensor

from ex5lib.faces.landmarks import aligned_landmarks
from ex5lib.images.tensors import resize_area, to_uint8

_SIZE = 256  # px at which faces are measured: a preview's
_HAIR = 0.27  # of the side, above the highest point of the brows: beyond most foreheads, below most crowns


def measure_face(face: Tensor) -> dict[str, float]:
    """Measures of an aligned face [1, 3, S, S] in [-1, 1], by name:

    - "smile": how far the corners of the mouth are above the middle of the lips, in distances between the eyes.
    - "turn": how far the tip of the nose is to the right, as one sees it, of the middle between the cheeks, in the same
      unit.
    - "open eyes": their height over their width.
    - "light hair": brightness above the forehead, in [0, 1]; of a bald head or a cap it is that of skin or cloth.
    - "light skin": brightness of the cheeks, in [0, 1].
    """
    points = aligned_landmarks(face, _SIZE)
    brightness = to_uint8(resize_area(face, _SIZE)).mean(axis=2) / 255  # [256, 256]
    eyes = points[36:48].reshape(2, 6, 2)
    between = np.linalg.norm(np.diff(eyes.mean(axis=1), axis=0))
    heights = np.linalg.norm(eyes[:, [1, 2]] - eyes[:, [5, 4]], axis=2).mean()
    widths = np.linalg.norm(eyes[:, 0] - eyes[:, 3], axis=1).mean()
    top = points[17:27, 1].min() - _HAIR
    hair = brightness[max(round(_SIZE * (top - 0.05)), 0) : max(round(_SIZE * (top + 0.05)), 4)]
    cheeks = (points[[36, 45]] + points[[48, 54]]) / 2
    patches = [_around(brightness, *(_SIZE * cheek).astype(int)) for cheek in cheeks]
    return {
        "smile": float((points[[62, 66], 1].mean() - points[[48, 54], 1].mean()) / between),
        "turn": float((points[30, 0] - points[[2, 14], 0].mean()) / between),
        "open eyes": float(heights / widths),
        "light hair": float(hair[:, round(0.3 * _SIZE) : round(0.7 * _SIZE)].mean()),
        "light skin": float(np.mean(patches)),
    }


def _around(values: np.ndarray, x: int, y: int) -> np.ndarray:
    """The 8 × 8 values around a place, at the edge fewer."""
    return values[max(y - 4, 0) : y + 4, max(x - 4, 0) : x + 4]

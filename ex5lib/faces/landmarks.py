"""A face's landmarks, predicted by dlib or given by the user, and FFHQ's square, which follows from them."""

import json
import os
import re
from pathlib import Path

import dlib
import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib import weights
from ex5lib.errors import FileError, SettingError
from ex5lib.images.tensors import resize_area, to_uint8

# The detector's box in an aligned face, averaged over generated faces: (left, top, right, bottom) in [0, 1].
_ALIGNED_BOX = np.array([0.221, 0.325, 0.789, 0.891])
# Shifts (x, y) and scalings of that box; the landmarks predicted in each are averaged.
_BOX_JITTER = (
    *((0, 0, s) for s in (0.95, 1, 1.05)),
    *((x, y, 1) for x, y in ((0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02), (0.02, 0.02), (-0.02, -0.02))),
)
# Predictions that lie no farther apart than this, as a share of the crop's side, are accepted.
_AGREED = 0.01


def predict_landmarks(pixels: np.ndarray, box: dlib.rectangle) -> np.ndarray:
    """The 68 landmarks [68, 2] (x, y) of the face in a box, in px of the picture [H, W, 3] uint8."""
    return np.array([(p.x, p.y) for p in weights.landmark_model()(pixels, box).parts()], dtype=np.float64)


def quad_of_box(box: np.ndarray) -> np.ndarray:
    """About where the aligned square of an upright face is, given the corners [4, 2] of its box."""
    low, high = _ALIGNED_BOX.reshape(2, 2)
    side = np.linalg.norm(box[3] - box[0]) / (high - low)[0]
    corner = box.mean(axis=0) - side * (low + high) / 2
    return corner + side * np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


def aligned_box(size: int, shift: tuple[float, float] = (0, 0), scaling: float = 1) -> dlib.rectangle:
    """Where dlib's detector would see the face in an aligned crop of ``size`` px."""
    low, high = _ALIGNED_BOX.reshape(2, 2)
    centre, half = (low + high) / 2 + shift, (high - low) / 2 * scaling
    return dlib.rectangle(*(round(float(v)) for v in size * np.concatenate([centre - half, centre + half])))


def aligned_landmarks(face: Tensor, size: int = 512) -> np.ndarray:
    """The 68 landmarks of an aligned face [1, 3, S, S]: [68, 2] (x, y) in units of the crop's side, in [0, 1].

    No detector runs: alignment fixes where the face lies in the crop.
    """
    pixels = np.ascontiguousarray(to_uint8(resize_area(face, size)))
    return (predict_landmarks(pixels, aligned_box(size)) + 0.5) / size


def refine_landmarks(picture: Image.Image, quad: np.ndarray, *, size: int = 256) -> tuple[np.ndarray, float]:
    """Predict the landmarks in the upright, scaled crop that a first estimate defines, averaged over nearby boxes.

    The prediction shifts by a few percent with the given box and with tilt. In the aligned frame the box is always
    the same, so a photo and a rotated or scaled copy of it get the same crop. If the predictions disagree, because the
    crop is askew or shows no face, they are repeated in the crop that their mean defines, up to three times.

    Args:
        picture: the photo.
        quad: [4, 2] the square of the first estimate, px of the photo.

    Returns:
        the landmarks [68, 2], px of the photo; and how far the predictions lie from their mean, as a share of the
        crop's side: about 0.002 on a clear face, 0.02 where there is none.
    """
    for _ in range(3):
        pixels = quick_crop(picture, quad, size)
        estimates = np.array([predict_landmarks(pixels, aligned_box(size, (x, y), s)) for x, y, s in _BOX_JITTER])
        mean = estimates.mean(axis=0)
        spread = np.linalg.norm(estimates - mean, axis=2).mean() / size
        x, y = ((mean + 0.5) / size).T[:, :, None]
        landmarks = quad[0] + x * (quad[3] - quad[0]) + y * (quad[1] - quad[0])
        if spread < _AGREED:
            break
        quad = ffhq_quad(landmarks)
    return landmarks, float(spread)


def quick_crop(picture: Image.Image, quad: np.ndarray, size: int) -> np.ndarray:
    """A quad [4, 2] of a photo for a network to look at, black beyond the photo's edge: uint8 [size, size, 3]."""
    shrink = max(int(np.linalg.norm(quad[3] - quad[0]) / size), 1)
    corners = (quad + 0.5) / shrink
    return np.asarray(
        picture.reduce(shrink).transform(
            (size, size), Image.Transform.QUAD, tuple(corners.flatten()), Image.Resampling.BICUBIC
        )
    )


def ffhq_quad(landmarks: np.ndarray) -> np.ndarray:
    """The oriented square that FFHQ crops: [4, 2] corners, upper left, lower left, lower right, upper right.

    Let e be the vector from the left eye's centre to the right one's, m the vector from the midpoint of the eyes to
    the midpoint of the mouth, and i a quarter turn. The half-axis is x ∝ e − i m, of length ``max(2 |e|, 1.8 |m|)``;
    the centre is the midpoint of the eyes plus 0.1 m.

    Args:
        landmarks: [68, 2] (x, y), in the iBUG order, or [5, 2]: left eye, right eye, nose tip, left and right corner
            of the mouth, left and right as one sees them in the picture.
    """
    points = _five(landmarks)
    # i · p turns p by 90° towards +y, that is, downwards.
    left_eye, right_eye, _, mouth_left, mouth_right = points[:, 0] + 1j * points[:, 1]
    eyes = (left_eye + right_eye) / 2
    e = right_eye - left_eye
    m = (mouth_left + mouth_right) / 2 - eyes
    x = e - 1j * m
    x *= max(2 * abs(e), 1.8 * abs(m)) / abs(x)
    y = 1j * x
    centre = eyes + 0.1 * m
    corners = np.array([centre - x - y, centre - x + y, centre + x + y, centre + x - y])
    return np.column_stack([corners.real, corners.imag])


def _five(landmarks: np.ndarray) -> np.ndarray:
    """Left eye, right eye, nose tip, left and right corner of the mouth [5, 2], of 5 or 68 landmarks."""
    if len(landmarks) == 5:
        return landmarks
    eyes = landmarks[36:48].reshape(2, 6, 2).mean(axis=1)
    return np.concatenate([eyes, landmarks[[30, 48, 54]]])


def checked_landmarks(landmarks: np.ndarray, width: int, height: int) -> np.ndarray:
    """Landmarks given by the user as float64 [5, 2] or [68, 2], in px; given so, or as shares of width and height.

    Raises:
        SettingError: if there are not 5 or 68 of them, one lies outside the photo, or they are out of order.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape not in ((5, 2), (68, 2)):
        raise SettingError(
            f"The landmarks are {list(points.shape)}, but must be [5, 2] or [68, 2]: left eye, right eye, nose tip, "
            "left and right corner of the mouth, or the 68 of iBUG."
        )
    if _five(points).min() >= 0 and _five(points).max() <= 1:  # no face is so small
        points = points * (width, height) - 0.5
    for x, y in _five(points):  # only these: the jaw of a face at the edge may lie beyond it
        if not (-1 < x < width and -1 < y < height):
            raise SettingError(f"The landmark {x:g},{y:g} lies outside the photo, which is {width} × {height} px.")
    left_eye, right_eye, _, mouth_left, mouth_right = _five(points)
    e, m = right_eye - left_eye, (mouth_left + mouth_right - left_eye - right_eye) / 2
    if e[0] * m[1] - e[1] * m[0] <= 0 or e @ (mouth_right - mouth_left) <= 0:
        raise SettingError(
            "The landmarks are out of order: give left eye, right eye, nose tip, left and right corner of the mouth, "
            "left and right as you see them in the photo."
        )
    return points


def read_landmarks(given: str, photo: str = "") -> np.ndarray:
    """Landmarks from a text "x,y x,y …" or a file: [N, 2].

    The file holds such a text, JSON (a list, or objects with the points' coordinates or names), a .pts file, or a list
    of photos with the five landmarks of each, as CelebA's.

    Args:
        given: the text, or the file's name.
        photo: the photo's file name, to find it in a list of several.

    Raises:
        FileError: if it names a file that is missing or cannot be read.
        SettingError: if it does not hold landmarks, or those of several photos but not of this one.
    """
    text, source = given, "The text"
    if re.search(r"[^\d\s.,;+-]", given) or os.path.isfile(given):  # Path.is_file raises on a long text
        source = given
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise FileError(
                f'There is no file {given}: name one, or write the landmarks themselves, as in "x,y x,y …".'
            ) from None
        except (OSError, ValueError):
            raise FileError(f"{given} cannot be read as a text: name a text or JSON file of landmarks.") from None
    try:
        return _points(json.loads(text) if text.lstrip()[:1] in ("[", "{") else _numbers(text, photo))
    except (ValueError, TypeError, KeyError, StopIteration, RecursionError):
        raise SettingError(
            f'{source} does not hold landmarks of this photo: write pairs of numbers, as in "x,y x,y …", a JSON list '
            "of pairs, or a .pts file."
        ) from None


def _numbers(text: str, photo: str) -> list[str]:
    """The coordinates in a text: pairs, a .pts file, or the line of the photo in a list of photos."""
    if block := re.search(r"\{(.*?)\}", text, re.DOTALL):
        text = block[1]
    rows = re.findall(r"^(\S*[^\d\s.,;+-]\S*)((?:[\s,]+[-+.\d]+){10})\s*$", text, re.MULTILINE)  # a name, five pairs
    named = [numbers for name, numbers in rows if name == photo] or [numbers for _, numbers in rows]
    if len(named) > 1:
        raise ValueError("several photos")
    return re.split(r"[\s,;]+", (named[0] if named else text).strip(" \t\r\n,;"))


_NAMED = (
    ("left_eye",), ("right_eye",), ("nose", "nose_tip"), ("mouth_left", "left_mouth", "left_mouth_corner"),
    ("mouth_right", "right_mouth", "right_mouth_corner"),
)  # fmt: skip


def _points(found) -> np.ndarray:
    """The points [N, 2] in what JSON or a text holds; the errors of NumPy if they are none."""
    if isinstance(found, dict):
        found = {str(key).lower(): value for key, value in found.items()}
        if "left_eye" in found:
            five = np.array([next(found[name] for name in names if name in found) for names in _NAMED], np.float64)
            # Some count left and right from the person's side.
            return five if five[0, 0] <= five[1, 0] else five[[1, 0, 2, 4, 3]]
        return _points(next(found[key] for key in ("landmarks", "keypoints", "points", "kps") if key in found))
    if isinstance(found, list) and len(found) == 1:
        return _points(found[0])
    if isinstance(found, list) and found and isinstance(found[0], dict):
        found = [(point["x"], point["y"]) for point in found]
    points = np.array(found).astype(np.float64)
    return (
        points[:, :2] if points.ndim == 2 and points.shape[1] == 3 else points.reshape(-1, 2)
    )  # x, y, z or visibility

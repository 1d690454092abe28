"""Finding a face and cropping it the way FFHQ was cropped (Karras et al. 2019, arXiv 1812.04948, appendix C)."""

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import dlib
import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib import weights
from ex5lib.errors import FaceError, SettingError
from ex5lib.images import MIN_SIZE, check_image, from_picture, from_uint8, load_image, resize, resize_area, to_uint8

Photo = str | Path | Image.Image | Tensor

# Tried in this order until a face is found: dlib's detector was trained on upright faces of 80 px and more.
_DETECTION_SIDE = 1024
_TILTS = (30, -30, 60, -60, 90, -90, 180)
_CNN_SIDE = 800
# The detector's box in an aligned face, averaged over generated faces: (left, top, right, bottom) in [0, 1].
_ALIGNED_BOX = np.array([0.221, 0.325, 0.789, 0.891])
# Shifts (x, y) and scalings of that box; the landmarks predicted in each are averaged.
_BOX_JITTER = (
    *((0, 0, s) for s in (0.95, 1, 1.05)),
    *((x, y, 1) for x, y in ((0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02), (0.02, 0.02), (-0.02, -0.02))),
)


@dataclass(frozen=True)
class Detection:
    """A face in a photo; all coordinates are (x, y) in px of that photo.

    Attributes:
        box: [4, 2] corners of the detector's box, rotated with a tilted face.
        score: the detector's confidence.
        landmarks: [68, 2].
        tilt: degrees by which the photo was rotated to find the face.
        detector: "hog" or "cnn".
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    tilt: int
    detector: str


@dataclass(frozen=True)
class AlignedFace:
    """What ``align_face`` returns.

    Attributes:
        image: [1, 3, S, S], the crop.
        landmarks: [68, 2] (x, y) in px of the photo; None if the photo itself was used as the aligned crop.
        quad: [4, 2] (x, y) in px of the photo: the corners that became the crop's upper left, lower left, lower right
            and upper right.
        photo: [1, 3, H, W], the whole photo.
        detections: all faces found, the best first; ``detections[index]`` is the one cropped. Empty if the photo itself
            was used as the aligned crop.
        index: of the cropped face in ``detections``.
    """

    image: Tensor
    landmarks: np.ndarray | None
    quad: np.ndarray
    photo: Tensor
    detections: tuple[Detection, ...]
    index: int

    @property
    def already_aligned(self) -> bool:
        """Whether the photo was already an aligned crop: the quad's corners are within 5 % of its width of its own."""
        height, width = self.photo.shape[2:]
        return height == width and np.linalg.norm(self.quad - _corners(width), axis=1).max() <= 0.05 * width

    def crop(self, image: Tensor) -> Tensor:
        """The same crop of another image [1, 3, H, W] that has the photo's size: [1, 3, S, S]."""
        return crop_quad(image, self.quad, self.image.shape[3])


def _corners(side: int) -> np.ndarray:
    """The corners [4, 2] of a square picture, in the order of ``AlignedFace.quad``."""
    return np.array([(0, 0), (0, side), (side, side), (side, 0)]) - 0.5


@cache
def _hog_detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


def detect_faces(photo: Tensor) -> list[Detection]:
    """All faces in a photo [1, 3, H, W], the best score first; empty if there is none.

    Tries in this order until something is found: dlib's HOG detector on the photo, on the photo enlarged (small
    faces), on the photo rotated (tilted faces), and dlib's CNN detector (faces half turned away).

    Raises:
        SettingError: if the photo is not a single image, or a side is shorter than 64 px.
    """
    check_image(photo, batch=1)
    if min(photo.shape[2:]) < MIN_SIZE:
        height, width = photo.shape[2:]
        raise SettingError(f"The photo is {width} × {height} px: it needs at least {MIN_SIZE} px on each side.")
    picture = Image.fromarray(to_uint8(photo))
    side = max(picture.size)
    scale = min(1.0, _DETECTION_SIDE / side)
    # An 80 px face should be found in a photo of any size, so the second attempt uses the full resolution.
    attempts = [(scale, 0), (1.0, 0)] if scale < 1 else [(1.0, 0)]
    attempts += [(min(2.0, 4096 / side), 0), (min(4.0, 4096 / side), 0)]
    attempts += [(scale, tilt) for tilt in _TILTS]
    for scale_, tilt in dict.fromkeys(attempts):
        turned, to_photo = _turned(picture, scale_, tilt)
        boxes, scores, _ = _hog_detector().run(turned, 1 if tilt == 0 and scale_ == scale else 0, 0.0)
        if boxes:
            hits = zip(boxes, scores, strict=True)
            found = [_detection(picture, turned, b, s, to_photo, tilt, "hog") for b, s in hits]
            return sorted(found, key=lambda face: -face.score)
    turned, to_photo = _turned(picture, min(1.0, _CNN_SIDE / side), 0)
    hits = weights.cnn_detector()(turned, 1)
    found = [_detection(picture, turned, hit.rect, hit.confidence, to_photo, 0, "cnn") for hit in hits]
    return sorted(found, key=lambda face: -face.score)


def _turned(picture: Image.Image, scale: float, tilt: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture scaled and rotated, and the affine map [2, 3] from the new pixels back to the picture's."""
    width, height = (max(round(side * scale), 1) for side in picture.size)
    scaled = picture if scale == 1 else picture.resize((width, height), Image.Resampling.BICUBIC)
    turned = scaled.rotate(tilt, Image.Resampling.BICUBIC, expand=True) if tilt else scaled
    angle = math.radians(tilt)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    # PIL rotates counter-clockwise about the centre, so the way back is clockwise (x right, y down).
    linear = rotation * (np.array(picture.size) / (width, height))[:, None]
    centre = np.array(picture.size) / 2 - linear @ (np.array(turned.size) / 2)
    return np.asarray(turned), np.column_stack([linear, centre])


def _apply(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ affine[:, :2].T + affine[:, 2]


def _landmarks(pixels: np.ndarray, box: dlib.rectangle) -> np.ndarray:
    return np.array([(p.x, p.y) for p in weights.landmark_model()(pixels, box).parts()], dtype=np.float64)


def _detection(
    picture: Image.Image,
    pixels: np.ndarray,
    box: dlib.rectangle,
    score: float,
    to_photo: np.ndarray,
    tilt: int,
    detector: str,
) -> Detection:
    x0, y0, x1, y1 = box.left(), box.top(), box.right(), box.bottom()
    corners = np.array([(x0, y0), (x0, y1), (x1, y1), (x1, y0)], dtype=np.float64)
    landmarks = refine_landmarks(picture, _apply(to_photo, _landmarks(pixels, box)))
    return Detection(_apply(to_photo, corners), float(score), landmarks, tilt, detector)


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
    return (_landmarks(pixels, aligned_box(size)) + 0.5) / size


def refine_landmarks(picture: Image.Image, landmarks: np.ndarray, *, passes: int = 1, size: int = 256) -> np.ndarray:
    """Predict the landmarks again in the upright, scaled crop that they define, averaged over nearby boxes.

    The prediction shifts by a few percent with the given box and with tilt. In the aligned frame the box is always
    the same, so a photo and a rotated or scaled copy of it get the same crop.

    Args:
        picture: the photo.
        landmarks: [68, 2] first estimate, px of the photo.

    Returns:
        [68, 2], px of the photo.
    """
    for _ in range(passes):
        quad = ffhq_quad(landmarks)
        shrink = max(int(np.linalg.norm(quad[3] - quad[0]) / size), 1)
        corners = (quad + 0.5) / shrink
        crop = picture.reduce(shrink).transform(
            (size, size), Image.Transform.QUAD, tuple(corners.flatten()), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(crop)
        estimates = [_landmarks(pixels, aligned_box(size, (x, y), s)) for x, y, s in _BOX_JITTER]
        x, y = ((np.mean(estimates, axis=0) + 0.5) / size).T[:, :, None]
        landmarks = quad[0] + x * (quad[3] - quad[0]) + y * (quad[1] - quad[0])
    return landmarks


def ffhq_quad(landmarks: np.ndarray) -> np.ndarray:
    """The oriented square that FFHQ crops: [4, 2] corners, upper left, lower left, lower right, upper right.

    Let e be the vector from the left eye's centre to the right one's, m the vector from the midpoint of the eyes to
    the midpoint of the mouth, and i a quarter turn. The half-axis is x ∝ e − i m, of length max(2 |e|, 1.8 |m|); the
    centre is the midpoint of the eyes plus 0.1 m.

    Args:
        landmarks: [68, 2] (x, y), in the iBUG order.
    """
    points = landmarks[:, 0] + 1j * landmarks[:, 1]  # i · p turns p by 90° towards +y, that is, downwards
    left_eye, right_eye = points[36:42].mean(), points[42:48].mean()
    eyes = (left_eye + right_eye) / 2
    e = right_eye - left_eye
    m = (points[48] + points[54]) / 2 - eyes
    x = e - 1j * m
    x *= max(2 * abs(e), 1.8 * abs(m)) / abs(x)
    y = 1j * x
    centre = eyes + 0.1 * m
    corners = np.array([centre - x - y, centre - x + y, centre + x + y, centre + x - y])
    return np.column_stack([corners.real, corners.imag])


def crop_quad(image: Tensor, quad: np.ndarray, size: int = 1024) -> Tensor:
    """Cut a quad out of an image as FFHQ did: shrink, crop, pad by reflection with a blurred border, transform.

    Args:
        image: [1, 3, H, W].
        quad: [4, 2] as returned by ``ffhq_quad``; it may extend beyond the image.
        size: side of the crop.

    Returns:
        [1, 3, size, size].
    """
    picture, quad = Image.fromarray(to_uint8(image)), np.array(quad, dtype=np.float64)
    side = np.linalg.norm(quad[3] - quad[0])

    shrink = int(side / size * 0.5)
    if shrink > 1:
        smaller = tuple(round(length / shrink) for length in picture.size)
        quad *= np.array(smaller) / picture.size
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)
        side /= shrink

    border = max(round(side * 0.1), 3)
    low = np.floor(quad.min(axis=0)).astype(int) - border
    high = np.ceil(quad.max(axis=0)).astype(int) + border
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, picture.size)
    picture = picture.crop((*inner_low, *inner_high))
    quad -= inner_low

    missing = np.concatenate([inner_low - low, high - inner_high])  # left, top, right, bottom
    if missing.max() > border - 4:
        picture, shift = _padded(picture, np.maximum(missing, round(side * 0.3)), blur=side * 0.02)
        quad += shift

    # Transform to four times the size, then shrink: the transform itself interpolates only four pixels.
    big = picture.transform(
        (4 * size, 4 * size), Image.Transform.QUAD, tuple((quad + 0.5).flatten()), Image.Resampling.BILINEAR
    )
    return from_uint8(np.asarray(big.resize((size, size), Image.Resampling.LANCZOS)))


def _padded(picture: Image.Image, pad: np.ndarray, blur: float) -> tuple[Image.Image, np.ndarray]:
    from scipy.ndimage import gaussian_filter  # imported here: it takes a quarter of a second, and few photos need it

    left, top, right, bottom = pad
    pixels = np.pad(np.asarray(picture, np.float32), ((top, bottom), (left, right), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    y, x = np.ogrid[:height, :width]
    # 1 at the outer edge of the padding, 0 at the picture's edge, negative inside the picture.
    nearness = 1 - np.minimum(
        np.minimum(x / left, (width - 1 - x) / right), np.minimum(y / top, (height - 1 - y) / bottom)
    )
    nearness = nearness[:, :, None].astype(np.float32)
    soft = gaussian_filter(pixels, [blur, blur, 0])
    pixels += (soft - pixels) * np.clip(3 * nearness + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(nearness, 0, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), np.array([left, top])


def align_face(photo: Photo, *, face: int | None = None, size: int = 1024) -> AlignedFace:
    """Find a face in a photo and crop it as FFHQ did.

    Args:
        photo: the path of an image file, a PIL image, or a tensor [1, 3, H, W].
        face: index of the face, from 0, best detector score first; None takes the best.
        size: side of the crop in px.

    Raises:
        FaceError: if there is no face, or fewer than asked for.
        FileError: if the file cannot be read, as in ``load_image``.
        SettingError: if a side of the photo is shorter than 64 px.
    """
    name = str(photo) if isinstance(photo, str | Path) else "the photo"
    photo = _as_tensor(photo)
    found = detect_faces(photo)
    if not found:
        raise FaceError(
            f"No face was found in {name}: try a photo with a larger, better-lit face turned to the camera, or crop "
            "this one tighter."
        )
    index = face or 0
    if not 0 <= index < len(found):
        faces = "1 face was" if len(found) == 1 else f"{len(found)} faces were"
        raise FaceError(f"Face {index} was asked for, but {faces} found in {name}: faces are counted from 0.")
    landmarks = found[index].landmarks
    quad = ffhq_quad(landmarks)
    return AlignedFace(crop_quad(photo, quad, size), landmarks, quad, photo, tuple(found), index)


def load_face(
    photo: Photo | AlignedFace, *, face: int | None = None, aligned: bool = False, size: int = 1024
) -> AlignedFace:
    """The aligned face of a photo. A photo that is already an aligned crop is only resized, not cropped again.

    Args:
        photo: anything that ``align_face`` takes, or an aligned face, which is only resized.
        face: index of the face, as in ``align_face``.
        aligned: treat the photo as an aligned crop, without looking for a face.
        size: side of the crop in px.

    Raises:
        FaceError, FileError, SettingError: as in ``align_face``.
        SettingError: if ``aligned`` is set for a photo that is not square.
    """
    if isinstance(photo, AlignedFace):
        return replace(photo, image=resize(photo.image, size))
    if not aligned:
        found = align_face(photo, face=face, size=size)
        if not found.already_aligned:
            return found
    name = str(photo) if isinstance(photo, str | Path) else "The photo"
    photo = _as_tensor(photo)
    height, width = photo.shape[2:]
    if height != width:
        raise SettingError(f"{name} is not square, so it cannot be an aligned crop: leave out --aligned.")
    return AlignedFace(resize(photo, size), None, _corners(width), photo, (), 0)


def _as_tensor(photo: Photo) -> Tensor:
    if isinstance(photo, Image.Image):
        return from_picture(photo)
    return photo if isinstance(photo, Tensor) else load_image(photo)

"""Cropping a face the way FFHQ was cropped (Karras et al. 2019, arXiv 1812.04948, appendix C)."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib.errors import FaceError, SettingError, UnsureFaceError
from ex5lib.faces.detection import Detection, detect_faces
from ex5lib.faces.landmarks import checked_landmarks, ffhq_quad, quick_crop
from ex5lib.images.extras import Extras
from ex5lib.images.loading import load_photo
from ex5lib.images.tensors import checked_photo, from_uint8, resize, resize_photo, to_uint8

Photo = str | Path | Image.Image | Tensor | np.ndarray


@dataclass(frozen=True)
class AlignedFace:
    """What ``align_face`` returns.

    Attributes:
        image: [1, 3, S, S], the crop.
        landmarks: [68, 2] (x, y) in px of the photo, or [5, 2] if five were given; None if the photo itself was used
            as the aligned crop.
        quad: [4, 2] (x, y) in px of the photo: the corners that became the crop's upper left, lower left, lower right
            and upper right.
        photo: [1, 3, H, W], the whole photo.
        detections: the faces found, the best first; ``detections[index]`` is the one cropped. Empty if nothing was
            detected, because the landmarks were given or the photo itself was used as the aligned crop.
        index: of the cropped face in ``detections``.
        extras: what else the photo's file holds, to be kept when the photo is saved again.
    """

    image: Tensor
    landmarks: np.ndarray | None
    quad: np.ndarray
    photo: Tensor
    detections: tuple[Detection, ...]
    index: int
    extras: Extras = field(default_factory=Extras)

    @property
    def already_aligned(self) -> bool:
        """Whether the photo was an aligned crop: its corners are the quad's, within 5 % of its width."""
        height, width = self.photo.shape[2:]
        return height == width and np.linalg.norm(self.quad - _corners(width), axis=1).max() <= 0.05 * width

    @property
    def choice(self) -> str:
        """A sentence that says which of several faces was taken and how to take another; empty if there is only one."""
        sure = [i for i, detection in enumerate(self.detections) if detection.sure]
        others = [str(i) for i in sure if i != self.index]
        if not others:
            return ""
        x, y = self.detections[self.index].box.mean(axis=0)
        return (
            f"Of {len(others) + 1} faces, face {self.index} was taken, at ({x:.0f}, {y:.0f}) px: "
            f"--face {' or '.join(', '.join(others).rsplit(', ', 1))} takes another."
        )

    def crop(self, image: Tensor) -> Tensor:
        """The same crop of another image [1, 3, H, W] that has the photo's size: [1, 3, S, S]."""
        return crop_quad(image, self.quad, self.image.shape[3])

    def sized(self, size: int) -> "AlignedFace":
        """The same face in a crop of another size."""
        if size == self.image.shape[3]:
            return self
        cut = resize(self.photo, size) if self.landmarks is None else crop_quad(self.photo, self.quad, size)
        return replace(self, image=cut)

    def another(self, index: int) -> "AlignedFace":
        """Another of the faces that were found in the photo, in a crop of the same size."""
        landmarks = self.detections[index].landmarks
        quad = ffhq_quad(landmarks)
        image = crop_quad(self.photo, quad, self.image.shape[3])
        return replace(self, image=image, landmarks=landmarks, quad=quad, index=index)

    def every(self) -> list["AlignedFace"]:
        """All certain faces of the photo, the best first, in crops of the same size; itself if none was detected."""
        faces = [self.another(i) for i, detection in enumerate(self.detections) if detection.sure]
        return faces or [self]  # a photo that was used as the aligned crop has no detections


def _corners(side: int) -> np.ndarray:
    """The corners [4, 2] of a square picture, in the order of ``AlignedFace.quad``."""
    return np.array([(0, 0), (0, side), (side, side), (side, 0)]) - 0.5


def crop_quad(image: Tensor, quad: np.ndarray, size: int = 1024) -> Tensor:
    """Cut a quad out of an image as FFHQ did: shrink, crop, pad by reflection with a blurred border, transform.

    Args:
        image: [1, 3, H, W].
        quad: [4, 2] as returned by ``ffhq_quad``; it may extend beyond the image.
        size: side of the crop.

    Returns:
        [1, 3, size, size].
    """
    quad = np.array(quad, dtype=np.float64)
    side = float(np.linalg.norm(quad[3] - quad[0]))

    shrink = int(side / size * 0.5)
    if shrink > 1:
        width, height = round(image.shape[3] / shrink), round(image.shape[2] / shrink)
        quad *= np.array([width / image.shape[3], height / image.shape[2]])
        image = resize_photo(image, width, height)
        side /= shrink

    border = max(round(side * 0.1), 3)
    low = np.floor(quad.min(axis=0)).astype(int) - border
    high = np.ceil(quad.max(axis=0)).astype(int) + border
    inner_low, inner_high = np.maximum(low, 0), np.minimum(high, (image.shape[3], image.shape[2]))
    (left, top), (right, bottom) = inner_low, np.maximum(inner_high, inner_low)
    picture = Image.fromarray(to_uint8(image[:, :, top:bottom, left:right]))  # a whole photo would take much memory
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


def align_face(
    photo: Photo,
    *,
    face: int | None = None,
    mask: Tensor | None = None,
    landmarks: np.ndarray | None = None,
    every: bool = False,
    size: int = 1024,
) -> AlignedFace:
    """Find a face in a photo and crop it as FFHQ did.

    Args:
        photo: the path of an image file, a PIL image, an image tensor [1, 3, H, W], or 8 bits: a tensor of the same
            shape, or an array [H, W, 3].
        face: index of the face, from 0, best detector score first; None takes the best, if it is certainly a face.
        mask: [1, 1, H, W], 1 where the photo is damaged: the detector ignores these pixels, the crop keeps them. If no
            ``face`` is given, the face is taken on which most is painted.
        landmarks: [5, 2] (x, y) in px of the photo: left eye, right eye, nose tip, left and right corner of the mouth,
            left and right as one sees them; or [68, 2] in the iBUG order. Values from 0 to 1 are shares of the photo's
            width and height. Then no face is looked for.
        every: look for all faces of a group, also damaged ones, as in ``detect_faces``. This is also done if there are
            too few faces for ``face`` otherwise.
        size: side of the crop in px.

    Raises:
        FaceError: if there is no face, or fewer than asked for.
        UnsureFaceError: if what was found may not be a face, and no ``face`` is given.
        FileError: if the file cannot be read, as in ``load_image``.
        SettingError: if the photo has another shape or range, or a side shorter than 32 px, the mask is not of the
            photo's size, or the landmarks do not make a face.
    """
    name = str(photo) if isinstance(photo, str | Path) else "the photo"
    photo, extras = _as_tensor(photo)
    if landmarks is not None:
        landmarks = checked_landmarks(landmarks, photo.shape[3], photo.shape[2])
        quad = ffhq_quad(landmarks)
        return AlignedFace(crop_quad(photo, quad, size), landmarks, quad, photo, (), 0, extras)
    found = detect_faces(photo, mask=mask, every=every)
    meant = mask if face is None else None
    if found and not every and ((face or 0) >= len(found) or _most_painted(found, meant) is None):
        found = detect_faces(photo, mask=mask, every=True)
    if not found:
        raise FaceError(
            f"No face was found in {name}: try a photo with a larger, better-lit face turned to the camera, or say "
            f"where the face is ({_BY_HAND})."
        )
    index = face if face is not None else _most_painted(found, meant) or 0
    if not 0 <= index < len(found):
        faces = "1 face was" if len(found) == 1 else f"{len(found)} faces were"
        raise FaceError(f"Face {index} was asked for, but {faces} found in {name}: faces are counted from 0.")
    landmarks = found[index].landmarks
    quad = ffhq_quad(landmarks)
    aligned = AlignedFace(crop_quad(photo, quad, size), landmarks, quad, photo, tuple(found), index, extras)
    if face is None and not found[0].sure:
        x, y = found[0].box.mean(axis=0)
        raise UnsureFaceError(
            f"{name} may not show a face at ({x:.0f}, {y:.0f}) px, where the best score is {found[0].score:.2f} "
            f"({found[0].detector}): pass --face 0 if it does, or say where the face is ({_BY_HAND}).",
            aligned,
        )
    return aligned


def _most_painted(found: list[Detection], mask: Tensor | None) -> int | None:
    """The index of the sure face on which most is painted, or else in whose crop; None if the mask touches none.

    Without a mask it is the first.
    """
    if mask is None:
        return 0
    hole = Image.fromarray((mask[0, 0] * 255).byte().cpu().numpy())
    crops = [quick_crop(hole, ffhq_quad(each.landmarks), 64) for each in found if each.sure]
    painted = [(crop[20:57, 14:51].sum(), crop.sum(), -i) for i, crop in enumerate(crops)]  # brows to chin, then all
    _, touched, index = max(painted, default=(0, 0, 0))
    return -index if touched else None


# The ways around the detector, for error messages.
_BY_HAND = "--landmarks for its eyes, nose and mouth, or --aligned for a photo that you have cropped by hand"


def load_face(
    photo: Photo | AlignedFace,
    *,
    face: int | None = None,
    aligned: bool = False,
    mask: Tensor | None = None,
    landmarks: np.ndarray | None = None,
    every: bool = False,
    size: int = 1024,
) -> AlignedFace:
    """The aligned face of a photo. A photo that is an aligned crop already is only resized, not cropped again.

    Args:
        photo: anything that ``align_face`` takes, or an aligned face, which is only resized.
        aligned: treat the photo as an aligned crop, without looking for a face.
        face, mask, landmarks, every, size: as in ``align_face``.

    Raises:
        FaceError, FileError, SettingError: as in ``align_face``.
        SettingError: if ``aligned`` is set for a photo that is not square, or together with landmarks.
    """
    if isinstance(photo, AlignedFace):
        return replace(photo, image=resize(photo.image, size))
    if aligned and landmarks is not None:
        raise SettingError("Landmarks say how to crop a photo, and --aligned not to crop it: leave out one of them.")
    if not aligned:
        try:
            found = align_face(photo, face=face, mask=mask, landmarks=landmarks, every=every, size=size)
        except UnsureFaceError as error:
            if not error.guess.already_aligned:  # what lies exactly where an aligned crop has its face is a face
                raise
            found = error.guess
        if landmarks is not None or not found.already_aligned:
            return found
    name = str(photo) if isinstance(photo, str | Path) else "The photo"
    photo, extras = _as_tensor(photo)
    height, width = photo.shape[2:]
    if height != width:
        raise SettingError(f"{name} is not square, so it cannot be an aligned crop: leave out --aligned.")
    return AlignedFace(resize(photo, size), None, _corners(width), photo, (), 0, extras)


def _as_tensor(photo: Photo) -> tuple[Tensor, Extras]:
    return load_photo(photo) if isinstance(photo, str | Path | Image.Image) else (checked_photo(photo), Extras())

"""Finding the faces in a photo, and saying which of them are sure."""

import math
from dataclasses import dataclass, replace
from functools import cache

import dlib
import numpy as np
from PIL import Image
from torch import Tensor

from ex5lib import weights
from ex5lib.errors import SettingError
from ex5lib.faces.landmarks import ffhq_quad, predict_landmarks, quad_of_box, quick_crop, refine_landmarks
from ex5lib.images.loading import MIN_SIZE
from ex5lib.images.tensors import check_image, to_uint8

# Tried in this order until a face is found: dlib's detector was trained on upright faces of 80 px and more.
_DETECTION_SIDE = 1024
_TILTS = (30, -30, 60, -60, 90, -90, 180)
_CNN_SIDE = 800
_FILL_SIDE = 256
# Chosen on the first 200 photos of benchmarks/detection.py. Scores: of a face that needs no second look; CNN's of one
# that does, in the photo and in the candidate's crop. How far predicted landmarks may lie apart: at all, and so that no
# better tilt or scale is looked for (half of that if the score is below the first).
_SURE, _CNN_SURE, _CONFIRMED, _STEADY, _SETTLED = 0.8, 0.45, 0.4, 0.011, 0.008
# In each attempt CNN looks at this many candidates; beside a sure face, only at those with at least this score.
_LOOKS, _WORTH_A_LOOK = 3, 0.3
# CNN gets a candidate's square, grown by this factor, at this size, and sees an aligned face about here (x, y).
_LOOK_GROWN, _LOOK_SIDE = 1.25, 192
_LOOK_CENTRE, _LOOK_TOLERANCE = np.array([0.5, 0.55]), np.array([0.12, 0.07])


@dataclass(frozen=True, eq=False)
class Detection:
    """A face in a photo, or what may be one; all coordinates are (x, y) in px of that photo.

    Attributes:
        box: [4, 2] corners of the detector's box, rotated with a tilted face.
        score: the detector's confidence.
        landmarks: [68, 2].
        tilt: degrees by which the photo was rotated to find the face.
        detector: "hog" or "cnn".
        spread: how far landmarks predicted from boxes around it lie apart, as a share of the aligned crop's side.
        sure: whether it is a face beyond doubt, as ``detect_faces`` decides.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray
    tilt: int
    detector: str
    spread: float
    sure: bool


@cache
def _hog_detector() -> dlib.fhog_object_detector:
    return dlib.get_frontal_face_detector()


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


def detect_faces(photo: Tensor, *, mask: Tensor | None = None, every: bool = False) -> list[Detection]:
    """The faces in a photo [1, 3, H, W], the sure ones first, then by score; empty if there is none.

    Looks in this order until a sure face is found: dlib's HOG detector on the photo, on the photo enlarged (small
    faces), on the photo rotated (tilted faces), and dlib's CNN detector (damaged faces, faces half turned away).

    A face is sure if landmarks predicted from boxes around it agree and the detector's score is at least 0.8. If the
    score is lower, CNN, which is far slower and wrong far less often, looks at the candidate's own crop. It must see a
    face there where alignment puts it, with a score of at least 0.4; a lower one will do, or none, if CNN saw the face
    in the photo with a score of at least 0.45, or where HOG saw one, too. If nothing is sure, what was found is still
    returned, with ``sure`` False.

    Args:
        mask: [1, 1, H, W], 1 where the photo is damaged. The damage is filled in from its surroundings, which helps
            with scratches; unless that leaves no doubt, the photo is also searched as it is. If a face is found in
            both, the one whose predicted landmarks agree better is returned.
        every: if sure faces were found, CNN also looks at the whole photo, for faces that HOG does not see, such as
            damaged ones in a group. They come last.

    Raises:
        SettingError: if the photo is not a single image, or a side is shorter than 32 px.
        SettingError: if the mask does not have the photo's size, or covers all of it.
    """
    check_image(photo, batch=1)
    if min(photo.shape[2:]) < MIN_SIZE:
        height, width = photo.shape[2:]
        raise SettingError(f"The photo is {width} × {height} px: it needs at least {MIN_SIZE} px on each side.")
    picture = Image.fromarray(to_uint8(photo))
    seen = picture if mask is None else _filled(picture, mask)
    found = _search(seen)
    if mask is not None and not any(_settled(face) for face in found):
        found = _distinct(found + _search(picture))
    return found + _missed(seen, found) if every else found


def _search(picture: Image.Image) -> list[Detection]:
    side = max(picture.size)
    scale = min(1.0, _DETECTION_SIDE / side)
    # An 80 px face should be found in a photo of any size, so the second attempt uses the full resolution.
    attempts = [(scale, 0), (1.0, 0)] if scale < 1 else [(1.0, 0)]
    attempts += [(min(2.0, 4096 / side), 0), (min(4.0, 4096 / side), 0)]
    attempts += [(scale, tilt) for tilt in _TILTS]
    doubtful: list[Detection] = []
    for scale_, tilt in dict.fromkeys(attempts):
        found = _hog(picture, scale_, tilt, upsample=tilt == 0 and scale_ == scale)
        least = _WORTH_A_LOOK if any(face.sure for face in found) else 0
        known = [face for face in doubtful if face.tilt == tilt]
        asked = [face for face in found if face.score >= least and not face.sure and not _overlaps(face, known)]
        found = [_second_look(picture, face) if face in asked[:_LOOKS] else face for face in found]
        if any(_settled(face) for face in found):
            return sorted(found, key=lambda face: (not face.sure, -face.score))
        doubtful += found
    if not any(face.sure for face in doubtful):
        found = _cnn(picture, min(2.0, _CNN_SIDE / side))
        doubtful += [face if face.sure else _second_look(picture, face, doubtful) for face in found]
    return _distinct(doubtful)


def _missed(picture: Image.Image, found: list[Detection]) -> list[Detection]:
    """The sure faces that CNN finds in the photo, except those that are in ``found`` already."""
    sure = [face for face in found if face.sure]
    if all(face.detector == "cnn" for face in sure):  # it has looked at all of the photo already
        return []
    more = []
    for face in _cnn(picture, min(2.0, _CNN_SIDE / max(picture.size))):
        gaps = [np.linalg.norm(face.landmarks.mean(axis=0) - other.landmarks.mean(axis=0)) for other in sure]
        if min(gaps) > np.linalg.norm(face.box[3] - face.box[0]) / 2:
            more.append(face if face.sure else _second_look(picture, face))
    return [face for face in more if face.sure]


def _settled(face: Detection) -> bool:
    """Whether it is sure, and a better tilt or scale need not be looked for."""
    return face.sure and face.spread <= (_SETTLED if face.score >= _SURE else _SETTLED / 2)


def _distinct(found: list[Detection]) -> list[Detection]:
    """Each face once, where its landmarks agree best: first the sure ones, in that order, then the others by score."""
    found = sorted(found, key=lambda face: (not face.sure, face.spread if face.sure else -face.score))
    return [face for i, face in enumerate(found) if not _overlaps(face, found[:i])]


def _overlaps(face: Detection, others: list[Detection]) -> bool:
    """Whether one of the others has about the same place and size."""
    centre, side = face.box.mean(axis=0), np.linalg.norm(face.box[3] - face.box[0])
    for other in others:
        other_side = np.linalg.norm(other.box[3] - other.box[0])
        near = np.linalg.norm(other.box.mean(axis=0) - centre) < 0.3 * max(side, other_side)
        if near and 2 / 3 < side / other_side < 3 / 2:
            return True
    return False


def _hog(picture: Image.Image, scale: float, tilt: int, upsample: bool) -> list[Detection]:
    """What the HOG detector finds in the picture scaled and rotated, the best score first."""
    turned, to_photo = _turned(picture, scale, tilt)
    boxes, scores, _ = _hog_detector().run(turned, int(upsample), 0.0)
    found = []
    for box, score in zip(boxes, scores, strict=True):
        first = _apply(to_photo, predict_landmarks(turned, box))
        landmarks, spread = _steadiest(picture, ffhq_quad(first))
        sure = score >= _SURE and spread <= _STEADY
        found.append(Detection(_apply(to_photo, _corners(box)), float(score), landmarks, tilt, "hog", spread, sure))
    return sorted(found, key=lambda face: -face.score)


def _cnn(picture: Image.Image, scale: float) -> list[Detection]:
    """What the CNN detector finds, which also sees tilted faces."""
    scaled, to_photo = _turned(picture, scale, 0)
    found = []
    for hit in weights.cnn_detector()(scaled, 0):
        box = _apply(to_photo, _corners(hit.rect))
        landmarks, spread = _steadiest(picture, quad_of_box(box))
        sure = hit.confidence >= _SURE and spread <= _SETTLED
        found.append(Detection(box, float(hit.confidence), landmarks, 0, "cnn", spread, sure))
    return found


def _steadiest(picture: Image.Image, quad: np.ndarray) -> tuple[np.ndarray, float]:
    """``refine_landmarks``, in a turned square if predictions disagree in this one and agree far better in that."""
    landmarks, spread = refine_landmarks(picture, quad)
    if spread <= _SETTLED:
        return landmarks, spread
    turned = []
    for angle in np.radians((30, -30, 60, -60)):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turned.append(refine_landmarks(picture, (quad - quad.mean(axis=0)) @ turn + quad.mean(axis=0)))
    steadiest = min(turned, key=lambda one: one[1])
    return steadiest if steadiest[1] < spread / 2 else (landmarks, spread)


def _second_look(picture: Image.Image, face: Detection, others: list[Detection] | None = None) -> Detection:
    """A doubtful face, sure if CNN, looking at its upright crop, sees one where alignment puts it.

    With ``others``, which HOG has found, it is a face that CNN saw in the photo. Then it may be sure even if CNN sees
    hardly anything in the crop: if its score is high enough, or one of the others overlaps it.
    """
    if face.spread > _STEADY:
        return face
    quad = ffhq_quad(face.landmarks)
    grown = quad.mean(axis=0) + _LOOK_GROWN * (quad - quad.mean(axis=0))
    hits = weights.cnn_detector()(quick_crop(picture, grown, _LOOK_SIDE), 0)
    likely = others is not None and (face.score >= _CNN_SURE or _overlaps(face, others))
    if not hits:
        return replace(face, sure=likely)
    best = max(hits, key=lambda hit: hit.confidence)
    centre = (_corners(best.rect).mean(axis=0) / _LOOK_SIDE - 0.5) * _LOOK_GROWN + 0.5
    in_place = bool((np.abs(centre - _LOOK_CENTRE) <= _LOOK_TOLERANCE).all())
    return replace(face, sure=in_place and (likely or best.confidence >= _CONFIRMED))


def _corners(box: dlib.rectangle) -> np.ndarray:
    x0, y0, x1, y1 = box.left(), box.top(), box.right(), box.bottom()
    return np.array([(x0, y0), (x0, y1), (x1, y1), (x1, y0)], dtype=np.float64)


def _filled(picture: Image.Image, mask: Tensor) -> Image.Image:
    """The picture with its damaged pixels filled in smoothly from their surroundings."""
    from skimage.restoration import inpaint_biharmonic  # imported here: few photos need it

    if mask.shape != (1, 1, picture.height, picture.width):
        raise SettingError(
            f"The mask is {list(mask.shape)}, but the photo is {picture.width} × {picture.height} px: draw it on the "
            "photo."
        )
    hole = Image.fromarray(((mask[0, 0] > 0).numpy() * 255).astype(np.uint8))
    scale = min(1.0, _FILL_SIDE / max(picture.size))
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    small_hole = np.asarray(hole.resize(size, Image.Resampling.BOX)) > 0
    if small_hole.all():
        raise SettingError("The mask is white all over, so there is no face to find: paint black what to keep.")
    small = np.asarray(picture.resize(size, Image.Resampling.BOX)) / 255
    filled = inpaint_biharmonic(small, small_hole, channel_axis=-1).clip(0, 1)
    filled = Image.fromarray((255 * filled).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.composite(filled, picture, hole)

"""Putting restored faces back into the photo that they were cropped from.

What is replaced depends on what the degradation hides, which test images show (``probe``): the colours of the head, the
hole, or the face from the chin to the hairline (the table in docs/faces.md). If the degradation has a ``composite``,
that decides what is kept. Hair and background stay the photo's. Everything is replaced at the photo's own resolution,
after the result's colours were matched to the photo's at the seam. An enlarged photo is soft around a new face, so it
gets the result's finest detail there, as far as the two agree otherwise.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib.degradations.known import Grayscale, compositor
from ex5lib.degradations.probe import hidden_region, hides_color
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.tensors import check_image, resize, resize_area
from ex5lib.restoration.outlines import face_outline, head_share, smoothstep

# Lengths are shares of the crop's side; a face is about half as wide as its crop. Around a face come a margin, for the
# jaw's dark edge, which must not be seen twice; a feather; and a fade towards the crop's border, because a long chin
# comes close to it. Hair and neck reach beyond the crop: their colours fade, too, and so does detail.
_MARGIN, _FEATHER, _FADE, _BORDER_FADE = 0.015, 0.07, 0.03, 0.06
_HOLE_MARGIN, _HOLE_FEATHER = 0.004, 0.012
_HOLE_MARGIN_PX, _HOLE_FEATHER_PX = 1.5, 3  # at least, in px of the photo: cropping blurs a hole's edge
_RING = 0.03  # width of the ring around what is replaced; the colours are compared there, too
_GRID = 64  # px at which they are compared: finer differences are in content, not colour
_UNLIKE = (0.4, 0.2, 0.1, 0.1, 0.1, 0.1)  # for each round: larger deviations hardly count
_AROUND, _FAR = 5, 0.4  # px of the photo where it is compared with a result; how far apart a quarter of detail is left

_luma = Grayscale()


def paste(photo: Tensor, faces: Sequence[tuple[AlignedFace, Tensor, nn.Module]]) -> Tensor:
    """Put the results for one or more faces of a photo back into it, one after the other.

    Where the crops of two grey faces overlap, a pixel takes its colours mostly from the nearer face.

    Args:
        photo: [1, 3, H, W], usually ``face.photo``; it may be a larger or smaller copy of that.
        faces: for each, the aligned face, its result [1, 3, S, S] and D.

    Returns:
        [1, 3, H, W]; where nothing is replaced (``replaced_share`` is 0), exactly the photo, except that a crop in an
        enlarged one gets detail.

    Raises:
        SettingError: if an image has the wrong shape, or a face was found in a photo of other proportions.
    """
    check_image(photo, batch=1)
    for _, result, _ in faces:
        check_image(result, batch=1)
    faces = [(face, result.detach().float().clamp(-1, 1), D) for face, result, D in faces]
    placed = [(face, result, D, quad_in(photo, face), _recolored(face, result, D)) for face, result, D in faces]
    is_enlarged = any(photo.shape[3] > face.photo.shape[3] for face, *_ in faces)
    photo = photo.clone()
    _change(photo, [(quad, *_colors(face, result, known)) for face, result, D, quad, known in placed if hides_color(D)])
    if is_enlarged:
        inexact = ((face, result, quad, known) for face, result, D, quad, known in placed if compositor(D) is None)
        _change(photo, [(quad, *_detail(face, result, known)) for face, result, quad, known in inexact])
    for face, result, D, quad, known in placed:
        share = replaced_share(face, result, D)
        if share.any():
            rows, columns = window = _window(quad, photo)
            here = photo[:, :, rows, columns]
            matched = to_photo(_matched(result, known, share), quad, window).clamp_(-1, 1)
            here += matched.sub_(here).mul_(to_photo(share, quad, window))  # in place: it may be most of a large scan
    return photo


@torch.no_grad()
def replaced_share(face: AlignedFace, result: Tensor, degradation: nn.Module) -> Tensor:
    """How much of each pixel of the crop a paste takes from the result, [1, 1, S, S]: 1 inside, 0 outside.

    It is 0 everywhere if only colours are replaced. Arguments as in ``paste``.
    """
    from scipy.ndimage import distance_transform_edt  # imported here: it takes a quarter of a second

    size, side = result.shape[-1], float(np.linalg.norm(face.quad[3] - face.quad[0]))
    composite = compositor(degradation)
    if exact := composite is not None:  # black where nothing of a white photo is kept
        white = torch.ones(1, 3, size, size)
        hole = (composite(white, -white) < -0.999).all(dim=1)[0]
    else:
        hole = hidden_region(degradation, size)[0, 0]
    missing = hole.cpu().numpy()
    share = np.zeros((size, size))
    if missing.any():
        margin = max(_HOLE_MARGIN, _HOLE_MARGIN_PX / side) + 1 / size  # between two pixels the share is interpolated
        feather = max(_HOLE_FEATHER, _HOLE_FEATHER_PX / side)
        share = smoothstep(1 - (distance_transform_edt(~missing) / size - margin) / feather)
    if not exact or not (missing.any() or hides_color(degradation)):
        share = np.maximum(share, _around_face(face, result))
    return torch.from_numpy(share)[None, None].float()


def _around_face(face: AlignedFace, result: Tensor) -> np.ndarray:
    """A share [S, S]: 1 in the face and a margin around it, falling over the feather, 0 at the crop's border."""
    from scipy.ndimage import distance_transform_edt

    size = result.shape[-1]
    inside = face_outline(face.image, size) | face_outline(result, size)  # or one chin would show beside the other
    share = smoothstep(1 - (distance_transform_edt(~inside) / size - _MARGIN) / _FEATHER)
    return share * smoothstep(_inward(size) / _FADE)


def _matched(result: Tensor, known: Tensor, share: Tensor) -> Tensor:
    """The result with its colours shifted, so that they agree with the known ones at the seam.

    The shift c minimises Σ |∇c|² + Σ w |c − d|² on a coarse grid, where d is the difference of the two images and w how
    much of a grid cell lies at the seam. Inside, c is as smooth as a membrane. Where the result shows something else,
    such as a strand of hair, d is an outlier: the second term is made robust (Geman and McClure), and solved by
    reweighting, starting at the median, with a bound that tightens.

    Args:
        result, known: [1, 3, S, S].
        share: of the result in the paste, [1, 1, S, S].
    """
    from scipy.ndimage import distance_transform_edt
    from scipy.sparse import diags, identity, kron
    from scipy.sparse.linalg import splu

    size, grid = result.shape[-1], min(_GRID, result.shape[-1])
    near = torch.from_numpy(distance_transform_edt(share[0, 0].numpy() == 0) < _RING * size)
    seam = near.float() * (share < 0.5)  # farther inside, the photo may be black
    weight = resize_area(seam, grid)
    difference = resize_area(seam * (known - result), grid) / weight.clamp(min=1e-6)
    w, d = weight.flatten().double().numpy(), difference[0].flatten(1).T.double().numpy()  # [cells], [cells, 3]
    step = diags([-1.0, 1.0], [0, 1], shape=(grid - 1, grid))
    line, one = step.T @ step, identity(grid)
    membrane = kron(line, one) + kron(one, line)
    c = np.median(d[w > 0], axis=0) if w.any() else np.zeros(3)
    for unlike in _UNLIKE:
        pull = w * (1 + ((c - d) ** 2).sum(axis=1) / unlike**2) ** -2
        c = splu((membrane + diags(pull + 1e-6)).tocsc()).solve(pull[:, None] * d)  # 1e-6: with no seam, c = 0
    shift = torch.from_numpy(c.T.reshape(1, 3, grid, grid)).float()
    return (result + F.interpolate(shift, size=(size, size), mode="bicubic")).clamp(-1, 1)


def _recolored(face: AlignedFace, result: Tensor, degradation: nn.Module) -> Tensor:
    """The crop [1, 3, S, S] of the photo, with the result's colours if the degradation hides them."""
    crop = resize(face.image, result.shape[-1])
    if not hides_color(degradation):
        return crop
    members = degradation if isinstance(degradation, nn.Sequential) else [degradation]
    composite = compositor(nn.Sequential(*(member for member in members if hides_color(member))))
    if composite is None:
        return _luma(crop) + result - _luma(result)
    return composite(crop, result)


def _colors(face: AlignedFace, result: Tensor, recolored: Tensor) -> tuple[Tensor, Tensor]:
    """How much of a crop's pixels is recoloured, [1, 1, S, S]: the head; and by what, [1, 3, S, S].

    It is a change of the crop, so that detail too fine for the crop stays.
    """
    crop = resize(face.image, result.shape[-1])
    return _fading(torch.from_numpy(head_share(crop, result))[None, None].float()), recolored - crop


def _detail(face: AlignedFace, result: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """How far a result and the known crop agree at the photo's own pixels, [1, 1, S, S]; its finer luma, [1, 3, S, S].

    What the generator cannot make, such as a hat, stays as it is in the photo.
    """
    size, side = result.shape[-1], round(float(np.linalg.norm(face.quad[3] - face.quad[0])))
    coarse = resize_area(result, side)
    gap = (coarse - resize_area(known, side)).square().sum(dim=1, keepdim=True)
    gap = F.avg_pool2d(gap, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    agreement = resize((1 + gap / _FAR**2) ** -2, size).clamp(min=0)
    return _fading(agreement), _luma(result - resize(coarse, size))


def _change(photo: Tensor, parts: Sequence[tuple[np.ndarray, Tensor, Tensor]]) -> None:
    """Add changes of crops to a photo, each given by its quad, share and change; where crops overlap, their mean."""
    if not parts:  # a map of a large photo takes much memory
        return
    total, placed = torch.zeros_like(photo[:, :1]), []
    for quad, share, change in parts:
        rows, columns = window = _window(quad, photo)
        weight = to_photo(torch.from_numpy(_inward(share.shape[-1]))[None, None].float() ** 4, quad, window)
        total[:, :, rows, columns] += weight
        placed.append((rows, columns, weight * to_photo(share, quad, window), to_photo(change, quad, window)))
    for rows, columns, share, change in placed:
        here = photo[:, :, rows, columns]
        here += share / total[:, :, rows, columns].clamp(min=1e-12) * ((here + change).clamp(-1, 1) - here)


def _fading(share: Tensor) -> Tensor:
    """A share [1, 1, S, S] that falls to 0 towards the crop's border."""
    return share * torch.from_numpy(smoothstep(_inward(share.shape[-1]) / _BORDER_FADE)).float()


def _inward(size: int) -> np.ndarray:
    """How far each pixel of a crop is from its border, as a share of the side: [size, size]."""
    line = np.minimum(np.arange(size), np.arange(size)[::-1]) / size
    return np.minimum(line[:, None], line)


def quad_in(photo: Tensor, face: AlignedFace) -> np.ndarray:
    """The corners [4, 2] (x, y) of the face's crop in a copy of its photo, whose pixels have whole numbers."""
    (height, width), (h, w) = photo.shape[2:], face.photo.shape[2:]
    if abs(height * w - width * h) >= max(h, w):  # more than a rounded pixel
        raise SettingError(
            f"The photo is {width} × {height} px, but the face was found in one of {w} × {h} px: paste it there."
        )
    return (face.quad + 0.5) * (width / w, height / h) - 0.5


def _window(quad: np.ndarray, photo: Tensor) -> tuple[slice, slice]:
    """The rows and columns of the photo that a quad covers."""
    height, width = photo.shape[2:]
    left, top = np.floor(quad.min(axis=0)).astype(int).clip(0)
    right, bottom = np.ceil(quad.max(axis=0)).astype(int).clip(0) + 1
    return slice(min(top, height), min(bottom, height)), slice(min(left, width), min(right, width))


def to_photo(crop: Tensor, quad: np.ndarray, window: tuple[slice, slice]) -> Tensor:
    """A crop [1, C, S, S] mapped back to its quad, in a window of the photo: [1, C, rows, columns].

    An image is antialiased and interpolated by cubic splines; beyond the crop, its border continues. A map of one
    channel is smooth already: it is interpolated linearly, and is 0 beyond the crop.
    """
    from scipy.ndimage import affine_transform

    side, is_map = np.linalg.norm(quad[3] - quad[0]), crop.shape[1] == 1
    if side < crop.shape[-1] and not is_map:
        crop = resize(crop, int(np.ceil(side)))
    across, down = (quad[3] - quad[0]) / crop.shape[-1], (quad[1] - quad[0]) / crop.shape[-1]
    back = np.linalg.inv(np.column_stack([across, down]))  # from px of the photo to px of the crop
    rows, columns = window
    first = back @ (np.array([columns.start, rows.start]) - quad[0]) - 0.5  # the quad is the outer edge
    order, mode = (1, "constant") if is_map else (3, "nearest")
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    planes = np.empty((crop.shape[1], *shape), np.float32)
    for plane, made in zip(crop[0].numpy(), planes, strict=True):
        affine_transform(plane, back[::-1, ::-1], first[::-1], output=made, order=order, mode=mode)  # (row, column)
    return torch.from_numpy(planes)[None]

"""Where face and head lie in an aligned crop. All lengths are shares of the crop's side."""

import numpy as np
import torch
from torch import Tensor

from ex5lib.degradations.known import Grayscale
from ex5lib.faces.landmarks import aligned_landmarks
from ex5lib.images.tensors import resize, resize_area

_FOREHEAD = 0.8  # how far a face reaches above its brows; 1 is from the brows to the base of the nose
_GRID = 128  # px at which the head is looked for
_SURE, _HAIR = 0.07, 0.14  # above a forehead there is hair or a hat: surely so far, and mostly so far
_FEATHER, _AWAY = 0.18, 0.21  # in which a head becomes unlikely; farther out it is background, mostly
_LEVELS, _ROUNDS = 20, 4  # of the histograms' axes; of estimating colours and head in turn
_CONTRAST, _LEAST = 60, 1e-3  # an edge weighs exp(−60 times its squared contrast), and at least so much
_PRIOR, _PINNED = 0.04, 10  # weights of what colour and place say, and of what is sure
_LOW, _HIGH = 0.45, 0.85  # of x, where the share rises from 0 to 1: hair left grey shows less than a halo


def smoothstep(x: np.ndarray) -> np.ndarray:
    """A soft step from 0 at 0 to 1 at 1."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def face_outline(face: Tensor, size: int) -> np.ndarray:
    """The pixels [size, size] of a crop [1, 3, S, S] between the jaw and a hairline estimated from brows and nose."""
    from skimage.draw import polygon2mask

    points = aligned_landmarks(resize(face, 512)) * size
    jaw = points[:17]
    between = np.linspace(jaw[0], jaw[-1], len(jaw))  # on the line from temple to temple
    brows, nose = points[17:27, 1].mean(), points[33, 1]
    height = between[:, 1].mean() - (brows - _FOREHEAD * (nose - brows))
    depth = jaw[:, 1] - between[:, 1]
    forehead = between - np.column_stack([np.zeros(len(jaw)), depth / depth.max() * height])  # the jaw, turned up
    return polygon2mask((size, size), np.concatenate([jaw, forehead[::-1]])[:, ::-1])


def head_share(crop: Tensor, result: Tensor) -> np.ndarray:
    """How much of each pixel [S, S] is head, with hair, ears and neck, and not background or clothes.

    Random walks with priors (Grady 2005): x minimises Σ w (x_i − x_j)² over neighbours + Σ g (x_i − p_i)², where w is
    small across an edge of the photo's luma or of the result's colours, and p the probability of head by the result's
    colour and by place. As in GrabCut (Rother et al. 2004), the histograms of both colours and x are found in turn; the
    first ones are of the face with the hair above it, and of what lies farthest from these.

    Args:
        crop: of the photo, perhaps grey, [1, 3, S, S].
        result: in colour, of the same size.
    """
    from scipy.ndimage import distance_transform_edt, label
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import splu

    size = result.shape[-1]
    n = min(_GRID, size)
    face = face_outline(crop, n) | face_outline(result, n)
    hair, sure = (_raised(face, round(reach * n)) for reach in (_HAIR, _SURE))
    away = distance_transform_edt(~hair) / n
    likely = 0.05 + 0.9 * (1 - smoothstep((away - 0.01) / _FEATHER))
    luma, colour = 2 * Grayscale()(resize_area(crop, n))[0, :1], resize_area(result, n)[0]
    seen = torch.cat([luma, colour]).numpy()
    bins = tuple(((c + 1) / 2 * (_LEVELS - 1)).round().astype(int).clip(0, _LEVELS - 1) for c in seen[1:])

    number = np.arange(n * n).reshape(n, n)
    ends = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    start, end = (np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1))
    flat = seen.reshape(4, -1)
    w = np.exp(-_CONTRAST * np.square(flat[:, start] - flat[:, end]).sum(axis=0)) + _LEAST
    weights = coo_array((w, (start, end)), shape=(n * n, n * n))
    weights = weights + weights.T
    pull = np.where(sure, _PINNED, _PRIOR)
    solve = splu((diags_array(weights.sum(axis=1) + pull.ravel()) - weights).tocsc()).solve

    head, other = hair.astype(float), (away > _AWAY).astype(float)
    for _ in range(_ROUNDS):
        as_head, as_other = (_density(bins, chosen) for chosen in (head, other))
        p = as_head * likely / (as_head * likely + as_other * (1 - likely))
        x = solve((pull * np.where(sure, 1, p)).ravel()).reshape(n, n)
        head, other = np.maximum(hair, x > 0.6), (x < 0.4).astype(float)
    parts, _ = label(x > _LOW)
    x[~np.isin(parts, np.unique(parts[face]))] = 0  # of the same colour, but elsewhere
    share = torch.from_numpy(smoothstep((x - _LOW) / (_HIGH - _LOW))).float()[None, None]
    return resize(share, size).clamp(0, 1)[0, 0].numpy()


def _raised(region: np.ndarray, rows: int) -> np.ndarray:
    """A region [S, S] with everything up to so many rows above it."""
    from scipy.ndimage import binary_dilation

    upward = np.zeros((2 * rows + 1, 1), bool)
    upward[: rows + 1] = True
    return binary_dilation(region, upward)


def _density(bins: tuple[np.ndarray, ...], chosen: np.ndarray) -> np.ndarray:
    """How frequent the colour of each pixel is among those chosen, by a smoothed histogram; never 0."""
    from scipy.ndimage import gaussian_filter

    counts = np.zeros((_LEVELS,) * 3)
    np.add.at(counts, bins, chosen)
    counts = gaussian_filter(counts, 1, mode="constant")
    return counts[bins] / max(counts.sum(), 1) + 1e-4

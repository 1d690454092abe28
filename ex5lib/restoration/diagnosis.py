"""What is wrong with a photo, judged by the photo alone: a proposal, with reasons, that the user may overrule."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import REFERENCE_SIZE, Downsample, GaussianBlur, Grayscale, Inpaint, Noise
from ex5lib.degradations.probe import hidden_region, visible_resolution
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.tensors import resize, resize_area
from ex5lib.inversion.losses import FACE_SIZE
from ex5lib.restoration.paint import painted_region

_SLOPE = 3.2  # of sharp faces' radial power spectra at 256 px: from 2.5 to 3.4 over photos and generated faces
_SIGMA_MAX = 20.0  # px: a stronger blur leaves too little to measure it
_TOLD_BY_SPECTRA = 1.0, 7.0  # px of blur: less is found in some sharp photos, and more leaves too little to measure
_TOO_STRONG = 1.45  # times the photo's own blur: files at JPEG's quality 50 seem sharper by up to 1.4
_CYCLES = 6, 110  # per side of the face: coarser, there are few; finer, scaling has changed them
_LEAST_SIDE = 64  # px of the photo: a smaller face has too few frequencies to tell a blur from its size
_FACE_SHARE = 0.56  # of the crop's side: from brows to chin
_GRAINY = 5.0  # levels of 8 bits: sound photos have up to 2.2; sharpened ones have up to 7, but it is not white
_WHITE = 1.25  # times what means of 2 × 2 pixels have: white noise alone has 2, a noisy photo 1.4, sharp detail 1.2
_LUMA_OF_WHITE = math.hypot(0.299, 0.587, 0.114)  # how much of independent noise in three channels is in the luma


@dataclass(frozen=True, eq=False)
class Damage:
    """Something that is wrong with a photo: what would have done it to an intact one, and the evidence for it."""

    degradation: nn.Module
    reason: str


def examine(face: AlignedFace) -> list[Damage]:
    """All damage that is found in an aligned face, in the order in which it would have happened to an intact one."""
    side = float(np.linalg.norm(face.quad[3] - face.quad[0]))  # px of the photo
    small = resize(resize_area(face.image, REFERENCE_SIZE), REFERENCE_SIZE)
    hole = painted_region(small if side < 400 else resize(resize_area(face.image, 512), 512))  # a scratch is thin
    filled = small if hole is None else Inpaint(mask=hole).fill_smoothly(small)
    found = []
    factor = round(REFERENCE_SIZE / side)
    if side >= _LEAST_SIDE:
        sigma = blur_sigma(filled)
        if sigma > 1.2 * max(REFERENCE_SIZE / side, 1):  # less does not show at the face's own size
            found.append(Damage(UnknownBlur(sigma), f"it lacks fine detail, as if blurred by σ = {sigma:.1f} px"))
    if factor > 1:
        found.append(Damage(Downsample(factor), f"the face is small: with its hair it is only {side:.0f} px wide"))
    if factor < 2 and (levels := grain_levels(face)):  # of few pixels, detail is as fine as grain
        noise = Noise(levels / 127.5 / _LUMA_OF_WHITE, size=round(side / _averaged(side)))
        found.append(Damage(noise, f"it is grainy: pixels stray by about {levels:.0f} of 255 levels"))
    chroma, left = _chroma(small, hole)
    if chroma < 3:
        found.append(Damage(Grayscale(), f"it is grey, to within about {max(chroma, 1):.0f} of 255 levels"))
    elif left < 2.6:
        reason = f"it has one tint: its colours follow from the brightness, to within {left:.0f} of 255 levels"
        found.append(Damage(UnknownColors(), reason))
    if hole is not None:
        found.append(Damage(Inpaint(mask=hole), f"{100 * hole.mean().item():.1f} % of it is painted in one colour"))
    if 0.6 <= side / REFERENCE_SIZE <= 1.7 and (quality := jpeg_quality(face.photo)):
        found.append(Damage(Jpeg(quality), f"it was saved as JPEG at quality {quality}, and shows the blocks"))
    return found


def diagnosed(face: AlignedFace) -> tuple[nn.Module | None, list[Damage]]:
    """What "auto" means for an aligned face: the degradation that does all the damage found, or None; the damage."""
    damages = examine(face)
    return all_of(damages), damages


def all_of(damages: Sequence[Damage]) -> nn.Module | None:
    """One degradation that does all these damages, given in the order of ``examine``; None if there are none."""
    degradations = [damage.degradation for damage in damages]
    if len(degradations) > 1:
        return nn.Sequential(*degradations)
    return next(iter(degradations), None)


def blur_sigma(face: Tensor) -> float:
    """The σ, in px, of a Gaussian blur that explains the spectrum of a face [1, 3, 256, 256]; below 1 if it is sharp.

    Spectra of sharp faces fall as f^−3.2; a blur multiplies them by exp(−(2πσf)²). Whatever was added later (grain,
    errors of JPEG or rounding) falls at most as 1 / f, more slowly than any face, even one sharpened by a camera. The
    logarithm of the sum is fitted.
    """
    from scipy.optimize import least_squares  # imported here: it takes a quarter of a second

    luma = Grayscale()(face)[0, 0].double()
    size = luma.shape[-1]
    window = torch.hann_window(size, periodic=False).to(luma)
    window = window[:, None] * window
    luma = (luma - (luma * window).sum() / window.sum()) * window
    power = torch.fft.rfft2(luma).abs().square() / window.square().sum()
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]) * size  # cycles
    ring = frequency.round().long()
    total = torch.zeros(size).double().index_add(0, ring.flatten(), power.flatten())
    mean = total / ring.flatten().bincount(minlength=size).clamp(min=1)
    cycles = np.arange(*_CYCLES)
    y = np.log(mean[slice(*_CYCLES)].numpy() + 1e-12)
    sharp, x = -_SLOPE * np.log(cycles), (2 * np.pi * cycles / size) ** 2

    def misfit(t: np.ndarray) -> np.ndarray:
        level, sigma, noise, slope = t
        fitted = np.logaddexp(level + sharp - sigma**2 * x, noise - slope * np.log(cycles))
        return (fitted - y) / np.sqrt(cycles)  # every octave counts the same

    low, high = (-50, 0, -50, 0), (50, _SIGMA_MAX, 50, 1)
    starts = [np.array([y[0] - sharp[0], sigma, y[-1] + np.log(cycles[-1]) / 2, 0.5]) for sigma in (0.5, 2, 5)]
    fits = [least_squares(misfit, start, bounds=(low, high)) for start in starts]
    return float(min(fits, key=lambda fit: fit.cost).x[1])


@torch.no_grad()
def less_blurred(photo: Tensor, degradation: nn.Module) -> tuple[float, float] | None:
    """If a photo [1, 3, S, S] is less blurred than a degradation would leave it: both σ, the photo's and D's, in px.

    A search would then draw hard black edges, to be as sharp as the photo after a blur that is too strong. D's own σ
    is found in what it makes of a sharp picture's spectrum. That says nothing of a D that hides no detail, such as
    grain, of one with holes, whose edges are sharp, or with parameters that are found with w.
    """
    if unknown_parameters(degradation) or photo.shape[-1] < REFERENCE_SIZE:  # a small photo has too few frequencies
        return None
    if visible_resolution(degradation) >= REFERENCE_SIZE or hidden_region(degradation).any():
        return None
    sigma = blur_sigma(degradation(_typical_picture()))
    if not _TOLD_BY_SPECTRA[0] <= sigma <= _TOLD_BY_SPECTRA[1]:
        return None
    found = blur_sigma(resize(resize_area(photo, REFERENCE_SIZE), REFERENCE_SIZE))
    return (found, sigma) if sigma > _TOO_STRONG * found else None


def as_blurred(target: Tensor, degradation: nn.Module) -> tuple[Tensor, str]:
    """A photo [1, 3, S, S] as blurred as D would leave it, and a note if it was less blurred than that."""
    if (found := less_blurred(target, degradation)) is None:
        return target, ""
    own, assumed = found
    missing = math.sqrt(assumed**2 - own**2)
    measured = f"blurred by about σ = {own:.1f} px" if own > 1 else "not blurred"
    note = (
        f"The photo is sharper than a blur of about σ = {assumed:.1f} px would leave it: it is {measured}. It was "
        f"blurred by another {missing:.1f} px before the search, which could not match it otherwise. Better name the "
        "smaller blur."
    )
    return GaussianBlur(2 * math.ceil(3 * missing) + 1, missing)(target), note


def _typical_picture() -> Tensor:
    """A picture [1, 3, 256, 256] of clouds, with the power spectrum of a sharp face."""
    size = REFERENCE_SIZE
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None]) * size
    clouds = torch.fft.irfft2(torch.fft.rfft2(noise) * frequency.clamp(min=1) ** (-_SLOPE / 2), s=(size, size))
    return (0.25 * (clouds - clouds.mean()) / clouds.std()).expand(1, 3, -1, -1)


def grain_levels(face: AlignedFace) -> float | None:
    """The standard deviation of white noise in a face's luma, in levels of 8 bits; None if there is little, or none.

    It is that of the photo's own pixels or, if there are many, of means of them (``_averaged``). Second differences
    along both axes (Immerkær 1996) do not see gradients, and their median absolute deviation (Donoho and Johnstone
    1994) no lone edges. Grain is everywhere and texture is not, so what a quarter of the blocks does not exceed counts.
    """
    side = float(np.linalg.norm(face.quad[3] - face.quad[0]))
    centre, half = face.quad.mean(axis=0) + 0.5, _FACE_SHARE / 2 * side
    left, top = np.maximum(np.round(centre - half), 0).astype(int)
    right, bottom = np.maximum(np.round(centre + half), 0).astype(int)
    own = face.photo[:, :, top:bottom, left:right]
    if min(own.shape[2:]) < 64 * _averaged(side):  # the face is cut off: too few blocks are left
        return None
    luma = F.avg_pool2d(Grayscale()(own)[:, :1] * 127.5, _averaged(side))
    levels, coarser = _fine_detail(luma), _fine_detail(F.avg_pool2d(luma, 2))
    return levels if levels > _GRAINY and levels > _WHITE * coarser else None


def _averaged(side: float) -> int:
    """How many pixels are averaged along each axis, so that at least 512, the most that are compared, are left."""
    return max(int(side / FACE_SIZE), 1)


def _fine_detail(luma: Tensor) -> float:
    """The lower quartile, over blocks of 8 px, of the σ of noise that explains a luma [1, 1, S, S].

    Where it is exactly flat, it was painted later or is clipped, and does not count; NaN if it is so everywhere.
    """
    line = torch.tensor([1.0, -2.0, 1.0])
    differences = F.conv2d(luma, torch.outer(line, line)[None, None] / 6).abs()
    differences = torch.where(differences > 1e-3, differences, torch.nan)
    blocks = differences.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)  # [1, 1, S / 8, S / 8, 64]
    return blocks.nanmedian(dim=-1).values.nanquantile(0.25).item() / 0.6745  # half of a Gaussian is within 0.6745 σ


def jpeg_quality(photo: Tensor) -> int | None:
    """The quality, 1 to 40, at which a photo [1, 3, H, W] was saved as JPEG; None if it was higher or cannot be found.

    The coefficients of its 8 × 8 blocks are then multiples of that quality's steps. Those of an intact photo are like
    random numbers: their mean squared distance from a multiple is 1/12, in steps. So are those of a photo that was
    scaled or turned later.
    """
    luma = Grayscale()(photo)[0, 0] * 127.5 - 0.5
    height, width = (side // 8 * 8 for side in luma.shape)
    codec = Jpeg(1)
    blocks = luma[:height, :width].unflatten(1, (-1, 8)).unflatten(0, (-1, 8)).transpose(1, 2)
    coefficients = codec.dct @ blocks @ codec.dct.mT  # [H/8, W/8, 8, 8]
    low = torch.tensor([[1 <= u + v <= 4 for u in range(8)] for v in range(8)])  # where faces have energy
    for quality in range(1, 41):  # coarse to fine: steps that divide the true ones would fit as well
        levels = (coefficients / Jpeg(quality).steps[0])[..., low]
        levels = levels[levels.abs() > 0.5]  # a coefficient of 0 is a multiple of anything
        if len(levels) > 100 and (levels - levels.round()).square().mean() < 0.02:
            return quality
    return None


def _chroma(face: Tensor, hole: Tensor | None) -> tuple[float, float]:
    """Root mean square, in levels of 8 bits, of the chroma, and of the part of it that does not follow from the luma.

    The chroma is fitted by a piecewise linear function of the luma: a sepia photo's channels clip one after the other.
    """
    r, g, b = face[0].flatten(1).numpy() * 127.5
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = np.stack([0.564 * (b - luma), 0.713 * (r - luma)], axis=1)
    if hole is not None:
        known = resize_area(hole, face.shape[-1]).flatten().numpy() == 0
        luma, chroma = luma[known], chroma[known]
    basis = (1 - np.abs((luma[:, None] + 127.5) / 8 - np.arange(33))).clip(0)  # a knot every 8 levels
    left = chroma - basis @ np.linalg.lstsq(basis, chroma, rcond=None)[0]
    whole, rest = (float(np.sqrt(np.square(values).sum(axis=1).mean())) for values in (chroma, left))
    return whole, rest

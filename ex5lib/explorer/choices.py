"""What can be chosen in the explorer, and the degradations that follow from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import REFERENCE_SIZE, Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.errors import SettingError, unknown_name
from ex5lib.restoration.diagnosis import Damage

WEIGHTS = (1e-7, 10.0)  # four decades on either side of the default, 1e-3

# {degradation: the fields of Choice that it reads}, in the order of the page.
DEGRADATIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "blur": ("kernel_size", "sigma"),
    "unknown blur": ("kernel_size", "sigma"),
    "grayscale": (),
    "faded colours": ("fading",),
    "inpaint": ("hole",),
    "downsample": ("factor",),
    "jpeg": ("quality",),
    "noise": ("noise_sigma",),
}
# In these, D differs from what was done to the photo: the search finds its parameters.
UNKNOWN = {"unknown blur": UnknownBlur, "faded colours": UnknownColors}
# The sliders' ranges; typed values may go beyond them, as far as the degradation allows.
RANGES = {
    "kernel_size": {"label": "kernel size", "unit": "px", "min": 1, "max": 63, "step": 2},
    "sigma": {"label": "σ", "unit": "px", "min": 0.3, "max": 15, "step": 0.05},
    "fading": {"label": "fading", "unit": "", "min": 0.1, "max": 1, "step": 0.05},
    "factor": {"label": "shrunk by", "unit": "×", "min": 2, "max": 32, "step": 1},
    "quality": {"label": "quality", "unit": "", "min": 1, "max": 60, "step": 1},
    "noise_sigma": {"label": "σ of the noise", "unit": "", "min": 0.05, "max": 1, "step": 0.05},
}
_WHOLE = ("kernel_size", "factor", "quality", "seed", "answer")

Rectangle = tuple[int, int, int, int]  # top, left, height, width, px at 256 px


@dataclass(frozen=True)
class Choice:
    """Everything that distinguishes one search of an explorer from another.

    Attributes:
        photo: identifies the face.
        damaged: whether the photo itself is degraded; then nothing is done to it, and there is no original.
        degradation: a name in ``DEGRADATIONS``.
        kernel_size, sigma: of a blur, px at 256 px; a sigma of None follows the kernel size.
        hole: what is removed: a rectangle, or painted pixels as ``packed`` returns them.
        fading: of the colours, from 0 to 1.
        factor, quality, noise_sigma: of ``Downsample``, ``Jpeg`` and ``Noise``.
        recipe: its name.
        seed: of the search.
        answer: 0, or the number of a further answer for the same photo, as in ``restore(answers=…)``.
        latent_weight: λ_w; None is the task's own.
    """

    photo: str = ""
    damaged: bool = False
    degradation: str = "none"
    kernel_size: int = 25
    sigma: float | None = None
    hole: Rectangle | bytes = (164, 84, 44, 88)
    fading: float = 0.7
    factor: int = 8
    quality: int = 10
    noise_sigma: float = 0.2
    recipe: str = "fast"
    seed: int = 0
    answer: int = 0
    latent_weight: float | None = None

    def changed(self, **values) -> "Choice":
        """With other values, as a page sends them. Another degradation resets λ_w and the answer.

        SettingError if a value is not a number, λ_w is out of range, or there is no such degradation.
        """
        for name, value in values.items():
            if name in (*_WHOLE, "fading", "noise_sigma") or (name in ("sigma", "latent_weight") and value is not None):
                values[name] = _number(name, value, whole=name in _WHOLE)
        if (weight := values.get("latent_weight")) is not None:
            if not WEIGHTS[0] <= weight <= WEIGHTS[1]:
                least, most = WEIGHTS
                raise SettingError(f"The latent weight λ_w must be between {least:g} and {most:g}, not {weight:g}.")
            # Powers of ten differ in the last digits between the browser and Python; the cache must not notice.
            values["latent_weight"] = float(f"{weight:.6g}")
        if (kind := values.get("degradation", self.degradation)) not in DEGRADATIONS:
            raise unknown_name("degradation", str(kind), DEGRADATIONS)
        if kind != self.degradation:
            values = {"latent_weight": None, "answer": 0} | values
        if isinstance(values.get("hole"), list):
            values["hole"] = tuple(_number("rectangle", value, whole=True) for value in values["hole"])
        return replace(self, **values)

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that say what is done to the photo; none if the search finds what was done to it already."""
        return () if self.damaged and self.degradation in UNKNOWN else DEGRADATIONS[self.degradation]

    def searched(self) -> "Choice":
        """The same without what its degradation does not read: equal for choices that mean the same search."""
        unread = {name for names in DEGRADATIONS.values() for name in names} - set(self.reads)
        return replace(self, **{name: getattr(Choice(), name) for name in unread})

    def task(self) -> "Choice":
        """The photo and what was done to it, whatever the search: distances to the target are comparable if equal."""
        return replace(self.searched(), recipe="", seed=0, answer=0, latent_weight=None)

    def modules(self) -> tuple[nn.Module | None, nn.Module]:
        """What degrades the photo, or None; and D, which is applied to the generated image.

        SettingError, also in ``applied``, if the parameters make no sense together.
        """
        D: nn.Module
        unknown = UNKNOWN[self.degradation]() if self.degradation in UNKNOWN else None
        if unknown is not None and self.damaged:
            return None, unknown
        match self.degradation:
            case "none":
                D = Identity()
            case "blur" | "unknown blur":
                D = GaussianBlur(self.kernel_size, self.sigma)
            case "grayscale":
                D = Grayscale()
            case "faded colours":
                D = _faded(self.fading)
            case "inpaint" if isinstance(self.hole, bytes) and not any(self.hole):
                raise SettingError("Nothing is painted: paint over what is to be filled in, or drag a rectangle.")
            case "inpaint" if isinstance(self.hole, bytes) and all(byte == 255 for byte in self.hole):
                raise SettingError("Everything is painted, so nothing of the photo is left: erase what to keep.")
            case "inpaint":
                D = Inpaint(mask=unpacked(self.hole)) if isinstance(self.hole, bytes) else Inpaint(*self.hole)
            case "downsample":
                D = Downsample(self.factor)
            case "jpeg":
                D = Jpeg(self.quality)
            case "noise":
                D = Noise(self.noise_sigma)
        degraded_by = Noise(self.noise_sigma, seed=1) if self.degradation == "noise" else D
        return None if self.damaged else degraded_by, D if unknown is None else unknown

    def applied(self, photo: Tensor) -> tuple[Tensor, bytes]:
        """The target for a photo's preview [1, 3, S, S], and the mask as 256 × 256 bytes, empty without a hole."""
        degraded_by, D = self.modules()
        if isinstance(D, Inpaint):
            return D(photo), (D.mask > 0.5).numpy().tobytes()
        return photo if degraded_by is None else degraded_by(photo), b""

    def in_words(self) -> str:
        """The degradation as a caption, such as "blur, kernel size 25, σ 4.1 px"."""
        if self.degradation == "none":
            return "not degraded"
        words = [self.degradation]
        for name in self.reads:
            value = getattr(self, name)
            if name == "hole":
                words.append("painted" if isinstance(value, bytes) else "{2} × {3} px at {0}, {1}".format(*value))
            elif value is not None:
                words.append(f"{RANGES[name]['label']} {value:g} {RANGES[name]['unit']}".strip())
        return ", ".join(words) + (" (the photo's own)" if self.damaged else "")

    def as_json(self, own_weight: float, own: str) -> dict:
        """For the page's state, with the task's own λ_w and a note on it. A painted hole is left to the mask."""
        values = asdict(self) | ({"hole": None} if isinstance(self.hole, bytes) else {})
        shown = {"reads": list(self.reads), "in_words": self.in_words()}
        return {"choice": values, "own_weight": own_weight, "own": own} | shown

    def __str__(self) -> str:
        weight = "own λ_w" if self.latent_weight is None else f"λ_w {self.latent_weight:.3g}"
        other = [f"seed {self.seed}"] * (self.seed != 0) + [f"answer {self.answer + 1}"] * (self.answer != 0)
        return "; ".join([self.in_words(), weight, self.recipe, *other])


def _number(name: str, value: Any, whole: bool = False) -> float:
    try:
        number = float(value)
        if whole and number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        words = RANGES.get(name, {"label": name.replace("_", " ")})["label"]
        raise SettingError(f'"{value}" is not a {"whole " * whole}number, as {words} must be.') from None
    return int(number) if whole else number


def _faded(strength: float) -> UnknownColors:
    """Colours faded like an old print's: towards one brownish tint, with less contrast."""
    if not 0 <= strength <= 1:
        raise SettingError(f"The fading must be between 0 (none) and 1, not {strength:g}.")
    tint = torch.outer(torch.tensor([0.75, 0.65, 0.5]), torch.tensor([0.299, 0.587, 0.114]))
    faded = UnknownColors().requires_grad_(False)
    faded.matrix.lerp_(tint, strength)
    faded.shift.add_(strength * torch.tensor([0.15, 0.05, -0.1]))
    return faded


def values_of(damage: Damage) -> dict:
    """The values of a choice for a photo with that damage."""
    values: dict[str, Any]
    match damage.degradation:
        case UnknownBlur():
            values = {"degradation": "unknown blur"}
        case Grayscale():
            values = {"degradation": "grayscale"}
        case UnknownColors():
            values = {"degradation": "faded colours"}
        case Inpaint() as hole:
            mask = hole.mask_for(torch.zeros(1, 3, REFERENCE_SIZE, REFERENCE_SIZE))
            values = {"degradation": "inpaint", "hole": packed(mask)}
        case Downsample() as shrunk:
            values = {"degradation": "downsample", "factor": shrunk.factor}
        case Jpeg() as codec:
            values = {"degradation": "jpeg", "quality": codec.quality}
    return values | {"damaged": True}


def packed(mask: Tensor | bytes) -> bytes:
    """A mask of 256 × 256 numbers, row by row, as a ``Choice`` holds it: one bit a pixel, 1 where it is removed."""
    pixels = np.frombuffer(mask, np.uint8) if not isinstance(mask, Tensor) else (mask > 0.5).numpy().ravel()
    if pixels.size != REFERENCE_SIZE**2:
        raise SettingError(f"A painted mask is {REFERENCE_SIZE} × {REFERENCE_SIZE} px, not {pixels.size} pixels.")
    return np.packbits(pixels != 0).tobytes()


def unpacked(hole: bytes) -> Tensor:
    """A painted hole as a mask [1, 1, 256, 256] in {0, 1}."""
    pixels = np.unpackbits(np.frombuffer(hole, np.uint8))
    return torch.from_numpy(pixels).float().view(1, 1, REFERENCE_SIZE, REFERENCE_SIZE)


def own_weight(weights: Sequence[float]) -> tuple[float, str]:
    """The λ_w to show for a task, given those of its layers, and a note on it."""
    coarse, fine = weights[0], weights[-1]
    if coarse == fine:
        return fine, f"the task's own: {fine:g}"
    return fine, f"the task's own: {fine:g} for the colours' layers, {coarse:g} for all other layers"

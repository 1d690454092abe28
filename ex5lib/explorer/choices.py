"""What can be chosen in the explorer, and the degradations that follow from it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import REFERENCE_SIZE, Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.errors import SettingError
from ex5lib.explorer.fields import Field, Number, checked, flag, one_of, text
from ex5lib.images.masks import packed, unpacked
from ex5lib.restoration.diagnosis import Damage

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
# What a page calls them, and what each means.
WORDS = {
    "none": ("nothing", "The search looks for the face as it is."),
    "blur": ("blurred, strength known", "The search is told how strong the blur is."),
    "unknown blur": ("blurred, strength to be found", "As in a real photo: the search must also find the strength."),
    "grayscale": ("without colours", "The search finds colours that fit."),
    "faded colours": ("faded colours", "The search must also find how the colours have changed."),
    "inpaint": ("a part is missing", "Paint over what is to be replaced: the search fills it in."),
    "downsample": ("too few pixels", "The search adds the detail that is missing."),
    "jpeg": ("compressed too much", "What JPEG leaves of the photo at a low quality."),
    "noise": ("grain", "Noise, new in each picture."),
}
# In these, D differs from what was done to the photo: the search finds its parameters.
UNKNOWN = {"unknown blur": UnknownBlur, "faded colours": UnknownColors}
# What ``examine`` may find in a photo.
_KINDS: dict[type[nn.Module], str] = {kind: name for name, kind in UNKNOWN.items()} | {
    Grayscale: "grayscale", Inpaint: "inpaint", Downsample: "downsample", Jpeg: "jpeg", Noise: "noise",
}  # fmt: skip
PAINT = "Nothing is painted yet: paint over what is to be replaced."
Rectangle = tuple[int, int, int, int]  # top, left, height, width, px at 256 px


def _hole(value: Any) -> Rectangle | bytes | None:
    """A rectangle inside the face, or painted pixels, packed; None if none is painted."""
    if isinstance(value, bytes):
        return value if unpacked(value, REFERENCE_SIZE, REFERENCE_SIZE).any() else None
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise SettingError("A hole needs four numbers: top, left, height and width.")
    side = Number("each side of the hole", 0, REFERENCE_SIZE, whole=True)
    top, left, height, width = map(side, value)
    Inpaint(top, left, height, width)  # which knows whether it lies inside
    return top, left, height, width


# What the degradations read: the sliders of the page. A typed value may go beyond its slider.
RANGES = {
    "kernel_size": Number("width of the blur", 0, 255, (1, 63, 2), "px", whole=True, odd=True),
    "sigma": Number("its σ", 0.01, 1000, (0.3, 15, 0.05), "px", optional=True),
    "fading": Number("how faded", 0, 1, (0.1, 1, 0.05)),
    "factor": Number("times smaller", 1, 64, (2, 32, 1), "×", whole=True),
    "quality": Number("quality", 1, 100, (1, 60, 1), whole=True),
    "noise_sigma": Number("amount of grain", 0, 100, (0.05, 1, 0.05)),
}
# Its slider has four decades on either side of the default.
WEIGHT = Number("pull to the average face", 0, 10, (1e-7, 10, 0.1), optional=True)
# {name: field} of everything that a page can choose.
CHOSEN: dict[str, Field] = {
    **RANGES, "latent_weight": WEIGHT, "hole": _hole, "damaged": flag, "recipe": text,
    "degradation": one_of("degradation", DEGRADATIONS), "seed": Number("seed", 0, 2**53 - 1, whole=True),
}  # fmt: skip

# What a page needs to know of all this.
OFFERED = {
    "degradations": [[name, *words] for name, words in WORDS.items()], "weight": WEIGHT.as_json(),
    "ranges": {name: number.as_json() for name, number in RANGES.items()},
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Everything that distinguishes one search of an explorer from another.

    Attributes:
        photo: identifies the face.
        damaged: whether the photo itself is degraded; then nothing is done to it, and there is no original.
        degradation: a name in ``DEGRADATIONS``.
        more: further degradations that a damaged photo has suffered, after that one.
        kernel_size, sigma: of a blur, px at 256 px; a sigma of None follows the kernel size.
        hole: what is removed: a rectangle, or painted pixels, packed; None is still to be painted.
        fading: of the colours, from 0 to 1.
        blurred: σ, px at 256 px, as measured in a damaged photo: where the search for its unknown blur starts.
        factor, quality, noise_sigma: of ``Downsample``, ``Jpeg`` and ``Noise``.
        noise_size: px of the face of a damaged photo, in which its grain was measured; None is ``Noise``'s own.
        recipe: its name.
        seed: of the search.
        answer: 0, or the number of a further answer for the same photo, as in ``restore(answers=…)``.
        latent_weight: λ_w; None is the task's own.
    """

    photo: str = ""
    damaged: bool = False
    degradation: str = "none"
    more: tuple[str, ...] = ()
    kernel_size: int = 25
    sigma: float | None = None
    hole: Rectangle | bytes | None = None
    fading: float = 0.7
    factor: int = 8
    quality: int = 10
    noise_sigma: float = 0.2
    noise_size: int | None = None
    blurred: float = UnknownBlur().sigma
    recipe: str = "fast"
    seed: int = 0
    answer: int = 0
    latent_weight: float | None = None

    def changed(self, **values: Any) -> "Choice":
        """With other values, as a page sends them. Another degradation resets λ_w and the answer.

        SettingError, which names the field, if a value is out of range or nothing that can be chosen.
        """
        values = checked(CHOSEN, values)
        if (weight := values.get("latent_weight")) is not None:
            # Powers of ten differ in the last digits between the browser and Python; the cache must not notice.
            values["latent_weight"] = float(f"{weight:.6g}")
        kinds: tuple[str, ...] = self.kinds if values.get("damaged", self.damaged) else self.kinds[:1]
        if values.get("degradation", self.degradation) != self.degradation:
            kinds = (values["degradation"],)
        return self._suffering(kinds, values)

    def accepts(self, damage: Damage) -> bool:
        """Whether the photo is treated as damaged like that."""
        return self.damaged and kind_of(damage) in self.kinds

    def accepting(self, found: Sequence[Damage], index: int, on: bool = True) -> "Choice":
        """With one more, or one less, of the damages that were found in the photo; they are in order.

        SettingError if there is none of that index.
        """
        if index >= len(found):
            raise SettingError("Nothing of that kind was found in this photo: choose a degradation yourself.")
        wanted = [each for i, each in enumerate(found) if (on if i == index else self.accepts(each))]
        values = {"damaged": bool(wanted)} | (values_of(found[index]) if on else {})
        return self._suffering(tuple(map(kind_of, wanted)) or ("none",), values)

    def _suffering(self, kinds: tuple[str, ...], values: dict[str, Any]) -> "Choice":
        if kinds != self.kinds:
            values = {"latent_weight": None, "answer": 0} | values
        return replace(self, **values | {"degradation": kinds[0], "more": kinds[1:]})

    def of(self, photo: str) -> "Choice":
        """The same for another photo, without what was said of this one: its mask, its damage, its answers."""
        if photo == self.photo:
            return self
        hole = None if isinstance(self.hole, bytes) else self.hole
        return replace(self, photo=photo, hole=hole, damaged=False, more=(), answer=0)

    @property
    def kinds(self) -> tuple[str, ...]:
        """All degradations, in the order in which they happened."""
        return (self.degradation, *self.more)

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that say what is done to the photo; none if the search finds what was done to it already."""
        kinds = [kind for kind in self.kinds if not (self.damaged and kind in UNKNOWN)]
        return tuple(name for kind in kinds for name in DEGRADATIONS[kind])

    @property
    def unpainted(self) -> bool:
        """Whether a search must wait until something is painted."""
        return self.hole is None and "hole" in self.reads

    def searched(self) -> "Choice":
        """The same without what its degradation does not read: equal for choices that mean the same search."""
        unread = {name for names in DEGRADATIONS.values() for name in names} - set(self.reads)
        if not (self.damaged and "unknown blur" in self.kinds):
            unread.add("blurred")
        if not (self.damaged and "noise" in self.kinds):
            unread.add("noise_size")
        return replace(self, **{name: getattr(Choice(), name) for name in unread})

    def task(self) -> "Choice":
        """The photo and what was done to it, whatever the search: distances to the target are comparable if equal."""
        return replace(self.searched(), recipe="", seed=0, answer=0, latent_weight=None)

    def modules(self) -> tuple[nn.Module | None, nn.Module]:
        """What degrades the photo, or None; and D, which is applied to the generated image.

        SettingError, also in ``applied``, if nothing or everything is painted.
        """
        if self.damaged:
            own = {
                "unknown blur": UnknownBlur(self.blurred), "faded colours": UnknownColors(),
                "noise": Noise(self.noise_sigma, size=self.noise_size),
            }  # fmt: skip
            members = [own.get(kind) or self._known(kind) for kind in self.kinds]
            return None, nn.Sequential(*members) if len(members) > 1 else members[0]
        known = self._known(self.degradation)
        if self.degradation == "noise":
            return Noise(self.noise_sigma, seed=1), known
        return known, UNKNOWN[self.degradation]() if self.degradation in UNKNOWN else known

    def _known(self, kind: str) -> nn.Module:
        match kind:
            case "blur" | "unknown blur":
                return GaussianBlur(self.kernel_size, self.sigma)
            case "grayscale":
                return Grayscale()
            case "faded colours":
                return _faded(self.fading)
            case "inpaint":
                return _inpaint(self.hole)
            case "downsample":
                return Downsample(self.factor)
            case "jpeg":
                return Jpeg(self.quality)
            case "noise":
                return Noise(self.noise_sigma)
        return Identity()

    def applied(self, photo: Tensor) -> tuple[Tensor, bytes]:
        """The target for a photo's preview [1, 3, S, S], and the mask as ``hole_of`` returns it, b"" without a hole."""
        if self.unpainted:
            return photo, bytes(REFERENCE_SIZE**2 // 8)
        degraded_by, D = self.modules()
        if hole := next((member for member in D.modules() if isinstance(member, Inpaint)), None):
            return hole(photo), hole_of(hole)
        return photo if degraded_by is None else degraded_by(photo), b""

    def in_words(self) -> str:
        """The degradation as a caption, such as "blur, kernel size 25, σ 4.1 px"."""
        if self.kinds == ("none",):
            return "not degraded"
        words = [" and ".join(self.kinds)]
        for name in self.reads:
            value = getattr(self, name)
            if value is None:
                words += ["nothing painted yet"] * (name == "hole")
            elif name == "hole":
                words.append("painted" if isinstance(value, bytes) else "{2} × {3} px at {0}, {1}".format(*value))
            else:
                words.append(f"{RANGES[name].label} {value:g} {RANGES[name].unit}".strip())
        return ", ".join(words) + (" (the photo's own)" if self.damaged else "")

    def as_json(self, own_weight: float, own: str) -> dict:
        """For the page's state, with the task's own λ_w and a note on it. A painted hole is left to the mask."""
        values = asdict(self) | ({"hole": None} if isinstance(self.hole, bytes) else {})
        shown = {"reads": list(self.reads), "in_words": self.in_words()}
        return {"choice": values, "own_weight": own_weight, "own": own} | shown

    def variant(self) -> list[str]:
        """Which of several searches for the same this is, in words; none for the first."""
        return [f"seed {self.seed}"] * (self.seed != 0) + [f"answer {self.answer + 1}"] * (self.answer != 0)

    def __str__(self) -> str:
        weight = "own λ_w" if self.latent_weight is None else f"λ_w {self.latent_weight:.3g}"
        return "; ".join([self.in_words(), weight, self.recipe, *self.variant()])


def _inpaint(hole: Rectangle | bytes | None) -> Inpaint:
    if hole is None:
        raise SettingError(PAINT)
    if not isinstance(hole, bytes):
        return Inpaint(*hole)
    if all(byte == 255 for byte in hole):
        raise SettingError("Everything is painted, so nothing of the photo is left: erase what to keep.")
    return Inpaint(mask=unpacked(hole, REFERENCE_SIZE, REFERENCE_SIZE))


def _faded(strength: float) -> UnknownColors:
    """Colours faded like an old print's, from 0 to 1: towards one brownish tint, with less contrast."""
    tint = torch.outer(torch.tensor([0.75, 0.65, 0.5]), torch.tensor([0.299, 0.587, 0.114]))
    faded = UnknownColors().requires_grad_(False)
    faded.matrix.lerp_(tint, strength)
    faded.shift.add_(strength * torch.tensor([0.15, 0.05, -0.1]))
    return faded


def kind_of(damage: Damage) -> str:
    """The degradation, among ``DEGRADATIONS``, that does such damage."""
    return _KINDS[type(damage.degradation)]


def values_of(damage: Damage) -> dict[str, Any]:
    """The values of a choice for a photo with that damage."""
    match damage.degradation:
        case Inpaint() as hole:
            return {"hole": hole_of(hole)}
        case UnknownBlur() as blur:
            return {"blurred": blur.sigma}
        case Downsample() as shrunk:
            return {"factor": shrunk.factor}
        case Jpeg() as codec:
            return {"quality": codec.quality}
        case Noise() as noise:
            return {"noise_sigma": noise.sigma, "noise_size": noise.size}
    return {}


def hole_of(inpaint: Inpaint) -> bytes:
    """What it removes, as a ``Choice`` holds it: 256 × 256 px, packed."""
    return packed(inpaint.mask_for(torch.zeros(1, 3, REFERENCE_SIZE, REFERENCE_SIZE)))


def own_weight(weights: Sequence[float]) -> tuple[float, str]:
    """The λ_w to show for a task, given those of its layers, and a note on it."""
    coarse, fine = weights[0], weights[-1]
    if coarse == fine:
        return fine, f"recommended here: {fine:g}"
    return fine, f"recommended here: {fine:g} for the layers of the colours, {coarse:g} for all others"

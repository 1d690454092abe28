"""What a photo may suffer from, for a person to switch on and off: in plain words, then in the field's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, Grayscale, Inpaint, Noise
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.restoration.diagnosis import Damage


@dataclass(frozen=True)
class Kind:
    """A kind of damage.

    Attributes:
        label: what a person would call it.
        terms: what is done about it, with the field's words.
        unseen: how to describe it where a person sees it and ``examine`` does not; empty if its extent must be known.
        excludes: another kind, which cannot be there, too.
    """

    label: str
    terms: str
    unseen: str = ""
    excludes: str = ""


# In the order of ``examine``.
_KINDS: dict[type[nn.Module], Kind] = {
    UnknownBlur: Kind(
        "Blurred",
        "Deblurring, blind: how strong the blur is (the σ of a Gaussian, in px of a face 256 px wide) is found "
        "together with the face. On the command line: --degradation blur --kernel-size auto.",
        "the whole face is out of focus",
    ),
    Downsample: Kind(
        "Few pixels",
        "Super-resolution: the search looks for a face that, scaled down to the photo's own size, gives these pixels. "
        "The whole photo is enlarged, so that the face can be seen. On the command line: --enlarge for another size.",
    ),
    Noise: Kind(
        "Grainy",
        "The search compares after adding as much noise, in pixels of the photo's size, so that it does not make the "
        "face's skin and hair of the grain.",
    ),
    Grayscale: Kind(
        "No colours",
        "Colourisation: the brightness stays the photo's own, and the colours are the search's. On the command line: "
        "--degradation grayscale.",
        "it is black and white",
        "UnknownColors",
    ),
    UnknownColors: Kind(
        "Faded or toned colours",
        "How the colours have changed (a matrix and a shift) is found together with the face. On the command line: "
        "--degradation colors.",
        "the colours have gone pale, yellow or brown",
        "Grayscale",
    ),
    Inpaint: Kind(
        "Scratched or painted over",
        "Inpainting: what is marked is filled in, and all the rest stays as it is. Damage that is not found can be "
        "marked by hand.",
    ),
    Jpeg: Kind(
        "Coarse JPEG",
        "The search compares after the same compression, so that it does not take the blocks for features of the face.",
    ),
}  # fmt: skip
BY_NAME = {kind.__name__: (kind, words) for kind, words in _KINDS.items()}


def name_of(damage: Damage) -> str:
    """The name of a damage's kind, in ``BY_NAME``."""
    return type(damage.degradation).__name__


def suffered(found: Sequence[Damage], switched: Mapping[str, bool], marked: Tensor | None = None) -> list[Damage]:
    """What a face is treated for: what was found, and what a person has switched on; not what was switched off.

    ``marked`` is what was painted by hand on its crop, [1, 1, S, S].
    """
    damages = {name_of(damage): damage for damage in found if switched.get(name_of(damage), True)}
    for name, (kind, words) in BY_NAME.items():
        if switched.get(name) and words.unseen and name not in damages:
            damages[name] = Damage(kind(), words.unseen)
    if marked is not None:
        if "Inpaint" in damages and isinstance(hole := damages["Inpaint"].degradation, Inpaint):
            marked = torch.maximum(marked, hole.mask_for(marked))
        damages["Inpaint"] = Damage(Inpaint(mask=marked), "it was marked by hand")
    return [damages[name] for name in BY_NAME if name in damages]


def offered_switches(found: Sequence[Sequence[Damage]], switched: Mapping[str, bool]) -> list[dict]:
    """The switches for a page, given what was found in each face that is to be restored; what was found comes first."""
    switches = []
    for name, (_, words) in BY_NAME.items():
        reasons = [damage.reason for damages in found for damage in damages if name_of(damage) == name]
        if not (reasons or words.unseen):
            continue
        many = f" ({len(reasons)} of {len(found)} faces)" if len(found) > 1 and reasons else ""
        switches.append(
            {
                "name": name, "label": words.label, "reason": (reasons[0] if reasons else words.unseen) + many,
                "terms": words.terms, "found": bool(reasons), "on": switched.get(name, bool(reasons)),
            }
        )  # fmt: skip
    return sorted(switches, key=lambda switch: not switch["found"])

"""Coarse to fine: the stages of a search, and the recipe that is made of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from ex5lib.degradations import Identity
from ex5lib.errors import SettingError
from ex5lib.latents import SPACES
from stylegan2_ada.networks import Generator


@dataclass(frozen=True)
class Stage:
    """One leg of a search.

    Attributes:
        steps: how many.
        size: px of the generated image, one of ``G.preview_sizes``; None for the full size.
        space: what is searched: "w", "w+" or "z". A later stage may widen w to w+.
        learning_rate: Adam's peak rate.
        rampup, rampdown: shares of the stage over which the rate rises linearly and falls as a cosine.
        initial_noise: standard deviation, in units of σ_w, of the noise added to w at the stage's first step.
        noise_ramp: share of the stage after which none is added any more.
    """

    steps: int
    size: int | None = None
    space: str = "w"
    learning_rate: float = 0.1
    rampup: float = 0.05
    rampdown: float = 0.25
    initial_noise: float = 0.0
    noise_ramp: float = 0.75

    def __post_init__(self):
        if self.steps < 1:
            raise SettingError(f"A stage of a search needs at least 1 step, not {self.steps}.")
        if self.space not in SPACES:
            raise SettingError(f"A stage searches in z, w or w+, not in {self.space}.")
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise SettingError(f"A stage's learning_rate is a number from 0 up, not {self.learning_rate}.")
        if not self.noise_ramp > 0:
            raise SettingError(f"A stage's noise_ramp is a positive share of its steps, not {self.noise_ramp}.")


def fast(G: Generator, degradation: nn.Module, space: str | None) -> list[Stage]:
    """The recipe "fast": most of the way on small previews in W, the likeness at full size in W+.

    W+ that stays near w̄ beats W that wanders far from it, also for what a degradation hides; there it comes last and
    with a smaller rate, because less of the image holds it.

    Args:
        G: where it has no preview of a size, the next larger one is taken.
        degradation: whether there is one decides the steps.
        space: "z" or "w" for all stages; None or "w+" for the above.
    """
    wide = space or "w+"
    first = "z" if wide == "z" else "w"
    small, middle = (_at_least(G, size) for size in (128, 256))
    if isinstance(degradation, Identity):
        return [
            Stage(30, small, first, learning_rate=0.1, rampdown=1.0),
            Stage(25, middle, wide, learning_rate=0.05, rampdown=0.5),
            Stage(55, None, wide, learning_rate=0.08, rampdown=1.0),
        ]
    return [
        Stage(40, small, first, learning_rate=0.1, rampdown=1.0),
        Stage(15, middle, first, learning_rate=0.05, rampdown=0.5),
        Stage(30, None, wide, learning_rate=0.05, rampdown=1.0),
    ]


def smoke(G: Generator, degradation: nn.Module, space: str | None) -> list[Stage]:  # noqa: ARG001, as ``fast``
    """The recipe "smoke": a few steps on a small preview, to try that everything runs."""
    return [Stage(8, _at_least(G, 128), space or "w")]


RECIPES = {"fast": fast, "smoke": smoke}


def scaled(stages: Sequence[Stage], steps: int) -> list[Stage]:
    """The same stages with ``steps`` steps in all, at least one each.

    Raises:
        SettingError: if there are fewer steps than stages.
    """
    if steps < len(stages):
        raise SettingError(f"This recipe has {len(stages)} stages, so it needs at least so many steps, not {steps}.")
    total = sum(stage.steps for stage in stages)
    shares = [max(1, round(stage.steps * steps / total)) for stage in stages]
    shares[shares.index(max(shares))] += steps - sum(shares)
    return [replace(stage, steps=share) for stage, share in zip(stages, shares, strict=True)]


def _at_least(G: Generator, size: int) -> int | None:
    return min((s for s in G.preview_sizes if s >= size), default=None)

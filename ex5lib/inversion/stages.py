"""The stages of a search: how long, how fast, at which size and in which space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ex5lib.errors import SettingError, unknown_name
from ex5lib.inversion.latents import SPACES


@dataclass(frozen=True)
class Stage:
    """One leg of a search, with a fresh optimiser and a learning-rate schedule of its own.

    Attributes:
        num_steps: length of the stage.
        size: px of the generated image; a generator without previews of that size uses the next larger one, and None
            means full size.
        space: what is searched: "z", "w" (one w for all layers) or "w+" (one for each). A later stage may widen w to
            w+.
        learning_rate: the peak rate.
        rampup, rampdown: shares of the stage over which the rate rises linearly and falls along half a cosine.
        initial_noise: standard deviation, in units of σ_w, of the Gaussian noise added to the latent at first.
        noise_ramp: share of the stage over which that noise falls to 0, quadratically.
        face_every: every so many steps, one compares the face alone, in twice the detail (``losses.FACE_SIZE``); None
            compares the whole image at every step. It needs a full-size stage.
        face_from: the share of the stage after which that begins.
        shortened: the power of the remaining share of its steps with which the peak rate falls if the stage is given
            fewer steps than these (``scaled``); 0 keeps the rate.

    Raises:
        SettingError: if a value is out of range.
    """

    num_steps: int
    size: int | None = None
    space: str = "w"
    learning_rate: float = 0.1
    rampup: float = 0.05
    rampdown: float = 0.25
    initial_noise: float = 0.0
    noise_ramp: float = 0.75
    face_every: int | None = None
    face_from: float = 0.0
    shortened: float = 0.0

    def __post_init__(self):
        check_count(self.num_steps)
        if self.space not in SPACES:
            raise unknown_name("latent space", self.space, SPACES)
        check_not_negative(self, ("learning_rate", "rampup", "rampdown", "initial_noise", "face_from", "shortened"))
        if self.face_every is not None:
            check_count(self.face_every, "face_every")
            if self.size is not None:
                raise SettingError("Only a stage at full size can look at the face: leave out its size, or face_every.")
        if not self.noise_ramp > 0:
            raise SettingError(f"noise_ramp must be a positive share of the steps, not {self.noise_ramp}.")

    def on_face(self, step: int) -> bool:
        """Whether a step of the stage, counted from 0, compares the face alone."""
        if self.face_every is None or step < self.face_from * self.num_steps:
            return False
        return step % self.face_every == self.face_every - 1

    def rate(self, t: float) -> float:
        """The rate at progress t in [0, 1): a linear rise, a plateau, half a cosine down to 0."""
        fall = min(1.0, (1 - t) / self.rampdown) if self.rampdown else 1.0
        rise = min(1.0, t / self.rampup) if self.rampup else 1.0
        return self.learning_rate * ((0.5 - 0.5 * math.cos(math.pi * fall)) * rise)

    def latent_noise(self, t: float, sigma: float) -> float:
        """Standard deviation of the noise added at progress t in [0, 1); ``sigma`` is that of the latents."""
        return self.initial_noise * sigma * max(0.0, 1 - t / self.noise_ramp) ** 2


def scaled(stages: Sequence[Stage], num_steps: int) -> tuple[Stage, ...]:
    """The same stages scaled to ``num_steps`` steps in total, at least one each, and slower where they say so.

    Raises:
        SettingError: if there are fewer steps than stages.
    """
    check_count(num_steps)
    if num_steps < len(stages):
        least = "1 step" if len(stages) == 1 else f"{len(stages)} steps, one for each stage"
        raise SettingError(f"A search with this recipe needs at least {least}, not {num_steps}.")
    total = sum(stage.num_steps for stage in stages)
    shares = [max(1, round(stage.num_steps * num_steps / total)) for stage in stages]
    shares[shares.index(max(shares))] += num_steps - sum(shares)
    return tuple(
        replace(
            stage, num_steps=share,
            learning_rate=stage.learning_rate * min(1.0, share / stage.num_steps) ** stage.shortened,
        )
        for stage, share in zip(stages, shares, strict=True)
    )  # fmt: skip


def in_space(stages: Sequence[Stage], space: str) -> tuple[Stage, ...]:
    """The same stages in another space: all of them in z or w, but only the last one in w+."""
    unchanged = stages[:-1] if space == "w+" else ()
    return (*unchanged, *(replace(stage, space=space) for stage in stages[len(unchanged) :]))


def check_count(number: int, name: str = "num_steps") -> None:
    if not isinstance(number, int) or number < 1:
        raise SettingError(f"{name} must be a whole number from 1 up, not {number}.")


def check_not_negative(settings: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (value >= 0 and math.isfinite(value)):
            raise SettingError(f"{name} must be 0 or a positive number, not {value}.")

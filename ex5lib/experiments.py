"""Named ways to run a search, the report's experiments, and its claims."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeVar

from torch import nn

from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.errors import UnknownNameError
from ex5lib.zoo import DATA

SAMPLE_PHOTO = DATA / "astronaut.png"
_Named = TypeVar("_Named")


@dataclass(frozen=True)
class Profile:
    """Keywords of ``project()`` under one name.

    Example:
        >>> project(G, target, **PROFILES["fast"].keywords())
    """

    recipe: str
    steps: int | None = None
    statistics_samples: int = 10_000

    def keywords(self) -> dict:
        """The fields, as ``project()`` takes them."""
        return asdict(self)


PROFILES = {
    "smoke": Profile("smoke", statistics_samples=1000),  # for tests: seconds a run, and looks like it
    "fast": Profile("fast"),
    "full": Profile("karras2020", steps=1000),
}


def pick_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    return _named("profile", name, PROFILES)


def notebook_profile(name: str) -> str:
    """The profile that a notebook runs in: the one it names, unless EX5_PROFILE names another, as tests do.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    name = os.environ.get("EX5_PROFILE") or name
    pick_profile(name)
    return name


@dataclass(frozen=True)
class Experiment:
    """A search of the report. The fields are keywords of ``project()``.

    Attributes:
        degradation: D, of the photo and of the generated image alike.
        latent_weight: λ_w.
    """

    degradation: nn.Module = field(default_factory=Identity)
    latent_weight: float = 1e-3


EXPERIMENTS = {
    "inversion": Experiment(),
    "deblurring": Experiment(GaussianBlur(kernel_size=25)),
    "colourisation": Experiment(Grayscale(), 0.1),  # the report's balance of natural and consistent colours
    # The mouth. A larger weight than the default's: the skin's colour must fit the photo's around the hole.
    "inpainting": Experiment(Inpaint(top=164, left=84, height=44, width=88), 0.02),
}


def pick_experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    return _named("experiment", name, EXPERIMENTS)


def _named(kind: str, name: str, known: Mapping[str, _Named]) -> _Named:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]


@dataclass(frozen=True)
class Claim:
    """A statement of the report, whether it was found to hold here, and the numbers that say so."""

    statement: str
    holds: bool
    numbers: Mapping[str, float]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())
        return f"{'holds' if self.holds else 'does not hold'}: {self.statement}" + (f" ({numbers})" if numbers else "")


def check_claim(statement: str, holds: bool, **numbers: float) -> Claim:
    """Print whether a statement holds and with which numbers, and return both.

    It does not raise: a generator that behaves otherwise than the report is a finding, not an error.

    Example:
        >>> _ = check_claim("blur lowers the gradient energy", 0.8 < 2.1, blurred=0.8, original=2.1)
        holds: blur lowers the gradient energy (blurred 0.8, original 2.1)
    """
    claim = Claim(statement, bool(holds), {name.replace("_", " "): float(value) for name, value in numbers.items()})
    print(claim)
    return claim

"""The values that a page may send: each field returns what it accepts, and says in a sentence what it does not.

A page is a program of its own, which may be out of date, faulty or forged. So nothing that it sends is kept before it
has passed its field.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from reprlib import repr as shortened
from typing import Any

import numpy as np

from ex5lib.errors import SettingError, unknown_name

Field = Callable[[Any], Any]
_LONGEST = 40  # characters of a text in a sentence


def checked(fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as their fields accept them; a SettingError names the first that is refused or has no field."""
    accepted = {}
    for name, value in values.items():
        if name not in fields:
            raise SettingError(f"The page sent {_shown(name)}, which is not known here: reload it.")
        try:
            accepted[name] = fields[name](value)
        except SettingError as error:
            raise SettingError(str(error), setting=name) from None
    return accepted


@dataclass(frozen=True)
class Number:
    """A number from ``least`` to ``most``.

    Attributes:
        label, unit: how the page names it.
        slider: the ends of its slider, where they are narrower, and the slider's step.
        odd: whether only odd numbers and 0 are accepted.
        optional: whether None, which leaves the number to others, is accepted.
    """

    label: str
    least: float
    most: float
    slider: tuple[float, float, float] = (0, 0, 0)
    unit: str = ""
    whole: bool = False
    odd: bool = False
    optional: bool = False

    def __call__(self, value: Any) -> Any:
        if value is None and self.optional:
            return None
        kinds = int | float | np.integer | np.floating
        fits = isinstance(value, kinds) and not isinstance(value, bool) and self.least <= value <= self.most
        if not fits or (self.whole and value % 1 != 0) or (self.odd and value != 0 and value % 2 != 1):
            kind = "0 or an odd" if self.odd else "a whole" if self.whole else "a"
            words = f"must be {kind} number from {self.least:.16g} to {self.most:.16g}, not {_shown(value)}."
            raise SettingError(f"{self.label[0].upper()}{self.label[1:]} {words}")
        return int(value) if self.whole else float(value)

    def as_json(self) -> dict[str, Any]:
        """The slider, for the page."""
        low, high, step = self.slider
        return {"label": self.label, "unit": self.unit, "min": low, "max": high, "step": step}


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise SettingError(f"The page sent {_shown(value)} where true or false belongs: reload it.")
    return value


def text(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise SettingError(f"The page sent {_shown(value)} where a name belongs: reload it.")
    return value


def one_of(kind: str, known: Collection[str]) -> Field:
    """One of the known names."""

    def check(value: Any) -> str:
        if text(value) not in known:
            raise unknown_name(kind, value, known)
        return value

    return check


def _shown(value: Any) -> str:
    """A value in a sentence, cut short if it is long."""
    if not isinstance(value, str):
        return shortened(value)
    return f'"{value}"' if len(value) <= _LONGEST else f'"{value[:_LONGEST]} …"'

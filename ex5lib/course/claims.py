"""The report's claims, checked against the numbers of this run, and the boxes in which a notebook shows them."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

from IPython.display import display

PROVES_NOTHING = "So few steps show that everything runs, and prove nothing."


@dataclass(frozen=True, repr=False)
class Claim:
    """A statement of the report, and whether it holds here."""

    statement: str  # with the measure and the threshold that decide it
    holds: bool
    numbers: Mapping[str, float]  # that decide it, by name
    doubt: str = ""  # why the numbers decide nothing

    def __repr__(self) -> str:
        numbers = f" ({self._listed})" if self.numbers else ""
        return f"{self._verdict}: {self.statement}{numbers}" + (f" {self.doubt}" if self.doubt else "")

    def _repr_html_(self) -> str:
        return _box(self.holds, self._verdict, self.statement, self._listed, self.doubt)

    @property
    def _verdict(self) -> str:
        return "holds" if self.holds else "does not hold"

    @property
    def _listed(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())


@dataclass(frozen=True, repr=False)
class Passed:
    """A student's task that passed its checks."""

    task: str

    def __repr__(self) -> str:
        return f"passed: {self.task}"

    def _repr_html_(self) -> str:
        return _box(True, "passed", self.task)


def _box(good: bool, verdict: str, statement: str, *notes: str) -> str:
    """A framed line for a notebook, light or dark: a mark, the verdict as a word, a sentence, and notes if any."""
    mark, colour, style = ("✓", "#009e73", "solid") if good else ("✗", "#d55e00", "dashed")
    small = "".join(f'<div style="font-size:0.9em;opacity:0.8">{html.escape(note)}</div>' for note in notes if note)
    return (
        f'<div data-claim style="border:1px {style} {colour};border-left:6px {style} {colour};border-radius:4px;'
        f'padding:6px 12px;margin:4px 0;max-width:1000px;line-height:1.4"><b>{mark} {verdict}</b>: '
        f"{html.escape(statement)}{small}</div>"
    )


def check_claim(statement: str, holds: bool, *, doubt: str = "", **numbers: float) -> Claim:
    """Show whether a statement holds and the numbers that decide it, and return both.

    A claim that does not hold is a finding about this generator, not an error.

    Example:
        >>> _ = check_claim("blur lowers the gradient energy", 0.8 < 2.1, blurred=0.8, original=2.1)
        holds: blur lowers the gradient energy (blurred 0.8, original 2.1)
    """
    named = {name.replace("_", " "): float(value) for name, value in numbers.items()}
    claim = Claim(statement, bool(holds), named, doubt)
    display(claim)
    return claim

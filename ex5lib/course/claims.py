"""The report's claims, checked against the numbers of this run, and the boxes in which a notebook shows them."""

import html
from collections.abc import Mapping
from dataclasses import dataclass

from IPython.display import display

PROVES_NOTHING = "So few steps show that everything runs, and prove nothing."


@dataclass(frozen=True)
class Claim:
    """A statement of the report, whether it holds here, and the numbers that decide it.

    Attributes:
        statement: with the measure and the threshold that decide it.
        holds: whether it does.
        numbers: by name.
        doubt: why the numbers decide nothing, or empty.
    """

    statement: str
    holds: bool
    numbers: Mapping[str, float]
    doubt: str = ""

    def __str__(self) -> str:
        numbers = f" ({self._listed})" if self.numbers else ""
        return f"{self._verdict}: {self.statement}{numbers}" + (f" {self.doubt}" if self.doubt else "")

    def _repr_pretty_(self, printer, cycle: bool) -> None:  # noqa: ARG002, IPython passes it
        printer.text(str(self))

    def _repr_html_(self) -> str:
        mark = "✓" if self.holds else "✗"
        notes = [*([self._listed] if self.numbers else []), *([self.doubt] if self.doubt else [])]
        return box(mark, self._verdict, self.statement, notes)

    @property
    def _verdict(self) -> str:
        return "holds" if self.holds else "does not hold"

    @property
    def _listed(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())


@dataclass(frozen=True)
class Passed:
    """A student's task that passed its checks."""

    task: str

    def __str__(self) -> str:
        return f"passed: {self.task}"

    def _repr_pretty_(self, printer, cycle: bool) -> None:  # noqa: ARG002
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return box("✓", "passed", self.task, [])


def box(mark: str, verdict: str, statement: str, notes: list[str]) -> str:
    """A framed line for a notebook, light or dark: a mark, the verdict as a word, a sentence and notes."""
    colour, style = ("#009e73", "solid") if mark == "✓" else ("#d55e00", "dashed")
    small = "".join(f'<div style="font-size:0.9em;opacity:0.8">{html.escape(note)}</div>' for note in notes)
    return (
        f'<div data-claim style="border:1px {style} {colour};border-left:6px {style} {colour};border-radius:4px;'
        f'padding:6px 12px;margin:4px 0;max-width:1000px;line-height:1.4"><b>{mark} {html.escape(verdict)}</b>: '
        f"{html.escape(statement)}{small}</div>"
    )


def check_claim(statement: str, holds: bool, *, doubt: str = "", **numbers: float) -> Claim:
    """Show whether a statement holds and the numbers that decide it, and return both.

    A claim that does not hold is a finding about this generator, not an error.

    Example:
        >>> _ = check_claim("blur lowers the gradient energy", 0.8 < 2.1, blurred=0.8, original=2.1)
        holds: blur lowers the gradient energy (blurred 0.8, original 2.1)
    """
    claim = Claim(
        statement, bool(holds), {name.replace("_", " "): float(value) for name, value in numbers.items()}, doubt
    )
    display(claim)
    return claim

"""The report's claims, each checked against the numbers of this run."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A statement of the report, whether it holds here, and the numbers that decide it."""

    statement: str
    holds: bool
    numbers: Mapping[str, float]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in self.numbers.items())
        return f"{'holds' if self.holds else 'does not hold'}: {self.statement}" + (f" ({numbers})" if numbers else "")


def check_claim(statement: str, holds: bool, **numbers: float) -> Claim:
    """Print whether a statement holds and the numbers that decide it, and return both.

    A claim that does not hold raises nothing: a generator that behaves differently from the report's is a finding.

    Example:
        >>> _ = check_claim("blur lowers the gradient energy", 0.8 < 2.1, blurred=0.8, original=2.1)
        holds: blur lowers the gradient energy (blurred 0.8, original 2.1)
    """
    claim = Claim(statement, bool(holds), {name.replace("_", " "): float(value) for name, value in numbers.items()})
    print(claim)
    return claim

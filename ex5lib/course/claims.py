"""What a notebook shows in boxes: whether a claim of the course's report holds by these numbers, and passed checks."""

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from IPython.display import display

from ex5lib.errors import CheckFailed, Ex5Error

# {holds: (mark, words)}
VERDICTS = {True: ("✓", "holds"), False: ("✗", "does not hold"), None: ("~", "chance decides")}
PROVES_NOTHING = "So few steps show that everything runs, and prove nothing."


@dataclass(frozen=True, repr=False)
class Claim:
    """A statement of the course's report, and whether it holds here."""

    statement: str  # with the measure and the threshold that decide it
    holds: bool | None  # None: with some seeds it does, with others not
    numbers: Mapping[str, float | Sequence[float]]  # that decide it, by name; several, if there are several seeds
    doubt: str = ""  # why the numbers decide nothing

    def __repr__(self) -> str:
        numbers = f" ({self._listed})" if self.numbers else ""
        return f"{self._verdict}: {self.statement}{numbers}" + (f" {self.doubt}" if self.doubt else "")

    def _repr_html_(self) -> str:
        return _box(self.holds, self._verdict, self.statement, self._listed, self.doubt)

    @property
    def _verdict(self) -> str:
        return VERDICTS[self.holds][1]

    @property
    def _listed(self) -> str:
        return ", ".join(f"{name} {in_words(values)}" for name, values in self.numbers.items())


def in_words(values: float | Sequence[float]) -> str:
    """A claim's number, or one for each seed."""
    return " / ".join(f"{value:.4g}" for value in (values if isinstance(values, Sequence) else [values]))


@dataclass(frozen=True, repr=False)
class _Passed:
    """A student's task that passed its checks."""

    task: str

    def __repr__(self) -> str:
        return f"passed: {self.task}"

    def _repr_html_(self) -> str:
        return _box(True, "passed", self.task)


def _box(good: bool | None, verdict: str, statement: str, *notes: str) -> str:
    """A framed line for a notebook, light or dark: a mark, the verdict as a word, a sentence, and notes if any."""
    colour, style = {True: ("#009e73", "solid"), False: ("#d55e00", "dashed"), None: ("#8a6d00", "dotted")}[good]
    mark, _ = VERDICTS[good]
    small = "".join(f'<div style="font-size:0.9em;opacity:0.8">{html.escape(note)}</div>' for note in notes if note)
    return (
        f'<div data-claim style="border:1px {style} {colour};border-left:6px {style} {colour};border-radius:4px;'
        f'padding:6px 12px;margin:4px 0;max-width:1000px;line-height:1.4"><b>{mark} {verdict}</b>: '
        f"{html.escape(statement)}{small}</div>"
    )


def check_claim(
    statement: str, holds: bool | Sequence[bool], *, doubt: str = "", **numbers: float | Sequence[float]
) -> Claim:
    """Show whether a statement holds and the numbers that decide it, and return both.

    A claim that does not hold is a finding about this generator, not an error. If it was tried with several seeds, give
    an answer and a number for each: where they disagree, chance decides.

    Example:
        >>> _ = check_claim("blur lowers the gradient energy", 0.8 < 2.1, blurred=0.8, original=2.1)
        holds: blur lowers the gradient energy (blurred 0.8, original 2.1)
    """
    named = {
        name.replace("_", " "): [float(v) for v in value] if isinstance(value, Sequence) else float(value)
        for name, value in numbers.items()
    }
    answers = {bool(each) for each in holds} if isinstance(holds, Sequence) else {bool(holds)}
    claim = Claim(statement, answers.pop() if len(answers) == 1 else None, named, doubt)
    display(claim)
    return claim


@contextmanager
def check(task: str) -> Iterator[None]:
    """Run the assertions of a ``with`` block on what the student wrote, and show that they passed.

    Raises:
        CheckFailed: with one sentence, if the code is not written yet, raises an error, or fails an assertion.

    Example:
        >>> with check("square: the corners"):  # the task's name, and what to write
        ...     assert np.allclose(square(points), expected), "The corners are not FFHQ's."
    """
    try:
        yield
    except (NotImplementedError, NameError) as error:
        missing = f" ({error})" if isinstance(error, NameError) else ""
        raise CheckFailed(f"✗ not written yet{missing}: {task}.") from None
    except AssertionError as error:
        raise CheckFailed(f"✗ {task}: {error}") from None
    except Ex5Error:
        raise
    except Exception as error:
        raise CheckFailed(f"✗ {task}: your code raised {type(error).__name__}: {error}.") from error
    display(_Passed(task))

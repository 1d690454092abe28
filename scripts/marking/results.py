"""What marking writes: marks.csv, a page for each student, and what a person must read."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ex5lib.errors import FileError
from ex5lib.files import replacing
from scripts.marking.handins import HandIn
from scripts.marking.running import Run
from scripts.marking.scheme import Scheme

_READ = ("hand-in", "task", "of", "points", "why")


@dataclass
class Mark:
    """The mark for one check."""

    task: str
    check: str  # its grade_id
    points: float  # given
    of: float  # possible
    said: str  # to the student


@dataclass
class Marked:
    """One student's notebook."""

    marks: list[Mark]
    answers: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)  # of the student's own cells
    odd: list[str] = field(default_factory=list)  # for a person to look at

    @classmethod
    def from_json(cls, kept: dict) -> "Marked":
        """What ``dataclasses.asdict`` made of one."""
        return cls(**kept | {"marks": [Mark(**mark) for mark in kept["marks"]]})


def marked(scheme: Scheme, run: Run) -> Marked:
    """The marks of a plan that was run."""
    plan, outcomes = run.plan, [run.outcomes[i] for i in range(len(run.plan.steps))]
    ran = {step.name: outcome for step, outcome in zip(plan.steps, outcomes, strict=True) if step.kind == "check"}
    marks = []
    for name, (task, check) in scheme.checks.items():
        passed, said = (ran[name].passed, ran[name].said) if name in ran else (False, "there is no cell for it")
        marks.append(Mark(task.name, name, check.points * passed, check.points, said))
    odd = [*plan.odd, *(odd for outcome in outcomes for odd in outcome.odd)]
    own = (outcome for step, outcome in zip(plan.steps, outcomes, strict=True) if step.kind == "own")
    return Marked(marks, plan.answers, [outcome.said for outcome in own if not outcome.passed], odd)


def unmarked(scheme: Scheme, reason: str, odd: Sequence[str] = ()) -> Marked:
    """No points, for a notebook that is absent or cannot be read."""
    marks = [Mark(task.name, name, 0, check.points, reason) for name, (task, check) in scheme.checks.items()]
    return Marked(marks, odd=list(odd))


def write_results(
    folder: Path, schemes: Sequence[Scheme], class_: Iterable[tuple[HandIn, dict[str, Marked]]]
) -> dict[str, float]:
    """Write a class's marks, pages and lists; returns the sum of each hand-in.

    In read.csv a person fills in points, of answers, or, in rows with a task's column of marks.csv, instead of what
    the checks gave. They are kept, and counted the next time.

    Raises:
        FileError: if such points are not a number.
    """
    rows, reading, sums = [], [], {}
    filled = _filled(folder / "read.csv")
    answers: dict[str, list[str]] = {}
    for hand_in, notebooks in class_:
        points: dict[str, float | None] = {}
        page = [f"# {hand_in.about.get('name', hand_in.name)}", "", *(f"- {words}" for words in hand_in.trouble)]
        to_read = [("", "", "; ".join(hand_in.trouble))] if hand_in.trouble else []
        for scheme in schemes:
            made = notebooks[scheme.notebook]
            points |= _points(scheme, made)
            page += _page(scheme, made)
            to_read += _to_read(scheme, made)
            for question, answer in made.answers.items():
                answers.setdefault(_column(scheme, question), []).append(f"### {hand_in.name}\n\n{answer or 'None.'}")
        given = {task: value for (name, task), (value, _) in filled.items() if name == hand_in.name and task in points}
        points |= given
        page += [f"- {task}: {value:g} points, by a person" for task, value in given.items()]
        sums[hand_in.name] = sum(value for value in points.values() if value is not None)
        _write(folder / "feedback" / f"{hand_in.name}.md", "\n".join([*page, "", f"Sum: {sums[hand_in.name]:g}", ""]))
        about = {"hand-in": hand_in.name, "number": hand_in.about.get("number"), "name": hand_in.about.get("name")}
        shown = {task: None if value is None else f"{value:g}" for task, value in points.items()}
        rows.append(about | shown | {"sum": f"{sums[hand_in.name]:g}"})
        for task, of, why in to_read:
            value, _ = filled.pop((hand_in.name, task), (None, None))
            said = None if value is None else f"{value:g}"
            reading.append({"hand-in": hand_in.name, "task": task, "of": of, "points": said, "why": why})
    reading += [row for _, row in filled.values()]  # a person's own
    _write_table(folder / "marks.csv", list(rows[0]), rows)
    _write_table(folder / "read.csv", list(_READ), reading)
    asked = [(_column(scheme, question.name), question) for scheme in schemes for question in scheme.questions]
    parts = (
        [f"# {name}", question.text, "## For comparison", question.model, "## Answers", *answers.get(name, ())]
        for name, question in asked
    )
    _write(folder / "answers.md", "\n\n".join(part for each in parts for part in each) + "\n")
    return sums


def _points(scheme: Scheme, made: Marked) -> dict[str, float | None]:
    """The points by column of marks.csv; None for an answer that a person must read."""
    points: dict[str, float | None] = {}
    for task in scheme.tasks:
        points[_column(scheme, task.name)] = sum(mark.points for mark in made.marks if mark.task == task.name)
    for question in scheme.questions:
        points[_column(scheme, question.name)] = None if made.answers.get(question.name) else 0
    return points


def _page(scheme: Scheme, made: Marked) -> list[str]:
    """What a student is told about a notebook, in lines of Markdown."""
    lines = ["", f"## {scheme.notebook}", "", "| task | points | |", "|---|---|---|"]
    for mark in made.marks:
        said = " ".join(mark.said.split()).replace("|", "\\|")
        lines.append(f"| {mark.check.removeprefix('check-')} | {mark.points:g} of {mark.of:g} | {said} |")
    for question in scheme.questions:
        said = "is read" if made.answers.get(question.name) else "not answered"
        lines.append(f"| {question.name} | of {question.points:g} | {said} |")
    return [*lines, "", *(f"- {words}" for words in dict.fromkeys([*made.errors, *made.odd]))]


def _to_read(scheme: Scheme, made: Marked) -> list[tuple[str, str, str]]:
    """What a person must look at: its column or notebook, the possible points, and why."""
    answered = [question for question in scheme.questions if made.answers.get(question.name)]
    rows = [(_column(scheme, question.name), f"{question.points:g}", "answer") for question in answered]
    return [*rows, (scheme.notebook, "", "; ".join(dict.fromkeys(made.odd)))] if made.odd else rows


def _filled(path: Path) -> dict[tuple[str, str], tuple[float, dict[str, str]]]:
    """The rows of read.csv in which a person has filled in points, with these, by hand-in and task."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8-sig")  # as Excel writes it
    separator = max(",;\t", key=text.partition("\n")[0].count)  # the comma is not everybody's
    found = {}
    for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator):
        if points := (row.get("points") or "").strip():
            try:
                found[row["hand-in"], row["task"]] = float(points.replace(",", ".")), {key: row[key] for key in _READ}
            except (ValueError, KeyError):
                raise FileError(f'In {path} the points "{points}" are no number, or not in their column.') from None
    return found


def _column(scheme: Scheme, task: str) -> str:
    return f"{scheme.notebook.partition('_')[0]} {task}"


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)

"""What marking writes: marks.csv, a page for each student, and what a person must read."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    """
    kept = {(row["hand-in"], row["task"]): row for row in _read(folder / "read.csv") if row["points"].strip()}
    rows, reading, sums = [], [], {}
    answers: dict[str, list[str]] = {}
    for hand_in, notebooks in class_:
        points: dict[str, float | str] = {}
        page = [f"# {hand_in.about.get('name', hand_in.name)}", *(f"- {words}" for words in hand_in.trouble)]
        if hand_in.trouble:
            reading.append(_row(hand_in, "", "", "; ".join(hand_in.trouble)))
        for scheme in schemes:
            made = notebooks[scheme.notebook]
            page += [f"\n## {scheme.notebook}\n", "| task | points | |", "|---|---|---|"]
            for mark in made.marks:
                column = _column(scheme, mark.task)
                points[column] = points.get(column, 0) + mark.points
                said = " ".join(mark.said.split()).replace("|", "\\|")
                page.append(f"| {mark.check.removeprefix('check-')} | {mark.points:g} of {mark.of:g} | {said} |")
            for question in scheme.questions:
                column, answer = _column(scheme, question.name), made.answers.get(question.name, "")
                points[column] = "" if answer else 0
                page.append(f"| {question.name} | of {question.points:g} | {'is read' if answer else 'not answered'} |")
                if answer:
                    reading.append(_row(hand_in, column, f"{question.points:g}", "answer"))
                    answers.setdefault(column, []).append(f"### {hand_in.name}\n\n{answer}")
            page += ["", *(f"- {words}" for words in dict.fromkeys([*made.errors, *made.odd]))]
            if made.odd:
                reading.append(_row(hand_in, scheme.notebook, "", "; ".join(dict.fromkeys(made.odd))))
        corrected = {
            column: kept[hand_in.name, column]["points"] for column in points if (hand_in.name, column) in kept
        }
        points |= {column: float(text.replace(",", ".")) for column, text in corrected.items()}
        page += [f"- {column}: {text}, by a person" for column, text in corrected.items()]
        sums[hand_in.name] = sum(value for value in points.values() if value != "")
        page.append(f"\nSum so far: {sums[hand_in.name]:g}")
        about = {"hand-in": hand_in.name, "number": hand_in.about.get("number"), "name": hand_in.about.get("name")}
        rows.append(
            about | {c: v if v == "" else f"{v:g}" for c, v in points.items()} | {"sum": f"{sums[hand_in.name]:g}"}
        )
        _write(folder / "feedback" / f"{hand_in.name}.md", "\n".join(page) + "\n")
    listed = {(row["hand-in"], row["task"]) for row in reading}
    reading = [row | {"points": kept.get((row["hand-in"], row["task"]), row)["points"]} for row in reading]
    reading += [row for key, row in kept.items() if key not in listed]
    _write_table(folder / "marks.csv", list(rows[0]), rows)
    _write_table(folder / "read.csv", _READ, reading)
    parts = []
    for scheme in schemes:
        for question in scheme.questions:
            parts += [f"# {_column(scheme, question.name)}", question.text, "## For comparison", question.model]
            parts += ["## Answers", *answers.get(_column(scheme, question.name), ["None."])]
    _write(folder / "answers.md", "\n\n".join(parts) + "\n")
    return sums


def _column(scheme: Scheme, task: str) -> str:
    return f"{scheme.notebook.partition('_')[0]} {task}"


def _row(hand_in: HandIn, task: str, of: str, why: str) -> dict[str, str]:
    return {"hand-in": hand_in.name, "task": task, "of": of, "points": "", "why": why}


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8-sig") as file:  # as Excel writes it
        return list(csv.DictReader(file))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[dict]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)

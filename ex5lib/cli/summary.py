"""The outcome of a folder of photos, and a table of it: one row per result, as CSV and as a page with pictures."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ex5lib.cli.options import say
from ex5lib.files import replacing
from ex5lib.restoration.results import read_record

NUMBERS = ("distance", "psnr", "ssim", "identity_distance", "seconds")
_TEMPLATE = Path(__file__).with_name("summary.html.j2")


@dataclass
class Outcome:
    """The outcome of a job.

    Attributes:
        outcomes: of each photo that was reached: "done", "done before" or "failed".
        messages: why photos failed.
        distances: the perceptual distance of every result, by ``Search.title``.
        stopped: whether the user ended the job early.
        folders: of the result of each photo of the job, whether it was reached or not.
    """

    outcomes: dict[Path, str] = field(default_factory=dict)
    messages: dict[Path, str] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)
    stopped: bool = False
    folders: dict[Path, Path] = field(default_factory=dict)

    def rows(self, out: Path) -> "list[Row]":
        """A row for each result, or for each photo that has none; folders are relative to ``out``."""
        rows: list[Row] = []
        for photo, folder in self.folders.items():
            outcome = self.outcomes.get(photo, "not done")
            if outcome in ("done", "done before"):
                rows += rows_of(photo, outcome, folder, out)
            else:
                rows.append(Row(photo.name, outcome, message=self.messages.get(photo, "")))
        return rows

    def add(self, other: "Outcome") -> None:
        """Add the outcome of other photos."""
        for name in ("outcomes", "messages", "distances"):
            getattr(self, name).update(getattr(other, name))
        self.stopped |= other.stopped


@dataclass(frozen=True)
class Row:
    """One result, or why there is none.

    Attributes:
        photo: file name.
        outcome: as in ``Outcome``, or "not done".
        folder: of the result, relative to the summary's; empty if there is none.
        face: index of the face, if every face was searched.
        message: why there is none, or what speaks against how it was made.
    """

    photo: str
    outcome: str
    folder: str = ""
    face: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    message: str = ""


def sum_up(out: Path, total: Outcome) -> None:
    """Print the outcome of a folder of photos, and write the table to ``out``."""
    outcomes = Counter(total.outcomes.get(photo, "not done") for photo in total.folders)
    counts = dict.fromkeys(("done", "done before", "failed"), 0) | outcomes
    say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f", in {out}")
    for title, distance in total.distances.items():
        say(f"  {title}: perceptual distance {distance:.3f}")
    for photo, reason in total.messages.items():
        say(f"  {photo.name}: {reason}")
    say(f"summary in {write_summary(out, total.rows(out))}")


def rows_of(photo: Path, outcome: str, folder: Path, out: Path) -> list[Row]:
    """The rows of a photo whose results are in ``folder``: one, or one per face."""
    faces = read_record(folder).get("faces")
    folders = {None: folder} if faces is None else {face: folder / f"face{face}" for face in faces}
    return [
        Row(photo.name, outcome, place.relative_to(out).as_posix(), face, _numbers(record), record.get("note", ""))
        for face, place in folders.items()
        for record in [read_record(place)]
    ]


def _numbers(record: dict) -> dict[str, float]:
    metrics = record.get("metrics", {})
    found = metrics.get("result and original", {}) | metrics.get("search", {})  # the distance is the search's
    return {name: found[name] for name in NUMBERS if name in found}


def write_summary(out: Path, rows: Sequence[Row]) -> Path:
    """Write the rows to summary.csv and summary.html in ``out``; returns the path of the page.

    The page loads nothing except the pictures in the folders beside it.
    """
    with (
        replacing(out / "summary.csv") as temporary,
        # A file name that is not UTF-8 keeps its bytes.
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        table = csv.writer(file)
        table.writerow(["photo", "face", "outcome", *NUMBERS, "folder", "message"])
        for row in rows:
            numbers = [f"{row.numbers[n]:.6g}" if n in row.numbers else "" for n in NUMBERS]
            table.writerow([row.photo, row.face, row.outcome, *numbers, row.folder, row.message])
    with replacing(out / "summary.html") as temporary:
        temporary.write_text(_page(out, rows), encoding="utf-8", errors="replace")
    return out / "summary.html"


def _page(out: Path, rows: Sequence[Row]) -> str:
    import jinja2  # imported here: only a folder needs it

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["address"] = partial(quote, errors="surrogateescape")
    counts = Counter(row.outcome for row in rows)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=out.absolute().name,
        counts=", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
        numbers=NUMBERS,
        rows=rows,
    )

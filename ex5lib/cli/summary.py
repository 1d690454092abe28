"""The outcome of a folder of photos, and a table of it: one row per result, as CSV and as a page with pictures."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from ex5lib.cli.options import say
from ex5lib.errors import Ex5Error, sentence
from ex5lib.files import replacing
from ex5lib.restoration.results import read_record

NUMBERS = ("distance", "psnr", "ssim", "identity_distance", "seconds")
_WORDS = {  # what the page says of each, and how
    "distance": ("distance from the photo", "{:.2f}"),
    "identity_distance": ("difference of the persons", "{:.2f}"),
    "psnr": ("PSNR", "{:.1f} dB"),
    "ssim": ("SSIM", "{:.2f}"),
    "seconds": ("time", "{:.0f} s"),
}
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

    @contextmanager
    def noting_failure(self, photos: Sequence[Path], *, quietly: bool = False) -> Iterator[None]:
        """Note an error that the user can fix as the outcome of photos, and tell it at once, unless quietly."""
        try:
            yield
        except (Ex5Error, OSError) as error:
            self.outcomes |= dict.fromkeys(photos, "failed")
            self.messages |= dict.fromkeys(photos, sentence(error))
            if not quietly:
                say(f"  {sentence(error)}", error=True)

    def tell(self, out: Path, *always: str) -> None:
        """Print how many photos have which outcome, those of some also if there are none, and why photos failed."""
        outcomes = Counter(self.outcomes.get(photo, "not done") for photo in self.folders)
        counts = dict.fromkeys(always, 0) | outcomes
        say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f", in {out}")
        for photo, reason in self.messages.items():
            say(f"  {photo.name}: {reason}")

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
        degradation: D, as the search recorded it.
        enlarged: how many times as wide and as high its photo has become.
        message: why there is none, or what speaks against how it was made.
    """

    photo: str
    outcome: str
    folder: str = ""
    face: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    message: str = ""
    degradation: str = ""
    enlarged: int = 1


def sum_up(out: Path, total: Outcome) -> None:
    """Print the outcome of a folder of photos, and write the table to ``out``."""
    total.tell(out, "done", "done before", "failed")
    for title, distance in total.distances.items():
        say(f"  {title}: perceptual distance {distance:.3f}")
    say(f"summary in {write_summary(out, total.rows(out))}")


def rows_of(photo: Path, outcome: str, folder: Path, out: Path) -> list[Row]:
    """The rows of a photo whose results are in ``folder``: one, or one per face."""
    faces = read_record(folder).get("faces")
    folders = {None: folder} if faces is None else {face: folder / f"face{face}" for face in faces}
    return [
        Row(
            photo.name,
            outcome,
            place.relative_to(out).as_posix(),
            face,
            _numbers(record),
            record.get("note", ""),
            record.get("settings", {}).get("degradation", ""),
            record.get("enlarged", 1),
        )
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
        table.writerow(["photo", "face", "outcome", *NUMBERS, "folder", "message", "degradation", "enlarged"])
        for row in rows:
            numbers = [f"{row.numbers[n]:.6g}" if n in row.numbers else "" for n in NUMBERS]
            about = row.folder, row.message, row.degradation, row.enlarged
            table.writerow([row.photo, row.face, row.outcome, *numbers, *about])
    with replacing(out / "summary.html") as temporary:
        temporary.write_text(_page(out, rows), encoding="utf-8", errors="replace")
    return out / "summary.html"


@dataclass(frozen=True)
class _Card:
    """A photo on the page: its rows, one for each face, and the pictures to show, relative to the page."""

    rows: list[Row]
    pictures: dict[str, str]  # by what they show

    @property
    def distance(self) -> float:
        """d of the face that fits worst; infinite if there is no result."""
        return max(row.numbers.get("distance", float("inf")) for row in self.rows)


def _card(out: Path, rows: list[Row]) -> _Card:
    if not rows[0].folder:
        return _Card(rows, {})
    own = Path(rows[0].folder)
    folder = own.parent if rows[0].face is not None and (out / own.parent / "after.jpg").exists() else own
    names = {"before": "before.jpg", "after": "after.jpg"}
    if not (out / folder / "after.jpg").exists():  # a result of an earlier version
        names = {"comparison": "comparison.png"}
    return _Card(rows, {title: (folder / name).as_posix() for title, name in names.items()})


def _page(out: Path, rows: Sequence[Row]) -> str:
    import jinja2  # imported here: only a folder needs it

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["address"] = partial(quote, errors="surrogateescape")
    counts = Counter(row.outcome for row in rows)
    cards = [_card(out, list(same)) for _, same in groupby(rows, key=lambda row: row.photo)]
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=out.absolute().name,
        counts=", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
        numbers=_WORDS,
        cards=sorted(cards, key=lambda card: card.distance, reverse=True),
    )

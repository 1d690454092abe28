"""The outcome of a folder of photos, and a table of it: one row per result, as CSV and as a page with pictures."""

import csv
import html
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ex5lib.files import replacing
from ex5lib.restoration.results import read_record

NUMBERS = ("distance", "psnr", "ssim", "identity_distance", "seconds")

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid #8886; padding: .4rem .7rem; text-align: left; vertical-align: middle; }}
td.number {{ font-variant-numeric: tabular-nums; text-align: right; }}
td.name {{ overflow-wrap: anywhere; }}
tr.failed td {{ background: #c332; }}
img {{ display: block; height: 8rem; }}
</style>
<h1>{title}</h1>
<p>Results: {counts}. Each picture shows what was searched for beside what was found, and leads to its folder.</p>
<table>
<tr><th>photo</th><th></th><th>outcome</th>{heads}</tr>
{rows}
</table>
</html>
"""


@dataclass
class Outcome:
    """The outcome of a job.

    Attributes:
        distances: the perceptual distance of every result, by ``Search.title``.
        done: the photos that were searched.
        before: those that had a result for the same request already.
        failed: the error message of every photo that failed.
        elsewhere: those that another process was searching.
        stopped: whether the user ended the job early.
    """

    distances: dict[str, float] = field(default_factory=dict)
    done: list[Path] = field(default_factory=list)
    before: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    elsewhere: list[Path] = field(default_factory=list)
    stopped: bool = False

    def by_photo(self, photos: Iterable[Path]) -> dict[Path, str]:
        """The outcome of each photo, in a word or two; "not done" if it was not reached."""
        known = dict.fromkeys(photos, "not done")
        known |= dict.fromkeys(self.elsewhere, "in another process")
        known |= dict.fromkeys(self.done, "done") | dict.fromkeys(self.before, "done before")
        return known | dict.fromkeys(self.failed, "failed")


@dataclass(frozen=True)
class Row:
    """One result, or why there is none.

    Attributes:
        photo: file name.
        outcome: as in ``Outcome.by_photo``.
        folder: of the result, relative to the summary's; empty if there is none.
        face: index of the face, if every face was searched.
        numbers: by name, as in ``NUMBERS``.
        message: why it failed.
    """

    photo: str
    outcome: str
    folder: str = ""
    face: int | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    message: str = ""


def sum_up(folders: dict[Path, Path], out: Path, total: Outcome, say: Callable[..., None], name: str) -> None:
    """Print the outcome of photos, each given with its results folder, and write the table."""
    outcomes = total.by_photo(folders)
    counts = dict.fromkeys(("done", "done before", "failed"), 0) | Counter(outcomes.values())
    say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) + f", in {out}")
    for title, distance in total.distances.items():
        say(f"  {title}: perceptual distance {distance:.3f}")
    for photo, reason in total.failed.items():
        say(f"  {photo.name}: {reason}")
    rows: list[Row] = []
    for photo, outcome in outcomes.items():
        if outcome in ("done", "done before"):
            rows += rows_of(photo, outcome, folders[photo], out)
        else:
            rows.append(Row(photo.name, outcome, message=total.failed.get(photo, "")))
    say(f"summary in {write_summary(out, rows, name)}")


def rows_of(photo: Path, outcome: str, folder: Path, out: Path) -> list[Row]:
    """The rows of a photo whose results are in ``folder``: one, or one per face."""
    faces = read_record(folder).get("faces")
    folders = {None: folder} if faces is None else {face: folder / f"face{face}" for face in faces}
    return [
        Row(photo.name, outcome, place.relative_to(out).as_posix(), face, _numbers(read_record(place)))
        for face, place in folders.items()
    ]


def _numbers(report: dict) -> dict[str, float]:
    metrics = report.get("metrics", {})
    found = metrics.get("search", {}) | {
        k: v for k, v in metrics.get("result and original", {}).items() if k != "distance"
    }
    return {name: found[name] for name in NUMBERS if name in found}


def write_summary(out: Path, rows: Sequence[Row], name: str = "summary") -> Path:
    """Write the rows to ``name``.csv and ``name``.html in ``out``; returns the path of the page.

    The page loads nothing except the pictures in the folders beside it.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["photo", "face", "outcome", *NUMBERS, "folder", "message"])
    for row in rows:
        numbers = [f"{row.numbers[n]:.6g}" if n in row.numbers else "" for n in NUMBERS]
        face = "" if row.face is None else row.face
        writer.writerow([row.photo, face, row.outcome, *numbers, row.folder, row.message])
    with replacing(out / f"{name}.csv") as temporary:  # a file name that is not UTF-8 keeps its bytes
        temporary.write_bytes(table.getvalue().encode(errors="surrogateescape"))
    with replacing(out / f"{name}.html") as temporary:
        temporary.write_text(_page(out, rows), encoding="utf-8", errors="replace")
    return out / f"{name}.html"


def _page(out: Path, rows: Sequence[Row]) -> str:
    outcomes = [row.outcome for row in rows]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
    heads = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in NUMBERS)
    title = html.escape(out.absolute().name)
    return _PAGE.format(title=title, counts=counts, heads=heads, rows="\n".join(map(_html_row, rows)))


def _html_row(row: Row) -> str:
    name = html.escape(row.photo if row.face is None else f"{row.photo}, face {row.face}")
    picture = f'<td class="name">{html.escape(row.message)}</td>'
    if row.folder:
        folder = quote(row.folder, errors="surrogateescape") + "/"
        picture = f'<td><a href="{folder}"><img src="{folder}comparison.png" alt="{name}" loading="lazy"></a></td>'
    numbers = "".join(
        f'<td class="number">{row.numbers[n]:.3f}</td>' if n in row.numbers else "<td></td>" for n in NUMBERS
    )
    failed = ' class="failed"' if row.outcome == "failed" else ""
    return f'<tr{failed}><td class="name">{name}</td>{picture}<td>{row.outcome}</td>{numbers}</tr>'

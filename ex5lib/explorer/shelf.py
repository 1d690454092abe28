"""The explorer's results: which are kept, what a page shows of them, and how they are saved."""

import io
import zipfile
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ex5lib.degradations.known import GaussianBlur
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.errors import FileError, SettingError
from ex5lib.explorer.choices import WORDS, Choice, own_weight
from ex5lib.explorer.searching import curve_of, time_in_words
from ex5lib.explorer.subjects import Subject
from ex5lib.files import check_writable
from ex5lib.images.frames import data_uri, jpeg
from ex5lib.images.tensors import resize, resize_area
from ex5lib.restoration.metrics import likeness
from ex5lib.restoration.restored import Restoration

THUMBNAIL_SIZE = 96
_COLORS_SIZE = 64  # px at which the colours of a photo are compared
RESULTS_KEPT = 16  # about 30 MB each, mostly images at full size


@dataclass(eq=False)
class Found:
    """A result: what was chosen, for which face, what was found, and what the page shows of it."""

    choice: Choice
    subject: Subject
    done: Restoration
    early: dict[int, Tensor] = field(default_factory=dict)  # {step: image [1, 3, S, S]}, as ``Searcher.search`` returns
    number: int = 0  # counts the results of an exploration, from 1
    quality: dict | None = None  # ``done.metrics``; None until they are computed, which takes seconds
    _drawn: dict[int, dict[str, bytes]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """What shows it best: the composite if there is one."""
        return "result" if self.done.composite is None else "composite"

    @property
    def images(self) -> dict[str, Tensor | None]:
        """Result and composite; the latter is None if there is none."""
        return {"result": self.done.result, "composite": self.done.composite}

    def pictures(self, size: int) -> dict[str, bytes]:
        """JPEGs of these of at most ``size`` px, each empty if there is none."""
        if size not in self._drawn:
            images = self.images.items()
            self._drawn[size] = {name: b"" if image is None else jpeg(image, size) for name, image in images}
        return self._drawn[size]

    @cached_property
    def thumbnail(self) -> str:
        """The address of a small JPEG."""
        return data_uri(jpeg(self.done.best_image, THUMBNAIL_SIZE))

    def compared(self, name: str) -> dict[str, float]:
        """How close "result" or "composite" is to the original, as far as it is known yet."""
        return (self.quality or {}).get(f"{name} and original", {})

    def measure(self) -> None:
        """Compute the numbers, which takes seconds; if that fails, there are none."""
        try:
            self.quality = self.done.metrics
        finally:
            self.quality = self.quality or {}

    @property
    def curve(self) -> dict:
        """The search's curve, for the page."""
        history, num_steps = self.done.run.history, self.done.run.settings["num_steps"]
        steps = zip(range(1, num_steps + 1), history["distance"], history["size"], history["face"], strict=False)
        return curve_of((step[:3] for step in steps if not step[3]), num_steps)

    def entry(self) -> dict:
        """For the strip of results, JSON-ready: number, picture, and in words what it is and how good."""
        identity = self.compared(self.best).get("identity_distance")
        words = f"{self.number}: {self.subject.name}, {self.choice}; d to the target {self.done.run.distance:.3f}"
        words += f", identity distance {identity:.2f}" if identity is not None else ""
        weight, _ = own_weight(self.done.run.settings["latent_weights"])
        short = [" + ".join(WORDS[kind][0] for kind in self.choice.kinds), f"pull {weight:.2g}", *self.choice.variant()]
        short += ["stopped"] * self.done.run.stopped
        return {"number": self.number, "picture": self.thumbnail, "words": words, "short": short}

    def found_in_words(self) -> list[str]:
        """What was found of an unknown degradation, line by line, and what it was if that is known."""
        degraded_by = self.choice.modules()[0]
        lines = []
        for D in self.done.degradation.modules():
            if isinstance(D, UnknownBlur):
                was = f" (it was {degraded_by.sigma:.2f} px)" if isinstance(degraded_by, GaussianBlur) else ""
                lines.append(f"σ {D.sigma:.2f} px{was}")
            if isinstance(D, UnknownColors):
                lines += self._colors_in_words(D, degraded_by)
        return lines

    def _colors_in_words(self, D: UnknownColors, degraded_by: nn.Module | None) -> list[str]:
        words = "a map of the colours"
        if degraded_by is not None:
            small = resize_area(self.subject.face.image, _COLORS_SIZE).clamp(-1, 1)
            off = 127.5 * (D(small) - degraded_by(small)).abs().mean().item()
            words += f", {off:.0f} of 255 levels from what was done to this photo"
        rows = zip(("red", "green", "blue"), D.matrix.tolist(), D.shift.tolist(), strict=True)
        line = "{} ← {:.2f} R {:+.2f} G {:+.2f} B {:+.2f}"
        return [words, *(line.format(name, *row, shift) for name, row, shift in rows)]

    def search_in_words(self) -> str:
        """How long the search took, and what it found."""
        run = self.done.run
        words = f"{run.num_steps} of {run.settings['num_steps']} steps, {time_in_words(run.seconds)}"
        if found := self.found_in_words():
            words += f", found {found[0]}"
        return f"{words}, d to the target {run.distance:.3f}"

    def save(self, out: Path) -> Path:
        """Save everything to a new folder in ``out``, and return its path; FileError if that cannot be written."""
        task = "-".join(self.choice.kinds).replace(" ", "-").replace("none", "inversion")
        stem = f"{Path(self.subject.name).stem}-{task}"
        folder = next(path for i in count(1) if not (path := out / f"{stem}-{i}").exists())
        request = asdict(self.choice.searched())
        if isinstance(request["hole"], bytes):
            request["hole"] = "painted"  # the degraded image shows it
        size = self.done.run.image.shape[-1]
        early = {step: resize(image, size) for step, image in self.early.items()}
        run = replace(self.done.run, snapshots=early | self.done.run.snapshots)
        check_writable(folder)
        replace(self.done, run=run).save(folder, request={"explorer": request})
        return folder


def _numbers(shown: Found, previous: Found | None) -> list[dict[str, Any]]:
    """The columns of the page's table: the result, its composite and the previous result, those that exist.

    ``target`` is d between result and target. It is None for a composite, whose known part is the target's own, and for
    a previous result of another task. The other numbers compare with the original; None without one. A previous result
    with another kind of original gets no column.
    """
    columns: list[dict[str, Any]] = []
    if previous and previous.choice.damaged != shown.choice.damaged:
        previous = None
    for found, name in ((shown, "result"), (shown, "composite"), (previous, "previous")):
        if found is None or (name == "composite" and found.done.composite is None):
            continue
        quality = found.compared(found.best if name == "previous" else name)
        comparable = name == "result" or (name == "previous" and found.choice.task() == shown.choice.task())
        columns.append(
            {
                "name": name,
                "target": found.done.run.distance if comparable else None,
                "original": found.done.original is not None,
                "found": found.found_in_words() if name == "result" else [],
                "pending": found.quality is None,
                "person": likeness(quality["identity_distance"]) if "identity_distance" in quality else None,
                **{each: quality.get(each) for each in ("distance", "psnr", "ssim", "identity_distance")},
            }
        )
    return columns


class Shelf:
    """The latest results of an exploration, the one that is shown, and the one shown before it."""

    def __init__(self) -> None:
        self.found: list[Found] = []
        self.shown: Found | None = None
        self.previous: Found | None = None
        self.saved: Path | None = None
        self._count = 0

    def add(self, found: Found) -> None:
        """Keep a result, and give it its number."""
        self._count += 1
        found.number = self._count
        self.found = [*self.found, found][-RESULTS_KEPT:]

    def of(self, choice: Choice, stopped: bool) -> Found | None:
        """The result for a choice: of a search that ended or, if ``stopped``, of the last one that was stopped."""
        alike = [found for found in self.found if found.choice.searched() == choice.searched()]
        finished = [found for found in alike if not found.done.stopped]
        return next(iter(finished or alike[-1:] if stopped else finished), None)

    def numbered(self, number: int) -> Found:
        """The result of that number; SettingError if it never existed, or is not kept any more."""
        for found in self.found:
            if found.number == number:
                return found
        raise SettingError(f"There is no result {number} any more: choose another one.")

    def show(self, found: Found) -> None:
        """Note that a result is shown."""
        self.leave(found.choice.photo)
        if self.shown is not found:
            self.previous, self.shown = self.shown, found

    def leave(self, photo: str) -> None:
        """Show nothing any more that belongs to another photo than this one."""
        if self.shown is not None and self.shown.choice.photo != photo:
            self.shown = self.previous = None

    @property
    def images(self) -> dict[str, Tensor | None]:
        """What is shown, and the result before it; without a result, nothing."""
        previous = {"previous": self.previous.done.best_image if self.previous else None}
        return self.shown.images | previous if self.shown else {}

    def pictures(self, size: int) -> dict[str, bytes]:
        """The same for the page, as JPEGs of at most ``size`` px."""
        if self.shown is None:
            return dict.fromkeys(("result", "composite", "previous"), b"")
        previous = self.previous.pictures(size)[self.previous.best] if self.previous else b""
        return self.shown.pictures(size) | {"previous": previous}

    @property
    def numbers(self) -> dict[str, list]:
        """For the page: the strip of results, and the table of numbers."""
        columns = [] if self.shown is None else _numbers(self.shown, self.previous)
        return {"history": [found.entry() for found in self.found], "numbers": columns}

    def archive(self) -> tuple[str, bytes]:
        """The last saved folder as a ZIP file: its name and its bytes; FileError if nothing was saved."""
        if self.saved is None:
            raise FileError("There is nothing to download yet: press Save.")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for path in sorted(self.saved.iterdir()):
                file.write(path, f"{self.saved.name}/{path.name}")
        return f"{self.saved.name}.zip", packed.getvalue()

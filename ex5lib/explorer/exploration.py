"""What an explorer does: it searches, cancels, remembers, aligns and saves, and writes what to show on a board.

The pages show the board, and send what their user does to ``Exploration.handle``.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ex5lib.errors import Ex5Error, SettingError, sentence
from ex5lib.explorer.board import EMPTY, Board, Worker, aside
from ex5lib.explorer.choices import DEGRADATIONS, RANGES, WEIGHTS, Choice, own_weight, packed, values_of
from ex5lib.explorer.searching import Searcher, Step, lens
from ex5lib.explorer.shelf import Found, Shelf
from ex5lib.explorer.subjects import MAX_BYTES, Subject, Upload, find_subjects
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import PICTURE_SIZE, jpeg, preview
from ex5lib.restoration.pipeline import Restoration
from ex5lib.samples import sample_names, sample_photo

_SECONDS_BETWEEN_FRAMES = 0.05
ACTIONS = (
    "change", "paint", "accept", "run", "stop", "another", "reset", "restore", "save", "choose", "upload", "pick",
    "look",
)  # fmt: skip


class Exploration:
    """Searches for what is chosen, in a thread of its own.

    Run starts a search. From then on, a changed choice cancels it and starts another, until Stop. A choice that has a
    result already shows it immediately.

    Args:
        choice: where the controls start.
        name: of the photo.
        out: where results are saved.

    Attributes:
        board: what the pages show.
        choice: what the controls say.
        shelf: the results that are kept.
        status: the status line.
    """

    # The one that may be searching: a second search would only slow both down.
    _active: ClassVar[weakref.ref["Exploration"] | None] = None

    def __init__(
        self,
        searcher: Searcher,
        face: AlignedFace,
        choice: Choice,
        *,
        name: str = "photo",
        out: str | Path = "results",
    ):
        self._searcher, self._out = searcher, Path(out)
        self.board, self.shelf, self.choice = Board(), Shelf(), choice
        self.status, self._error = "Press Run.", False
        # The worker and the pages' threads share everything here; hold the lock to change it.
        self._lock = threading.RLock()
        self._worker = Worker(self._lock, self._failed)
        self._live = self._stopping = False
        self._phase, self._heard, self._stroke, self._looking = "idle", 0, 0, ""
        self._stale: list[str] = []
        self._looked_at: tuple[float, float] | None = None  # with the magnifier
        self._close_up: Callable[[float, float], Tensor] | None = None  # of what is shown
        self._own = searcher.recipes[choice.recipe].latent_weight, ""
        self._measuring: threading.Thread | None = None
        self._upload, self._given = Upload(), Subject(face, name)
        self._subjects: list[Subject] = []
        about: dict[str, Any] = {"degradations": list(DEGRADATIONS), "ranges": RANGES, "weights": WEIGHTS}
        about |= {"recipes": list(searcher.recipes), "photos": sample_names(), "max_upload": MAX_BYTES}
        self.board.put(about=about, **EMPTY)
        self._take(self._given)
        self._first = self.choice

    @property
    def result(self) -> Restoration | None:
        """The one that is shown; None until there is one."""
        return self.shelf.shown.done if self.shelf.shown else None

    def begin(self, choice: Choice, done: Restoration | None = None) -> None:
        """Start over if the choice is another, and take in a result that exists already."""
        with self._lock:
            choice = replace(choice, photo=self._first.photo)
            if done is not None and any(found.done is done for found in self.shelf.found):
                done = None
            if choice != self._first or done is not None:
                self._cancel()
                self._first, self._subject, self.choice = choice, self._given, choice
                self._settle()
            if done is not None:
                found = Found(choice, self._subject, done, quality=done.metrics)
                self.shelf.add(found)
                self._show(found, "Found before")

    # What a page can ask for.

    def handle(self, message: dict, data: bytes = b"") -> None:
        """Do what a page asks for: {"do": one of ``ACTIONS``, …}. The status line says what goes wrong."""
        with self._lock:
            self._heard += 1
            try:
                arguments = dict(message) | ({"data": data} if data else {})
                name = arguments.pop("do")
                if name not in ACTIONS:
                    raise SettingError("The page asked for something unknown: reload it.")
                getattr(self, name)(**arguments)
            except Exception as error:  # otherwise it would end the page's connection
                self._complain(error)

    def greet(self) -> None:
        """Answer a page that wants to know whether the kernel is there."""
        self._say(self.status, self._error)

    def change(self, **values: object) -> None:
        """Change values of the choice, as ``Choice.changed`` takes them."""
        with self._lock:
            choice = self.choice.changed(**values)
            if choice == self.choice:
                self.greet()
            else:
                self.choice = choice
                self._settle()

    def paint(self, data: bytes, stroke: int = 0) -> None:
        """Take a painted mask, 256 × 256 bytes; the stroke's number tells its page which one is shown."""
        with self._lock:
            self._stroke = stroke
            self.change(hole=packed(data))

    def accept(self, damage: int) -> None:
        """Treat the photo as damaged in one of the ways that were found."""
        with self._lock:
            if not 0 <= damage < len(self._subject.damages):
                raise SettingError("Nothing of that kind was found in this photo: choose a degradation yourself.")
            self.change(**values_of(self._subject.damages[damage]))

    def run(self) -> None:
        """Search for what is chosen."""
        other = Exploration._active() if Exploration._active else None
        if other is not None and other is not self:
            other.stop("Stopped, because another explorer began to search.")
        Exploration._active = weakref.ref(self)
        with self._lock:
            self._live = True
            self._settle()

    def stop(self, why: str = "Stopped.") -> None:
        """End the search: the page says so immediately; the best result so far follows after the current step."""
        with self._lock:
            live, self._live = self._live, False
            if self._phase == "starting":
                self._cancel()
                self._say(f"{why} There was no step yet: press Run.")
            elif self._phase == "searching":
                self._stopping, self._phase = True, "finishing"
                self.board.put(progress={})
                self._say(f"{why} The best image so far is being made at full size …")
            elif live and self._phase == "idle":
                self._say("From now on, changes wait for Run.")
            else:
                self.greet()

    def another(self) -> None:
        """Search for another answer: one more face that fits the photo."""
        with self._lock:
            self.choice = replace(self.choice, answer=self.choice.answer + 1)
            self.run()

    def reset(self) -> None:
        """Put the controls back to where they started, for the current photo; results are kept."""
        with self._lock:
            self._live = False
            self.choice = replace(self._first, photo=self.choice.photo)
            self._settle()

    def restore(self, number: int) -> None:
        """Go back to an earlier result, its photo and its settings."""
        with self._lock:
            found = self.shelf.numbered(number)
            self._live = False
            self._cancel()
            self._subject, self.choice = found.subject, found.choice
            self._show_target()
            self._show(found, "Back to an earlier result")

    def save(self) -> None:
        """Save the result that is shown, with all figures and numbers, to a new folder."""
        with self._lock:
            if self.shelf.shown is None:
                raise SettingError("There is no result to save yet: press Run.")
            self._say("Saving …")
            aside(partial(self._save, self.shelf.shown), self._complain)

    def choose(self, name: str) -> None:
        """Take one of the sample photos."""
        self._look_for_faces(name, sample_photo(name))

    def upload(self, name: str, size: int, at: int, data: bytes = b"") -> None:
        """Take the next part of a photo's file of ``size`` bytes; this part begins at ``at``."""
        name, content = Path(name).name, self._upload.part(name, size, at, data)
        if content is None:
            self._say(f"Receiving {name}: {100 * (at + len(data)) // size} % …")
        else:
            self._look_for_faces(name, content)

    def pick(self, face: int) -> None:
        """Take another of the faces in the photo."""
        with self._lock:
            if not 0 <= face < len(self._subjects):
                raise SettingError("There is no such face: choose one of those that are shown.")
            self._cancel()
            self._take(self._subjects[face])

    def look(self, x: float | None = None, y: float | None = None) -> None:
        """Show what is around (x, y), in shares of the picture's side, at full resolution from now on; None ends it."""
        with self._lock:
            self._looked_at = None if x is None or y is None else (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))
            self._magnify()
            self.greet()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds each for the worker and the measuring; returns whether both are done."""
        done = self._worker.wait(timeout)
        if self._measuring is not None:
            self._measuring.join(timeout)
        return done and not (self._measuring and self._measuring.is_alive())

    # Consequences.

    def _say(self, text: str, error: bool = False) -> None:
        self.status, self._error = text, error
        more = {"status": text, "error": error, "phase": self._phase, "live": self._live, "heard": self._heard}
        more |= {"stale": self._stale, "name": self._subject.name, "stroke": self._stroke}
        more["face"] = self._subjects.index(self._subject) if self._subject in self._subjects else None
        more |= {"shown": self.shelf.shown.number if self.shelf.shown else None, "saved": self.shelf.saved is not None}
        wanted = asdict(self.choice).items()
        more["damages"] = [
            {"reason": each.reason, "accepted": values_of(each).items() <= wanted} for each in self._subject.damages
        ]
        self.board.put(state=more | self.choice.as_json(*self._own))

    def _cancel(self) -> None:
        self._worker.cancel()
        self._stopping, self._phase = False, "idle"
        self.board.put(progress={})

    def _settle(self) -> None:
        """After any change: cancel, show what the choice means, then show its result, search for it or wait for Run."""
        if self._phase == "aligning":  # the change is for the next photo
            if self._show_target():
                self._say(self._looking)
            return
        self._cancel()
        if not self._show_target():
            return
        if found := self.shelf.of(self.choice, stopped=not self._live):
            self._show(found, "Stopped before" if found.done.stopped else "Found before")
            return
        if self.shelf.shown and not self._live:  # instead of what a cancelled search left
            self.board.put(**self.shelf.pictures, curve=self.shelf.shown.curve)
            self._magnify(partial(lens, self.shelf.shown.done.best_image))
        self._stale = ["result", "composite"] if self.board.values["result"] else []
        if self._live:
            self._phase = "starting"
            self._worker.want(partial(self._search, self.choice))
            self._say("Searching …")
        else:
            self._say("Press Run." if self.result is None else "The settings have changed: press Run.")

    def _show_target(self) -> bool:
        """Show the photo and the target; returns whether the choice makes sense."""
        if self._subject not in self._subjects:  # they belong to another photo
            self._subjects = []
            self.board.put(faces=[])
        small = preview(self._subject.face.image)
        self.board.put(photo=jpeg(small, PICTURE_SIZE))
        try:
            target, mask = self.choice.applied(small)
            self._own = own_weight(self._searcher.plan(self.choice).latent_weights.tolist())
        except Ex5Error as error:
            self._stale = ["target", "result", "composite"]
            self._say(str(error), error=True)
            return False
        self.board.put(target=jpeg(target, PICTURE_SIZE), mask=mask)
        return True

    def _show(self, found: Found, how: str) -> None:
        """Show a result; numbers that are not computed yet will follow."""
        self.shelf.show(found)
        self._stale, self._phase = [], "idle"
        self.board.put(**self.shelf.pictures, **self.shelf.numbers, curve=found.curve, progress={})
        self._magnify(partial(lens, found.done.best_image))
        self._say(f"{how}: {found.search_in_words()}. {found.done.note}".strip())

    def _search(self, choice: Choice) -> None:
        """The worker's job: search for a choice, show the progress, and keep the result."""
        subject, next_frame = self._subject, 0.0

        def after_step(step: Step) -> bool:
            nonlocal next_frame
            with self._lock:
                self._worker.check()
                if not self._stopping and time.monotonic() >= next_frame:
                    self._show_step(step)
                    next_frame = time.monotonic() + _SECONDS_BETWEEN_FRAMES
                return self._stopping

        done, early = self._searcher.search(choice, subject.face, after_step)
        found = Found(choice, subject, done, early)
        with self._lock:
            self.shelf.add(found)
            self.board.put(**self.shelf.numbers)
            if not self._worker.superseded:
                self._stopping = False
                self._show(found, "Stopped, best so far" if done.stopped else "Done")
        # Numbers take seconds and cannot be cancelled, so the next search does not wait for them.
        self._measuring = aside(partial(self._measure, found), self._complain)

    def _measure(self, found: Found) -> None:
        """Beside the worker: compute a result's numbers."""
        found.measure()
        with self._lock:
            self.board.put(**self.shelf.numbers)

    def _show_step(self, step: Step) -> None:
        if self._phase == "starting":
            self._phase, self._stale = "searching", ["numbers"]
            self._say("Searching …")
        result, composite = (None if image is None else jpeg(image, PICTURE_SIZE) for image in step.images())
        shown = self.shelf.shown
        self.board.put(
            result=result, composite=composite or b"", previous=shown.pictures[shown.best] if shown else b"",
            progress=step.progress, curve=step.curve,
        )  # fmt: skip
        self._magnify(step.close_up)

    def _magnify(self, close_up: Callable[[float, float], Tensor] | None = None) -> None:
        """Draw the lens, if there is one; from now on it looks at ``close_up``, if that is given."""
        self._close_up = close_up or self._close_up
        if self._looked_at is None or self._close_up is None:
            self.board.put(lens=b"")
        else:
            self.board.put(lens=jpeg(self._close_up(*self._looked_at), PICTURE_SIZE))

    def _failed(self, error: Exception) -> None:
        """A job has failed: go back to what was shown before."""
        self._cancel()
        self._live = False
        self._settle()
        self._complain(error)

    def _complain(self, error: Exception) -> None:
        if isinstance(error, Ex5Error | OSError):
            text = sentence(error)
        else:
            text = f"This failed unexpectedly ({type(error).__name__}: {error})."
            logging.getLogger(__name__).error("An explorer failed.", exc_info=error)
        with self._lock:
            self._say(text, error=True)

    def _look_for_faces(self, name: str, source: bytes | Path) -> None:
        with self._lock:
            live = self._live
            self._cancel()
            self._live, self._phase, self._stale = live, "aligning", ["photo", "target", "result", "composite"]
            self._looking = f"Looking for a face in {name} …"
            self._worker.want(partial(self._align, name, source))
            self._say(self._looking)

    def _align(self, name: str, source: bytes | Path) -> None:
        """The worker's job: find the faces of a photo; the current photo stays if there are none."""
        found, faces, sure = find_subjects(name, source, self._searcher.G.img_resolution)
        with self._lock:
            self._worker.check()
            self._subjects = found
            self.board.put(faces=faces)
            self._live, self._phase = self._live and sure, "idle"
            self.choice = replace(self.choice, damaged=False)  # that was another photo
            self._take(found[0])
            if not sure:
                self._say(f"{name} may not show a face here: press Run if it does, or choose another photo.")

    def _take(self, subject: Subject) -> None:
        """Explore another face, with the same settings."""
        self._subject = subject
        self.choice = replace(self.choice, photo=subject.digest, answer=0)
        self._settle()

    def _save(self, found: Found) -> None:
        """Beside the worker: save a result to a folder of its own."""
        folder = found.save(self._out)
        with self._lock:
            self.shelf.saved = folder
            self._say(f"Saved in {folder}.")

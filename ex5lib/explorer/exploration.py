"""What an explorer does: it searches, cancels, remembers, aligns and saves, and writes what to show on a board.

The pages show the board, and send what their user does to ``Exploration.handle``.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ex5lib.errors import Ex5Error, SettingError, sentence
from ex5lib.explorer import messages
from ex5lib.explorer.board import EMPTY, Board, aside, search_alone
from ex5lib.explorer.choices import OFFERED, Choice, own_weight, packed
from ex5lib.explorer.runner import Runner
from ex5lib.explorer.screen import Screen
from ex5lib.explorer.searching import Searcher
from ex5lib.explorer.shelf import Found, Shelf
from ex5lib.explorer.subjects import MAX_BYTES, Subject, Upload, plain_name, subjects_in
from ex5lib.images.frames import preview
from ex5lib.restoration.pipeline import Restoration, crop_size
from ex5lib.samples import sample_names, sample_photo


class Exploration:
    """Searches for what is chosen, in a thread of its own.

    Run starts a search. From then on, a changed choice cancels it and starts another, until Stop. A choice that has a
    result already shows it immediately.

    Args:
        subjects: the faces of a photo; the first is explored.
        choice: where the controls start.
        out: where results are saved.

    Attributes:
        board: what the pages show.
        choice: what the controls say.
        shelf: the results that are kept.
        status: the status line.
    """

    def __init__(
        self,
        searcher: Searcher,
        subjects: Sequence[Subject],
        choice: Choice,
        *,
        out: str | Path = "results",
    ):
        self._searcher, self._out = searcher, Path(out)
        self.board, self.shelf, self.choice = Board(), Shelf(), choice
        self.status, self._error, self._field = "Press Run.", False, ""
        self._screen = Screen(self.board)
        # The searches and the pages' threads share everything here; hold the lock to change it.
        self._lock = threading.RLock()
        self._runner = Runner(
            searcher, self._lock, self._screen, self.shelf,
            began=self._began, ended=self._show, failed=self._failed, complain=self._complain,
        )  # fmt: skip
        self._live = False
        self._phase, self._heard, self._stroke, self._looking = "idle", 0, 0, ""
        self._stale: list[str] = []
        self._own = searcher.recipes[choice.recipe].latent_weight, ""
        self._upload, self._given = Upload(), list(subjects)
        about = {"recipes": list(searcher.recipes), "photos": sample_names(), "max_upload": MAX_BYTES}
        self.board.put(about=about | OFFERED, **EMPTY)
        self._subjects = self._given
        self._take(self._given[0])
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
                self._first, self._subjects = choice, self._given
                self._take(self._given[0], choice)
            if done is not None:
                found = Found(choice, self._subject, done, quality=done.metrics)
                self.shelf.add(found)
                self._show(found, "Found before")

    # What a page can ask for.

    def handle(self, message: object, data: bytes = b"") -> None:
        """Do what a page asks for, as ``messages.read`` takes it; what is refused changes only the status line."""
        with self._lock:
            self._heard += 1
            try:
                action, arguments = messages.read(message, data)
                getattr(self, action)(**arguments)
            except Exception as error:  # otherwise it would end the page's connection
                self._complain(error)

    def greet(self) -> None:
        """Answer a page that wants to know whether the kernel is there."""
        self._say(self.status, self._error, self._field)

    def change(self, **values: object) -> None:
        """Change values of the choice, as ``Choice.changed`` takes them."""
        with self._lock:
            choice = self.choice.changed(**values)
            self._searcher.recipe(choice)  # or there is none of that name
            self._choose(choice)

    def paint(self, data: bytes, stroke: int = 0) -> None:
        """Take a painted mask, 256 × 256 bytes; the stroke's number tells its page which one is shown."""
        with self._lock:
            choice = self.choice.changed(hole=packed(data))
            self._stroke = stroke
            self._choose(choice)

    def accept(self, damage: int, on: bool) -> None:
        """Treat the photo as damaged in one more of the ways that were found, or not in that one."""
        with self._lock:
            self._choose(self.choice.accepting(self._subject.damages, damage, on))

    def run(self) -> None:
        """Search for what is chosen."""
        search_alone(self)
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
                self._runner.stop()
                self._phase = "finishing"
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
            self.choice = self._first.of(self.choice.photo)
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
        name = plain_name(name)
        content = self._upload.part(name, size, at, data)
        if content is None:
            self._say(f"Receiving {name}: {100 * (at + len(data)) // size} % …")
        else:
            self._look_for_faces(name, content)

    def pick(self, face: int) -> None:
        """Take another of the faces in the photo."""
        with self._lock:
            if face >= len(self._subjects):
                raise SettingError("There is no such face: choose one of those that are shown.")
            self._cancel()
            self._take(self._subjects[face])

    def look(self, x: float | None, y: float | None) -> None:
        """Show what is around (x, y), in shares of the picture's side, at full resolution from now on; None ends it."""
        with self._lock:
            self._screen.look(x, y)
            self.greet()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds each for the search and its numbers; returns whether both are done."""
        return self._runner.wait(timeout)

    # Consequences.

    def _say(self, text: str, error: bool = False, field: str = "") -> None:
        """Put a text into the status line; an error may be about one field of the choice."""
        self.status, self._error, self._field = text, error, field
        more = {"status": text, "error": error, "field": field, "phase": self._phase, "live": self._live}
        more |= {"heard": self._heard, "stale": self._stale, "stroke": self._stroke}
        more |= self._subject.as_json(self.choice)
        more["face"] = self._subjects.index(self._subject) if self._subject in self._subjects else None
        more |= {"shown": self.shelf.shown.number if self.shelf.shown else None, "saved": self.shelf.saved is not None}
        self.board.put(state=more | self.choice.as_json(*self._own))

    def _choose(self, choice: Choice) -> None:
        if choice != self.choice or (self._error and self._phase in ("idle", "aligning")):
            self.choice = choice
            self._settle()
        elif self._error and self._phase != "finishing":
            self._say("Searching …")  # what was refused is corrected
        else:
            self.greet()

    def _cancel(self) -> None:
        self._runner.cancel()
        self._phase = "idle"
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
        if not self._live:  # instead of what a cancelled search left
            self._screen.results(self.shelf)
        self._stale = ["result", "composite"] if self.board.values["result"] else []
        if self._live:
            self._phase = "starting"
            self._runner.search(self.choice, self._subject)
            self._say("Searching …")
        else:
            self._say(self._subject.hint if self.result is None else "The settings have changed: press Run.")

    def _show_target(self) -> bool:
        """Show the photo and the target; returns whether the choice makes sense."""
        if self._subject not in self._subjects:  # they belong to another photo
            self._subjects = []
        self.board.put(faces=[each.offer for each in self._subjects if each.offer])
        small = preview(self._subject.face.image)
        self._screen.photo(small)
        try:
            target, mask = self.choice.applied(small)
            self._own = own_weight(self._searcher.plan(self.choice).latent_weights.tolist())
        except Ex5Error as error:
            self._stale = ["target", "result", "composite"]
            self._say(str(error), error=True)
            return False
        self._screen.target(target, mask)
        return True

    def _show(self, found: Found, how: str = "") -> None:
        """Show a result, of the search that just ended if nothing else is said; numbers may follow."""
        self.shelf.show(found)
        self._stale, self._phase = [], "idle"
        self._screen.results(self.shelf)
        how = how or ("Stopped, best so far" if found.done.stopped else "Done")
        self._say(f"{how}: {found.search_in_words()}. {found.done.note}".strip())

    def _began(self) -> None:
        """A search takes a step."""
        if self._phase == "starting":
            self._phase, self._stale = "searching", ["numbers"]
            self._say("Searching …")

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
            self._say(text, error=True, field=getattr(error, "setting", ""))

    def _look_for_faces(self, name: str, source: bytes | Path) -> None:
        with self._lock:
            self._cancel()
            self._phase, self._stale = "aligning", ["photo", "target", "result", "composite"]
            self._looking = f"Looking for a face in {name} …"
            self._runner.worker.want(partial(self._align, name, source))
            self._say(self._looking)

    def _align(self, name: str, source: bytes | Path) -> None:
        """The worker's job: find the faces of a photo; the current photo stays if there are none."""
        found = subjects_in(name, source, crop_size(self._searcher.G))
        with self._lock:
            self._runner.worker.check()
            self._live, self._phase = self._live and found[0].sure, "idle"
            self._subjects = found
            self._take(found[0])

    def _take(self, subject: Subject, choice: Choice | None = None) -> None:
        """Explore another face, with the same settings unless others are given."""
        self._subject = subject
        self.choice = (choice or self.choice).of(subject.digest)
        self.shelf.leave(subject.digest)
        self._screen.results(self.shelf)
        self._settle()

    def _save(self, found: Found) -> None:
        """Beside the worker: save a result to a folder of its own."""
        folder = found.save(self._out)
        with self._lock:
            self.shelf.saved = folder
            self._say(f"Saved in {folder}.")

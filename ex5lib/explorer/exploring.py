"""What follows from what a page asks an exploration for: what is searched, cancelled, kept, shown and said."""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ex5lib.degradations.known import Inpaint
from ex5lib.errors import Ex5Error
from ex5lib.explorer.board import EMPTY, Board, told
from ex5lib.explorer.choices import OFFERED, PAINT, Choice, hole_of, own_weight
from ex5lib.explorer.runner import Runner
from ex5lib.explorer.screen import Screen
from ex5lib.explorer.searching import Searcher
from ex5lib.explorer.shelf import Found, Shelf
from ex5lib.explorer.subjects import MAX_BYTES, Subject, Upload, mask_in, subjects_in
from ex5lib.images.frames import preview
from ex5lib.restoration.pipeline import crop_size
from ex5lib.restoration.restored import Restoration
from ex5lib.samples import sample_names


class Exploring:
    """The state of an exploration, and what follows from a change of it.

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
        self._live = False  # whether a changed choice starts a search
        self._follows = True  # whether that is so after Run
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

    def greet(self) -> None:
        """Answer a page that wants to know whether the kernel is there."""
        self._say(self.status, self._error, self._field)

    def _say(self, text: str, error: bool = False, field: str = "") -> None:
        """Put a text into the status line; an error may be about one field of the choice."""
        self.status, self._error, self._field = text, error, field
        more = {"status": text, "error": error, "field": field, "phase": self._phase, "live": self._live}
        more |= {"follows": self._follows, "unpainted": self.choice.unpainted}
        more |= {"durations": self._searcher.durations()}
        more |= {"heard": self._heard, "stale": self._stale, "stroke": self._stroke}
        more |= self._subject.as_json(self.choice)
        more["face"] = self._subjects.index(self._subject) if self._subject in self._subjects else None
        more |= {"shown": self.shelf.shown.number if self.shelf.shown else None, "saved": self.shelf.saved is not None}
        self.board.put(state=more | self.choice.as_json(*self._own))

    def _received(self, name: str, size: int, at: int, data: bytes) -> bytes | None:
        """The file after its last part; after another one, says how far it is."""
        content = self._upload.part(name, size, at, data)
        if content is None:
            self._say(f"Receiving {name}: {100 * (at + len(data)) // size} % …")
        return content

    def _take_mask(self, name: str, content: bytes) -> None:
        """Beside the worker: remove what a mask's file says."""
        subject = self._subject
        hole = hole_of(Inpaint(mask=mask_in(name, content, subject.face)))
        with self._lock:
            if self._subject is subject:
                self._choose(self.choice.changed(hole=hole))

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
        if not self._live or self.choice.unpainted:  # instead of what a cancelled search left
            self._screen.results(self.shelf)
        self._stale = ["result", "composite"] if self.board.values["result"] else []
        if self.choice.unpainted:
            self._say(PAINT)
        elif self._live:
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
        photo = preview(self._subject.face.image, self._screen.size)
        self._screen.photo(photo)
        try:
            target, mask = self.choice.applied(photo)
            if not self.choice.unpainted:
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
        with self._lock:
            self._say(told(error), error=True, field=getattr(error, "setting", ""))

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

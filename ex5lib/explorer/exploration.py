"""What a page can ask an explorer for. The pages show its board, and send what their user does to ``handle``."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.errors import SettingError
from ex5lib.explorer import messages
from ex5lib.explorer.board import aside, search_alone
from ex5lib.explorer.choices import PAINT, Choice
from ex5lib.explorer.exploring import Exploring
from ex5lib.explorer.shelf import Found
from ex5lib.explorer.subjects import Subject, plain_name
from ex5lib.images.frames import png
from ex5lib.images.masks import unpacked
from ex5lib.restoration.restored import Restoration
from ex5lib.samples import sample_photo


class Exploration(Exploring):
    """Searches for what is chosen, in a thread of its own.

    Run starts a search. From then on, a changed choice cancels it and starts another, until Stop, unless changes are
    told to wait for Run. A choice that has a result already shows it immediately. Arguments and attributes are those of
    ``Exploring``.
    """

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

    def change(self, **values: object) -> None:
        """Change values of the choice, as ``Choice.changed`` takes them."""
        with self._lock:
            choice = self.choice.changed(**values)
            self._searcher.recipe(choice)  # or there is none of that name
            self._choose(choice)

    def paint(self, data: bytes, stroke: int = 0) -> None:
        """Take a painted mask, 256 × 256 px, packed; the stroke's number tells its page which one is shown."""
        unpacked(data, REFERENCE_SIZE, REFERENCE_SIZE)  # or it is the page's fault, not that of the hole's fields
        with self._lock:
            choice = self.choice.changed(hole=data)
            self._stroke = stroke
            self._choose(choice)

    def mask(self, name: str, size: int, at: int, data: bytes = b"") -> None:
        """Take the next part of a mask's file, as in ``upload``."""
        name = plain_name(name)
        if (content := self._received(name, size, at, data)) is not None:
            self.greet()  # reading it may take a while
            aside(partial(self._take_mask, name, content), self._complain)

    def accept(self, damage: int, on: bool) -> None:
        """Treat the photo as damaged in one more of the ways that were found, or not in that one."""
        with self._lock:
            self._choose(self.choice.accepting(self._subject.damages, damage, on))

    def run(self) -> None:
        """Search for what is chosen; SettingError if something must be painted first."""
        self._search_for(self.choice)

    def follow(self, on: bool) -> None:
        """Let changes start searches after Run, until Stop, or let each wait for Run."""
        with self._lock:
            self._follows = on
            self._live = on and (self._live or self._phase in ("starting", "searching"))
            self.greet()

    def stop(self, why: str = "Stopped.") -> None:
        """End the search: the page says so immediately; the best result so far follows after the current step."""
        with self._lock:
            self._live = False
            if self._phase == "starting":
                self._cancel()
                self._say(f"{why} There was no step yet: press Run.")
            elif self._phase == "searching":
                self._runner.stop()
                self._phase = "finishing"
                self.board.put(progress={})
                self._say(f"{why} The best image so far is being made at full size …")
            else:
                self.greet()

    def another(self) -> None:
        """Search for another answer: one more face that fits the photo."""
        self._search_for(replace(self.choice, answer=self.choice.answer + 1))

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
        if (content := self._received(name, size, at, data)) is not None:
            self._look_for_faces(name, content)

    def explore(self, subjects: Sequence[Subject]) -> None:
        """Take another photo, whose faces were found elsewhere, unless something runs here."""
        with self._lock:
            if self._phase == "idle":
                self._live = False
                self._subjects = list(subjects)
                self._take(subjects[0])

    def pick(self, face: int) -> None:
        """Take another of the faces in the photo."""
        with self._lock:
            if face >= len(self._subjects):
                raise SettingError("There is no such face: choose one of those that are shown.")
            self._cancel()
            self._take(self._subjects[face])

    def look(self, x: float, y: float, side: float) -> None:
        """Show the part of this side around (x, y) at full resolution from now on; all are shares of the whole side."""
        with self._lock:
            if self._screen.look((x, y, side) if side < 1 else None):
                self._show_target()
                if self._phase not in ("starting", "searching", "finishing"):  # these draw the next step so
                    self._screen.results(self.shelf)
            self.greet()

    def download(self, picture: str | None = None) -> tuple[str, bytes]:
        """One of the pictures, as a PNG of full size, or else the last saved folder: the name of a file and its bytes.

        FileError, SettingError if there is none.
        """
        if picture is None:
            return self.shelf.archive()
        with self._lock:
            photo = self._subject.face.image.cpu()
            images = {"photo": photo, **self.shelf.images}
            image = self.choice.applied(photo)[0] if picture == "target" else images.get(picture)
        if image is None:
            raise SettingError("There is no such picture yet: press Run.")
        return f"{Path(self._subject.name).stem}-{picture}.png", png(image.clamp(-1, 1))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds each for the search and its numbers; returns whether both are done."""
        return self._runner.wait(timeout)

    def _search_for(self, choice: Choice) -> None:
        if choice.unpainted:
            raise SettingError(PAINT)
        search_alone(self)
        with self._lock:
            self.choice, self._live = choice, True
            self._settle()
            self._live = self._live and self._follows

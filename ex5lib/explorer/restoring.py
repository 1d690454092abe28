"""The page's first mode: a photo in, the whole photo with its faces restored out."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from ex5lib.errors import FileError, SettingError, unknown_name
from ex5lib.explorer import messages
from ex5lib.explorer.answers import SHOWN_SIZE, SUFFIXES, Answer, Answers, restored
from ex5lib.explorer.board import Board, Worker, aside, search_alone, told
from ex5lib.explorer.live import LivePhoto
from ex5lib.explorer.marks import Marks
from ex5lib.explorer.order import LABELS, Order, offered_recipes
from ex5lib.explorer.searching import Clock, Searcher, time_in_words
from ex5lib.explorer.subjects import MAX_BYTES, Subject, Upload, find_subjects, plain_name, read_mask, subjects_in
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import encoded, painted
from ex5lib.inversion.plan import plan_search
from ex5lib.restoration.enlargement import enlargement
from ex5lib.restoration.pipeline import crop_size


class Restoring:
    """Restores photos, one after the other, in a thread of its own; what ``ex5 restore`` does, for a page.

    Args:
        subjects: the faces of a photo to begin with, if any.
        recipe: the name of the one that is chosen first.
        seed: of the first answer.
        looked: called with the faces of another photo.

    Attributes:
        board: what the pages show.
        answers: the restored photos that are kept.
    """

    def __init__(
        self,
        searcher: Searcher,
        subjects: Sequence[Subject] = (),
        *,
        recipe: str = "fast",
        seed: int = 0,
        looked: Callable[[list[Subject]], None] = lambda _: None,
    ):
        self._searcher, self._first, self._looked = searcher, Order(recipe, seed), looked
        self.board = Board()
        self._lock = threading.RLock()
        self._worker = Worker(self._lock, self._failed)
        self._upload, self._heard, self._counted = Upload(), 0, 0
        self.board.put(about={"max_upload": MAX_BYTES}, live=b"", progress={})
        self._begin(subjects)

    def _begin(self, subjects: Sequence[Subject], name: str = "") -> None:
        """Take another photo, and drop everything of the former one."""
        self._subjects = list(subjects)
        self._name = subjects[0].name if subjects else name
        self._has_looked_twice = False
        self.order = replace(self._first, marks=Marks.none(subjects[0].face.photo) if subjects else Marks())
        self._stroke, self._stopping = 0, False
        self.answers = Answers()
        self._shown: Answer | None = None
        self._counted += 1
        self._photo_number = self._counted if subjects else 0
        self._before = encoded(subjects[0].face.photo, SHOWN_SIZE) if subjects else b""
        self.board.put(live=b"", progress={})
        self._rest()

    # What a page can ask for.

    def handle(self, message: object, data: bytes = b"") -> None:
        """Do what a page asks for, as ``messages.RESTORING`` says; what is refused changes only the status line."""
        with self._lock:
            self._heard += 1
            try:
                action, arguments = messages.read(message, data, messages.RESTORING)
                getattr(self, action)(**arguments)
            except Exception as error:  # otherwise it would end the page's connection
                self._complain(error)

    def upload(self, name: str, size: int, at: int, data: bytes = b"") -> None:
        """Take the next part of a photo's file of ``size`` bytes; this part begins at ``at``."""
        name = plain_name(name)
        content = self._upload.part(name, size, at, data)
        with self._lock:
            if at == 0:
                self._worker.cancel()
                self._begin([], name)
            self._phase = "looking"
            if content is None:
                self._say(f"Receiving {name}: {100 * (at + len(data)) // size} % …")
            else:
                self._say("Looking for faces, and for what is wrong with them …")
                self._worker.want(lambda: self._look(name, content))

    def switch(self, damage: str, on: bool) -> None:
        """Treat the photo for a kind of damage, or not."""
        with self._lock:
            self._check_rest()
            self.order = self.order.switching(damage, on, self._subjects)
            self._rest()

    def paint(self, data: bytes, photo: int, stroke: int = 0) -> None:
        """Take what is marked by hand on the photo of that number; a page learns of a refused stroke by its number."""
        with self._lock:
            if photo == self._photo_number:
                marks, self._stroke = self.order.marks.painted(data), stroke
            self._check_rest(photo)
            self.order = replace(self.order, marks=marks)
            self._rest()

    def mask(self, name: str, size: int, at: int, data: bytes = b"") -> None:
        """Take the next part of a file that says what is marked, as in ``upload``."""
        name = plain_name(name)
        with self._lock:
            self._check_rest(self._photo_number)
            content = self._upload.part(name, size, at, data)
            self._say(f"Receiving {name} …")
            if content is not None:
                aside(partial(self._read_mask, name, content, self._photo_number), self._complain)

    def pick(self, face: int | None) -> None:
        """Restore another of the faces; None: all that are certain, for which the photo is searched once more."""
        with self._lock:
            self._check_rest()
            if (face or 0) >= len(self._subjects):
                raise SettingError("There is no such face: choose one of those that are shown.")
            if face is None and not self._has_looked_twice:
                self._phase = "looking"
                self._say("Looking for all faces, also for damaged ones …")
                self._worker.want(self._look_again)
                return
            self.order = self.order.picking(face)
            self._rest()

    def take(self, recipe: str) -> None:
        """Choose a recipe."""
        if recipe not in self._recipes():
            raise unknown_name("recipe", recipe, self._recipes())
        with self._lock:
            self._check_rest()
            self.order = replace(self.order, recipe=recipe)
            self._first = replace(self._first, recipe=recipe)  # also for the next photo
            self._rest()

    def restore(self) -> None:
        """Restore what is chosen, or show it if it has been restored already."""
        self._start(self.order)

    def another(self) -> None:
        """Search for another answer, with the next seed."""
        self._start(replace(self.order, seed=self.order.seed + 1))

    def stop(self, why: str = "Stopped.") -> None:
        """End the search after the current step, and keep the best result so far."""
        with self._lock:
            if self._phase == "searching":
                self._stopping, self._phase = True, "finishing"
                self._say(f"{why} The best face so far is being put into the photo …")
            else:
                self._say(self._status, self._error)

    def show(self, number: int) -> None:
        """Show an earlier answer."""
        with self._lock:
            self._check_rest()
            self._shown = self.answers.get(str(number))
            self.order = self._shown.order
            self._rest()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until nothing is searched or looked for; returns whether that is so."""
        return self._worker.wait(timeout)

    # What a page can fetch.

    def picture(self, name: str) -> bytes:
        """A JPEG of the photo "before" or of an answer, by its number; or, as a PNG, the "damage" that was found.

        FileError if there is none.
        """
        with self._lock:
            if name == "before" and self._before:
                return self._before
            holes, marks = self.order.holes(self._subjects), self.order.marks
            answer = None if name == "damage" and holes else self.answers.get(name)
        if answer is not None:
            return answer.picture
        return painted(torch.stack([marks.found(face, hole) for face, hole in holes]).amax(dim=0))

    def download(self, suffix: str) -> tuple[str, bytes]:
        """The answer that is shown as a file, "png" or "jpg": its name and its content; FileError if there is none."""
        if self._shown is None or suffix not in SUFFIXES:
            raise FileError("There is no restored photo to download yet: press Restore.")
        return f"{Path(self._name).stem}-restored.{suffix}", self._shown.file(suffix)

    # Consequences.

    def _recipes(self) -> list[str]:
        """The names of those that a person may want, and of the one that was asked for."""
        return [name for name in self._searcher.recipes if name in (*LABELS, self._first.recipe)]

    def _check_rest(self, photo: int | None = None) -> None:
        """Check that nothing runs and, if its number is given, that this photo is still there."""
        if self._phase in ("searching", "finishing"):
            raise SettingError("The search is still running: press Stop first.")
        if self._phase == "looking":
            raise SettingError("The faces are still being looked for: wait a moment.")
        if photo is not None and not self._subjects:
            raise SettingError("There is no photo yet: drop, paste or choose one.")
        if photo not in (None, self._photo_number):
            raise SettingError("Another photo has come meanwhile: mark the damage in that one.")

    def _start(self, order: Order) -> None:
        """Search for what an order asks for, or show it if it has been found already."""
        with self._lock:
            self._check_rest(self._photo_number)
            if (answer := self.answers.of(order)) is not None:
                self.show(answer.number)
                return
            work = order.work(self._subjects)
            search_alone(self)
            self.order, self._phase, self._stopping = order, "searching", False
            self._say("Searching for the face …" if len(work) == 1 else f"Searching for {len(work)} faces …")
            self._worker.want(lambda: self._search(work, order))

    def _rest(self) -> None:
        """Nothing runs: say what can be done next."""
        self._phase = "ready" if self._subjects else "empty"
        if not self._subjects:
            self._say("")
        elif self._shown is not None and self._shown.order == self.order:
            self._say("Stopped: this is the best so far." if self._shown.stopped else "Done: drag the line to compare.")
        elif self._shown is not None:
            self._say("This is the answer without your last changes: press Restore.")
        elif not self._subjects[0].sure:
            self._say("It is not certain that this is a face: press Restore if it is.")
        elif not self.order.has_reason(self._subjects):
            self._say("No damage was found. Switch on what you see, or restore the face as it is.")
        else:
            self._say("Press Restore.")

    def _say(self, text: str, error: bool = False) -> None:
        self._status, self._error = text, error
        order, shown = self.order, self._shown
        height, width = self._subjects[0].face.photo.shape[2:] if self._subjects else (0, 0)
        state = {
            "phase": self._phase, "status": text, "error": error, "heard": self._heard, "name": self._name,
            "width": width, "height": height, "photo": self._photo_number, "face": order.face,
            "faces": [each.outlined(i) for i, each in enumerate(self._subjects)],
            "sure": sum(subject.sure for subject in self._subjects),
            "switches": order.switches(self._subjects),
            "recipes": offered_recipes(self._recipes(), self._searcher.durations()), "recipe": order.recipe,
            "marked": bool(order.marks), "stroke": self._stroke, "mask_size": [order.marks.width, order.marks.height],
            "found_mask": f"{self._photo_number} {order.face}" if order.holes(self._subjects) else "",
            "answers": self.answers.numbers, "shown": shown.number if shown else None,
            "settled": shown is not None and shown.order == order and not shown.stopped,
            "alike": shown.alike if shown else [], "found": shown.found if shown else [],
            "note": shown.note if shown else "",
        }  # fmt: skip
        self.board.put(state=state, mask=order.marks.bits)

    def _complain(self, error: Exception) -> None:
        with self._lock:
            self._say(told(error), error=True)

    def _failed(self, error: Exception) -> None:
        """The worker's job has failed."""
        self.board.put(live=b"", progress={})
        self._rest()
        self._complain(error)

    def _look(self, name: str, content: bytes) -> None:
        """The worker's job: find the faces in a photo, and what is wrong with them."""
        subjects = subjects_in(name, content, crop_size(self._searcher.G))
        with self._lock:
            self._worker.check()
            self._begin(subjects)
        self._looked(subjects)

    def _read_mask(self, name: str, content: bytes, photo: int) -> None:
        """Beside the worker: mark what a mask's file says."""
        mask = read_mask(name, content)
        with self._lock:
            self._check_rest(photo)
            face = self.order.chosen(self._subjects)[0].face
            self.order = replace(self.order, marks=self.order.marks.read(mask, face))
            self._stroke += 1
            self._rest()

    def _look_again(self) -> None:
        """The worker's job: find all faces of the photo, as with --all-faces; those known already stay the first."""
        first = self._subjects[0]
        found = find_subjects(first.name, first.face.photo, crop_size(self._searcher.G), every=True)
        kept = [replace(each, face=replace(each.face, extras=first.face.extras)) for each in found]
        with self._lock:
            self._worker.check()
            self._subjects, self._has_looked_twice, self.order = kept, True, self.order.picking(None)
            self._rest()

    def _search(self, work: Sequence[tuple[AlignedFace, nn.Module]], order: Order) -> None:
        """The worker's job: search for one face after the other, show them in the photo, and keep the whole."""
        recipe, found = self._searcher.recipes[order.recipe], []
        live = LivePhoto(work[0][0].photo, max(enlargement(face, D) for face, D in work))
        for i, (face, D) in enumerate(work):
            clock = self._searcher.clock(plan_search(recipe, self._searcher.G, D).stages)
            live.begin(face, D)
            after_step = partial(self._after_step, live, clock, i, len(work))
            statistics = self._searcher.statistics(recipe, order.seed)
            done = self._searcher.restore(
                face, D, recipe, already_degraded=True, seed=order.seed, statistics=statistics, callback=after_step
            )
            found.append(done)
            live.end(done)
            if self._stopping:
                break
        with self._lock:
            self._worker.check()
            self._phase = "finishing"
            self._say("The restored face is being put into the photo …")
        answer = restored(found, order, early=self._stopping)
        with self._lock:
            self._worker.check()
            self._counted += 1
            self._shown = self.answers.add(answer, self._counted)
            self._stopping = False
            self.board.put(live=b"", progress={})
            self._rest()

    def _after_step(self, live: LivePhoto, clock: Clock, index: int, faces: int, report: dict) -> bool:
        """Show a step; returns whether to stop."""
        clock.step(report["size"], report["seconds"])
        with self._lock:
            self._worker.check()
            left = f", about {time_in_words(clock.seconds_left)} left" if clock.seconds_left is not None else ""
            which = f"Face {index + 1} of {faces}: step" if faces > 1 else "Step"
            words = f"{which} {report['step'] + 1} of {report['num_steps']}{left}"
            self.board.put(progress={"share": (index + clock.share) / faces, "words": words})
        if not self._stopping and (picture := live.step(report["image"])):
            with self._lock:
                self._worker.check()
                self.board.put(live=picture)
        return self._stopping

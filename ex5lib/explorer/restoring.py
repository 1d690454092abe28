"""The page's first mode: a photo in, the whole photo with its faces restored out."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from ex5lib.degradations.known import Identity
from ex5lib.errors import FileError, SettingError, unknown_name
from ex5lib.explorer import messages
from ex5lib.explorer.answers import LABELS, SHOWN_SIZE, SUFFIXES, Answer, Answers, restored
from ex5lib.explorer.board import Board, Worker, search_alone, told
from ex5lib.explorer.damage import BY_NAME, offered_switches, suffered
from ex5lib.explorer.live import LivePhoto
from ex5lib.explorer.searching import Clock, Searcher, time_in_words
from ex5lib.explorer.subjects import MAX_BYTES, Subject, Upload, find_subjects, plain_name, subjects_in
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import encoded
from ex5lib.inversion.plan import plan_search
from ex5lib.restoration.diagnosis import all_of
from ex5lib.restoration.enlargement import enlargement
from ex5lib.restoration.pipeline import crop_size


class Restoring:
    """Restores photos, one after the other, in a thread of its own; what ``ex5 restore`` does, for a page.

    Args:
        subjects: the faces of a photo to begin with, if any.
        recipe: the name of the one that is chosen first.
        seed: of the first answer.

    Attributes:
        board: what the pages show.
        answers: the restored photos that are kept.
    """

    def __init__(self, searcher: Searcher, subjects: Sequence[Subject] = (), *, recipe: str = "fast", seed: int = 0):
        self._searcher, self._recipe, self._first_seed = searcher, recipe, seed
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
        self._face: int | None = 0
        self._has_looked_twice = False
        self._switched: dict[str, bool] = {}
        self._seed, self._stopping = self._first_seed, False
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
        if damage not in BY_NAME:
            raise unknown_name("damage", damage, BY_NAME)
        with self._lock:
            self._check_rest()
            self._switched[damage] = on
            if on and (other := BY_NAME[damage][1].excludes):
                self._switched[other] = False
            self._rest()

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
            self._face, self._switched = face, {}
            self._rest()

    def take(self, recipe: str) -> None:
        """Choose a recipe."""
        if recipe not in self._recipes():
            raise unknown_name("recipe", recipe, self._recipes())
        with self._lock:
            self._check_rest()
            self._recipe = recipe
            self._rest()

    def restore(self) -> None:
        """Restore what is chosen, or show it if it has been restored already."""
        with self._lock:
            self._check_rest()
            if (answer := self.answers.of(self._settings())) is not None:
                self.show(answer.number)
                return
            work = self._work()
            search_alone(self)
            self._phase, self._stopping = "searching", False
            self._say("Searching for the face …" if len(work) == 1 else f"Searching for {len(work)} faces …")
            settings = self._settings()
            self._worker.want(lambda: self._search(work, settings))

    def another(self) -> None:
        """Search for another answer, with the next seed."""
        with self._lock:
            self._check_rest()
            self._seed += 1
            self.restore()

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
            self._face, switched, self._recipe, self._seed = self._shown.settings
            self._switched = dict(switched)
            self._rest()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until nothing is searched or looked for; returns whether that is so."""
        return self._worker.wait(timeout)

    # What a page can fetch.

    def picture(self, name: str) -> bytes:
        """A JPEG of the photo "before" or of the answer with that number; FileError if there is none."""
        with self._lock:
            if name == "before" and self._before:
                return self._before
            answer = self.answers.get(name)
        return answer.picture

    def download(self, suffix: str) -> tuple[str, bytes]:
        """The answer that is shown as a file, "png" or "jpg": its name and its content; FileError if there is none."""
        if self._shown is None or suffix not in SUFFIXES:
            raise FileError("There is no restored photo to download yet: press Restore.")
        return f"{Path(self._name).stem}-restored.{suffix}", self._shown.file(suffix)

    # Consequences.

    def _recipes(self) -> list[str]:
        """The names of those that a person may want, and of the one that was asked for."""
        return [name for name in self._searcher.recipes if name in (*LABELS, self._recipe)]

    def _chosen(self) -> list[Subject]:
        if self._face is not None:
            return self._subjects[self._face : self._face + 1]
        return [subject for subject in self._subjects if subject.sure] or self._subjects[:1]

    def _settings(self) -> tuple:
        return self._face, tuple(sorted(self._switched.items())), self._recipe, self._seed

    def _work(self) -> list[tuple[AlignedFace, nn.Module]]:
        """The faces to search for, each with its degradation; SettingError if there is nothing to do."""
        if not self._subjects:
            raise SettingError("There is no photo yet: drop, paste or choose one.")
        work = [(each.face, all_of(suffered(each.damages, self._switched))) for each in self._chosen()]
        if self._face is None:  # as with --all-faces, sound faces are left alone
            work = [(face, D) for face, D in work if D is not None]
            if not work:
                raise SettingError("No damage was found in these faces: switch on what you see.")
        return [(face, D or Identity()) for face, D in work]

    def _check_rest(self) -> None:
        if self._phase in ("searching", "finishing"):
            raise SettingError("The search is still running: press Stop first.")
        if self._phase == "looking":
            raise SettingError("The faces are still being looked for: wait a moment.")

    def _rest(self) -> None:
        """Nothing runs: say what can be done next."""
        self._phase = "ready" if self._subjects else "empty"
        if not self._subjects:
            self._say("")
        elif self._shown is not None and self._shown.settings == self._settings():
            self._say("Stopped: this is the best so far." if self._shown.stopped else "Done: drag the line to compare.")
        elif not self._subjects[0].sure:
            self._say("It is not certain that this is a face: press Restore if it is.")
        elif not any(suffered(each.damages, self._switched) for each in self._chosen()):
            self._say("No damage was found. Switch on what you see, or restore the face as it is.")
        else:
            self._say("Press Restore.")

    def _say(self, text: str, error: bool = False) -> None:
        self._status, self._error = text, error
        chosen, shown = self._chosen(), self._shown
        took = self._searcher.durations()
        recipes = [
            {"name": name, "label": LABELS.get(name, name), "time": f"about {took[name]} a face" if took else ""}
            for name in self._recipes()
        ]
        height, width = self._subjects[0].face.photo.shape[2:] if self._subjects else (0, 0)
        state = {
            "phase": self._phase, "status": text, "error": error, "heard": self._heard, "name": self._name,
            "width": width, "height": height, "photo": self._photo_number, "face": self._face,
            "faces": [_offer(each, i) for i, each in enumerate(self._subjects)],
            "sure": sum(subject.sure for subject in self._subjects),
            "switches": offered_switches([each.damages for each in chosen], self._switched) if chosen else [],
            "recipes": recipes, "recipe": self._recipe,
            "answers": self.answers.numbers, "shown": shown.number if shown else None,
            "settled": shown is not None and shown.settings == self._settings() and not shown.stopped,
            "alike": shown.alike if shown else [], "found": shown.found if shown else [],
            "note": shown.note if shown else "",
        }  # fmt: skip
        self.board.put(state=state)

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

    def _look_again(self) -> None:
        """The worker's job: find all faces of the photo, as with --all-faces; those known already stay the first."""
        first = self._subjects[0]
        found = find_subjects(first.name, first.face.photo, crop_size(self._searcher.G), every=True)
        kept = [replace(each, face=replace(each.face, extras=first.face.extras)) for each in found]
        with self._lock:
            self._worker.check()
            self._subjects, self._has_looked_twice, self._face, self._switched = kept, True, None, {}
            self._rest()

    def _search(self, work: Sequence[tuple[AlignedFace, nn.Module]], settings: tuple) -> None:
        """The worker's job: search for one face after the other, show them in the photo, and keep the whole."""
        *_, name, seed = settings
        recipe, found = self._searcher.recipes[name], []
        live = LivePhoto(work[0][0].photo, max(enlargement(face, D) for face, D in work))
        for i, (face, D) in enumerate(work):
            clock = self._searcher.clock(plan_search(recipe, self._searcher.G, D).stages)
            live.begin(face, D)
            after_step = partial(self._after_step, live, clock, i, len(work))
            statistics = self._searcher.statistics(recipe, seed)
            done = self._searcher.restore(
                face, D, recipe, already_degraded=True, seed=seed, statistics=statistics, callback=after_step
            )
            found.append(done)
            live.end(done)
            if self._stopping:
                break
        with self._lock:
            self._worker.check()
            self._phase = "finishing"
            self._say("The restored face is being put into the photo …")
        answer = restored(found, settings, early=self._stopping)
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


def _offer(subject: Subject, index: int) -> dict:
    """A face for a page to offer: a picture, words, and its corners in shares of the photo's width and height."""
    face = subject.face
    height, width = face.photo.shape[2:]
    corners = ((face.quad + 0.5) / (width, height)).round(5).tolist()
    picture = subject.offer["picture"] if subject.offer else ""
    sure = subject.offer["sure"] if subject.offer else subject.sure
    return {"picture": picture, "words": f"Face {index + 1}", "sure": sure, "corners": corners}

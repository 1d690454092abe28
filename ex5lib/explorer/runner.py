"""An exploration's searches: they run one at a time, beside the pages, show what they find, and can be cancelled."""

import threading
import time
from collections.abc import Callable
from functools import partial

from ex5lib.explorer.board import Worker, aside
from ex5lib.explorer.choices import Choice
from ex5lib.explorer.screen import Screen
from ex5lib.explorer.searching import Searcher, Step
from ex5lib.explorer.shelf import Found, Shelf
from ex5lib.explorer.subjects import Subject

_SECONDS_BETWEEN_FRAMES = 0.05


class Runner:
    """Runs the search that was asked for last, and puts its result on the shelf.

    Args:
        lock: guards everything that the search and the pages share; the four functions are called with it held.
        began: called before each step that is drawn.
        ended: called with the result, unless another search is wanted by then.
        failed: called with what went wrong in a search or another job of the worker.
        complain: called with what went wrong beside the worker.

    Attributes:
        worker: does other jobs, too, which a search must not run beside.
    """

    def __init__(
        self,
        searcher: Searcher,
        lock: threading.RLock,
        screen: Screen,
        shelf: Shelf,
        *,
        began: Callable[[], None],
        ended: Callable[[Found], None],
        failed: Callable[[Exception], None],
        complain: Callable[[Exception], None],
    ):
        self._searcher, self._lock, self._screen, self._shelf = searcher, lock, screen, shelf
        self._began, self._ended, self._complain = began, ended, complain
        self.worker = Worker(lock, failed)
        self._stopping = False
        self._measuring: threading.Thread | None = None

    def search(self, choice: Choice, subject: Subject) -> None:
        """Begin a search."""
        self.worker.want(partial(self._search, choice, subject))

    def cancel(self) -> None:
        """Drop the search or whatever else the worker does."""
        self.worker.cancel()
        self._stopping = False

    def stop(self) -> None:
        """End the search after the current step, and keep its best result."""
        self._stopping = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds each for the worker and the measuring; returns whether both are done."""
        done = self.worker.wait(timeout)
        if self._measuring is not None:
            self._measuring.join(timeout)
        return done and not (self._measuring and self._measuring.is_alive())

    def _search(self, choice: Choice, subject: Subject) -> None:
        """The worker's job: search, show the progress, and keep the result."""
        next_frame = 0.0

        def after_step(step: Step) -> bool:
            nonlocal next_frame
            with self._lock:
                self.worker.check()
                if not self._stopping and time.monotonic() >= next_frame:
                    self._began()
                    self._screen.step(step, self._shelf)
                    next_frame = time.monotonic() + _SECONDS_BETWEEN_FRAMES
                return self._stopping

        done, early = self._searcher.search(choice, subject.face, after_step)
        found = Found(choice, subject, done, early)
        with self._lock:
            self._shelf.add(found)
            self._screen.numbers(self._shelf)
            if not self.worker.superseded:
                self._stopping = False
                self._ended(found)
        # Numbers take seconds and cannot be cancelled, so the next search does not wait for them.
        self._measuring = aside(partial(self._measure, found), self._complain)

    def _measure(self, found: Found) -> None:
        """Beside the worker: compute a result's numbers."""
        found.measure()
        with self._lock:
            self._screen.numbers(self._shelf)

"""What an exploration is built on: a board of values for pages to show, and a worker that can be interrupted."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from ex5lib.errors import Ex5Error, sentence

_SECONDS_AT_REST = 0.15  # a dragged slider sends a value every few milliseconds; only the last one counts

# What an explorer's page shows at first.
EMPTY: dict[str, Any] = {
    **dict.fromkeys(("photo", "target", "result", "composite", "previous", "mask"), b""),
    **{name: [] for name in ("history", "faces", "numbers")},
    **{name: {} for name in ("progress", "curve")},
}


class Board:
    """Named values, JSON-ready or bytes. Pages ask what has changed since they last looked, or are told immediately."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.listeners: list[Callable[[dict], None]] = []  # called with what has changed, by the thread that changed it
        self._versions: dict[str, int] = {}
        self._version = 0
        self._changed = threading.Condition()

    def put(self, **values: Any) -> None:
        """Change values."""
        with self._changed:
            new = {name: value for name, value in values.items() if self.values.get(name) != value}
            self.values |= new
            self._version += bool(new)
            self._versions |= dict.fromkeys(new, self._version)
            self._changed.notify_all()
        if new:
            for listener in list(self.listeners):
                listener(new)

    def since(self, version: int, timeout: float = 0) -> tuple[int, dict[str, Any]]:
        """The current version, and the changes since an earlier one; waits ``timeout`` seconds for a change."""
        with self._changed:
            if version > self._version:  # of an earlier process
                version = 0
            self._changed.wait_for(lambda: self._version > version, timeout)
            return self._version, {name: self.values[name] for name, at in self._versions.items() if at > version}


class SupersededError(Exception):
    """Raised in a job that is no longer wanted."""


class Worker:
    """A thread that does the job asked for last; asking for another one, or none, cancels it.

    Args:
        lock: guards everything that jobs and pages share.
        failed: called, with the lock held, with the exception of a job that is still wanted.
    """

    def __init__(self, lock: threading.RLock, failed: Callable[[Exception], None]):
        self._lock, self._failed = lock, failed
        self.superseded = False  # whether the running job is no longer wanted
        self._wanted: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    def want(self, job: Callable[[], None]) -> None:
        """Do a job, which may show something as long as it passes ``check``."""
        with self._lock:
            self.cancel()
            self._wanted = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="ex5lib explorer", daemon=True)
                self._thread.start()

    def cancel(self) -> None:
        """Drop the job; if it is running, it raises SupersededError at its next ``check``."""
        with self._lock:
            self._wanted, self.superseded = None, True

    def check(self) -> None:
        """Raise SupersededError in a job that is no longer wanted."""
        if self.superseded:
            raise SupersededError

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until the jobs are done; returns whether they are."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._wanted is None:
                    self._thread = None
                    return
                job, self._wanted, self.superseded = self._wanted, None, False
            time.sleep(_SECONDS_AT_REST)
            try:
                self.check()
                job()
            except SupersededError:
                pass
            except Exception as error:  # otherwise it would end the worker
                with self._lock:
                    if not self.superseded:
                        self._failed(error)


def _log(error: Exception) -> None:
    logging.getLogger(__name__).error("An explorer failed.", exc_info=error)


def told(error: Exception) -> str:
    """An error in words for a page; one that nobody expected is logged as well."""
    if isinstance(error, Ex5Error | OSError):
        return sentence(error)
    _log(error)
    return f"This failed unexpectedly ({type(error).__name__}: {error})."


_searching: weakref.ref | None = None  # who may be


def search_alone(one: Any) -> None:
    """Before a search: end everybody else's by ``stop(why)``, for a second one would only slow both down."""
    global _searching
    other = _searching() if _searching else None
    if other is not None and other is not one:
        # Beside, for both may be locked, and each would wait for the other.
        aside(lambda: other.stop("Stopped, because another search began."), _log)
    _searching = weakref.ref(one)


def aside(job: Callable[[], None], failed: Callable[[Exception], None]) -> threading.Thread:
    """Do a job in a thread of its own, beside the worker; ``failed`` gets its exception."""

    def run() -> None:
        try:
            job()
        except Exception as error:
            failed(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread

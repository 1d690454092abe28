"""Marking a class: attempts side by side, each with its limits, until every check of every student has an outcome."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import psutil

from scripts.marking.attempt import Outcome, Prepared, attempt
from scripts.marking.scheme import Plan

_LOOK = 0.5  # seconds between two looks at a cell that has had its time by the clock
_IDLE = 0.002  # of the clock's time: who uses less of the processor waits for something
_MOST_DEATHS = 6  # of one notebook, each of which may take its whole time


@dataclass(frozen=True)
class Limits:
    """What a student's code may take."""

    seconds: float = 120  # of the processor, for one cell
    gigabytes: float = 4  # more than the set-up
    jobs: int = 1  # attempts at a time


@dataclass
class Run:
    """One student's notebook on its way: what came of each step."""

    plan: Plan
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    fatal: set[int] = field(default_factory=set)  # the steps that ended their process


class _Attempt:
    """A running process, and what it reports."""

    def __init__(self, prepared: Prepared, run: Run, limits: Limits, data: Path):
        self.run, self.limits = run, limits
        self.folder = Path(tempfile.mkdtemp(prefix="marking-"))
        shutil.copytree(data, self.folder / "data")  # a copy, so that nobody changes what the next one gets
        fork = multiprocessing.get_context("fork")
        self.reports, sending = fork.Pipe(duplex=False)
        # After a death everything runs again but what was fatal, and the checks that are done.
        steps = run.plan.steps
        done = {i: each.said for i, each in run.outcomes.items() if steps[i].kind == "check" or i in run.fatal}
        self.process = fork.Process(
            target=attempt,
            args=(prepared, run.plan, done, limits.gigabytes, self.folder, sending.send_bytes),
            daemon=True,
        )
        self.process.start()
        sending.close()
        self.step: int | None = None  # the one that runs
        self.began, self.used_before = time.monotonic(), 0.0

    @property
    def waited(self) -> float:
        """Seconds since its last report."""
        return time.monotonic() - self.began

    @property
    def used(self) -> float:
        """Seconds of processor time so far."""
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(self.process.pid).cpu_times()
            return times.user + times.system
        return 0

    @property
    def is_over(self) -> bool:
        """Whether this cell has had its time, or only waits. On a busy machine the clock alone would be unfair."""
        used = self.used - self.used_before
        return self.waited > self.limits.seconds and (used > self.limits.seconds or used < _IDLE * self.waited)

    def receive(self) -> bool:
        """Take one report; returns whether there may be more."""
        try:
            report = json.loads(self.reports.recv_bytes())  # not recv, which unpickles
        except (EOFError, OSError, ValueError):
            self.died("it ended the process that ran it")
            return False
        if report is None:
            return False
        if isinstance(report, dict):
            self.run.outcomes[self.step], self.step = Outcome(**report), None
        else:
            self.step = report
        self.began, self.used_before = time.monotonic(), self.used
        return True

    def died(self, reason: str) -> None:
        """Record what ended the process: the step that runs, or else the next one."""
        run = self.run
        unknown = [i for i in range(len(run.plan.steps)) if i not in run.outcomes]
        for i in unknown[:1] if self.step is None else [self.step]:
            step = run.plan.steps[i]
            there = f"cell {int(step.cell)}: {reason}"
            run.outcomes[i] = Outcome(False, there if step.kind == "own" else reason, [there])
            run.fatal.add(i)
        if len(run.fatal) >= _MOST_DEATHS:
            given_up = Outcome(False, "not run, because so many cells before it ended their process")
            run.outcomes |= dict.fromkeys(set(unknown) - run.fatal, given_up)

    def end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.reports.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_all(prepared: Prepared, runs: Iterable[Run], limits: Limits, data: Path) -> Iterable[Run]:
    """Run the plans, and yield each when all of its steps have an outcome.

    Args:
        data: the folder that the notebooks find as ../data.
    """
    waiting, running = deque(runs), {}
    try:
        while waiting or running:
            while waiting and len(running) < limits.jobs:
                begun = _Attempt(prepared, waiting.popleft(), limits, data)
                running[begun.reports] = begun
            first = min(limits.seconds - each.waited for each in running.values())
            ready: list[Connection] = wait(list(running), timeout=max(first, _LOOK))
            for reports, each in list(running.items()):
                if reports in ready:
                    if each.receive():
                        continue
                elif not each.is_over:
                    continue
                else:
                    each.died(f"it was stopped after {limits.seconds:g} s")
                each.end()
                del running[reports]
                if each.run.outcomes.keys() == set(range(len(each.run.plan.steps))):
                    yield each.run
                else:
                    waiting.appendleft(each.run)
    finally:
        for each in running.values():
            each.end()

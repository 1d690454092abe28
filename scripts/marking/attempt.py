"""One attempt to run a student's notebook, in a process of its own that may die of it."""

import json
import linecache
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from ex5lib.errors import CheckFailed
from scripts.marking.guard import Guard
from scripts.marking.scheme import UNWRITTEN, Plan, Scheme, Step

_LONGEST = 400  # characters of a student's error


@dataclass
class Outcome:
    """What came of one step."""

    passed: bool
    said: str = ""  # to the student
    odd: list[str] = field(default_factory=list)  # for a person to look at


class Prepared:
    """A notebook's set-up, run once: every attempt begins in a fork of the process that holds it.

    The checks run among its names, the student's code among its own, so that a student who redefines a name that a
    check uses does not change the check.
    """

    def __init__(self, scheme: Scheme):
        self.scheme = scheme
        self.space: dict[str, Any] = {"__name__": "the source"}
        self.setups: list[dict[str, Any]] = []  # what each of them defines
        for i, code in enumerate(scheme.setups):
            before = dict(self.space)
            exec(compile(code, f"<set-up {i}>", "exec"), self.space)
            self.space["device"] = "cpu"  # a GPU does not survive a fork
            new = {name: value for name, value in self.space.items() if before.get(name, before) is not value}
            self.setups.append(new)
        self.guard = Guard(self.space)


def attempt(
    prepared: Prepared,
    plan: Plan,
    skip: Mapping[int, str],
    gigabytes: float,
    folder: Path,
    send: Callable[[bytes], None],
) -> None:
    """Run a plan's steps but those to skip, and send the index of each before it runs, and its ``Outcome`` after it.

    What is sent is JSON, at last null. What is skipped comes with what was said about it. To be called in a fork of the
    process that has the set-up. It never returns.
    """
    os.setsid()  # so that everything a student starts can be ended together
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nothing, stream)
    (folder / "notebooks").mkdir()
    os.chdir(folder / "notebooks")
    _limit_memory(gigabytes)
    runner = _Runner(prepared, plan, folder)
    for i, step in enumerate(plan.steps):
        if i not in skip:
            send(json.dumps(i).encode())
            send(json.dumps(asdict(runner.run(step))).encode())
        elif step.kind == "own":
            runner.errors[step.name] = skip[i]
    send(json.dumps(None).encode())
    os._exit(0)  # without what a student's code registered for the end


def _limit_memory(gigabytes: float) -> None:
    import resource  # not on Windows, which cannot fork either

    limit = psutil.Process().memory_info().vms + int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Shell(InteractiveShell):
    def enable_gui(self, gui: str | None = None) -> None:
        """Nothing: ``%matplotlib`` asks for it."""


class _Runner:
    def __init__(self, prepared: Prepared, plan: Plan, folder: Path):
        os.environ["IPYTHONDIR"] = str(folder / "ipython")
        quiet = Config()
        quiet.HistoryManager.enabled = False
        self.shell = _Shell.instance(config=quiet)
        self.prepared, self.given = prepared, dict(plan.given)
        self.names: dict[str, Any] = self.shell.user_ns  # the student's
        for new in prepared.setups:
            self.names.update(new)
        self.errors: dict[str, str] = {}  # by task, or "" for none: how the student's code for it ended

    def run(self, step: Step) -> Outcome:
        match step.kind:
            case "setup":
                self.names.update(self.prepared.setups[int(step.name)])
                return Outcome(True)
            case "own":
                return self.own(step)
            case _:
                return self.check(step)

    def own(self, step: Step) -> Outcome:
        kept = {name: self.names.get(name) for new in self.prepared.setups for name in new}
        ran = self.shell.run_cell(step.code, silent=True)
        odd = [f"cell {int(step.cell)} replaces {name}, which was undone" for name in self.prepared.guard.restore()]
        odd += [
            f"cell {int(step.cell)} redefines {name}, which its check does not use"
            for name, value in kept.items()
            if _is_tool(value) and self.names.get(name) is not value
        ]
        error = ran.error_before_exec or ran.error_in_exec
        if error is None:
            return Outcome(True, odd=odd)
        if self.supplied(error, step):
            return self.own(step)
        said = f"cell {int(step.cell)} ended in {self.described(error)}"
        self.errors[step.name] = said
        return Outcome(False, said, odd)

    def check(self, step: Step) -> Outcome:
        space, scheme = self.prepared.space, self.prepared.scheme
        task, _ = scheme.checks[step.name]
        for name in {name for each in scheme.tasks for name in each.defines}:
            space.pop(name, None)
            if name in self.names:
                space[name] = self.names[name]
        before = dict(space)
        said = ""
        try:
            exec(compile(step.code, f"<{step.name}>", "exec"), space)
        except BaseException as error:  # a student's code may raise anything
            if self.supplied(error, step):
                return self.check(step)
            said = self.reason(error, task.name, task.defines)
        replaced = self.prepared.guard.restore()
        for name, value in space.items():  # as if the check had run among the student's names
            if before.get(name, before) is not value:
                self.names[name] = value
        if replaced:
            said = said or f"your code replaces {', '.join(replaced)} while it is checked"
            return Outcome(False, said, [f"{task.name} replaces {', '.join(replaced)} while it is checked"])
        return Outcome(not said, said or "passed")

    def supplied(self, error: BaseException, step: Step) -> bool:
        """Whether a name was missing that a cell above defines which is as it was given: then that has run now."""
        cause = error.__context__ if isinstance(error, CheckFailed) else error
        given = self.given.get(cause.name) if isinstance(cause, NameError) else None
        if given is None or given.cell > step.cell:
            return False
        del self.given[cause.name]
        self.own(given)
        return True

    def reason(self, error: BaseException, task: str, defines: frozenset[str]) -> str:
        """Why a check failed."""
        cause = error.__context__ if isinstance(error, CheckFailed) else error
        ended = f"; {self.errors[task]}" if task in self.errors else ""
        function, line = self.where(cause)
        if isinstance(cause, NotImplementedError) and line == UNWRITTEN:
            return "not written yet" if function in defines else f"it needs {function}, which is not written yet"
        if isinstance(cause, NameError) and cause.name in defines:
            return f"there is no {cause.name}{ended}"
        if isinstance(error, CheckFailed) and isinstance(cause, AssertionError):
            return str(error).removeprefix("✗ ") + ended
        return f"your code raised {self.described(cause or error)}{ended}"

    def described(self, error: BaseException) -> str:
        """An error in a sentence, with the student's line that raised it."""
        words, (_, line) = str(error), self.where(error)
        if isinstance(error, SyntaxError):
            words, line = f"{error.msg} in line {error.lineno}", (error.text or "").strip()
        elif isinstance(error, MemoryError):
            words = words or "it needs more memory than it may take"
        elif isinstance(error, EOFError):
            words = "nobody answers input() here"
        said = f"{type(error).__name__}: {' '.join(words.split())}".removesuffix(": ")
        return textwrap.shorten(said, _LONGEST, placeholder=" …") + (f" (in `{line[:_LONGEST]}`)" if line else "")

    def where(self, error: BaseException | None) -> tuple[str, str]:
        """The student's function, and its line, that an error comes from; empty if it comes from nowhere there."""
        found, trace = ("", ""), error.__traceback__ if error else None
        while trace is not None:
            code = trace.tb_frame.f_code
            if trace.tb_frame.f_globals is self.names:
                found = code.co_name, linecache.getline(code.co_filename, trace.tb_lineno).strip()
            trace = trace.tb_next
        return found


def _is_tool(value: object) -> bool:
    """Whether it is a module, or a function or class of the library."""
    return isinstance(value, type(sys)) or (callable(value) and getattr(value, "__module__", "").startswith("ex5lib"))

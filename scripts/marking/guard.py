"""What keeps a student's code from marking itself."""

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

_OURS = ("ex5lib", "stylegan2_ada")
_WHOLE = {*_OURS, "numpy"}  # with all modules inside
_ALONE = {
    "builtins", "contextlib", "functools", "math", "operator", "torch", "torch.functional", "torch.linalg", "torch.nn",
    "torch.nn.functional",
}  # fmt: skip
_CLASSES = {"torch.Tensor", "torch.nn.modules.module.Module"}  # of torch; it changes others itself
_PASSED_THROUGH = ("torch", "contextlib", "functools")  # a call that they make is their caller's
# No task asks for anything that these do.
_HELPERS = ("ex5lib.images", "ex5lib.course", "ex5lib.errors", "ex5lib.files", "ex5lib.devices")


def _inside(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


class Guard:
    """Remembers the functions of the libraries that checks use, and of the objects in ``space``, to put them back."""

    def __init__(self, space: dict[str, Any]):
        for name in _OURS:  # what they import on first use must be there to be remembered
            for lazy in getattr(sys.modules.get(name), "__all__", ()):
                with contextlib.suppress(Exception):
                    getattr(sys.modules[name], lazy)
        if "torch" in sys.modules:  # at its first use an optimiser imports this, which replaces functions of torch
            importlib.import_module("torch._dynamo")
        holders: dict[int, tuple[Any, str]] = {}
        for name, module in list(sys.modules.items()):
            if not isinstance(module, ModuleType) or not (name in _ALONE or name.split(".")[0] in _WHOLE):
                continue
            holders[id(module)] = module, name
            for value in list(vars(module).values()):
                path = f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else ""
                if path.split(".")[0] in _WHOLE or path in _CLASSES:
                    holders[id(value)] = value, path
        for name, value in space.items():
            if _inside(type(value).__module__, _OURS) and hasattr(value, "__dict__"):
                holders[id(value)] = value, name
        self._kept = [(holder, name, dict(vars(holder))) for holder, name in holders.values()]

    def restore(self) -> list[str]:
        """Put back what was replaced; returns the names of it."""
        replaced = []
        for holder, label, kept in self._kept:
            now = vars(holder)
            wrong = [name for name, value in kept.items() if _is_code(value) and now.get(name) is not value]
            added = [
                name
                for name in now.keys() - kept.keys()
                if _is_code(now[name]) and (isinstance(holder, type) or _hides_a_method(holder, name))
            ]
            for name in wrong:
                _set(holder, name, kept[name])
            for name in added:
                type.__delattr__(holder, name) if isinstance(holder, type) else vars(holder).pop(name)
            replaced += [f"{label}.{name}" for name in (*wrong, *sorted(added))]
        return replaced


def _is_code(value: object) -> bool:
    return callable(value) or isinstance(value, property | staticmethod | classmethod)


def _hides_a_method(holder: object, name: str) -> bool:
    return not isinstance(holder, ModuleType) and inspect.isroutine(getattr(type(holder), name, None))


def _set(holder: Any, name: str, value: object) -> None:
    if isinstance(holder, type):
        type.__setattr__(holder, name, value)
    else:
        vars(holder)[name] = value


class Calls:
    """The functions of ex5lib that were called, as {(module, name)}, by the student's code and by the check."""

    def __init__(self) -> None:
        self.student: set[tuple[str, str]] = set()
        self.check: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def watched(self, space: dict[str, Any]) -> Iterator[None]:
        """Watch what happens in the block; code whose globals are ``space`` is the check's."""
        sys.setprofile(self._watcher(space))
        try:
            yield
        finally:
            sys.setprofile(None)

    def _watcher(self, space: dict[str, Any]) -> Callable[[FrameType, str, Any], None]:
        def watch(frame: FrameType, event: str, _: Any) -> None:
            if event != "call":
                return
            module = frame.f_globals.get("__name__") or ""
            if not module.startswith("ex5lib.") or _inside(module, _HELPERS):
                return
            caller = frame.f_back
            while caller is not None and _inside(_module(caller), _PASSED_THROUGH):
                caller = caller.f_back
            if caller is None or _inside(_module(caller), _OURS):
                return
            callers = self.check if caller.f_globals is space else self.student
            callers.add((module, frame.f_code.co_qualname))

        return watch


def _module(frame: FrameType) -> str:
    return frame.f_globals.get("__name__") or ""

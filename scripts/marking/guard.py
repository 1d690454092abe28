"""What keeps a student's code from marking itself."""

import contextlib
import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

_OURS = ("ex5lib", "stylegan2_ada")
_WHOLE = {*_OURS, "numpy"}  # with all modules inside
_ALONE = {
    "builtins", "contextlib", "functools", "math", "operator", "torch", "torch.functional", "torch.linalg", "torch.nn",
    "torch.nn.functional",
}  # fmt: skip
_CLASSES = {"torch.Tensor", "torch.nn.modules.module.Module"}  # of torch; it changes others itself


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
            if type(value).__module__.split(".")[0] in _OURS and hasattr(value, "__dict__"):
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

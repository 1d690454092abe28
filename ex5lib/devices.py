"""Choosing a device and a number type, with clear errors when a device is missing or out of memory."""

import copy
import ctypes
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TypeVar

import torch
from torch import nn

from ex5lib.errors import DeviceError, SettingError

Module = TypeVar("Module", bound=nn.Module)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name, with its index; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: if the name is unknown or the machine has no such device.
    """
    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if str(device) == "auto":
        device = next(name for name, is_there in available.items() if is_there())
    try:
        picked = torch.device(device)
    except RuntimeError:
        picked = None
    if picked is None or picked.type not in available:
        raise DeviceError(f'There is no device "{device}": use auto, cuda, mps or cpu.')
    if not available[picked.type]():
        raise DeviceError(f"This machine has no {picked.type} device that PyTorch can use: choose auto or cpu.")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"This machine has {torch.cuda.device_count()} CUDA devices, so there is no {picked}.")
    if picked.type != "cpu" and picked.index is None:
        picked = torch.device(picked.type, torch.cuda.current_device() if picked.type == "cuda" else 0)
    return picked


def on_device(device: torch.device, module: Module) -> Module:
    """The module itself if it is on the device, else a copy of it that is."""
    there = all(tensor.device == device for tensor in (*module.parameters(), *module.buffers()))
    return module if there else copy.deepcopy(module).to(device)


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The type in which networks compute: float32, bfloat16 or float16, or one of these names.

    "auto" is the fastest one that the hardware has: bfloat16 on CPUs that have it (two to eight times as fast) and on
    CUDA from compute capability 8, float16 on capability 7 (such as a T4), and float32 elsewhere.

    Raises:
        SettingError: if it is another type.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        return fastest_dtype(device)
    picked = known.get(dtype) if isinstance(dtype, str) else dtype
    if picked is None or picked not in known.values():
        raise SettingError(f"A search runs in float32, bfloat16 or float16, not {dtype}.")
    return picked


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What "auto" means for ``pick_dtype``."""
    if device.type == "cuda":
        generation, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if generation >= 8 else torch.float16 if generation == 7 else torch.float32
    return torch.bfloat16 if device.type == "cpu" and _has_bfloat16() else torch.float32


def _has_bfloat16() -> bool:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):  # ATEN_CPU_CAPABILITY may allow less
        return False
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))


@cache
def keep_freed_memory() -> bool:
    """On Linux, have the C library keep freed memory for the next tensor; returns whether it will.

    By default it takes large blocks (above a threshold of at most 32 MB) from the system and gives them back each time.
    A feature map of a 1024 px generator takes 64 MB, so the system would clear its 16,000 pages again for every
    operation of every step, which takes longer than the arithmetic. The price: the process stays at its peak size until
    it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def check_compiler(device: torch.device) -> None:
    """Make sure that ``torch.compile`` can work: it generates C++ for a CPU, and code for Triton on CUDA.

    Raises:
        DeviceError: if there is no compiler for it.
    """
    named = os.environ.get("CXX")
    if device.type == "cpu" and not any(shutil.which(name) for name in ([named] if named else ("g++", "clang++"))):
        raise DeviceError(f"There is no C++ compiler {named or 'g++'}: install one, or search without compiling.")
    if device.type == "cuda" and find_spec("triton") is None:  # on Windows it does not come with PyTorch
        raise DeviceError("There is no Triton, which compiles for a GPU: install it, or search without compiling.")


def compiled(module: Module, device: torch.device, mode: str | bool = True) -> Module:
    """The module behind ``torch.compile``, in one of its modes; True picks the one that suits the device.

    Every shape is compiled separately: a search has one for each stage.
    """
    if isinstance(mode, bool):
        mode = "reduce-overhead" if device.type == "cuda" else "default"
    # What compile returns has all attributes of the module.
    return torch.compile(module, mode=mode, dynamic=False)  # type: ignore[return-value]


@contextmanager
def readable_memory_errors() -> Iterator[None]:
    """Turn "out of memory" into a DeviceError of one sentence; a context manager or a decorator.

    On the CPU and MPS it is a RuntimeError that only its text tells from others.
    """
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error).lower() for words in ("out of memory", "allocate memory", "alloc_failed")):
            raise DeviceError(
                "There is too little memory for this run: close other programs, or choose another device or a "
                "generator of lower resolution."
            ) from None
        raise

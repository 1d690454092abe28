"""Choosing a device and a type, with clear errors when one is missing or out of memory."""

import copy
import ctypes
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import nn

from ex5lib.errors import DeviceError, SettingError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name, with its index; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: if the name is unknown or the machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
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


def on_device(place: torch.device, module: nn.Module) -> nn.Module:
    """The module itself if it is there already, else a copy, so that the caller's stays where it is."""
    there = all(tensor.device == place for tensor in (*module.parameters(), *module.buffers()))
    return module if there else copy.deepcopy(module).to(place)


def pick_dtype(dtype: str | torch.dtype, place: torch.device) -> torch.dtype:
    """The type in which networks compute: float32, bfloat16 or float16, also by name.

    "auto" is bfloat16 where the hardware multiplies it: on such a CPU (two to eight times as fast), and on CUDA from
    compute capability 8 on; float16 on those of capability 7, such as the T4, which have no other fast type; else
    float32. The environment variable EX5_DTYPE overrides it.

    Raises:
        SettingError: if it is another type.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    asked = os.environ.get("EX5_DTYPE", "auto") if dtype == "auto" else dtype
    if asked == "auto":
        asked = _fastest(place)
    picked = known.get(asked, asked)
    if picked not in known.values():
        where = ", the value of EX5_DTYPE" if dtype == "auto" else ""
        raise SettingError(f"A search runs in float32, bfloat16 or float16, not {asked}{where}.")
    return picked


def _fastest(place: torch.device) -> str:
    if place.type == "cuda":
        generation, _ = torch.cuda.get_device_capability(place)
        return "bfloat16" if generation >= 8 else "float16" if generation == 7 else "float32"
    return "bfloat16" if place.type == "cpu" and _has_bfloat16() else "float32"


def _has_bfloat16() -> bool:
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):  # ATEN_CPU_CAPABILITY may allow less
        return False
    return any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))


@cache
def keep_freed_memory() -> bool:
    """On Linux, have the C library keep freed memory for the next tensor; returns whether it will.

    By default it takes large blocks (above a threshold of at most 32 MB) from the system and gives them back each time.
    A feature map of a 1024 px generator has 64 MB, so the system would have to clear its 16,000 pages again for every
    operation of every step, which takes longer than the arithmetic. The price is that the process stays at its peak
    size until it ends.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def check_compiler(place: torch.device) -> None:
    """Make sure that ``torch.compile`` can work: on a CPU it generates C++, and on CUDA code for Triton.

    Raises:
        DeviceError: if there is no compiler for it.
    """
    named = os.environ.get("CXX")
    if place.type == "cpu" and not any(shutil.which(name) for name in ([named] if named else ("g++", "clang++"))):
        raise DeviceError(f"There is no C++ compiler {named or 'g++'}: install one, or search without compiling.")
    if place.type == "cuda" and find_spec("triton") is None:  # on Windows it does not come with PyTorch
        raise DeviceError("There is no Triton to compile for a GPU with: install it, or search without compiling.")


def compiled(modules: Sequence[nn.Module], place: torch.device, mode: bool | str = True) -> list[nn.Module]:
    """The modules behind ``torch.compile``; with True as the mode, in the one that suits the device.

    Every shape is compiled by itself: a search has one for each stage.
    """
    if mode is True:
        mode = "reduce-overhead" if place.type == "cuda" else "default"
    return [torch.compile(module, mode=mode, dynamic=False) for module in modules]


@contextmanager
def readable_memory_errors() -> Iterator[None]:
    """Turn an allocator's error into a one-sentence DeviceError; a context manager or a decorator.

    CUDA has an exception of its own; on the CPU and MPS it is a RuntimeError that can be recognised only by its text.
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

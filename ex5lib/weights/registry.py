"""The registry of pretrained weights: what ``registry.toml`` says."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ex5lib.errors import unknown_name

DLIB_MODELS = "face-recognition-models"
SHIPPED = "ex5lib itself"


@dataclass(frozen=True)
class Weights:
    """One entry of the registry.

    Attributes:
        purpose: what the project uses them for.
        origin: where they come from: a pinned package, an installed one, ex5lib itself, or a web address.
        filename: the file fetched into the cache, or the one inside the installed package.
        sha256: of that file.
        size: of that file, in bytes.
        package_licence: of the package that carries the weights.
        weights_licence: of the weights themselves; this is the one that governs the use of results.
        tensors_sha256: ``tensor_digest`` of the converted tensors, for weights that are converted.
        on_request: whether they are fetched only when they are asked for; every run needs the others.
    """

    purpose: str
    origin: str
    filename: str
    sha256: str
    size: int
    package_licence: str
    weights_licence: str
    tensors_sha256: str | None = None
    on_request: bool = False


_TABLE = Path(__file__).with_name("registry.toml").read_text(encoding="utf-8")
REGISTRY = {name: Weights(**entry) for name, entry in tomllib.loads(_TABLE).items()}
GENERATORS = ("mobile-ffhq", "ffhq")
GENERATOR_SUFFIXES = (".pkl", ".pt", ".pth", ".safetensors")


def lookup(name: str) -> Weights:
    """The registry's entry of that name; a ``SettingError`` if there is none."""
    if name not in REGISTRY:
        raise unknown_name("pretrained network", name, REGISTRY)
    return REGISTRY[name]

"""The error that every reader raises."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = "StyleGAN2-ADA snapshots of NVIDIA's PyTorch code (.pkl), rosinality's StyleGAN2 (.pt) and .safetensors"


class CheckpointError(ValueError):
    """A weights file that cannot be read, or that holds a different network from the one asked for."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of any ``CheckpointError`` raised inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None

"""The error that every reader raises."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

SUPPORTED = (
    "NVIDIA's StyleGAN2 and StyleGAN2-ADA of TensorFlow or PyTorch (.pkl), rosinality's StyleGAN2 (.pt or .pth) "
    "and this project's .safetensors"
)


class CheckpointError(ValueError):
    """A weights file that cannot be read, or that holds a different network from the one asked for."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of any ``CheckpointError`` raised inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None

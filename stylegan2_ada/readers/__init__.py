"""Readers of pretrained weights, one file per format. None of them runs anything that a weights file contains.

- nvidia.py: StyleGAN2-ADA snapshots (.pkl), on top of the pickle reader in pickles.py;
- tensorflow.py: StyleGAN2 and StyleGAN2-ADA snapshots from before PyTorch (.pkl), on top of the same;
- rosinality.py: rosinality's StyleGAN2 (.pt or .pth);
- native.py: this project's own format (.safetensors), read and written;
- openvino.py: MobileStyleGAN as the package random-face ships it (.xml and .bin).

The StyleGAN2 readers recognise a file with contents.py, rename its tensors, and make the generator with build.py.
"""

from pathlib import Path

from stylegan2_ada.generator import Generator
from stylegan2_ada.readers.contents import OLD_TORCH_FILE, PICKLE, SAFETENSORS, TORCH_ARCHIVE, content_of
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError
from stylegan2_ada.readers.native import load_safetensors, save_generator
from stylegan2_ada.readers.nvidia import load_nvidia
from stylegan2_ada.readers.openvino import IRGraph, read_mobilestylegan
from stylegan2_ada.readers.rosinality import load_rosinality

__all__ = [
    "CheckpointError",
    "IRGraph",
    "load_generator_file",
    "read_mobilestylegan",
    "save_generator",
]

# Suffix → what such a file may hold, and its reader.
_FORMATS = {
    ".pkl": ((PICKLE,), load_nvidia),
    ".pt": ((TORCH_ARCHIVE, OLD_TORCH_FILE), load_rosinality),
    ".pth": ((TORCH_ARCHIVE, OLD_TORCH_FILE), load_rosinality),
    ".safetensors": ((SAFETENSORS,), load_safetensors),
}


def load_generator_file(path: str | Path) -> Generator:
    """The generator in a file: NVIDIA's ``.pkl`` (G_ema), rosinality's ``.pt`` or ``.pth``, or our ``.safetensors``.

    Returns:
        A StyleGAN2 or, from a ``.safetensors``, a MobileStyleGAN: in float32, frozen, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: if the file is missing, is not what its suffix says, or holds no such generator.
    """
    path = Path(path)
    content, suffix = content_of(path), path.suffix.lower()
    if suffix not in _FORMATS:
        raise CheckpointError(f"{path} has the unknown suffix {suffix!r}; supported are {SUPPORTED}.")
    contents, load = _FORMATS[suffix]
    if content not in contents:
        raise CheckpointError(f"{path} holds {content}, not what its suffix says; supported are {SUPPORTED}.")
    return load(path)

"""This project's own format: a StyleGAN2 generator's state dict as safetensors, with its clamp as metadata."""

import json
import os
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch

from stylegan2_ada.generator import Generator
from stylegan2_ada.networks import SynthesisNetwork
from stylegan2_ada.readers.build import build_generator, check_tensors, finite_number
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError, naming

_FORMAT = "stylegan2_ada"


def save_generator(generator: Generator, path: str | Path):
    """Write a StyleGAN2 generator as safetensors; the file appears whole or not at all.

    Raises:
        ValueError: if the generator is not a StyleGAN2.
    """
    if not isinstance(generator.synthesis, SynthesisNetwork):
        raise ValueError(f"Only StyleGAN2 generators can be saved, not {type(generator.synthesis).__name__}.")
    path = Path(path)
    metadata = {"format": _FORMAT, "config": json.dumps({"conv_clamp": generator.synthesis.conv_clamp})}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in generator.state_dict().items()}
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        safetensors.torch.save_file(tensors, partial, metadata)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def load_safetensors(path: Path) -> Generator:
    """The generator in a file of ``save_generator``.

    Raises:
        CheckpointError: if the file is damaged or holds another model.
    """
    with naming(path):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                # Tensors lie unaligned in the file, and PyTorch's kernels then round differently: a copy, which is
                # aligned, makes the images equal those of the saved generator to the bit.
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"it is damaged ({error}).") from None
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"it holds {len(state)} tensors of another model; supported are {SUPPORTED}.")
        check_tensors(state, path.stat().st_size)
        taps = state.pop("synthesis.resample_filter", None)
        try:
            clamp = json.loads(metadata["config"])["conv_clamp"]
        except (KeyError, TypeError, ValueError, RecursionError):
            raise CheckpointError("its metadata does not describe a generator.") from None
        state = {name: tensor.float() for name, tensor in state.items()}
        return build_generator(state, taps, None if clamp is None else finite_number(clamp))

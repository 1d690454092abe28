"""This project's own format: a generator's state dict as safetensors, with what its shapes do not say as metadata."""

import json
from pathlib import Path

import safetensors
import safetensors.torch

from stylegan2_ada.generator import Generator
from stylegan2_ada.mobile import MobileSynthesis
from stylegan2_ada.networks import SynthesisNetwork
from stylegan2_ada.readers.build import build_generator, build_mobile_generator, check_tensors, finite_number
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError, naming

_FORMAT = "stylegan2_ada"


def save_generator(generator: Generator, path: str | Path):
    """Write a StyleGAN2 or a MobileStyleGAN as safetensors; a ``ValueError`` if the generator is neither."""
    synthesis = generator.synthesis
    if isinstance(synthesis, SynthesisNetwork):
        config: dict[str, object] = {"conv_clamp": synthesis.conv_clamp}
    elif isinstance(synthesis, MobileSynthesis):
        config = {"preview_sizes": list(synthesis.preview_sizes)}
    else:
        raise ValueError(f"Only StyleGAN2 and MobileStyleGAN can be saved, not {type(synthesis).__name__}.")
    metadata = {"format": _FORMAT, "config": json.dumps(config)}
    tensors = {name: tensor.contiguous().cpu() for name, tensor in generator.state_dict().items()}
    safetensors.torch.save_file(tensors, path, metadata)


def load_safetensors(path: Path) -> Generator:
    """The generator in a file of ``save_generator``.

    Raises:
        CheckpointError: if the file is damaged or holds another model.
    """
    with naming(path):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                # Tensors are unaligned in the file, and PyTorch's kernels then round differently. An aligned copy makes
                # the same images as the saved generator, to the bit.
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"it is damaged ({error}).") from None
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"it holds {len(state)} tensors of another model; supported are {SUPPORTED}.")
        check_tensors(state, path.stat().st_size)
        try:
            config = json.loads(metadata["config"])
            previews = [int(size) for size in config["preview_sizes"]] if "preview_sizes" in config else None
            clamp = config["conv_clamp"] if previews is None else None
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise CheckpointError("its metadata does not describe a generator.") from None
        taps = state.pop("synthesis.resample_filter", None)
        state = {name: tensor.float() for name, tensor in state.items()}
        if previews is not None:
            return build_mobile_generator(state, tuple(previews))
        return build_generator(state, taps, None if clamp is None else finite_number(clamp))

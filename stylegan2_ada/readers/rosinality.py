"""Checkpoints of rosinality's StyleGAN2 in PyTorch, read by PyTorch's own weights-only reader."""

import argparse
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from stylegan2_ada.generator import Generator, estimate_w_avg
from stylegan2_ada.readers.build import build_generator, check_tensors, conv_name, equalised
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError, naming

_LAYER_NAMES = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}
_STATE_DICT = "that would have to be run; save a state dict instead, as torch.save({'g_ema': G.state_dict()}, path)"


def load_rosinality(path: Path) -> Generator:
    """The generator in a file of rosinality's StyleGAN2: its ``g_ema``, or else its ``g``, or the file is a state dict.

    w̄ is the file's ``latent_avg``, or where there is none the mean of newly mapped z.

    Raises:
        CheckpointError: if the file is damaged, compressed, or holds anything but such a network.
    """
    with naming(path):
        size = path.stat().st_size
        checkpoint = _read(path, size)
        theirs = _state_dict(checkpoint)
        check_tensors(theirs, size)
        state = dict(
            _renamed(str(name), tensor.float())
            for name, tensor in theirs.items()
            if not str(name).endswith(("blur.kernel", "upsample.kernel"))
        )
        _check_unconditional(state)
        taps = theirs.get("convs.0.conv.blur.kernel")
        mean = checkpoint.get("latent_avg")
        mean = mean.float() if isinstance(mean, Tensor) and mean.ndim == 1 else None
        state["mapping.w_avg"] = torch.zeros_like(state["mapping.layers.0.bias"]) if mean is None else mean
        generator = build_generator(state, taps, conv_clamp=None)
        if mean is None:
            generator.w_avg.copy_(estimate_w_avg(generator.mapping))
    return generator


def _read(path: Path, size: int) -> dict:
    """What PyTorch's weights-only reader makes of a file of that many bytes."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise CheckpointError(f"it holds a TorchScript program, and {_STATE_DICT}.")
            if sum(entry.file_size for entry in entries) > size:
                raise CheckpointError("it is compressed, which PyTorch's own files are not.")
        # Training checkpoints also hold their command line, as an argparse.Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        # A damaged file raises any of a dozen exceptions from pickle, zipfile and PyTorch. Their messages are dropped:
        # most of them advise loading the file anyway, which would run what it holds.
        if named := re.search(r"GLOBAL (\S{1,100})", str(error)):
            raise CheckpointError(f"it holds not only weights but {named[1]}, and {_STATE_DICT}.") from None
        raise CheckpointError("it is damaged, or was not written by torch.save.") from None
    if not isinstance(checkpoint, dict):
        found = type(checkpoint).__name__
        raise CheckpointError(f"it holds data of type {found}, not a dict; supported are {SUPPORTED}.")
    return checkpoint


def _state_dict(checkpoint: dict) -> dict:
    for name in ("g_ema", "g"):
        if isinstance(checkpoint.get(name), dict):
            return checkpoint[name]
    names = [name for name in checkpoint if isinstance(name, str)]
    if any(name.startswith(("style.", "convs.")) for name in names):
        return {name: value for name, value in checkpoint.items() if name != "latent_avg"}
    found = ", ".join(names) or "nothing"
    raise CheckpointError(
        f"it holds {found[:100]}, but no g_ema, no g, and no generator's own weights; supported are {SUPPORTED}."
    )


def _check_unconditional(state: dict[str, Tensor]):
    """Make sure that the mapping network takes only z: in this layout z is as wide as w, and there are no classes."""
    for kind in ("weight", "bias"):
        if f"mapping.layers.0.{kind}" not in state:
            raise CheckpointError(f"the tensor style.1.{kind} is missing.")
    shape, w_dim = state["mapping.layers.0.weight"].shape, state["mapping.layers.0.bias"].numel()
    if len(shape) == 2 and shape[0] == w_dim != shape[1]:
        raise CheckpointError(
            f"its mapping network takes {shape[1]} numbers, not the {w_dim} of z: it was exported from a "
            "class-conditional network, without the layer that takes the class; use the .pkl that it was made from."
        )


def _renamed(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Our name and tensor for one of theirs, with the run-time gain of the equalised learning rate folded in."""
    if m := re.fullmatch(r"style\.(\d{1,3})\.(weight|bias)", name):  # style.0 is the normalisation of z
        gain = 0.01 * (equalised(tensor.shape[1:]) if m[2] == "weight" else 1.0)
        return f"mapping.layers.{int(m[1]) - 1}.{m[2]}", tensor * gain
    if name == "input.input":
        return "synthesis.blocks.0.const", tensor
    if m := re.fullmatch(r"noises\.noise_(\d{1,3})", name):
        return f"synthesis.{conv_name(int(m[1]))}.noise", tensor
    if m := re.fullmatch(r"conv(1)\.(.+)|convs\.(\d{1,3})\.(.+)", name):
        layer, rest = conv_name(0 if m[1] else int(m[3]) + 1), m[2] or m[4]
    elif m := re.fullmatch(r"to_rgb(1)\.(.+)|to_rgbs\.(\d{1,3})\.(.+)", name):
        layer, rest = f"blocks.{0 if m[1] else int(m[3]) + 1}.to_rgb", m[2] or m[4]
    else:
        return name, tensor
    if rest == "conv.weight" and tensor.ndim == 5:
        tensor = tensor[0] * equalised(tensor.shape[2:])  # [O, I, k, k]
        tensor = tensor.flatten(1) if layer.endswith("to_rgb") else tensor  # [3, C]
    elif rest == "conv.modulation.weight":
        tensor = tensor * equalised(tensor.shape[1:])
    elif rest == "noise.weight" and tensor.numel() == 1:
        tensor = tensor.reshape(())
    elif rest == "bias":
        tensor = tensor.flatten()  # [1, 3, 1, 1] → [3]
    return f"synthesis.{layer}.{_LAYER_NAMES.get(rest, rest)}", tensor

"""Checkpoints of rosinality's StyleGAN2 in PyTorch, read by PyTorch's own weights-only reader."""

import argparse
import math
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from stylegan2_ada.generator import Generator, estimate_w_avg
from stylegan2_ada.readers.build import build_generator, check_tensors
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError, naming

_LAYER_NAMES = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}


def load_rosinality(path: Path) -> Generator:
    """The generator in a ``.pt`` of rosinality's StyleGAN2: its ``g_ema``.

    w̄ is the file's ``latent_avg``, or where there is none the mean of newly mapped z.

    Raises:
        CheckpointError: if the file is damaged, compressed, or holds anything but such a network.
    """
    with naming(path):
        size = path.stat().st_size
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    if sum(entry.file_size for entry in archive.infolist()) > size:
                        raise CheckpointError("it is compressed, which PyTorch's own files are not.")
            # Training checkpoints also hold their command line, as an argparse.Namespace.
            with torch.serialization.safe_globals([argparse.Namespace]):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except CheckpointError:
            raise
        except Exception as error:
            # A damaged file raises any of a dozen exceptions from pickle, zipfile and PyTorch.
            reason = str(error).strip().split("\n")[0][:200]
            raise CheckpointError(f"PyTorch's weights-only reader refuses it ({reason}).") from None
        if not isinstance(checkpoint, dict):
            found = type(checkpoint).__name__
            raise CheckpointError(f"it holds data of type {found}, not a dict; supported are {SUPPORTED}.")
        theirs = checkpoint.get("g_ema")
        if not isinstance(theirs, dict):
            found = ", ".join(key for key in checkpoint if isinstance(key, str)) or "nothing"
            raise CheckpointError(f"it holds {found[:100]}, but no g_ema; supported are {SUPPORTED}.")
        check_tensors(theirs, size)
        state = dict(
            _renamed(str(name), tensor.float())
            for name, tensor in theirs.items()
            if not str(name).endswith(("blur.kernel", "upsample.kernel"))
        )
        taps = theirs.get("convs.0.conv.blur.kernel")
        mean = checkpoint.get("latent_avg")
        has_mean = isinstance(mean, Tensor) and mean.ndim == 1
        if "mapping.layers.0.bias" not in state:
            raise CheckpointError("the tensor style.1.bias is missing.")
        state["mapping.w_avg"] = mean.float() if has_mean else torch.zeros_like(state["mapping.layers.0.bias"])
        generator = build_generator(state, taps, conv_clamp=None)
        if not has_mean:
            generator.w_avg.copy_(estimate_w_avg(generator.mapping))
    return generator


def _renamed(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Our name and tensor for one of theirs, with the run-time gain of the equalised learning rate folded in."""
    if m := re.fullmatch(r"style\.(\d{1,3})\.(weight|bias)", name):  # style.0 is the normalisation of z
        gain = 0.01 * (_equalised(tensor.shape[1:]) if m[2] == "weight" else 1.0)
        return f"mapping.layers.{int(m[1]) - 1}.{m[2]}", tensor * gain
    if name == "input.input":
        return "synthesis.blocks.0.const", tensor
    if m := re.fullmatch(r"noises\.noise_(\d{1,3})", name):
        return f"synthesis.{_conv_name(int(m[1]))}.noise", tensor
    if m := re.fullmatch(r"conv(1)\.(.+)|convs\.(\d{1,3})\.(.+)", name):
        layer, rest = _conv_name(0 if m[1] else int(m[3]) + 1), m[2] or m[4]
    elif m := re.fullmatch(r"to_rgb(1)\.(.+)|to_rgbs\.(\d{1,3})\.(.+)", name):
        layer, rest = f"blocks.{0 if m[1] else int(m[3]) + 1}.to_rgb", m[2] or m[4]
    else:
        return name, tensor
    if rest == "conv.weight" and tensor.ndim == 5:
        tensor = tensor[0] * _equalised(tensor.shape[2:])  # [O, I, k, k]
        tensor = tensor.flatten(1) if layer.endswith("to_rgb") else tensor  # [3, C]
    elif rest == "conv.modulation.weight":
        tensor = tensor * _equalised(tensor.shape[1:])
    elif rest == "noise.weight" and tensor.numel() == 1:
        tensor = tensor.reshape(())
    elif rest == "bias":
        tensor = tensor.flatten()  # [1, 3, 1, 1] → [3]
    return f"synthesis.{layer}.{_LAYER_NAMES.get(rest, rest)}", tensor


def _conv_name(index: int) -> str:
    """Our name for styled convolution ``index``, counted from coarse to fine: one at 4 px, then two per resolution."""
    return f"blocks.{(index + 1) // 2}.conv{(index + 1) % 2}"


def _equalised(fan_in: torch.Size) -> float:
    """The run-time gain 1/√fan_in, from the input dimensions of a weight."""
    return 1 / math.sqrt(max(fan_in.numel(), 1))

"""Snapshots of NVIDIA's StyleGAN2 and StyleGAN2-ADA in TensorFlow: pickles of three networks (G, D, Gs)."""

import re

import torch
from torch import Tensor

from stylegan2_ada.generator import Generator
from stylegan2_ada.readers.build import (
    RESOLUTIONS,
    block_name,
    build_generator,
    check_tensors,
    conv_name,
    equalised,
    finite_number,
)
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError
from stylegan2_ada.readers.pickles import NumpyArray, TensorFlowNetwork

_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "to_rgb", "Skip": "skip"}
# The only values that our networks support. All published networks have them.
_ASSUMED = {"nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu", "normalize_latents": True}


def tensorflow_generator(networks: object, max_bytes: int) -> Generator:
    """The generator in what ``read_snapshot`` made of a file of NVIDIA's TensorFlow code, of at most ``max_bytes``.

    It is a tuple (G, D, Gs). Gs, the moving average of G, is the generator; G and D may be None.

    Raises:
        CheckpointError: if it holds other networks, or a generator whose variables do not fit together.
    """
    match networks:
        case (None | TensorFlowNetwork(), None | TensorFlowNetwork(), TensorFlowNetwork() as network):
            pass
        case _:
            raise CheckpointError(f"it does not hold a StyleGAN2's G, D and Gs; supported are {SUPPORTED}.")
    variables, settings = _variables(network), _settings(network)
    check_tensors(variables, max_bytes)
    for name, value in _ASSUMED.items():
        if settings.get(name, value) != value:
            raise CheckpointError(f"its {name} is not {value}, as it is in all published networks.")
    taps = settings.get("resample_kernel", [1, 3, 3, 1])
    taps = [1, 1] if taps is None else taps
    if not isinstance(taps, list | tuple):
        raise CheckpointError("its resample_kernel is not a list of numbers.")
    clamp = settings.get("conv_clamp")
    return build_generator(
        _state(variables, settings),
        torch.tensor([finite_number(tap) for tap in taps]),
        None if clamp is None else finite_number(clamp),
    )


def _settings(network: TensorFlowNetwork) -> dict:
    """The arguments with which the network was built, where they differ from the defaults."""
    settings = network.state.get("static_kwargs")
    if not isinstance(settings, dict) or any(isinstance(value, Tensor) for value in settings.values()):
        raise CheckpointError("its generator has no static_kwargs, or they are not plain values.")
    return settings


def _variables(network: TensorFlowNetwork) -> dict[str, Tensor]:
    """The variables of a generator and of its two components, by full name."""
    stylegan1 = f"it holds a StyleGAN1, whose layers differ; supported are {SUPPORTED}."
    version, components = network.state.get("version"), network.state.get("components")
    if type(version) is not int:
        raise CheckpointError("its generator has no version.")
    if version < 4:
        raise CheckpointError(stylegan1)
    if not isinstance(components, dict):
        raise CheckpointError("its generator has no components.")
    variables: dict[str, Tensor] = {}
    parts = {"": network, "mapping/": components.get("mapping"), "synthesis/": components.get("synthesis")}
    for prefix, part in parts.items():
        listed = part.state.get("variables") if isinstance(part, TensorFlowNetwork) else None
        if not isinstance(listed, list) or len(listed) > 10_000:
            raise CheckpointError(f"its generator has no {prefix}variables, or more than any StyleGAN2.")
        for variable in listed:
            match variable:
                case (str(name), NumpyArray(tensor=Tensor() as tensor)) if len(name) <= 100:
                    pass
                case (str(name), float(value)) if len(name) <= 100:
                    tensor = torch.tensor(value)
                case _:
                    raise CheckpointError("it is damaged: a variable in it is malformed.")
            variables[prefix + name] = tensor
    if any("/StyleMod/" in name or "/Noise/" in name for name in variables):
        raise CheckpointError(stylegan1)
    if "mapping/LabelConcat/weight" in variables:
        raise CheckpointError(
            "it takes its classes through LabelConcat, as before StyleGAN2-ADA, which is not supported."
        )
    return variables


def _state(variables: dict[str, Tensor], settings: dict) -> dict[str, Tensor]:
    """Our state dict of these variables, with each one's run-time gain folded in."""
    sizes = [int(m[1]) for m in map(re.compile(rf"synthesis/({RESOLUTIONS})x\1/").match, variables) if m]
    resolution = max(sizes, default=4)
    rate = finite_number(settings.get("mapping_lrmul", 0.01))
    # StyleGAN2's configurations B to D grew in training: they have colours for every resolution, and use the last.
    was_grown = "synthesis/lod" in variables
    state: dict[str, Tensor] = {}
    for name, tensor in variables.items():
        if m := re.fullmatch(r"(?:synthesis/)?ToRGB_lod(\d)/(\w+)", name):
            size = resolution >> int(m[1])
            name = f"synthesis/{size}x{size}/ToRGB/{m[2]}"
        is_early_head = "/ToRGB/" in name and not name.startswith(f"synthesis/{resolution}x")
        is_noise = re.fullmatch(r"synthesis/(noise\d+|.*/noise_strength)", name)
        if (was_grown and is_early_head) or (is_noise and not settings.get("use_noise", True)):
            continue
        if name == "dlatent_avg" or (name.startswith(("mapping/", "synthesis/")) and name != "synthesis/lod"):
            ours, tensor = _renamed(name, tensor.float(), rate)
            state[ours] = tensor
    return state


def _renamed(name: str, tensor: Tensor, mapping_rate: float) -> tuple[str, Tensor]:
    """Our name and tensor for one of theirs. An unknown name or shape stays, for ``build_generator`` to refuse."""
    if name == "dlatent_avg":
        return "mapping.w_avg", tensor
    if m := re.fullmatch(r"mapping/(?:LabelEmbed|Dense(\d{1,3}))/(weight|bias)", name):
        layer, rate = (f"layers.{int(m[1])}", mapping_rate) if m[1] else ("embed", 1.0)
        gain = rate * (equalised(tensor.shape[:-1]) if m[2] == "weight" else 1.0)
        return f"mapping.{layer}.{m[2]}", gain * _outputs_first(tensor)
    if name == "synthesis/4x4/Const/const":
        return "synthesis.blocks.0.const", tensor
    if m := re.fullmatch(r"synthesis/noise(\d{1,3})", name):
        return f"synthesis.{conv_name(int(m[1]))}.noise", tensor
    if not (m := re.fullmatch(rf"synthesis/({RESOLUTIONS})x\1/({'|'.join(_LAYERS)})/(\w+)", name)):
        return name, tensor
    layer, rest = f"synthesis.{block_name(int(m[1]))}.{_LAYERS[m[2]]}", m[3]
    if rest == "weight" and tensor.ndim == 4:
        weight = tensor.permute(3, 2, 0, 1)  # [k, k, I, O] → [O, I, k, k]
        if m[2] in ("Conv0_up", "Skip"):
            weight = weight.flip(2, 3)
        if m[2] in ("ToRGB", "Skip"):  # the others' gain cancels in the demodulation
            weight = weight * equalised(tensor.shape[:-1])
        return f"{layer}.weight", weight.flatten(1) if m[2] == "ToRGB" else weight
    if rest == "mod_weight":
        return f"{layer}.affine.weight", _outputs_first(tensor) * equalised(tensor.shape[:-1])
    if rest == "mod_bias":
        return f"{layer}.affine.bias", tensor + 1
    return f"{layer}.{rest}", tensor


def _outputs_first(tensor: Tensor) -> Tensor:
    """[I, O] → [O, I]."""
    return tensor.T if tensor.ndim == 2 else tensor

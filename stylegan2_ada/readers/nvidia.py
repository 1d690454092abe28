"""Snapshots of NVIDIA's StyleGAN2-ADA in PyTorch: pickles of persistent modules. Those of TensorFlow are passed on."""

import itertools
import re
from pathlib import Path

from torch import Tensor

from stylegan2_ada.generator import Generator
from stylegan2_ada.readers.build import RESOLUTIONS, block_name, build_generator, check_tensors, finite_number
from stylegan2_ada.readers.errors import SUPPORTED, CheckpointError, naming
from stylegan2_ada.readers.pickles import ForbiddenNameError, PersistentObject, TensorFlowNetwork, read_snapshot
from stylegan2_ada.readers.tensorflow import tensorflow_generator


def load_nvidia(path: Path) -> Generator:
    """The generator in a snapshot of NVIDIA's, without running any of it: in float32, frozen, in evaluation mode.

    Args:
        path: a pickle of StyleGAN2-ADA in PyTorch, a dict with G_ema; or one of StyleGAN2 or StyleGAN2-ADA in
            TensorFlow, a tuple (G, D, Gs), of which Gs is read.

    Raises:
        CheckpointError: if the file is damaged, names anything that such a snapshot does not need, or holds a
            network of another kind.
    """
    data = path.read_bytes()
    with naming(path):
        try:
            snapshot = read_snapshot(data)
        except ForbiddenNameError as error:
            if "stylegan3" in error.name:
                raise CheckpointError(f"it is a StyleGAN3 network ({error.name}); supported are {SUPPORTED}.") from None
            raise
        if isinstance(snapshot, tuple | TensorFlowNetwork):
            return tensorflow_generator(snapshot, len(data))
        if not isinstance(snapshot, dict):
            found = type(snapshot).__name__
            raise CheckpointError(f"it holds data of type {found}, not a snapshot; supported are {SUPPORTED}.")
        if snapshot.get("G_ema") is None:
            found = ", ".join(snapshot) or "nothing"
            raise CheckpointError(f"it holds {found[:100]}, but no generator G_ema; supported are {SUPPORTED}.")
        return _generator(_modules_by_name(snapshot["G_ema"]), len(data))


def _modules_by_name(network: object) -> dict[str, dict]:
    """The state of every module of a network, by its dotted name: "synthesis.b4.conv1." and so on."""
    if not isinstance(network, PersistentObject) or network.class_name != "Generator":
        found = network.class_name[:100] if isinstance(network, PersistentObject) else type(network).__name__
        raise CheckpointError(f"its generator is a {found}, not a Generator; supported are {SUPPORTED}.")
    states: dict[str, dict] = {}
    queue: list[tuple[str, object]] = [("", network)]
    while queue:
        prefix, module = queue.pop()
        if not isinstance(module, PersistentObject):
            raise CheckpointError(f"its module {prefix} is not one of NVIDIA's.")
        children = _entries(module.state, "_modules")
        # A network has a few dozen modules, four levels deep; a pickle may hold modules that contain themselves.
        if len(states) + len(queue) + len(children) > 1000 or len(prefix) > 100:
            raise CheckpointError("its generator has more modules than any StyleGAN2.")
        states[prefix] = module.state
        queue += [(f"{prefix}{name}.", child) for name, child in children.items()]
    if "synthesis.input." in states:
        raise CheckpointError(f"it holds a StyleGAN3 generator; supported are {SUPPORTED}.")
    return states


def _entries(state: dict, name: str) -> dict:
    """A module's "_modules", "_parameters" or "_buffers"."""
    entries = state.get(name)
    if not isinstance(entries, dict):
        raise CheckpointError(f"a module of its generator has no {name}.")
    return entries


def _generator(modules: dict[str, dict], max_bytes: int) -> Generator:
    """The generator made of these modules, with each tensor's run-time gain folded in."""
    tensors: dict[str, Tensor] = {}
    gains: dict[str, float] = {}
    for prefix, state in modules.items():
        activation = "linear" if prefix.endswith((".affine.", ".embed.", ".skip.")) else "lrelu"
        if state.get("activation", activation) != activation:
            raise CheckpointError(f"its layer {prefix} has an activation other than {activation}.")
        for name, tensor in itertools.chain(
            _entries(state, "_parameters").items(), _entries(state, "_buffers").items()
        ):
            # Modules may share their dicts and names, so a small file may describe very many tensors.
            if len(tensors) > 10_000 or len(name) > 100:
                raise CheckpointError("its generator has more tensors than any StyleGAN2, or longer names.")
            if tensor is not None:
                tensors[prefix + name] = tensor
                gains[prefix + name] = finite_number(state.get(f"{name}_gain", 1))
    check_tensors(tensors, max_bytes)

    f = tensors.get("synthesis.b8.resample_filter")
    state = {
        _our_name(name): tensor.float() * gains[name]
        for name, tensor in tensors.items()
        if not name.endswith("resample_filter")
    }
    for name, tensor in state.items():
        if name.endswith("noise"):
            state[name] = tensor[None, None]  # [1, 1, r, r]
        elif name.endswith("const"):
            state[name] = tensor[None]  # [1, C, 4, 4]
        elif name.endswith("to_rgb.weight") and tensor.ndim == 4:
            state[name] = tensor.flatten(1)  # [img_channels, C]
    clamp = modules.get("synthesis.b4.conv1.", {}).get("conv_clamp")
    return build_generator(state, f, None if clamp is None else finite_number(clamp))


def _our_name(name: str) -> str:
    name = re.sub(rf"^synthesis\.b({RESOLUTIONS})\.", lambda m: f"synthesis.{block_name(int(m[1]))}.", name)
    name = re.sub(r"^mapping\.fc(\d+)\.", r"mapping.layers.\1.", name)
    return name.replace(".torgb.", ".to_rgb.").replace(".noise_const", ".noise")

"""Readers of pretrained weights. None of them executes anything that a file contains."""

import argparse
import contextlib
import itertools
import json
import math
import os
import re
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from stylegan2_ada.inert_pickle import ForbiddenNameError, PersistentObject, PickleError, read_snapshot
from stylegan2_ada.networks import Generator, MappingNetwork, SynthesisNetwork, estimate_w_avg
from stylegan2_ada.ops import fir_filter

_IR_DTYPES = {"f16": "<f2", "f32": "<f4", "f64": "<f8", "i32": "<i4", "i64": "<i8", "u8": "u1", "i8": "i1"}


class CheckpointError(ValueError):
    """A weights file that cannot be read, or that holds another network than the one asked for."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a page of traceback."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True)
class IRLayer:
    """A node of an OpenVINO graph: ``inputs`` are the ids of the producing nodes, in port order."""

    id: str
    name: str
    type: str
    inputs: tuple[str, ...]
    constant: Tensor | None


class IRGraph:
    """An OpenVINO intermediate representation: nodes by id, and questions about their connections."""

    def __init__(self, layers: list[IRLayer]):
        self.layers = {layer.id: layer for layer in layers}
        self._by_name = {layer.name: layer for layer in layers}
        self._consumers: dict[str, list[IRLayer]] = {}
        for layer in layers:
            for source in layer.inputs:
                self._consumers.setdefault(source, []).append(layer)

    def named(self, name: str) -> IRLayer:
        """The node of that name.

        Raises:
            CheckpointError: if there is none.
        """
        if name not in self._by_name:
            raise CheckpointError(f"The OpenVINO graph has no node named {name}; it is another network.")
        return self._by_name[name]

    def constant(self, name: str) -> Tensor:
        """The constant of that name.

        Raises:
            CheckpointError: if there is none.
        """
        value = self.named(name).constant
        if value is None:
            raise CheckpointError(f"The OpenVINO node {name} is no constant; it is another network.")
        return value

    def consumer(self, layer: IRLayer, type: str) -> IRLayer:
        """The one node of that type that a node feeds.

        Raises:
            CheckpointError: if there is none, or more than one.
        """
        return self._one([n for n in self._consumers.get(layer.id, []) if n.type == type], f"{type} after", layer)

    def source(self, layer: IRLayer, type: str) -> IRLayer:
        """The one node of that type that feeds a node.

        Raises:
            CheckpointError: if there is none, or more than one.
        """
        sources = [self.layers[i] for i in layer.inputs]
        return self._one([n for n in sources if n.type == type], f"{type} before", layer)

    def _one(self, found: list[IRLayer], what: str, layer: IRLayer) -> IRLayer:
        if len(found) != 1:
            raise CheckpointError(f"The OpenVINO graph has {len(found)} nodes {what} {layer.name}, not 1.")
        return found[0]


def read_openvino_ir(xml: str | Path | bytes, weights: bytes) -> IRGraph:
    """Read an OpenVINO IR (version 10 or 11): the XML graph and its binary of raw little-endian constants.

    Args:
        xml: the graph, as a path or as its bytes.
        weights: the content of the ``.bin`` file.

    Raises:
        CheckpointError: if the XML is no IR graph, or a constant lies outside the binary.
    """
    text = xml if isinstance(xml, bytes) else Path(xml).read_bytes()
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise CheckpointError(f"This is not an OpenVINO graph: its XML cannot be parsed ({error}).") from None
    if root.tag != "net" or root.find("layers") is None or root.find("edges") is None:
        raise CheckpointError(f"This is not an OpenVINO graph: the root of its XML is <{root.tag}>.")
    inputs: dict[str, list[tuple[int, str]]] = {}
    for edge in root.iterfind("edges/edge"):
        inputs.setdefault(edge.get("to-layer"), []).append((int(edge.get("to-port")), edge.get("from-layer")))
    layers = []
    for node in root.iterfind("layers/layer"):
        constant = _ir_constant(node, weights) if node.get("type") == "Const" else None
        ports = tuple(source for _, source in sorted(inputs.get(node.get("id"), [])))
        layers.append(IRLayer(node.get("id"), node.get("name"), node.get("type"), ports, constant))
    return IRGraph(layers)


def _ir_constant(node: ElementTree.Element, weights: bytes) -> Tensor:
    data = node.find("data").attrib
    dtype = _IR_DTYPES.get(data["element_type"])
    shape = [int(s) for s in data["shape"].split(",") if s.strip()]
    offset, size = int(data["offset"]), int(data["size"])
    if dtype is None:
        raise CheckpointError(f"Constant {node.get('name')} has the unsupported type {data['element_type']}.")
    if offset < 0 or offset + size > len(weights) or size != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise CheckpointError(f"Constant {node.get('name')} lies outside the weights: the .bin file is truncated.")
    values = np.frombuffer(weights, dtype, count=int(np.prod(shape)), offset=offset).reshape(shape)
    return torch.from_numpy(values.copy())


def read_mobilestylegan(mapping: IRGraph, synthesis: IRGraph) -> dict[str, Tensor]:
    """The state dict of ``mobile.mobile_generator`` from the two OpenVINO graphs of the package random-face.

    Two things change on the way. The run-time gains of the styles are folded into their affine layers, and the
    noise, which the export stores already scaled, is split into a strength and a buffer of unit variance, so that
    a projector may put any standard normal buffer in its place.

    The graphs hold no w̄: ``mapping.w_avg`` is zero here, to be estimated from mapped z.

    Raises:
        CheckpointError: if the graphs are of another network.
    """
    state = {"mapping.w_avg": torch.zeros(512)}
    products = [layer for layer in mapping.layers.values() if layer.type == "MatMul"]
    for i, product in enumerate(products):
        reshaped_bias = mapping.source(mapping.consumer(product, "Add"), "Reshape")
        state[f"mapping.layers.{i}.weight"] = mapping.source(product, "Const").constant  # [out, in]
        state[f"mapping.layers.{i}.bias"] = mapping.source(reshaped_bias, "Const").constant

    state["synthesis.const"] = synthesis.constant("m.input.input")
    state |= _mobile_conv(synthesis, "m.conv1", "synthesis.conv", separable=False)
    for i in range(7):
        ours, theirs = f"synthesis.blocks.{i}", f"m.layers.{i}"
        state |= _mobile_style(synthesis, f"{theirs}.up.modulation", f"{ours}.up", gain=1.0)
        state |= _mobile_conv(synthesis, f"{theirs}.conv1", f"{ours}.conv1")
        state |= _mobile_conv(synthesis, f"{theirs}.conv2", f"{ours}.conv2")
    head = synthesis.constant("m.layers.6.to_img.conv.weight")
    state |= _mobile_style(
        synthesis, "m.layers.6.to_img.conv.modulation", "synthesis.to_img", gain=head.shape[1] ** -0.5
    )
    state["synthesis.to_img_conv.weight"] = head.flatten(1)  # 1 × 1 kernels are kept as matrices
    state["synthesis.to_img_bias"] = synthesis.constant("m.layers.6.to_img.bias")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _mobile_style(graph: IRGraph, theirs: str, ours: str, *, gain: float) -> dict[str, Tensor]:
    return {
        f"{ours}.affine.weight": graph.constant(f"{theirs}.weight") * gain,
        f"{ours}.affine.bias": graph.constant(f"{theirs}.bias").flatten() * gain,
    }


def _mobile_conv(graph: IRGraph, theirs: str, ours: str, *, separable: bool = True) -> dict[str, Tensor]:
    # The last convolution and the noise have no names: walk back from the named bias,
    # convolution → Add(noise) → Add(bias).
    add_noise = graph.source(graph.consumer(graph.named(f"{theirs}.bias"), "Add"), "Add")
    kernel = graph.source(graph.source(add_noise, "Convolution"), "Const").constant  # [out, in, k, k]
    in_channels = kernel.shape[1]
    depthwise = graph.constant(f"{theirs}.conv.weight_dw").flatten(1, 2) if separable else None  # [in, 1, 3, 3]
    kernels = [depthwise, kernel.flatten(1)] if separable else [kernel]
    noise = graph.source(add_noise, "Const").constant
    strength = noise.double().std(correction=0).float()  # in float64, so that every machine rounds to the same value
    # 9 · in is the fan-in of the 3 × 3 convolution that a separable one was distilled from.
    return _mobile_style(graph, f"{theirs}.conv.modulation", f"{ours}.modulation", gain=(9 * in_channels) ** -0.5) | {
        **{f"{ours}.conv.{i}.weight": kernel for i, kernel in enumerate(kernels)},
        f"{ours}.bias": graph.constant(f"{theirs}.bias"),
        f"{ours}.noise_strength": strength,
        f"{ours}.noise": noise / strength,
    }


SUPPORTED = "StyleGAN2-ADA snapshots of NVIDIA's PyTorch code (.pkl), rosinality's StyleGAN2 (.pt) and .safetensors"
_CONTENTS = {
    ".pkl": ("a pickle",),
    ".pt": ("a PyTorch archive", "an old PyTorch file"),
    ".safetensors": ("a safetensors file",),
}
_FORMAT = "stylegan2_ada"
_LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def load_generator_file(path: str | Path) -> Generator:
    """The generator in a file: NVIDIA's ``.pkl`` (its G_ema), rosinality's ``.pt`` or our ``.safetensors``.

    Returns:
        A StyleGAN2 generator in float32, frozen, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: if the file is missing, is not what its name says, or holds no such generator.
    """
    path = Path(path)
    kind, suffix = _content(path), path.suffix.lower()
    if suffix not in _CONTENTS:
        raise CheckpointError(f"{path} has the unknown suffix {suffix!r}; supported are {SUPPORTED}.")
    if kind not in _CONTENTS[suffix]:
        raise CheckpointError(f"{path} holds {kind}, not what its name says; supported are {SUPPORTED}.")
    if suffix == ".pkl":
        return load_nvidia_pickle(path)["G_ema"]
    return _load_rosinality(path) if suffix == ".pt" else _load_safetensors(path)


def _content(path: Path) -> str:
    """What the first bytes of a file say that it is."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; supported are {SUPPORTED}.")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened: {error.strerror}.") from None
    if not head:
        raise CheckpointError(f"{path} is empty: the download has failed.")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise CheckpointError(f"{path} holds a web page, perhaps the error page of a download, not weights.")
    if head.startswith(b"PK"):
        return "a PyTorch archive"
    if head.startswith(_LEGACY_TORCH_MAGIC):
        return "an old PyTorch file"
    if head.startswith(b"\x80"):
        return "a pickle"
    return "a safetensors file" if head[8:9] == b"{" else "unknown data"


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in whatever error is met inside."""
    try:
        yield
    except (CheckpointError, PickleError) as error:
        raise CheckpointError(f"{path} cannot be read: {str(error).rstrip('.')}.") from None


def load_nvidia_pickle(path: str | Path) -> dict:
    """The generators in a snapshot of NVIDIA's StyleGAN2-ADA in PyTorch, without running anything of it.

    Args:
        path: a pickle of a dict with G_ema and, as NVIDIA's training writes them, G, D, augment_pipe and
            training_set_kwargs.

    Returns:
        {"G_ema", "G", "metadata"}: generators in float32, frozen, in evaluation mode, G only where the file has it;
        the entries of the snapshot that are plain data, and as ``num_fp16_res`` how many resolutions it was trained
        with in half precision (``G_ema.synthesis.num_fp16_res`` is 0; set it to do the same).

    Raises:
        CheckpointError: if the file is damaged, names anything that such a snapshot does not need, or holds another
            kind of network.
    """
    path = Path(path)
    if (kind := _content(path)) != "a pickle":
        raise CheckpointError(f"{path} holds {kind}, not a pickle; supported are {SUPPORTED}.")
    data = path.read_bytes()
    with _reading(path):
        try:
            snapshot = read_snapshot(data)
        except ForbiddenNameError as error:
            if error.name.startswith("dnnlib.tflib"):
                raise CheckpointError(
                    f"it is of StyleGAN's TensorFlow era ({error.name}); supported: {SUPPORTED}."
                ) from None
            if "stylegan3" in error.name:
                raise CheckpointError(f"it is of StyleGAN3 ({error.name}); supported are {SUPPORTED}.") from None
            raise
        if not isinstance(snapshot, dict):
            raise CheckpointError(f"it holds a {type(snapshot).__name__}, not a snapshot; supported are {SUPPORTED}.")
        if snapshot.get("G_ema") is None:
            found = ", ".join(snapshot) or "nothing"
            raise CheckpointError(f"it holds {found[:100]}, but no generator G_ema; supported are {SUPPORTED}.")
        modules = {name: _nvidia_modules(snapshot[name]) for name in ("G", "G_ema") if snapshot.get(name) is not None}
        networks = {name: _nvidia_generator(found, len(data)) for name, found in modules.items()}
        metadata = {name: value for name, value in snapshot.items() if not isinstance(value, PersistentObject)}
        metadata["num_fp16_res"] = sum(state.get("use_fp16") is True for state in modules["G_ema"].values())
    return {**networks, "metadata": metadata}


def _nvidia_modules(network: object) -> dict[str, dict]:
    """The state of every module of a persistent network, by dotted name: "synthesis.b4.conv1." and so on."""
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
        # A network is a few dozen modules four levels deep; a pickle may hold a loop of them.
        if len(states) + len(queue) + len(children) > 1000 or len(prefix) > 100:
            raise CheckpointError("its generator has more modules than any StyleGAN2.")
        states[prefix] = module.state
        queue += [(f"{prefix}{name}.", child) for name, child in children.items()]
    if "synthesis.input." in states:
        raise CheckpointError(f"it holds a StyleGAN3 generator; supported are {SUPPORTED}.")
    return states


def _entries(state: dict, name: str) -> dict:
    entries = state.get(name)
    if not isinstance(entries, dict):
        raise CheckpointError(f"a module of its generator has no {name}.")
    return entries


def _nvidia_generator(modules: dict[str, dict], max_bytes: int) -> Generator:
    tensors: dict[str, Tensor] = {}
    gains: dict[str, float] = {}
    for prefix, state in modules.items():
        activation = "linear" if prefix.endswith((".affine.", ".embed.", ".skip.")) else "lrelu"
        if state.get("activation", activation) != activation:
            raise CheckpointError(f"its layer {prefix} has another activation than {activation}.")
        for name, tensor in itertools.chain(
            _entries(state, "_parameters").items(), _entries(state, "_buffers").items()
        ):
            # Modules may share their dicts and names, which multiplies them.
            if len(tensors) > 10_000 or len(name) > 100:
                raise CheckpointError("its generator has more tensors than any StyleGAN2, or longer names.")
            if tensor is not None:
                tensors[prefix + name] = tensor
                gains[prefix + name] = _number(state.get(f"{name}_gain", 1))
    _check_tensors(tensors, max_bytes)

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
    return _build(state, f, None if clamp is None else _number(clamp))


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not abs(value) < 1e9:
        raise CheckpointError("a gain or a clamp of its layers is not a number.")
    return float(value)


def _our_name(name: str) -> str:
    name = re.sub(r"^synthesis\.b(4|8|16|32|64|128|256|512|1024)\.", lambda m: f"synthesis.{_block(int(m[1]))}.", name)
    name = re.sub(r"^mapping\.fc(\d+)\.", r"mapping.layers.\1.", name)
    return name.replace(".torgb.", ".to_rgb.").replace(".noise_const", ".noise")


def _block(resolution: int) -> str:
    return f"blocks.{resolution.bit_length() - 3}"


def _check_tensors(tensors: dict[str, object], max_bytes: int):
    """Refuse what is no dense tensor of weights, and overlapping tensors that together exceed their file."""
    total = 0
    for name, tensor in tensors.items():
        dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise CheckpointError(f"its {str(name)[:100]} is not a tensor of weights.")
        total += tensor.nbytes
    if total > max_bytes:
        raise CheckpointError("it describes more tensor data than it holds.")


def _build(state: dict[str, Tensor], taps: Tensor | None, conv_clamp: float | None) -> Generator:
    """The generator whose state dict this is; the sizes are read off the shapes.

    Args:
        state: tensors by name, without ``synthesis.resample_filter``.
        taps: of the resample filter, [k] or [k, k].
        conv_clamp: of ``SynthesisNetwork``.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """

    def shape(name: str, ndim: int) -> torch.Size:
        if name not in state:
            raise CheckpointError(f"the tensor {name} is missing.")
        if state[name].ndim != ndim or state[name].numel() == 0:
            raise CheckpointError(f"its tensor {name} has the shape {list(state[name].shape)}.")
        return state[name].shape

    def count(pattern: str) -> int:
        return len({m[1] for m in map(re.compile(pattern).match, state) if m})

    if taps is None or taps.ndim not in (1, 2) or not 1 <= len(taps) == taps.shape[-1] <= 64 or taps.sum() == 0:
        raise CheckpointError("it has no resample filter of 1 to 64 taps.")
    state = {**state, "synthesis.resample_filter": fir_filter(taps)}
    num_blocks, num_layers = count(r"synthesis\.blocks\.(\d+)\."), count(r"mapping\.layers\.(\d+)\.")
    if not 2 <= num_blocks <= 9 or num_layers == 0:
        raise CheckpointError(f"it has {num_blocks} resolutions and {num_layers} mapping layers, not a StyleGAN2's.")
    (w_dim,) = shape("mapping.w_avg", 1)
    hidden, in_features = shape("mapping.layers.0.weight", 2)
    conditional = any(name.startswith("mapping.embed.") for name in state)
    embed_features, c_dim = shape("mapping.embed.weight", 2) if conditional else (0, 0)
    has_skips = any(".skip." in name for name in state)
    has_first_colours = any(name.startswith("synthesis.blocks.0.to_rgb.") for name in state)
    with torch.device("meta"):
        synthesis = SynthesisNetwork(
            w_dim,
            [shape(f"synthesis.blocks.{i}.conv1.weight", 4)[0] for i in range(num_blocks)],
            shape(f"synthesis.blocks.{num_blocks - 1}.to_rgb.weight", 2)[0],
            architecture="resnet" if has_skips else "skip" if has_first_colours else "orig",
            resample_filter=[1.0] * len(state["synthesis.resample_filter"]),
            use_noise=any(name.endswith(".noise_strength") for name in state),
            conv_clamp=conv_clamp,
        )
        mapping = MappingNetwork(
            max(in_features - embed_features, 1),
            w_dim,
            synthesis.num_ws,
            c_dim=c_dim,
            num_layers=num_layers,
            embed_features=embed_features,
            layer_features=hidden,
        )
        generator = Generator(mapping, synthesis)
    expected = generator.state_dict()
    for name, tensor in expected.items():
        if shape(name, tensor.ndim) != tensor.shape:
            raise CheckpointError(f"its tensor {name} is {list(state[name].shape)}, not {list(tensor.shape)}.")
    if unknown := state.keys() - expected.keys():
        raise CheckpointError(f"it has the unknown tensor {min(unknown)[:100]}.")
    generator.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, assign=True)
    return generator.eval().requires_grad_(False)


def _load_rosinality(path: Path) -> Generator:
    """The generator in a ``.pt`` of rosinality's StyleGAN2, whose file has the mean of W at best beside the tensors."""
    with _reading(path):
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
            # Damage shows as one of a dozen exceptions of pickle, zip and PyTorch.
            reason = str(error).strip().split("\n")[0][:200]
            raise CheckpointError(f"PyTorch's weights-only reader refuses it ({reason}).") from None
        if not isinstance(checkpoint, dict):
            raise CheckpointError(f"it holds a {type(checkpoint).__name__}, not a dict; supported are {SUPPORTED}.")
        theirs = checkpoint.get("g_ema")
        if not isinstance(theirs, dict):
            found = ", ".join(key for key in checkpoint if isinstance(key, str)) or "nothing"
            raise CheckpointError(f"it holds {found[:100]}, but no g_ema; supported are {SUPPORTED}.")
        _check_tensors(theirs, size)
        state = dict(
            _from_rosinality(str(name), tensor.float())
            for name, tensor in theirs.items()
            if not str(name).endswith(("blur.kernel", "upsample.kernel"))
        )
        taps = theirs.get("convs.0.conv.blur.kernel")
        mean = checkpoint.get("latent_avg")
        has_mean = isinstance(mean, Tensor) and mean.ndim == 1
        if "mapping.layers.0.bias" not in state:
            raise CheckpointError("the tensor style.1.bias is missing.")
        state["mapping.w_avg"] = mean.float() if has_mean else torch.zeros_like(state["mapping.layers.0.bias"])
        generator = _build(state, taps, conv_clamp=None)
        if not has_mean:
            generator.w_avg.copy_(estimate_w_avg(generator.mapping))
    return generator


_ROSINALITY_LAYER_NAMES = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
}


def _from_rosinality(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Our name and tensor for one of theirs, the run-time gains of equalised learning rates folded in."""
    if m := re.fullmatch(r"style\.(\d{1,3})\.(weight|bias)", name):  # style.0 is the normalisation of z
        gain = 0.01 * (_equalised(tensor.shape[1:]) if m[2] == "weight" else 1.0)
        return f"mapping.layers.{int(m[1]) - 1}.{m[2]}", tensor * gain
    if name == "input.input":
        return "synthesis.blocks.0.const", tensor
    if m := re.fullmatch(r"noises\.noise_(\d{1,3})", name):
        return f"synthesis.{_rosinality_conv(int(m[1]))}.noise", tensor
    if m := re.fullmatch(r"conv(1)\.(.+)|convs\.(\d{1,3})\.(.+)", name):
        layer, rest = _rosinality_conv(0 if m[1] else int(m[3]) + 1), m[2] or m[4]
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
    return f"synthesis.{layer}.{_ROSINALITY_LAYER_NAMES.get(rest, rest)}", tensor


def _rosinality_conv(index: int) -> str:
    """The styled convolutions, counted from coarse to fine: one at 4 px, then two at each resolution."""
    return f"blocks.{(index + 1) // 2}.conv{(index + 1) % 2}"


def _equalised(fan_in: torch.Size) -> float:
    return 1 / math.sqrt(max(fan_in.numel(), 1))


def save_generator(generator: Generator, path: str | Path):
    """Write a StyleGAN2 generator as safetensors; the file appears whole or not at all.

    Raises:
        ValueError: if the generator is of another kind.
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


def _load_safetensors(path: Path) -> Generator:
    with _reading(path):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"it is damaged ({error}).") from None
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(f"it holds {len(state)} tensors of another model; supported are {SUPPORTED}.")
        _check_tensors(state, path.stat().st_size)
        taps = state.pop("synthesis.resample_filter", None)
        try:
            clamp = json.loads(metadata["config"])["conv_clamp"]
        except (KeyError, TypeError, ValueError, RecursionError):
            raise CheckpointError("its metadata do not describe a generator.") from None
        return _build(
            {name: tensor.float() for name, tensor in state.items()}, taps, None if clamp is None else _number(clamp)
        )

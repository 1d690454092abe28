"""OpenVINO's intermediate representation, and the MobileStyleGAN that the package random-face ships in it."""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stylegan2_ada.readers.errors import CheckpointError

_IR_DTYPES = {"f16": "<f2", "f32": "<f4", "f64": "<f8", "i32": "<i4", "i64": "<i8", "u8": "u1", "i8": "i1"}


@dataclass(frozen=True)
class IRLayer:
    """A node of an OpenVINO graph: ``inputs`` are the ids of the nodes that feed it, in port order."""

    id: str
    name: str
    type: str
    inputs: tuple[str, ...]
    constant: Tensor | None


class IRGraph:
    """An OpenVINO graph: its nodes by id, with look-ups by name and along the edges.

    A look-up that does not find exactly one node raises a ``CheckpointError``.
    """

    def __init__(self, layers: list[IRLayer]):
        self.layers = {layer.id: layer for layer in layers}
        self._by_name = {layer.name: layer for layer in layers}

    def named(self, name: str) -> IRLayer:
        """The node of that name."""
        if name not in self._by_name:
            raise CheckpointError(f"The OpenVINO graph has no node named {name}: it is a different network.")
        return self._by_name[name]

    def constant(self, node: str | IRLayer) -> Tensor:
        """The value of a constant, given its name or its node."""
        layer = self.named(node) if isinstance(node, str) else node
        if layer.constant is None:
            raise CheckpointError(f"The OpenVINO node {layer.name} is not a constant: this is a different network.")
        return layer.constant

    def consumer(self, layer: IRLayer, type: str) -> IRLayer:
        """The one node of that type that ``layer`` feeds."""
        consumers = [n for n in self.layers.values() if n.type == type and layer.id in n.inputs]
        return self._one(consumers, f"{type} after", layer)

    def source(self, layer: IRLayer, type: str) -> IRLayer:
        """The one node of that type that feeds ``layer``."""
        sources = [self.layers[i] for i in layer.inputs if self.layers[i].type == type]
        return self._one(sources, f"{type} before", layer)

    def _one(self, found: list[IRLayer], what: str, layer: IRLayer) -> IRLayer:
        if len(found) != 1:
            raise CheckpointError(f"The OpenVINO graph has {len(found)} nodes {what} {layer.name}, not 1.")
        return found[0]


def read_openvino_ir(xml: bytes, weights: bytes) -> IRGraph:
    """Read an OpenVINO IR (version 10 or 11): a graph in XML, and its constants as raw little-endian binary.

    Raises:
        CheckpointError: if the XML is not an IR graph, or a constant lies outside the binary.
    """
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise CheckpointError(f"This is not an OpenVINO graph: its XML cannot be parsed ({error}).") from None
    if root.tag != "net" or root.find("layers") is None or root.find("edges") is None:
        raise CheckpointError(f"This is not an OpenVINO graph: the root of its XML is <{root.tag}>.")
    try:
        return IRGraph(_ir_layers(root, weights))
    except KeyError as error:
        raise CheckpointError(f"This is not an OpenVINO graph: a part of its XML has no {error}.") from None


def _ir_layers(root: ElementTree.Element, weights: bytes) -> list[IRLayer]:
    inputs: dict[str, list[tuple[int, str]]] = {}
    for edge in root.iterfind("edges/edge"):
        end = edge.attrib
        inputs.setdefault(end["to-layer"], []).append((int(end["to-port"]), end["from-layer"]))
    layers = []
    for node in root.iterfind("layers/layer"):
        about = node.attrib
        constant = _ir_constant(node, weights) if about["type"] == "Const" else None
        ports = tuple(source for _, source in sorted(inputs.get(about["id"], [])))
        layers.append(IRLayer(about["id"], about["name"], about["type"], ports, constant))
    return layers


def _ir_constant(node: ElementTree.Element, weights: bytes) -> Tensor:
    if (found := node.find("data")) is None:
        raise CheckpointError(f"Constant {node.get('name')} has no data: the XML is damaged.")
    data = found.attrib
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
    """The state dict for ``mobile.mobile_generator``, from the two OpenVINO graphs in the package random-face.

    Two things change on the way. The run-time gains of the styles are folded into their affine layers. The noise,
    which the export stores scaled, is split into a strength and a buffer of unit variance, so that any standard normal
    buffer can replace it.

    The graphs hold no w̄: ``mapping.w_avg`` is zero here, and the caller estimates it from mapped z.

    Raises:
        CheckpointError: if the graphs are those of a different network.
    """
    state = {"mapping.w_avg": torch.zeros(512)}
    products = [layer for layer in mapping.layers.values() if layer.type == "MatMul"]
    for i, product in enumerate(products):
        reshaped_bias = mapping.source(mapping.consumer(product, "Add"), "Reshape")
        state[f"mapping.layers.{i}.weight"] = mapping.constant(mapping.source(product, "Const"))  # [out, in]
        state[f"mapping.layers.{i}.bias"] = mapping.constant(mapping.source(reshaped_bias, "Const"))

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
    state["synthesis.to_img_conv.weight"] = head.flatten(1)  # 1 × 1 kernels are stored as matrices
    state["synthesis.to_img_bias"] = synthesis.constant("m.layers.6.to_img.bias")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _mobile_style(graph: IRGraph, theirs: str, ours: str, *, gain: float) -> dict[str, Tensor]:
    return {
        f"{ours}.affine.weight": graph.constant(f"{theirs}.weight") * gain,
        f"{ours}.affine.bias": graph.constant(f"{theirs}.bias").flatten() * gain,
    }


def _mobile_conv(graph: IRGraph, theirs: str, ours: str, *, separable: bool = True) -> dict[str, Tensor]:
    # The last convolution and the noise have no names: walk back to them from the bias, which has one.
    # Convolution → Add(noise) → Add(bias).
    add_noise = graph.source(graph.consumer(graph.named(f"{theirs}.bias"), "Add"), "Add")
    kernel = graph.constant(graph.source(graph.source(add_noise, "Convolution"), "Const"))  # [out, in, k, k]
    in_channels = kernel.shape[1]
    kernels = [kernel]
    if separable:  # [in, 1, 3, 3] and [out, in]
        kernels = [graph.constant(f"{theirs}.conv.weight_dw").flatten(1, 2), kernel.flatten(1)]
    noise = graph.constant(graph.source(add_noise, "Const"))
    strength = noise.double().std(correction=0).float()  # in float64, so that every machine rounds to the same value
    # 9 · in is the fan-in of the 3 × 3 convolution that a separable one was distilled from.
    return _mobile_style(graph, f"{theirs}.conv.modulation", f"{ours}.modulation", gain=(9 * in_channels) ** -0.5) | {
        **{f"{ours}.conv.{i}.weight": kernel for i, kernel in enumerate(kernels)},
        f"{ours}.bias": graph.constant(f"{theirs}.bias"),
        f"{ours}.noise_strength": strength,
        f"{ours}.noise": noise / strength,
    }

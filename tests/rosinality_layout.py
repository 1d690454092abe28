"""StyleGAN2 as rosinality's checkpoints hold it, and what it computes, written out step by step in float64."""

import math

import torch
import torch.nn.functional as F


def make_state(rng, channels=(6, 5, 4), width=8, num_layers=3, img_channels=3):
    """The ``g_ema`` state dict: weights as trained, with their run-time gains still to come."""
    f = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = 4 * f.outer(f) / f.sum() ** 2
    state = {"input.input": _randn(rng, 1, channels[0], 4, 4)}
    for i in range(1, num_layers + 1):
        state[f"style.{i}.weight"] = 100 * _randn(rng, width, width)
        state[f"style.{i}.bias"] = 30 * _randn(rng, width)

    def modulated(name, inputs, outputs, size):
        state[f"{name}.conv.weight"] = _randn(rng, 1, outputs, inputs, size, size)
        state[f"{name}.conv.modulation.weight"] = _randn(rng, inputs, width)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.3 * _randn(rng, inputs)

    def styled(name, inputs, outputs):
        modulated(name, inputs, outputs, 3)
        state[f"{name}.noise.weight"] = _randn(rng, 1)
        state[f"{name}.activate.bias"] = _randn(rng, outputs)

    def colours(name, inputs):
        modulated(name, inputs, img_channels, 1)
        state[f"{name}.bias"] = _randn(rng, 1, img_channels, 1, 1)

    styled("conv1", channels[0], channels[0])
    colours("to_rgb1", channels[0])
    state["noises.noise_0"] = _randn(rng, 1, 1, 4, 4)
    for i, outputs in enumerate(channels[1:]):
        styled(f"convs.{2 * i}", channels[i], outputs)
        styled(f"convs.{2 * i + 1}", outputs, outputs)
        colours(f"to_rgbs.{i}", outputs)
        state[f"convs.{2 * i}.conv.blur.kernel"] = kernel
        state[f"to_rgbs.{i}.upsample.kernel"] = kernel
        for j in (1, 2):
            state[f"noises.noise_{2 * i + j}"] = _randn(rng, 1, 1, 8 * 2**i, 8 * 2**i)
    return state


def plain_w(state, z):
    state = {name: tensor.double() for name, tensor in state.items()}
    x = z.double() * (z.double().square().mean(1, keepdim=True) + 1e-8).rsqrt()
    i = 1
    while f"style.{i}.weight" in state:
        weight = state[f"style.{i}.weight"] * (0.01 / math.sqrt(x.shape[1]))
        x = F.leaky_relu(x @ weight.T + 0.01 * state[f"style.{i}.bias"], 0.2) * math.sqrt(2)
        i += 1
    return x


def plain_image(state, ws):
    """The image of one ws [num_ws, w_dim]."""
    state = {name: tensor.double() for name, tensor in state.items()}
    ws = ws.double()

    def modulated_weight(name, w, demodulate):
        weight = state[f"{name}.conv.weight"][0]
        style = state[f"{name}.conv.modulation.weight"] / math.sqrt(len(w)) @ w + state[f"{name}.conv.modulation.bias"]
        weight = weight / math.sqrt(weight[0].numel()) * style[None, :, None, None]
        return weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt() if demodulate else weight

    def styled(name, x, w, noise):
        weight = modulated_weight(name, w, demodulate=True)
        if f"{name}.conv.blur.kernel" in state:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = depthwise(F.pad(x, (1, 1, 1, 1)), state[f"{name}.conv.blur.kernel"])
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{noise}"]
        return F.leaky_relu(x + state[f"{name}.activate.bias"][:, None, None], 0.2) * math.sqrt(2)

    def colours(name, x, w):
        return F.conv2d(x, modulated_weight(name, w, demodulate=False)) + state[f"{name}.bias"]

    def depthwise(x, kernel):
        return F.conv2d(x, kernel.flip(0, 1).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])

    x = styled("conv1", state["input.input"], ws[0], 0)
    img = colours("to_rgb1", x, ws[1])
    for i in range((len(ws) - 2) // 2):
        x = styled(f"convs.{2 * i}", x, ws[2 * i + 1], 2 * i + 1)
        x = styled(f"convs.{2 * i + 1}", x, ws[2 * i + 2], 2 * i + 2)
        spread = torch.zeros(1, 3, 2 * img.shape[2], 2 * img.shape[3], dtype=img.dtype)
        spread[:, :, ::2, ::2] = img
        img = depthwise(F.pad(spread, (2, 1, 2, 1)), state[f"to_rgbs.{i}.upsample.kernel"])
        img = img + colours(f"to_rgbs.{i}", x, ws[2 * i + 3])
    return img


def _randn(rng, *shape):
    return torch.randn(shape, generator=rng)

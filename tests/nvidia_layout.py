"""StyleGAN2-ADA networks as NVIDIA's snapshots hold them, and what they compute, written out step by step.

Tensors stay as they were trained: the gains of equalised learning rates apply at run time. Upsampling inserts zeros,
every sample is convolved by itself, and everything is float64.
"""

import math
import pickle
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F


class Persistent:
    """Pickles as an object of ``torch_utils.persistence``."""

    def __init__(self, class_name, parameters=None, buffers=None, modules=None, **attributes):
        self.class_name = class_name
        self.state = {
            "training": False,
            "_parameters": {name: torch.nn.Parameter(t, False) for name, t in (parameters or {}).items()},
            "_buffers": buffers or {},
            "_non_persistent_buffers_set": set(),
            "_modules": modules or {},
            **attributes,
        }

    def __getitem__(self, name):
        for group in ("_parameters", "_buffers", "_modules"):
            if name in self.state[group]:
                value = self.state[group][name]
                return value.double() if isinstance(value, torch.Tensor) else value
        return self.state[name]

    def __contains__(self, name):
        return any(name in self.state[group] for group in ("_parameters", "_buffers", "_modules"))

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "raise SystemExit", "class_name": self.class_name}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta | {"state": self.state},)


def snapshot_bytes(snapshot, protocol=4):
    """The pickle of a snapshot, which names what NVIDIA's pickles refer to: modules own those names for a moment."""

    def _reconstruct_persistent_obj(_meta):
        raise AssertionError("a pickle was run")

    owner = types.ModuleType("torch_utils.persistence")
    owner._reconstruct_persistent_obj = _reconstruct_persistent_obj
    _reconstruct_persistent_obj.__module__ = owner.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
        patch.setitem(sys.modules, owner.__name__, owner)
        return pickle.dumps(snapshot, protocol)


def make_generator(
    rng,
    *,
    channels=(6, 5, 4),
    z_dim=8,
    w_dim=10,
    c_dim=0,
    num_layers=2,
    embed_features=None,
    layer_features=None,
    lr_multiplier=0.01,
    architecture="skip",
    taps=(1, 3, 3, 1),
    use_noise=True,
    conv_clamp=None,
    img_channels=3,
):
    def randn(*shape):
        return torch.randn(shape, generator=rng)

    def dense(inputs, outputs, activation="linear", lr=1.0, offset=0.0):
        return Persistent(
            "FullyConnectedLayer",
            {"weight": randn(outputs, inputs) / lr, "bias": (randn(outputs) * 0.3 + offset) / lr},
            activation=activation,
            weight_gain=lr / np.sqrt(inputs),
            bias_gain=lr,
        )

    f = torch.as_tensor(taps, dtype=torch.float32)
    f = f if f.ndim == 2 or len(f) >= 8 else f.outer(f)
    f = f / f.sum()

    def styled(inputs, outputs, resolution, up):
        noise = {"noise_const": randn(resolution, resolution)} if use_noise else {}
        return Persistent(
            "SynthesisLayer",
            {"weight": randn(outputs, inputs, 3, 3), "bias": randn(outputs)}
            | ({"noise_strength": randn()} if use_noise else {}),
            {"resample_filter": f} | noise,
            {"affine": dense(w_dim, inputs, offset=1.0)},
            up=up,
            use_noise=use_noise,
            activation="lrelu",
            conv_clamp=conv_clamp,
        )

    blocks = {}
    for i, outputs in enumerate(channels):
        resolution, inputs = 2 ** (i + 2), channels[i - 1]
        modules = {"conv1": styled(outputs, outputs, resolution, 1)}
        if i:
            modules["conv0"] = styled(inputs, outputs, resolution, 2)
        if architecture == "skip" or i == len(channels) - 1:
            modules["torgb"] = Persistent(
                "ToRGBLayer",
                {"weight": randn(img_channels, outputs, 1, 1), "bias": randn(img_channels)},
                modules={"affine": dense(w_dim, outputs, offset=1.0)},
                weight_gain=1 / np.sqrt(outputs),
                conv_clamp=conv_clamp,
            )
        if architecture == "resnet" and i:
            modules["skip"] = Persistent(
                "Conv2dLayer", {"weight": randn(outputs, inputs, 1, 1)}, weight_gain=1 / np.sqrt(inputs), bias=None
            )
        const = {} if i else {"const": randn(outputs, 4, 4)}
        blocks[f"b{resolution}"] = Persistent(
            "SynthesisBlock", const, {"resample_filter": f}, modules, use_fp16=i == 2, architecture=architecture
        )

    embed = (embed_features or w_dim) if c_dim else 0
    widths = [z_dim + embed] + [layer_features or w_dim] * (num_layers - 1) + [w_dim]
    layers = {f"fc{i}": dense(widths[i], widths[i + 1], "lrelu", lr_multiplier) for i in range(num_layers)}
    if c_dim:
        layers["embed"] = dense(c_dim, embed)
    num_ws = 2 * len(channels)
    mapping = Persistent("MappingNetwork", buffers={"w_avg": randn(w_dim)}, modules=layers, num_ws=num_ws)
    synthesis = Persistent("SynthesisNetwork", modules=blocks, num_ws=num_ws)
    return Persistent("Generator", modules={"synthesis": synthesis, "mapping": mapping})


def plain_ws(generator, z, c=None):
    mapping = generator["mapping"]
    x = _normalized(z.double())
    if c is not None:
        x = torch.cat([x, _normalized(_dense(mapping["embed"], c.double()))], dim=1)
    for i in range(sum(name.startswith("fc") for name in mapping.state["_modules"])):
        x = F.leaky_relu(_dense(mapping[f"fc{i}"], x), 0.2) * math.sqrt(2)
    return x[:, None].repeat(1, mapping["num_ws"], 1)


def plain_image(generator, ws, noise=True):
    return torch.cat([_image_of_one(generator["synthesis"], w.double(), noise) for w in ws])


def _image_of_one(synthesis, ws, noise):
    x = img = None
    index = 0
    for block in synthesis.state["_modules"].values():
        f = _square(block["resample_filter"])
        gain = math.sqrt(0.5) if "skip" in block else 1.0
        if "const" in block:
            x = block["const"][None]
        else:
            if "skip" in block:
                skip = block["skip"]
                skipped = plain_upsample(F.conv2d(x, skip["weight"] * skip["weight_gain"]), f) * gain
            x = _styled(block["conv0"], x, ws[index], noise, f)
            index += 1
        x = _styled(block["conv1"], x, ws[index], noise, None, gain)
        index += 1
        if "skip" in block:
            x = x + _clamped(skipped, block["conv1"]["conv_clamp"], gain)
        if img is not None:
            img = plain_upsample(img, f)
        if "torgb" in block:
            layer = block["torgb"]
            s = _dense(layer["affine"], ws[index][None])[0] * layer["weight_gain"]
            rgb = F.conv2d(x, layer["weight"] * s[None, :, None, None], layer["bias"])
            rgb = _clamped(rgb, layer["conv_clamp"])
            img = rgb if img is None else img + rgb
    return img


def _styled(layer, x, w, noise, f, gain=1.0):
    styles = _dense(layer["affine"], w[None])
    noise = layer["noise_strength"] * layer["noise_const"] if layer["use_noise"] and noise else 0
    clamp = layer["conv_clamp"] and layer["conv_clamp"] * gain
    return plain_styled_conv(x, layer["weight"], styles, layer["bias"], noise, f, math.sqrt(2) * gain, clamp)


def plain_styled_conv(x, weight, styles, bias, noise=0, f=None, gain=2**0.5, clamp=None):
    """Modulated and demodulated weights, one sample at a time; with a filter f, upsampling by inserted zeros."""
    images = []
    for one, style in zip(x.split(1), styles, strict=True):
        w = weight * style[None, :, None, None]
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if f is None:
            images.append(F.conv2d(one, w, padding=w.shape[-1] // 2))
        else:
            y = F.conv2d(F.pad(_insert_zeros(one), (2, 2, 2, 2)), w.flip(2, 3))  # the whole convolution
            before = (len(f) + 1) // 2 - 1
            images.append(filtered(y, 4 * f, before, len(f) - 3 - before))
    return _clamped(F.leaky_relu(torch.cat(images) + noise + bias[:, None, None], 0.2) * gain, clamp)


def plain_upsample(x, f):
    return filtered(_insert_zeros(x), 4 * f, (len(f) + 1) // 2, (len(f) - 2) // 2)


def filtered(x, f, before, after):
    """True convolution of every channel with f [k, k], after padding."""
    x = F.pad(x, (before, after, before, after))
    return torch.cat([F.conv2d(channel, f.flip(0, 1)[None, None]) for channel in x.split(1, dim=1)], dim=1)


def _insert_zeros(x):
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def _clamped(x, clamp, gain=1.0):
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def _square(f):
    return f.outer(f) if f.ndim == 1 else f


def _dense(layer, x):
    return x @ (layer["weight"] * float(layer["weight_gain"])).T + layer["bias"] * layer["bias_gain"]


def _normalized(x):
    return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

"""StyleGAN2-ADA networks as NVIDIA's TensorFlow snapshots hold them, made from the layout of the PyTorch ones."""

import pickle
import sys
import types

import numpy as np
import pytest

_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}


class Network:
    """Pickles as an object of ``dnnlib.tflib.network``; ``variables`` is a dict {name: array}."""

    def __init__(self, variables=None, settings=None, components=None):
        self.variables = variables or {}
        self.state = {
            "version": 5,
            "name": "G",
            "static_kwargs": settings or {},
            "components": components or {},
            "build_module_src": "raise SystemExit",
            "build_func_name": "G_main",
        }

    def part(self, name):
        """The component of that name; "" is the network itself."""
        return self.state["components"][name] if name else self

    def __getstate__(self):
        listed = list(self.variables.items()) if isinstance(self.variables, dict) else self.variables
        return {**self.state, "variables": listed}


class EasyDict(dict):
    """Pickles as an object of ``dnnlib.util``."""


def tensorflow_bytes(networks, protocol=4):
    """The pickle of these networks, which names the classes above as NVIDIA's do."""
    places = {Network: "dnnlib.tflib.network", EasyDict: "dnnlib.util"}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("dnnlib", "dnnlib.tflib", *places.values()):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        for kind, place in places.items():
            patch.setattr(kind, "__module__", place)
            setattr(sys.modules[place], kind.__name__, kind)
        return pickle.dumps(networks, protocol)


def as_tensorflow(generator, **settings):
    """A generator of ``nvidia_layout`` as TensorFlow's code would hold it, with these static_kwargs."""
    mapping, synthesis = {}, {}
    for name, module in generator["mapping"].state["_modules"].items():
        theirs = "LabelEmbed" if name == "embed" else f"Dense{name.removeprefix('fc')}"
        mapping[f"{theirs}/weight"] = _array(module["weight"]).T
        mapping[f"{theirs}/bias"] = _array(module["bias"])
    index = 0
    for name, block in generator["synthesis"].state["_modules"].items():
        scope = f"{name[1:]}x{name[1:]}"
        if "const" in block:
            synthesis[f"{scope}/Const/const"] = _array(block["const"])[None]
        for child in ("conv0", "conv1", "torgb", "skip"):
            if child not in block:
                continue
            layer = block[child]
            place = f"{scope}/{'Conv' if scope == '4x4' and child == 'conv1' else _LAYERS[child]}"
            weight = _array(layer["weight"]).transpose(2, 3, 1, 0)  # [k, k, I, O]
            synthesis[f"{place}/weight"] = weight[::-1, ::-1] if child in ("conv0", "skip") else weight
            if child == "skip":
                continue
            synthesis[f"{place}/mod_weight"] = _array(layer["affine"]["weight"]).T
            synthesis[f"{place}/mod_bias"] = _array(layer["affine"]["bias"]) - 1
            synthesis[f"{place}/bias"] = _array(layer["bias"])
            if child != "torgb":
                if "noise_strength" in layer:
                    synthesis[f"{place}/noise_strength"] = np.float32(layer["noise_strength"])
                    synthesis[f"noise{index}"] = _array(layer["noise_const"])[None, None]
                index += 1
    parts = {"mapping": Network(mapping, settings), "synthesis": Network(synthesis, settings)}
    top = {"lod": np.float32(0), "dlatent_avg": _array(generator["mapping"]["w_avg"])}
    return Network(top, settings, parts)


def _array(tensor):
    return tensor.float().numpy()

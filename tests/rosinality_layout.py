"""StyleGAN2-ADA networks as rosinality's checkpoints hold them, made from the layout of NVIDIA's."""


def as_rosinality(generator):
    """The ``g_ema`` state dict of a generator of ``nvidia_layout`` whose z is as wide as its w."""
    state = {}
    for name, module in generator["mapping"].state["_modules"].items():
        state |= _tensors(f"style.{int(name.removeprefix('fc')) + 1}", module, "weight", "bias")

    def modulated(name, layer):
        state[f"{name}.conv.weight"] = layer["weight"].float()[None]  # [1, O, I, k, k]
        state.update(_tensors(f"{name}.conv.modulation", layer["affine"], "weight", "bias"))

    blocks = generator["synthesis"].state["_modules"].values()
    state["input.input"] = next(iter(blocks))["const"].float()[None]  # [1, C, 4, 4]
    for i, block in enumerate(blocks, start=-1):
        for child in [child for child in ("conv0", "conv1") if child in block]:
            index = 2 * i + int(child[-1])  # of those after the first
            name, layer = "conv1" if i < 0 else f"convs.{index}", block[child]
            modulated(name, layer)
            state[f"{name}.noise.weight"] = layer["noise_strength"].float()[None]
            state[f"{name}.activate.bias"] = layer["bias"].float()
            state[f"noises.noise_{index + 1}"] = layer["noise_const"].float()[None, None]
        head = "to_rgb1" if i < 0 else f"to_rgbs.{i}"
        modulated(head, block["torgb"])
        state[f"{head}.bias"] = block["torgb"]["bias"].float().view(1, -1, 1, 1)
        if i >= 0:
            kernel = 4 * block["resample_filter"].float()
            state |= {f"convs.{2 * i}.conv.blur.kernel": kernel, f"{head}.upsample.kernel": kernel}
    return state


def _tensors(place, module, *names):
    return {f"{place}.{name}": module[name].float() for name in names}

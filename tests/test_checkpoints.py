"""Generators of every format are read: the publishers' own files, and others that compute what their form says."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from device import relative
from nvidia_layout import make_generator, plain_image, plain_ws, snapshot_bytes
from rosinality_layout import as_rosinality
from tensorflow_layout import EasyDict, Network, as_tensorflow, tensorflow_bytes

from stylegan2_ada import mobile
from stylegan2_ada.generator import Generator
from stylegan2_ada.readers import CheckpointError, load_generator_file, save_generator

DATA = Path(__file__).parent / "data"


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def write(path, content):
    path.write_bytes(content)
    return path


def random_ws(G, n=2):
    return torch.randn(n, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(9))


def same(a, b):
    """Whether two generators have the same tensors, to the bit."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def is_frozen(G):
    return not G.training and not any(p.requires_grad for p in G.parameters())


# NVIDIA's snapshots of PyTorch; test_networks has what their networks compute


@pytest.mark.parametrize(("name", "clamp"), [("uncond_32", None), ("cond_64_fp16", 256.0), ("resnet_16", None)])
def test_a_snapshot_becomes_a_frozen_generator_in_full_precision(name, clamp):
    G = load_generator_file(DATA / f"{name}.pkl")
    assert is_frozen(G)
    assert {t.dtype for t in G.state_dict().values()} == {torch.float32}
    assert G.synthesis.conv_clamp == clamp


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_tensors_are_read_in_every_protocol_that_holds_bytes_layout_and_precision(protocol, rng, tmp_path):
    plain = make_generator(rng)
    expected = load_generator_file(write(tmp_path / "a.pkl", snapshot_bytes({"G_ema": plain})))
    for block in plain["synthesis"].state["_modules"].values():
        parameters = block["conv1"].state["_parameters"]
        weight = parameters["weight"].data.to(memory_format=torch.channels_last)
        parameters["weight"] = torch.nn.Parameter(weight, False)
        parameters["bias"] = torch.nn.Parameter(parameters["bias"].data.double(), False)
    content = snapshot_bytes({"G_ema": plain, "augment_pipe": None}, protocol)
    assert same(load_generator_file(write(tmp_path / "b.pkl", content)), expected)


# NVIDIA's snapshots of TensorFlow


def tensorflow_snapshot(G_ema, G=None, D=None):
    return tensorflow_bytes((G or G_ema, D or Network(), G_ema))


@pytest.mark.parametrize("name", ["tf_uncond_32", "tf_cond_16", "tf_orig_64"])
def test_parity_with_the_publishers_conversion(name):
    reference = np.load(DATA / f"{name}.npz")
    G = load_generator_file(DATA / f"{name}.pkl")
    z, c = torch.from_numpy(reference["z"]), torch.from_numpy(reference["c"]) if G.c_dim else None
    assert G.c_dim == reference["c"].shape[1]
    assert relative(G.w_avg, reference["w_avg"]) == 0
    assert relative(G.mapping(z, c), reference["ws"]) < 1e-5
    ws = G.mapping(z, c, truncation_psi=0.7)
    assert relative(ws, reference["ws_psi07"]) < 1e-5
    ws = ws.clone().requires_grad_()
    image = G.synthesis(ws)
    assert relative(image, reference["img_const"]) < 1e-5
    assert relative(torch.autograd.grad(image.square().sum(), ws)[0], reference["grad_ws"]) < 1e-5
    assert relative(G.synthesis(ws, "none"), reference["img_none"]) < 1e-5
    assert is_frozen(G)


def name_by_lod(network):
    """Name a network's colours as the files of StyleGAN2's configurations B to D do."""
    part = network.part("synthesis")
    last = max(int(name.split("x")[0]) for name in part.variables if "x" in name.split("/")[0])

    def renamed(m):
        return f"ToRGB_lod{(last // int(m[1])).bit_length() - 1}/"

    part.variables = {re.sub(r"^(\d+)x\1/ToRGB/", renamed, name): v for name, v in part.variables.items()}


def grow(network):
    """Make it one that was grown: it has colours of earlier resolutions, which it does not use."""
    early = as_tensorflow(make_generator(torch.Generator().manual_seed(1)))
    for each in (network, early):
        name_by_lod(each)
    extra = {name: v for name, v in early.part("synthesis").variables.items() if re.match("ToRGB_lod[12]/", name)}
    assert len(extra) == 8
    part = network.part("synthesis")
    part.variables = {"lod": np.float32(0), **part.variables, **extra}


CLAMPED = {"architecture": "resnet", "conv_clamp": 0.9}
SIZES = {"resolution": 16, "latent_size": 8, "dlatent_size": 10, "label_size": 0, "num_channels": 3, "fmap_max": 6}
CONFIGURATIONS = {  # the network as made by nvidia_layout, its settings in TensorFlow, and what else differs
    "a narrow class embedding and hidden layers": ({"c_dim": 3, "embed_features": 4, "layer_features": 7}, {}),
    "another learning-rate multiplier": ({"lr_multiplier": 0.5}, {"mapping_lrmul": 0.5}),
    "resnet with a clamp": (CLAMPED, {**CLAMPED, "num_fp16_res": 2}),
    "orig": ({"architecture": "orig"}, {"architecture": "orig"}),
    "a one-sided filter": ({"taps": (1, 2, 4, 3)}, {"resample_kernel": [1, 2, 4, 3]}),
    "no filter": ({"taps": (1, 1)}, {"resample_kernel": None}),
    "no noise": ({"use_noise": False}, {"use_noise": False}),
    "noise that it does not use": ({}, {"use_noise": False}),
    "all sizes given": ({}, SIZES),
    "sizes left open": ({}, {"label_size": None, "num_fp16_res": None, "conv_clamp": None}),
    "older names of the colours": ({}, {}, name_by_lod),
    "colours of earlier resolutions": ({"architecture": "orig"}, {}, grow),
}


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_other_configurations_equal_the_form_written_out(configuration, rng, tmp_path):
    layout, theirs, *changes = configuration
    plain = make_generator(rng, **layout)
    network = as_tensorflow(plain, **theirs)
    for change in changes:
        change(network)
    G = load_generator_file(write(tmp_path / "g.pkl", tensorflow_snapshot(network)))
    noisy = theirs.get("use_noise", True)
    assert len(G.noise_buffers()) == (5 if noisy else 0)
    z, c = torch.randn(2, G.z_dim, generator=rng), torch.eye(G.c_dim)[:2] if G.c_dim else None
    assert relative(G.mapping(z, c), plain_ws(plain, z, c)) < 1e-5
    assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G), noise=noisy)) < 1e-5
    assert relative(G.synthesis(random_ws(G), "none"), plain_image(plain, random_ws(G), noise=False)) < 1e-5


def test_the_average_is_the_third_network_and_the_first_two_may_be_absent(rng, tmp_path):
    trained, average = as_tensorflow(make_generator(rng)), as_tensorflow(make_generator(rng))
    path = write(tmp_path / "g.pkl", tensorflow_snapshot(average, trained))
    G = load_generator_file(path)
    assert torch.equal(G.w_avg, torch.tensor(average.variables["dlatent_avg"]))
    assert same(load_generator_file(write(tmp_path / "alone.pkl", tensorflow_bytes((None, None, average)))), G)


def test_arrays_in_other_orders_and_precisions_and_dicts_of_nvidias_own_are_read(rng, tmp_path):
    network = as_tensorflow(make_generator(rng))
    expected = load_generator_file(write(tmp_path / "a.pkl", tensorflow_snapshot(network)))
    for name, change in {
        "8x8/Conv1/weight": np.asfortranarray,
        "8x8/Conv1/bias": lambda a: a.astype(">f4"),
        "4x4/Const/const": lambda a: np.asfortranarray(a.astype(">f8")),
        "8x8/Conv1/noise_strength": lambda a: np.array(a, np.float64),
    }.items():
        variables = network.part("synthesis").variables
        variables[name] = change(variables[name])
    network.state["components"] = EasyDict(network.state["components"])
    network.state["static_kwargs"] = EasyDict(resolution=16)
    assert same(load_generator_file(write(tmp_path / "b.pkl", tensorflow_snapshot(network))), expected)


# rosinality's


@pytest.mark.parametrize(("suffix", "legacy"), [(".pt", False), (".pt", True), (".pth", True), (".PTH", False)])
def test_rosinalitys_state_dicts_are_read_wherever_they_stand(suffix, legacy, rng, tmp_path):
    plain = make_generator(rng, z_dim=10)
    state, other = as_rosinality(plain), as_rosinality(make_generator(rng, z_dim=10))
    z, mean = torch.randn(10_000, 10, generator=rng), torch.randn(10, generator=rng)
    for checkpoint in ({"g": other, "g_ema": state}, {"g": state, "d": {}, "g_ema": None}, state):
        for given in ({}, {"latent_avg": mean}):
            path = tmp_path / f"g{suffix}"
            torch.save(checkpoint | given, path, _use_new_zipfile_serialization=not legacy)
            G = load_generator_file(path)
            assert is_frozen(G)
            assert relative(G.mapping(z[:2]), plain_ws(plain, z[:2])) < 1e-5
            assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G))) < 1e-5
            if given:
                assert torch.equal(G.w_avg, mean)
            else:  # it is that of 10,000 z, here another 10,000
                ws = plain_ws(plain, z)[:, 0]
                assert (G.w_avg - ws.mean(0)).norm() < 0.1 * ws.norm(dim=1).mean()


# This project's own


@pytest.mark.parametrize("name", ["cond_64_fp16", "resnet_16", "tf_orig_64", "mobile"])
def test_safetensors_give_back_the_generator(name, tiny_generator, tmp_path):
    if name == "mobile":
        synthesis = mobile.MobileSynthesis(32, (64, 64, 64), 64, preview_sizes=(32,))
        G = Generator(tiny_generator.mapping, synthesis)
    else:
        G = load_generator_file(DATA / f"{name}.pkl")
    save_generator(G, tmp_path / "g.safetensors")
    again = load_generator_file(tmp_path / "g.safetensors")
    assert same(again, G)
    assert is_frozen(again)
    z, c = torch.randn(1, G.z_dim), torch.eye(G.c_dim)[:1] if G.c_dim else None
    assert torch.equal(again.mapping(z, c, 0.5), G.mapping(z, c, 0.5))
    for size in (None, *G.preview_sizes):
        assert torch.equal(again.synthesis(random_ws(G, 1), size=size), G.synthesis(random_ws(G, 1), size=size))
    for setting in ("conv_clamp", "preview_sizes"):
        assert getattr(again.synthesis, setting, None) == getattr(G.synthesis, setting, None)


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x3C20])  # as a pickle, an archive and a web page begin
def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path, length):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = write(tmp_path / "g.safetensors", struct.pack("<Q", length) + header + bytes(4))
    with pytest.raises(CheckpointError, match="1 tensors of another model"):
        load_generator_file(path)


def test_other_networks_are_not_saved(tiny_generator, tmp_path):
    tiny_generator.synthesis = torch.nn.Identity()
    with pytest.raises(ValueError, match="not Identity"):
        save_generator(tiny_generator, tmp_path / "g.safetensors")

import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from nvidia_layout import make_generator, plain_image, plain_ws
from tensorflow_layout import EasyDict, Network, as_tensorflow, set_variables, tensorflow_bytes, variables_of
from test_checkpoints import Call, hostile_objects, refusal, small_files, write

from stylegan2_ada.readers import load_generator_file, load_nvidia_pickle, save_generator

DATA = Path(__file__).parent / "data"
SNAPSHOTS = ["tf_uncond_32", "tf_cond_16", "tf_orig_64"]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def relative(a, b):
    a, b = torch.as_tensor(a).detach().double(), torch.as_tensor(b).detach().double()
    return ((a - b).norm() / b.norm()).item()


def random_ws(G, n=2):
    return torch.randn(n, G.num_ws, G.w_dim, generator=torch.Generator().manual_seed(9))


def snapshot(G_ema, G=None, D=None):
    return tensorflow_bytes((G or G_ema, D or Network(), G_ema))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_parity_with_the_publishers_conversion_and_again_after_our_own_format(name, tmp_path):
    reference = np.load(DATA / f"{name}.npz")
    first = load_generator_file(DATA / f"{name}.pkl")
    save_generator(first, tmp_path / "g.safetensors")
    again = load_generator_file(tmp_path / "g.safetensors")
    assert first.state_dict().keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in first.state_dict().items())
    for G in (first, again):
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
        assert not G.training
        assert not any(p.requires_grad for p in G.parameters())


CONFIGURATIONS = {
    "a narrow class embedding and hidden layers": ({"c_dim": 3, "embed_features": 4, "layer_features": 7}, {}),
    "another learning-rate multiplier": ({"lr_multiplier": 0.5}, {"mapping_lrmul": 0.5}),
    "resnet with a clamp": (
        {"architecture": "resnet", "conv_clamp": 0.9},
        {"architecture": "resnet", "conv_clamp": 0.9, "num_fp16_res": 2},
    ),
    "orig": ({"architecture": "orig"}, {"architecture": "orig"}),
    "a one-sided filter": ({"taps": (1, 2, 4, 3)}, {"resample_kernel": [1, 2, 4, 3]}),
    "no filter": ({"taps": (1, 1)}, {"resample_kernel": None}),
    "no noise": ({"use_noise": False}, {"use_noise": False}),
    "all sizes given": (
        {},
        {"resolution": 16, "latent_size": 8, "dlatent_size": 10, "label_size": 0, "num_channels": 3, "fmap_max": 6},
    ),
    "sizes left open": ({}, {"label_size": None, "num_fp16_res": None, "conv_clamp": None}),
}


@pytest.mark.parametrize(("layout", "theirs"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_other_configurations_equal_the_form_written_out(layout, theirs, rng, tmp_path):
    plain = make_generator(rng, **layout)
    both = load_nvidia_pickle(write(tmp_path / "g.pkl", snapshot(as_tensorflow(plain, **theirs))))
    assert both["metadata"] == {"num_fp16_res": theirs.get("num_fp16_res") or 0}
    G = both["G_ema"]
    z, c = torch.randn(2, G.z_dim, generator=rng), torch.eye(G.c_dim)[:2] if G.c_dim else None
    assert relative(G.mapping(z, c), plain_ws(plain, z, c)) < 1e-5
    assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G))) < 1e-5
    assert relative(G.synthesis(random_ws(G), "none"), plain_image(plain, random_ws(G), noise=False)) < 1e-5


def test_noise_that_a_network_holds_but_does_not_use_is_left_out(rng, tmp_path):
    plain = make_generator(rng)
    G = load_generator_file(write(tmp_path / "g.pkl", snapshot(as_tensorflow(plain, use_noise=False))))
    assert G.noise_buffers() == {}
    assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G), noise=False)) < 1e-5


def lod_names(network):
    """The same network with its colours named as in the files of StyleGAN2's configurations B to D."""
    variables = variables_of(network, "synthesis")
    last = max(int(name.split("x")[0]) for name in variables if "x" in name.split("/")[0])

    def renamed(m):
        return f"ToRGB_lod{(last // int(m[1])).bit_length() - 1}/"

    set_variables(
        network, "synthesis", {re.sub(r"^(\d+)x\1/ToRGB/", renamed, name): v for name, v in variables.items()}
    )


def test_a_network_that_was_grown_makes_colours_only_at_its_last_resolution(rng, tmp_path):
    plain = make_generator(rng, architecture="orig")
    grown = as_tensorflow(plain)
    lod_names(grown)
    early = as_tensorflow(make_generator(rng))
    lod_names(early)
    extra = {name: v for name, v in variables_of(early, "synthesis").items() if re.match("ToRGB_lod[12]/", name)}
    assert len(extra) == 8
    set_variables(grown, "synthesis", {"lod": np.float32(0), **variables_of(grown, "synthesis"), **extra})
    G = load_generator_file(write(tmp_path / "g.pkl", snapshot(grown)))
    assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G))) < 1e-5


def test_older_names_of_the_colours_are_understood(rng, tmp_path):
    plain = make_generator(rng)
    network = as_tensorflow(plain)
    lod_names(network)
    G = load_generator_file(write(tmp_path / "g.pkl", snapshot(network)))
    assert relative(G.synthesis(random_ws(G)), plain_image(plain, random_ws(G))) < 1e-5


def test_the_average_is_the_third_network_and_the_first_two_may_be_absent(rng, tmp_path):
    trained, average = as_tensorflow(make_generator(rng)), as_tensorflow(make_generator(rng))
    path = write(tmp_path / "g.pkl", snapshot(average, trained))
    both = load_nvidia_pickle(path)
    for name, network in (("G", trained), ("G_ema", average)):
        assert torch.equal(both[name].w_avg, torch.tensor(variables_of(network, "")["dlatent_avg"]))
    assert torch.equal(load_generator_file(path).w_avg, both["G_ema"].w_avg)
    alone = write(tmp_path / "g.pkl", tensorflow_bytes((None, None, average)))
    assert torch.equal(load_generator_file(alone).w_avg, both["G_ema"].w_avg)


def test_arrays_in_other_orders_and_precisions_and_dicts_of_nvidias_own_are_read(rng, tmp_path):
    network = as_tensorflow(make_generator(rng))
    expected = load_generator_file(write(tmp_path / "a.pkl", snapshot(network)))
    variables = variables_of(network, "synthesis")
    for name, change in {
        "8x8/Conv1/weight": np.asfortranarray,
        "8x8/Conv1/bias": lambda a: a.astype(">f4"),
        "4x4/Const/const": lambda a: np.asfortranarray(a.astype(">f8")),
        "8x8/Conv1/noise_strength": lambda a: np.array(a, np.float64),
    }.items():
        variables[name] = change(variables[name])
    set_variables(network, "synthesis", variables)
    network.state["components"] = EasyDict(network.state["components"])
    network.state["static_kwargs"] = EasyDict(resolution=16)
    G = load_generator_file(write(tmp_path / "b.pkl", snapshot(network)))
    assert all(torch.equal(tensor, G.state_dict()[key]) for key, tensor in expected.state_dict().items())


# What is refused


def broken(rng, change):
    network = as_tensorflow(make_generator(rng))
    change(network)
    return snapshot(network)


def put(part, **variables):
    return lambda G: set_variables(
        G, part, variables_of(G, part) | {k.replace("_slash_", "/"): v for k, v in variables.items()}
    )


def setting(**values):
    return lambda G: G.state["static_kwargs"].update(values)


def state(**values):
    return lambda G: G.state.update(values)


STYLEGAN1 = {"4x4/Const/StyleMod/weight": np.zeros((8, 8), np.float32)}
BROKEN = {
    "StyleGAN1 by its version": (state(version=3), "StyleGAN1"),
    "no version": (state(version=None), "has no version"),
    "StyleGAN1 by its names": (lambda G: set_variables(G, "synthesis", STYLEGAN1), "StyleGAN1"),
    "classes of the original StyleGAN2": (
        put("mapping", LabelConcat_slash_weight=np.zeros((2, 8), "f4")),
        "LabelConcat",
    ),
    "no components": (state(components=None), "has no components"),
    "no synthesis": (lambda G: G.state["components"].pop("synthesis"), "has no synthesis/variables"),
    "no variables": (state(variables=None), "has no variables"),
    "no settings": (state(static_kwargs=None), "has no static_kwargs"),
    "tensors as settings": (setting(resolution=torch.zeros(3)), "static_kwargs"),
    "an unknown variable": (put("synthesis", other=np.zeros(1, "f4")), "unknown tensor synthesis/other"),
    "an unknown resolution": (put("synthesis", **{"12x12_slash_Conv1_slash_bias": np.zeros(4, "f4")}), "12x12"),
    "text for a variable": (put("synthesis", noise0="text"), "a variable in it is malformed"),
    "whole numbers": (put("synthesis", noise0=np.zeros((1, 1, 4, 4), int)), "not a tensor of weights"),
    "a variable twice": (lambda G: G.state["variables"].append(G.state["variables"][1]), "dlatent_avg twice"),
    "a tensor under two names": (put("synthesis", **{"4x4_slash_Conv1_slash_bias": np.zeros(6, "f4")}), "twice"),
    "another resolution": (setting(resolution=32), "its resolution is 16"),
    "another width": (setting(latent_size=512), "its latent_size is 8"),
    "another architecture": (setting(architecture="resnet"), "tensor synthesis.blocks.1.skip.weight is missing"),
    "an unknown architecture": (setting(architecture="unet"), "architecture is none of skip, resnet, orig"),
    "another activation": (setting(nonlinearity="relu"), "nonlinearity is not lrelu"),
    "unnormalised z": (setting(normalize_latents=False), "normalize_latents is not True"),
    "a filter of text": (setting(resample_kernel="1331"), "resample_kernel is not a list"),
    "a filter of nothing": (setting(resample_kernel=[]), "no resample filter"),
    "an infinite filter": (setting(resample_kernel=[1, float("inf")]), "not a finite number"),
    "an infinite clamp": (setting(conv_clamp=float("inf")), "not a finite number"),
    "a multiplier that is no number": (setting(mapping_lrmul="0.01"), "not a finite number"),
    "resolutions that are no number": (setting(num_fp16_res=float("nan")), "not a finite number"),
}


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_snapshot_is_refused_in_one_sentence(change, sentence, rng, tmp_path):
    assert sentence in refusal(write(tmp_path / "g.pkl", broken(rng, change)))


def test_images_that_are_not_rgb_are_refused(rng, tmp_path):
    for channels in (1, 4):
        network = as_tensorflow(make_generator(rng, img_channels=channels))
        assert "restores RGB photos" in refusal(write(tmp_path / "g.pkl", snapshot(network)))


@pytest.mark.parametrize(
    "networks",
    [(), (Network(),), (1, 2, 3), (Network(), Network(), None), Network(), ({}, {}, {})],
    ids=["none", "one", "numbers", "without Gs", "no tuple", "dictionaries"],
)
def test_other_tuples_are_refused(networks, tmp_path):
    assert "it does not hold a StyleGAN2's G, D and Gs" in refusal(
        write(tmp_path / "g.pkl", tensorflow_bytes(networks))
    )


def variables(architecture="resnet"):
    network = as_tensorflow(make_generator(torch.Generator().manual_seed(0), c_dim=2, architecture=architecture))
    parts = [(part, name) for part in ("", "mapping", "synthesis") for name in variables_of(network, part)]
    return [f"{part}/{name}" for part, name in parts if name != "lod"]


@pytest.mark.parametrize("name", variables())
def test_no_missing_or_misshapen_variable_goes_unnoticed(name, rng, tmp_path):
    part, _, name = name.partition("/")
    plain = make_generator(rng, c_dim=2, architecture="resnet")
    network = as_tensorflow(plain, architecture="resnet", latent_size=8, label_size=2)
    whole = variables_of(network, part)
    load_generator_file(write(tmp_path / "g.pkl", snapshot(network)))
    set_variables(network, part, {other: value for other, value in whole.items() if other != name})
    assert "is missing" in refusal(write(tmp_path / "g.pkl", snapshot(network)))
    for value in (np.zeros((0, 3), "f4"), np.zeros((2,) * 6, "f4"), np.concatenate([np.atleast_1d(whole[name])] * 2)):
        set_variables(network, part, whole | {name: value})
        refusal(write(tmp_path / "g.pkl", snapshot(network)))


PLACES = {
    "alone": lambda evil, _: evil,
    "as a setting": lambda evil, G: [setting(evil=evil)(G), (G, None, G)][1],
    "as a variable": lambda evil, G: [put("synthesis", noise0=evil)(G), (G, None, G)][1],
    "in the source": lambda evil, G: [state(build_module_src=evil)(G), (G, None, G)][1],
    "in the discriminator": lambda evil, G: (G, Network(settings={"evil": evil}), G),
    "in place of the state": lambda evil, G: (G, evil, G),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_other_names_are_refused_and_nothing_is_called(place, rng, tmp_path):
    canary = tmp_path / "canary"
    for evil in hostile_objects(canary).values():
        content = tensorflow_bytes(place(evil, as_tensorflow(make_generator(rng))))
        assert "it names" in refusal(write(tmp_path / "evil.pkl", content))
    assert not canary.exists()


class Array:
    """Pickles as a numpy array with this state."""

    def __init__(self, *state, kind=np.ndarray):
        self.state, self.kind = state, kind

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (self.kind, (0,), b"b"), self.state


FLOATS = np.dtype("f4")


@pytest.mark.parametrize(
    "array",
    [
        Array(1, (1 << 40,), FLOATS, False, bytes(400)),
        Array(1, (0, 1 << 70), FLOATS, False, b""),
        Array(1, (-10, -10), FLOATS, False, bytes(400)),
        Array(1, (1,) * 64, FLOATS, False, bytes(4)),
        Array(1, (50,), FLOATS, False, bytes(400)),
        Array(1, (100,), FLOATS, False, bytes(399)),
        Array(1, [100], FLOATS, False, bytes(400)),
        Array(1, (True,), FLOATS, False, bytes(4)),
        Array(1, (100,), "f4", False, bytes(400)),
        Array(1, (100,), FLOATS, False, "x" * 400),
        Array(1, (1,), np.dtype("O"), False, [1]),
        Array(1, (100,), FLOATS),
        Array(1, (100,), FLOATS, False, bytes(400), kind=np.dtype),
        Call(np.ndarray, (1 << 40,)),
    ],
    ids=lambda array: str(getattr(array, "state", ""))[:40],
)
def test_arrays_that_are_not_their_bytes_are_refused(array, tmp_path):
    path = write(tmp_path / "bomb.pkl", pickle.dumps(array))
    tracemalloc.start()
    message = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "malformed" in message
    assert peak < 10e6


def test_the_same_bytes_cannot_be_made_into_many_arrays(tmp_path):
    data = bytes(100_000)
    content = pickle.dumps([Array(1, (25_000,), FLOATS, False, data) for _ in range(100)])
    assert len(content) < 120_000
    assert "more tensor data than it holds" in refusal(write(tmp_path / "bomb.pkl", content))


def test_one_list_of_variables_cannot_stand_in_for_many(rng, tmp_path):
    G = as_tensorflow(make_generator(rng))
    noise = np.zeros(1000, "f4")
    set_variables(G, "synthesis", variables_of(G, "synthesis") | {f"x{i}": noise for i in range(1000)})
    assert "more tensor data than it holds" in refusal(write(tmp_path / "g.pkl", snapshot(G)))
    set_variables(G, "synthesis", {f"x{i}": np.float32(0) for i in range(10_001)})
    assert "more than any StyleGAN2" in refusal(write(tmp_path / "g.pkl", snapshot(G)))
    set_variables(G, "synthesis", {"x" * 101: noise})
    assert "malformed" in refusal(write(tmp_path / "g.pkl", snapshot(G)))


def test_every_truncation_is_refused(tmp_path):
    content = small_files()["-tensorflow.pkl"]
    for end in range(1, len(content), 61):
        refusal(write(tmp_path / "g.pkl", content[:end]))

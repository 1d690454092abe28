from pathlib import Path

import numpy as np
import pytest
import torch
from device import DEVICE, relative
from nvidia_layout import make_generator, plain_image, plain_ws, snapshot_bytes
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_synthesis import reference_synthesis
from stylegan2_ada.generator import Generator, MappingNetwork
from stylegan2_ada.networks import SynthesisNetwork, random_generator
from stylegan2_ada.readers import load_generator_file

pytestmark = pytest.mark.usefixtures("device")

DATA = Path(__file__).parent / "data"
SNAPSHOTS = ["uncond_32", "cond_64_fp16", "resnet_16"]
CONFIGURATIONS = {
    "8 px": {"channels": (5, 4)},
    "128 px, narrow w": {"channels": (8, 8, 6, 4, 2, 2), "w_dim": 3, "z_dim": 5},
    "learning-rate multiplier and deep mapping": {"lr_multiplier": 0.5, "num_layers": 5, "layer_features": 7},
    "one mapping layer": {"num_layers": 1},
    "several classes": {"c_dim": 4},
    "narrow class embedding": {"c_dim": 2, "embed_features": 3},
    "odd filter": {"taps": (1, 2, 1)},
    "no filter": {"taps": (1,)},
    "long one-sided filter": {"taps": (1, 2, 3, 4, 5, 6, 7, 9), "architecture": "resnet"},
    "square filter": {"taps": torch.tensor([[1.0, 2], [3, 5]])},
    "no noise": {"use_noise": False},
    "orig": {"architecture": "orig"},
    "resnet with clamp": {"architecture": "resnet", "conv_clamp": 0.9},
    "skip with clamp": {"conv_clamp": 0.9},
}


def image_and_gradient(synthesis, ws, noise=None):
    ws = torch.as_tensor(ws).clone().requires_grad_()
    image = synthesis(ws, noise)
    return image, torch.autograd.grad(image.square().sum(), ws)[0]


def small_generator(seed=0, **kwargs):
    """A random 32 px network whose biases and noise strengths are not zero."""
    rng = torch.Generator().manual_seed(seed)
    with torch.device("cpu"):
        generator = random_generator(rng, 32, channel_base=256, channel_max=12, w_dim=16, z_dim=16, **kwargs)
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.3)
    return generator.to(DEVICE)


def random_ws(generator, n=1, seed=1):
    return torch.randn(n, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_parity_with_nvidia(name):
    reference = np.load(DATA / f"{name}.npz")
    G = load_generator_file(DATA / f"{name}.pkl").to(DEVICE)
    z = torch.as_tensor(reference["z"])
    c = torch.as_tensor(reference["c"]) if "c" in reference else None
    assert relative(G.w_avg, reference["w_avg"]) == 0
    assert relative(G.mapping(z, c), reference["ws"]) < 1e-5
    truncated = G.mapping(z, c, truncation_psi=0.7)
    assert relative(truncated, reference["ws_psi07"]) < 1e-5
    assert relative(G.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3), reference["ws_psi05_cut3"]) < 1e-5
    for synthesis in (G.synthesis, lambda ws, noise: reference_synthesis(G.synthesis, ws, noise)):
        image, gradient = image_and_gradient(synthesis, truncated)
        assert relative(image, reference["img_const"]) < 1e-5
        assert relative(gradient, reference["grad_ws"]) < 1e-5
        assert relative(synthesis(truncated, "none"), reference["img_none"]) < 1e-5


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_other_configurations_equal_the_form_written_out(configuration, tmp_path):
    rng = torch.Generator().manual_seed(3)
    plain = make_generator(rng, **configuration)
    path = tmp_path / "snapshot.pkl"
    path.write_bytes(snapshot_bytes({"G_ema": plain}))
    G = load_generator_file(path).to(DEVICE)
    z = torch.randn(2, G.z_dim, generator=rng)
    c = torch.eye(G.c_dim)[[1, 0]] if G.c_dim else None
    assert relative(G.mapping(z, c), plain_ws(plain, z, c)) < 1e-5
    ws = torch.randn(2, G.num_ws, G.w_dim, generator=rng)
    expected, expected_gradient = image_and_gradient(lambda ws, _: plain_image(plain, ws), ws)
    for synthesis in (G.synthesis, lambda ws, noise: reference_synthesis(G.synthesis, ws, noise)):
        image, gradient = image_and_gradient(synthesis, ws)
        assert relative(image, expected) < 1e-5
        assert relative(gradient, expected_gradient) < 1e-4
    assert relative(G.synthesis(ws, "none"), plain_image(plain, ws, noise=False)) < 1e-5


def test_config_f_has_the_published_size():
    with torch.device("meta"):
        G = Generator(MappingNetwork(), SynthesisNetwork())
    assert sum(p.numel() for p in G.parameters()) == 30_370_060
    assert (G.num_ws, G.img_resolution, G.img_channels) == (18, 1024, 3)


def test_signals_keep_their_size_through_an_untrained_network():
    with torch.device("cpu"):
        G = random_generator(torch.Generator().manual_seed(0), 128, channel_max=64)
    G = G.to(DEVICE)
    image, gradient = image_and_gradient(G.synthesis, G.mapping(torch.randn(1, 512)))
    assert image.shape == (1, 3, 128, 128)
    assert 0.05 < image.std() < 20
    assert (gradient.norm(dim=2) > 0).all()  # every layer is steered by its own w


def test_the_same_seed_gives_the_same_network():
    a, b, other = (small_generator(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["synthesis.blocks.0.const"], other["synthesis.blocks.0.const"])


@pytest.fixture(params=["skip", "resnet", "orig", "mobile"])
def network(request, tiny_generator):
    return tiny_generator.to(DEVICE) if request.param == "mobile" else small_generator(architecture=request.param)


def test_noise_is_an_input(network):
    G, ws, buffers = network, random_ws(network, 2), network.noise_buffers()
    plain, silent = G.synthesis(ws), G.synthesis(ws, "none")
    assert (plain - silent).abs().max() > 1e-3
    sizes = [4, *(size for size in (8, 16, 32) for _ in range(2))]
    assert [tuple(buffer.shape) for buffer in buffers.values()] == [(1, 1, size, size) for size in sizes]
    torch.testing.assert_close(G.synthesis(ws, buffers), plain)
    torch.testing.assert_close(G.synthesis(ws, {name: torch.zeros_like(b) for name, b in buffers.items()}), silent)
    leaves = [buffer.clone().requires_grad_() for buffer in buffers.values()]
    image = G.synthesis(ws, dict(zip(buffers, leaves, strict=True)))
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(image.square().sum(), leaves))
    for buffer in buffers.values():  # copies of those inside
        buffer.zero_()
    assert torch.equal(G.synthesis(ws), plain)


def test_every_sample_may_have_noise_of_its_own(network):
    ws, rng = random_ws(network, 2), torch.Generator().manual_seed(5)
    noise = {name: torch.randn(2, *b.shape[1:], generator=rng) for name, b in network.noise_buffers().items()}
    both = network.synthesis(ws, noise)
    for i in range(2):
        alone = network.synthesis(ws[i : i + 1], {name: b[i : i + 1] for name, b in noise.items()})
        assert relative(both[i : i + 1], alone) < 1e-5


def test_every_layer_listens_to_its_own_style(network):
    ws = random_ws(network)
    image = network.synthesis(ws)
    for layer in range(network.num_ws):
        changed = ws.clone()
        changed[:, layer] += 1
        assert (network.synthesis(changed) - image).abs().max() > 1e-4, f"layer {layer} has no effect"


WINDOWS = {  # top, left, height and width, in shares of the image's side
    "the middle": (0.3125, 0.25, 0.5, 0.5),
    "a corner": (0, 0, 0.3, 0.3),
    "another edge": (0.71, 0.09, 0.29, 0.9),
    "odd and small": (0.41, 0.43, 0.07, 0.05),
    "all of it": (0, 0, 1, 1),
}


@pytest.mark.parametrize("shares", WINDOWS.values(), ids=WINDOWS)
def test_a_window_is_the_crop_of_the_image(network, shares):
    """Of previews, too, in two types, with noise for each sample; and ws gets the same gradient."""
    G, rng = network, torch.Generator().manual_seed(5)
    noise = {name: torch.randn(2, *b.shape[1:], generator=rng) for name, b in G.noise_buffers().items()}
    for size in (None, *G.preview_sizes):
        side = size or G.img_resolution
        top, left, height, width = window = tuple(max(int(share * side), i > 1) for i, share in enumerate(shares))
        for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
            images, gradients = [], []
            for cut in (window, None):
                ws = random_ws(G, 2).requires_grad_()
                image = G.synthesis(ws, noise, size, window=cut, dtype=dtype)
                part = image if cut else image[:, :, top : top + height, left : left + width]
                images.append(part)
                gradients.append(torch.autograd.grad(part.square().sum(), ws)[0])
            assert images[0].shape == (2, 3, height, width)
            assert relative(*images) < bound
            assert relative(*gradients) < bound


@pytest.mark.parametrize("taps", [(1,), (1, 2, 1), (1, 2, 3, 4, 5, 6, 7, 9)])
def test_a_window_minds_the_length_of_the_filter(taps):
    G = small_generator(resample_filter=taps, architecture="resnet")
    window = G.synthesis(random_ws(G), window=(9, 11, 6, 7))
    assert relative(window, G.synthesis(random_ws(G))[:, :, 9:15, 11:18]) < 1e-5


def test_a_window_computes_only_what_it_needs(network):
    """A quarter of the image, and of the last block's work; a window that made everything and cut it would fail."""
    ws = random_ws(network).requires_grad_()

    def multiplications(window):
        with FlopCounterMode(display=False) as counter:
            network.synthesis(ws, window=window).sum().backward()
        return counter.get_total_flops()

    side = network.img_resolution
    # At 32 px the margins are as large as the window.
    assert multiplications((0, 0, side // 4, side // 4)) < 0.5 * multiplications(None)


WRONG_INPUTS = [
    (lambda G: G.mapping(torch.zeros(1, 7)), r"z must have the shape \[N, \d\d\]"),
    (lambda G: G.synthesis(torch.zeros(8, G.w_dim)), r"ws must have the shape \[N, 8, \d\d\]"),
    (lambda G: G.synthesis(torch.zeros(1, 7, G.w_dim)), r"ws must have the shape \[N, 8, \d\d\]"),
    (lambda G: G.synthesis(torch.zeros(1, 8, G.w_dim - 1)), r"ws must have the shape \[N, 8, \d\d\]"),
    (lambda G: G.synthesis(random_ws(G), "random"), 'noise must be None, "none" or a dict'),
    (lambda G: G.synthesis(random_ws(G), {}), r"no buffer for layer (b4\.)?conv"),
    (
        lambda G: G.synthesis(random_ws(G), {name: b[..., 1:] for name, b in G.noise_buffers().items()}),
        r"Noise (b4\.)?conv1? must be \[1 or N, 1, 4, 4\]",
    ),
    (lambda G: G.synthesis(random_ws(G), size=7), "makes images of .* px"),
    (lambda G: G.synthesis(random_ws(G), window=(60, 0, 16, 8)), r"window \(60, 0, 16, 8\) does not lie inside"),
    (lambda G: G.synthesis(random_ws(G), window=(-1, 0, 8, 8)), r"window \(-1, 0, 8, 8\) does not lie inside"),
    (lambda G: G.synthesis(random_ws(G), window=(0, 0, 8, 0)), r"window \(0, 0, 8, 0\) does not lie inside"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG_INPUTS, ids=[sentence for _, sentence in WRONG_INPUTS])
def test_wrong_inputs_are_named(network, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(network)


def test_a_network_without_noise_has_no_buffers():
    G = small_generator(use_noise=False)
    assert G.noise_buffers() == {}
    ws = random_ws(G)
    torch.testing.assert_close(G.synthesis(ws, {}), G.synthesis(ws, "none"))


@pytest.mark.parametrize("kwargs", [{"architecture": "unet"}, {"channels": [4]}, {"channels": [4] * 10}])
def test_impossible_networks_are_refused(kwargs):
    with pytest.raises(ValueError, match=r"architecture|resolution"):
        SynthesisNetwork(8, **kwargs)


@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_features_in_bfloat16_are_close_to_the_full_ones(architecture):
    G = small_generator(architecture=architecture)
    ws = random_ws(G).requires_grad_()
    images = [G.synthesis(ws, dtype=dtype) for dtype in (None, torch.bfloat16)]
    assert images[1].dtype == torch.float32
    assert 1e-4 < relative(images[1], images[0]) < 2e-2
    full, half = (torch.autograd.grad(image.square().sum(), ws)[0] for image in images)
    assert relative(half, full) < 5e-2


def test_synthesis_computes_in_float64_when_asked():
    G = small_generator().double()
    ws = random_ws(G).double()
    assert relative(small_generator().synthesis(ws.float()), G.synthesis(ws)) < 1e-5
    assert G.synthesis(ws).dtype == torch.float64


@pytest.mark.slow
def test_synthesis_compiles_without_graph_breaks():
    G = random_generator(torch.Generator().manual_seed(0), 8, channel_max=4, w_dim=4, conv_clamp=2.0)
    ws, buffers = random_ws(G), G.noise_buffers()
    compiled = torch.compile(G.synthesis, fullgraph=True, backend="aot_eager")
    expected, expected_gradient = image_and_gradient(G.synthesis, ws, buffers)
    image, gradient = image_and_gradient(compiled, ws, buffers)
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(gradient, expected_gradient)

"""The FFHQ generator against OpenVINO's numbers, and its parts against closed forms."""

import pytest
import torch
import torch.nn.functional as F
from device import DEVICE, SLACK

from ex5lib.devices import on_device
from stylegan2_ada.mobile import MobileSynthesis, haar_matrix, spread
from stylegan2_ada.readers import CheckpointError, read_openvino_ir

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def generator(generator, device):
    return on_device(device, generator)


@pytest.fixture
def tiny_generator(tiny_generator, device):
    return on_device(device, tiny_generator)


def test_mapping_and_images_match_openvino(generator, reference):
    stored = {name: torch.as_tensor(values) for name, values in reference("mobile_ffhq").items()}
    ws = generator.mapping(stored["z"])
    assert ws.shape == (len(stored["z"]), 16, 512)
    assert (ws[:, 7] - stored["w"]).abs().max() < 2e-4 * SLACK
    for i, w in enumerate(stored["w"]):
        with torch.no_grad():
            image = generator.synthesis(w.expand(1, 16, 512))
        assert image.shape == (1, 3, 1024, 1024)
        assert (F.avg_pool2d(image, 8) - stored["img_area128"][i]).abs().max() < 2e-4 * SLACK
        assert (image[:, :, 384:448, 640:704] - stored["img_crop_384_640"][i]).abs().max() < 2e-4 * SLACK


@pytest.mark.skipif(DEVICE.type == "mps", reason="the formula is checked in float64, which MPS lacks")
def test_inverse_haar_matches_transposed_convolutions_with_the_haar_basis():
    x = torch.randn(2, 12, 5, 7, dtype=torch.float64)
    low, high = torch.tensor([1.0, 1.0]).double() / 2**0.5, torch.tensor([1.0, -1.0]).double() / 2**0.5
    # Rows of the basis: LL, LH (high along y), HL (high along x), HH.
    basis = torch.stack([torch.outer(a, b) for a, b in ((low, low), (high, low), (low, high), (high, high))])
    expected = torch.zeros(2, 3, 10, 14, dtype=torch.float64)
    for c in range(3):
        bands = torch.stack([x[:, c], x[:, 3 + 3 * c], x[:, 4 + 3 * c], x[:, 5 + 3 * c]], dim=1)
        expected[:, c] = F.conv_transpose2d(bands, basis[:, None], stride=2)[:, 0]
    made = spread(F.conv2d(x, haar_matrix(12, x)[:, :, None, None]))
    torch.testing.assert_close(made, expected)


@pytest.mark.skipif(DEVICE.type == "mps", reason="gradients are checked in float64, which MPS lacks")
def test_gradients_to_styles_and_noise_are_exact():
    torch.manual_seed(0)
    synthesis = MobileSynthesis(w_dim=4, channels=(8, 8), const_channels=8).double().requires_grad_(False)
    for name, parameter in synthesis.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.3)
    ws = torch.randn(1, synthesis.num_ws, 4, dtype=torch.float64, requires_grad=True)
    names = list(synthesis.noise_buffers())
    buffers = [b.requires_grad_() for b in synthesis.noise_buffers().values()]
    assert torch.autograd.gradcheck(
        lambda ws, *buffers: synthesis(ws, dict(zip(names, buffers, strict=True))), (ws, *buffers), fast_mode=True
    )


def test_noise_is_an_argument(tiny_generator):
    G = tiny_generator
    ws = G.mapping(torch.randn(2, 32))
    plain = G.synthesis(ws)
    torch.testing.assert_close(G.synthesis(ws, G.noise_buffers()), plain, rtol=0, atol=0)
    silent = G.synthesis(ws, "none")
    zeros = {name: torch.zeros_like(buffer) for name, buffer in G.noise_buffers().items()}
    torch.testing.assert_close(G.synthesis(ws, zeros), silent, rtol=0, atol=0)
    assert (plain - silent).abs().max() > 1e-3
    each = {name: torch.randn(2, *buffer.shape[1:]) for name, buffer in G.noise_buffers().items()}
    both = G.synthesis(ws, each)
    second = G.synthesis(ws[1:], {name: buffer[1:] for name, buffer in each.items()})
    torch.testing.assert_close(both[1:], second, rtol=1e-5, atol=1e-5)


def test_noise_buffers_are_copies(tiny_generator):
    before = tiny_generator.synthesis.conv.noise.clone()
    for buffer in tiny_generator.noise_buffers().values():
        buffer.zero_()
    assert torch.equal(tiny_generator.synthesis.conv.noise, before)


def test_every_layer_listens_to_its_own_style(tiny_generator):
    G = tiny_generator
    ws = G.mapping(torch.randn(1, 32))
    image = G.synthesis(ws)
    for layer in range(G.num_ws):
        changed = ws.clone()
        changed[:, layer] += 1
        assert (G.synthesis(changed) - image).abs().max() > 1e-4, f"layer {layer} has no effect"


def test_styles_can_be_given_in_place_of_ws(tiny_generator):
    synthesis = tiny_generator.synthesis
    ws = tiny_generator.mapping(torch.randn(1, 32))
    styles = synthesis.styles(ws)
    assert torch.equal(synthesis(styles), synthesis(ws))
    scales = synthesis.style_scales()
    jacobian = torch.autograd.functional.jacobian(lambda w: synthesis.styles(w)[0], ws)[:, 0]  # [S, num_ws, w_dim]
    torch.testing.assert_close(scales, jacobian.flatten(1).norm(dim=1))
    with pytest.raises(ValueError, match=r"or styles \[N, "):
        synthesis(styles[:, 1:])


def test_features_in_bfloat16_are_close_to_the_full_ones(generator):
    ws = generator.mapping(torch.randn(1, 512, generator=torch.Generator().manual_seed(3)), truncation_psi=0.7)
    ws.requires_grad_()
    for size in (128, None):
        images = [generator.synthesis(ws, size=size, dtype=dtype) for dtype in (None, torch.bfloat16)]
        assert [image.dtype for image in images] == [torch.float32] * 2
        assert (images[0] - images[1]).square().mean().sqrt() < 0.01
        smooth = [F.avg_pool2d(image, 8).square().sum() for image in images]
        full, half = (torch.autograd.grad(value, ws)[0].flatten() for value in smooth)
        assert F.cosine_similarity(full, half, dim=0) > 0.999


def test_truncation_interpolates_towards_the_mean(generator):
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(1))
    full, half = generator.mapping(z), generator.mapping(z, truncation_psi=0.5, truncation_cutoff=3)
    torch.testing.assert_close(half[:, :3], (full[:, :3] + generator.w_avg) / 2)
    torch.testing.assert_close(half[:, 3:], full[:, 3:])
    assert torch.equal(generator.mapping(z, truncation_psi=0)[1, 4], generator.w_avg)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda G: G.mapping(torch.zeros(1, 7)), r"z must have the shape \[N, 32\]"),
        (lambda G: G.synthesis(torch.zeros(1, 32)), r"ws must have the shape \[N, 8, 32\]"),
        (lambda G: G.synthesis(torch.zeros(1, 8, 32), "off"), 'noise must be None, "none" or a dict'),
        (lambda G: G.synthesis(torch.zeros(1, 8, 32), {}), "no buffer for layer conv"),
        (
            lambda G: G.synthesis(torch.zeros(1, 8, 32), G.noise_buffers() | {"conv": torch.zeros(1, 1, 5, 5)}),
            r"Noise conv must be \[1 or N, 1, 4, 4\]",
        ),
    ],
)
def test_wrong_inputs_are_named(tiny_generator, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(tiny_generator)


@pytest.mark.parametrize(
    ("xml", "weights", "sentence"),
    [
        (b"<html>", b"", "cannot be parsed"),
        (b"<html></html>", b"", "root of its XML is <html>"),
        (
            b'<net><layers><layer id="0" name="a" type="Const"><data element_type="f32" shape="4" offset="0" '
            b'size="16"/></layer></layers><edges/></net>',
            b"12345678",
            "truncated",
        ),
        (
            b'<net><layers><layer id="0" name="a" type="Const"><data element_type="u4" shape="4" offset="0" '
            b'size="2"/></layer></layers><edges/></net>',
            b"12",
            "unsupported type u4",
        ),
        (b'<net><layers/><edges><edge to-layer="1" from-layer="0"/></edges></net>', b"", "no 'to-port'"),
        (b'<net><layers><layer id="0" name="a" type="Const"/></layers><edges/></net>', b"", "a has no data"),
    ],
)
def test_openvino_files_that_are_none_are_refused(xml, weights, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        read_openvino_ir(xml, weights)


def test_openvino_constants_and_edges_are_read():
    xml = (
        b'<net><layers><layer id="0" name="a" type="Const"><data element_type="i32" shape="2, 1" offset="4" size="8"/>'
        b'</layer><layer id="1" name="b" type="Add"/></layers><edges>'
        b'<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>'
    )
    graph = read_openvino_ir(xml, bytes([9, 9, 9, 9, 1, 0, 0, 0, 255, 255, 255, 255]))
    assert graph.constant("a").tolist() == [[1], [-1]]
    assert graph.consumer(graph.named("a"), "Add").name == "b"
    with pytest.raises(CheckpointError, match="no node named c"):
        graph.constant("c")
    with pytest.raises(CheckpointError, match="b is not a constant"):
        graph.constant("b")
    with pytest.raises(CheckpointError, match="0 nodes Convolution before b"):
        graph.source(graph.named("b"), "Convolution")


def test_a_preview_takes_the_first_layers_noise_and_all_styles():
    torch.manual_seed(1)
    network = MobileSynthesis(w_dim=16, channels=(16, 16, 16), const_channels=16, preview_sizes=(16, 32))
    ws = torch.randn(2, network.num_ws, 16, requires_grad=True)
    for size, blocks in ((16, 1), (32, 2)):
        noise = network.noise_buffers(size)
        assert set(noise) == {"conv"} | {f"block{i}.conv{j}" for i in range(blocks) for j in (1, 2)}
        preview = network(ws, noise, size)
        assert preview.shape == (2, 3, size, size)
        (gradient,) = torch.autograd.grad(preview.square().sum(), ws)
        assert (gradient.abs().sum(dim=(0, 2)) > 0).all()  # the head stands for the layers that it skips
    assert network(ws, None, network.img_resolution).shape == network(ws).shape == (2, 3, 64, 64)
    with pytest.raises(ValueError, match="images of 64 px and has no preview of 8 px"):
        network(ws, None, 8)

"""The FFHQ generator against OpenVINO's numbers, and its parts against closed forms."""

import pytest
import torch
import torch.nn.functional as F
from device import DEVICE, SLACK, relative

from ex5lib.devices import on_device
from stylegan2_ada.mobile import MobileSynthesis, haar_matrix, spread
from stylegan2_ada.readers import IRGraph

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


def test_features_in_bfloat16_are_close_to_the_full_ones(generator, tiny_generator):
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(3))
    for G, w, size in ((generator, z, 128), (tiny_generator, z[:, :32], None)):
        ws = G.mapping(w, truncation_psi=0.7).requires_grad_()
        images = [G.synthesis(ws, size=size, dtype=dtype) for dtype in (None, torch.bfloat16)]
        assert [image.dtype for image in images] == [torch.float32] * 2
        assert 1e-4 < relative(images[1], images[0]) < 0.05
        smooth = [F.avg_pool2d(image, 8).square().sum() for image in images]
        full, half = (torch.autograd.grad(value, ws)[0].flatten() for value in smooth)
        assert F.cosine_similarity(full, half, dim=0) > 0.999


def test_openvino_constants_and_edges_are_read():
    xml = (
        b'<net><layers><layer id="0" name="a" type="Const"><data element_type="i32" shape="2, 1" offset="4" size="8"/>'
        b'</layer><layer id="1" name="b" type="Add"/></layers><edges>'
        b'<edge from-layer="2" from-port="0" to-layer="1" to-port="1"/>'
        b'<edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>'
    )
    graph = IRGraph(xml, bytes([9, 9, 9, 9, 1, 0, 0, 0, 255, 255, 255, 255]))
    assert graph.constant("a").tolist() == [[1], [-1]]
    assert graph.consumer("a", "Add").inputs == ["0", "2"]


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

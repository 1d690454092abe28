"""The terms of the objective against ONNX Runtime's features, NumPy in float64 and closed forms."""

import numpy as np
import pytest
import torch
import torchvision

import ex5lib
from ex5lib import weights
from ex5lib.degradations.known import GaussianBlur
from ex5lib.devices import on_device
from ex5lib.errors import SettingError
from ex5lib.faces.descriptor import chip, load_descriptor
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.float16 import ScaledBackward
from ex5lib.inversion.losses import (
    VGG16_TAPS,
    Objective,
    color_distance,
    latent_distance,
    latent_distances,
    noise_regularization,
    renormalize_noise,
)
from ex5lib.weights.converters import vgg16_features

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def distance(distance, device):
    return on_device(device, distance)


def test_vgg16_features_match_onnx_runtime(distance, reference):
    stored = reference("vgg16_relu")
    rgb = torch.as_tensor(np.asarray(stored["rgb"], np.float32))
    rgb = rgb.permute(2, 0, 1)[None] if rgb.shape[-1] == 3 else rgb.view(1, *rgb.shape[-3:])
    x = (rgb / 127.5 - 1) * distance.scale + distance.offset
    names = [f"relu{block}_{conv}_slice" for block, conv in enumerate((2, 2, 3, 3, 3), start=1)]
    compared = 0
    for i, layer in enumerate(distance.vgg):
        x = layer(x)
        if i in VGG16_TAPS:
            expected = stored[names[compared]]
            found = x[0, ::8, ::5, ::5].cpu().numpy().reshape(expected.shape)
            assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-3, names[compared]
            compared += 1
    assert compared == 5


def _distance_in_numpy(vgg, scale, offset, heads, a, b) -> float:
    """LPIPS's equation 1 written out: weights on the squared differences of unit vectors, float64."""
    total, x, y = 0.0, a * scale + offset, b * scale + offset
    block = 0
    for i, layer in enumerate(vgg):
        x, y = layer(x), layer(y)
        if i in VGG16_TAPS:
            u, v = x[0].double().cpu().numpy(), y[0].double().cpu().numpy()
            u, v = u / (np.linalg.norm(u, axis=0) + 1e-30), v / (np.linalg.norm(v, axis=0) + 1e-30)
            total += (heads[block][:, None, None] * (u - v) ** 2).sum(axis=0).mean()
            block += 1
    return total


def test_the_layers_are_torchvisions():
    ours, theirs = vgg16_features().state_dict(), torchvision.models.vgg16(weights=None).features[:30].state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {name: t.shape for name, t in theirs.items()}


def test_distance_is_the_formula(distance):
    random = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 3, 64, 64, generator=random) * 2 - 1 for _ in range(2))
    expected = _distance_in_numpy(distance.vgg, distance.scale, distance.offset, [np.ones(1)] * 5, a, b)
    assert distance(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert distance(a, a).item() == 0


def test_lpips_weighs_channels_with_the_fitted_heads(monkeypatch):
    # torchvision's own weights need the open internet; the heads are the real ones, the backbone is random.
    torch.manual_seed(0)
    vgg = torchvision.models.vgg16(weights=None).features[:30].eval().requires_grad_(False)
    monkeypatch.setattr(weights, "load_vgg16", lambda name, _: {"vgg16-imagenet": vgg}[name])
    lpips = ex5lib.PerceptualDistance("lpips", device="cpu")
    heads = [head.cpu().numpy() for head in weights.load_lpips_heads()]
    assert [len(head) for head in heads] == [64, 128, 256, 512, 512]
    assert all((head >= 0).all() for head in heads)  # the square root in PerceptualDistance is exact
    a, b = (torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(2))
    mean, std = (
        torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1),
        torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1),
    )
    expected = _distance_in_numpy(vgg, 0.5 / std, (0.5 - mean) / std, heads, a, b)
    assert lpips(a, b).item() == pytest.approx(expected, rel=1e-5)


def test_target_features_serve_a_batch_and_gradients_reach_only_the_image(distance):
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 48, 48, generator=random).requires_grad_()
    target = torch.rand(1, 3, 48, 48, generator=random).requires_grad_()
    d = distance(images, target)
    singly = torch.cat([distance(images[i : i + 1], target) for i in range(2)])
    torch.testing.assert_close(d, singly, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        features = distance.features(target)
    torch.testing.assert_close(distance(images, features), d)
    d.sum().backward()
    assert images.grad.abs().sum() > 0
    assert target.grad is None
    assert all(parameter.grad is None for parameter in distance.parameters())


def test_distance_refuses_what_is_no_image(distance):
    with pytest.raises(SettingError, match=r"\[N, 3, H, W\]"):
        distance.features(torch.zeros(1, 1, 64, 64))
    with pytest.raises(SettingError, match='did you mean "vgg16"'):
        ex5lib.PerceptualDistance("vgg19")


def test_latent_distance_is_the_mean_of_the_layers_norms_with_no_gradient_at_the_mean():
    w_avg = torch.tensor([1.0, 2.0])
    ws = torch.tensor([[[4.0, 6.0], [1.0, 2.0]]], requires_grad=True)  # norms 5 and 0
    value = latent_distance(ws, w_avg)
    assert value.tolist() == [2.5]
    value.sum().backward()
    torch.testing.assert_close(ws.grad, torch.tensor([[[0.3, 0.4], [0.0, 0.0]]]))


@pytest.mark.slow
def test_the_distance_in_bfloat16_is_nearly_the_same(distance, astronaut):
    photo = resize_area(astronaut.image, 256).to(distance.offset)
    image = GaussianBlur(9)(photo).requires_grad_()
    half = distance.in_precision(torch.bfloat16)
    assert half is distance.in_precision(torch.bfloat16)
    assert half.in_precision(torch.float32) is distance is distance.in_precision(torch.float32)
    assert {p.dtype for p in distance.parameters()} == {torch.float32}
    values = [d(image, photo) for d in (distance, half)]
    assert values[1].dtype == torch.float32
    assert values[1].item() == pytest.approx(values[0].item(), rel=0.01)
    full, rough = (torch.autograd.grad(value, image)[0].flatten() for value in values)
    assert torch.nn.functional.cosine_similarity(full, rough, dim=0) > 0.9


@pytest.mark.slow
def test_gradients_through_float16_survive_a_scaled_loss_and_vanish_without(distance, astronaut, device):
    photo = resize_area(astronaut.image, 64).to(distance.offset)
    image = GaussianBlur(17)(photo)
    rough = distance.in_precision(torch.float16)

    def gradient(d, backward) -> torch.Tensor:
        x = image.clone().requires_grad_()
        backward(d(x, photo).sum() * 1e-2, inputs=[x])  # a hundredth: as small as those at 256 px
        return x.grad.flatten()

    full, plain = (gradient(d, torch.autograd.backward) for d in (distance, rough))
    scaled = gradient(rough, ScaledBackward(device))
    assert scaled.norm().item() == pytest.approx(full.norm().item(), rel=0.01)
    assert torch.nn.functional.cosine_similarity(full, scaled, dim=0) > 0.99
    assert torch.nn.functional.cosine_similarity(full, plain, dim=0) < 0.9


def test_gradients_that_overflow_count_as_none_and_halve_the_scale(device):
    backward, (x, y) = ScaledBackward(device), (torch.ones((), requires_grad=True) for _ in range(2))
    backward(x.half().float() * 0.75 + y * 3, inputs=[x, y])
    assert (x.grad.item(), y.grad.item(), backward.scale.item()) == (0.75, 3, 2**16)
    x.grad = y.grad = None
    backward(x.half().float() * 2 + y * 3, inputs=[x, y])  # 2 · 65536 is beyond float16
    assert (x.grad.item(), y.grad.item(), backward.scale.item()) == (0, 0, 2**15)


def test_mean_absolute_latent_distances_of_known_vectors():
    ws = torch.tensor([[[4.0, 6.0], [1.0, 2.0]], [[1.0, 2.0], [1.0, 4.0]]])
    w_avg = torch.tensor([1.0, 2.0])
    assert latent_distances(ws, w_avg, mean_absolute=True).tolist() == [[3.5, 0], [0, 1]]


def test_color_distance_sees_colours_and_no_detail():
    grey = torch.zeros(1, 3, 64, 64)
    stripes = torch.tensor([0.7, -0.7]).repeat(32).expand(1, 3, 64, 64)
    assert color_distance(stripes, grey).item() == pytest.approx(0, abs=1e-6)
    red = grey + torch.tensor([0.3, 0.0, 0.0]).view(1, 3, 1, 1)
    assert color_distance(torch.cat([red, grey]), grey).tolist() == pytest.approx([0.1, 0.0])


def test_the_objective_is_the_weighted_sum_of_its_terms(distance):
    random = torch.Generator().manual_seed(0)
    image, target = (torch.rand(2, 3, size, size, generator=random) for size in (64, 32))
    w_avg, ws = torch.zeros(4), torch.tensor([1.0, 2.0, 4.0])[:, None].expand(2, 3, 4)  # norms 2, 4 and 8
    noise = {"a": torch.ones(1, 1, 8, 8)}  # R(n) = 2
    descriptor = load_descriptor()
    objective = Objective(
        target, GaussianBlur(25), distance, torch.tensor([1.0, 0.5, 0.0]), color_weight=0.5, identity_weight=2.0,
        noise_weight=0.25, descriptor=descriptor,
    )  # fmt: skip
    terms = objective(image, ws, w_avg, noise)
    degraded = GaussianBlur(25)(resize_area(image, 32))  # at the smaller of the two sizes
    d, c = distance(degraded, target), color_distance(degraded, target)
    torch.testing.assert_close(terms["distance"], d)
    torch.testing.assert_close(terms["color_distance"], c)
    i = (descriptor(chip(degraded)) - descriptor(chip(target))).norm(dim=1) ** 2
    torch.testing.assert_close(terms["identity_distance"], i)
    assert terms["latent_distance"].tolist() == pytest.approx([14 / 3] * 2)
    torch.testing.assert_close(terms["score"], d + 0.5 * c + 2 * i + (1 * 2 + 0.5 * 4) / 3)
    torch.testing.assert_close(terms["loss"], terms["score"] + 0.25 * 2)
    clamped = Objective(target, GaussianBlur(25), distance, torch.zeros(3), clamp=True)
    torch.testing.assert_close(
        clamped(image * 3, ws, w_avg, noise)["distance"],
        clamped((image * 3).clamp(-1, 1), ws, w_avg, noise)["distance"],
    )
    center = torch.zeros(1, 3, 4)
    center[:, 1] = 2  # the second layer's own: now nothing is left of its norm
    terms = objective(image, ws, center, noise)
    assert terms["latent_distance"].tolist() == pytest.approx([(2 + 0 + 8) / 3] * 2)


def _noise_regularization_in_numpy(buffers: list[np.ndarray]) -> float:
    total = 0.0
    for n in buffers:
        while True:
            for axis in (0, 1):
                total += np.mean(n * np.roll(n, 1, axis=axis)) ** 2
            if len(n) <= 8:
                break
            n = n.reshape(len(n) // 2, 2, len(n) // 2, 2).mean(axis=(1, 3))
    return total


def test_noise_regularization_matches_numpy():
    random = np.random.default_rng(0)
    buffers = [random.normal(size=(size, size)) for size in (4, 8, 16, 64)]
    noise = {str(i): torch.as_tensor(b)[None, None] for i, b in enumerate(buffers)}
    assert noise_regularization(noise).item() == pytest.approx(_noise_regularization_in_numpy(buffers), rel=1e-10)


def test_noise_regularization_of_a_constant_is_known():
    # n = 1: so is every level of the pyramid (32, 16 and 8 px), and its autocorrelation in both directions.
    assert noise_regularization({"a": torch.ones(1, 1, 32, 32)}).item() == pytest.approx(2 * 3)


def test_noise_regularization_has_an_exact_gradient():
    n = torch.randn(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda n: noise_regularization({"n": n}), n, fast_mode=True)


def test_renormalised_noise_has_zero_mean_and_unit_variance():
    noise = {"a": torch.randn(2, 1, 16, 16) * 3 + 5}
    renormalize_noise(noise)
    torch.testing.assert_close(noise["a"].mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(noise["a"].var(dim=(1, 2, 3), correction=0), torch.ones(2))

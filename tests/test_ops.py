import itertools
import math

import pytest
import torch
from device import DEVICE, relative
from nvidia_layout import plain_styled_conv, plain_upsample

from stylegan2_ada.ops import bias_act, fir_filter, styled_conv2d, styled_pointwise, upsample2d

pytestmark = [
    pytest.mark.usefixtures("device"),
    pytest.mark.skipif(DEVICE.type == "mps", reason="the formulas are checked in float64, which MPS lacks"),
]

FILTERS = [(1, 3, 3, 1), (1,), (1, 2), (1, 2, 4), (1, 4, 9, 2, 7), (1, 5, 2, 3, 4, 8), (1, 2, 3, 4, 5, 6, 7, 9)]
ASYMMETRIC = (1, 2, 4, 3)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def randn(*shape, rng):
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def normalised(taps):
    f = torch.tensor(taps, dtype=torch.float64)
    f = f.outer(f) if f.ndim == 1 else f
    return f / f.sum()


def assert_same(ours, plain, inputs, rng):
    """Results and gradients to every input."""
    assert relative(ours, plain) < 1e-6  # filters are normalised in float32
    upstream = randn(*ours.shape, rng=rng)
    gradients = (torch.autograd.grad(made, inputs, upstream) for made in (ours, plain))
    for a, b in zip(*gradients, strict=True):
        assert relative(a, b) < 1e-6


@pytest.mark.parametrize("taps", [*FILTERS, ((1.0, 2.0), (3.0, 10.0))])
def test_upsampling_is_zeros_between_pixels_and_a_convolution(taps, rng):
    x, f = randn(2, 3, 6, 8, rng=rng), normalised(taps)
    assert relative(upsample2d(x, fir_filter(torch.tensor(taps))), plain_upsample(x, f)) < 1e-6


@pytest.mark.parametrize(
    ("batch", "taps", "noise_batch", "clamp"),
    [
        *itertools.product((1, 3), (None, ASYMMETRIC, (1, 2, 4)), (1, None), (None, 0.8)),
        (3, None, 3, None),
        (3, ASYMMETRIC, 3, 0.8),
    ],
)
def test_styled_convolution_and_its_gradients_equal_the_per_sample_form(batch, taps, noise_batch, clamp, rng):
    scale = 1 if taps is None else 2
    x, weight, bias = randn(batch, 4, 6, 7, rng=rng), randn(5, 4, 3, 3, rng=rng), randn(5, rng=rng)
    inputs = [x, weight, randn(batch, 4, rng=rng) + 1, bias]
    inputs += [] if noise_batch is None else [randn(noise_batch, 1, 6 * scale, 7 * scale, rng=rng)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    up, f = (None, None) if taps is None else (fir_filter(taps).double(), normalised(taps))
    ours = styled_conv2d(*inputs, up=up, gain=1.3, clamp=clamp)
    assert_same(ours, plain_styled_conv(*inputs, f=f, gain=1.3, clamp=clamp), inputs, rng)


@pytest.mark.parametrize(("batch", "noise_batch"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
@pytest.mark.parametrize("slope", [1.0, 0.2])
def test_styled_pointwise_and_its_gradients_equal_the_formula(batch, slope, noise_batch, rng):
    shapes = [(batch, 3, 2, 4), (5, 3), (batch, 3), *([(5,), (noise_batch, 1, 2, 4)] if noise_batch else [])]
    inputs = [randn(*shape, rng=rng).requires_grad_() for shape in shapes]
    x, weight, styles, *rest = inputs
    product = torch.einsum("oi,nihw->nohw", weight, x * styles[:, :, None, None])
    product = product + rest[0].view(1, 5, 1, 1) + rest[1] if rest else product
    made = styled_pointwise(x, weight, styles, *rest, slope=slope)
    assert_same(made, torch.nn.functional.leaky_relu(product, slope), inputs, rng)


def test_bias_and_activation_in_numbers():
    x = torch.tensor([[-3.0, 0.5, 9.0]])
    bias = torch.tensor([1.0, 0.5, 1.0])
    root = math.sqrt(2)
    torch.testing.assert_close(bias_act(x, bias, clamp=10.0), torch.tensor([[-0.4 * root, root, 10.0]]))
    torch.testing.assert_close(bias_act(x, bias, slope=1.0, gain=2.0), torch.tensor([[-4.0, 2.0, 20.0]]))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("taps", [None, (1, 3, 3, 1)])
def test_channels_last_features_stay_channels_last(taps, batch):
    up = None if taps is None else fir_filter(taps)
    # A layer that falls back to the other layout is right, but nearly twice as slow.
    if batch > 1 and DEVICE.type != "cpu":
        pytest.skip("there, a batch is one convolution with groups")
    x = torch.randn(batch, 8, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    y = styled_conv2d(x, torch.randn(6, 8, 3, 3), torch.ones(batch, 8), torch.zeros(6), up=up)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("taps", [None, (1, 3, 3, 1)])
def test_half_precision_features_are_close_to_the_full_ones(taps, rng):
    up, f = (None, None) if taps is None else (fir_filter(taps), normalised(taps))
    side = 8 if taps is None else 16
    x, weight, styles, bias = (randn(*shape, rng=rng) for shape in ((1, 4, 8, 8), (5, 4, 3, 3), (1, 4), (5,)))
    noise, upstream = randn(1, 1, side, side, rng=rng), randn(1, 5, side, side, rng=rng)
    s = (styles + 1).requires_grad_()
    expected = plain_styled_conv(x, weight, s, bias, noise, f)
    y = styled_conv2d(x.bfloat16(), weight.float(), s.float(), bias.float(), noise.float(), up=up)
    assert y.dtype == torch.bfloat16
    assert relative(y, expected) < 2e-2
    gradients = (torch.autograd.grad(made, s, upstream.to(made.dtype))[0] for made in (y, expected))
    assert relative(*gradients) < 0.1  # as far as the plain form is in bfloat16


@pytest.mark.parametrize("pointwise", [False, True])
def test_sums_over_the_pixels_of_float16_do_not_overflow(pointwise, rng):
    """Scaled gradients times features soon exceed 65,504, and the sums in the styles' gradients do so anyway."""
    weight, bias = randn(3, 4, *[] if pointwise else [3, 3], rng=rng).float(), torch.zeros(3)
    x, upstream, grads = torch.full((1, 4, 8, 8), 200.0), torch.full((1, 3, 8, 8), 2000.0), []
    for dtype in (torch.float32, torch.float16):
        styles = torch.ones(1, 4, requires_grad=True)
        y = (styled_pointwise if pointwise else styled_conv2d)(x.to(dtype), weight, styles, bias)
        grads += torch.autograd.grad(y, styles, upstream.to(dtype))
    assert grads[0].abs().max() > 65504
    torch.testing.assert_close(grads[1], grads[0], rtol=0.02, atol=0.01 * grads[0].abs().max().item())

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from device import DEVICE, SLACK
from torch.autograd import gradcheck

from stylegan2_ada.ops import bias_act, downsample2d, fir_filter, styled_conv2d, styled_pointwise, upsample2d

pytestmark = [
    pytest.mark.usefixtures("device"),
    pytest.mark.skipif(DEVICE.type == "mps", reason="the formulas are checked in float64, which MPS lacks"),
]

FILTERS = [(1, 3, 3, 1), (1,), (1, 2), (1, 2, 4), (1, 4, 9, 2, 7), (1, 5, 2, 3, 4, 8), (1, 2, 3, 4, 5, 6, 7, 9)]
ASYMMETRIC = (1, 2, 4, 3)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # On tensors this small, threads wait for each other longer than they compute.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def randn(*shape, rng, **kwargs):
    return torch.randn(shape, generator=rng, dtype=torch.float64, **kwargs)


def relative(a, b):
    return ((a - b).norm() / b.norm()).item() / SLACK


def insert_zeros(x):
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def convolve(x, taps, before, after):
    """True convolution of every channel with the outer product of the normalised taps, after padding."""
    f = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    kernel = f.outer(f).flip(0, 1).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def plain_styled_conv(x, weight, styles, bias, noise, taps=None, gain=2**0.5, clamp=None):
    """Modulated and demodulated weights, one sample at a time, upsampling by inserted zeros."""
    images = []
    for i in range(len(x)):
        w = weight * styles[i][None, :, None, None]
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if taps is None:
            y = F.conv2d(x[i : i + 1], w, padding=w.shape[-1] // 2)
        else:
            y = F.conv2d(F.pad(insert_zeros(x[i : i + 1]), (2, 2, 2, 2)), w.flip(2, 3))
            before = (len(taps) + 1) // 2 - 1
            y = 4 * convolve(y, taps, before, len(taps) - 3 - before)
        images.append(y)
    y = torch.cat(images) if noise is None else torch.cat(images) + noise
    y = F.leaky_relu(y + bias[:, None, None], 0.2) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


@pytest.mark.parametrize("taps", FILTERS)
def test_upsampling_equals_zero_insertion_and_convolution(taps, rng):
    x = randn(2, 3, 5, 6, rng=rng)
    expected = 4 * convolve(insert_zeros(x), taps, (len(taps) + 1) // 2, (len(taps) - 2) // 2)
    assert relative(upsample2d(x, fir_filter(taps)), expected) < 1e-6


@pytest.mark.parametrize("taps", FILTERS)
def test_downsampling_equals_convolution_and_dropping_pixels(taps, rng):
    x = randn(2, 3, 6, 8, rng=rng)
    expected = convolve(x, taps, (len(taps) - 1) // 2, (len(taps) - 2) // 2 if len(taps) > 1 else 0)[:, :, ::2, ::2]
    assert relative(downsample2d(x, fir_filter(taps)), expected) < 1e-6


def test_upsampling_a_constant_keeps_it_away_from_the_border():
    y = upsample2d(torch.full((1, 1, 6, 6), 3.0), fir_filter((1, 3, 3, 1)))
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.full((1, 1, 8, 8), 3.0))


def test_two_dimensional_taps_are_used_as_they_are(rng):
    taps = torch.tensor([[1.0, 2.0], [3.0, 10.0]])
    torch.testing.assert_close(fir_filter(taps), taps / 16)
    x = randn(1, 1, 3, 3, rng=rng)
    y = upsample2d(x, fir_filter(taps))
    torch.testing.assert_close(y[..., ::2, 1::2], x * 2 / 4)


@pytest.mark.parametrize(
    ("batch", "taps", "noise_batch", "clamp"),
    [
        *itertools.product((1, 3), (None, ASYMMETRIC, (1, 2, 4)), (1, None), (None, 0.8)),
        (3, None, 3, None),
        (3, ASYMMETRIC, 3, 0.8),
    ],
)
def test_styled_convolution_and_its_gradients_equal_the_per_sample_form(batch, taps, noise_batch, clamp, rng):
    weight, bias = randn(5, 4, 3, 3, rng=rng), randn(5, rng=rng)
    x, styles = randn(batch, 4, 6, 7, rng=rng), randn(batch, 4, rng=rng) + 1
    scale = 1 if taps is None else 2
    inputs = [x, styles] + ([] if noise_batch is None else [randn(noise_batch, 1, 6 * scale, 7 * scale, rng=rng)])
    inputs = [tensor.requires_grad_() for tensor in inputs]
    noise = inputs[2] if len(inputs) == 3 else None
    up = None if taps is None else fir_filter(taps).double()
    ours = styled_conv2d(x, weight, styles, bias, noise, up=up, gain=1.3, clamp=clamp)
    plain = plain_styled_conv(x, weight, styles, bias, noise, taps, 1.3, clamp)
    assert relative(ours, plain) < 1e-6  # filters are normalised in float32
    upstream = randn(*ours.shape, rng=rng)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(plain, inputs, upstream), strict=True
    ):
        assert relative(a, b) < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("taps", [None, ASYMMETRIC])
@pytest.mark.parametrize("clamp", [None, 0.9])
def test_styled_convolution_passes_gradcheck(batch, taps, clamp, rng):
    up = None if taps is None else fir_filter(taps).double()
    weight, bias = randn(3, 2, 3, 3, rng=rng), randn(3, rng=rng)
    side = 2 if up is None else 4
    inputs = (
        randn(batch, 2, 2, 2, rng=rng, requires_grad=True),
        randn(batch, 2, rng=rng, requires_grad=True),
        randn(1, 1, side, side, rng=rng, requires_grad=True),
    )
    assert gradcheck(lambda x, s, n: styled_conv2d(x, weight, s, bias, n, up=up, clamp=clamp), inputs)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("slope", [1.0, 0.2])
@pytest.mark.parametrize("noise_batch", [0, 1, 2])
def test_styled_pointwise_is_the_formula_and_passes_gradcheck(batch, slope, noise_batch, rng):
    shapes = [(batch, 3, 2, 4), (5, 3), (batch, 3)]
    shapes += [(5,), (min(noise_batch, batch), 1, 2, 4)] if noise_batch else []
    inputs = [randn(*shape, rng=rng, requires_grad=True) for shape in shapes]
    x, weight, styles, *rest = inputs
    product = torch.einsum("oi,nihw->nohw", weight, x * styles[:, :, None, None])
    for extra, shape in zip(rest, [(1, 5, 1, 1), rest[-1].shape] if rest else [], strict=True):
        product = product + extra.view(shape)
    made = styled_pointwise(x, weight, styles, *rest, slope=slope)
    torch.testing.assert_close(made, torch.nn.functional.leaky_relu(product, slope))
    assert gradcheck(lambda *inputs: styled_pointwise(*inputs, slope=slope), inputs)


@pytest.mark.parametrize("operator", [upsample2d, downsample2d])
def test_filters_pass_gradcheck(operator, rng):
    x = randn(2, 2, 4, 6, rng=rng, requires_grad=True)
    assert gradcheck(lambda x: operator(x, fir_filter(ASYMMETRIC)), (x,))


@pytest.mark.parametrize("kwargs", [{}, {"slope": 1.0, "gain": 1.0}, {"clamp": 0.7}])
def test_bias_and_activation_passes_gradcheck(kwargs, rng):
    inputs = (randn(2, 3, 4, 4, rng=rng, requires_grad=True), randn(3, rng=rng, requires_grad=True))
    assert gradcheck(lambda x, b: bias_act(x, b, **kwargs), inputs)


def test_bias_and_activation_in_numbers():
    x = torch.tensor([[-3.0, 0.5, 9.0]])
    bias = torch.tensor([1.0, 0.5, 1.0])
    root = math.sqrt(2)
    torch.testing.assert_close(bias_act(x, bias, clamp=10.0), torch.tensor([[-0.4 * root, root, 10.0]]))
    torch.testing.assert_close(bias_act(x, bias, slope=1.0, gain=2.0), torch.tensor([[-4.0, 2.0, 20.0]]))


@pytest.mark.parametrize("taps", [None, ASYMMETRIC])
def test_styled_convolution_passes_gradcheck_for_its_weights(taps, rng):
    up = None if taps is None else fir_filter(taps).double()
    x, styles = randn(2, 2, 2, 2, rng=rng), randn(2, 2, rng=rng)
    inputs = (randn(3, 2, 3, 3, rng=rng, requires_grad=True), randn(3, rng=rng, requires_grad=True))
    assert gradcheck(lambda weight, bias: styled_conv2d(x, weight, styles, bias, up=up), inputs)


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
    up = None if taps is None else fir_filter(taps)
    weight, bias = randn(5, 4, 3, 3, rng=rng), randn(5, rng=rng)
    x, styles = randn(1, 4, 8, 8, rng=rng), randn(1, 4, rng=rng) + 1
    side = 8 if up is None else 16
    noise, upstream = randn(1, 1, side, side, rng=rng), randn(1, 5, side, side, rng=rng)
    expected = plain_styled_conv(x, weight, styles.requires_grad_(), bias, noise, None if up is None else (1, 3, 3, 1))
    (expected_grad,) = torch.autograd.grad(expected, styles, upstream)
    s = styles.detach().float().requires_grad_()
    y = styled_conv2d(x.bfloat16(), weight.float(), s, bias.float(), noise.float(), up=up)
    (grad,) = torch.autograd.grad(y, s, upstream.bfloat16())
    assert y.dtype == torch.bfloat16
    assert relative(y.double(), expected) < 2e-2
    assert relative(grad.double(), expected_grad) < 0.1  # as far as the plain form is in bfloat16


def test_operators_compile_without_graph_breaks(rng):
    weight, bias, f = randn(3, 2, 3, 3, rng=rng), randn(3, rng=rng), fir_filter((1, 3, 3, 1))

    def network(x, styles, noise):
        y = styled_conv2d(downsample2d(x, f), weight, styles, bias, noise, up=f, clamp=2.0)
        return bias_act(upsample2d(y, f), bias, clamp=2.0)

    inputs = [randn(1, 2, 8, 8, rng=rng), randn(1, 2, rng=rng), randn(1, 1, 8, 8, rng=rng)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    expected, found = network(*inputs), compiled(*inputs)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


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

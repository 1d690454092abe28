"""Degradations against torchvision, Pillow and themselves at other resolutions."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import nn

from ex5lib import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, Noise
from ex5lib.degradations.probe import hidden_region
from ex5lib.errors import SettingError
from ex5lib.images.tensors import from_uint8, resize, resize_area, to_uint8
from ex5lib.restoration.metrics import psnr


@pytest.fixture(scope="module")
def faces(astronaut, samples):
    return [astronaut.image, samples[0]]


@pytest.mark.parametrize(("kernel_size", "sigma"), [(3, 0.8), (9, None), (25, None), (9, 4.0), (41, 12.0)])
def test_blur_at_256_px_is_torchvisions(faces, kernel_size, sigma):
    image = resize_area(faces[0], 256).double()
    blur = GaussianBlur(kernel_size, sigma)
    expected = TF.gaussian_blur(image, [kernel_size] * 2, [blur.sigma] * 2)
    torch.testing.assert_close(blur(image), expected, atol=1e-9, rtol=0)


def test_default_sigma_grows_with_the_kernel():
    assert GaussianBlur(25).sigma == pytest.approx(0.15 * 25 + 0.35)


@pytest.mark.parametrize("kernel_size", [0, 1])
def test_kernels_0_and_1_do_not_blur(kernel_size):
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(GaussianBlur(kernel_size)(image), image)


@pytest.mark.parametrize("size", [256, 128])
@pytest.mark.parametrize("sigma", [None, 3.0])
@pytest.mark.parametrize("kernel_size", [9, 17, 25])
def test_blur_then_downsample_is_downsample_then_blur(faces, kernel_size, sigma, size):
    blur = GaussianBlur(kernel_size, sigma)
    for face in faces:
        assert psnr(resize_area(blur(face), size), blur(resize_area(face, size))) > 40
        middle = resize_area(face, 256)
        assert psnr(resize_area(blur(middle), 128), blur(resize_area(middle, 128))) > 40


@pytest.mark.parametrize("size", [256, 128])
def test_hole_then_downsample_is_downsample_then_hole(faces, size):
    hole = Inpaint(top=101, left=63, height=51, width=77)  # odd numbers: the edge falls inside pixels at 128 px
    for face in faces:
        a, b = resize_area(hole(face), size), hole(resize_area(face, size))
        scale = size / 256
        rows, columns = (101 * scale, 152 * scale), (63 * scale, 140 * scale)
        y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        border = torch.zeros(size, size, dtype=torch.bool)
        for edge in rows:
            border |= (y - edge).abs() <= 1
        for edge in columns:
            border |= (x - edge).abs() <= 1
        a, b = a.masked_fill(border, 0), b.masked_fill(border, 0)
        assert psnr(a, b) > 40
        inside = (y > rows[0] + 1) & (y < rows[1] - 1) & (x > columns[0] + 1) & (x < columns[1] - 1)
        assert (b[:, :, inside] == -1).all()
        assert inside.sum() > 0.8 * 51 * 77 * scale**2


def test_grey_is_pillows_luma(faces):
    pixels = to_uint8(faces[0])
    grey = to_uint8(Grayscale()(faces[0]))
    assert (grey[..., 0] == grey[..., 1]).all()
    assert (grey[..., 0] == grey[..., 2]).all()
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1


def test_mask_image_removes_white_and_keeps_black():
    mask = torch.zeros(512, 512)
    mask[128:256, 256:384] = 1
    image = torch.rand(1, 3, 256, 256)
    result = Inpaint(mask=mask)(image)
    assert (result[:, :, 64:128, 128:192] == -1).all()
    untouched = torch.ones(256, 256, dtype=torch.bool)
    untouched[64:128, 128:192] = False
    assert torch.equal(result[:, :, untouched], image[:, :, untouched])


def test_mask_at_an_odd_size_keeps_its_share():
    hole = Inpaint(top=64, left=64, height=128, width=128)
    for size in (100, 256, 300, 1024):
        share = hole.mask_for(torch.zeros(1, 3, size, size)).mean().item()
        assert share == pytest.approx(0.25, abs=0.005)


def test_composite_takes_the_hole_from_the_generator_and_the_rest_from_the_photo():
    photo, generated = torch.full((1, 3, 256, 256), -0.5), torch.full((1, 3, 256, 256), 0.5)
    hole = Inpaint(top=100, left=100, height=40, width=60)
    result = hole.composite(photo, generated, feather=8)
    assert (result[:, :, 100:140, 100:160] == 0.5).all()
    row = result[0, 0, 120, 80:101]
    assert (row.diff() >= 0).all()  # rises towards the hole, without a step
    assert row.diff().max() < 0.25
    assert (result[0, 0, :, :91] == -0.5).all()


def test_degradations_compose_and_are_differentiable():
    both = nn.Sequential(GaussianBlur(5), Grayscale(), Inpaint(8, 8, 100, 100), Identity()).double()
    image = torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(both, image, fast_mode=True)


@pytest.mark.parametrize("kernel_size", [-1, -3, 2, 24, 257])
def test_bad_kernel_sizes_are_refused(kernel_size):
    with pytest.raises(SettingError, match=f"not {kernel_size}"):
        GaussianBlur(kernel_size)


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan")])
def test_bad_sigmas_are_refused(sigma):
    with pytest.raises(SettingError, match="sigma"):
        GaussianBlur(9, sigma)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ((200, 0, 57, 10), SettingError, "does not lie inside"),
        ((-1, 0, 5, 5), SettingError, "does not lie inside"),
        ((0, 0, 0, 5), SettingError, "does not lie inside"),
        ((1, 2, 3), SettingError, "all of top, left, height and width"),
        ((), SettingError, "either a rectangle"),
    ],
)
def test_bad_rectangles_are_refused(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        Inpaint(*arguments)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.ones(64, 64), "white all over"),
        (torch.zeros(64, 64), "black all over"),
        (torch.eye(64)[:32], "64 × 32 px but the aligned face is square"),
        (torch.zeros(3, 64, 64), r"not \[3, 64, 64\]"),
    ],
)
def test_bad_masks_are_refused(mask, sentence):
    with pytest.raises(SettingError, match=sentence):
        Inpaint(mask=mask)


def test_rectangle_is_the_same_hole_as_its_mask():
    mask = torch.zeros(256, 256)
    mask[10:50, 20:90] = 1
    image = F.interpolate(torch.rand(1, 3, 32, 32), 1024)
    assert torch.equal(Inpaint(10, 20, 40, 70)(image), Inpaint(mask=mask)(image))


def test_a_grey_composite_has_the_photos_luma_and_the_generators_colours():
    photo, generated = (torch.rand(1, 3, 16, 16) * 0.6 - 0.3 for _ in range(2))
    grey = Grayscale()
    composite = grey.composite(photo, generated)
    torch.testing.assert_close(grey(composite), grey(photo))
    torch.testing.assert_close(composite[:, 0] - composite[:, 1], generated[:, 0] - generated[:, 1])
    assert grey.composite(torch.ones(1, 3, 4, 4), generated[:, :, :4, :4]).max() <= 1


def test_smooth_filling_continues_a_slope_and_leaves_the_rest():
    slope = torch.linspace(-0.8, 0.8, 64).expand(1, 3, 64, 64)  # biharmonic functions hold all linear ones
    hole = Inpaint(80, 80, 64, 64)
    filled = hole.fill_smoothly(slope)
    assert (filled - slope).abs().max() < 1e-4
    noisy = torch.rand(1, 3, 64, 64) * 2 - 1
    outside = (hole.mask_for(noisy) == 0).expand_as(noisy)
    assert torch.equal(hole.fill_smoothly(noisy)[outside], noisy[outside])


@pytest.fixture
def face(astronaut) -> torch.Tensor:
    return resize_area(astronaut.image, 256)


@pytest.mark.parametrize(("quality", "off"), [(10, 2.0), (30, 1.6), (75, 1.4), (95, 1.2)])
def test_jpeg_is_nearly_what_the_codec_makes(face, quality, off):
    file = io.BytesIO()
    Image.fromarray(to_uint8(face)).save(file, "JPEG", quality=quality)
    coded = from_uint8(np.asarray(Image.open(file)))
    made = Jpeg(quality)(face)
    levels = 127.5 * (made - coded).abs().mean().item()
    assert levels < off
    assert levels < 0.55 * 127.5 * (face - coded).abs().mean().item() or quality == 95
    assert made.min() >= -1
    assert made.max() <= 1


def test_jpeg_leaves_flat_blocks_and_passes_gradients(face):
    flat = torch.tensor([0.4, -0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 256, 256)
    assert (Jpeg(50)(flat) - flat).abs().max() < 0.1
    image = face.clone().requires_grad_()
    Jpeg(10)(image).square().sum().backward()
    assert image.grad.isfinite().all()
    assert (image.grad.abs().sum(1) > 0).float().mean() > 0.9
    grey = torch.zeros(1, 3, 256, 256, requires_grad=True)  # its colours are whole steps, where a cube has no slope
    made = Jpeg(10)(grey)
    (made[:, 0] - made[:, 1]).mean().backward()  # R − G, of which rounding leaves a quarter
    torch.testing.assert_close(grey.grad.sum(dim=(0, 2, 3)), torch.tensor([0.25, -0.25, 0.0]), atol=1e-3, rtol=0)
    twice = Jpeg(10)(resize_area(face, 128))
    assert twice.shape == (1, 3, 128, 128)


def test_downsampling_keeps_block_means_and_hides_the_rest(face):
    small = torch.nn.functional.avg_pool2d(face, 16)
    expected = torch.nn.functional.interpolate(small, size=(256, 256), mode="bilinear")
    torch.testing.assert_close(Downsample(16)(face), expected)
    assert torch.equal(Downsample(1)(face), face)
    fine = torch.tensor([1.0, -1.0]).repeat(128).expand(1, 3, 256, 256)
    assert Downsample(8)(fine).abs().max() < 1e-6
    larger = Downsample(8)(resize(face, 512))
    assert (resize_area(larger, 256) - Downsample(8)(face)).abs().mean() < 0.01


def test_noise_has_its_sigma_at_256_px_and_its_seed(face):
    noisy = Noise(0.2, seed=3)(face)
    assert (noisy - face)[face.abs() < 0.3].std() == pytest.approx(0.2, rel=0.02)
    assert noisy.abs().max() == 1  # as in a file
    assert torch.equal(noisy, Noise(0.2, seed=3)(face))
    other = Noise(0.2, seed=4)(face) - face
    assert ((noisy - face) * other)[face.abs() < 0.3].mean().abs() < 2e-3
    large = torch.zeros(1, 3, 1024, 1024)
    torch.testing.assert_close(resize_area(Noise(0.2, seed=3)(large), 256), Noise(0.2, seed=3)(large[..., ::4, ::4]))
    assert (Noise(0.2)(large[..., :128, :128])).std() == pytest.approx(0.1, rel=0.02)


def test_noise_of_a_photos_own_pixels_is_scaled_like_the_photo():
    grain = Noise(0.1, size=128)
    own, half, larger = (grain(torch.zeros(1, 3, size, size)) for size in (128, 64, 512))
    assert own.std() == pytest.approx(0.1, rel=0.02)
    torch.testing.assert_close(half, torch.nn.functional.avg_pool2d(own, 2))
    torch.testing.assert_close(larger, torch.nn.functional.interpolate(own, size=(512, 512), mode="bilinear"))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Downsample(0), "whole number from 1 to 64, not 0"),
        (lambda: Downsample(2.5), "whole number from 1 to 64"),
        (lambda: Jpeg(0), "from 1 to 100, not 0"),
        (lambda: Jpeg(101), "from 1 to 100"),
        (lambda: Noise(-0.1), "0 or a positive number"),
        (lambda: Noise(0.1, size=0), "positive whole number of pixels, not 0"),
    ],
)
def test_bad_parameters_are_refused(make, sentence):
    with pytest.raises(SettingError, match=sentence):
        make()


def test_what_is_hidden_is_found_by_asking_the_degradation():
    hole = Inpaint(top=10, left=20, height=30, width=40)
    region = hidden_region(torch.nn.Sequential(hole, Grayscale()))
    expected = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    expected[:, :, 10:40, 20:60] = True
    assert torch.equal(region, expected)
    assert hidden_region(hole, 64).shape == (1, 1, 64, 64)
    for nothing in (GaussianBlur(25), Grayscale(), Downsample(16), Jpeg(10), Noise(0.2)):
        assert not hidden_region(nothing).any()

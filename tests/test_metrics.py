"""Metrics against closed forms, torchmetrics-free: PSNR and SSIM written out, identity on real faces."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import ex5lib
from ex5lib.errors import ImageShapeError
from ex5lib.images import resize_area


def test_psnr_of_a_constant_difference_is_known():
    a = torch.zeros(1, 3, 16, 16)
    assert ex5lib.psnr(a + 0.2, a) == pytest.approx(20 * math.log10(2 / 0.2), rel=1e-5)
    assert ex5lib.psnr(a, a) == math.inf


def test_ssim_is_the_papers_formula():
    random = np.random.default_rng(0)
    a, b = (random.uniform(-1, 1, (3, 40, 40)) for _ in range(2))

    def blur(x):
        return gaussian_filter(x, 1.5, truncate=3.5)

    values = []
    for x, y in zip(a, b, strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
        s = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        values.append(s[5:-5, 5:-5].mean())
    found = ex5lib.ssim(*(torch.from_numpy(x)[None].float() for x in (a, b)))
    assert found == pytest.approx(np.mean(values), rel=1e-4)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(ImageShapeError, match=r"\[16, 16\] and \[8, 8\]"):
        ex5lib.psnr(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 8, 8))


def test_identity_knows_a_person_in_a_smaller_brighter_picture(astronaut, samples):
    same = ex5lib.identity_distance((resize_area(astronaut.image, 256) * 0.8 + 0.1), astronaut.image)
    others = [ex5lib.identity_distance(sample, astronaut.image) for sample in samples[:4]]
    assert same < 0.25
    assert min(others) > 0.5


def test_compare_reports_all_metrics(astronaut, distance):
    found = ex5lib.compare(ex5lib.GaussianBlur(9)(astronaut.image), astronaut.image, distance)
    assert list(found) == ["distance", "psnr", "ssim", "identity_distance"]
    assert found["psnr"] > 25
    assert 0.7 < found["ssim"] < 1
    small = resize_area(astronaut.image, 256)
    assert found["distance"] == pytest.approx(distance(ex5lib.GaussianBlur(9)(small), small).item(), rel=0.02)

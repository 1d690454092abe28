"""Metrics against closed forms, torchmetrics-free: PSNR and SSIM written out, identity on real faces."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import ConvexHull

import ex5lib
from ex5lib.errors import SettingError
from ex5lib.faces import landmarks
from ex5lib.images.loading import load_image
from ex5lib.images.tensors import resize_area
from ex5lib.restoration import metrics


@pytest.fixture(scope="module")
def crops(root):
    """Aligned faces of two people, 512 px."""
    return {path.stem: load_image(path) for path in (root / "benchmarks" / "crops").glob("*.jpg")}


def test_psnr_of_a_constant_difference_is_known():
    a = torch.zeros(1, 3, 16, 16)
    assert metrics.psnr(a + 0.2, a) == pytest.approx(20 * math.log10(2 / 0.2), rel=1e-5)
    assert metrics.psnr(a, a) == math.inf


@pytest.mark.parametrize(
    ("distance", "words"), [(0.31, "likely (0.31)"), (0.5, "perhaps (0.50)"), (0.6, "hardly (0.60)")]
)
def test_an_identity_distance_is_put_into_words(distance, words):
    assert metrics.likeness(distance) == words


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
    found = metrics.ssim(*(torch.from_numpy(x)[None].float() for x in (a, b)))
    assert found == pytest.approx(np.mean(values), rel=1e-4)


def test_images_of_two_sizes_are_refused():
    with pytest.raises(SettingError, match=r"\[16, 16\] and \[8, 8\]"):
        metrics.psnr(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 8, 8))


def test_identity_knows_a_person_in_a_smaller_brighter_picture(crops):
    same = metrics.identity_distance(resize_area(crops["astronaut"], 256) * 0.8 + 0.1, crops["astronaut"])
    assert same < 0.25
    assert metrics.identity_distance(crops["officer"], crops["astronaut"]) > 0.5


def test_images_are_compared_by_all_measures_at_the_size_of_the_smaller(crops, distance):
    original = resize_area(crops["astronaut"], 256)
    images = {"blurred": ex5lib.GaussianBlur(9)(crops["astronaut"]), "white": resize_area(original, 128) + 2}
    found = metrics.compare_all(images, original, distance)
    assert found == {name: metrics.compare(image, original, distance) for name, image in images.items()}
    assert list(found["blurred"]) == ["distance", "psnr", "ssim", "identity_distance"]
    white, small = torch.ones(1, 3, 128, 128), resize_area(original, 128)
    assert found["white"]["psnr"] == metrics.psnr(white, small)
    assert found["white"]["distance"] == pytest.approx(distance(white, small).item())
    assert found["blurred"]["psnr"] > 25
    assert 0.7 < found["blurred"]["ssim"] < 1
    expected = distance(ex5lib.GaussianBlur(9)(original), original).item()
    assert found["blurred"]["distance"] == pytest.approx(expected, rel=0.02)


def test_psnr_inside_a_mask_sees_nothing_else():
    a = torch.zeros(1, 3, 16, 16)
    b, mask = a.clone(), torch.zeros(1, 1, 16, 16)
    b[:, :, 4:8, 4:8] = 0.2
    mask[:, :, 4:8, 4:8] = 1
    assert metrics.psnr(b, a, mask) == pytest.approx(20 * math.log10(2 / 0.2), rel=1e-5)
    assert metrics.psnr(b, a, 1 - mask) == math.inf
    for wrong in (torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 8, 8)):
        with pytest.raises(SettingError, match="select a pixel"):
            metrics.psnr(b, a, wrong)


def test_gradient_energy_of_a_ramp_is_its_slope_squared():
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    assert metrics.gradient_energy(ramp) == pytest.approx((2 / 255) ** 2, rel=1e-3)
    assert metrics.gradient_energy(ramp.transpose(2, 3)) == pytest.approx((2 / 255) ** 2, rel=1e-3)
    large = torch.nn.functional.interpolate(ramp, scale_factor=4, mode="nearest")
    assert metrics.gradient_energy(large) == pytest.approx(metrics.gradient_energy(ramp), rel=1e-5)


def test_colour_difference_of_black_and_white_is_100_and_of_equals_0():
    # ΔL' = 100 at a mean L of 50, where the formula's S_L is 1.
    white, black = torch.ones(1, 3, 8, 8), -torch.ones(1, 3, 8, 8)
    assert metrics.color_difference(white, black) == pytest.approx(100, abs=1e-3)
    assert metrics.color_difference(white, white) == 0
    half = torch.cat([white[:, :, :4], black[:, :, :4]], dim=2)
    assert metrics.color_difference(half, black) == pytest.approx(50, abs=1e-3)
    lower = torch.zeros(1, 1, 8, 8)
    lower[:, :, 4:] = 1
    assert metrics.color_difference(half, black, lower) == pytest.approx(0, abs=1e-6)


def test_the_faces_mask_is_the_convex_hull_of_its_landmarks(crops):
    mask = metrics.face_mask(crops["astronaut"], size=512)
    points = landmarks.aligned_landmarks(crops["astronaut"]) * 512
    assert mask.sum().item() == pytest.approx(ConvexHull(points).volume, rel=0.02)  # in the plane, the area
    assert mask.shape == (1, 1, 512, 512)
    middle = points[48:68].mean(axis=0).astype(int)
    assert mask[0, 0, middle[1], middle[0]] == 1
    assert mask[0, 0, 5, 5] == 0


def test_landmarks_in_the_crop_are_those_of_the_photo(astronaut):
    found = landmarks.aligned_landmarks(astronaut.image)
    quad = astronaut.quad
    x, y = found.T[:, :, None]
    in_photo = quad[0] + x * (quad[3] - quad[0]) + y * (quad[1] - quad[0])
    side = np.linalg.norm(quad[3] - quad[0])
    assert np.linalg.norm(in_photo - astronaut.landmarks, axis=1).mean() < 0.01 * side


def test_iris_colours_are_those_painted_into_the_eyes(crops):
    painted = crops["astronaut"].clone()
    eyes = landmarks.aligned_landmarks(painted)[36:48].reshape(2, 6, 2) * 512
    y, x = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    wanted = np.array([[0.2, 0.6, 0.3], [0.3, 0.3, 0.8]])
    for eye, colour in zip(eyes, wanted, strict=True):
        cx, cy = eye.mean(axis=0)
        disk = (x - cx) ** 2 + (y - cy) ** 2 < (0.24 * np.ptp(eye[:, 0])) ** 2
        painted[0, :, disk] = torch.tensor(2 * colour - 1).float()[:, None]
    assert np.abs(metrics.iris_colors(painted) - wanted).max() < 0.02
    brown = metrics.iris_colors(crops["astronaut"])
    assert (brown[:, 0] > brown[:, 2]).all()  # hers are brown: more red than blue

"""The crop against closed forms and generated faces, which are aligned by construction; finding hard faces."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

import ex5lib
from ex5lib.errors import FaceError, SettingError
from ex5lib.faces.alignment import crop_quad
from ex5lib.faces.detection import detect_faces
from ex5lib.faces.landmarks import ffhq_quad
from ex5lib.images.tensors import from_uint8, to_uint8
from ex5lib.restoration import metrics

CORNERS = np.array([(0, 0), (0, 1024), (1024, 1024), (1024, 0)]) - 0.5


def _landmarks(left_eye, right_eye, mouth_left, mouth_right) -> np.ndarray:
    """68 landmarks whose eyes and mouth corners are as given, and the others far away."""
    points = np.full((68, 2), 1e4)
    ring = np.array([(math.cos(a), math.sin(a)) for a in np.arange(6) * math.pi / 3])
    points[36:42], points[42:48] = np.array(left_eye) + 3 * ring, np.array(right_eye) + 2 * ring
    points[48], points[54] = mouth_left, mouth_right
    return points


def test_upright_face_gets_an_upright_square():
    # e = (60, 0) and m = (0, 80): x ∝ e − i m = (60 + 80, 0), as long as max(120, 144); centre = eyes + 0.1 m.
    quad = ffhq_quad(_landmarks((70, 100), (130, 100), (80, 180), (120, 180)))
    np.testing.assert_allclose(quad, [(-44, -36), (-44, 252), (244, 252), (244, -36)], atol=1e-6)


def test_wide_eyes_set_the_size():
    # 2 |e| = 200 exceeds 1.8 |m| = 90.
    quad = ffhq_quad(_landmarks((0, 0), (100, 0), (30, 50), (70, 50)))
    np.testing.assert_allclose(quad, [(-150, -195), (-150, 205), (250, 205), (250, -195)], atol=1e-6)


@pytest.mark.parametrize("degrees", [-70, 15, 90, 180])
def test_quad_follows_rotation_scale_and_shift(degrees):
    landmarks = _landmarks((70, 100), (131, 97), (82, 183), (118, 180))
    a = math.radians(degrees)
    turn = 1.7 * np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    expected = ffhq_quad(landmarks) @ turn.T + (33, -8)
    np.testing.assert_allclose(ffhq_quad(landmarks @ turn.T + (33, -8)), expected, atol=1e-6)


def _corner_error(quad: np.ndarray, expected: np.ndarray) -> float:
    """The farthest corner's distance, as a share of the side."""
    return np.linalg.norm(quad - expected, axis=1).max() / np.linalg.norm(expected[3] - expected[0])


def test_generated_faces_are_where_ffhq_puts_them_also_when_turned_scaled_and_shifted(samples):
    random = np.random.default_rng(0)
    own, moved = [], []
    for image in map(samples.__getitem__, range(7)):
        quad = ffhq_quad(detect_faces(image)[0].landmarks)
        own.append(_corner_error(quad, CORNERS))
        a, scale, centre = math.radians(random.uniform(-20, 20)), random.uniform(0.35, 0.8), random.uniform(700, 900, 2)
        forward = scale * np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        back = np.linalg.inv(forward)
        shift = 512 - back @ centre
        canvas = Image.fromarray(to_uint8(image)).transform(
            (1600, 1600),
            Image.Transform.AFFINE,
            (*back[0], shift[0], *back[1], shift[1]),
            Image.Resampling.BICUBIC,
            fillcolor=(128, 128, 128),
        )
        expected = (quad + 0.5 - 512) @ forward.T + centre - 0.5
        found = ffhq_quad(detect_faces(from_uint8(np.asarray(canvas)))[0].landmarks)
        moved.append(_corner_error(found, expected))
    print(
        f"own corners: median {np.median(own):.4f}, max {max(own):.4f}; moved: {np.median(moved):.4f}, {max(moved):.4f}"
    )
    assert np.median(own) < 0.03
    assert max(moved) < 0.01


def _middle(image: torch.Tensor) -> torch.Tensor:
    """Without the border, which is softened where a crop reaches to the end of a photo."""
    margin = image.shape[-1] // 5
    return image[:, :, margin:-margin, margin:-margin]


def test_cropping_the_whole_image_gives_the_image_back(samples):
    assert metrics.psnr(_middle(crop_quad(samples[0], CORNERS)), _middle(samples[0])) > 40


def test_a_turned_quad_turns_the_crop(samples):
    upper_right_first = np.roll(CORNERS, 1, axis=0)
    turned = crop_quad(samples[0], upper_right_first)
    # What was at the upper right is now at the upper left: a quarter turn counter-clockwise.
    assert metrics.psnr(_middle(turned), _middle(samples[0].rot90(1, (2, 3)))) > 40


def test_a_large_photo_is_shrunk_without_aliasing():
    stripes = torch.ones(1, 3, 4096, 4096)
    stripes[:, :, ::2] = -1
    side = np.array([(0, 0), (0, 4096), (4096, 4096), (4096, 0)]) - 0.5
    assert crop_quad(stripes, side, 256)[:, :, 4:-4, 4:-4].abs().max() < 0.05


def test_beyond_the_border_the_photo_is_reflected_and_softened(samples):
    photo = samples[1]
    crop = crop_quad(photo, CORNERS - np.array([400, 0]), 512)  # 200 of the 512 columns lie outside
    inside = crop[:, :, :, 240:]
    expected = torch.nn.functional.interpolate(photo, 512, mode="area")[:, :, :, 40:312]
    assert metrics.psnr(inside, expected) > 30  # what the photo has is untouched
    margin = crop[:, :, :, :190]
    assert margin.std() > 0.02  # not a flat colour
    gradient = margin.diff(dim=3).abs().mean() / expected.diff(dim=3).abs().mean()
    assert gradient < 0.5


def _on_canvas(face: torch.Tensor, size: int, canvas: tuple[int, int], degrees: float = 0) -> torch.Tensor:
    sheet = Image.new("RGB", canvas, (120, 130, 120))
    small = Image.fromarray(to_uint8(face)).resize((size, size), Image.Resampling.LANCZOS)
    sheet.paste(small, ((canvas[0] - size) // 2, (canvas[1] - size) // 2))
    return from_uint8(np.asarray(sheet.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(120, 130, 120))))


def test_a_small_face_is_found_by_enlarging(samples):
    found = detect_faces(_on_canvas(samples[3], 64, (400, 300)))
    assert len(found) == 1
    quad = ffhq_quad(found[0].landmarks)
    expected = np.array([(168, 118), (168, 182), (232, 182), (232, 118)]) - 0.5
    assert _corner_error(quad, expected) < 0.08


@pytest.mark.parametrize("degrees", [60, -90, 180])
def test_a_tilted_face_is_found_by_turning(samples, degrees):
    photo = _on_canvas(samples[3], 300, (600, 600), degrees)
    face = ex5lib.align_face(photo, size=256)
    assert face.detections[0].tilt != 0
    upright = ex5lib.align_face(_on_canvas(samples[3], 300, (600, 600)), size=256)
    assert metrics.psnr(face.image, upright.image) > 22


def test_a_half_turned_face_is_found_by_the_cnn(samples):
    # Foreshortened as when turning to the side, which dlib's frontal detector does not see at any scale and tilt.
    photo = _on_canvas(samples[9], 400, (600, 600))
    square, turned = [[100, 100], [499, 100], [499, 499], [100, 499]], [[200, 100], [350, 220], [350, 380], [200, 499]]
    found = detect_faces(TF.perspective(photo, square, turned, fill=-0.1))
    assert [face.detector for face in found] == ["cnn"]
    assert 200 < found[0].landmarks[:, 0].mean() < 350
    assert 220 < found[0].landmarks[:, 1].mean() < 400


def test_of_several_faces_the_best_or_the_one_asked_for(samples):
    photo = torch.cat([samples[3], samples[4]], dim=3)[:, :, ::2, ::2]
    found = detect_faces(photo)
    assert len(found) == 2
    assert found[0].score >= found[1].score
    best, second = ex5lib.align_face(photo, size=256), ex5lib.align_face(photo, face=1, size=256)
    assert abs(best.quad[:, 0].mean() - second.quad[:, 0].mean()) > 400
    with pytest.raises(FaceError, match="Face 2 was asked for, but 2 faces were found"):
        ex5lib.align_face(photo, face=2)


def test_the_astronauts_false_second_face_is_not_chosen(astronaut):
    assert len(astronaut.detections) == 2
    assert astronaut.index == 0
    assert 142 < astronaut.landmarks[:, 0].mean() < 316
    assert astronaut.landmarks[:, 1].mean() < 200
    assert not astronaut.already_aligned
    assert ex5lib.align_face(astronaut.image).already_aligned


def test_no_face_and_no_photo_are_said_plainly(tmp_path):
    flat = torch.zeros(1, 3, 200, 200)
    with pytest.raises(FaceError, match=r"No face was found in the photo: try"):
        ex5lib.align_face(flat)
    ex5lib.save_image(flat, tmp_path / "wall.png")
    with pytest.raises(FaceError, match=r"wall\.png"):
        ex5lib.align_face(tmp_path / "wall.png")
    with pytest.raises(SettingError, match="50 × 200"):
        ex5lib.align_face(torch.zeros(1, 3, 200, 50))

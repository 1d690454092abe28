"""FFHQ's square and its crop, against closed forms and generated faces, which are aligned by construction."""

import json
import math

import numpy as np
import pytest
import torch

import ex5lib
from ex5lib.errors import FileError, SettingError, UnsureFaceError
from ex5lib.faces import alignment
from ex5lib.faces.alignment import crop_quad, load_face
from ex5lib.faces.detection import replace
from ex5lib.faces.landmarks import aligned_landmarks, ffhq_quad, read_landmarks
from ex5lib.images.tensors import resize_area
from ex5lib.restoration.metrics import psnr


def _landmarks(left_eye, right_eye, mouth_left, mouth_right) -> np.ndarray:
    """68 landmarks whose eyes and mouth corners are as given, and the others far away."""
    points = np.full((68, 2), 1e4)
    ring = np.array([(math.cos(a), math.sin(a)) for a in np.arange(6) * math.pi / 3])
    points[36:42], points[42:48] = np.array(left_eye) + 3 * ring, np.array(right_eye) + 2 * ring
    points[48], points[54] = mouth_left, mouth_right
    return points


@pytest.mark.parametrize(
    ("points", "left", "top", "side"),
    [
        # e = (60, 0) and m = (0, 80): x ∝ e − i m = (60 + 80, 0), as long as max(120, 144); centre = eyes + 0.1 m.
        (((70, 100), (130, 100), (80, 180), (120, 180)), -44, -36, 288),
        # Wide eyes set the size: 2 |e| = 200 exceeds 1.8 |m| = 90.
        (((0, 0), (100, 0), (30, 50), (70, 50)), -150, -195, 400),
    ],
)
def test_an_upright_face_gets_the_square_of_the_formula(points, left, top, side):
    square = [(left, top), (left, top + side), (left + side, top + side), (left + side, top)]
    np.testing.assert_allclose(ffhq_quad(_landmarks(*points)), square, atol=1e-6)


@pytest.mark.parametrize("degrees", [-70, 15, 90, 180])
def test_the_square_follows_rotation_scale_and_shift(degrees):
    landmarks = _landmarks((70, 100), (131, 97), (82, 183), (118, 180))
    a = math.radians(degrees)
    turn = 1.7 * np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    expected = ffhq_quad(landmarks) @ turn.T + (33, -8)
    np.testing.assert_allclose(ffhq_quad(landmarks @ turn.T + (33, -8)), expected, atol=1e-6)


def _corners(side: int) -> np.ndarray:
    return np.array([(0, 0), (0, side), (side, side), (side, 0)]) - 0.5


@pytest.mark.parametrize("quarters", [0, 1])
def test_the_square_of_the_whole_image_gives_it_back_turned_as_the_square_is(samples, quarters):
    """Without the border, which is softened where a crop reaches to the end of a photo."""
    image = resize_area(samples[0], 256)
    crop = crop_quad(image, np.roll(_corners(256), quarters, axis=0), 256)  # 1: the upper right comes first
    assert psnr(crop[:, :, 50:-50, 50:-50], image.rot90(quarters, (2, 3))[:, :, 50:-50, 50:-50]) > 40


def test_a_large_photo_is_shrunk_without_aliasing():
    stripes = torch.ones(1, 3, 2048, 2048)
    stripes[:, :, ::2] = -1
    assert crop_quad(stripes, _corners(2048), 128)[:, :, 4:-4, 4:-4].abs().max() < 0.05


def test_beyond_the_border_the_photo_is_reflected_and_softened(samples):
    crop = crop_quad(samples[1], _corners(1024) - np.array([400, 0]), 512)  # 200 of the 512 columns lie outside
    expected = resize_area(samples[1], 512)[:, :, :, 40:312]
    assert psnr(crop[:, :, :, 240:], expected) > 30  # what the photo has is untouched
    margin = crop[:, :, :, :190]
    assert margin.std() > 0.02  # not a flat colour
    assert margin.diff(dim=3).abs().mean() < 0.5 * expected.diff(dim=3).abs().mean()


def test_five_points_crop_as_the_sixty_eight_do(astronaut):
    points = astronaut.landmarks
    five = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]]
    for landmarks in (np.array(five), points):
        face = ex5lib.align_face(astronaut.photo, landmarks=landmarks, size=64)
        np.testing.assert_allclose(face.quad, astronaut.quad)
        assert torch.equal(face.image, crop_quad(astronaut.photo, astronaut.quad, 64))
        assert face.detections == ()
        np.testing.assert_array_equal(face.landmarks, landmarks)
        assert ex5lib.figures.plot_alignment(face).axes[0].collections[0].get_offsets().shape == landmarks.shape


def test_landmarks_are_read_from_a_text_a_file_and_json(tmp_path):
    expected = np.array([(1, 2), (3, 4.5), (5, 6), (7, 8), (9, 10)])
    text = "1,2 3,4.5 5,6 7,8 9,10"
    for given in (text, text.replace(",", " ").encode(), json.dumps(expected.tolist()).encode()):
        if isinstance(given, bytes):
            (tmp_path / "a").write_bytes(given)
            given = str(tmp_path / "a")
        np.testing.assert_array_equal(read_landmarks(given), expected)
    with pytest.raises(FileError, match=r"no file clicks\.txt"):
        read_landmarks("clicks.txt")
    with pytest.raises(SettingError, match="pairs of numbers"):
        read_landmarks("1,2 3")
    for content, error, words in (
        (b"left eye at 3 4", SettingError, "pairs of numbers"),
        (b'[{"x": 1}]', SettingError, "pairs of numbers"),
        (b"\xff\xfe\x00", FileError, "text or JSON"),
    ):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(error, match=words):
            read_landmarks(str(tmp_path / "a"))


FIVE = np.array([(70.0, 100), (130, 100), (100, 140), (80, 180), (120, 180)])


@pytest.mark.parametrize(
    ("landmarks", "sentence"),
    [
        (FIVE[:4], r"\[4, 2\], but must be \[5, 2\]"),
        (FIVE + np.array([0, 150]), "80,330 lies outside the photo, which is 300 × 300 px"),
        (FIVE * np.nan, "nan,nan lies outside"),
        (FIVE[[1, 0, 2, 4, 3]], "out of order"),
        (FIVE[[0, 1, 2, 4, 3]], "out of order"),
        (FIVE[[3, 4, 2, 0, 1]], "out of order"),
    ],
)
def test_landmarks_that_make_no_face_are_refused(landmarks, sentence):
    with pytest.raises(SettingError, match=sentence):
        ex5lib.align_face(torch.zeros(1, 3, 300, 300), landmarks=landmarks)


def test_an_unsure_face_just_where_an_aligned_crop_has_it_is_taken(monkeypatch, astronaut):
    unsure = replace(astronaut.detections[0], sure=False)
    there = replace(unsure, landmarks=aligned_landmarks(astronaut.image) * 1024)
    monkeypatch.setattr(alignment, "detect_faces", lambda photo, **_: [there if photo.shape[-1] == 1024 else unsure])
    assert load_face(astronaut.image).landmarks is None
    with pytest.raises(UnsureFaceError):
        load_face(astronaut.photo)

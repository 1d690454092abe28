"""Faces are found where they are, damaged ones, too, or refused; what the user says about them is taken at its word."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

import ex5lib
from benchmarks.detection import KINDS, errors, make_case, verdict
from ex5lib.errors import FaceError, SettingError, UnsureFaceError
from ex5lib.faces.alignment import AlignedFace, crop_quad
from ex5lib.faces.detection import detect_faces
from ex5lib.faces.landmarks import ffhq_quad
from ex5lib.images.tensors import from_uint8, resize_area, to_uint8
from ex5lib.restoration.metrics import psnr


def _corner_error(quad: np.ndarray, expected: np.ndarray) -> float:
    """The farthest corner's distance, as a share of the side."""
    return np.linalg.norm(quad - expected, axis=1).max() / np.linalg.norm(expected[3] - expected[0])


def _is_there(face: AlignedFace, expected: np.ndarray) -> bool:
    centre, size, angle = errors(face.quad, expected)
    return centre < 0.05 and size < 1.1 and angle < 4


def _on_canvas(face: torch.Tensor, size: int, canvas: tuple[int, int], degrees: float = 0) -> torch.Tensor:
    sheet = Image.new("RGB", canvas, (120, 130, 120))
    small = Image.fromarray(to_uint8(face)).resize((size, size), Image.Resampling.LANCZOS)
    sheet.paste(small, ((canvas[0] - size) // 2, (canvas[1] - size) // 2))
    return from_uint8(np.asarray(sheet.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(120, 130, 120))))


def test_generated_faces_are_where_ffhq_puts_them_also_when_turned_scaled_and_shifted(samples):
    random = np.random.default_rng(0)
    own, moved = [], []
    for image in (samples[seed] for seed in (0, 1, 3, 4)):
        quad = ffhq_quad(detect_faces(image)[0].landmarks)
        own.append(_corner_error(quad, np.array([(0, 0), (0, 1024), (1024, 1024), (1024, 0)]) - 0.5))
        a, scale, centre = math.radians(random.uniform(-20, 20)), random.uniform(0.35, 0.8), random.uniform(450, 650, 2)
        forward = scale * np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        back = np.linalg.inv(forward)
        shift = 512 - back @ centre
        affine = (*back[0], shift[0], *back[1], shift[1])
        canvas = Image.fromarray(to_uint8(image)).transform(
            (1100, 1100), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)
        )
        found = ffhq_quad(detect_faces(from_uint8(np.asarray(canvas)))[0].landmarks)
        moved.append(_corner_error(found, (quad + 0.5 - 512) @ forward.T + centre - 0.5))
    assert np.median(own) < 0.03
    assert max(moved) < 0.01


def test_a_small_face_is_found_by_enlarging(samples):
    (found,) = detect_faces(_on_canvas(samples[3], 64, (400, 300)))
    expected = np.array([(168, 118), (168, 182), (232, 182), (232, 118)]) - 0.5
    assert _corner_error(ffhq_quad(found.landmarks), expected) < 0.08


@pytest.mark.parametrize("degrees", [60, -90, 180])
def test_a_tilted_face_is_found_by_turning(samples, degrees):
    face = ex5lib.align_face(_on_canvas(samples[3], 300, (600, 600), degrees), size=256)
    assert face.detections[0].tilt != 0
    upright = ex5lib.align_face(_on_canvas(samples[3], 300, (600, 600)), size=256)
    assert psnr(face.image, upright.image) > 22


def test_a_half_turned_face_is_found_by_the_cnn(samples):
    # Foreshortened as when turning to the side, which dlib's frontal detector does not see at any scale and tilt.
    photo = _on_canvas(samples[9], 200, (300, 300))
    square, turned = [[50, 50], [249, 50], [249, 249], [50, 249]], [[100, 50], [175, 110], [175, 190], [100, 249]]
    (found,) = detect_faces(TF.perspective(photo, square, turned, fill=-0.1))
    assert found.detector == "cnn"
    x, y = found.landmarks.mean(axis=0)
    assert 100 < x < 175
    assert 110 < y < 200


def test_of_several_faces_the_best_is_taken_or_the_one_asked_for_and_that_is_said(samples, astronaut):
    photo = torch.cat([resize_area(samples[seed], 256) for seed in (3, 4)], dim=3)
    first, second = ex5lib.align_face(photo, size=64), ex5lib.align_face(photo, face=1, size=64)
    assert [first.index, second.index, len(first.detections)] == [0, 1, 2]
    assert first.detections[0].score >= first.detections[1].score
    assert abs(first.quad[:, 0].mean() - second.quad[:, 0].mean()) > 200
    assert first.choice.startswith("Of 2 faces, face 0 was taken, at (")
    assert first.choice.endswith("--face 1 takes another.")
    assert replace(first, index=1).choice.endswith("--face 0 takes another.")
    assert astronaut.choice == ""
    with pytest.raises(FaceError, match="Face 2 was asked for, but 2 faces were found"):
        ex5lib.align_face(photo, face=2)


def test_no_face_and_no_photo_are_said_plainly(tmp_path):
    ex5lib.save_image(torch.zeros(1, 3, 64, 64), tmp_path / "wall.png")
    with pytest.raises(FaceError, match=r"No face was found in .*wall\.png: try"):
        ex5lib.align_face(tmp_path / "wall.png")
    with pytest.raises(SettingError, match="50 × 200"):
        ex5lib.align_face(torch.zeros(1, 3, 200, 50))


def test_when_unsure_it_says_so_and_how_to_go_on(astronaut):
    suit = astronaut.photo[:, :, 300:500, 40:300]  # a patch on it looks a little like a face
    with pytest.raises(UnsureFaceError, match=r"not sure .* score, 0\.\d\d \(hog\)") as raised:
        ex5lib.align_face(suit)
    for way in ("--face 0", "--aligned", "--landmarks"):
        assert way in str(raised.value)
    taken = ex5lib.align_face(suit, face=0)  # the user has looked
    np.testing.assert_array_equal(taken.quad, raised.value.guess.quad)


def test_a_scratched_face_is_found_and_not_the_patch_on_the_suit(astronaut):
    photo = astronaut.photo.clone()
    photo[:, :, 40:201, 222:231] = -1
    assert _is_there(ex5lib.align_face(photo), astronaut.quad)
    assert 142 < astronaut.landmarks[:, 0].mean() < 316
    assert astronaut.landmarks[:, 1].mean() < 200


def test_a_mask_tells_what_to_ignore_and_the_crop_keeps_it(astronaut):
    head = np.s_[:, :, :300, 90:390]
    photo, mask = astronaut.photo.clone(), torch.zeros(1, 1, 512, 512)
    for x in range(170, 290, 24):  # scratches over all of the face
        mask[:, :, 40:220, x : x + 9] = 1
    photo[mask.expand(-1, 3, -1, -1) > 0] = -1
    photo, mask = photo[head], mask[head]
    with pytest.raises(FaceError):
        ex5lib.align_face(photo)
    face = ex5lib.align_face(photo, mask=mask)
    assert _is_there(face, astronaut.quad - np.array([90, 0]))
    assert torch.equal(face.image, crop_quad(photo, face.quad))  # the scratches are as black as in the photo
    for wrong, sentence in ((torch.zeros(1, 1, 64, 64), "300 × 300 px"), (torch.ones(1, 1, 300, 300), "all over")):
        with pytest.raises(SettingError, match=sentence):
            ex5lib.align_face(photo, mask=wrong)


def test_a_damaged_face_among_sound_ones_is_found_when_every_face_is_asked_for(root, astronaut):
    sound = ex5lib.load_image(root / "data" / "president.jpg")[:, :, :450]
    scratched = astronaut.photo[:, :, :450].clone()
    scratched[:, :, 40:201, 222:231] = -1
    group = torch.cat([sound, scratched], dim=3)
    assert sum(detection.sure for detection in detect_faces(group)) == 1
    every = detect_faces(group, every=True)
    assert [detection.detector for detection in every if detection.sure] == ["hog", "cnn"]  # each of them once
    face = ex5lib.align_face(group, face=len(every) - 1, size=64)
    assert _is_there(face, astronaut.quad + np.array([sound.shape[3], 0]))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_faces_are_found_or_refused_but_nothing_else_is_taken(kind):
    assert verdict(make_case(kind, 3))[0] == "right"

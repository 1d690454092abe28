"""Faces: FFHQ's square and crop, finding faces, damaged ones, too, or refusing them, and masks painted on them."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

import ex5lib
from benchmarks.detection import KINDS, make_case, verdict
from ex5lib.errors import FaceError, FileError, SettingError, UnsureFaceError
from ex5lib.faces import alignment
from ex5lib.faces.alignment import AlignedFace, crop_quad, load_face
from ex5lib.faces.detection import Detection, detect_faces
from ex5lib.faces.landmarks import aligned_landmarks, ffhq_quad, read_landmarks
from ex5lib.faces.masks import fitted_mask
from ex5lib.images.tensors import from_uint8, resize_area, to_uint8
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
    stripes = (torch.arange(2048) % 5 > 2).float().expand(1, 3, 2048, 2048)  # just finer than a crop's own sampling
    assert crop_quad(stripes, _corners(2048), 100)[:, :, 4:-4, 4:-4].std() < 0.02


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


def test_a_face_in_a_crop_of_another_size_is_the_face_cut_out_at_that_size(root, astronaut):
    photo = root / "data" / "astronaut.png"
    given = {"size": 256, "landmarks": astronaut.landmarks}
    for settings in ({"size": 256}, given, {"size": 256, "aligned": True}):
        source = astronaut.image if "aligned" in settings else photo
        at_once = load_face(source, **settings)
        afterwards = load_face(source, **settings | {"size": 512}).sized(256)
        assert torch.equal(afterwards.image, at_once.image)
        assert np.array_equal(afterwards.quad, at_once.quad)
        assert at_once.sized(256) is at_once


POINTS = [[1, 2], [3, 4.5], [5, 6], [7, 8], [9, 10]]
NAMED = dict(zip(("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"), POINTS, strict=True))
CELEBA = "2\nlefteye_x lefteye_y …\nb.jpg 9 9 9 9 9 9 9 9 9 9\na.jpg   1 2 3 4.5 5 6 7 8 9 10\n"


@pytest.mark.parametrize(
    "content",
    [
        "1,2 3,4.5 5,6 7,8 9,10",
        "1 2 3 4.5 5 6 7 8 9 10\n",
        json.dumps(POINTS),
        json.dumps({"landmarks": [{"x": x, "y": y} for x, y in POINTS]}),
        json.dumps([{"box": [0, 0, 9, 9], "keypoints": NAMED}]),  # MTCNN
        json.dumps(dict(zip(NAMED, [POINTS[i] for i in (1, 0, 2, 4, 3)], strict=True))),  # seen by the person
        json.dumps({"keypoints": [value for point in POINTS for value in point]}),
        json.dumps({"kps": [[*point, 1] for point in POINTS]}),  # with a visibility
        "version: 1\nn_points: 5\n{\n" + "\n".join(f"{x} {y}" for x, y in POINTS) + "\n}\n",
        CELEBA,
    ],
)  # fmt: skip
def test_landmarks_are_read_in_every_common_form(tmp_path, content):
    (tmp_path / "points").write_text(content, encoding="utf-8")
    np.testing.assert_array_equal(read_landmarks(str(tmp_path / "points"), "a.jpg"), POINTS)
    if content[0] == "1":
        np.testing.assert_array_equal(read_landmarks(content), POINTS)


def test_what_holds_no_landmarks_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"no file clicks\.txt"):
        read_landmarks("clicks.txt")
    no_landmarks = (b"left eye at 3 4", b'[{"x": 1}]', b"1,2 3", b'{"a": 1}', b"{}", b"\xff\xfe\x00", CELEBA.encode())
    for content in no_landmarks:  # the last one has those of other photos
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(FileError if content[0] == 255 else SettingError, match=r"text or JSON|pairs of numbers"):
            read_landmarks(str(tmp_path / "a"), "c.jpg")


def test_landmarks_may_be_shares_of_the_photo(astronaut):
    photo = astronaut.photo[:, :, :400]
    shares = (astronaut.landmarks + 0.5) / (512, 400)
    np.testing.assert_allclose(ex5lib.align_face(photo, landmarks=shares, size=64).quad, astronaut.quad)


def test_a_photo_in_other_units_is_understood_or_refused(astronaut):
    photo, given = astronaut.photo, {"landmarks": astronaut.landmarks, "size": 64}
    pixels = to_uint8(photo)
    whole = ex5lib.align_face(photo, **given).image
    for same in (pixels, torch.from_numpy(pixels).permute(2, 0, 1)[None], Image.fromarray(pixels), photo.double()):
        assert torch.equal(ex5lib.align_face(same, **given).image, whole)
    light = from_uint8(pixels // 2 + 128)  # nothing is darker than middle grey
    assert ex5lib.align_face(light, **given).image.mean() > 0.2
    for wrong, sentence in (
        ((photo + 1) / 2, r"values from 0 to 1: scale it to \[−1, 1\], here by 2x − 1"),
        ((photo + 1) * 127.5, "values from 0 to 255: scale"),
        (photo * np.nan, "NaN"),
        (photo[0], r"not \[3, 512, 512\]"),
        (pixels / 255, r"uint8 \[H, W, 3\], not float64 \[512, 512, 3\]"),
        (pixels[:, :, 0], r"not uint8 \[512, 512\]"),
        (torch.zeros(1, 3, 512, 512, dtype=torch.int64), "int64"),
    ):
        with pytest.raises(SettingError, match=sentence):
            ex5lib.align_face(wrong, **given)


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


def _corner_error(quad: np.ndarray, expected: np.ndarray) -> float:
    """The farthest corner's distance, as a share of the side."""
    return np.linalg.norm(quad - expected, axis=1).max() / np.linalg.norm(expected[3] - expected[0])


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
    for face in (first, second):  # painted on a face, that one is meant
        mask = torch.zeros(1, 1, 256, 512)
        x, y = face.quad.mean(axis=0).astype(int)
        mask[:, :, y : y + 9, x - 20 : x + 20] = 1
        assert ex5lib.align_face(photo, mask=mask, size=64).index == face.index
    assert replace(first, index=1).choice.endswith("--face 0 takes another.")
    assert astronaut.choice == ""
    with pytest.raises(FaceError, match="Face 2 was asked for, but 2 faces were found"):
        ex5lib.align_face(photo, face=2)


def test_no_face_and_no_photo_are_said_plainly(tmp_path):
    ex5lib.save_image(torch.zeros(1, 3, 64, 64), tmp_path / "wall.png")
    with pytest.raises(FaceError, match=r"No face was found in .*wall\.png: try"):
        ex5lib.align_face(tmp_path / "wall.png")
    with pytest.raises(SettingError, match="20 × 200"):
        ex5lib.align_face(torch.zeros(1, 3, 200, 20))


def test_when_unsure_it_says_so_and_how_to_go_on(astronaut):
    suit = astronaut.photo[:, :, 300:500, 40:300]  # a patch on it looks a little like a face
    with pytest.raises(UnsureFaceError, match=r"may not show .* score is 0\.\d\d \(hog\)") as raised:
        ex5lib.align_face(suit)
    for way in ("--face 0", "--aligned", "--landmarks"):
        assert way in str(raised.value)
    taken = ex5lib.align_face(suit, face=0)  # the user has looked
    np.testing.assert_array_equal(taken.quad, raised.value.guess.quad)


def test_a_scratched_face_is_found_and_not_the_patch_on_the_suit(astronaut):
    photo = astronaut.photo.clone()
    photo[:, :, 40:201, 222:231] = -1
    assert _corner_error(ex5lib.align_face(photo).quad, astronaut.quad) < 0.08
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
    assert _corner_error(face.quad, astronaut.quad - np.array([90, 0])) < 0.08
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
    assert _corner_error(face.quad, astronaut.quad + np.array([sound.shape[3], 0])) < 0.08


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_faces_are_found_or_refused_but_nothing_else_is_taken(kind):
    assert verdict(make_case(kind, 3))[0] == "right"


def _cropped(height: int, width: int) -> AlignedFace:
    """A face of 100 px whose upper left corner is at (200, 100) in a photo of that size."""
    quad = np.array([(200, 100), (200, 200), (300, 200), (300, 100)]) - 0.5
    found = Detection(quad, 1.0, np.zeros((68, 2)), 0, "hog", 0.0, True)
    photo = torch.zeros(1, 3, height, width)
    return AlignedFace(torch.zeros(1, 3, 100, 100), np.zeros((68, 2)), quad, photo, (found,), 0)


@pytest.mark.parametrize("size", [100, 200, 400, 1024])
def test_a_square_mask_of_any_size_lies_on_the_square_photo(size):
    mask, cropped = torch.zeros(1, 1, size, size), _cropped(400, 400)
    mask[:, :, size // 8 : 3 * size // 8, 3 * size // 8 : 7 * size // 8] = 1  # rows 50 to 150, columns 150 to 350
    for on in (None, "photo"):
        fitted = fitted_mask(mask, cropped, on)
        assert fitted.shape == (1, 1, 100, 100)
        assert fitted[:, :, :46].min() > 0.9
        assert fitted[:, :, 54:].max() < 0.1
    assert torch.equal(fitted_mask(mask, cropped, "crop"), mask)


def test_masks_that_fit_neither_photo_nor_crop_are_refused():
    square, flat, tall = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 150, 200), torch.zeros(1, 1, 200, 150)
    wide, crop = _cropped(300, 400), load_face(torch.zeros(1, 3, 99, 99), aligned=True, size=100)
    assert fitted_mask(flat, wide).shape == (1, 1, 100, 100)
    assert fitted_mask(square, wide) is square
    for mask, face, on, sentence in (
        (tall, wide, None, "150 × 200 px: a mask must be square, or drawn on the whole photo"),
        (square, wide, "photo", "must be 400 × 300 px, like the photo"),
        (flat, wide, "crop", "must be square, like the aligned face"),
        (tall, crop, None, "100 × 100 px"),
    ):
        with pytest.raises(SettingError, match=sentence):
            fitted_mask(mask, face, on)


@pytest.mark.parametrize("size", [100, 400])
def test_strokes_in_black_on_white_are_asked_about(size):
    """A mask that keeps almost nothing of the face; one that keeps all of it but not what is around it is taken."""
    strokes, around = torch.ones(1, 1, size, size), torch.ones(1, 1, size, size)
    strokes[:, :, size * 3 // 8 : size * 2 // 5, size * 5 // 8 : size * 2 // 3] = 0  # in the face
    around[:, :, size // 4 : size // 2, size // 2 : 3 * size // 4] = 0  # the crop
    with pytest.raises(SettingError, match=r"white on \d+ % of the face, .* invert it"):
        fitted_mask(strokes, _cropped(400, 400))
    assert fitted_mask(around, _cropped(400, 400)).mean() < 0.1
    assert fitted_mask(1 - strokes, _cropped(400, 400)).max() > 0.9

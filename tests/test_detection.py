"""Damaged faces are found where they are, or refused; what the user says about them is taken at its word."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import ex5lib
from benchmarks.detection import KINDS, errors, make_case, verdict
from ex5lib.cli.app import app
from ex5lib.errors import FaceError, FileError, SettingError, UnsureFaceError
from ex5lib.faces import detection
from ex5lib.faces.alignment import crop_quad, load_face
from ex5lib.faces.detection import detect_faces
from ex5lib.faces.landmarks import read_landmarks
from ex5lib.images.tensors import from_uint8


@pytest.fixture(scope="session")
def covered(root):
    """Paint a rectangle over a sample photo: its image, and the mask of what was painted."""

    def paint(name: str, *corners: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo = Image.open(root / "data" / name).convert("RGB")
        ImageDraw.Draw(photo).rectangle(corners, fill="black")
        mask = torch.zeros(1, 1, photo.height, photo.width)
        mask[:, :, corners[1] : corners[3] + 1, corners[0] : corners[2] + 1] = 1
        return from_uint8(np.asarray(photo)), mask

    return paint


@pytest.fixture(scope="session")
def faceless(root) -> torch.Tensor:
    """The patch on the astronaut's suit, which looks a little like a face."""
    return ex5lib.load_image(root / "data" / "astronaut.png")[:, :, 300:500, 40:300]


def test_a_scratched_face_is_found_and_not_the_patch_on_the_suit(astronaut, covered):
    centre, size, angle = errors(ex5lib.align_face(covered("astronaut.png", 222, 40, 230, 200)[0]).quad, astronaut.quad)
    assert centre < 0.05
    assert size < 1.1
    assert angle < 4


def test_an_officer_without_chin_and_mouth_is_found(root, covered):
    whole = ex5lib.align_face(root / "data" / "officer.jpg")
    photo, _ = covered("officer.jpg", 150, 272, 396, 365)
    centre, size, _ = errors(ex5lib.align_face(photo).quad, whole.quad)
    assert centre < 0.12
    assert size < 1.2


def test_when_unsure_it_says_so_and_how_to_go_on(faceless):
    with pytest.raises(UnsureFaceError, match=r"may not show a face .* score is 0\.\d\d \(hog\)") as raised:
        ex5lib.align_face(faceless)
    for way in ("--face 0", "--aligned", "--landmarks"):
        assert way in str(raised.value)
    taken = ex5lib.align_face(faceless, face=0)  # the user has looked
    np.testing.assert_array_equal(taken.quad, raised.value.guess.quad)


def test_an_unsure_face_just_where_an_aligned_crop_has_it_is_taken(monkeypatch, astronaut):
    found = detect_faces(astronaut.image)
    unsure = [detection.replace(face, sure=False) for face in found]
    monkeypatch.setattr(ex5lib.faces.alignment, "detect_faces", lambda *_, **__: unsure)
    assert load_face(astronaut.image).landmarks is None
    with pytest.raises(UnsureFaceError):
        load_face(astronaut.photo)


def test_five_points_crop_as_the_sixty_eight_do(astronaut):
    points = astronaut.landmarks
    five = [points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]]
    for landmarks in (np.array(five), points):
        face = ex5lib.align_face(astronaut.photo, landmarks=landmarks)
        np.testing.assert_allclose(face.quad, astronaut.quad)
        assert torch.equal(face.image, astronaut.image)
        assert face.detections == ()
        np.testing.assert_array_equal(face.landmarks, landmarks)
        assert ex5lib.figures.plot_alignment(face).axes[0].collections[0].get_offsets().shape == landmarks.shape


def test_landmarks_are_read_from_a_text_a_file_and_json(tmp_path):
    expected = np.array([(1, 2), (3, 4.5), (5, 6), (7, 8), (9, 10)])
    (tmp_path / "a.txt").write_text("1 2\n3 4.5\n5 6\n7 8\n9 10\n")
    (tmp_path / "a.json").write_text(json.dumps(expected.tolist()))
    for given in ("1,2 3,4.5 5,6 7,8 9,10", str(tmp_path / "a.txt"), str(tmp_path / "a.json")):
        np.testing.assert_array_equal(read_landmarks(given), expected)
    with pytest.raises(FileError, match=r"no file clicks\.txt"):
        read_landmarks("clicks.txt")
    (tmp_path / "b.txt").write_text("left eye at 3 4")
    (tmp_path / "c.json").write_text('[{"x": 1}]')
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe\x00")
    for given in ("1,2 3", str(tmp_path / "b.txt"), str(tmp_path / "c.json")):
        with pytest.raises(SettingError, match="pairs of numbers"):
            read_landmarks(given)
    with pytest.raises(FileError, match="text or JSON"):
        read_landmarks(str(tmp_path / "d.txt"))


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


def test_a_mask_of_another_size_or_of_everything_is_refused(astronaut):
    for mask, sentence in ((torch.zeros(1, 1, 64, 64), "512 × 512 px"), (torch.ones(1, 1, 512, 512), "all over")):
        with pytest.raises(SettingError, match=sentence):
            ex5lib.align_face(astronaut.photo, mask=mask)


def test_a_mask_tells_what_to_ignore_and_the_crop_keeps_it(astronaut):
    photo, mask = astronaut.photo.clone(), torch.zeros(1, 1, 512, 512)
    for x in range(170, 290, 24):  # scratches over all of the face
        mask[:, :, 40:220, x : x + 9] = 1
    photo[mask.expand(-1, 3, -1, -1) > 0] = -1
    with pytest.raises(FaceError):
        ex5lib.align_face(photo)
    face = ex5lib.align_face(photo, mask=mask)
    centre, size, angle = errors(face.quad, astronaut.quad)
    assert centre < 0.05
    assert size < 1.1
    assert angle < 4
    assert torch.equal(face.image, crop_quad(photo, face.quad))  # the scratches are as black as in the photo


def test_which_of_several_faces_was_taken_is_said_and_of_one_nothing(samples, astronaut):
    assert astronaut.choice == ""
    both = torch.cat([samples[3], samples[4]], dim=3)[:, :, ::2, ::2]
    first = ex5lib.align_face(both, size=64)
    second = replace(first, index=1)
    assert first.choice.startswith("Of 2 faces, face 0 was taken, at (")
    assert first.choice.endswith("--face 1 takes another.")
    assert second.choice.endswith("--face 0 takes another.")


def test_a_damaged_face_among_sound_ones_is_found_when_every_face_is_asked_for(root, astronaut, covered):
    sound = ex5lib.load_image(root / "data" / "president.jpg")[:, :, :450]
    group = torch.cat([sound, covered("astronaut.png", 222, 40, 230, 200)[0][:, :, :450]], dim=3)
    assert sum(detection.sure for detection in detect_faces(group)) == 1
    every = detect_faces(group, every=True)
    assert [detection.detector for detection in every if detection.sure] == ["hog", "cnn"]  # each of them once
    face = ex5lib.align_face(group, face=len(every) - 1, size=64)
    centre, size, angle = errors(face.quad - [sound.shape[3], 0], astronaut.quad)
    assert (centre < 0.05, size < 1.1, angle < 4) == (True, True, True)


def test_the_commands_say_which_face_was_taken_and_take_landmarks(samples, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    ex5lib.save_image(torch.cat([samples[3], samples[4]], dim=3)[:, :, ::4, ::4], "both.png")
    small = root / "tests" / "data" / "uncond_32.pkl"
    options = ["--recipe", "smoke", "--generator", str(small), "--device", "cpu"]
    for arguments in (["align", "both.png"], ["restore", "both.png", "--degradation", "grayscale", *options]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert "Of 2 faces, face 0 was taken" in result.stdout
    result = CliRunner().invoke(
        app, ["invert", "both.png", *options, "--landmarks", "98,123 157,123 127,150 103,181 152,181"]
    )
    assert result.exit_code == 0
    assert "faces" not in result.stdout
    settings = json.loads((tmp_path / "results" / "both-inversion" / "metrics.json").read_text())["request"]
    assert settings["landmarks"][4] == [152, 181]
    assert (tmp_path / "results" / "both-inversion" / "alignment.png").is_file()
    for more, sentence in ((["--aligned"], "leave out --aligned"), ([], "name that photo")):
        photo = "both.png" if more else "."
        result = CliRunner().invoke(app, ["invert", photo, *more, "--landmarks", "1,2 3,4 5,6 7,8 9,10"])
        assert result.exit_code == 1
        assert sentence in result.stderr


def test_a_mask_beside_the_face_is_not_called_black(root, tmp_path):
    mask = np.zeros((512, 512), np.uint8)
    mask[400:450, 400:450] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = [
        "restore",
        root / "data" / "astronaut.png",
        "--degradation",
        "inpaint",
        "--mask",
        tmp_path / "mask.png",
    ]
    arguments += ["--recipe", "smoke", "--generator", root / "tests" / "data" / "uncond_32.pkl", "--device", "cpu"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert "lies outside the crop around (" in result.stderr
    assert "black" not in result.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_faces_are_found_or_refused_but_nothing_else_is_taken(kind):
    assert verdict(make_case(kind, 3))[0] == "right"

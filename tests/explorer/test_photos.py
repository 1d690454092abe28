"""Photos, faces, masks and damage that come into an exploration."""

import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from explorations import PAINTED, PATIENCE, pixels, png, search, state, upload, wait_for
from PIL import Image, ImageOps
from PIL.ImageFilter import GaussianBlur as GaussianBlurFilter

from ex5lib.degradations.known import Grayscale
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters
from ex5lib.explorer.choices import DEGRADATIONS, Choice
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.subjects import find_subjects, mask_in, subjects_in
from ex5lib.images.masks import packed, unpacked
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.restoration.diagnosis import Damage, diagnosed


def test_a_mask_that_is_painted_is_what_is_removed(make, face):
    one = make(degradation="inpaint")
    painted = torch.zeros(256, 256)
    painted[50:90, 30:200] = 1
    one.handle({"do": "paint", "stroke": 3}, packed(painted))
    assert state(one)["stroke"] == 3  # so that a page learns which of its strokes has come
    assert unpacked(one.board.values["mask"], 256, 256).sum() == 40 * 170
    target = pixels(one.board.values["target"])
    assert target[104:176, 64:396].max() < 40  # at 512 px
    assert np.abs(target[200:] - to_uint8(resize(face, 512)).astype(int)[200:]).mean() < 6
    assert torch.equal(one.choice.modules()[1].mask[0, 0], painted)
    mask = (torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    assert torch.equal(unpacked(packed(mask), 256, 256), mask)


def test_a_masks_file_is_read_as_the_command_reads_it(make, face, tmp_path):
    """Painted on the photo or on the face, in black and white or as strokes on an empty layer."""
    one = make(degradation="inpaint", num_steps=3)
    strokes = Image.new("RGBA", (64, 64))
    strokes.paste((200, 30, 30, 255), (16, 8, 32, 24))
    upload(one, "mask.png", png(strokes), "mask")
    wait_for(lambda: any(one.board.values["mask"]))
    expected = torch.zeros(256, 256)
    expected[32:96, 64:128] = 1
    assert torch.equal(one.choice.modules()[1].mask[0, 0], expected)
    assert unpacked(one.board.values["mask"], 256, 256).sum() == 64 * 64
    before = one.choice
    for picture, words in (
        (Image.effect_noise((64, 64), 90), "mask.png is not a mask, because it is not black and white"),
        (Image.new("L", (64, 30), 255), "64 × 30 px: a mask must be"),
    ):
        upload(one, "mask.png", png(picture), "mask")
        wait_for(lambda words=words: words in one.status)
        assert one.choice == before


def test_a_mask_that_the_page_has_saved_belongs_to_the_face_even_of_a_square_photo(astronaut):
    assert astronaut.photo.shape[2] == astronaut.photo.shape[3] != 256
    square = Image.new("L", (256, 256))
    square.paste(255, (100, 60, 150, 90))
    mask = mask_in("mask.png", png(square), astronaut)
    assert np.array_equal(mask[0, 0].numpy() * 255, np.asarray(square))
    on_photo = mask_in("mask.png", png(square.resize((512, 512))), astronaut)
    assert on_photo.shape[2] == astronaut.image.shape[2]  # cropped like the photo


@pytest.mark.parametrize(("degradation", "kind"), [("unknown blur", UnknownBlur), ("faded colours", UnknownColors)])
def test_what_is_unknown_is_what_the_photo_suffers_from(degradation, kind):
    degraded_by, D = Choice(degradation=degradation).modules()
    assert isinstance(D, kind)
    assert not unknown_parameters(degraded_by)
    damaged = Choice(degradation=degradation, damaged=True, kernel_size=24, fading=7.0)  # which nothing reads
    assert damaged.searched() == Choice(degradation=degradation, damaged=True)
    assert damaged.modules()[0] is None


def test_faded_colours_have_a_tint_and_less_contrast_and_noise_is_never_the_same_in_photo_and_image():
    ends = torch.tensor([-1.0, 1.0]).expand(1, 3, 1, 2)
    assert torch.allclose(Choice(degradation="faded colours", fading=0.0).modules()[0](ends), ends)
    red, green, blue = Choice(degradation="faded colours", fading=1.0).modules()[0](ends)[0, :, 0].tolist()
    assert red[0] + 2 > red[1] > green[1] > blue[1]
    of_photo, of_image = Choice(degradation="noise").modules()
    assert of_photo.seed != of_image.seed


@pytest.mark.parametrize("degradation", [d for d in DEGRADATIONS if d not in ("none", "blur")])
def test_every_damage_can_be_accepted(degradation):
    """What is proposed for a D is a choice that searches with such a D."""
    values = {"factor": 5, "quality": 17, "hole": (100, 60, 60, 70), "noise_sigma": 0.12, "noise_size": 173}
    D = Choice(degradation=degradation, damaged=True, **values).modules()[1]
    same = Choice().accepting([Damage(D, "seen")], 0)
    assert same.damaged
    if degradation == "inpaint":
        assert torch.equal(same.modules()[1].mask, D.mask)
    else:
        assert str(same.modules()[1]) == str(D)


def test_an_uploaded_photo_is_put_together_aligned_and_searched_with_what_is_changed_meanwhile(make, root, monkeypatch):
    looking, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        looking.set()
        return subjects_in(*arguments) if go_on.wait(PATIENCE) else None

    monkeypatch.setattr("ex5lib.explorer.exploring.subjects_in", slow)
    one = make(num_steps=3)
    search(one)
    content = (root / "data" / "officer.jpg").read_bytes()
    middle = len(content) // 2
    one.handle({"do": "upload", "name": "../officer.jpg", "size": len(content), "at": 0}, content[:middle])
    assert one.status == f"Receiving officer.jpg: {100 * middle // len(content)} % …"
    one.handle({"do": "upload", "name": "../officer.jpg", "size": len(content), "at": middle}, content[middle:])
    assert looking.wait(PATIENCE)
    assert {"photo", "target"} <= set(state(one)["stale"])
    one.handle({"do": "change", "degradation": "blur", "kernel_size": 24})
    assert state(one)["field"] == "kernel_size"
    one.handle({"do": "change", "degradation": "blur", "kernel_size": 9})
    assert (one.status, state(one)["phase"]) == ("Looking for a face in officer.jpg …", "aligning")
    one.handle({"do": "another"})
    go_on.set()
    assert one.wait(PATIENCE)
    assert (state(one)["name"], state(one)["stale"]) == ("officer.jpg", [])
    assert one.result.face.landmarks is not None
    assert one.result.degradation.kernel_size == 9  # it has gone on by itself
    assert one.choice.answer == 0  # of that face
    assert [column["name"] for column in one.board.values["numbers"]] == ["result"]  # another photo's says nothing
    one.begin(replace(one._first, seed=3))  # as when its cell is run again with another seed
    assert (state(one)["name"], one.choice.photo) == ("square.png", one._first.photo)
    for number, name in ((2, "officer.jpg"), (1, "square.png")):
        one.handle({"do": "restore", "number": number})
        assert state(one)["name"] == name


def test_what_is_no_photo_of_a_face_is_said_and_the_present_photo_stays(make):
    one = make()
    photo, noise = one.board.values["photo"], png(Image.effect_noise((64, 64), 90))
    for content, words in ((b"no image at all", "me.jpg is not an image"), (noise, "No face was found in me.jpg")):
        upload(one, "me.jpg", content)
        assert one.wait(PATIENCE)
        assert one.status.startswith(words)
        assert (one.board.values["photo"], state(one)["phase"]) == (photo, "idle")


def test_of_several_faces_another_can_be_picked(make, root):
    group = Image.new("RGB", (600, 400))
    for left, name in ((0, "officer.jpg"), (300, "president.jpg")):
        group.paste(ImageOps.contain(Image.open(root / "data" / name), (300, 400)), (left, 0))
    one = make()
    upload(one, "group.png", png(group))
    assert one.wait(PATIENCE)
    assert len(one.board.values["faces"]) == 2
    first = one.board.values["photo"]
    one.handle({"do": "pick", "face": 1})
    assert one.board.values["photo"] != first
    assert (state(one)["name"], state(one)["face"]) == ("group.png", 1)
    one.begin(replace(one._first, seed=3))  # back to the first photo, whose faces these are not
    assert (one.board.values["faces"], state(one)["face"]) == ([], 0)
    one.handle({"do": "pick", "face": 1})
    assert "no such face" in one.status


def _accepted(one: Exploration) -> list[bool]:
    return [each["accepted"] for each in state(one)["damages"]]


def test_all_that_a_photo_suffers_from_is_proposed_and_undone_at_once(make, root):
    one = make(num_steps=3)
    old = Image.open(root / "data" / "president.jpg").convert("L").filter(GaussianBlurFilter(4))
    upload(one, "old.png", png(old))
    assert one.wait(PATIENCE)
    expected, damages = diagnosed(one._subject.face)  # the command's "auto"
    assert [type(part) for part in expected] == [UnknownBlur, Grayscale]
    assert [each["reason"] for each in state(one)["damages"]] == [damage.reason for damage in damages]
    for number, accepted in ((1, [False, True]), (0, [True, True])):  # in any order
        one.handle({"do": "accept", "damage": number, "on": True})
        assert _accepted(one) == accepted
    search(one)
    assert [type(part) for part in one.result.degradation] == [type(part) for part in expected]
    assert one.choice.modules()[1][0].sigma == pytest.approx(expected[0].sigma)  # the search starts there
    assert one.result.original is None
    assert re.search(r"found σ \d", one.status)
    assert one.shelf.found[0].entry()["short"][0] == "blurred, strength to be found + without colours"
    one.stop()
    one.handle({"do": "accept", "damage": 0, "on": False})
    assert (one.choice.kinds, one.choice.damaged) == (("grayscale",), True)
    one.handle({"do": "accept", "damage": 0, "on": True})
    one.handle({"do": "change", "damaged": False})
    assert (one.choice.kinds, _accepted(one)) == (("unknown blur",), [False, False])
    one.handle({"do": "accept", "damage": 0, "on": True})
    one.handle({"do": "choose", "name": "astronaut.png"})
    assert one.wait(PATIENCE)
    assert not one.choice.damaged  # that was the other photo


def test_another_photo_leaves_nothing_of_the_last_one_but_its_results(make):
    one = make(degradation="inpaint", seed=7)
    one.handle({"do": "paint", "stroke": 1}, PAINTED)
    one.another()
    search(one)
    one.stop()
    one.handle({"do": "choose", "name": "officer.jpg"})
    assert one.wait(PATIENCE)
    assert one.status == "Nothing is painted yet: paint over what is to be replaced."
    gone = ("result", "composite", "previous", "numbers", "curve", "faces")
    assert not any(one.board.values[name] for name in gone)
    assert state(one)["shown"] is None
    assert [each["short"][2:] for each in one.board.values["history"]] == [["seed 7", "answer 2"]]
    for act in (one.greet, one.reset):
        act()
        assert one.choice.hole is None  # the mask belonged to the last photo
    one.handle({"do": "restore", "number": 1})
    assert isinstance(one.choice.hole, bytes)
    assert not one.board.values["previous"]


def test_what_may_be_no_face_is_marked(root):
    photo = root / "data" / "astronaut.png"
    face, badge = find_subjects("me.png", photo, 256)
    assert (face.offer["sure"], face.offer["words"], face.hint) == (True, "score 1.16", "Press Run.")
    assert (badge.offer["sure"], badge.offer["words"]) == (False, "score 0.12, perhaps no face")
    assert badge.hint.startswith("me.png may not show a face here: press Run if it does")
    badge, face = find_subjects("me.png", photo, 256, face=1)
    assert badge.face.index == 1
    assert badge.sure  # whoever asks for it by its number has seen it

"""The way of a photo, from a file to a compared result."""

import json
import re

import pytest
import torch
from PIL import Image

import ex5lib
from ex5lib import PerceptualDistance
from ex5lib import errors as e
from ex5lib.degradations.known import compositor
from ex5lib.errors import SettingError
from ex5lib.faces import alignment
from ex5lib.images.tensors import from_uint8, resize, resize_area, to_uint8
from ex5lib.inversion.recipes import SMOKE, pick_recipe
from ex5lib.restoration import metrics, results
from ex5lib.restoration.paste import paste
from ex5lib.restoration.pipeline import TASKS, pick_task, restore_faces


@pytest.fixture(scope="module")
def small(root):
    """StyleGAN2 at 32 px: its searches take a second."""
    return ex5lib.load_generator(root / "tests" / "data" / "uncond_32.pkl", device="cpu")


@pytest.fixture
def quick(small, distance) -> dict:
    return {"generator": small, "distance": distance, "num_steps": 3, "device": "cpu", "progress": False}


def test_a_photo_is_aligned_degraded_searched_for_and_compared(generator, distance, root, astronaut):
    hole = ex5lib.Inpaint(top=164, left=84, height=44, width=88)
    done = ex5lib.restore(
        root / "data" / "astronaut.png", hole, generator=generator, distance=distance, recipe="smoke", device="cpu",
        progress=False, num_steps=2, seed=3,
    )  # fmt: skip
    assert torch.equal(done.original, astronaut.image)
    assert torch.equal(done.target, hole(astronaut.image))
    assert done.result is done.run.image
    assert (done.run.settings["recipe"], done.run.seed) == ("smoke", 3)
    mask = hole.mask_for(done.composite).expand(-1, 3, -1, -1) == 1
    torch.testing.assert_close(done.composite[mask], done.result[mask])
    assert torch.equal(done.composite[:, :, :600], astronaut.image[:, :, :600])
    assert list(done.images) == ["original", "degraded", "result", "composite"]
    found = done.metrics["composite and original"]
    # With several threads, sums over a batch are in another order.
    assert found == pytest.approx(metrics.compare(done.composite, astronaut.image, distance), rel=1e-6)
    assert done.metrics["search"]["distance"] == done.run.distance


def test_paths_pictures_tensors_and_faces_are_the_same_photo(root, quick):
    path = root / "data" / "astronaut.png"
    photos = [path, str(path), Image.open(path), ex5lib.load_image(path), ex5lib.align_face(path, size=32)]
    targets = [ex5lib.restore(photo, **quick).target for photo in photos]
    assert all(torch.equal(target, targets[0]) for target in targets)


def test_a_generator_can_be_tuned_to_the_photo_and_is_saved_beside_the_result(quick, astronaut, tmp_path):
    hole = ex5lib.Inpaint(top=64, left=64, height=64, width=64)
    done = ex5lib.restore(astronaut, hole, tune=4, **quick)
    found = ex5lib.restore(astronaut, hole, **quick)
    assert found.tuned is None
    assert torch.equal(found.run.ws, done.run.ws)
    assert not torch.equal(found.result, done.result)
    assert (done.run.settings["tune"]["done"], done.composite.shape) == (4, done.result.shape)
    written = done.save(tmp_path)
    assert (tmp_path / "generator.safetensors") in written
    again = ex5lib.load_generator(tmp_path / "generator.safetensors", device="cpu")
    with torch.no_grad():
        assert torch.equal(again.synthesis(done.run.ws, done.run.noise), done.result)
    with pytest.raises(e.SettingError, match="steps of a tuning"):
        ex5lib.restore(astronaut, hole, tune=-1, **quick)


def test_every_photo_of_a_batch_gets_a_generator_of_its_own(quick, small, astronaut):
    with torch.no_grad():
        other = small.synthesis(ex5lib.sample_ws(small, 1)).clamp(-1, 1)
    faces = [alignment.load_face(image, aligned=True, size=32) for image in (astronaut.image, resize(other, 64))]
    searched = {"generator": small, "distance": quick["distance"], "device": "cpu", "progress": False, "tune": 2}
    recipe = pick_recipe("fast", num_steps=3)
    both = restore_faces(faces, None, recipe, **searched)
    for face, together in zip(faces, both, strict=True):
        (alone,) = restore_faces([face], None, recipe, **searched)
        assert (together.result - alone.result).abs().mean() < 0.02
    weights = [one.tuned.synthesis.blocks[0].conv1.weight for one in both]
    assert not torch.equal(*weights)


def test_an_aligned_crop_keeps_its_pixels(quick, astronaut):
    found = ex5lib.restore(astronaut.image, **quick)
    said = ex5lib.restore(astronaut.image, aligned=True, **quick)
    assert torch.equal(found.face.image, resize(astronaut.image, 32))
    assert torch.equal(said.face.image, resize(astronaut.image, 32))
    assert "alignment" not in said.figures()
    with pytest.raises(e.SettingError, match="not square"):
        ex5lib.restore(torch.zeros(1, 3, 80, 70), aligned=True, **quick)


def test_what_the_photo_lacks_already_is_not_compared(quick, astronaut):
    """A blurred photo is its own target; a grey one is made exactly grey, a damaged one exactly black."""
    for degradation, made in ((ex5lib.GaussianBlur(25), False), (ex5lib.Grayscale(), True)):
        done = ex5lib.restore(astronaut, degradation, already_degraded=True, **quick)
        face = done.face.image
        assert torch.equal(done.target, degradation(face) if made else face)
        assert done.original is None
        assert list(done.metrics) == ["search"]
        assert next(iter(done.images)) == "aligned"


def test_a_photo_that_is_sharper_than_it_is_said_to_be_is_blurred_further_and_the_result_says_so(astronaut, tmp_path):
    """Otherwise the search would draw black edges, to be as sharp after the blur as the photo is."""
    said, was = ex5lib.GaussianBlur(51, 4.0), ex5lib.GaussianBlur(51, 2.4)
    small = resize_area(was(astronaut.image), 256)
    settings = {"aligned": True, "recipe": SMOKE, "num_steps": 1, "device": "cpu", "progress": False}
    done = ex5lib.restore(small, said, already_degraded=True, **settings)
    assert re.search(r"sharper than a blur of about σ = (3\.9|4\.0) px", done.note)
    assert re.search(r"it is blurred by about σ = 2\.[3-5] px", done.note)
    difference = resize_area(done.target, 256) - said(resize_area(astronaut.image, 256))
    assert difference[:, :, 24:-24, 24:-24].abs().mean() < 0.02  # as if it had been blurred by 4 px in the first place
    assert json.loads(done.save(tmp_path)[-1].read_text())["note"] == done.note
    assert ex5lib.restore(small, was, already_degraded=True, **settings).note == ""


def test_a_photo_can_be_degraded_by_something_else(quick, astronaut):
    done = ex5lib.restore(astronaut, ex5lib.GaussianBlur(9), degraded_by=ex5lib.GaussianBlur(25), **quick)
    assert torch.equal(done.target, ex5lib.GaussianBlur(25)(done.original))
    assert done.run.settings["degradation"] == repr(ex5lib.GaussianBlur(9))


def test_a_users_own_degradation_has_no_composite(quick, astronaut):
    class Mirror(torch.nn.Module):
        def forward(self, image):
            return image.flip(3)

    done = ex5lib.restore(astronaut, Mirror(), **quick)
    assert done.composite is None
    assert torch.equal(done.target, done.original.flip(3))
    settings = done.run.settings  # a mirror hides nothing
    assert (set(settings["latent_weights"]), settings["tied_from"]) == ({1e-3}, 8)


def test_faces_at_once_are_told_apart(quick, small, distance):
    with torch.no_grad():
        made = [small.synthesis(ex5lib.sample_ws(small, seed)).clamp(-1, 1) for seed in (1, 2)]
    faces = [ex5lib.restore(resize(image, 64), aligned=True, **quick).face for image in made]
    done = restore_faces(faces, None, SMOKE, generator=small, distance=distance, device="cpu", progress=False)
    assert [torch.equal(one.target, face.image) for one, face in zip(done, faces, strict=True)] == [True, True]
    assert (done[0].result != done[1].result).any()
    assert len(done[0].run) == 1
    assert done[0].run.image.untyped_storage().nbytes() == 3 * 32 * 32 * 4  # nothing of the other photo is kept alive


def test_everything_is_saved_and_the_numbers_last(quick, astronaut, tmp_path):
    done = ex5lib.restore(astronaut, ex5lib.Grayscale(), **quick)
    done.__dict__["metrics"] = {"search": {"distance": 1.0}}  # a face of 32 px has no descriptor
    written = done.save(tmp_path / "run", request={"asked": 1})
    names = [path.name for path in written]
    assert names[0] == "projection.npz"
    assert names[-1] == "metrics.json"
    assert {"original.png", "degraded.png", "result.png", "composite.png", "losses.png"} <= set(names)
    assert all(path.exists() for path in written)
    report = json.loads(written[-1].read_text())
    assert report["request"] == {"asked": 1}
    assert report["settings"] == done.run.settings


def test_the_face_is_put_back_into_its_photo_and_that_is_saved(quick, astronaut, tmp_path):
    hole = ex5lib.Inpaint(top=64, left=64, height=64, width=64)
    done = ex5lib.restore(astronaut, hole, **quick)
    assert torch.equal(done.photo, paste(astronaut.photo, [(done.face, done.result, hole)]))
    changed = (done.photo != astronaut.photo).any(dim=1)[0].float().mean()
    assert 0.005 < changed < 0.02  # a sixteenth of the crop, which is a ninth of the photo, and its rim
    done.__dict__["metrics"] = {"search": {"distance": 1.0}}  # a face of 32 px has no descriptor
    assert tmp_path / "photo.png" in done.save(tmp_path)
    assert torch.equal(ex5lib.load_image(tmp_path / "photo.png"), from_uint8(to_uint8(done.photo)))


def test_a_photo_that_has_few_pixels_itself_is_enlarged_unless_told_otherwise(quick, astronaut):
    photo = from_uint8(to_uint8(resize(astronaut.photo, 308)))
    small = alignment.load_face(photo, landmarks=(astronaut.landmarks + 0.5) * (308 / 512) - 0.5)
    few, blur, itself = ex5lib.Downsample(2), ex5lib.GaussianBlur(9), {"already_degraded": True}
    for degradation, settings, factor in (
        (few, itself, 5), (few, {}, 1), (blur, itself, 1), (few, itself | {"enlarge": 1}, 1), (few, {"enlarge": 2}, 2)
    ):  # fmt: skip
        done = ex5lib.restore(small, degradation, recipe="smoke", **quick | {"num_steps": 1} | settings)
        assert (done.enlarged, done.photo.shape) == (factor, (1, 3, factor * 308, factor * 308))
    for wrong in (0, 9, 2.0, "2"):
        with pytest.raises(e.SettingError, match="enlarged 1 to 8 times"):
            ex5lib.restore(small, few, **quick, enlarge=wrong)


def test_nothing_is_put_back_where_the_photo_was_the_crop(quick, astronaut):
    assert ex5lib.restore(astronaut.image, aligned=True, **quick).photo is None


def test_the_tasks_are_those_of_the_report():
    assert list(TASKS) == ["inversion", "deblurring", "colourisation", "inpainting"]
    assert pick_task("deblurring").kernel_size == 25
    with pytest.raises(e.SettingError, match='did you mean "inpainting"'):
        pick_task("inpaint")


def test_a_photo_without_a_face_is_said_so(quick):
    with pytest.raises(e.FaceError, match="No face was found in the photo"):
        ex5lib.restore(torch.zeros(1, 3, 200, 200), **quick)


def test_bad_requests_are_refused_in_one_sentence(quick, astronaut):
    with pytest.raises(e.SettingError, match="not degraded again"):
        ex5lib.restore(
            astronaut, ex5lib.GaussianBlur(9), already_degraded=True, degraded_by=ex5lib.GaussianBlur(25), **quick
        )
    with pytest.raises(e.SettingError, match="no face to restore"):
        restore_faces([], None, SMOKE, generator=quick["generator"])


def test_a_composition_is_undone_from_its_last_member(astronaut, samples):
    """Outside the hole the luma is the photo's; in the hole everything is the generator's, as it would be in grey."""
    face, generated = (resize_area(image, 256) for image in (astronaut.image, samples[0]))
    hole = ex5lib.Inpaint(top=164, left=84, height=44, width=88)
    both = torch.nn.Sequential(ex5lib.Grayscale(), ex5lib.Identity(), hole)
    whole = compositor(both)(both(face), generated)
    inside = hole.mask_for(face)[0, 0] > 0.5
    far = torch.nn.functional.max_pool2d(inside[None].float(), 31, 1, 15)[0] < 0.5  # beyond the feather of 12 px
    grey = ex5lib.Grayscale()
    unclamped = whole.abs().amax(dim=1)[0] < 0.999
    torch.testing.assert_close(grey(whole)[0, 0][far & unclamped], grey(face)[0, 0][far & unclamped], atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[0, :, inside], generated[0, :, inside], atol=1e-5, rtol=0)
    assert compositor(torch.nn.Sequential(ex5lib.GaussianBlur(9), hole)) is None
    assert compositor(torch.nn.Sequential()) is compositor(ex5lib.Identity()) is None


def test_several_answers_are_kept_apart(tiny_generator, astronaut, distance, tmp_path, monkeypatch):
    hole = ex5lib.Inpaint(top=64, left=64, height=128, width=128)
    settings = {"distance": distance, "device": "cpu", "progress": False, "w_avg_samples": 100, "num_steps": 6}
    steps = []
    done = ex5lib.restore(
        astronaut, hole, generator=tiny_generator, answers=3, latent_weight=0.1,
        callback=lambda report: steps.append(report["step"]), **settings,
    )  # fmt: skip
    assert steps == [0, 1, 2, 3, 4, 5]  # those of the first search only: an animation shows one
    answers = [done, *done.others]
    assert [answer.run.seed for answer in answers] == [0, 1, 2]
    assert not any(answer.others for answer in done.others)
    alone = ex5lib.restore(astronaut, hole, generator=tiny_generator, latent_weight=0.1, **settings)
    assert torch.equal(alone.result, done.result)  # the first is the usual one
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (answers[one].run.ws - answers[other].run.ws).norm(dim=2).min() > 0.2
    names = {path.name for path in done.save(tmp_path / "mine")}
    assert {"answer2.png", "answer3.png", "answers.png"} <= names
    alone.save(tmp_path / "mine")
    assert not list((tmp_path / "mine").glob("answer*"))
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 12:  # in the second search
            raise KeyboardInterrupt
        return PerceptualDistance.forward(distance, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(distance, "forward", interrupted)
        early = ex5lib.restore(astronaut, hole, generator=tiny_generator, answers=3, latent_weight=0.1, **settings)
    assert (len(early.others), early.run.stopped, early.stopped, done.stopped) == (1, False, True, False)
    early.save(tmp_path / "early", request={"asked": 3})
    assert results.finished_request(tmp_path / "early") is None
    for count in (0, 9, 2.5):
        with pytest.raises(SettingError, match="answers must be 1 to 8"):
            ex5lib.restore(astronaut, hole, generator=tiny_generator, answers=count, **settings)

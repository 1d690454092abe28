"""An exploration searches, restarts, stops, remembers and saves; a widget, a frame and a page of its own show it."""

import base64
import errno
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import types
import unittest.mock
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image, ImageOps
from PIL.ImageFilter import GaussianBlur as GaussianBlurFilter
from torch import Tensor

import ex5lib
from ex5lib.degradations.known import GaussianBlur, Grayscale, Inpaint
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters
from ex5lib.errors import DeviceError, FileError, SettingError
from ex5lib.explorer.board import Board, aside
from ex5lib.explorer.choices import DEGRADATIONS, Choice, own_weight, packed, unpacked
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.page import PageServer
from ex5lib.explorer.searching import Clock, Searcher, Step, time_in_words
from ex5lib.explorer.subjects import Subject, find_subjects, subjects_in
from ex5lib.explorer.widget import Explorer
from ex5lib.faces.alignment import load_face
from ex5lib.images.frames import jpeg
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.inversion.plan import plan_search
from ex5lib.inversion.recipes import RECIPES, SMOKE, Recipe, pick_recipe
from ex5lib.inversion.stages import Stage
from ex5lib.restoration import metrics
from ex5lib.restoration.diagnosis import Damage, diagnosed
from ex5lib.restoration.pipeline import restore_faces
from ex5lib.restoration.results import finished_request

QUICK = replace(SMOKE, w_avg_samples=200)
LONG = 2000  # steps: a search that no test lets come to its end
PATIENCE = 120  # seconds after which a search that must come to an end counts as hung
ALL = b"\x01" * 256 * 256  # a mask that is painted all over
PAINTED = ALL[:1000] + bytes(256 * 256 - 1000)


class Gate(ex5lib.PerceptualDistance):
    """The real distance; in its n-th call, in the middle of a step, it waits until it is let on, or does ``act``."""

    def __init__(self, at: int = 0, act: Callable[[], None] | None = None):
        super().__init__(device="cpu")
        self.at, self.act, self.calls = at, act or self._wait, 0
        self.inside, self.go_on = threading.Event(), threading.Event()

    def _wait(self) -> None:
        self.inside.set()
        assert self.go_on.wait(PATIENCE)

    def forward(self, image: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            self.act()
        return super().forward(image, target)


@pytest.fixture
def face() -> Tensor:
    """A red-green gradient with a bright blue square [1, 3, 64, 64]."""
    ramp = torch.linspace(-1, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), -1.0)])[None]
    image[:, 2, 16:32, 16:32] = 1
    return image


@pytest.fixture(autouse=True)
def one_descriptor(monkeypatch):
    """The search's own images are noise: dlib's descriptors of them would take most of the time."""
    monkeypatch.setattr(metrics, "identity_distance", lambda *_: 0.5)


@pytest.fixture
def ended():
    """The explorations of a test, which are stopped in the end."""
    explorations: list[Exploration] = []
    yield explorations
    for one in explorations:
        one.stop()
        assert one.wait(PATIENCE)


@pytest.fixture
def make(small_generator, face, distance, tmp_path, ended):
    def _make(recipe: Recipe = QUICK, num_steps: int = 4, distance=distance, **choices) -> Exploration:
        recipes = {recipe.name: pick_recipe(recipe, num_steps=num_steps)}
        choice, subject = Choice(recipe=recipe.name, **choices), load_face(face, aligned=True, size=64)
        searcher = Searcher(small_generator, recipes, distance=distance, device="cpu")
        ended.append(Exploration(searcher, [Subject(subject, "square.png")], choice, out=tmp_path))
        return ended[-1]

    return _make


@pytest.fixture
def restored(small_generator, face, distance):
    """What ``restore`` finds for the same face with the same settings."""
    subject, same = (
        load_face(face, aligned=True, size=64),
        {"generator": small_generator, "distance": distance, "device": "cpu"},
    )
    return lambda D, recipe=QUICK, **more: restore_faces([subject], D, recipe, progress=False, **same, **more)[0]


def _search(one: Exploration, **changes) -> None:
    """Run or, once it runs, change something, and wait for the end."""
    one.change(**changes) if changes else one.run()
    assert one.wait(PATIENCE)


def _upload(one: Exploration, name: str, content: bytes) -> None:
    one.handle({"do": "upload", "name": name, "size": len(content), "at": 0}, content)


def _pixels(frame: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(frame))
    assert picture.format == "JPEG"
    return np.asarray(picture).astype(int)


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _close(frame: bytes, image: Tensor) -> bool:
    """Whether a frame shows the image, but for what JPEG does to an untrained network's noise."""
    pair = (_pixels(frame), to_uint8(image))
    return np.corrcoef([each.mean(axis=2).ravel() for each in pair])[0, 1] > 0.9


def _run_to_the_first_frame(one: Exploration) -> None:
    drawn = threading.Event()
    one.board.listeners.append(lambda values: values.get("progress") and drawn.set())
    one.run()
    assert drawn.wait(PATIENCE)


def _state(one: Exploration) -> dict:
    return one.board.values["state"]


def test_run_searches_what_restore_finds_with_the_same_settings(make, restored):
    one = make(degradation="blur", kernel_size=33, latent_weight=0.1)
    assert one.result is None
    _run_to_the_first_frame(one)
    assert one.wait(PATIENCE)
    same = restored(GaussianBlur(33), pick_recipe(QUICK, latent_weight=0.1))
    assert torch.equal(one.result.result, same.result)
    assert _close(one.board.values["result"], same.result)
    assert one.board.values["composite"] == b""
    assert re.fullmatch(rf"Done: 4 of 4 steps, \d+ s, d to the target {same.run.distance:.3f}\.", one.status)
    (column,) = one.board.values["numbers"]
    assert column["distance"] == pytest.approx(same.metrics["result and original"]["distance"])
    assert _state(one)["phase"] == "idle"


def test_another_answer_is_the_one_that_restore_would_give_next(make, restored):
    one = make(degradation="grayscale", seed=4)
    one.another()
    assert one.wait(PATIENCE)
    assert torch.equal(one.result.result, restored(Grayscale(), seed=4, answers=2).others[0].result)


def test_a_hole_shows_the_composite_also_while_it_searches(make, face):
    one = make(degradation="inpaint", hole=(100, 60, 60, 60))
    frames = []
    one.board.listeners.append(lambda values: frames.append(values["composite"]) if "progress" in values else None)
    _search(one)
    known = np.ones((512, 512), bool)
    known[160:360, 80:280] = False  # the hole and its band
    for frame in (frames[1], one.board.values["composite"]):
        picture = np.asarray(Image.open(io.BytesIO(frame)).resize((512, 512))).astype(int)
        assert np.abs(picture - to_uint8(resize(face, 512)))[known].mean() < 12
    assert [column["name"] for column in one.board.values["numbers"]] == ["result", "composite"]
    assert one.board.values["numbers"][1]["target"] is None  # its known part is the target's own


def test_stop_is_said_at_once_and_keeps_the_best_so_far(make):
    gate = Gate(6)
    one = make(num_steps=LONG, distance=gate)
    one.run()
    assert gate.inside.wait(PATIENCE)
    one.stop()
    assert one.status.startswith("Stopped. The best image so far is being made")
    assert (_state(one)["phase"], _state(one)["live"]) == ("finishing", False)
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert one.result.stopped
    assert 0 < one.result.run.num_steps < LONG
    assert one.status.startswith(f"Stopped, best so far: {one.result.run.num_steps} of {LONG} steps")
    assert _close(one.board.values["result"], one.result.result)
    one.run()  # a stopped search is not taken for the result of its settings
    assert _state(one)["phase"] == "starting"


def test_a_changed_choice_ends_the_search_and_starts_another(make):
    gate = Gate(2)
    one = make(distance=gate)
    one.run()
    assert gate.inside.wait(PATIENCE)
    for weight in np.logspace(-6, 0, 50):  # dragged wildly
        one.change(latent_weight=weight)
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert (set(one.result.run.settings["latent_weights"]), one.result.run.num_steps) == ({1.0}, 4)
    assert len(one.shelf.found) == 1


def test_before_run_and_after_stop_a_change_starts_nothing(make):
    one = make(num_steps=LONG)
    one.change(latent_weight=0.001)
    assert one.status == "Press Run."
    _run_to_the_first_frame(one)
    one.stop()
    assert one.wait(PATIENCE)
    found, curve = one.result, one.board.values["curve"]
    assert one.board.values["progress"] == {}
    one.change(latent_weight=0.1)
    assert one.status == "The settings have changed: press Run."
    assert {"result", "composite"} == set(_state(one)["stale"])
    assert one.wait(0)
    one.change(latent_weight=0.001)  # of its own settings it is not out of date
    assert one.status.startswith("Stopped before: ")
    assert (one.result, _state(one)["stale"]) == (found, [])
    one.change(latent_weight=0.1)
    _run_to_the_first_frame(one)
    one.reset()  # in the middle of a search: what it has drawn is gone, the curve with it
    assert one.wait(PATIENCE)
    assert one.board.values["curve"] == curve


def test_the_magnifier_shows_a_part_of_the_result_at_full_resolution(make):
    one = make()
    one.handle({"do": "look", "x": 0.5, "y": 0.25})
    assert one.board.values["lens"] == b""  # there is nothing yet
    one.run()
    assert one.wait(PATIENCE)
    image = one.result.best_image  # 32 px
    assert one.board.values["lens"] == jpeg(image[:, :, 6:10, 14:18])
    one.handle({"do": "look", "x": 2, "y": -1})  # beyond the corner
    assert one.board.values["lens"] == jpeg(image[:, :, :4, -4:])
    one.handle({"do": "look", "x": None, "y": None})
    assert one.board.values["lens"] == b""


def test_while_previews_are_searched_the_magnifier_makes_its_part_at_full_resolution(generator, astronaut, distance):
    recipe = replace(QUICK, start="mean", stages=(Stage(2, 128, "w"), Stage(1, 128, "w+"), Stage(1, None, "w+")))
    seen, images = [], []

    def note(report: dict) -> None:
        ws = report["latent"].expand(-1, generator.num_ws, -1)
        images.append(generator.synthesis(ws, report["noise"]).clamp(-1, 1))

    def watch(step: Step) -> bool:
        seen.append(step.close_up(0.4, 0.5))
        return False

    searcher = Searcher(generator, {recipe.name: recipe}, distance=distance, device="cpu", dtype="float32")
    searcher.search(Choice(recipe=recipe.name), astronaut, watch)
    keywords = {"recipe": recipe, "distance": distance, "device": "cpu", "dtype": "float32", "progress": False}
    ex5lib.project(generator, astronaut.image, callback=note, snapshots=(), **keywords)
    assert len(seen) == len(images) == 4
    for part, image in zip(seen, images, strict=True):
        torch.testing.assert_close(part, image[:, :, 448:576, 346:474], atol=2e-4, rtol=0)


def test_results_are_kept_so_that_going_back_shows_them_at_once(make, monkeypatch):
    monkeypatch.setattr("ex5lib.explorer.shelf.RESULTS_KEPT", 2)
    gate = Gate()
    one = make(distance=gate, latent_weight=0.001)
    _search(one)
    first, frame = one.result, one.board.values["result"]
    _search(one, latent_weight=1.0)
    second, calls = one.result, gate.calls
    assert second is not first
    assert one.board.values["previous"] == frame
    one.change(latent_weight=0.001 * (1 + 1e-12))  # as a browser computes it
    assert (one.result, one.board.values["result"]) == (first, frame)
    assert one.status.startswith("Found before: 4 of 4 steps")
    _search(one, kernel_size=7)  # which no search without a blur reads
    assert (one.result, gate.calls) == (first, calls)
    one.handle({"do": "restore", "number": 2})
    assert (one.result, one.choice.latent_weight) == (second, 1.0)
    assert [entry["number"] for entry in one.board.values["history"]] == [1, 2]
    one.run()
    _search(one, latent_weight=0.1)
    one.stop()
    one.change(latent_weight=0.001)
    assert one.status.startswith("The settings have changed")  # only so many are kept
    one.handle({"do": "restore", "number": 1})
    assert one.status == "There is no result 1 any more: choose another one."
    one.reset()
    assert one.choice.latent_weight == 0.001
    assert len(one.shelf.found) == 2


def test_a_choice_that_makes_no_sense_is_said_and_leaves_nothing_stale_undimmed(make):
    gate = Gate(3)
    one = make(distance=gate, degradation="inpaint")
    one.run()
    assert gate.inside.wait(PATIENCE)
    one.handle({"do": "paint", "stroke": 1}, bytes(256 * 256))
    assert "Nothing is painted" in one.status
    assert _state(one)["error"]
    assert "target" in _state(one)["stale"]
    shown = dict(one.board.values)
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert one.board.values == shown  # the search that is no longer wanted has drawn nothing
    assert one.result is None
    _search(one, hole=[100, 84, 44, 88])  # makes sense again, and the search goes on
    assert one.result is not None


def test_what_cannot_work_is_one_sentence(make):
    one = make()
    for message, data, words in (
        ({"do": "change", "kernel_size": 24, "degradation": "blur"}, b"", "0 or an odd number from 0 to 255, not 24."),
        (
            {"do": "change", "kernel_size": "wide"},
            b"",
            'Kernel size must be 0 or an odd number from 0 to 255, not "wide"',
        ),
        ({"do": "change", "seed": -1}, b"", "Seed must be a whole number from 0 to 9007199254740991, not -1."),
        ({"do": "change", "seed": 7.5}, b"", "not 7.5."),
        ({"do": "change", "latent_weight": 1e9}, b"", "Weight λ_w must be a number from 0 to 10, not 1000000000.0."),
        ({"do": "change", "degradation": "blurr"}, b"", 'did you mean "blur"'),
        (
            {"do": "change", "degradation": "faded colours", "fading": 2},
            b"",
            "Fading must be a number from 0 to 1, not 2.",
        ),
        ({"do": "change", "hole": [230, 84, 44, 88]}, b"", "does not lie inside"),
        ({"do": "change", "hole": {"a": 1}}, b"", "four numbers: top, left, height and width"),
        ({"do": "change", "recipe": "fasst"}, b"", 'no recipe "fasst"'),
        ({"do": "save"}, b"", "no result to save yet"),
        ({"do": "pick", "face": 3}, b"", "no such face"),
        ({"do": "accept", "damage": 0, "on": True}, b"", "Nothing of that kind was found"),
        ({"do": "_cancel"}, b"", "something unknown"),
        ({"do": "upload", "name": "a.png", "size": 10**9, "at": 0}, b"", "larger than 100 MB"),
        ({"do": "upload", "name": "a.png", "size": 0, "at": 0}, b"", "is empty"),
        ({"do": "upload", "name": "a.png", "size": 100, "at": 50}, bytes(50), "did not arrive whole"),
        ({"do": "upload", "name": "a.png", "size": 100, "at": 0}, bytes(101), "did not arrive whole"),
        ({"do": "paint", "stroke": 1}, bytes(100), "256 × 256 px, not 100 pixels"),
    ):
        one.reset()
        assert not _state(one)["error"]
        before = one.choice
        one.handle(message, data)
        assert words in one.status
        assert _state(one)["error"]
        assert _state(one)["field"] in ("", *message)
        assert one.choice == before
        one.handle({"do": "change", "seed": 0})  # as it was: what was refused is corrected
        assert (one.status, _state(one)["error"], _state(one)["field"]) == ("Press Run.", False, "")
    one.change(degradation="inpaint")
    for mask, words in ((bytes(256 * 256), "Nothing is painted"), (ALL, "nothing of the photo is left")):
        one.handle({"do": "paint", "stroke": 1}, mask)
        assert words in one.status


def test_a_mask_that_is_painted_is_what_is_removed(make, face):
    one = make(degradation="inpaint")
    painted = torch.zeros(256, 256)
    painted[50:90, 30:200] = 1
    one.handle({"do": "paint", "stroke": 3}, painted.byte().numpy().tobytes())
    assert _state(one)["stroke"] == 3  # so that a page learns which of its strokes has come
    assert np.frombuffer(one.board.values["mask"], np.uint8).sum() == 40 * 170
    target = _pixels(one.board.values["target"])
    assert target[104:176, 64:396].max() < 40  # at 512 px
    assert np.abs(target[200:] - to_uint8(resize(face, 512)).astype(int)[200:]).mean() < 6
    assert torch.equal(one.choice.modules()[1].mask[0, 0], painted)
    mask = (torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    assert torch.equal(unpacked(packed(mask)), mask)


def test_another_degradation_brings_its_own_weight(make, generator):
    one = make(recipe=replace(QUICK, blurred_weight=0.02), num_steps=3)
    assert _state(one)["own_weight"] == 0.001
    one.change(latent_weight=5.0)
    one.change(degradation="blur")
    assert (one.choice.latent_weight, _state(one)["own_weight"]) == (None, 0.02)
    _search(one)
    assert set(one.result.run.settings["latent_weights"]) == {0.02}
    one.change(latent_weight=0)
    _search(one, kernel_size=11)  # the same task: what was set stays set
    assert set(one.result.run.settings["latent_weights"]) == {0.0}
    weights = plan_search(RECIPES["fast"], generator, Grayscale()).latent_weights.tolist()
    assert own_weight(weights)[0] == 1.0  # of the layers that make the colours


def test_distances_to_the_target_stand_side_by_side_only_for_one_task(make):
    one = make(latent_weight=0.001)
    _search(one)
    _search(one, latent_weight=1.0)
    result, previous = one.board.values["numbers"]
    assert (result["name"], previous["name"]) == ("result", "previous")
    assert None not in (result["target"], previous["target"])
    _search(one, degradation="blur")
    previous = one.board.values["numbers"][1]
    assert previous["target"] is None
    assert previous["distance"] is not None  # to the original, which is the same
    _search(one, damaged=True)
    (result,) = one.board.values["numbers"]  # there is no original, so the one before says nothing
    assert (result["distance"], result["pending"], result["original"]) == (None, False, False)
    assert one.result.original is None
    assert one.board.values["previous"]


@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_every_degradation_is_shown_and_searched(make, degradation):
    one = make(degradation=degradation, num_steps=3)
    target, photo = (_pixels(one.board.values[name]) for name in ("target", "photo"))
    assert (np.abs(target - photo).mean() < 0.1) == (degradation == "none")
    _search(one)
    assert one.result.run.num_steps == 3, one.status
    D = one.result.degradation
    if degradation == "unknown blur":
        assert isinstance(D, UnknownBlur)
        assert f"found σ {D.sigma:.2f} px (it was 4.10 px)" in one.status
    if degradation == "faded colours":
        assert isinstance(D, UnknownColors)
        words, red, *_ = one.board.values["numbers"][0]["found"]
        assert red == "red ← {:.2f} R {:+.2f} G {:+.2f} B {:+.2f}".format(*D.matrix[0].tolist(), D.shift[0].item())
        image = one.shelf.shown.subject.face.image
        off = (D(image) - one.choice.modules()[0](image)).abs().mean().item() * 127.5
        assert int(re.search(r"(\d+) of 255 levels", words)[1]) == pytest.approx(off, abs=1.5)


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


@pytest.mark.parametrize("degradation", [d for d in DEGRADATIONS if d not in ("none", "blur", "noise")])
def test_every_damage_can_be_accepted(degradation):
    """What is proposed for a D is a choice that searches with such a D."""
    D = Choice(degradation=degradation, factor=5, quality=17, hole=(100, 60, 60, 70)).modules()[1]
    same = Choice().accepting([Damage(D, "seen")], 0)
    assert same.damaged
    if degradation == "inpaint":
        assert torch.equal(same.modules()[1].mask, D.mask)
    else:
        assert str(same.modules()[1]) == str(D)


def test_an_unexpected_error_is_said_and_the_next_search_runs(make, caplog):
    one = make(distance=Gate(3, lambda: 1 / 0))
    _search(one)
    assert one.status == "This failed unexpectedly (ZeroDivisionError: division by zero)."
    assert "test_explorer.py" in caplog.text  # where it happened
    _search(one)
    assert one.result.run.num_steps == 4


def test_a_second_exploration_stops_the_search_of_the_first(make):
    first, second = make(num_steps=LONG), make()
    _run_to_the_first_frame(first)
    second.run()
    assert first.status.startswith("Stopped, because another search began.")
    assert first.wait(PATIENCE)
    assert first.result.stopped
    assert second.wait(PATIENCE)
    assert second.result.run.num_steps == 4


def test_save_writes_the_whole_result_into_a_folder_of_its_own(make, tmp_path, monkeypatch):
    one = make(degradation="blur", num_steps=8)
    _search(one)
    for number in (1, 2):  # nothing that was saved is lost
        aside(partial(one._save, one.shelf.shown), one._complain).join()
        folder = tmp_path / f"square-blur-{number}"
        assert one.status == f"Saved in {folder}."
        assert (folder / "iterations.png").exists()
    assert finished_request(folder)["explorer"]["kernel_size"] == 25
    assert sorted(ex5lib.Projection.load(folder).snapshots) == [0, 1, 2, 3]  # images from early in the search
    name, content = one.shelf.archive()
    assert name == "square-blur-2.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert json.loads(file.read("square-blur-2/metrics.json"))["stopped"] is False

    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("numpy.savez", unittest.mock.Mock(side_effect=full))
    aside(partial(one._save, one.shelf.shown), one._complain).join()
    assert "could not be written (No space left on device): make room there" in one.status
    assert one.shelf.saved == folder
    assert not (tmp_path / "square-blur-3" / "metrics.json").exists()


def test_an_uploaded_photo_is_put_together_aligned_and_searched_with_what_is_changed_meanwhile(make, root, monkeypatch):
    looking, go_on = threading.Event(), threading.Event()

    def slow(*arguments):
        looking.set()
        return subjects_in(*arguments) if go_on.wait(PATIENCE) else None

    monkeypatch.setattr("ex5lib.explorer.exploration.subjects_in", slow)
    one = make(num_steps=3)
    _search(one)
    content = (root / "data" / "officer.jpg").read_bytes()
    middle = len(content) // 2
    one.handle({"do": "upload", "name": "../officer.jpg", "size": len(content), "at": 0}, content[:middle])
    assert one.status == f"Receiving officer.jpg: {100 * middle // len(content)} % …"
    one.handle({"do": "upload", "name": "../officer.jpg", "size": len(content), "at": middle}, content[middle:])
    assert looking.wait(PATIENCE)
    assert {"photo", "target"} <= set(_state(one)["stale"])
    one.handle({"do": "change", "degradation": "blur", "kernel_size": 24})
    assert _state(one)["field"] == "kernel_size"
    one.handle({"do": "change", "degradation": "blur", "kernel_size": 9})
    assert (one.status, _state(one)["phase"]) == ("Looking for a face in officer.jpg …", "aligning")
    one.handle({"do": "another"})
    go_on.set()
    assert one.wait(PATIENCE)
    assert (_state(one)["name"], _state(one)["stale"]) == ("officer.jpg", [])
    assert one.result.face.landmarks is not None
    assert one.result.degradation.kernel_size == 9  # it has gone on by itself
    assert one.choice.answer == 0  # of that face
    assert [column["name"] for column in one.board.values["numbers"]] == ["result"]  # another photo's says nothing
    one.begin(replace(one._first, seed=3))  # as when its cell is run again with another seed
    assert (_state(one)["name"], one.choice.photo) == ("square.png", one._first.photo)
    for number, name in ((2, "officer.jpg"), (1, "square.png")):
        one.handle({"do": "restore", "number": number})
        assert _state(one)["name"] == name


def test_what_is_no_photo_of_a_face_is_said_and_the_present_photo_stays(make):
    one = make()
    photo, noise = one.board.values["photo"], _png(Image.effect_noise((64, 64), 90))
    for content, words in ((b"no image at all", "me.jpg is not an image"), (noise, "No face was found in me.jpg")):
        _upload(one, "me.jpg", content)
        assert one.wait(PATIENCE)
        assert one.status.startswith(words)
        assert (one.board.values["photo"], _state(one)["phase"]) == (photo, "idle")


def test_of_several_faces_another_can_be_picked(make, root):
    group = Image.new("RGB", (600, 400))
    for left, name in ((0, "officer.jpg"), (300, "president.jpg")):
        group.paste(ImageOps.contain(Image.open(root / "data" / name), (300, 400)), (left, 0))
    one = make()
    _upload(one, "group.png", _png(group))
    assert one.wait(PATIENCE)
    assert len(one.board.values["faces"]) == 2
    first = one.board.values["photo"]
    one.handle({"do": "pick", "face": 1})
    assert one.board.values["photo"] != first
    assert (_state(one)["name"], _state(one)["face"]) == ("group.png", 1)
    one.begin(replace(one._first, seed=3))  # back to the first photo, whose faces these are not
    assert (one.board.values["faces"], _state(one)["face"]) == ([], 0)
    one.handle({"do": "pick", "face": 1})
    assert "no such face" in one.status


def _accepted(one: Exploration) -> list[bool]:
    return [each["accepted"] for each in _state(one)["damages"]]


def test_all_that_a_photo_suffers_from_is_proposed_and_undone_at_once(make, root):
    one = make(num_steps=3)
    old = Image.open(root / "data" / "president.jpg").convert("L").filter(GaussianBlurFilter(4))
    _upload(one, "old.png", _png(old))
    assert one.wait(PATIENCE)
    expected, damages = diagnosed(one._subject.face)  # the command's "auto"
    assert [type(part) for part in expected] == [UnknownBlur, Grayscale]
    assert [each["reason"] for each in _state(one)["damages"]] == [damage.reason for damage in damages]
    for number, accepted in ((1, [False, True]), (0, [True, True])):  # in any order
        one.handle({"do": "accept", "damage": number, "on": True})
        assert _accepted(one) == accepted
    _search(one)
    assert [type(part) for part in one.result.degradation] == [type(part) for part in expected]
    assert one.choice.modules()[1][0].sigma == pytest.approx(expected[0].sigma)  # the search starts there
    assert one.result.original is None
    assert re.search(r"found σ \d", one.status)
    assert one.shelf.found[0].entry()["short"][0] == "unknown blur + grayscale"
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
    one.handle({"do": "look", "x": 0.5, "y": 0.5})
    one.another()
    _search(one)
    one.stop()
    one.handle({"do": "choose", "name": "officer.jpg"})
    assert one.wait(PATIENCE)
    assert one.status == "Press Run."
    gone = ("result", "composite", "previous", "lens", "numbers", "curve", "faces")
    assert not any(one.board.values[name] for name in gone)
    assert _state(one)["shown"] is None
    assert [each["short"][2:] for each in one.board.values["history"]] == [["seed 7", "answer 2"]]
    for act in (one.greet, one.reset):
        act()
        assert one.choice.hole == Choice.hole  # the mask belonged to the last photo
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


def test_time_is_what_the_progress_measures():
    """Ten steps of 0.1 s, then ten of 1 s: half of the steps are a ninth of the time."""
    learned: dict[int, float] = {}
    for guessed in (True, False):  # the second search knows what the first one has learned
        clock, now, shares = Clock((Stage(10, 128), Stage(10, None)), 1024, learned), 0.5, []
        for size, seconds in [(128, 0.1)] * 10 + [(1024, 1.0)] * 10:
            now += seconds
            clock.step(size, now)
            shares.append(clock.share)
            if now > 0.7 and (size == 1024 or not guessed):
                assert clock.seconds_left == pytest.approx(11.5 - now, rel=0.35, abs=0.2)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
    assert shares[9] == pytest.approx(1.5 / 11.5, rel=0.1)
    said = {None: "…", 0.2: "1 s", 12.4: "12 s", 61: "1 min", 89: "1 min 20 s", 700: "11 min"}
    assert {seconds: time_in_words(seconds) for seconds in said} == said  # as exactly as it is known


def test_a_board_tells_what_has_changed_since():
    board = Board()
    board.put(a=1, b=b"x")
    version, values = board.since(0)
    assert values == {"a": 1, "b": b"x"}
    board.put(a=1, b=b"y")
    assert board.since(version) == (version + 1, {"b": b"y"})
    assert board.since(version + 1, timeout=0.01) == (version + 1, {})
    assert board.since(10**6) == (version + 1, {"a": 1, "b": b"y"})  # of a page that knew another process
    threading.Timer(0.05, lambda: board.put(c=3)).start()
    assert board.since(version + 1, timeout=PATIENCE)[1] == {"c": 3}


@pytest.fixture
def show(small_generator, face, distance, tmp_path, monkeypatch, ended):
    monkeypatch.setattr(Explorer, "_latest", None)

    def _show(face=face, recipe=QUICK, **settings) -> Explorer:
        settings = {"recipe": recipe, "out": tmp_path, "distance": distance, "device": "cpu"} | settings
        shown = ex5lib.explore(small_generator, face, **settings)
        ended.append(shown.exploration)
        return shown

    return _show


@pytest.fixture
def shell():
    """A shell that keeps what is displayed."""
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


@pytest.fixture
def server(show):
    running = PageServer()
    running.show(show(degradation="blur").exploration)
    yield running
    running.close()


def _ask(server: PageServer, path: str, data: bytes | None = None, **query: object):
    words = urllib.parse.urlencode({"token": server.token} | query)
    return urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}?{words}", data, timeout=PATIENCE)


def _send(server: PageServer, data: bytes = b"", **message: object) -> None:
    assert _ask(server, "/send", data, message=json.dumps(message)).status == 200


def test_the_widget_shows_the_board_and_passes_on_what_is_asked(show, shell):
    one = show(degradation="blur", kernel_size=9)
    one._ipython_display_()
    (output,) = shell
    assert set(output["data"]) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    widget = one.widget
    widget._heard(widget, {"do": "change", "kernel_size": 33}, [])
    assert one.exploration.choice.kernel_size == widget.state["choice"]["kernel_size"] == 33
    widget._heard(widget, {"do": "run"}, [])
    assert one.exploration.wait(PATIENCE)
    assert {name: getattr(widget, name) for name in one.exploration.board.values} == one.exploration.board.values
    assert widget.numbers[0]["distance"] > 0
    sent = []
    widget.send = lambda *message: sent.append(message)
    widget._heard(widget, {"do": "download"}, [])
    assert sent == [({"problem": "There is nothing to download yet: press Save."},)]
    widget._heard(widget, {"do": "paint", "stroke": 1}, [memoryview(PAINTED)])
    assert isinstance(one.exploration.choice.hole, bytes)


def test_where_there_is_no_kernel_a_picture_with_a_caption_is_left(show, restored, shell):
    one = show(degradation="inpaint", done=restored(Inpaint(164, 84, 44, 88)))
    assert one.exploration.status.startswith("Found before: 4 of 4 steps")
    one._ipython_display_()
    page = shell[0]["data"]["text/html"]
    pictures = dict(re.findall(r'<img alt="(\w+)" src="data:image/jpeg;base64,([^"]+)"', page))
    assert list(pictures) == ["target", "composite"]
    assert all(base64.b64decode(data) == one.exploration.board.values[name] for name, data in pictures.items())
    assert re.search("<figcaption>.*target and composite, inpaint", page)


def test_when_the_cell_is_run_again_what_was_found_is_still_there(show, face):
    one = show()
    one.exploration.run()
    assert one.exploration.wait(PATIENCE)
    found = one.exploration.result
    assert show(face=face.clone()) is one
    assert one.exploration.result is found
    assert show(degradation="blur") is one
    assert one.exploration.choice.degradation == "blur"
    assert one.exploration.shelf.found
    assert show(num_steps=3) is not one
    assert show(face=-face) is not one


def test_on_colab_the_page_is_served_into_a_frame(show, monkeypatch):
    frames = []
    colab = types.ModuleType("google.colab")
    colab.output = types.SimpleNamespace(serve_kernel_port_as_iframe=lambda port, **frame: frames.append((port, frame)))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    one = show()
    one._ipython_display_()
    ((port, frame),) = frames
    assert int(frame["height"]) > 600
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{frame['path']}", timeout=PATIENCE) as page:
        assert b"page.js?token=" in page.read()
        assert "frame-ancestors" not in page.headers["Content-Security-Policy"]
    one.server.close()


def test_a_page_asks_for_changes_and_sends_what_is_done(server):
    news = json.load(_ask(server, "/changes", since=0))
    assert news["values"]["state"]["choice"]["degradation"] == "blur"
    photo = base64.b64decode(news["values"]["photo"]["base64"])
    assert photo == server.exploration.board.values["photo"]
    _send(server, do="change", kernel_size=7)
    later = json.load(_ask(server, "/changes", since=news["version"]))
    assert later["values"]["state"]["choice"]["kernel_size"] == 7
    assert "photo" not in later["values"]
    _send(server, PAINTED, do="paint", stroke=1)
    assert isinstance(server.exploration.choice.hole, bytes)
    kinds = {"/": "html", "/explorer.js": "javascript", "/page.js": "javascript", "/explorer.css": "css"}
    for path, kind in kinds.items():
        assert _ask(server, path).headers["Content-Type"].startswith(f"text/{kind}")
    _send(server, do="run")
    assert server.exploration.wait(PATIENCE)
    server.exploration._save(server.exploration.shelf.shown)
    archive = _ask(server, "/archive")
    assert archive.headers["Content-Disposition"] == "attachment; filename*=UTF-8''photo-blur-1.zip"
    assert archive.read(2) == b"PK"


@pytest.mark.parametrize("path", ["/", "/explorer.js", "/changes", "/archive", "/send"])
def test_nobody_gets_anything_without_the_token(server, path):
    body = b"{}" if path == "/send" else None
    for query in ("", "?token=", "?token=x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}{query}", body, timeout=PATIENCE)
        assert refused.value.code == 403
    assert server.server_address[0] == "127.0.0.1"


def test_what_a_page_should_not_send_does_no_harm(server):
    claimed = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    claimed.request("POST", f"/send?token={server.token}", headers={"Content-Length": "9000000"})
    assert claimed.getresponse().status == 413
    claimed.close()
    for message in ("", "no json", "[]", '{"do": "__init__"}', '{"do": 7}', '{"do": "run", "far": 1}', "{}"):
        assert _ask(server, "/send", b"", message=message).status == 200
        assert server.exploration.board.values["state"]["error"]
    for path in ("/../explorer.py", "/archive"):  # nothing was saved yet
        with pytest.raises(urllib.error.HTTPError) as missing:
            _ask(server, path)
        assert missing.value.code == 404
    for port in (server.server_port, 99999):
        with pytest.raises(FileError, match="cannot use port"):
            PageServer(port)


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"degradation": "blurr"}, SettingError, 'did you mean "blur"'),
        ({"latent_weight": 11.0}, SettingError, "from 0 to 10"),
        ({"seed": -1}, SettingError, "from 0 to 9007199254740991"),
        ({"kernel_size": 24}, SettingError, "odd number"),
        ({"rectangle": (0, 200, 10, 100)}, SettingError, "does not lie inside"),
        ({"recipe": "fasst"}, SettingError, 'did you mean "fast"'),
        ({"step": 10}, SettingError, 'no setting of a search "step"'),
        ({"device": "tpu"}, DeviceError, 'no device "tpu"'),
        ({"face": torch.zeros(1, 3, 64, 80)}, SettingError, "80 × 64 px"),
        ({"face": torch.zeros(2, 3, 64, 64)}, SettingError, r"\[1, 3, H, W\]"),
    ],
)
def test_what_cannot_work_is_said_before_run(show, settings_, error, message):
    with pytest.raises(error, match=message):
        show(**settings_)


def test_a_recipe_of_ones_own_brings_its_latent_weight_and_steps_and_a_mask_may_replace_the_rectangle(show):
    recipe = Recipe("mine", (Stage(30, 128),), latent_weight=0.5, clamp=True)
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., :100, :] = 1
    one = show(recipe=recipe, num_steps=3, degradation="inpaint", mask=mask).exploration
    assert one.choice.modules()[1].mask[0, 0, :, 0].sum() == 50
    assert one.board.values["state"]["own_weight"] == 0.5
    assert {"mine", "smoke"} & set(one.board.values["about"]["recipes"]) == {"mine"}
    one.run()
    assert one.wait(PATIENCE)
    settings = one.result.run.settings
    assert [settings[name] for name in ("recipe", "latent_weight", "num_steps")] == ["mine", 0.5, 3]


def test_a_page_of_its_own_is_opened_by_a_command_and_ended_by_ctrl_c(root, small, tmp_path):
    photo = tmp_path / "grey.png"
    Image.open(root / "data" / "president.jpg").convert("L").save(photo)
    command = [sys.executable, "-m", "ex5lib", "explore", photo, "--no-browser"]
    command += ["--generator", small, "--recipe", "smoke"]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    started = {"cwd": tmp_path, "env": environment, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **started) as program:
        try:
            lines = [program.stdout.readline(), program.stdout.readline()]
            address = re.fullmatch(r"the page is at (http://127\.0\.0\.1:\d+/\?token=[\w-]{20,})\n", lines[1])[1]
            with urllib.request.urlopen(address, timeout=PATIENCE) as page:
                assert b"<title>Explorer: grey.png</title>" in page.read()
            with urllib.request.urlopen(address.replace("/?", "/changes?"), timeout=PATIENCE) as news:
                damages = json.load(news)["values"]["state"]["damages"]  # examined like an uploaded photo
            assert any("grey" in damage["reason"] for damage in damages)
            program.send_signal(signal.SIGINT)
            assert program.stdout.read().endswith("ended\n")
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()
    assert list(tmp_path.iterdir()) == [photo]


def test_a_command_that_cannot_work_says_so_before_it_loads_anything(call, root):
    for arguments, words in (
        (["nobody.jpg"], "nobody.jpg"),
        (["--port", 99999], "The page cannot use port 99999 (there are ports from 0 to 65535)"),
    ):
        done = call("explore", *arguments, "--no-browser")
        assert done.exit_code == 1
        assert words in " ".join(done.output.split())
        assert "loading" not in done.output


def test_what_takes_seconds_to_import_is_loaded_on_first_use_only(root):
    """Help waits for nothing, a search not for plots and widgets, nor for PyTorch's compiler."""
    code = """
import sys
import ex5lib.cli.app
assert "torch" not in sys.modules
import torch, ex5lib.cli.jobs
from stylegan2_ada.mobile import MobileSynthesis
from ex5lib.inversion.adam import Adam
with torch.device("meta"):
    MobileSynthesis(preview_sizes=(128,))
Adam([x := torch.zeros(1, requires_grad=True)], (0.9, 0.99))
assert not {"ipywidgets", "matplotlib", "torch._dynamo"} & sys.modules.keys()
ex5lib.explore
assert "ipywidgets" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

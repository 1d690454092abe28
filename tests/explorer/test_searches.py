"""An exploration searches, restarts, stops, remembers and saves."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from explorations import (
    ALL,
    LONG,
    PAINTED,
    PATIENCE,
    QUICK,
    Gate,
    close_to,
    pixels,
    run_to_the_first_frame,
    search,
    state,
)
from PIL import Image

from ex5lib.degradations.known import GaussianBlur, Grayscale
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.explorer.choices import DEGRADATIONS, own_weight
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.inversion.plan import plan_search
from ex5lib.inversion.recipes import RECIPES, pick_recipe


def test_run_searches_what_restore_finds_with_the_same_settings(make, restored):
    one = make(degradation="blur", kernel_size=33, latent_weight=0.1)
    assert one.result is None
    run_to_the_first_frame(one)
    assert one.wait(PATIENCE)
    same = restored(GaussianBlur(33), pick_recipe(QUICK, latent_weight=0.1))
    assert torch.equal(one.result.result, same.result)
    assert close_to(one.board.values["result"], same.result)
    assert one.board.values["composite"] == b""
    assert re.fullmatch(rf"Done: 4 of 4 steps, \d+ s, d to the target {same.run.distance:.3f}\.", one.status)
    (column,) = one.board.values["numbers"]
    assert column["distance"] == pytest.approx(same.metrics["result and original"]["distance"])
    assert state(one)["phase"] == "idle"


def test_another_answer_is_the_one_that_restore_would_give_next(make, restored):
    one = make(degradation="grayscale", seed=4)
    one.another()
    assert one.wait(PATIENCE)
    assert torch.equal(one.result.result, restored(Grayscale(), seed=4, answers=2).others[0].result)


def test_a_hole_shows_the_composite_also_while_it_searches(make, face):
    one = make(degradation="inpaint", hole=(100, 60, 60, 60))
    frames = []
    one.board.listeners.append(lambda values: frames.append(values["composite"]) if "progress" in values else None)
    search(one)
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
    assert (state(one)["phase"], state(one)["live"]) == ("finishing", False)
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert one.result.stopped
    assert 0 < one.result.run.num_steps < LONG
    assert one.status.startswith(f"Stopped, best so far: {one.result.run.num_steps} of {LONG} steps")
    assert close_to(one.board.values["result"], one.result.result)
    one.run()  # a stopped search is not taken for the result of its settings
    assert state(one)["phase"] == "starting"


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
    run_to_the_first_frame(one)
    one.stop()
    assert one.wait(PATIENCE)
    found, curve = one.result, one.board.values["curve"]
    assert one.board.values["progress"] == {}
    one.change(latent_weight=0.1)
    assert one.status == "The settings have changed: press Run."
    assert {"result", "composite"} == set(state(one)["stale"])
    assert one.wait(0)
    one.change(latent_weight=0.001)  # of its own settings it is not out of date
    assert one.status.startswith("Stopped before: ")
    assert (one.result, state(one)["stale"]) == (found, [])
    one.change(latent_weight=0.1)
    run_to_the_first_frame(one)
    one.reset()  # in the middle of a search: what it has drawn is gone, the curve with it
    assert one.wait(PATIENCE)
    assert one.board.values["curve"] == curve


def test_a_search_for_a_hole_waits_until_something_is_painted(make):
    gate = Gate(3)
    one = make(distance=gate)
    one.run()
    assert gate.inside.wait(PATIENCE)
    one.handle({"do": "change", "degradation": "inpaint"})
    for act in ("run", "another"):
        assert (state(one)["unpainted"], state(one)["phase"]) == (True, "idle")
        assert one.status == "Nothing is painted yet: paint over what is to be replaced."
        one.handle({"do": act})
    assert not any(one.board.values["mask"])
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert (one.result, one.choice.answer) == (None, 0)
    assert not one.board.values["result"]  # what the search before it had drawn
    one.handle({"do": "paint", "stroke": 1}, PAINTED)  # it still follows
    assert one.wait(PATIENCE)
    assert one.result is not None
    one.handle({"do": "paint", "stroke": 2}, bytes(256 * 256 // 8))  # erased again
    assert (state(one)["unpainted"], state(one)["stale"]) == (True, ["result", "composite"])


def test_changes_can_be_told_to_wait_for_run(make):
    one = make(num_steps=3)
    one.handle({"do": "follow", "on": False})
    search(one)
    first = one.result
    one.change(latent_weight=0.1)
    assert (one.status, state(one)["live"]) == ("The settings have changed: press Run.", False)
    assert one.wait(0)
    one.handle({"do": "follow", "on": True})
    assert one.wait(0)  # this alone starts nothing
    one.run()
    assert state(one)["live"]
    search(one, latent_weight=0.2)
    assert one.result.run.settings["latent_weights"][0] == 0.2
    gate_free = len(one.shelf.found)
    one.handle({"do": "follow", "on": False})
    one.change(latent_weight=0.3)
    assert one.wait(PATIENCE)
    assert len(one.shelf.found) == gate_free
    assert first in [found.done for found in one.shelf.found]


def test_results_are_kept_so_that_going_back_shows_them_at_once(make, monkeypatch):
    monkeypatch.setattr("ex5lib.explorer.shelf.RESULTS_KEPT", 2)
    gate = Gate()
    one = make(distance=gate, latent_weight=0.001)
    search(one)
    first, frame = one.result, one.board.values["result"]
    search(one, latent_weight=1.0)
    second, calls = one.result, gate.calls
    assert second is not first
    assert one.board.values["previous"] == frame
    one.change(latent_weight=0.001 * (1 + 1e-12))  # as a browser computes it
    assert (one.result, one.board.values["result"]) == (first, frame)
    assert one.status.startswith("Found before: 4 of 4 steps")
    search(one, kernel_size=7)  # which no search without a blur reads
    assert (one.result, gate.calls) == (first, calls)
    one.handle({"do": "restore", "number": 2})
    assert (one.result, one.choice.latent_weight) == (second, 1.0)
    assert [entry["number"] for entry in one.board.values["history"]] == [1, 2]
    one.run()
    search(one, latent_weight=0.1)
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
    one = make(distance=gate, degradation="inpaint", hole=(164, 84, 44, 88))
    one.run()
    assert gate.inside.wait(PATIENCE)
    one.handle({"do": "paint", "stroke": 1}, ALL)
    assert "nothing of the photo is left" in one.status
    assert state(one)["error"]
    assert "target" in state(one)["stale"]
    shown = dict(one.board.values)
    gate.go_on.set()
    assert one.wait(PATIENCE)
    assert one.board.values == shown  # the search that is no longer wanted has drawn nothing
    assert one.result is None
    search(one, hole=[100, 84, 44, 88])  # makes sense again, and the search goes on
    assert one.result is not None


def test_what_cannot_work_is_one_sentence(make):
    one = make()
    for message, data, words in (
        (
            {"do": "change", "kernel_size": 24, "degradation": "blur"},
            b"",
            "must be 0 or an odd number from 0 to 255, not 24.",
        ),
        (
            {"do": "change", "kernel_size": "wide"},
            b"",
            'Width of the blur must be 0 or an odd number from 0 to 255, not "wide"',
        ),
        ({"do": "change", "seed": -1}, b"", "Seed must be a whole number from 0 to 9007199254740991, not -1."),
        ({"do": "change", "seed": 7.5}, b"", "not 7.5."),
        (
            {"do": "change", "latent_weight": 1e9},
            b"",
            "average face must be a number from 0 to 10, not 1000000000.0.",
        ),
        ({"do": "change", "degradation": "blurr"}, b"", 'did you mean "blur"'),
        (
            {"do": "change", "degradation": "faded colours", "fading": 2},
            b"",
            "How faded must be a number from 0 to 1, not 2.",
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
        ({"do": "paint", "stroke": 1}, bytes(100), "256 × 256 px has 8192 bytes, not 100"),
        ({"do": "another", "far": 1}, b"", "not known here"),
    ):
        one.reset()
        assert not state(one)["error"]
        before = one.choice
        one.handle(message, data)
        assert words in one.status
        assert state(one)["error"]
        assert state(one)["field"] in ("", *message)
        assert one.choice == before
        one.handle({"do": "change", "seed": 0})  # as it was: what was refused is corrected
        assert (one.status, state(one)["error"], state(one)["field"]) == ("Press Run.", False, "")


def test_another_degradation_brings_its_own_weight(make, generator):
    one = make(recipe=replace(QUICK, blurred_weight=0.02), num_steps=3)
    assert state(one)["own_weight"] == 0.001
    one.change(latent_weight=5.0)
    one.change(degradation="blur")
    assert (one.choice.latent_weight, state(one)["own_weight"]) == (None, 0.02)
    search(one)
    assert set(one.result.run.settings["latent_weights"]) == {0.02}
    one.change(latent_weight=0)
    search(one, kernel_size=11)  # the same task: what was set stays set
    assert set(one.result.run.settings["latent_weights"]) == {0.0}
    weights = plan_search(RECIPES["fast"], generator, Grayscale()).latent_weights.tolist()
    assert own_weight(weights)[0] == 1.0  # of the layers that make the colours


def test_distances_to_the_target_stand_side_by_side_only_for_one_task(make):
    one = make(latent_weight=0.001)
    search(one)
    search(one, latent_weight=1.0)
    result, previous = one.board.values["numbers"]
    assert (result["name"], previous["name"]) == ("result", "previous")
    assert None not in (result["target"], previous["target"])
    search(one, degradation="blur")
    previous = one.board.values["numbers"][1]
    assert previous["target"] is None
    assert previous["distance"] is not None  # to the original, which is the same
    search(one, damaged=True)
    (result,) = one.board.values["numbers"]  # there is no original, so the one before says nothing
    assert (result["distance"], result["pending"], result["original"]) == (None, False, False)
    assert one.result.original is None
    assert one.board.values["previous"]


@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_every_degradation_is_shown_and_searched(make, degradation):
    one = make(degradation=degradation, num_steps=3, hole=(164, 84, 44, 88))
    target, photo = (pixels(one.board.values[name]) for name in ("target", "photo"))
    assert (np.abs(target - photo).mean() < 0.1) == (degradation == "none")
    search(one)
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


def test_an_unexpected_error_is_said_and_the_next_search_runs(make, caplog):
    one = make(distance=Gate(3, lambda: 1 / 0))
    search(one)
    assert one.status == "This failed unexpectedly (ZeroDivisionError: division by zero)."
    assert "test_searches.py" in caplog.text  # where it happened
    search(one)
    assert one.result.run.num_steps == 4


def test_a_second_exploration_stops_the_search_of_the_first(make):
    first, second = make(num_steps=LONG), make()
    run_to_the_first_frame(first)
    second.run()
    assert first.status.startswith("Stopped, because another search began.")
    assert first.wait(PATIENCE)
    assert first.result.stopped
    assert second.wait(PATIENCE)
    assert second.result.run.num_steps == 4

"""Pivotal tuning: a copy of the generator learns the photo; the generator itself stays as it is."""

import numpy as np
import pytest
import torch
from squared_error import SquaredError

import ex5lib
from ex5lib import errors as e
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.projector import project
from ex5lib.inversion.recipes import Recipe
from ex5lib.inversion.stages import Stage
from ex5lib.inversion.tuning import tune
from stylegan2_ada import Generator, MobileSynthesis
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import load_generator_file, save_generator


@pytest.fixture
def settings() -> dict:
    return {"distance": SquaredError(), "device": "cpu", "progress": False}


def _searched(G, settings, *, seeds=(4,), degradation=None) -> Projection:
    degradation = degradation or torch.nn.Identity()
    with torch.no_grad():
        target = degradation(torch.cat([G.synthesis(ex5lib.sample_ws(G, seed)).clamp(-1, 1) for seed in seeds]))
    recipe = Recipe("short", (Stage(4),), clamp=True, optimize_noise=False, w_avg_samples=100)
    return project(G, target, degradation=degradation, recipe=recipe, snapshots=(), **settings)


@pytest.fixture
def stylegan2():
    return random_generator(torch.Generator().manual_seed(0), 64, channel_base=512, channel_max=16)


@pytest.mark.parametrize("kind", ["mobile", "stylegan2"])
def test_tuning_gives_the_photo_and_leaves_the_generator_alone(tiny_generator, stylegan2, settings, kind):
    G = tiny_generator if kind == "mobile" else stylegan2
    if kind == "mobile":
        G.synthesis.to_img_conv.weight.mul_(0.05)  # images in about [−1, 1]
    before = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    run, reports = _searched(G, settings, seeds=(4, 5)), []
    rate = 1e-4 if kind == "mobile" else 3e-3  # the weights of the former are small
    tuned, done = tune(G, run, num_steps=30, learning_rate=rate, callback=reports.append, **settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in G.state_dict().items())
    assert not any(p.requires_grad for p in (*G.parameters(), *tuned.parameters()))
    assert (done.distances < 0.9 * run.distances).all()
    errors = [(one.image.clamp(-1, 1) - one.target).square().mean() for one in (run, done)]
    assert errors[1] < 0.9 * errors[0]
    assert len(reports) == 30
    np.testing.assert_allclose(reports[0]["distance"], run.distance, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(tuned.synthesis(run.ws, run.noise), done.image)
    assert torch.equal(done.ws, run.ws)
    assert done.settings["tune"] == {"num_steps": 30, "learning_rate": rate, "pixel_weight": 1.0, "done": 30}
    assert "tune" not in run.settings


def test_a_tuned_generator_can_be_saved_and_loaded(tiny_generator, settings, tmp_path):
    run = _searched(tiny_generator, settings)
    tuned, _ = tune(tiny_generator, run, num_steps=2, **settings)
    save_generator(tuned, tmp_path / "tuned.safetensors")
    again = load_generator_file(tmp_path / "tuned.safetensors")
    assert torch.equal(again.synthesis(run.ws, run.noise), tuned.synthesis(run.ws, run.noise))


def test_only_what_is_known_is_tuned_to(tiny_generator, settings):
    """What lies in the hole has no influence at all."""
    hole = ex5lib.Inpaint(64, 64, 128, 128)
    run = _searched(tiny_generator, settings, degradation=hole)
    other = run.target.clone()
    other[:, :, 16:48, 16:48] = -1  # what Inpaint itself leaves there
    assert torch.equal(other, run.target)
    reports = []
    tune(tiny_generator, run, degradation=hole, num_steps=1, callback=reports.append, **settings)
    known = torch.ones(1, 1, 64, 64)
    known[:, :, 16:48, 16:48] = 0
    expected = ((reports[0]["image"] - run.target) * known).square().mean().item()
    assert reports[0]["pixel_error"] == pytest.approx(expected, rel=1e-4)


def test_a_callback_or_an_interrupt_ends_the_tuning_with_what_was_reached(tiny_generator, settings):
    run = _searched(tiny_generator, settings)

    def interrupt(report: dict) -> None:
        if report["step"] == 2:
            raise KeyboardInterrupt

    kept = [
        tune(tiny_generator, run, num_steps=9, callback=callback, **settings)[1]
        for callback in (lambda report: report["step"] == 2, interrupt)
    ]
    assert kept[0].distance == kept[1].distance != run.distance
    assert {one.settings["tune"]["done"] for one in kept} == {3}


def test_the_first_step_is_a_small_one(tiny_generator, settings):
    """Adam's first step moves every weight that has a gradient by the rate, here a third of its peak."""
    run = _searched(tiny_generator, settings)
    tuned, _ = tune(tiny_generator, run, num_steps=20, learning_rate=3e-4, callback=lambda _: True, **settings)
    pairs = zip(tiny_generator.synthesis.parameters(), tuned.synthesis.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) == pytest.approx(1e-4, rel=0.01)


def test_images_are_compared_as_in_the_search(tiny_generator, settings):
    hole = ex5lib.Inpaint(64, 64, 128, 128)
    target = hole(tiny_generator.synthesis(ex5lib.sample_ws(tiny_generator, 4)).clamp(-1, 1))
    recipe = Recipe("two", (Stage(2),), clamp=True, w_avg_samples=100)
    run, reports = project(tiny_generator, target, degradation=hole, recipe=recipe, **settings), []
    tune(tiny_generator, run, degradation=hole, num_steps=1, callback=reports.append, **settings)
    assert reports[0]["distance"] == pytest.approx(run.distance, rel=1e-4)


def test_a_tuned_copy_has_no_previews_of_what_it_was(tiny_generator, settings):
    synthesis = MobileSynthesis(32, (64, 64, 64), 64, preview_sizes=(32,))
    G = Generator(tiny_generator.mapping, synthesis).requires_grad_(False)
    tuned, _ = tune(G, _searched(G, settings), num_steps=1, **settings)
    assert (G.preview_sizes, tuned.preview_sizes) == ((32,), ())


def test_a_result_of_another_generator_is_refused(tiny_generator, stylegan2, settings):
    with pytest.raises(e.SettingError, match="by another generator"):
        tune(stylegan2, _searched(tiny_generator, settings), **settings)


@pytest.mark.parametrize(
    ("keywords", "error", "sentence"),
    [
        ({"num_steps": 0}, e.SettingError, "whole number from 1 up, not 0"),
        ({"num_steps": 2.5}, e.SettingError, "whole number from 1 up, not 2.5"),
        ({"num_steps": 1, "learning_rate": 1e30}, e.DivergedError, "lower the learning rate"),
        ({"learning_rate": -1.0}, e.SettingError, "learning_rate of a tuning must be positive"),
        ({"pixel_weight": float("nan")}, e.SettingError, "pixel_weight of a tuning"),
        ({"learning_rate": 1e30}, e.DivergedError, "lower the learning rate"),
        ({"device": "tpu"}, e.DeviceError, "use auto, cuda, mps or cpu"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(tiny_generator, settings, keywords, error, sentence):
    run = _searched(tiny_generator, settings)
    with pytest.raises(error, match=sentence):
        tune(tiny_generator, run, **settings | {"num_steps": 3} | keywords)

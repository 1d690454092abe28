"""Coarse to fine: previews, stages, batches and the warm start."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from squared_error import SquaredError

import ex5lib
from ex5lib import errors as e
from ex5lib import project
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, Noise
from ex5lib.degradations.probe import hidden_share
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.recipes import COURSE, FAST, RECIPES, Recipe
from ex5lib.inversion.stages import Stage, scaled
from ex5lib.inversion.warm_start import load_warm_start
from ex5lib.restoration.pipeline import TASKS
from stylegan2_ada.networks import random_generator


@pytest.fixture(scope="module")
def skip_generator():
    """An untrained StyleGAN2 at 64 px: its previews are its own colours at lower resolutions."""
    rng = torch.Generator().manual_seed(3)
    return random_generator(rng, 64, channel_base=1024, channel_max=32, z_dim=32, w_dim=32, mapping_layers=2)


@pytest.fixture
def settings() -> dict:
    return {"w_avg_samples": 200, "distance": SquaredError(), "device": "cpu", "progress": False}


def _target(G, seed: int) -> torch.Tensor:
    with torch.no_grad():
        return G.synthesis(ex5lib.sample_ws(G, seed)).clamp(-1, 1)


def test_previews_share_the_first_layers_exactly(generator):
    seen = {}
    hooks = [
        generator.synthesis.blocks[i].register_forward_hook(lambda *call, i=i: seen.setdefault(i, []).append(call[2]))
        for i in (3, 4)
    ]
    ws = ex5lib.sample_ws(generator, 5)
    with torch.no_grad():
        for size in (None, 128, 256):
            generator.synthesis(ws, None, size)
    for hook in hooks:
        hook.remove()
    assert len(seen[3]) == 3  # the image and both previews
    assert len(seen[4]) == 2  # the image and the larger preview
    assert all(torch.equal(features[0], other) for features in seen.values() for other in features[1:])


def test_previews_look_like_the_image(generator):
    errors = {128: [], 256: []}
    with torch.no_grad():
        for seed in range(50_000, 50_006):  # neither trained on nor reported
            ws = ex5lib.sample_ws(generator, seed, truncation_psi=0.7)
            image = generator.synthesis(ws)
            for size, values in errors.items():
                preview = generator.synthesis(ws, None, size)
                assert preview.shape == (1, 3, size, size)
                values.append((preview - resize_area(image, size)).square().mean().item())
    psnr = {size: np.mean([10 * np.log10(4 / error) for error in values]) for size, values in errors.items()}
    assert psnr[128] > 25.5
    assert psnr[256] > 28


def test_a_skip_networks_preview_is_its_image_so_far(skip_generator):
    assert skip_generator.preview_sizes == (4, 8, 16, 32)
    ws = ex5lib.sample_ws(skip_generator, 1)
    smaller = random_generator(
        torch.Generator(), 32, channel_base=1024, channel_max=32, z_dim=32, w_dim=32, mapping_layers=2
    )
    state = skip_generator.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()})  # the same network, one block less
    torch.testing.assert_close(skip_generator.synthesis(ws, None, 32), smaller.synthesis(ws[:, : smaller.num_ws]))
    assert set(skip_generator.noise_buffers(32)) == set(smaller.noise_buffers())
    orig = random_generator(torch.Generator(), 16, channel_max=8, architecture="orig")
    assert orig.preview_sizes == ()
    with pytest.raises(ValueError, match="images of 16 px, not 8"):
        orig.synthesis(torch.zeros(1, orig.num_ws, 512), None, 8)


def test_fast_searches_a_skip_network_coarse_to_fine(skip_generator, settings):
    target = _target(skip_generator, 4)
    stages = (Stage(6, 32), Stage(6, None, "w+", learning_rate=0.05))
    recipe = Recipe("mine", stages, start="warm", clamp=True)
    run = project(skip_generator, target, recipe=recipe, snapshots=[0, 9, 12], **settings)
    assert list(run.history["size"]) == [32] * 6 + [64] * 6
    assert run.settings["stages"][1]["space"] == run.settings["space"] == "w+"
    assert run.distance < run.history["distance"][6]
    assert {image.shape[-1] for image in run.snapshots.values()} == {64}
    torch.testing.assert_close(skip_generator.synthesis(run.ws, run.noise), run.image)
    named = project(skip_generator, target, recipe="fast", num_steps=12, **settings)
    assert named.num_steps == 12
    assert named.distance < named.history["distance"][0]


def test_a_stage_leaves_noise_alone_that_its_preview_does_not_use(skip_generator, settings):
    run = project(skip_generator, _target(skip_generator, 4), recipe=Recipe("mine", (Stage(3, 16),)), **settings)
    random = torch.Generator().manual_seed(0)
    for name, buffer in skip_generator.noise_buffers().items():
        drawn = torch.randn(buffer.shape, generator=random)
        assert torch.equal(run.noise[name], drawn) == (buffer.shape[-1] > 16)


@pytest.mark.parametrize("recipe", ["karras2020", "fast"])
def test_photos_of_a_batch_are_searched_as_each_would_be_alone(skip_generator, settings, distance, recipe):
    settings["distance"] = distance
    targets = torch.cat([_target(skip_generator, seed) for seed in (4, 5, 6)])
    # Few steps: Adam blows up rounding where gradients are near 0, and every further step multiplies it.
    together = project(skip_generator, targets, recipe=recipe, num_steps=4, latent_weight=0.1, **settings)
    assert len(together) == 3
    assert (together[0].image - together[1].image).abs().mean() > 0.05
    for run, target in zip(together, targets.split(1), strict=True):
        alone = project(skip_generator, target, recipe=recipe, num_steps=4, latent_weight=0.1, **settings)
        assert (run.image - alone.image).abs().mean() < 0.01
        for term in ("distance", "latent_distance", "noise_regularization", "learning_rate"):
            np.testing.assert_allclose(run.history[term], alone.history[term], rtol=2e-3)
        assert run.distance == pytest.approx(alone.distance, rel=2e-3)
    clamp, space = together.settings["clamp"], together.settings["space"]
    again = project(
        skip_generator, targets, recipe="karras2020", space=space, clamp=clamp, start=together, num_steps=2, **settings
    )
    assert [one.history["distance"][0] for one in again] == pytest.approx([one.distance for one in together], rel=1e-3)


def test_stepping_scales_with_the_stages():
    stages = [Stage(60, 128), Stage(30, 256), Stage(10)]
    assert [stage.num_steps for stage in scaled(stages, 50)] == [30, 15, 5]
    assert [stage.num_steps for stage in scaled(stages, 3)] == [1, 1, 1]
    assert sum(stage.num_steps for stage in scaled(stages, 77)) == 77


def test_a_space_for_all_stages_or_for_the_last(generator):
    planned = FAST.planned(generator)
    assert [(stage.size, stage.space) for stage in planned.stages] == [(128, "w"), (256, "w+"), (None, "w+")]
    for space in ("z", "w"):
        assert {stage.space for stage in FAST.planned(generator, {"space": space}).stages} == {space}
    assert FAST.planned(generator, {"space": "w+"}) == planned


class Sepia(torch.nn.Module):
    """A user's own degradation, which the project has never heard of: toned, and three rows are lost."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        toned = image.mean(dim=1, keepdim=True) * torch.tensor([1.0, 0.8, 0.6]).view(1, 3, 1, 1)
        return toned * (torch.arange(image.shape[2]) > 2).view(-1, 1)


class Overexposed(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return (image * 1.5).clamp(-1, 1)


@pytest.mark.parametrize(
    ("degradation", "hidden"),
    [
        (ex5lib.Identity(), False),
        (ex5lib.GaussianBlur(25), False),
        (Downsample(16), False),
        (Jpeg(10), False),
        (Noise(0.2), False),
        (Overexposed(), False),
        (ex5lib.Inpaint(64, 64, 8, 8), False),
        (ex5lib.Grayscale(), True),
        (Sepia(), True),
        (torch.nn.Sequential(ex5lib.Inpaint(64, 64, 32, 32), ex5lib.Grayscale()), True),
    ],
)
def test_the_layers_that_make_colours_are_held_where_they_are_hidden(generator, skip_generator, degradation, hidden):
    planned = FAST.planned(generator, degradation=degradation)
    weights = planned.layer_weights(16)
    if hidden:
        assert generator.synthesis.layer_resolutions[6:8] == (32, 64)
        np.testing.assert_allclose(planned.latent_weight * weights, [1e-3] * 7 + [0.4] * 9, rtol=1e-6)
    else:
        assert weights is None
    given = FAST.planned(generator, {"latent_weight": 0.5}, degradation=degradation)  # of all layers
    assert (given.latent_weight, given.layer_weights(16)) == (0.5, None)
    both = FAST.planned(generator, {"latent_weight": 0.5, "colorless_weight": 1.0}, degradation=degradation)
    assert (both.layer_weights(16) is None) != hidden
    of_ones_own = replace(FAST, color_layers=3).planned(generator, degradation=degradation)
    held = of_ones_own.latent_weight * of_ones_own.layer_weights(16)[2:4]
    assert held.tolist() == pytest.approx([of_ones_own.latent_weight, 0.4])
    for name in ("karras2020", "course", "robust2023"):  # as published
        assert RECIPES[name].planned(skip_generator, degradation=degradation).layer_weights(10) is None


@pytest.mark.parametrize(
    ("degradation", "first"),
    [
        (ex5lib.Identity(), None), (ex5lib.Grayscale(), None), (ex5lib.Inpaint(64, 64, 32, 32), None), (Jpeg(10), None),
        (ex5lib.GaussianBlur(9), 11), (ex5lib.GaussianBlur(25), 9), (ex5lib.GaussianBlur(41), 7), (Downsample(16), 7),
        (torch.nn.Sequential(Downsample(8), ex5lib.Grayscale()), 9),
    ],
)  # fmt: skip
def test_layers_far_finer_than_what_is_visible_are_tied(generator, skip_generator, degradation, first):
    recipe = Recipe("mine", (Stage(1, space="w+"),), tied_beyond=2.0)
    planned = recipe.planned(generator, degradation=degradation)
    assert planned.tied_from == first
    if first is not None:
        resolutions = generator.synthesis.layer_resolutions
        assert resolutions[first - 1] < resolutions[first]
    assert recipe.planned(generator, {"tied_from": 5}, degradation=degradation).tied_from == 5
    coarse = recipe.planned(skip_generator, degradation=degradation).tied_from
    assert coarse == (None if first is None or first > 7 else 7)  # at 64 px there is little that is so fine


def _hole(face_rows: int, around: bool = False) -> ex5lib.Inpaint:
    """A hole over the upper rows of the face, with or without all that is above and beside it."""
    return ex5lib.Inpaint(0, 0, 83 + face_rows, 256) if around else ex5lib.Inpaint(83, 57, face_rows, 145)


def test_w_is_held_to_the_mean_where_much_of_the_face_is_hidden(generator):
    """Much: more than a quarter of the square of 145 px in which FFHQ's crops have all from brows to chin."""
    background = 1 - ex5lib.Inpaint(70, 50, 170, 160).mask_for(torch.zeros(1, 3, 256, 256))
    for around in (False, True):
        assert hidden_share(_hole(29, around)) == pytest.approx(29 / 145)
    for little in (TASKS["inpainting"], _hole(36), _hole(36, True), ex5lib.Inpaint(mask=background)):
        assert FAST.planned(generator, degradation=little).latent_weight == 1e-3
    blur = ex5lib.GaussianBlur(9)
    eyes, left = ex5lib.Inpaint(92, 40, 44, 176), ex5lib.Inpaint(0, 0, 256, 128)
    for much in (_hole(37), _hole(37, True), eyes, left, torch.nn.Sequential(blur, _hole(80))):
        assert FAST.planned(generator, degradation=much).latent_weight == 0.1
        assert FAST.planned(generator, {"latent_weight": 0.02}, degradation=much).latent_weight == 0.02
        assert RECIPES["karras2020"].planned(generator, degradation=much).latent_weight == 1e-3
    assert FAST.planned(generator, {"hole_weight": 0.5}, degradation=_hole(80)).latent_weight == 0.5
    both = torch.nn.Sequential(blur, _hole(80))
    assert FAST.planned(generator, {"blurred_weight": 0.5}, degradation=both).latent_weight == 0.5
    grey = FAST.planned(generator, degradation=torch.nn.Sequential(_hole(80), ex5lib.Grayscale()))
    np.testing.assert_allclose(grey.latent_weight * grey.layer_weights(16), [0.1] * 7 + [0.4] * 9, rtol=1e-6)


def test_w_is_held_nearer_to_the_mean_where_detail_is_hidden(generator):
    blur, grey = ex5lib.GaussianBlur(9), ex5lib.Grayscale()
    for degradation in (ex5lib.Identity(), grey, Jpeg(10), ex5lib.Inpaint(64, 64, 32, 32), Noise(0.2)):
        assert FAST.planned(generator, degradation=degradation).latent_weight == 1e-3
    for degradation in (blur, Downsample(4), torch.nn.Sequential(ex5lib.Inpaint(64, 64, 32, 32), blur)):
        planned = FAST.planned(generator, degradation=degradation)
        assert (planned.latent_weight, planned.layer_weights(16)) == (0.02, None)
    both = FAST.planned(generator, degradation=torch.nn.Sequential(blur, grey))
    np.testing.assert_allclose(both.latent_weight * both.layer_weights(16), [0.02] * 7 + [0.4] * 9, rtol=1e-6)
    assert FAST.planned(generator, {"latent_weight": 1e-4}, degradation=blur).latent_weight == 1e-4
    assert RECIPES["karras2020"].planned(generator, degradation=blur).latent_weight == 1e-3


def test_tied_layers_move_together_and_keep_their_differences(skip_generator, settings):
    start = ex5lib.sample_ws(skip_generator, 1).repeat(1, 1, 1)
    start[:, 7] += 0.5
    recipe = Recipe("mine", (Stage(5, space="w+"),), tied_from=6, latent_weight=0.1)
    run = project(skip_generator, _target(skip_generator, 4), recipe=recipe, start=start, **settings)
    moved = run.ws - start
    for layer in range(7, skip_generator.num_ws):
        torch.testing.assert_close(moved[:, layer], moved[:, 6], rtol=1e-4, atol=1e-5)
    for layer in range(6):
        assert (moved[:, layer] - moved[:, 6]).norm() > 0.1
    assert moved.norm(dim=2).min() > 0.1
    assert run.settings["tied_from"] == 6


def test_tied_layers_that_a_preview_skips_follow_the_one_that_it_shows(skip_generator, settings):
    """Else the layers that are tied would come apart at the first stage, of which they see nothing."""
    shown = skip_generator.synthesis.styles_shared(16)
    recipe = Recipe("mine", (Stage(5, 16, "w+"),), tied_from=shown - 1, latent_weight=0.0, optimize_noise=False)
    run = project(skip_generator, _target(skip_generator, 4), recipe=recipe, **settings)
    mean = latent_statistics(skip_generator, num_samples=200, seed=0).w_avg
    moved = run.ws - mean
    assert moved[:, shown - 1].norm() > 0.1
    for layer in range(shown, skip_generator.num_ws):
        torch.testing.assert_close(moved[:, layer], moved[:, shown - 1], rtol=1e-4, atol=1e-5)
    free = project(skip_generator, run.target, recipe=replace(recipe, tied_from=None), **settings)
    assert (free.ws[:, shown:] == mean).all()


@pytest.mark.parametrize("name", ["course", "robust2023"])
def test_a_published_search_comes_nearer_to_a_damaged_photo(tiny_generator, settings, name):
    degradation = torch.nn.Sequential(ex5lib.GaussianBlur(9), ex5lib.Inpaint(64, 64, 64, 64), ex5lib.Grayscale())
    target = degradation(_target(tiny_generator, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the course's noise on w is not for this network
        run = project(
            tiny_generator,
            target,
            degradation=degradation,
            recipe=name,
            num_steps=30,
            **settings | {"w_avg_samples": 200},
        )
    assert run.history["distance"][-1] < 0.9 * run.history["distance"][0]
    assert run.settings["space"] == RECIPES[name].stages[-1].space
    assert run.settings["tied_from"] is None


def test_noise_of_all_layers_is_only_for_a_generator_that_stands_it(generator, skip_generator):
    statistics = latent_statistics(skip_generator, num_samples=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planned = COURSE.planned(skip_generator)
    of_all = planned.sigma(statistics, "w+", skip_generator)
    assert of_all == pytest.approx(statistics.w_std * skip_generator.num_ws**0.5)
    with pytest.warns(UserWarning, match="does not demodulate"):
        planned = COURSE.planned(generator)
    assert planned.sigma(statistics, "w+", generator) == statistics.w_std
    assert planned.sigma(statistics, "z", generator) == statistics.z_std


@pytest.mark.parametrize(("recipe", "as_seen"), [("fast", True), ("smoke", True), ("karras2020", False)])
def test_a_contrast_beyond_white_counts_only_where_the_paper_lets_it(skip_generator, settings, recipe, as_seen):
    target, images = _target(skip_generator, 4), []
    run = project(
        skip_generator, target, recipe=recipe, num_steps=4, initial_noise=None, **settings,
        callback=lambda report: images.append(report["image"].clone()),
    )  # fmt: skip
    assert images[0].abs().max() > 1.05
    distance = settings["distance"]
    small = resize_area(target, images[0].shape[-1])
    seen, made = (distance(image, small).item() for image in (images[0].clamp(-1, 1), images[0]))
    assert seen != pytest.approx(made, rel=1e-3)
    assert run.history["distance"][0] == pytest.approx(seen if as_seen else made, rel=1e-4)


def test_a_stage_takes_the_next_larger_preview(generator, skip_generator):
    recipe = Recipe("mine", (Stage(1, 24), Stage(1, 100), Stage(1, 200)))
    assert [stage.size for stage in recipe.planned(generator).stages] == [128, 128, 256]
    assert [stage.size for stage in recipe.planned(skip_generator).stages] == [32, None, None]


def test_every_recipe_is_recorded_as_it_was_used(skip_generator, settings):
    target = _target(skip_generator, 4)
    for name in RECIPES:
        run = project(skip_generator, target, recipe=name, num_steps=6, betas=(0.8, 0.9), **settings)
        planned = RECIPES[name].planned(skip_generator, {"num_steps": 6})
        assert (run.settings["recipe"], run.settings["num_steps"]) == (name, 6)
        assert run.settings["betas"] == [0.8, 0.9]
        assert run.settings["stages"] == [vars(stage) for stage in planned.stages]
        for field in ("start", "clamp", "noise_weight", "optimize_noise", "color_weight", "optimizer", "fill"):
            assert run.settings[field] == getattr(RECIPES[name], field)


def test_a_search_that_goes_on_adds_no_noise_to_w_unless_asked(generator):
    karras = RECIPES["karras2020"]
    assert karras.planned(generator).stages[0].initial_noise == 0.05
    assert karras.planned(generator, continued="w").stages[0].initial_noise == 0
    changed = karras.planned(generator, {"initial_noise": 0.1}, continued="w")
    assert changed.stages[0].initial_noise == 0.1


def test_noise_that_is_not_searched_stays_as_drawn(skip_generator, settings):
    run = project(skip_generator, _target(skip_generator, 4), num_steps=4, optimize_noise=False, **settings)
    random = torch.Generator().manual_seed(0)
    for name, buffer in skip_generator.noise_buffers().items():
        assert torch.equal(run.noise[name], torch.randn(buffer.shape, generator=random))
    assert (run.history["noise_regularization"] == 0).all()
    assert run.distance < run.history["distance"][0]


@pytest.mark.parametrize(
    ("keywords", "error", "sentence"),
    [
        ({"recipe": "karras2021"}, e.SettingError, 'did you mean "karras2020"'),
        # Also a value that one of its stages has: the caller believes that it is used.
        ({"recipe": "fast", "learning_rate": 0.1}, e.SettingError, "Each of the 3 stages of fast has its own learning"),
        ({"recipe": "fast", "num_steps": 2}, e.SettingError, "at least 3 steps, one for each stage, not 2"),
        ({"recipe": "karras2020", "learning_rat": 0.1}, e.SettingError, 'did you mean "learning_rate"'),
        ({"recipe": "karras2020", "stages": ()}, e.SettingError, 'no keyword of project\\(\\) "stages"'),
        ({"start": "median"}, e.SettingError, "mean, warm"),
        ({"target": torch.zeros(0, 3, 64, 64)}, e.SettingError, "at least one photo"),
    ],
)
def test_bad_recipes_are_refused_in_one_sentence(skip_generator, settings, keywords, error, sentence):
    target = keywords.pop("target", _target(skip_generator, 4))
    with pytest.raises(error, match=sentence):
        project(skip_generator, target, **settings, **keywords)


def test_bad_stages_are_refused_in_one_sentence():
    for keywords, sentence in (
        ({"num_steps": 0}, "at least 1 step"),
        ({"num_steps": 1, "space": "y"}, "Known: s, w, w\\+, z"),
        ({"num_steps": 1, "learning_rate": -1.0}, "learning_rate must be 0 or a positive number"),
        ({"num_steps": 1, "noise_ramp": 0.0}, "a positive share"),
    ):
        with pytest.raises(e.SettingError, match=sentence):
            Stage(**keywords)
    for stages, sentence in (
        ((), "at least one stage"),
        ((Stage(1, space="z"), Stage(1, space="w+")), "cannot be combined"),
        ((Stage(1, space="w+"), Stage(1, space="w")), "narrower space cannot follow"),
    ):
        with pytest.raises(e.SettingError, match=sentence):
            Recipe("mine", stages)
    for keywords in (
        {"betas": (0.9,)},
        {"w_avg_samples": 1},
        {"comparison_sizes": ()},
        {"comparison_sizes": (8,)},
        {"optimizer": "adma"},
        {"optimizer": "normalized"},
        {"start": "median"},
        {"tied_beyond": -1.0},
        {"color_layers": 7},  # without a weight of their own
    ):
        with pytest.raises(e.SettingError):
            Recipe("mine", (Stage(1),), **keywords)


def test_the_warm_start_is_for_the_w_that_it_was_fitted_to(generator, skip_generator):
    assert load_warm_start(generator) is not None
    assert load_warm_start(skip_generator) is None


def test_other_features_than_the_warm_starts_own_begin_at_the_mean(generator, astronaut, distance, settings):
    class AnotherDistance(ex5lib.PerceptualDistance):
        def __init__(self):
            super().__init__(device="cpu")
            self.kind = "another"

    first = {}
    for d in (distance, AnotherDistance()):
        settings |= {"distance": d, "num_steps": 1, "snapshots": ()}
        run = project(generator, astronaut.image, recipe="smoke", **settings)
        first[d.kind] = run.history["latent_distance"][0]
    assert first["another"] == 0 < first["vgg16"]


def test_the_warm_start_is_nearer_than_the_mean_face(generator, distance, astronaut):
    regression = load_warm_start(generator)
    photo = resize_area(astronaut.image, 256)
    with torch.no_grad():
        for degradation in (ex5lib.Identity(), ex5lib.GaussianBlur(25), ex5lib.Grayscale()):
            target = degradation(photo)
            w = regression(target, distance)
            assert w.shape == (1, 512)
            images = [generator.synthesis(v.expand(1, 16, -1), size=256) for v in (generator.w_avg, w)]
            at_mean, warm = (distance(degradation(image), target).item() for image in images)
            assert warm < 0.85 * at_mean

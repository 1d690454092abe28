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
from ex5lib.degradations.probe import hidden_share, reach, visible_resolution
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.plan import latent_weights, plan_search, tied_layers
from ex5lib.inversion.recipes import COURSE, FAST, RECIPES, Recipe, pick_recipe
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


@pytest.mark.slow
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
    assert (together[0].image - together[1].image).abs().mean() > 0.03
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
    slower = [replace(stage, shortened=0.5) for stage in stages]
    assert [stage.learning_rate for stage in scaled(stages, 50)] == [stage.learning_rate for stage in stages]
    quarter = scaled(slower, sum(stage.num_steps for stage in stages) // 4)
    for before, after in zip(stages, quarter, strict=True):
        assert after.learning_rate == pytest.approx(before.learning_rate * (after.num_steps / before.num_steps) ** 0.5)
    longer = scaled(slower, 2 * sum(stage.num_steps for stage in stages))
    assert [stage.learning_rate for stage in longer] == [stage.learning_rate for stage in stages]


def test_a_space_for_all_stages_or_for_the_last():
    assert [(stage.size, stage.space) for stage in FAST.stages] == [(128, "w"), (256, "w+"), (None, "w+")]
    for space in ("z", "w"):
        assert {stage.space for stage in pick_recipe("fast", space=space).stages} == {space}
    assert pick_recipe("fast", space="w+") == FAST
    assert [stage.space for stage in pick_recipe(replace(FAST, stages=(Stage(1), Stage(1))), space="w+").stages] == [
        "w", "w+",
    ]  # fmt: skip


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
    assert generator.synthesis.layer_resolutions[6:8] == (32, 64)
    detail = 0.05 if visible_resolution(degradation) < 256 else 1e-3
    held = [detail] * 7 + [1.0 if hidden else detail] * 9
    np.testing.assert_allclose(latent_weights(FAST, generator, degradation), held, rtol=1e-6)
    for name in ("karras2020", "course"):  # as published
        assert set(latent_weights(RECIPES[name], skip_generator, degradation).tolist()) == {1e-3}


def test_a_latent_weight_that_is_typed_holds_for_all_layers_unless_what_is_hidden_is_typed_too(generator):
    grey, blur, hole = ex5lib.Grayscale(), ex5lib.GaussianBlur(9), _hole(80)
    for degradation in (grey, blur, hole):
        weights = latent_weights(pick_recipe("fast", latent_weight=0.5), generator, degradation)
        assert set(weights.tolist()) == {0.5}
    both = latent_weights(pick_recipe("fast", latent_weight=0.5, colorless_weight=1.0), generator, grey)
    assert both.tolist() == [0.5] * 7 + [1.0] * 9
    none = latent_weights(pick_recipe("fast", latent_weight=0.0), generator, grey)
    assert not none.any()
    assert latent_weights(replace(FAST, latent_weight=0.0), generator, grey)[-1] == 1.0  # a recipe says all


@pytest.mark.parametrize(
    ("degradation", "first"),
    [
        (ex5lib.Identity(), 16), (ex5lib.Grayscale(), 16), (ex5lib.Inpaint(64, 64, 32, 32), 16), (Jpeg(10), 16),
        (ex5lib.GaussianBlur(9), 11), (ex5lib.GaussianBlur(25), 9), (ex5lib.GaussianBlur(41), 7), (Downsample(16), 7),
        (torch.nn.Sequential(Downsample(8), ex5lib.Grayscale()), 9),
    ],
)  # fmt: skip
def test_layers_far_finer_than_what_is_visible_are_tied(generator, skip_generator, degradation, first):
    recipe = Recipe("mine", (Stage(1, space="w+"),), tied_beyond=2.0)
    assert tied_layers(recipe, generator, degradation) == first
    if first < 16:
        resolutions = generator.synthesis.layer_resolutions
        assert resolutions[first - 1] < resolutions[first]
    coarse = tied_layers(recipe, skip_generator, degradation)
    assert coarse == (7 if first <= 7 else 10)  # at 64 px there is little that is so fine
    assert tied_layers(replace(recipe, tied_beyond=None), generator, degradation) == 16


def _hole(face_rows: int, around: bool = False) -> ex5lib.Inpaint:
    """A hole over the upper rows of the face, with or without all that is above and beside it."""
    return ex5lib.Inpaint(0, 0, 83 + face_rows, 256) if around else ex5lib.Inpaint(83, 57, face_rows, 145)


def test_the_more_of_the_face_is_hidden_the_more_w_is_held_to_the_mean(generator):
    """By the square of the share of 145 px, in which FFHQ's crops have all from brows to chin, up to 0.1."""
    background = 1 - ex5lib.Inpaint(70, 50, 170, 160).mask_for(torch.zeros(1, 3, 256, 256))
    for around in (False, True):
        assert hidden_share(_hole(29, around)) == pytest.approx(29 / 145)
        for rows in (15, 29, 45):
            assert list(_weights(FAST, generator, _hole(rows, around))) == [pytest.approx((rows / 145) ** 2)]
    for little in (_hole(4), ex5lib.Inpaint(mask=background)):
        assert _weights(FAST, generator, little) == {1e-3}
    (mouth,), (eyes,) = (_weights(FAST, generator, D) for D in (TASKS["inpainting"], ex5lib.Inpaint(92, 40, 44, 176)))
    assert 0.03 < mouth < 0.04 < 0.09 < eyes < 0.1
    both = torch.nn.Sequential(ex5lib.GaussianBlur(9), _hole(80))
    for much in (_hole(46), _hole(46, True), ex5lib.Inpaint(0, 0, 256, 128), both):
        assert _weights(FAST, generator, much) == {0.1}
        assert _weights(RECIPES["karras2020"], generator, much) == {1e-3}
    assert _weights(replace(FAST, blurred_weight=0.5), generator, both) == {0.5}
    assert _weights(replace(FAST, latent_weight=0.5), generator, _hole(80)) == {0.5}
    grey = torch.nn.Sequential(_hole(80), ex5lib.Grayscale())
    assert _weights(FAST, generator, grey) == {0.1, 1.0}


def _looks(plan) -> bool:
    return any(stage.on_face(i) for stage in plan.stages for i in range(stage.num_steps))


def test_the_face_is_looked_at_alone_where_there_is_more_to_see(generator, skip_generator):
    """Not where the degradation or the photo hides detail, nor by a small generator or a published recipe."""
    for D in (ex5lib.Identity(), ex5lib.Grayscale(), ex5lib.Inpaint(64, 64, 32, 32), Overexposed(), Mirror()):
        assert _looks(plan_search(FAST, generator, D))
    for D in (ex5lib.GaussianBlur(9), Downsample(4), torch.nn.Sequential(ex5lib.Grayscale(), ex5lib.GaussianBlur(25))):
        assert not _looks(plan_search(FAST, generator, D))
    assert not _looks(plan_search(FAST, generator, TASKS["inpainting"]))
    identity = ex5lib.Identity()
    assert not _looks(plan_search(FAST, generator, identity, 256))
    assert _looks(plan_search(FAST, generator, identity, 512))
    assert not _looks(plan_search(FAST, skip_generator, identity))
    assert all(stage.face_every is None for name in ("karras2020", "course") for stage in RECIPES[name].stages)
    assert not _looks(plan_search(FAST, generator, Swapped()))  # the face of D(x) is made of x's edges
    first, *_, last = plan_search(FAST, generator, identity).stages
    assert not first.on_face(first.num_steps - 1)
    looks = [last.on_face(i) for i in range(last.num_steps)]
    assert (looks[:30], sum(looks)) == ([False] * 29 + [True], 41)


class Mirror(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.flip(3)


class Swapped(torch.nn.Module):
    """The left half on the right, and the other way round."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.roll(image.shape[3] // 2, dims=3)


def test_what_a_degradation_reaches_into_is_found_by_trying():
    window = (160, 128, 256, 256)
    for D, margin in (
        (ex5lib.Identity(), 0), (TASKS["inpainting"], 0), (Mirror(), 0), (ex5lib.GaussianBlur(3), 16),
        (ex5lib.GaussianBlur(25), 32), (Swapped(), None), (ex5lib.GaussianBlur(255), None),
    ):  # fmt: skip
        assert reach(D, window, 512) == margin, D


def test_the_descriptor_is_asked_only_where_the_photo_shows_the_face(generator):
    for D in (ex5lib.Identity(), ex5lib.GaussianBlur(25), ex5lib.Grayscale(), ex5lib.Inpaint(64, 64, 32, 32)):
        assert plan_search(FAST, generator, D).identity_weight == FAST.identity_weight > 0
    for D in (TASKS["inpainting"], _hole(15), ex5lib.Inpaint(0, 0, 256, 128)):
        assert plan_search(FAST, generator, D).identity_weight == 0
    assert plan_search(FAST, generator, _hole(14)).identity_weight == FAST.identity_weight


def test_layers_of_hidden_colours_are_held_to_what_the_first_stage_finds(generator):
    for D, first in ((ex5lib.Identity(), 16), (ex5lib.Grayscale(), 7), (Sepia(), 7)):
        assert plan_search(FAST, generator, D).held_from == first
    assert plan_search(RECIPES["karras2020"], generator, ex5lib.Grayscale()).held_from == 16
    assert plan_search(pick_recipe("fast", latent_weight=0.1), generator, ex5lib.Grayscale()).held_from == 16


def _weights(recipe: Recipe, G, degradation) -> set[float]:
    return set(latent_weights(recipe, G, degradation).tolist())


def test_w_is_held_nearer_to_the_mean_where_detail_is_hidden(generator):
    blur, grey = ex5lib.GaussianBlur(9), ex5lib.Grayscale()
    for degradation in (ex5lib.Identity(), Jpeg(10), ex5lib.Inpaint(64, 64, 32, 32), Noise(0.2)):
        assert _weights(FAST, generator, degradation) == {1e-3}
    for degradation in (blur, Downsample(4), torch.nn.Sequential(ex5lib.Inpaint(64, 64, 32, 32), blur)):
        assert _weights(FAST, generator, degradation) == {0.05}
    assert _weights(FAST, generator, torch.nn.Sequential(blur, grey)) == {0.05, 1.0}
    assert _weights(RECIPES["karras2020"], generator, blur) == {1e-3}


def test_tied_layers_move_together_and_keep_their_differences(skip_generator, settings):
    start = ex5lib.sample_ws(skip_generator, 1).repeat(1, 1, 1)
    start[:, 8] += 0.5
    blur, recipe = ex5lib.GaussianBlur(41), Recipe("mine", (Stage(5, space="w+"),), tied_beyond=2.0, latent_weight=0.1)
    run = project(skip_generator, blur(_target(skip_generator, 4)), blur, recipe, start=start, **settings)
    assert run.settings["tied_from"] == 7
    moved = run.ws - start
    for layer in range(8, skip_generator.num_ws):
        torch.testing.assert_close(moved[:, layer], moved[:, 7], rtol=1e-4, atol=1e-5)
    for layer in range(7):
        assert (moved[:, layer] - moved[:, 7]).norm() > 0.01
    assert moved.norm(dim=2).min() > 0.01


def test_tied_layers_that_a_preview_skips_follow_the_one_that_it_shows(skip_generator, settings):
    """Else the layers that are tied would come apart at the first stage, of which they see nothing."""
    blur, shown = ex5lib.GaussianBlur(41), skip_generator.synthesis.styles_shared(32)
    recipe = Recipe("mine", (Stage(5, 32, "w+"),), tied_beyond=1.0, latent_weight=0.0, optimize_noise=False)
    run = project(skip_generator, blur(_target(skip_generator, 4)), blur, recipe, **settings)
    assert run.settings["tied_from"] < shown < skip_generator.num_ws
    mean = latent_statistics(skip_generator, num_samples=200, seed=0).w_avg
    moved = run.ws - mean
    assert moved[:, shown - 1].norm() > 0.1
    for layer in range(shown, skip_generator.num_ws):
        torch.testing.assert_close(moved[:, layer], moved[:, shown - 1], rtol=1e-4, atol=1e-5)
    free = project(skip_generator, run.target, blur, replace(recipe, tied_beyond=None), **settings)
    assert (free.ws[:, shown:] == mean).all()


def test_the_courses_search_comes_nearer_to_a_damaged_photo(tiny_generator, settings):
    degradation = torch.nn.Sequential(ex5lib.GaussianBlur(9), ex5lib.Inpaint(64, 64, 64, 64), ex5lib.Grayscale())
    target = degradation(_target(tiny_generator, 4))
    with pytest.warns(UserWarning, match="does not demodulate"):  # noise of all layers is not for this network
        run = project(tiny_generator, target, degradation, "course", num_steps=30, **settings)
    assert run.history["distance"][-1] < 0.9 * run.history["distance"][0]
    assert (run.settings["space"], run.settings["tied_from"]) == ("w+", tiny_generator.num_ws)


def test_noise_of_all_layers_is_only_for_a_generator_that_tolerates_it(generator, skip_generator):
    identity = ex5lib.Identity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan_search(COURSE, skip_generator, identity).sigma_scale == pytest.approx(skip_generator.num_ws**0.5)
    with pytest.warns(UserWarning, match="does not demodulate"):
        assert plan_search(COURSE, generator, identity).sigma_scale == 1
    assert plan_search(FAST, skip_generator, identity).sigma_scale == 1


@pytest.mark.parametrize(("recipe", "as_seen"), [("fast", True), ("smoke", True), ("karras2020", False)])
def test_a_contrast_beyond_white_counts_only_where_the_paper_lets_it(skip_generator, settings, recipe, as_seen):
    target, images = _target(skip_generator, 4), []
    run = project(
        skip_generator, target, recipe=recipe, num_steps=4, **settings,
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
    for G, sizes in ((generator, [128, 128, 256]), (skip_generator, [32, None, None])):
        assert [stage.size for stage in plan_search(recipe, G, ex5lib.Identity()).stages] == sizes


def test_every_recipe_is_recorded_as_it_was_used(skip_generator, settings):
    target = _target(skip_generator, 4)
    for name, recipe in RECIPES.items():
        run = project(skip_generator, target, recipe=name, num_steps=6, betas=(0.8, 0.9), **settings)
        plan = plan_search(pick_recipe(name, num_steps=6), skip_generator, ex5lib.Identity())
        assert (run.settings["recipe"], run.settings["num_steps"]) == (name, 6)
        assert run.settings["betas"] == [0.8, 0.9]
        assert run.settings["stages"] == [vars(stage) for stage in plan.stages]
        assert run.settings["latent_weights"] == plan.latent_weights.tolist()
        for field in ("start", "clamp", "noise_weight", "optimize_noise", "color_weight", "hole_weight"):
            assert run.settings[field] == getattr(recipe, field)


def test_a_search_that_goes_on_adds_no_noise_to_w_and_keeps_layers_that_differ(skip_generator, settings):
    assert pick_recipe("karras2020").stages[0].initial_noise == 0.05
    target = _target(skip_generator, 4)
    in_w, in_w_plus = (project(skip_generator, target, num_steps=2, space=space, **settings) for space in ("w", "w+"))
    differing = ex5lib.sample_ws(skip_generator, 1) + torch.arange(skip_generator.num_ws).view(1, -1, 1)
    for start, space in ((in_w, "w"), ([in_w, in_w_plus], "w+"), (in_w_plus, "w+"), (differing, "w+")):
        recipe = pick_recipe("karras2020", start=start)
        assert (recipe.stages[0].initial_noise, recipe.stages[0].space) == (0, space)
        assert pick_recipe(recipe, start=start) == recipe
        with pytest.raises(e.SettingError, match="leave out initial_noise"):
            pick_recipe("karras2020", start=start, initial_noise=0.1)
    with pytest.raises(e.SettingError, match="use w\\+"):
        pick_recipe("karras2020", start=in_w_plus, space="w")
    of_styles = replace(in_w, settings=in_w.settings | {"space": "s"})
    with pytest.raises(e.SettingError, match="begin at the result's ws"):
        pick_recipe("karras2020", start=of_styles)
    for start in (None, "mean", ex5lib.sample_ws(skip_generator, 1)):
        assert pick_recipe("karras2020", start=start).stages == RECIPES["karras2020"].stages
    assert pick_recipe("fast", start="mean") == replace(FAST, start="mean")


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
        ({"recipe": "karras2020", "stages": ()}, e.SettingError, 'no setting of a search "stages"'),
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
        ({"num_steps": 0}, "whole number from 1 up"),
        ({"num_steps": 1, "space": "y"}, "Known: w, w\\+, z"),
        ({"num_steps": 1, "learning_rate": -1.0}, "learning_rate must be 0 or a positive number"),
        ({"num_steps": 1, "noise_ramp": 0.0}, "a positive share"),
    ):
        with pytest.raises(e.SettingError, match=sentence):
            Stage(**keywords)
    for stages, sentence in (
        ((), "at least one stage"),
        ((Stage(1, space="z"), Stage(1, space="w+")), "cannot be combined"),
        ((Stage(1, space="w+"), Stage(1, space="w")), "in w cannot follow"),
    ):
        with pytest.raises(e.SettingError, match=sentence):
            Recipe("mine", stages)
    for keywords in (
        {"betas": (0.9,)},
        {"w_avg_samples": 1},
        {"start": "median"},
        {"tied_beyond": -1.0},
        {"hole_weight": -1.0},
    ):
        with pytest.raises(e.SettingError):
            Recipe("mine", (Stage(1),), **keywords)


def test_the_warm_start_is_for_the_w_that_it_was_fitted_to(generator, skip_generator):
    assert load_warm_start(generator) is not None
    assert load_warm_start(skip_generator) is None


@pytest.mark.slow
def test_other_features_than_the_warm_starts_own_begin_at_the_mean(generator, astronaut, distance, settings):
    class AnotherDistance(ex5lib.PerceptualDistance):
        def __init__(self):
            super().__init__(device="cpu")
            self.kind, self.fits_warm_start = "another", False

    first = {}
    for d in (distance, AnotherDistance()):
        settings |= {"distance": d, "num_steps": 1, "snapshots": ()}
        run = project(generator, astronaut.image, recipe="smoke", **settings)
        first[d.kind] = run.history["latent_distance"][0]
    assert first["another"] == 0 < first["vgg16"]


@pytest.mark.slow
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

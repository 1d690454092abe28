"""The loop of ``project`` against a plain loop written out here, and on a real photo at full size."""

from dataclasses import replace

import pytest
import torch
from squared_error import SquaredError
from torch import Tensor

import ex5lib
from ex5lib import devices, project
from ex5lib.faces.descriptor import chip, load_descriptor
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.losses import noise_regularization, renormalize_noise
from ex5lib.inversion.plan import plan_search
from ex5lib.inversion.recipes import Recipe
from ex5lib.inversion.recorder import Best
from ex5lib.inversion.stages import Stage
from stylegan2_ada import Generator, MobileSynthesis
from stylegan2_ada.networks import random_generator


@pytest.fixture
def G(tiny_generator) -> Generator:
    """The tiny generator with a preview of 32 px, whose images reach a little beyond [−1, 1]."""
    torch.manual_seed(6)
    synthesis = MobileSynthesis(w_dim=32, channels=(64, 64, 64), const_channels=64, preview_sizes=(32,))
    synthesis.load_state_dict(tiny_generator.synthesis.state_dict(), strict=False)
    synthesis.to_img_conv.weight.data.mul_(0.1)
    return Generator(tiny_generator.mapping, synthesis).eval().requires_grad_(False)


@pytest.fixture
def finer_generator() -> Generator:
    """One at 128 px: some of its layers are finer than those that make shapes."""
    random = torch.Generator().manual_seed(7)
    return random_generator(random, 128, channel_base=1024, channel_max=16, w_dim=32, z_dim=32, mapping_layers=2)


BLUR, GREY = ex5lib.GaussianBlur(9), ex5lib.Grayscale()
SEARCHES = {
    "stages": (BLUR, Recipe(
        "stages",
        stages=(Stage(5, 32, "w", learning_rate=0.05), Stage(6, None, "w+", learning_rate=0.02, rampdown=0.5)),
        betas=(0.6, 0.8), clamp=True, color_weight=0.2, latent_weight=1e-3, noise_weight=3.0, w_avg_samples=100,
    )),
    "published": (BLUR, Recipe("published", (Stage(8, initial_noise=0.3, noise_ramp=0.5),), w_avg_samples=100)),
    "noise as drawn": (BLUR, Recipe(
        "noise as drawn", (Stage(6, None, "w+"),), optimize_noise=False, w_avg_samples=100, clamp=True
    )),
    "course": (BLUR, Recipe(
        "course", (Stage(6, None, "w+", initial_noise=0.05),), mean_absolute=True, latent_weight=0.1, w_avg_samples=100
    )),
    "held": (torch.nn.Sequential(BLUR, GREY), Recipe(
        "held", (Stage(4, 32), Stage(6, None, "w+"), Stage(3, None, "w+")), colorless_weight=0.5, blurred_weight=0.1,
        optimize_noise=False, w_avg_samples=100,
    )),
    "identity": (BLUR, Recipe("identity", (Stage(6),), identity_weight=2.0, optimize_noise=False, w_avg_samples=100)),
}  # fmt: skip


def plain_search(G: Generator, target: Tensor, D, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    """The same search for one photo, from the formulas."""
    statistics = latent_statistics(G, num_samples=recipe.w_avg_samples, seed=0)
    random = torch.Generator().manual_seed(0)
    n = {name: torch.randn(buffer.shape, generator=random) for name, buffer in G.noise_buffers().items()}
    w = statistics.w_avg.view(1, 1, -1).clone()
    center = statistics.w_avg.expand(1, G.num_ws, -1).clone()
    finer = [i for i, size in enumerate(G.synthesis.layer_resolutions) if size > 32]
    face = slice(160, 416), slice(128, 384)  # rows and columns at 512 px
    for number, stage in enumerate(recipe.stages):
        if number == 1 and recipe.colorless_weight:
            center[:, finer] = w.detach()
        w = (w.expand(1, G.num_ws, -1) if stage.space == "w+" else w).detach().clone().requires_grad_()
        searched = {name: n[name].requires_grad_() for name in G.noise_buffers(stage.size)}
        searched = searched if recipe.optimize_noise else {}
        adam = torch.optim.Adam([w, *searched.values()], betas=recipe.betas)
        for step in range(stage.num_steps):
            t = step / stage.num_steps
            adam.param_groups[0]["lr"] = stage.rate(t)
            noise = torch.randn(w.shape, generator=random)
            noise = noise * stage.initial_noise * statistics.w_std * max(0, 1 - t / stage.noise_ramp) ** 2
            ws = (w + noise).expand(1, G.num_ws, -1)
            used = ws
            if stage.size == 32 and stage.space == "w+":
                used = torch.cat([ws[:, :5], ws[:, 5:].detach()], dim=1)
            x = G.synthesis(used, noise=n, size=stage.size)
            x = x.clamp(-1, 1) if recipe.clamp else x
            looks_at_face = stage.face_every and step >= 3 and step % 3 == 2
            if looks_at_face:
                x, y = D(x)[:, :, *face], target[:, :, *face]
            else:
                x = D(torch.nn.functional.avg_pool2d(x, max(x.shape[-1] // 256, 1)))
                y = torch.nn.functional.avg_pool2d(target, target.shape[-1] // x.shape[-1])
            small = [torch.nn.functional.avg_pool2d(image, image.shape[-1] // 16) for image in (x, y)]
            away = ws - center
            norms = away.abs().mean(dim=2) if recipe.mean_absolute else away.norm(dim=2)
            weights = torch.full((G.num_ws,), recipe.blurred_weight or recipe.latent_weight)
            if recipe.colorless_weight:
                weights[finer] = 0.5
            loss = (x - y).square().mean() + recipe.color_weight * (small[0] - small[1]).abs().mean()
            if recipe.identity_weight and not looks_at_face:
                fx, fy = (load_descriptor()(chip(image)) for image in (x, y))
                loss = loss + recipe.identity_weight * (fx - fy).square().sum()
            loss = loss + (weights * norms).sum() / G.num_ws + recipe.noise_weight * noise_regularization(searched)
            adam.zero_grad()
            loss.sum().backward()
            adam.step()
            renormalize_noise(searched)
    return w.detach(), {name: buffer.detach() for name, buffer in n.items()}


class Shifted(torch.nn.Module):
    """Moves an image to the right by a hundredth of its side, and darkens the lower half: another D in every place."""

    def forward(self, image: Tensor) -> Tensor:
        side = image.shape[-1]
        light = torch.where(torch.arange(side) < side // 2, 1.0, 0.5)
        return image.roll(side // 100, dims=3) * light[:, None]


def test_looks_at_the_face_alone_are_the_formulas(monkeypatch):
    random = torch.Generator().manual_seed(7)
    G = random_generator(random, 512, channel_base=2048, channel_max=16, w_dim=16, z_dim=16, mapping_layers=2)
    target = Shifted()(G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1))
    recipe = Recipe(
        "looks", (Stage(10, None, "w+", face_every=3, face_from=0.3),), identity_weight=2.0, color_weight=0.2,
        clamp=True, optimize_noise=False, w_avg_samples=100,
    )  # fmt: skip
    settings = {"distance": SquaredError(), "device": "cpu", "progress": False, "snapshots": ()}
    seen, compared = [], []
    monkeypatch.setattr(Best, "update", lambda _, step: compared.append(step.face))
    run = project(G, target, Shifted(), recipe, callback=lambda report: seen.append(report["image"]), **settings)
    w, _ = plain_search(G, target, Shifted(), recipe)
    torch.testing.assert_close(run.latent, w, rtol=1e-3, atol=1e-4)
    assert (run.latent - latent_statistics(G, num_samples=100).w_avg).norm() > 0.5  # it went somewhere
    assert list(run.schedule["face"]) == [0, 0, 0, 0, 0, 1, 0, 0, 1, 0]
    assert list(run.schedule["size"]) == [512] * 10
    assert compared == [False] * 8  # a face's score says nothing about which image is best
    assert all(image.shape == (1, 3, 512, 512) for image in seen)
    changed = (seen[5] != seen[4]).any(dim=1)[0].nonzero()  # only the face, and the margin that D needs
    assert changed.min(dim=0).values.tolist() == [160 - 16, 128 - 16]
    assert changed.max(dim=0).values.tolist() == [415 + 16, 383 + 16]


def test_a_stage_that_begins_with_a_look_shows_whole_images_too():
    random = torch.Generator().manual_seed(7)
    G = random_generator(random, 512, channel_base=2048, channel_max=16, w_dim=16, z_dim=16, mapping_layers=2)
    stages = (Stage(2, 128), Stage(2, None, "w+", face_every=1))
    recipe = Recipe("looks", stages, optimize_noise=False, w_avg_samples=100)
    seen = []
    target = G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1)
    settings = {"distance": SquaredError(), "device": "cpu", "progress": False, "snapshots": ()}
    run = project(G, target, recipe=recipe, callback=lambda report: seen.append(report), **settings)
    assert [report["face"] for report in seen] == [False, False, True, True]
    for report in seen[2:]:
        ws = report["latent"].expand(-1, G.num_ws, -1)
        whole = G.synthesis(ws, report["noise"])
        face = (slice(None), slice(None), slice(160, 416), slice(128, 384))
        torch.testing.assert_close(report["image"][face], whole[face], atol=1e-4, rtol=0)
        assert report["image"].shape == whole.shape
    assert run.image.shape == (1, 3, 512, 512)


def test_without_colours_a_search_in_z_runs_and_a_result_that_is_continued_keeps_its_colours(finer_generator):
    G, (D, recipe) = finer_generator, SEARCHES["held"]
    recipe = replace(recipe, colorless_weight=20.0)
    target = D(G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1))
    settings = {"distance": SquaredError(), "device": "cpu", "progress": False, "snapshots": ()}
    assert project(G, target, D, recipe, space="z", **settings).num_steps == 13
    found = project(G, target, D, replace(recipe, colorless_weight=0.0), **settings)
    finer = [i for i, size in enumerate(G.synthesis.layer_resolutions) if size > 32]
    again = project(G, target, D, recipe, start=found, **settings)
    moved, away = ((ws - found.ws)[:, finer].norm(dim=2).mean() for ws in (again.ws, latent_statistics(G).w_avg))
    assert moved < 0.3 * away


@pytest.mark.parametrize("name", SEARCHES)
def test_the_loop_is_the_formulas(G, finer_generator, name):
    D, recipe = SEARCHES[name]
    if name == "held":
        G = finer_generator
        assert plan_search(recipe, G, D).held_from < G.num_ws
    target = D(G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1))
    run = project(G, target, D, recipe, distance=SquaredError(), device="cpu", progress=False, snapshots=())
    w, noise = plain_search(G, target, D, recipe)
    torch.testing.assert_close(run.latent, w, rtol=1e-3, atol=1e-4)
    for buffer in noise:
        torch.testing.assert_close(run.noise[buffer], noise[buffer], rtol=1e-2, atol=2e-3)
    assert (run.ws - latent_statistics(G, num_samples=100).w_avg).norm() > 0.5  # it went somewhere
    random = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(buffer.shape, generator=random) for name, buffer in G.noise_buffers().items()}
    of_size = {name: drawn[name] for name in G.noise_buffers(recipe.stages[0].size)} if recipe.optimize_noise else {}
    first = noise_regularization(of_size).item()
    assert run.history["noise_regularization"][0] == pytest.approx(first, rel=1e-4)  # only of buffers that are used


@pytest.mark.slow
def test_a_real_photo_comes_nearer_at_full_size(generator, distance, astronaut):
    settings = {"num_steps": 6, "snapshots": [0], "device": "cpu", "progress": False}
    run = project(generator, astronaut.image, distance=distance, **settings)
    assert run.image.shape == (1, 3, 1024, 1024)
    small, start, photo = (resize_area(i, 256) for i in (run.image, run.snapshots[0], astronaut.image))
    at_mean, found = distance(start, photo).item(), distance(small, photo).item()
    assert 5 < at_mean < 6.5
    assert found < 0.8 * at_mean
    assert found == pytest.approx(run.distance, rel=1e-4)


def test_a_preview_does_not_move_the_styles_that_it_only_guesses_at(G):
    assert G.synthesis.styles_shared(32) == 5
    recipe = Recipe("preview", (Stage(6, 32, "w+"),), latent_weight=0.1, w_avg_samples=100)
    target = G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1)
    start = ex5lib.sample_ws(G, 3)
    run = project(G, target, recipe=recipe, start=start, distance=SquaredError(), device="cpu", progress=False)
    assert torch.equal(run.ws[:, 5:], start[:, 5:])  # nor does λ_w pull them to the mean
    assert (run.ws[:, :5] - start[:, :5]).norm(dim=2).min() > 0.05


@pytest.mark.slow
def test_the_search_begins_at_the_mean_or_the_regression_whichever_is_nearer(generator, distance, astronaut):
    """The mean face's own image is nearest to the mean face; a photo is nearer to what is regressed for it."""
    settings = {"distance": distance, "recipe": "smoke", "num_steps": 1, "device": "cpu", "progress": False}
    statistics = latent_statistics(generator, num_samples=1000)
    with torch.no_grad():
        mean_face = generator.synthesis(statistics.w_avg.expand(1, 16, -1), "none").clamp(-1, 1)
    both = torch.cat([mean_face, astronaut.image])
    run = project(generator, both, statistics=statistics, **settings)
    at_mean, at_photo = (one.history["latent_distance"][0] for one in run)
    assert at_mean == pytest.approx(0, abs=1e-5)
    assert at_photo > 1


def test_a_module_that_is_elsewhere_is_copied_and_left_where_it_is(tiny_generator):
    here, there = torch.device("cpu"), torch.device("meta")
    assert devices.on_device(here, tiny_generator) is tiny_generator
    copied = devices.on_device(there, tiny_generator)
    assert {tensor.device for tensor in copied.state_dict().values()} == {there}
    assert {tensor.device for tensor in tiny_generator.state_dict().values()} == {here}

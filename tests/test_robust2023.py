"""The baseline of Poirier-Ginter and Lalonde 2023: its styles in place of the network's own, its steps and its fill."""

import json

import pytest
import torch
import torch.nn.functional as F

from benchmarks import quality
from benchmarks.robust2023 import Found, given_styles, own_styles, robust2023, step
from ex5lib.degradations.known import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.inversion.latents import latent_statistics, sample_ws
from ex5lib.weights import load_generator
from stylegan2_ada.generator import Generator
from stylegan2_ada.mobile import PreviewHead


@pytest.fixture(params=["stylegan2", "mobile"])
def G(request, small, tiny_generator) -> Generator:
    """A small network of either family; one has a preview, whose styles are none of the image's."""
    if request.param == "stylegan2":
        return load_generator(small, "cpu")
    tiny_generator.synthesis.previews["32"] = PreviewHead(32, 64, num_ws=3)
    return tiny_generator


@pytest.fixture
def search(G, distance):
    def run(target: torch.Tensor, degradation: torch.nn.Module | None = None, **settings) -> Found:
        settings |= {"degradation": degradation or Identity(), "octaves": (32, 16), "device": "cpu"}
        return robust2023(G, target, distance=distance, **settings)

    return run


@pytest.fixture
def face(G) -> torch.Tensor:
    return G.synthesis(sample_ws(G, 4)).clamp(-1, 1)


def test_the_networks_own_styles_make_its_own_image_and_each_of_them_counts(G):
    ws = sample_ws(G, 1)
    image, styles = G.synthesis(ws), own_styles(G.synthesis, ws)
    with given_styles(G.synthesis, styles):
        assert torch.equal(G.synthesis(sample_ws(G, 2)), image)
    for affine, style in styles.items():
        with given_styles(G.synthesis, styles | {affine: style + 1}):
            assert not torch.equal(G.synthesis(ws), image)


def test_a_network_that_was_given_styles_makes_its_own_again_even_after_an_error(G):
    ws = sample_ws(G, 1)
    image, styles = G.synthesis(ws), own_styles(G.synthesis, sample_ws(G, 2))
    with given_styles(G.synthesis, styles):
        assert not torch.equal(G.synthesis(ws), image)
    assert torch.equal(G.synthesis(ws), image)
    narrow = {affine: style[:, :3] for affine, style in styles.items()}
    with pytest.raises(RuntimeError, match=r"size|shape"), given_styles(G.synthesis, narrow):
        G.synthesis(ws)
    assert torch.equal(G.synthesis(ws), image)


def test_a_step_moves_every_w_by_exactly_the_rate(G, search, face):
    w_avg = latent_statistics(G, seed=0).w_avg
    target = torch.cat([face, -face])
    in_w, in_w_plus = (search(target, num_steps=3, rates=rates).ws - w_avg for rates in ((0.3, 0, 0), (0, 0.2, 0)))
    torch.testing.assert_close(in_w.norm(dim=2), torch.full((2, G.num_ws), 0.3), rtol=1e-4, atol=0)
    torch.testing.assert_close(in_w_plus.norm(dim=2), torch.full((2, G.num_ws), 0.2), rtol=1e-4, atol=0)
    assert (in_w == in_w[:, :1]).all()
    assert (F.cosine_similarity(in_w_plus[:, :1], in_w_plus[:, 1:], dim=2) < 0.99).all()


def test_a_step_goes_along_the_gradient_of_its_own_alone():
    w = torch.zeros(2, 3, 4, requires_grad=True)
    for g in (torch.full_like(w, 100.0), torch.full_like(w, -0.01)):
        before = w.detach().clone()
        (g * w).sum().backward()
        step(w, {}, 0.5)
        torch.testing.assert_close(w.detach() - before, -0.25 * g.sign())  # 0.5 / √4 in each dimension


def test_a_step_in_styles_is_that_of_a_w_of_each_channels_own(G, search, face):
    ws, random = sample_ws(G, 1), torch.Generator().manual_seed(0)
    styles = own_styles(G.synthesis, ws)
    for affine, style in styles.items():
        expected = style.requires_grad_().detach().clone()
        for _ in range(2):
            ds = torch.randn(style.shape, generator=random)
            (1e3 * ds * style).sum().backward()
            step(ws, {affine: style}, 0.2)
            g = ds[0, :, None] * affine.weight  # [C, w_dim]: a gradient for the w of each channel
            expected -= (affine.weight * 0.2 * g / g.norm(dim=1, keepdim=True)).sum(dim=1)
        torch.testing.assert_close(style.detach(), expected)
    nowhere, moved = (search(face, num_steps=3, rates=(0, 0, rate)) for rate in (0.0, 0.1))
    assert torch.equal(moved.ws, nowhere.ws)
    assert moved.distance < nowhere.distance


def test_what_is_in_the_hole_does_not_count(search, face):
    hole = Inpaint(top=64, left=64, height=96, width=128)
    target = hole(face)
    found = search(target, hole, num_steps=3)
    painted = torch.where(hole.mask_for(face).bool(), 0.5, target)
    assert torch.equal(search(painted, hole, num_steps=3).image, found.image)
    start = search(target, hole, num_steps=0)
    assert start.distance > 0.1
    assert search(hole(start.image), hole, num_steps=0).distance < 1e-6


def test_it_comes_nearer_to_a_damaged_photo(search, face):
    damage = torch.nn.Sequential(GaussianBlur(9), Inpaint(64, 64, 64, 64), Grayscale())
    start, end = (search(damage(face), damage, num_steps=steps, rates=(0.3, 0.1, 0.02)) for steps in (0, 12))
    assert end.num_steps == 12
    assert end.distance < 0.9 * start.distance
    assert 0 < end.latent_distance <= 4 * (0.3 + 0.1)


def test_the_recorded_cells_are_of_this_search():
    cells = json.loads(quality.RECORD.read_text(encoding="utf-8"))
    of_this = {key for key in cells if key.startswith("robust2023")}
    assert len(of_this) == 12
    assert of_this <= quality._recorded().keys()

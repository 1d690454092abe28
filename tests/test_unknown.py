"""Degradations whose parameters are found with w, and what a photo says about its damage."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import nn

import ex5lib
from ex5lib import GaussianBlur, Grayscale, Identity, Inpaint, project
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, Noise, compositor
from ex5lib.degradations.probe import hides_color
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters, with_found
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import crop_quad, load_face
from ex5lib.images.tensors import from_uint8, resize_area, to_uint8
from ex5lib.inversion.plan import latent_weights, tied_layers
from ex5lib.inversion.recipes import FAST, Recipe
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.diagnosis import blur_sigma, diagnosed, examine, grain_levels, less_blurred
from ex5lib.restoration.metrics import face_mask, psnr
from ex5lib.restoration.paint import painted_region

MOUTH = Inpaint(top=164, left=84, height=44, width=88)
BAR = Inpaint(top=20, left=120, height=200, width=6)
SEPIA = torch.tensor([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])  # of colours in [0, 1]


class Sepia(nn.Module):
    """The usual filter, which clips what is bright: red first, then green."""

    def forward(self, image):
        return torch.einsum("ij,njhw->nihw", SEPIA, (image + 1) / 2).clamp(0, 1) * 2 - 1


class Coded(nn.Module):
    """What the real codec makes of an image."""

    def __init__(self, quality):
        super().__init__()
        self.quality = quality

    def forward(self, image):
        file = io.BytesIO()
        Image.fromarray(to_uint8(image)).save(file, "JPEG", quality=self.quality)
        return from_uint8(np.asarray(Image.open(file)))


@pytest.fixture(scope="module")
def faces(root, samples) -> dict[str, torch.Tensor]:
    """Aligned faces at 256 px: photos and generated ones."""
    photos = {name: load_face(root / "data" / name).image for name in ("astronaut.png", "officer.jpg", "president.jpg")}
    return {
        name: resize_area(face, 256) for name, face in (photos | {f"sample {i}": samples[i] for i in range(8)}).items()
    }


@pytest.mark.parametrize("size", [64, 256])
def test_an_unknown_blur_is_the_known_one_of_its_sigma(faces, size):
    image = resize_area(faces["astronaut.png"], size)
    for sigma in (1.0, 4.1):
        known = GaussianBlur(2 * int(np.ceil(3 * sigma)) + 1, sigma)
        assert psnr(UnknownBlur(sigma)(image).detach(), known(image)) > 55
    blur = UnknownBlur(16).double()
    small = image[:, :, -24:, -24:].double()  # 1.5 px of 24
    slope = torch.autograd.grad(blur(small).square().sum(), blur.log_sigma)[0]
    sharper, softer = (UnknownBlur(16 * np.exp(step)).double()(small).square().sum() for step in (-1e-4, 1e-4))
    assert slope.item() == pytest.approx(((softer - sharper) / 2e-4).item(), rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_blur_is_found_with_the_face(generator, distance, sigma):
    """From the true w in a preview: what is left to find is how blurred it is."""
    ws = ex5lib.sample_ws(generator, 5, truncation_psi=0.7)
    with torch.no_grad():
        target = GaussianBlur(2 * int(3 * sigma) + 1, sigma)(generator.synthesis(ws, size=128).clamp(-1, 1))
    asked = nn.Sequential(UnknownBlur(), Identity())
    recipe = Recipe("mine", (Stage(18, 128, "w", learning_rate=0.01),), optimize_noise=False, betas=(0.9, 0.95))
    run = project(
        generator, target, degradation=asked, recipe=recipe, start=ws[:, :1], distance=distance, device="cpu",
        progress=False, snapshots=(), w_avg_samples=100,
    )  # fmt: skip
    found = with_found(asked, run.settings["found"])
    assert found[0].sigma == pytest.approx(sigma, rel=0.1)
    assert f"sigma={found[0].sigma:.3g}" in run.settings["degradation"]
    assert asked[0].sigma == pytest.approx(2)  # the caller's is left as it was
    assert run.settings["found"].keys() == unknown_parameters(asked).keys() == {"0.log_sigma"}
    if sigma == 4.0:
        once = replace(recipe, stages=(replace(recipe.stages[0], num_steps=1),))
        again = project(
            generator, target, degradation=asked, recipe=once,
            start=run, distance=distance, device="cpu", progress=False, snapshots=(), w_avg_samples=100,
        )  # fmt: skip
        assert with_found(asked, again.settings["found"])[0].sigma == pytest.approx(found[0].sigma, rel=0.06)


def test_colours_that_faded_are_found_as_a_map_of_colours(small, distance):
    """From the true w: what is left to find is the map."""
    G = ex5lib.load_generator(small, device="cpu")
    ws = ex5lib.sample_ws(G, 3, truncation_psi=0.7)  # an image of many colours
    true = torch.tensor([[0.8, 0.1, 0.0], [0.0, 0.7, 0.1], [0.1, 0.1, 0.5]])
    with torch.no_grad():
        faded = torch.einsum("ij,njhw->nihw", true, G.synthesis(ws).clamp(-1, 1)) + 0.1
    recipe = Recipe("mine", (Stage(40, learning_rate=0.0),), optimize_noise=False, color_weight=1.0, clamp=True)
    run = project(
        G, faded, degradation=UnknownColors(), recipe=recipe, start=ws[:, :1], distance=distance,
        device="cpu", progress=False, snapshots=(), w_avg_samples=100,
    )  # fmt: skip
    colors = run.terms["color_distance"][:, 0]
    assert colors[-1] < 0.3 * colors[0]
    torch.testing.assert_close(torch.tensor(run.settings["found"]["matrix"]), true, atol=0.25, rtol=0)


def test_what_can_tint_a_grey_image_hides_its_colours(generator):
    assert hides_color(UnknownColors())
    assert hides_color(nn.Sequential(UnknownBlur(), UnknownColors()))
    assert not hides_color(UnknownBlur())
    assert latent_weights(FAST, generator, UnknownColors())[-1] == FAST.colorless_weight
    assert latent_weights(FAST, generator, UnknownBlur())[-1] == FAST.blurred_weight


@pytest.mark.slow
def test_layers_are_tied_by_what_is_known_of_the_blur_when_a_stage_begins(generator, distance):
    """A search that begins with a gentle blur and finds a strong one ties more layers in its last stage."""
    with torch.no_grad():
        image = generator.synthesis(ex5lib.sample_ws(generator, 5, truncation_psi=0.7), size=128).clamp(-1, 1)
    stage = Stage(6, 128, "w", learning_rate=0.0)
    recipe = replace(FAST, stages=(stage, replace(stage, num_steps=1)), start="mean")
    run = project(
        generator, GaussianBlur(41)(image), degradation=UnknownBlur(2.2), recipe=recipe, distance=distance,
        device="cpu", progress=False, snapshots=(), w_avg_samples=100,
    )  # fmt: skip
    begun = tied_layers(FAST, generator, UnknownBlur(2.2))
    ended = tied_layers(FAST, generator, with_found(UnknownBlur(), run.settings["found"]))
    assert ended < begun
    assert run.settings["tied_from"] == ended


def test_a_faded_photo_keeps_its_detail_and_gets_its_colours_back(faces):
    face = faces["astronaut.png"]
    fading = UnknownColors()
    generated = GaussianBlur(9)(face)  # the right colours without the detail
    for matrix in (SEPIA, torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.1], [0.1, 0.2, 0.4]])):
        fading.matrix.data, fading.shift.data = matrix.clone(), torch.tensor([0.05, 0.0, -0.05])
        with torch.no_grad():
            photo = fading(face)
        whole = fading.composite(photo, generated)
        assert psnr(whole, face) > psnr(generated, face) + 6
        assert psnr(fading(whole).detach(), photo) > 35


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 4.0, 6.0])
def test_the_spectrum_tells_how_blurred_a_face_is(faces, sigma):
    blur = GaussianBlur(2 * int(np.ceil(3 * sigma)) + 1, sigma)
    found = np.array([blur_sigma(from_uint8(to_uint8(blur(face)))) for face in faces.values()])
    assert np.median(found) == pytest.approx(sigma, abs=max(0.1 * sigma, 0.2))
    assert np.abs(found / sigma - 1).max() < 0.25


@pytest.mark.parametrize("later", [Coded(60), Coded(90), Noise(0.03), Noise(0.08)], ids=["60", "90", "fine", "coarse"])
def test_neither_jpeg_nor_grain_hide_that_a_face_was_blurred(faces, later):
    """As in any scan: what was added after the blur has a spectrum of its own."""
    assert max(blur_sigma(from_uint8(to_uint8(later(face)))) for face in faces.values()) < 1.2
    for sigma in (2.0, 4.0):
        found = [blur_sigma(from_uint8(to_uint8(later(GaussianBlur(31, sigma)(face))))) for face in faces.values()]
        assert np.median(found) == pytest.approx(sigma, rel=0.15)
        assert min(found) > 0.6 * sigma


@pytest.mark.slow
@pytest.mark.parametrize("percent", [150, 300])
def test_a_face_that_a_camera_has_sharpened_is_sharp(root, percent):
    for name in ("officer.jpg", "vice-president.jpg"):
        face = load_face(root / "data" / name)
        sharpened = Image.fromarray(to_uint8(face.photo)).filter(ImageFilter.UnsharpMask(2, percent, 0))
        assert blur_sigma(resize_area(face.crop(from_uint8(np.asarray(sharpened))), 256)) < 1


def test_a_face_blurred_beyond_recognition_is_called_blurred(faces):
    for sigma in (15.0, 40.0):
        found = [blur_sigma(from_uint8(to_uint8(GaussianBlur(241, sigma)(face)))) for face in faces.values()]
        assert min(found) > 5  # how strongly cannot be told any more


def test_a_photo_that_is_sharper_than_the_blur_it_is_said_to_have_is_noticed(faces):
    """Also beside a loss of colour; not where there is nothing to notice."""
    face = next(iter(faces.values()))
    for sigma in (1.7, 2.5, 4.0):
        photo = GaussianBlur(51, sigma)(face)
        for ratio in (0.5, 0.75, 1.0, 1.33):
            assert less_blurred(photo, GaussianBlur(51, sigma * ratio)) is None
        for D in (GaussianBlur(51, sigma * 1.6), torch.nn.Sequential(GaussianBlur(51, sigma * 1.6), Grayscale())):
            own, assumed = less_blurred(D[1:](photo) if isinstance(D, torch.nn.Sequential) else photo, D)
            assert own == pytest.approx(sigma, rel=0.1)
            assert assumed == pytest.approx(1.6 * sigma, rel=0.1)
    assert less_blurred(face, GaussianBlur(15))[0] < 1
    grain = Noise(0.1), Noise(0.4)
    for D in (Identity(), Grayscale(), Inpaint(92, 40, 44, 176), UnknownBlur(), *grain, GaussianBlur(3)):
        assert less_blurred(face, D) is None
    hole = nn.Sequential(Inpaint(92, 40, 44, 176), GaussianBlur(25))  # its edge is sharp in such a photo
    assert less_blurred(face, hole) is None


def test_a_photo_that_is_as_blurred_as_is_said_is_taken_so_also_in_a_file(faces):
    for face in faces.values():
        small = resize_area(face, 256)
        for D in map(GaussianBlur, (9, 17, 25, 63)):  # the last one too strong to be measured
            for kept in (D(face), from_uint8(to_uint8(D(small))), Coded(50)(D(small))):
                assert less_blurred(kept, D) is None


DAMAGES = [
    (Identity(), []),
    (Noise(0.1), [Noise]),
    (Coded(90), []),
    (GaussianBlur(13), [UnknownBlur]),
    (Grayscale(), [Grayscale]),
    (Sepia(), [UnknownColors]),
    (MOUTH, [Inpaint]),
    (BAR, [Inpaint]),
    (Coded(10), [Jpeg]),
    (nn.Sequential(GaussianBlur(13), Noise(0.1), Grayscale(), MOUTH), [UnknownBlur, Noise, Grayscale, Inpaint]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("degradation", "kinds"), DAMAGES, ids=[repr(d).replace("\n", "") for d, _ in DAMAGES])
def test_a_photos_damage_is_named(faces, degradation, kinds):
    for name, face in faces.items():
        damages = examine(load_face(from_uint8(to_uint8(degradation(face))), aligned=True))
        assert [type(damage.degradation) for damage in damages] == kinds, (name, [d.reason for d in damages])
        if Inpaint in kinds:
            hole = damages[-1].degradation.mask_for(face)[0, 0] > 0.5
            true = BAR if degradation is BAR else MOUTH
            assert (hole >= (true.mask_for(face)[0, 0] > 0.5)).all()
            assert hole.float().mean() < 0.02 + true.mask.mean()
        for noise in (damage.degradation for damage in damages if isinstance(damage.degradation, Noise)):
            assert (noise.sigma, noise.size) == (pytest.approx(0.1, rel=0.2), 256)
        if Jpeg in kinds:
            assert damages[0].degradation.quality == pytest.approx(10, abs=1)


@pytest.mark.parametrize("side", [43, 100, 160])
def test_a_small_face_is_said_to_be_small_and_what_else_it_is(astronaut, side):
    """Only a blur that its size would show is looked for: 3 px of 160 is one, and is 4.8 of 256."""
    scale = side / np.linalg.norm(astronaut.quad[3] - astronaut.quad[0])
    small = Image.fromarray(to_uint8(astronaut.photo)).resize([round(512 * scale)] * 2, Image.Resampling.LANCZOS)
    quad = (astronaut.quad + 0.5) * scale - 0.5
    blurred = small.convert("L").filter(ImageFilter.GaussianBlur(3)).convert("RGB")
    for picture, kinds in ((small, [Downsample]), (blurred, [UnknownBlur] * (side > 64) + [Downsample, Grayscale])):
        photo = from_uint8(np.asarray(picture))
        face = replace(astronaut, photo=photo, quad=quad, image=crop_quad(photo, quad, 512))
        damages = examine(face)
        assert [type(damage.degradation) for damage in damages] == kinds
        if UnknownBlur in kinds:
            assert damages[0].degradation.sigma == pytest.approx(3 * 256 / side, rel=0.2)
    assert f"{side} px wide" in damages[-2].reason


@pytest.mark.parametrize(("name", "side"), [("astronaut.png", 173), ("officer.jpg", 200), ("president.jpg", 400)])
def test_grain_is_told_from_sharpened_detail(root, name, side):
    """Grain of known strength in a photo's own pixels, and none in what a filter or JPEG made of them."""
    face = load_face(root / "data" / name)
    scale = side / np.linalg.norm(face.quad[3] - face.quad[0])
    height, width = (round(length * scale) for length in face.photo.shape[2:])
    sound = Image.fromarray(to_uint8(face.photo)).resize((width, height), Image.Resampling.LANCZOS)
    quad = (face.quad + 0.5) * scale - 0.5

    def levels(picture):
        return grain_levels(replace(face, photo=from_uint8(np.asarray(picture)), quad=quad))

    for picture in (sound, Image.fromarray(to_uint8(Coded(75)(from_uint8(np.asarray(sound)))))):
        assert levels(picture) is None
        assert levels(picture.filter(ImageFilter.UnsharpMask(2, 250, 0))) is None
    for sigma in (3.5, 9, 20):  # the first is hardly seen
        noisy = np.asarray(sound) + np.random.default_rng(0).normal(0, sigma, (height, width, 1))
        found = levels(noisy.clip(0, 255).round().astype(np.uint8))
        assert found is None if sigma < 4 else found == pytest.approx(sigma, rel=0.2)


def test_grain_of_a_large_face_is_that_of_means_of_its_pixels(samples):
    noisy = (samples[3] + 0.2 * torch.randn(samples[3].shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    in_luma = 0.2 * 127.5 * 0.669
    assert grain_levels(load_face(noisy, aligned=True)) == pytest.approx(in_luma / 2, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("colour", "width"), [(238, 7), (30, 3)])
def test_a_thin_scratch_is_seen(root, colour, width):
    face = load_face(Image.open(root / "data" / "vice-president.jpg").convert("L").convert("RGB"))
    scratched = Image.fromarray(to_uint8(face.photo))
    line = [(230, 160), (280, 260), (330, 400), (420, 540)]
    ImageDraw.Draw(scratched).line(line, fill=(colour,) * 3, width=width)
    photo = from_uint8(np.asarray(scratched))
    grey, hole = examine(replace(face, photo=photo, image=face.crop(photo)))
    assert isinstance(grey.degradation, Grayscale)
    painted = ((face.crop(photo) - face.image).abs() > 0.1)[0, 0]
    found = hole.degradation.mask_for(face.image)[0, 0] > 0.5
    assert found[painted].float().mean() > 0.98
    near = nn.functional.max_pool2d(painted.float()[None], 33, stride=1, padding=16)[0] > 0
    assert not found[~near].any()  # neither the eye nor the mouth that it crosses


def test_a_dark_line_that_could_be_hair_or_glasses_is_no_scratch(astronaut):
    image = resize_area(astronaut.image, 512)
    lines = {
        "through": [(250, 100), (300, 420)], "a strand": [(256, 130), (262, 330)],
        "a frame": [(90, 245), (420, 262)], "beside": [(60, 60), (64, 400)],
    }  # fmt: skip
    for what, line in lines.items():
        picture = Image.fromarray(to_uint8(image))
        ImageDraw.Draw(picture).line(line, fill=(30, 30, 30), width=3)
        assert (painted_region(from_uint8(np.asarray(picture))) is not None) == (what == "through"), what


@pytest.mark.parametrize("what", ["scratches", "letters"])
def test_white_scratches_and_letters_are_seen(astronaut, what):
    painted = Image.new("L", (512, 512))
    draw = ImageDraw.Draw(painted)
    if what == "scratches":
        for x in (200, 225, 250):
            draw.line([(x, 40), (x + 6, 110), (x - 4, 210)], fill=255, width=3)
    else:
        draw.text((160, 100), "SAMPLE", font=ImageFont.load_default(28), fill=255, stroke_width=1)
    white = from_uint8(np.asarray(painted.convert("RGB"))) > 0
    photo = torch.where(white, torch.tensor(0.97), astronaut.photo)
    (hole,) = (
        damage.degradation
        for damage in examine(replace(astronaut, photo=photo, image=astronaut.crop(photo)))
        if isinstance(damage.degradation, Inpaint)
    )
    inside = face_mask(astronaut.image, 1024)[0, 0] > 0.5
    true = (astronaut.crop(white.float() * 2 - 1)[0, 0] > 0) & inside
    found = (hole.mask_for(astronaut.image)[0, 0] > 0.5) & inside
    assert found[true].float().mean() > 0.95
    assert found.float().mean() < 3 * true.float().mean()


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "middle"), [(2, 0.5), (1.6, 0)], ids=["hard", "overexposed"])
def test_what_was_too_dark_or_too_light_for_the_photo_is_not_called_painted(root, gain, middle):
    for name in ("officer.jpg", "president.jpg", "vice-president.jpg"):
        face = load_face(root / "data" / name)
        photo = ((Grayscale()(face.photo) + 1 - 2 * middle) * gain + 2 * middle - 1).clamp(-1, 1)
        clipped = replace(face, photo=photo, image=face.crop(photo))
        assert [type(damage.degradation) for damage in examine(clipped)] == [Grayscale], name


def test_proposals_are_combined_in_their_order(faces):
    face = faces["astronaut.png"]
    assert diagnosed(load_face(face, aligned=True)) == (None, [])
    both, damages = diagnosed(load_face(MOUTH(Grayscale()(face)), aligned=True))
    assert [type(one) for one in both] == [type(damage.degradation) for damage in damages] == [Grayscale, Inpaint]


def test_auto_restores_what_the_photo_suffers_from(tiny_generator, astronaut, distance):
    settings = {"generator": tiny_generator, "distance": distance, "device": "cpu", "progress": False}
    with pytest.raises(SettingError, match='"auto", not "blur"'):
        ex5lib.restore(astronaut, "blur", **settings)
    grey = Grayscale()(astronaut.image)
    done = ex5lib.restore(grey, "auto", aligned=True, recipe="smoke", w_avg_samples=100, num_steps=2, **settings)
    assert isinstance(done.degradation, Grayscale)
    assert done.original is None  # it is taken to be degraded already
    assert done.composite is not None


def test_of_a_damaged_photo_only_what_is_exact_is_made_so(tiny_generator, astronaut, distance):
    """A hole painted white is searched for as a black one; the blur that is in the photo already is not added again."""
    photo = resize_area(astronaut.image, 64)
    white = MOUTH.mask_for(photo)
    painted = photo * (1 - white) + white
    settings = {"generator": tiny_generator, "distance": distance, "device": "cpu", "progress": False}
    settings |= {"recipe": "smoke", "num_steps": 1, "w_avg_samples": 100, "aligned": True, "already_degraded": True}
    damage = nn.Sequential(UnknownBlur(), MOUTH, UnknownColors())
    target = ex5lib.restore(painted, damage, **settings).target
    torch.testing.assert_close(target, photo * (1 - white) - white)


def test_a_composite_is_an_image_and_no_step_of_a_search(faces):
    face = faces["astronaut.png"]
    both = nn.Sequential(UnknownColors(), MOUTH)
    assert not compositor(both)(face, face).requires_grad


def test_a_parameter_that_is_frozen_is_known():
    blur = UnknownBlur(4.0).requires_grad_(False)
    assert unknown_parameters(blur) == {}
    assert not hides_color(nn.Sequential(blur, UnknownColors().requires_grad_(False)))

"""What passes for a mask, what it means, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from ex5lib.errors import FileError
from ex5lib.images.masks import load_mask
from ex5lib.samples import sample_photo

SIZE = 256


@pytest.fixture
def drawn() -> Image.Image:
    """An ellipse, a broad stroke and a hair, white on black."""
    mask = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(mask)
    draw.ellipse([70, 80, 150, 140], fill=255)
    draw.line([10, 10, 200, 240], fill=255, width=6)
    draw.line([0, 250, 250, 20], fill=255, width=1)
    return mask


def _hole(picture: Image.Image, path, format: str = "PNG", **options) -> np.ndarray:
    picture.save(path, format, **options)
    mask = load_mask(path)
    assert mask.shape == (1, 1, picture.height, picture.width)
    return mask[0, 0].numpy()


def _photo(name: str, size: int = SIZE) -> Image.Image:
    return Image.open(sample_photo(name)).convert("RGB").resize((size, size))


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
def test_a_mask_in_jpeg_is_black_and_white_but_for_its_edges(drawn, tmp_path, quality):
    hole = _hole(drawn, tmp_path / "mask", "JPEG", quality=quality)
    near_edges = np.asarray(drawn.filter(ImageFilter.MaxFilter(17))) != np.asarray(
        drawn.filter(ImageFilter.MinFilter(17))
    )
    assert (hole == np.asarray(drawn) / 255)[~near_edges].all()
    assert np.abs(hole - np.asarray(drawn) / 255).mean() < 0.03


def test_antialiased_and_feathered_edges_are_kept(drawn, tmp_path):
    for soft in (
        drawn.resize((90, 90)),
        drawn.resize((700, 500), Image.Resampling.BICUBIC),
        drawn.filter(ImageFilter.GaussianBlur(2)),
    ):
        hole = _hole(soft, tmp_path / "mask")
        assert np.abs(hole - np.asarray(soft) / 255).max() < 0.1
        assert ((hole > 0) & (hole < 1)).any()


@pytest.mark.parametrize("name", ["astronaut.png", "officer.jpg", "portrait.jpg"])
@pytest.mark.parametrize("size", [128, 512])
def test_a_copy_of_the_photo_is_no_mask(name, size, tmp_path):
    photo = _photo(name, size)
    grain = np.random.default_rng(0).normal(0, 60, (size, size, 1))
    copies = [photo, photo.convert("L"), photo.point(lambda x: x * x // 255), photo.convert("CMYK")]
    copies.append(Image.fromarray((np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)))
    for fill in ("red", "white", "black"):
        copies.append(photo.copy())
        ImageDraw.Draw(copies[-1]).rectangle([size // 4] * 2 + [size // 2] * 2, fill=fill)
    for copy in copies:
        with pytest.raises(FileError, match=r"mask is not a mask, because it is not black and white: on a black"):
            _hole(copy, tmp_path / "mask", "TIFF")


def test_a_hole_painted_red_on_black_is_not_guessed_at(drawn, tmp_path):
    red = Image.merge("RGB", [drawn, Image.new("L", drawn.size), Image.new("L", drawn.size)])
    with pytest.raises(FileError, match="not black and white"):
        _hole(red, tmp_path / "mask")


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"quality": 60}), ("TIFF", {})])
@pytest.mark.parametrize("layer", ["astronaut.png", "officer.jpg", "black"])
def test_a_hole_erased_from_a_copy_of_the_photo_is_the_hole(drawn, tmp_path, format, options, layer):
    copy = Image.new("RGB", drawn.size) if layer == "black" else _photo(layer)
    copy.putalpha(drawn.point(lambda x: 255 - x))
    assert (_hole(copy, tmp_path / "mask", format, **options) == np.asarray(drawn) / 255).all()
    soft = drawn.filter(ImageFilter.GaussianBlur(1))
    copy.putalpha(soft.point(lambda x: 255 - x))
    assert np.abs(_hole(copy, tmp_path / "mask", format, **options) - np.asarray(soft) / 255).max() < 0.11


def test_white_strokes_on_a_transparent_layer_are_the_hole(drawn, tmp_path):
    for alpha in (drawn, drawn.filter(ImageFilter.GaussianBlur(1))):
        strokes = Image.new("RGB", drawn.size, "white")
        strokes.putalpha(alpha)
        assert np.abs(_hole(strokes, tmp_path / "mask") - np.asarray(alpha) / 255).max() < 0.1


def test_a_black_and_white_mask_on_a_transparent_layer_keeps_what_is_transparent(drawn, tmp_path):
    layer = drawn.convert("RGB")
    layer.putalpha(Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 128), (SIZE, 1))))
    hole = _hole(layer, tmp_path / "mask")
    assert (hole[:, 128:] == np.asarray(drawn)[:, 128:] / 255).all()
    assert (hole[:, :128] == 0).all()


def test_an_opaque_alpha_channel_says_nothing(drawn, tmp_path):
    assert (_hole(drawn.convert("RGBA"), tmp_path / "mask") == np.asarray(drawn) / 255).all()
    with pytest.raises(FileError, match="not black and white"):
        _hole(_photo("astronaut.png").convert("RGBA"), tmp_path / "mask")


def test_a_photo_that_fades_out_is_no_mask(tmp_path):
    photo = _photo("astronaut.png")
    photo.putalpha(Image.linear_gradient("L"))
    with pytest.raises(FileError, match="not black and white"):
        _hole(photo, tmp_path / "mask")


def test_of_two_values_the_brighter_is_the_hole(drawn, tmp_path):
    for low, high in ((0, 1), (0, 128), (100, 140)):
        values = np.where(np.asarray(drawn), high, low).astype(np.uint8)
        assert (_hole(Image.fromarray(values), tmp_path / "mask") == np.asarray(drawn) / 255).all()
    assert (_hole(drawn.convert("1"), tmp_path / "mask") == np.asarray(drawn) / 255).all()


def test_masks_of_one_value(tmp_path):
    assert (_hole(Image.new("L", (64, 64)), tmp_path / "mask") == 0).all()
    assert (_hole(Image.new("L", (64, 64), 255), tmp_path / "mask") == 1).all()
    with pytest.raises(FileError, match="not black and white"):
        _hole(Image.new("L", (64, 64), 128), tmp_path / "mask")
    with pytest.raises(FileError, match="because it is transparent all over"):
        _hole(Image.new("RGBA", (64, 64)), tmp_path / "mask")


def test_a_turned_mask_is_turned_as_a_photo_is(drawn, tmp_path):
    exif = Image.Exif()
    exif[274] = 8
    assert (_hole(drawn, tmp_path / "mask", exif=exif) == np.rot90(np.asarray(drawn)) / 255).all()
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    (tmp_path / "cut").write_bytes(buffer.getvalue()[:-100])
    with pytest.raises(FileError, match="truncated"):
        load_mask(tmp_path / "cut")

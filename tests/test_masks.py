"""What passes for a mask, what it means, and what is refused."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from ex5lib.errors import FileError
from ex5lib.images.masks import load_mask
from ex5lib.samples import sample_photo


@pytest.fixture
def drawn() -> Image.Image:
    """An ellipse, a broad stroke and a hair, white on black."""
    mask = Image.new("L", (256, 256))
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


def _layer(picture: Image.Image | str, alpha: Image.Image) -> Image.Image:
    """A photo by its name, or a colour, or a picture, with that opacity."""
    if isinstance(picture, str):
        name = "." in picture
        picture = _photo(picture, alpha.size) if name else Image.new("RGB", alpha.size, picture)
    picture = picture.convert("RGB")
    picture.putalpha(alpha)
    return picture


def _photo(name: str, size: tuple[int, int] = (256, 256)) -> Image.Image:
    return Image.open(sample_photo(name)).convert("RGB").resize(size)


WAYS = {
    "white on black": ("PNG", lambda mask: mask),
    "with an opaque layer": ("PNG", lambda mask: mask.convert("RGBA")),
    "white strokes on an empty layer": ("PNG", lambda mask: _layer("white", mask)),
    "erased from black": ("PNG", lambda mask: _layer("black", ImageOps.invert(mask))),
    "erased from a photo": ("TIFF", lambda mask: _layer("astronaut.png", ImageOps.invert(mask))),
    "erased from a grey photo": ("WEBP", lambda mask: _layer("officer.jpg", ImageOps.invert(mask))),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_hole_may_be_painted_in_many_ways_and_with_soft_edges(drawn, tmp_path, way):
    format, painted = WAYS[way]
    assert (_hole(painted(drawn), tmp_path / "mask", format) == np.asarray(drawn) / 255).all()
    for soft in (drawn.resize((700, 500), Image.Resampling.BICUBIC), drawn.filter(ImageFilter.GaussianBlur(1))):
        assert np.abs(_hole(painted(soft), tmp_path / "mask", format) - np.asarray(soft) / 255).max() < 0.11


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
def test_a_mask_in_jpeg_is_black_and_white_but_for_its_edges(drawn, tmp_path, quality):
    hole = _hole(drawn, tmp_path / "mask", "JPEG", quality=quality)
    most, least = (np.asarray(drawn.filter(kind(17))) for kind in (ImageFilter.MaxFilter, ImageFilter.MinFilter))
    assert (hole == np.asarray(drawn) / 255)[most == least].all()
    assert np.abs(hole - np.asarray(drawn) / 255).mean() < 0.03
    assert not ((np.abs(hole - 0.5) > 0.4) & (hole % 1 > 0)).any()  # no ripples


def test_of_two_values_the_brighter_is_the_hole_and_of_one_black_and_white(drawn, tmp_path):
    for low, high in ((0, 1), (0, 128), (100, 140)):
        values = np.where(np.asarray(drawn), high, low).astype(np.uint8)
        assert (_hole(Image.fromarray(values), tmp_path / "mask") == np.asarray(drawn) / 255).all()
    assert (_hole(drawn.convert("1"), tmp_path / "mask") == np.asarray(drawn) / 255).all()
    for value in (0, 255):
        assert (_hole(Image.new("L", (64, 64), value), tmp_path / "mask") == value / 255).all()


def test_a_black_and_white_mask_on_a_transparent_layer_keeps_what_is_transparent(drawn, tmp_path):
    right = Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 128), (256, 1)))
    expected = np.minimum(np.asarray(drawn), np.asarray(right)) / 255
    assert (_hole(_layer(drawn, right), tmp_path / "mask") == expected).all()


def test_a_turned_mask_is_turned_as_a_photo_is(drawn, tmp_path):
    exif = Image.Exif()
    exif[274] = 8
    assert (_hole(drawn, tmp_path / "mask", exif=exif) == np.rot90(np.asarray(drawn)) / 255).all()


@pytest.mark.parametrize("name", ["astronaut.png", "officer.jpg", "portrait.jpg"])
@pytest.mark.parametrize("size", [128, 512])
def test_a_copy_of_the_photo_is_no_mask(name, size, tmp_path):
    photo = _photo(name, (size, size))
    grain = np.random.default_rng(0).normal(0, 60, (size, size, 1))
    copies = [photo, photo.convert("L"), photo.point(lambda x: x * x // 255), photo.convert("CMYK")]
    copies += [photo.convert("RGBA"), _layer(photo, Image.linear_gradient("L").resize(photo.size))]
    copies.append(Image.fromarray((np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)))
    for fill in ("red", "white", "black"):
        copies.append(photo.copy())
        ImageDraw.Draw(copies[-1]).rectangle([size // 4] * 2 + [size // 2] * 2, fill=fill)
    for copy in copies:
        with pytest.raises(FileError, match="mask is no mask, because it is not black and white"):
            _hole(copy, tmp_path / "mask", "TIFF")


def test_what_is_painted_red_grey_or_nowhere_is_not_guessed_at(drawn, tmp_path):
    black, patched = Image.new("L", drawn.size), drawn.copy()
    patched.paste(128, (170, 20, 200, 50))
    for picture, words in (
        (Image.merge("RGB", [drawn, black, black]), "not black and white"),
        (patched, "not black and white"),
        (Image.new("L", (64, 64), 128), "not black and white"),
        (Image.new("RGBA", (64, 64)), "transparent all over"),
    ):
        with pytest.raises(FileError, match=words):
            _hole(picture, tmp_path / "mask")

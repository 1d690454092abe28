"""Image files as tensors: from cameras, phones, scanners and editors; damaged, turned, deep, coloured; and masks."""

import zlib

import image_files as make
import numpy as np
import pillow_heif
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from ex5lib import load_image, save_image
from ex5lib.errors import FileError
from ex5lib.images.loading import IMAGE_SUFFIXES, load_photo
from ex5lib.images.masks import load_mask
from ex5lib.images.tensors import from_uint8, resize, resize_area, to_uint8
from ex5lib.samples import sample_photo

# The primaries in XYZ, adapted to D50 (as in the profiles that their inventors publish), and the matrices from linear
# colours to those of sRGB.
DISPLAY_P3 = [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]]
ADOBE_RGB = [[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]]
FROM_P3 = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
FROM_ADOBE = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])


def _loaded(source, path=None) -> np.ndarray:
    """The pixels of a file, or of bytes that are written to a file first."""
    if isinstance(source, bytes):
        path.write_bytes(source)
    return to_uint8(load_image(source if path is None else path)).astype(int)


def _encoded(x: np.ndarray) -> np.ndarray:
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.fixture
def colors() -> np.ndarray:
    """Colours [80, 100, 3] that every profile below can show in sRGB, too."""
    return np.random.default_rng(0).integers(110, 160, (80, 100, 3)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA"])
def test_photos_of_every_mode_become_rgb_on_white(tmp_path, mode):
    photo = make.picture().quantize(200) if mode == "P" else make.picture().convert(mode)
    expected = np.array(photo.convert("RGB")).astype(int)
    if mode == "RGBA":
        photo.paste((9, 9, 9, 0), (0, 0, 30, 90))
        expected[:, :30] = 255
    photo.save(tmp_path / "a.tif")
    assert np.abs(_loaded(tmp_path / "a.tif") - expected).max() <= 2 * (mode == "CMYK")


def test_black_is_minus_1_and_white_1_and_png_keeps_every_level(tmp_path):
    assert from_uint8(np.uint8([[[0, 255, 255]]])).flatten().tolist() == [-1, 1, 1]
    save_image(from_uint8(np.asarray(make.picture())), tmp_path / "deep" / "b.png")
    assert (_loaded(tmp_path / "deep" / "b.png") == np.asarray(make.picture())).all()


def test_a_photo_is_turned_as_its_exif_data_say_also_past_a_damaged_tag(tmp_path):
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[274] = orientation
        make.picture().save(tmp_path / "a.png", exif=exif)
        upright = ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))
        assert (_loaded(tmp_path / "a.png") == np.asarray(upright)).all()
    # A unit of resolution that is text: Pillow turns such a picture, and then cannot write its EXIF data back.
    tags = "1201030001000000 06000000" + "28010200040000 00696e2e00"
    make.picture().save(tmp_path / "a.png", exif=bytes.fromhex("49492a00080000000200" + tags + "00000000"))
    assert (_loaded(tmp_path / "a.png") == np.rot90(np.asarray(make.picture()), 3)).all()


def test_the_pixels_survive_any_damage_to_exif_data(tmp_path):
    upright = {}
    for name, data in make.exif_files(count=60):
        if name not in upright:
            whole = _loaded(make.encoded(name), tmp_path / "a")
            upright[name] = [np.rot90(one, k) for one in (whole, whole[:, ::-1]) for k in range(4)]
        found = _loaded(data, tmp_path / "a")
        assert any(one.shape == found.shape and np.abs(one - found).mean() < 1.3 for one in upright[name]), name


def test_a_damaged_file_of_any_format_ends_in_an_image_or_a_sentence(tmp_path):
    images, sentences = 0, []
    for data in make.damaged_files(count=20):
        try:
            images += _loaded(data, tmp_path / "a.jpg").ndim == 3
        except FileError as error:
            sentences.append(str(error))
    assert images > 50
    assert len(sentences) > 50
    assert all(str(tmp_path / "a.jpg") in sentence and "\n" not in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.jpg", None, "There is no file"),
        ("~/missing.jpg", None, "There is no file /home/of/nobody/missing.jpg"),
        ("", None, "is a folder"),
        ("a" * 300 + ".jpg", None, r"cannot be read \(File ?name too long\)"),
        ("https://example.org/me.jpg", None, r"https://example\.org/me\.jpg is an address .* download the photo first"),
        ("http:/example.org/me.jpg", None, r"http://example\.org/me\.jpg is an address"),  # as a Path has it
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"<html>404</html>", "not an image"),
        ("script.jpg", make.encoded("EPS"), "not an image"),  # Pillow would have Ghostscript run it as a program
        ("cut.jpg", make.encoded("JPEG")[:900], "truncated"),
        ("cut.png", make.encoded("PNG")[:-40], "truncated"),
        ("bomb.bmp", make.encoded("BMP")[:18] + 2 * b"\x60\xea\0\0" + make.encoded("BMP")[26:], "million pixels"),
        ("small.png", Image.new("RGB", (31, 200)), "31 × 200 px"),
        ("float.tif", Image.new("F", (80, 80)), "floating-point pixels"),
        ("deep.tif", Image.new("I", (80, 80), 70_000), "more than 16 bits"),
    ],
)
def test_what_is_no_photo_is_refused_in_one_sentence_that_names_it(tmp_path, monkeypatch, name, content, words):
    monkeypatch.setenv("HOME", "/home/of/nobody")
    path = name if ":" in name or name.startswith("~") else tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content.save(path)
    with pytest.raises(FileError, match=words) as caught:
        load_image(path)
    assert str(path).rpartition("/")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pil_image_is_treated_as_its_file_is(tmp_path, colors):
    exif = Image.Exif()
    exif[274] = 6
    adobe = make.rgb_profile(ADOBE_RGB, make.power(2.2))
    Image.fromarray(colors).save(tmp_path / "a.png", exif=exif, icc_profile=adobe)
    (tmp_path / "a.tif").write_bytes(make.tiff(_photo(1200), tag_281=4095))
    make.picture().save(tmp_path / "b.png", dpi=(72, 72))
    for name in ("a.png", "a.tif", "b.png"):
        opened = Image.open(tmp_path / name)
        opened.load()
        known = dict(opened.info)
        assert (to_uint8(load_photo(opened)[0]) == _loaded(tmp_path / name)).all()
        assert opened.info == known  # it is left as it was
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-9000])
    with pytest.raises(FileError, match="The picture is damaged"):
        load_photo(Image.open(tmp_path / "cut.png"))


@pytest.mark.parametrize(
    ("primaries", "curve", "linear", "matrix"),
    [
        (DISPLAY_P3, make.srgb_curve(), make.srgb_to_linear, FROM_P3),
        (ADOBE_RGB, make.power(563 / 256), lambda x: x ** (563 / 256), FROM_ADOBE),
    ],
    ids=["Display P3", "Adobe RGB"],
)
def test_wide_colors_are_converted_to_srgb(tmp_path, colors, primaries, curve, linear, matrix):
    profile = make.rgb_profile(primaries, curve)
    Image.fromarray(colors).save(tmp_path / "a.png", icc_profile=profile)
    expected = _encoded(linear(colors / 255) @ matrix.T)
    assert np.abs(expected - colors).max() > 15
    assert np.abs(_loaded(tmp_path / "a.png") - expected).max() <= 1.5
    deep = make.png(colors * np.uint16(257), iCCP=b"profile\0\0" + zlib.compress(profile))
    assert np.abs(_loaded(deep, tmp_path / "a.png") - expected).max() <= 1.5


def test_the_profile_of_a_grey_photo_counts(tmp_path):
    grey = np.tile(np.arange(20, 220, dtype=np.uint8), (80, 1))
    expected = _encoded((grey / 255) ** 1.8)[:, :, None]
    assert np.abs(expected - grey[:, :, None]).max() > 8
    for fitting in (make.profile("GRAY", {"kTRC": make.power(1.8)}), make.rgb_profile(DISPLAY_P3, make.power(1.8))):
        Image.fromarray(grey).save(tmp_path / "a.png", icc_profile=fitting)
        assert np.abs(_loaded(tmp_path / "a.png") - expected).max() <= 1.5


def test_the_profile_of_a_cmyk_photo_counts(tmp_path):
    """In this one black ink takes lightness L* away, and no other ink shows."""
    lab = np.zeros((2, 2, 2, 2, 3))
    lab[:, :, :, 0, 0] = 100
    inks = np.random.default_rng(0).integers(256, size=(80, 100, 4)).astype(np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif", icc_profile=make.cmyk_profile(lab))
    lightness = 100 - inks[:, :, 3:] / 2.55
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(_loaded(tmp_path / "a.tif") - _encoded(luminance)).max() <= 2


def test_a_damaged_or_unfit_profile_is_ignored(tmp_path, colors):
    whole = make.rgb_profile(DISPLAY_P3, make.srgb_curve())
    other = make.profile("GRAY", {"kTRC": make.power(1)}), make.cmyk_profile(np.zeros((2, 2, 2, 2, 3)))
    for bad in (whole[:300], b"", b"rubbish", *other):
        Image.fromarray(colors).save(tmp_path / "a.png", icc_profile=bad)
        assert (_loaded(tmp_path / "a.png") == colors).all()


@pytest.mark.parametrize(
    "write", [make.png, make.tiff, lambda x: make.tiff(x, ">"), lambda x: make.tiff(x, deflate=True)]
)
def test_color_of_sixteen_bits_is_read_whole(tmp_path, write):
    deep = np.random.default_rng(0).integers(0, 65536, (80, 100, 3)).astype(np.uint16)
    assert (_loaded(write(deep), tmp_path / "a") == np.round(deep / 257)).all()
    # 12 bits, of which the upper bytes alone would leave 4
    assert (_loaded(write(deep >> 4), tmp_path / "a") == np.round((deep >> 4) / 4095 * 255)).all()


def _photo(highest: int) -> np.ndarray:
    """Grey as in a photo, uint16 [90, 100]: dark and light parts and a few highlights, up to the highest value."""
    grey = np.asarray(Image.open(sample_photo()).convert("L").resize((100, 90))).astype(float)
    return np.round(grey / grey.max() * highest).astype(np.uint16)


HOT, LAMP = _photo(1500), _photo(4000)
HOT[::30, ::50] = 4000  # six pixels
LAMP[5, 5] = 50_000


@pytest.mark.parametrize(
    ("deep", "options", "white"),
    [
        (_photo(60_000), {}, 65535),
        (_photo(4000), {}, 4095),  # 12 bits in a file of 16
        # Dark photos of 16 bits: nothing as light as 12 bits would have it, or too little of it, or too few levels.
        (_photo(3000), {}, 65535),
        (_photo(250), {}, 65535),
        (HOT, {}, 65535),
        (LAMP, {}, 65535),
        (_photo(15) * np.uint16(257), {}, 65535),  # 8 bits that were spread over 16
        (np.zeros((90, 100), np.uint16), {}, 65535),
        (_photo(60_000), {"tRNS": b"\0\x50"}, 65535),  # a transparent colour, of 16 bits too
        # What a TIFF states, unless it is only the highest value of this photo, or false.
        (_photo(1200), {"tag_281": 4095}, 4095),
        (_photo(9000), {"tag_281": 16383}, 16383),
        (_photo(4000), {"tag_281": 65535}, 65535),
        (_photo(3000), {"tag_281": 3000}, 65535),
        (_photo(9000), {"tag_281": 4095}, 65535),
    ],
)
def test_grey_of_up_to_sixteen_bits_is_as_bright_as_it_was(tmp_path, deep, options, white):
    for write in (make.png, make.tiff):
        if not any(name.startswith("tag" if write is make.png else "tRNS") for name in options):
            assert np.abs(_loaded(write(deep, **options), tmp_path / "a")[:, :, 0] - deep / white * 255).max() <= 0.501


def test_a_tiff_may_be_packed_or_a_negative(tmp_path):
    deep = _photo(4000).astype(np.int64) // 4
    first, second = deep[:, ::2], deep[:, 1::2]  # two values of 12 bits in three bytes
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    packed = np.frombuffer(packed.tobytes(), "<u2").reshape(90, 75)
    found = _loaded(make.tiff(packed, tag_256=100, tag_258=12), tmp_path / "a")
    assert np.abs(found[:, :, 0] - deep / 4095 * 255).max() <= 0.501
    negative = _loaded(make.tiff(_photo(60_000), tag_262=0), tmp_path / "a")  # 0 is white
    assert np.abs(negative[:, :, 0] - (255 - _photo(60_000) / 257)).max() <= 0.501


def test_heic_is_read_whatever_it_is_called_in_its_colors_and_pillow_stays_as_it_was(tmp_path, colors):
    exif = Image.Exif()
    exif[274] = 6
    heic = pillow_heif.from_pillow(make.picture())
    heic.save(tmp_path / "turned.jpg", quality=-1, chroma=444, exif=exif.tobytes())
    assert np.abs(_loaded(tmp_path / "turned.jpg") - np.rot90(np.asarray(make.picture()), 3)).max() <= 3
    smooth = Image.fromarray(colors[:8, :10]).resize((100, 80))
    display_p3 = make.rgb_profile(DISPLAY_P3, make.srgb_curve())  # an iPhone's
    smooth.save(tmp_path / "a.png", icc_profile=display_p3)
    heic = pillow_heif.from_pillow(smooth)
    heic.info["icc_profile"] = display_p3
    heic.save(tmp_path / "a.heic", quality=-1, chroma=444)
    assert np.abs(_loaded(tmp_path / "a.png") - np.asarray(smooth)).max() > 10
    assert np.abs(_loaded(tmp_path / "a.heic") - _loaded(tmp_path / "a.png")).max() <= 4
    assert "HEIF" not in Image.OPEN


def test_every_suffix_of_a_photo_stands_for_a_format_that_is_read(tmp_path):
    known = Image.registered_extensions() | {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".mpo": "JPEG"}
    for suffix in IMAGE_SUFFIXES:
        assert _loaded(make.encoded(known[suffix]), tmp_path / f"a{suffix}").shape == (90, 70, 3)
    missing = {suffix for suffix, name in known.items() if name in make.FORMATS} - IMAGE_SUFFIXES
    assert missing == {".apng", ".avifs", ".icb", ".j2c", ".jpc", ".pfm", ".vda", ".vst"}


@pytest.mark.parametrize(("source", "size"), [(12, 4), (96, 24), (100, 37), (64, 63)])
def test_area_averaging_weighs_every_old_pixel_by_what_a_new_one_covers_of_it(source, size):
    """As many copies of each old pixel as there are new ones, then plain averages of whole pixels."""
    image = torch.rand(1, 3, source, source, generator=torch.Generator().manual_seed(0)).double()
    big = image.repeat_interleave(size, 2).repeat_interleave(size, 3)
    torch.testing.assert_close(resize_area(image, size), F.avg_pool2d(big, source), atol=1e-5, rtol=0)
    assert resize_area(image, source + 1) is image
    assert resize(image, size + 2).shape == (1, 3, size + 2, size + 2)


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


def _sample(name: str, size: int) -> Image.Image:
    return Image.open(sample_photo(name)).convert("RGB").resize((size, size))


def _layer(picture: Image.Image, alpha: Image.Image) -> Image.Image:
    """A picture with that opacity."""
    picture = picture.convert("RGB").resize(alpha.size)
    picture.putalpha(alpha)
    return picture


WAYS = {
    "white on black": ("PNG", lambda mask: mask),
    "with an opaque layer": ("PNG", lambda mask: mask.convert("RGBA")),
    "white strokes on an empty layer": ("PNG", lambda mask: _layer(Image.new("L", (1, 1), 255), mask)),
    "red strokes on an empty layer": ("PNG", lambda mask: _layer(Image.new("RGB", (1, 1), "red"), mask)),
    "black strokes on an empty layer": ("PNG", lambda mask: _layer(Image.new("L", (1, 1)), mask)),
    "erased from black": ("PNG", lambda mask: _layer(Image.new("L", (1, 1)), ImageOps.invert(mask))),
    "erased from a photo": ("TIFF", lambda mask: _layer(_sample("astronaut.png", 256), ImageOps.invert(mask))),
    "erased from a grey photo": ("WEBP", lambda mask: _layer(_sample("officer.jpg", 256), ImageOps.invert(mask))),
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
    photo = _sample(name, size)
    grain = np.random.default_rng(0).normal(0, 60, (size, size, 1))
    copies = [photo, photo.convert("L"), photo.point(lambda x: x * x // 255), photo.convert("CMYK")]
    copies += [photo.convert("RGBA"), _layer(photo, Image.linear_gradient("L").resize(photo.size))]
    copies.append(Image.fromarray((np.asarray(photo) + grain).clip(0, 255).astype(np.uint8)))
    for fill in ("red", "white", "black"):
        copies.append(photo.copy())
        ImageDraw.Draw(copies[-1]).rectangle([size // 4] * 2 + [size // 2] * 2, fill=fill)
    for copy in copies:
        with pytest.raises(FileError, match="mask is not a mask, because it is not black and white"):
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

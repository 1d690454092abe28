"""Photos as they come from cameras, phones, scanners and editors: damaged, turned, deep, and in other colours."""

import io
import os

import fuzz_images
import numpy as np
import pillow_heif
import pytest
from image_files import cmyk_profile, png, power, profile, rgb_profile, srgb_curve, tiff
from PIL import Image

from ex5lib.errors import FileError
from ex5lib.images.loading import IMAGE_SUFFIXES, from_picture, load_image
from ex5lib.images.tensors import to_uint8
from ex5lib.samples import sample_photo

# The primaries in XYZ, adapted to D50 (as in the profiles that their inventors publish), and the matrices from linear
# colours to those of sRGB.
DISPLAY_P3 = [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]]
ADOBE_RGB = [[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]]
FROM_P3 = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
FROM_ADOBE = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
FROM_XYZ_D50 = np.linalg.inv([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def _loaded(path) -> np.ndarray:
    return to_uint8(load_image(path)).astype(int)


def _linear(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _encoded(x: np.ndarray) -> np.ndarray:
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.fixture
def colors() -> np.ndarray:
    """Colours [80, 100, 3] that every profile below can show in sRGB, too."""
    return np.random.default_rng(0).integers(110, 160, (80, 100, 3)).astype(np.uint8)


def test_the_pixels_survive_any_damage_to_exif_data(tmp_path):
    found = fuzz_images.exif_outcomes(tmp_path / "photo.jpg", step=20)
    assert {outcome for _, outcome in found} == {"whole"}
    assert {name for name, _ in found} == {"JPEG", "PNG", "WEBP", "AVIF", "HEIF"}
    assert found.total() > 300


def test_a_damaged_file_of_any_format_ends_in_an_image_or_a_sentence(tmp_path):
    found = fuzz_images.damage_outcomes(tmp_path / "photo.jpg", step=20)
    assert {outcome for _, outcome in found} == {"image", "refused"}
    assert {name for name, _ in found} >= set(fuzz_images.FORMATS)
    assert found.total() == 18 * 20


def test_the_orientation_is_read_past_a_damaged_tag(tmp_path):
    """A unit of resolution that is text: Pillow turns the picture and then cannot write its EXIF data back."""
    photo = fuzz_images.picture()
    order = bytes.fromhex(
        "49492a00080000000200" + "1201030001000000 06000000" + "28010200040000 00696e2e00" + "00000000"
    )
    photo.save(tmp_path / "a.png", exif=order)
    with pytest.raises(Exception, match="int"):
        _pillows_own_turn(tmp_path / "a.png")
    assert (_loaded(tmp_path / "a.png") == np.rot90(np.asarray(photo), 3)).all()


def _pillows_own_turn(path):
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(path))


def test_a_pil_image_is_treated_as_its_file_is(tmp_path, colors):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(colors).save(tmp_path / "a.png", exif=exif, icc_profile=rgb_profile(ADOBE_RGB, power(2.2)))
    picture = Image.open(tmp_path / "a.png")
    assert (to_uint8(from_picture(picture)) == _loaded(tmp_path / "a.png")).all()
    assert (to_uint8(from_picture(picture)) == _loaded(tmp_path / "a.png")).all()  # and is left as it was
    (tmp_path / "a.tif").write_bytes(tiff(_photo(1200), tag_281=4095))
    assert (to_uint8(from_picture(Image.open(tmp_path / "a.tif"))) == _loaded(tmp_path / "a.tif")).all()
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-9000])
    with pytest.raises(FileError, match="The picture is damaged"):
        from_picture(Image.open(tmp_path / "cut.png"))


@pytest.mark.parametrize(
    ("primaries", "curve", "linear", "matrix"),
    [
        (DISPLAY_P3, srgb_curve(), _linear, FROM_P3),
        (ADOBE_RGB, power(563 / 256), lambda x: x ** (563 / 256), FROM_ADOBE),
    ],
    ids=["Display P3", "Adobe RGB"],
)
def test_wide_colors_are_converted_to_srgb(tmp_path, colors, primaries, curve, linear, matrix):
    Image.fromarray(colors).save(tmp_path / "a.png", icc_profile=rgb_profile(primaries, curve))
    expected = _encoded(linear(colors / 255) @ matrix.T)
    assert np.abs(expected - colors).max() > 15
    assert np.abs(_loaded(tmp_path / "a.png") - expected).max() <= 1.5


def test_the_profile_of_a_grey_photo_counts(tmp_path):
    grey = np.tile(np.arange(20, 220, dtype=np.uint8), (80, 1))
    expected = _encoded((grey / 255) ** 1.8)[:, :, None]
    assert np.abs(expected - grey[:, :, None]).max() > 8
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=profile("GRAY", {"kTRC": power(1.8)}))
    assert np.abs(_loaded(tmp_path / "grey.png") - expected).max() <= 1.5
    Image.fromarray(grey).save(tmp_path / "rgb.png", icc_profile=rgb_profile(DISPLAY_P3, power(1.8)))
    assert np.abs(_loaded(tmp_path / "rgb.png") - expected).max() <= 1.5


def test_the_profile_of_a_cmyk_photo_counts(tmp_path):
    c, m, y, k = np.meshgrid(*[[0, 1]] * 4, indexing="ij")
    light = (1 - k) * (1 - (c + m + y) / 3)
    lab = np.stack([100 * light, 30 * (m - c) * light, 40 * (y - (c + m) / 2) * light], axis=4)
    lab = np.stack([np.round(lab[..., 0] * 2.55) / 2.55, *np.round(np.moveaxis(lab[..., 1:], 4, 0))], axis=4)
    inks = np.stack([c, m, y, k], axis=4).reshape(16, 1, 4).repeat(80, axis=1).repeat(5, axis=0)
    Image.fromarray((inks * 255).astype(np.uint8), "CMYK").save(tmp_path / "a.tif", icc_profile=cmyk_profile(lab))
    f = (lab[..., :1] + 16) / 116 + lab[..., 1:2] * [1 / 500, 0, 0] - lab[..., 2:] * [0, 0, 1 / 200]
    xyz = np.where(f > 6 / 29, f**3, (f - 4 / 29) * 3 * (6 / 29) ** 2) * [0.9642, 1, 0.8249]
    expected = xyz @ FROM_XYZ_D50.T
    shown = ((expected >= 0) & (expected <= 1.001)).all(axis=4).ravel()
    assert shown.sum() >= 10
    found = _loaded(tmp_path / "a.tif").reshape(16, 5, 80, 3)[:, 2, 40]
    assert np.abs(found - _encoded(expected).reshape(16, 3))[shown].max() <= 2


def test_a_damaged_or_unfit_profile_is_ignored(tmp_path, colors):
    whole = rgb_profile(DISPLAY_P3, srgb_curve())
    unfit = [whole[:300], b"", b"rubbish", profile("GRAY", {"kTRC": power(1)}), cmyk_profile(np.zeros((2, 2, 2, 2, 3)))]
    for i, bad in enumerate(unfit):
        Image.fromarray(colors).save(tmp_path / f"{i}.png", icc_profile=bad)
        assert (_loaded(tmp_path / f"{i}.png") == colors).all()


@pytest.mark.parametrize("write", [png, tiff, lambda x: tiff(x, ">"), lambda x: tiff(x, deflate=True)])
def test_color_of_sixteen_bits_is_read_whole(tmp_path, write):
    deep = np.random.default_rng(0).integers(0, 65536, (80, 100, 3)).astype(np.uint16)
    (tmp_path / "a").write_bytes(write(deep))
    assert (_loaded(tmp_path / "a") == np.round(deep / 257)).all()
    (tmp_path / "a").write_bytes(write(deep >> 4))  # 12 bits, of which the upper bytes alone would leave 4
    assert (_loaded(tmp_path / "a") == np.round((deep >> 4) / 4095 * 255)).all()


def _photo(highest: int) -> np.ndarray:
    """Grey as in a photo, uint16 [90, 100]: dark and light parts and a few highlights, up to the highest value."""
    grey = np.asarray(Image.open(sample_photo()).convert("L").resize((100, 90))).astype(float)
    return np.round(grey / grey.max() * highest).astype(np.uint16)


@pytest.mark.parametrize("write", [png, tiff])
def test_twelve_bits_in_a_file_of_sixteen_are_as_bright_as_they_were(tmp_path, write):
    deep = _photo(4000)
    (tmp_path / "a").write_bytes(write(deep))
    assert np.abs(_loaded(tmp_path / "a")[:, :, 0] - deep / 4095 * 255).max() <= 0.501


def test_a_transparent_color_of_sixteen_bits_does_no_harm(tmp_path):
    (tmp_path / "a").write_bytes(png(_photo(60_000), tRNS=b"\xff\xff"))
    assert np.abs(_loaded(tmp_path / "a")[:, :, 0] - _photo(60_000) / 257).max() <= 0.501


def test_a_dark_photo_of_sixteen_bits_stays_dark(tmp_path):
    hot = _photo(1500)
    hot[::30, ::50] = 4000  # six hot pixels
    lamp = _photo(4000)
    lamp[5, 5] = 50_000
    eight = (np.asarray(_photo(15)) * 257).astype(np.uint16)  # 8 bits that were spread over 16
    for deep in (_photo(1500), _photo(3000), _photo(250), hot, lamp, eight, np.zeros_like(hot)):
        for write in (png, tiff):
            (tmp_path / "a").write_bytes(write(deep))
            assert np.abs(_loaded(tmp_path / "a")[:, :, 0] - deep / 257).max() <= 0.501


def test_what_a_tiff_states_about_its_bits_counts(tmp_path):
    for deep, tags, white in (
        (_photo(1200), {"tag_281": 4095}, 4095),
        (_photo(9000), {"tag_281": 16383}, 16383),
        (_photo(4000), {"tag_281": 65535}, 65535),
        (_photo(3000), {"tag_281": 3000}, 65535),  # only the highest value of this photo
        (_photo(9000), {"tag_281": 4095}, 65535),  # false
    ):
        (tmp_path / "a.tif").write_bytes(tiff(deep, **tags))
        assert np.abs(_loaded(tmp_path / "a.tif")[:, :, 0] - deep / white * 255).max() <= 0.501
    deep = _photo(4000).astype(np.int64) // 4  # packed: two values of 12 bits in three bytes
    first, second = deep[:, ::2], deep[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)
    packed = np.frombuffer(packed.tobytes(), "<u2").reshape(90, 75)
    (tmp_path / "a.tif").write_bytes(tiff(packed, tag_256=100, tag_258=12))
    assert np.abs(_loaded(tmp_path / "a.tif")[:, :, 0] - deep / 4095 * 255).max() <= 0.501
    (tmp_path / "a.tif").write_bytes(tiff(_photo(60_000), tag_262=0))  # a negative: 0 is white
    assert np.abs(_loaded(tmp_path / "a.tif")[:, :, 0] - (255 - _photo(60_000) / 257)).max() <= 0.501


def test_more_than_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((80, 80), 70_000, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(FileError, match=r"a\.tif has pixels of more than 16 bits"):
        load_image(tmp_path / "a.tif")


def test_heic_is_read_whatever_it_is_called_and_pillow_stays_as_it_was(tmp_path):
    photo = fuzz_images.picture()
    exif = Image.Exif()
    exif[274] = 6
    heic = pillow_heif.from_pillow(photo)
    heic.save(tmp_path / "a.heic", quality=-1, chroma=444)
    heic.save(tmp_path / "turned.jpg", quality=-1, chroma=444, exif=exif.tobytes())
    assert np.abs(_loaded(tmp_path / "a.heic") - np.asarray(photo)).max() <= 3
    assert np.abs(_loaded(tmp_path / "turned.jpg") - np.rot90(np.asarray(photo), 3)).max() <= 3
    assert "HEIF" not in Image.OPEN


def test_the_colors_of_an_iphone_are_converted_to_srgb(tmp_path, colors):
    smooth = Image.fromarray(colors).resize((10, 8)).resize((100, 80))
    display_p3 = rgb_profile(DISPLAY_P3, srgb_curve())
    smooth.save(tmp_path / "a.png", icc_profile=display_p3)
    heic = pillow_heif.from_pillow(smooth)
    heic.info["icc_profile"] = display_p3
    heic.save(tmp_path / "a.heic", quality=-1, chroma=444)
    assert np.abs(_loaded(tmp_path / "a.heic") - _loaded(tmp_path / "a.png")).max() <= 4


def test_every_suffix_of_a_photo_stands_for_a_format_that_is_read(tmp_path):
    known = Image.registered_extensions()
    names = {".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".mpo": "JPEG"}
    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(fuzz_images.encoded(names.get(suffix) or known[suffix]))
        assert load_image(path).shape == (1, 3, 90, 70)
    missing = {suffix for suffix, name in known.items() if name in fuzz_images.FORMATS} - IMAGE_SUFFIXES
    assert missing == {".apng", ".avifs", ".icb", ".j2c", ".jpc", ".pfm", ".pnm", ".vda", ".vst"} - IMAGE_SUFFIXES


def test_postscript_is_no_photo(tmp_path):
    """Pillow would hand it to Ghostscript, which runs it as the program that it is."""
    photo = io.BytesIO()
    fuzz_images.picture().save(photo, "EPS")
    (tmp_path / "a.jpg").write_bytes(photo.getvalue())
    with pytest.raises(FileError, match="not an image that can be read"):
        load_image(tmp_path / "a.jpg")


def test_a_tilde_means_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    fuzz_images.picture().save(tmp_path / "me.png")
    assert load_image("~/me.png").shape == (1, 3, 90, 70)
    with pytest.raises(FileError, match="There is no file") as caught:
        load_image("~/nobody.png")
    assert str(tmp_path) in str(caught.value)


def test_a_name_that_the_disk_refuses_is_named_in_a_sentence():
    with pytest.raises(FileError, match=r"cannot be read \(File ?name too long\)"):
        load_image("a" * 300 + ".jpg")


@pytest.mark.parametrize("address", ["https://example.org/me.jpg", "http:/example.org/me.jpg"])
def test_an_address_on_the_web_is_to_be_downloaded_first(address):
    with pytest.raises(FileError, match=r"https?://example\.org/me\.jpg is an address .* download the photo first"):
        load_image(address)
    assert not os.path.exists("https:")

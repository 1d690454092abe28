"""What a file holds beside one picture's pixels: several pictures, what its colours mean, EXIF data, a missing end."""

import io
import struct
from dataclasses import replace

import image_files as make
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ex5lib
from ex5lib import load_image, save_image
from ex5lib.errors import FileError
from ex5lib.faces.alignment import load_face
from ex5lib.images.loading import load_photo
from ex5lib.images.tensors import to_uint8

# From the white and the primaries (x, y) that their inventors publish, in linear light, to sRGB.
FROM_ADOBE = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
FROM_P3 = np.array([[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]])
ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def _pixels(path) -> np.ndarray:
    return to_uint8(load_image(path)).astype(int)


def _encoded(x: np.ndarray) -> np.ndarray:
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


@pytest.fixture
def colors() -> np.ndarray:
    """Colours [80, 100, 3] that every gamut below holds."""
    return np.random.default_rng(0).integers(110, 160, (80, 100, 3)).astype(np.uint8)


@pytest.mark.parametrize("first", [0, 1])
def test_of_a_tiffs_pages_the_largest_is_the_photo_and_of_two_alike_none(tmp_path, first):
    whole, preview = make.picture(), make.picture().reduce(2)
    pages = [whole, preview] if first == 0 else [preview, whole]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert (_pixels(tmp_path / "a.tif") == np.asarray(whole)).all()
    whole.save(tmp_path / "a.tif", save_all=True, append_images=[whole.transpose(Image.Transpose.ROTATE_180)])
    with pytest.raises(FileError, match="holds 2 pictures"):
        load_image(tmp_path / "a.tif")


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
def test_an_animation_is_no_photo(tmp_path, format):
    whole = make.picture()
    whole.save(tmp_path / "a", format, save_all=True, append_images=[whole.transpose(Image.Transpose.ROTATE_180)])
    with pytest.raises(FileError, match="is an animation of 2 pictures: save the one"):
        load_image(tmp_path / "a")


@pytest.mark.parametrize("tags", [{"tag_254": 1, "tag_330": 8}, {"tag_50706": 0x401}], ids=["nef", "dng"])
def test_the_thumbnail_in_a_cameras_raw_file_is_not_taken_for_the_photo(tmp_path, tags):
    deep = np.random.default_rng(0).integers(0, 65536, (120, 160, 3)).astype(np.uint16)
    (tmp_path / "a.nef").write_bytes(make.tiff(deep, **tags))
    with pytest.raises(FileError, match=r"raw file, .* develop it"):
        load_image(tmp_path / "a.nef")


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8])
def test_the_gamma_of_a_png_counts_unless_it_says_srgb(tmp_path, colors, gamma):
    deep, stated = colors.astype(np.uint16) * 257, struct.pack(">I", round(gamma * 100_000))
    (tmp_path / "a.png").write_bytes(make.png(deep, gAMA=stated))
    expected = _encoded((colors / 255) ** (1 / gamma))
    assert np.abs(expected - colors).max() > 8
    assert np.abs(_pixels(tmp_path / "a.png") - expected).max() <= 1.5
    (tmp_path / "a.png").write_bytes(make.png(deep, sRGB=b"\0", gAMA=stated))
    assert (_pixels(tmp_path / "a.png") == colors).all()


def test_the_chromaticities_of_a_png_count(tmp_path, colors):
    stated = struct.pack(">8I", *(round(value * 100_000) for value in ADOBE_RGB))
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"cHRM", stated)
    Image.fromarray(colors).save(tmp_path / "a.png", pnginfo=info)
    expected = _encoded(make.srgb_to_linear(colors / 255) @ FROM_ADOBE.T)
    assert np.abs(expected - colors).max() > 15
    assert np.abs(_pixels(tmp_path / "a.png") - expected).max() <= 1.5
    impossible = make.png(colors.astype(np.uint16) * 257, cHRM=struct.pack(">8I", 31270, *[0] * 7))
    (tmp_path / "a.png").write_bytes(impossible)
    assert (_pixels(tmp_path / "a.png") == colors).all()


def _adobe_exif() -> bytes:
    """EXIF data that tell Adobe RGB as DCF has it: R03 in the interoperability directory."""
    head = b"Exif\0\0II*\0" + struct.pack("<I", 8)
    main = struct.pack("<HHHIII", 1, 34665, 4, 1, 26, 0)
    camera = struct.pack("<HHHIIHHIII", 2, 40961, 3, 1, 65535, 40965, 4, 1, 56, 0)
    interoperability = struct.pack("<HHHI4sI", 1, 1, 2, 4, b"R03\0", 0)
    return head + main + camera + interoperability


def test_adobe_rgb_told_by_exif_alone_counts_and_is_not_told_again(tmp_path, colors):
    Image.fromarray(colors).save(tmp_path / "a.png", exif=_adobe_exif())
    expected = _encoded((colors / 255) ** (563 / 256) @ FROM_ADOBE.T)
    photo, extras = load_photo(tmp_path / "a.png")
    assert np.abs(to_uint8(photo) - expected).max() <= 1.5
    save_image(photo, tmp_path / "b.png", extras)
    assert (_pixels(tmp_path / "b.png") == to_uint8(photo)).all()
    assert dict(Image.open(tmp_path / "b.png").getexif().get_ifd(34665)) == {40961: 1}  # sRGB


def _pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084's code values of linear light, with white at 203 cd/m²."""
    power = (light * 203 / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def _hlg(light: np.ndarray) -> np.ndarray:
    """BT.2100's code values: a screen of 1000 cd/m² with white at 203."""
    scene = (light * 0.203) ** (1 / 1.2)
    low = np.sqrt(3 * scene)
    return np.where(scene <= 1 / 12, low, 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)


@pytest.mark.parametrize(("transfer", "curve"), [(16, _pq), (18, _hlg)], ids=["PQ", "HLG"])
def test_code_points_of_a_wide_range_count(tmp_path, colors, transfer, curve):
    smooth = Image.fromarray(colors[:8, :10]).resize((100, 80))
    light = make.srgb_to_linear(np.asarray(smooth) / 255) @ np.linalg.inv(FROM_P3).T
    wide = Image.fromarray((255 * curve(light)).round().astype(np.uint8))
    assert np.abs(np.asarray(wide).astype(int) - np.asarray(smooth)).max() > 8
    heic = pillow_heif.from_pillow(wide)
    heic.save(
        tmp_path / "a.heic", quality=-1, chroma=444, color_primaries=12, transfer_characteristics=transfer,
        matrix_coefficients=6, full_range_flag=1,
    )  # fmt: skip
    assert np.abs(_pixels(tmp_path / "a.heic") - np.asarray(smooth)).max() <= 10  # values of 8 bits are far apart there
    data = io.BytesIO()
    wide.save(data, "AVIF", quality=100, subsampling="4:4:4")
    written = data.getvalue()
    start = written.index(b"colrnclx") + 8
    coded = written[:start] + struct.pack(">HH", 12, transfer) + written[start + 4 :]
    (tmp_path / "a.avif").write_bytes(coded)
    assert np.abs(_pixels(tmp_path / "a.avif") - np.asarray(smooth)).max() <= 10  # values of 8 bits are far apart there


def test_a_photo_saved_again_keeps_date_camera_resolution_and_opacity(tmp_path):
    exif = Image.Exif()
    exif.update({274: 6, 271: "me", 306: "1964:05:17 12:00:00", 34665: {36867: "1964:05:17 11:00:00", 37500: b"note"}})
    cutout = make.picture().convert("RGBA")
    cutout.putalpha(Image.linear_gradient("L").resize(cutout.size))
    cutout.save(tmp_path / "a.png", exif=exif, dpi=(300, 150))
    photo, extras = load_photo(tmp_path / "a.png")
    save_image(photo, tmp_path / "b.png", extras)
    save_image(photo, tmp_path / "b.jpg", extras)
    for name in ("b.png", "b.jpg"):
        saved = Image.open(tmp_path / name)
        found = saved.getexif()
        assert (found[271], found[306]) == ("me", "1964:05:17 12:00:00")
        assert dict(found.get_ifd(34665)) == {36867: "1964:05:17 11:00:00", 40961: 1}
        assert 274 not in found  # it is upright now, and so is its resolution
        assert saved.info["dpi"] == pytest.approx((150, 300), abs=0.1)
    saved, upright = np.asarray(Image.open(tmp_path / "b.png")).astype(int), np.rot90(np.asarray(cutout), 3).astype(int)
    assert (saved[:, :, 3] == upright[:, :, 3]).all()
    seen = upright[:, :, 3] > 60
    assert np.abs(saved - upright)[seen].max() <= 4


def test_a_restored_photo_keeps_what_its_file_held(tmp_path, astronaut, tiny_generator, distance):
    cutout = Image.fromarray(to_uint8(astronaut.photo))
    cutout.putalpha(Image.radial_gradient("L").resize(cutout.size).point(lambda x: 255 * (x < 180)))
    exif = Image.Exif()
    exif.update({306: "1964:05:17 12:00:00", 34665: {0xA002: 512, 0xA003: 512}})
    cutout.save(tmp_path / "a.png", exif=exif, dpi=(300, 300))
    face = load_face(tmp_path / "a.png", landmarks=astronaut.landmarks)
    done = ex5lib.restore(
        face, recipe="smoke", num_steps=1, w_avg_samples=100, generator=tiny_generator, distance=distance, device="cpu",
        progress=False,
    )  # fmt: skip
    for factor in (1, 2):
        replace(done, enlarged=factor).save(tmp_path / "out")
        saved = Image.open(tmp_path / "out" / "photo.png")
        assert saved.size == (512 * factor, 512 * factor)
        opacity = np.asarray(saved.getchannel("A").reduce(factor)).astype(int)
        assert np.abs(opacity - np.asarray(cutout.getchannel("A"))).mean() <= factor - 1
        assert saved.getexif()[306] == "1964:05:17 12:00:00"
        assert not {0xA002, 0xA003} & dict(saved.getexif().get_ifd(34665)).keys()  # sizes that are no longer true
        assert saved.info["dpi"] == pytest.approx((300 * factor, 300 * factor), abs=0.1)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_only_the_mark_of_its_end_is_read_with_a_warning(tmp_path, progressive):
    data = make.encoded("JPEG", progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(data)
    whole = _pixels(tmp_path / "a.jpg")
    for missing in (1, 2):
        (tmp_path / "a.jpg").write_bytes(data[:-missing])
        with pytest.warns(UserWarning, match=r"a\.jpg lacks its last bytes, but no pixels"):
            assert (_pixels(tmp_path / "a.jpg") == whole).all()
    (tmp_path / "a.jpg").write_bytes(data[:-60])
    with pytest.raises(FileError, match="truncated"):
        load_image(tmp_path / "a.jpg")


def test_a_thumbnail_of_32_px_is_read(tmp_path):
    make.picture().resize((32, 32)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").shape == (1, 3, 32, 32)

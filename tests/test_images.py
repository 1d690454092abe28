"""Loading every kind of file that users have, and refusing what is no photo in one sentence."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ex5lib import Ex5Error, load_image, save_image
from ex5lib import errors as e
from ex5lib.files import replacing
from ex5lib.images.masks import load_mask
from ex5lib.images.tensors import from_uint8, resize, resize_area, to_uint8


@pytest.fixture
def picture() -> Image.Image:
    y, x = np.mgrid[:80, :100]
    return Image.fromarray(np.stack([x * 2, y * 3, 255 - x], axis=2).astype(np.uint8))


def _loaded(path) -> np.ndarray:
    image = load_image(path)
    assert image.dtype == torch.float32
    assert image.shape[:2] == (1, 3)
    assert image.min() >= -1
    assert image.max() <= 1
    return to_uint8(image).astype(int)


def test_png_survives_a_round_trip_exactly(picture, tmp_path):
    save_image(from_uint8(np.asarray(picture)), tmp_path / "deep" / "a.png")
    assert (np.asarray(Image.open(tmp_path / "deep" / "a.png")) == np.asarray(picture)).all()
    assert (_loaded(tmp_path / "deep" / "a.png") == np.asarray(picture)).all()


def test_range_is_minus_one_to_one(tmp_path):
    Image.fromarray(np.array([[0, 255] * 32] * 64, np.uint8)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").unique().tolist() == [-1, 1]


def test_grey_palette_and_cmyk_photos_become_rgb(picture, tmp_path):
    grey = picture.convert("L")
    grey.save(tmp_path / "grey.png")
    assert (_loaded(tmp_path / "grey.png") == np.asarray(grey)[:, :, None]).all()
    picture.quantize(200).save(tmp_path / "palette.png")
    assert np.abs(_loaded(tmp_path / "palette.png") - np.asarray(picture)).mean() < 6
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.abs(_loaded(tmp_path / "cmyk.tif") - np.asarray(picture)).max() <= 2
    picture.convert("1").save(tmp_path / "bilevel.png")
    assert set(np.unique(_loaded(tmp_path / "bilevel.png"))) == {0, 255}


def test_sixteen_bits_keep_their_brightness(tmp_path):
    deep = np.tile(np.linspace(0, 65535, 100).astype(np.uint16), (80, 1))
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.abs(_loaded(tmp_path / "deep.png") - (deep / 257)[:, :, None]).max() <= 1


def test_transparent_pixels_are_put_on_white(picture, tmp_path):
    alpha = np.zeros((80, 100), np.uint8)
    alpha[:, 50:] = 255
    Image.fromarray(np.dstack([np.asarray(picture), alpha])).save(tmp_path / "rgba.png")
    pixels = _loaded(tmp_path / "rgba.png")
    assert (pixels[:, :50] == 255).all()
    assert (pixels[:, 50:] == np.asarray(picture)[:, 50:]).all()


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_applied(picture, tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    assert (_loaded(tmp_path / "a.png") == np.rot90(np.asarray(picture), turn)).all()


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_files_that_are_no_photo_are_refused_in_one_sentence(picture, tmp_path):
    picture.resize((900, 900)).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:5000])
    picture.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:-40])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "bomb.png").write_bytes(_png_header(60_000, 60_000))
    picture.resize((63, 200)).save(tmp_path / "small.png")
    cases = {
        "missing.jpg": (e.FileError, "There is no file"),
        "": (e.FileError, "is a folder"),
        "empty.jpg": (e.FileError, "is empty"),
        "text.jpg": (e.FileError, "not an image"),
        "cut.jpg": (e.FileError, "truncated"),
        "cut.png": (e.FileError, "truncated"),
        "bomb.png": (e.FileError, "million pixels"),
        "small.png": (e.FileError, "63 × 200 px"),
    }
    for name, (error, words) in cases.items():
        with pytest.raises(error, match=words) as caught:
            load_image(tmp_path / name)
        assert isinstance(caught.value, Ex5Error)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_masks_are_between_0_and_1(tmp_path):
    Image.fromarray(np.array([[0, 255], [255, 51]], np.uint8)).save(tmp_path / "mask.png")
    torch.testing.assert_close(load_mask(tmp_path / "mask.png"), torch.tensor([[[[0, 1], [1, 0.2]]]]))


def test_transparent_parts_of_a_mask_are_kept(tmp_path):
    strokes = np.zeros((4, 4, 4), np.uint8)
    strokes[1:3, 1:3] = 255
    Image.fromarray(strokes).save(tmp_path / "layer.png")
    assert load_mask(tmp_path / "layer.png")[0, 0].sum() == 4


def test_floating_point_pixels_are_refused_with_the_files_name(tmp_path):
    Image.fromarray(np.zeros((80, 80), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(e.FileError, match=r"a\.tif has floating-point pixels"):
        load_image(tmp_path / "a.tif")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail_halfway():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        fail_halfway()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_resizing_by_area_is_the_mean_of_blocks():
    image = torch.rand(1, 3, 12, 12)
    expected = image.reshape(1, 3, 4, 3, 4, 3).mean(dim=(3, 5))
    torch.testing.assert_close(resize_area(image, 4), expected)
    assert resize_area(image, 16) is image
    assert resize(image, 24).shape == (1, 3, 24, 24)


@pytest.mark.parametrize(("source", "size"), [(96, 24), (100, 37), (64, 63)])
def test_area_averaging_weighs_every_old_pixel_by_what_a_new_one_covers_of_it(source, size):
    """As many copies of each old pixel as there are new ones, then plain averages of whole pixels."""
    image = torch.rand(1, 3, source, source, generator=torch.Generator().manual_seed(0)).double()
    big = image.repeat_interleave(size, 2).repeat_interleave(size, 3)
    torch.testing.assert_close(resize_area(image, size), F.avg_pool2d(big, source), atol=1e-5, rtol=0)
    assert resize_area(image, source + 1) is image

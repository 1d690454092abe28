"""What an exploration shows of its pictures: at full resolution to who looks closely, and as files."""

import errno
import io
import json
import unittest.mock
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from explorations import PATIENCE, QUICK, pixels, search
from PIL import Image

import ex5lib
from ex5lib.degradations.known import GaussianBlur
from ex5lib.errors import FileError, SettingError
from ex5lib.explorer.board import aside
from ex5lib.explorer.choices import Choice
from ex5lib.explorer.searching import Searcher, Step
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.results import finished_request


def test_who_looks_at_a_part_sees_it_at_full_resolution(make):
    """Nobody else pays for it: pictures are small again when the whole is looked at."""
    one = make(degradation="blur")
    one.run()
    assert one.wait(PATIENCE)
    names = ("photo", "target", "result")
    before = {name: one.board.values[name] for name in names}
    one.handle({"do": "look", "x": 0.5, "y": 0.25, "side": 0.5})
    sides = {name: len(pixels(one.board.values[name])) for name in names}
    assert sides == {"photo": 1024, "target": 1024, "result": 32}  # the generator's own size
    one.change(kernel_size=9)
    assert len(pixels(one.board.values["target"])) == 1024
    one.handle({"do": "look", "x": 0.5, "y": 0.5, "side": 1})
    one.stop()
    one.change(kernel_size=25)
    assert {name: one.board.values[name] for name in names} == before


def test_while_previews_are_searched_the_part_that_is_looked_at_is_made_at_full_resolution(
    generator, astronaut, distance
):
    recipe = replace(QUICK, start="mean", stages=(Stage(2, 128, "w"), Stage(1, 128, "w+"), Stage(1, None, "w+")))
    seen, images = [], []

    def note(report: dict) -> None:
        ws = report["latent"].expand(-1, generator.num_ws, -1)
        images.append(generator.synthesis(ws, report["noise"]).clamp(-1, 1))

    def watch(step: Step) -> bool:
        seen.append([step.images((0.4, 0.5, side))[0] for side in (0.125, 0.9)])
        return False

    searcher = Searcher(generator, {recipe.name: recipe}, distance=distance, device="cpu", dtype="float32")
    searcher.search(Choice(recipe=recipe.name), astronaut, watch)
    keywords = {"recipe": recipe, "distance": distance, "device": "cpu", "dtype": "float32", "progress": False}
    ex5lib.project(generator, astronaut.image, callback=note, snapshots=(), **keywords)
    assert len(seen) == len(images) == 4
    for (near, far), image in zip(seen, images, strict=True):
        window = np.s_[:, :, 448:576, 346:474]
        torch.testing.assert_close(near[window], image[window], atol=2e-4, rtol=0)
        assert near.shape == far.shape == image.shape
        assert (near - image).abs().mean() < 0.1  # around it, the preview
    assert (seen[0][1] - images[0])[window].abs().mean() > 0.01  # of a large part, nothing is made twice


def test_a_composite_can_be_looked_at_closely_while_it_is_searched(make, face):
    one, frames = make(degradation="inpaint", hole=(100, 60, 60, 60)), []
    one.board.listeners.append(lambda values: frames.append(values["composite"]) if "progress" in values else None)
    one.handle({"do": "look", "x": 0.2, "y": 0.2, "side": 0.25})
    search(one)
    assert len(pixels(frames[1])) >= 256
    original = to_uint8(resize(face, len(pixels(frames[1])))).astype(int)
    assert np.abs(pixels(frames[1]) - original)[:64].mean() < 12


def test_a_picture_can_be_downloaded_whole(make, face):
    one = make(degradation="blur")
    for name in ("result", "composite", "nothing"):
        with pytest.raises(SettingError, match="no such picture yet"):
            one.download(name)
    search(one)
    blurred = GaussianBlur(25)(face)
    for name, image in (("target", blurred), ("photo", face), ("result", one.result.result)):
        file, content = one.download(name)
        assert file == f"square-{name}.png"
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), to_uint8(image))
    with pytest.raises(FileError, match="press Save"):
        one.download()


def test_save_writes_the_whole_result_into_a_folder_of_its_own(make, tmp_path, monkeypatch):
    one = make(degradation="blur", num_steps=8)
    search(one)
    for number in (1, 2):  # nothing that was saved is lost
        aside(partial(one._save, one.shelf.shown), one._complain).join()
        folder = tmp_path / f"square-blur-{number}"
        assert one.status == f"Saved in {folder}."
        assert (folder / "iterations.png").exists()
    assert finished_request(folder)["explorer"]["kernel_size"] == 25
    assert sorted(ex5lib.Projection.load(folder).snapshots) == [0, 1, 2, 3]  # images from early in the search
    name, content = one.shelf.archive()
    assert name == "square-blur-2.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert json.loads(file.read("square-blur-2/metrics.json"))["stopped"] is False

    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("numpy.savez", unittest.mock.Mock(side_effect=full))
    aside(partial(one._save, one.shelf.shown), one._complain).join()
    assert "could not be written (No space left on device): make room there" in one.status
    assert one.shelf.saved == folder
    assert not (tmp_path / "square-blur-3" / "metrics.json").exists()

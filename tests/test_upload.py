"""Choosing a photo in a notebook, under both generations of ipywidgets and on Colab."""

import sys
import types
from pathlib import Path

import ipywidgets
import pytest
import traitlets

from ex5lib.course import upload
from ex5lib.course.upload import choose_photo
from ex5lib.errors import FileError


class Chooser(ipywidgets.Widget):
    """A FileUpload whose value the test sets, in the shape that each generation of ipywidgets gives it."""

    value = traitlets.Any(())

    def __init__(self, **_):
        super().__init__()


@pytest.fixture
def chooser(monkeypatch, tmp_path) -> Chooser:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(upload, "_chooser", None)
    monkeypatch.setattr(ipywidgets, "FileUpload", Chooser)
    monkeypatch.setattr(upload, "display", lambda box: monkeypatch.setattr(upload, "shown", box, raising=False))
    with pytest.raises(FileError, match="then run this cell again"):
        choose_photo("upload")
    return upload._chooser


def test_a_path_is_taken_as_it_is(tmp_path):
    assert choose_photo("a/b.jpg") == Path("a/b.jpg")
    assert choose_photo(tmp_path) == tmp_path


@pytest.mark.parametrize(
    "value",
    [
        ({"name": "../me.png", "size": 3, "content": memoryview(b"abc")},),
        {"../me.png": {"metadata": {"name": "../me.png"}, "content": b"abc"}},
    ],
    ids=["ipywidgets 8", "ipywidgets 7"],
)
def test_what_was_chosen_is_kept_inside_one_folder(chooser, value, tmp_path):
    label = upload.shown.children[1]
    before = label.value
    chooser.value = value
    assert label.value != before
    assert "../me.png" in label.value
    path = choose_photo("upload")
    assert str(path) == "uploads/me.png"
    assert (tmp_path / path).read_bytes() == b"abc"


def test_the_real_widget_is_shown(monkeypatch):
    shown = []
    monkeypatch.setattr(upload, "_chooser", None)
    monkeypatch.setattr(upload, "display", shown.append)
    with pytest.raises(FileError):
        choose_photo("upload")
    assert isinstance(shown[0].children[0], ipywidgets.FileUpload)


def test_colab_asks_for_the_file_itself(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    answers = [{"me.png": b"abc"}, {}]
    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=lambda: answers.pop(0))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert (tmp_path / choose_photo("upload")).read_bytes() == b"abc"
    with pytest.raises(FileError, match="No file was chosen"):
        choose_photo("upload")

"""A sweep is one piece of HTML that holds its frames, its slider and its numbers, and shares nothing with the page."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ex5lib.course.sweep import sweep_html
from ex5lib.errors import SettingError


class Parsed(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, kind: str) -> list[dict]:
        return [attributes for tag, attributes in self.tags if tag == kind]


def _pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def _levels(*values: float, size: int = 32) -> list[Tensor]:
    return [torch.full((1, 3, size, size), value) for value in values]


def test_a_sweep_holds_its_frames_at_256_px_at_most_and_its_numbers():
    images = [*_levels(-0.5, 0.5), *_levels(0.9, size=600)]
    numbers = {"distance": [3.14159, 2, 1]}
    settings = {"label": "λ_w", "beside": {"photo": images[0]}, "start": 1, "numbers": numbers}
    page = Parsed(sweep_html([1e-5, "middle", 0.1], images, **settings).data)
    frames = page.all("img")
    assert [frame["alt"] for frame in frames] == ["photo", "λ_w: 1e-05", "λ_w: middle", "λ_w: 0.1"]
    pixels = [_pixels(frame["src"]) for frame in frames]
    assert [len(picture) for picture in pixels] == [32, 32, 32, 256]
    assert [round(picture.mean()) for picture in pixels] == pytest.approx([64, 64, 191, 242], abs=2)
    assert ["display:none" in figure["style"] for figure in page.all("figure")] == [False, True, False, True]
    (slider,) = page.all("input")
    assert (slider["type"], slider["min"], slider["max"], slider["value"]) == ("range", "0", "2", "1")
    assert slider["aria-valuetext"] == "middle"
    assert "λ_w: 1e-05distance 3.142" in "".join(page.texts)


def test_titles_are_escaped():
    nasty = "\"><script>alert('1')</script>&"
    page = sweep_html([nasty], _levels(0), label=nasty, numbers={nasty: [1]}, beside={nasty: _levels(0)[0]}).data
    assert "<script" not in page
    parsed = Parsed(page)
    assert {tag for tag, _ in parsed.tags} <= {"div", "label", "input", "figure", "img", "figcaption", "br"}
    assert [frame["alt"] for frame in parsed.all("img")] == [nasty, f"{nasty}: {nasty}"]
    assert (
        "".join(parsed.texts).count(nasty) == 5
    )  # the label, the photo's caption, and two with a number in the frame's


def test_sweeps_share_nothing_on_a_page():
    page = sweep_html(["a", "b"], _levels(0, 1)).data * 2
    parsed = Parsed(page)
    assert not any({"id", "name", "for"} & set(attributes) for _, attributes in parsed.tags)
    assert len(re.findall(r"<label[^>]*>frame<input [^>]*></label>", page)) == 2
    assert not re.search(r"\b(window|document|var)\b", "".join(slider["oninput"] for slider in parsed.all("input")))
    assert not re.search(r"https?:", page)


@pytest.mark.parametrize(
    ("titles", "images", "settings", "message"),
    [
        ([], [], {}, "sweep of 0 images"),
        (["a"], _levels(0, 1), {}, "as many titles, not 1"),
        (["a"], _levels(0), {"numbers": {"distance": [1, 2]}}, "as many distance"),
        (["a"], _levels(0), {"start": 1}, "cannot start at image 1"),
        (["a"], [torch.zeros(1, 3, 8, 9)], {}, "9 × 8 px"),
        (["a"], [torch.zeros(3, 8, 8)], {}, r"not \[3, 8, 8\]"),
    ],
)
def test_a_sweep_that_does_not_fit_is_refused(titles, images, settings, message):
    with pytest.raises(SettingError, match=message):
        sweep_html(titles, images, **settings)

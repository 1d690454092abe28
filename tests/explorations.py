"""Recipes, masks and acts that the tests of the explorer share."""

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

import ex5lib
from ex5lib.explorer.exploration import Exploration
from ex5lib.images.tensors import to_uint8
from ex5lib.inversion.recipes import SMOKE

QUICK = replace(SMOKE, w_avg_samples=200)
LONG = 2000  # steps: a search that no test lets come to its end
PATIENCE = 120  # seconds after which a search that must come to an end counts as hung
ALL = b"\xff" * (256 * 256 // 8)  # a mask that is painted all over
PAINTED = ALL[:125] + bytes(len(ALL) - 125)


class Gate(ex5lib.PerceptualDistance):
    """The real distance; in its n-th call, in the middle of a step, it waits until it is let on, or does ``act``."""

    def __init__(self, at: int = 0, act: Callable[[], None] | None = None):
        super().__init__(device="cpu")
        self.at, self.act, self.calls = at, act or self._wait, 0
        self.inside, self.go_on = threading.Event(), threading.Event()

    def _wait(self) -> None:
        self.inside.set()
        assert self.go_on.wait(PATIENCE)

    def forward(self, image: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            self.act()
        return super().forward(image, target)


def search(one: Exploration, **changes) -> None:
    """Run or, once it runs, change something, and wait for the end."""
    one.change(**changes) if changes else one.run()
    assert one.wait(PATIENCE)


def wait_for(happened: Callable[[], object]) -> None:
    """Until something done in another thread has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def upload(one: Exploration, name: str, content: bytes, action: str = "upload") -> None:
    one.handle({"do": action, "name": name, "size": len(content), "at": 0}, content)


def pixels(frame: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(frame))
    assert picture.format == "JPEG"
    return np.asarray(picture).astype(int)


def png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def close_to(frame: bytes, image: Tensor) -> bool:
    """Whether a frame shows the image, but for what JPEG does to an untrained network's noise."""
    pair = (pixels(frame), to_uint8(image))
    return np.corrcoef([each.mean(axis=2).ravel() for each in pair])[0, 1] > 0.9


def run_to_the_first_frame(one: Exploration) -> None:
    drawn = threading.Event()
    one.board.listeners.append(lambda values: values.get("progress") and drawn.set())
    one.run()
    assert drawn.wait(PATIENCE)


def state(one: Exploration) -> dict:
    return one.board.values["state"]

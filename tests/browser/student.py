"""Who plays with the explorer in the browser tests."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from playwright.sync_api import Page


class Student:
    """Somebody in front of the page, who takes a screenshot of every step."""

    def __init__(self, page: Page, folder: Path, name: str):
        self.page, self.folder, self.name, self.shots = page, folder, name, 0

    def status(self) -> str:
        return self.page.inner_text(".ex5 [role=status]")

    def wait(self, pattern: str) -> None:
        script = "pattern => new RegExp(pattern).test(document.querySelector('.ex5 [role=status]')?.innerText)"
        self.page.wait_for_function(script, arg=pattern)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, degradation: str) -> None:
        self.page.get_by_label("degradation", exact=True).select_option(degradation)

    def upload(self, name: str, content: bytes) -> None:
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.page.get_by_label("photo file").set_input_files(file)

    def drag(self, *points: tuple[float, float]) -> None:
        """Over the picture, between places in shares of its side."""
        box = self.page.locator(".ex5-stage").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def picture(self) -> bytes:
        return self.page.locator(".ex5-stage").screenshot()

    def shoot(self, step: str) -> None:
        self.shots += 1
        self.page.locator(".ex5").screenshot(path=self.folder / f"{self.name}-{self.shots:02d}-{step}.png")

    def fits(self) -> bool:
        """Whether nothing sticks out of the explorer, or out of a button."""
        return self.page.evaluate(
            """() => {
                const root = document.querySelector('.ex5');
                const right = root.getBoundingClientRect().right + 1;
                const seen = [...root.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('svg'));
                const out = seen.filter(e => e.getBoundingClientRect().right > right);
                const cut = seen.filter(e => e.tagName === 'BUTTON' && e.scrollWidth > e.clientWidth + 1);
                return [...out, ...cut].length === 0;
            }"""
        )

    def painted(self) -> int:
        """How many of the 256 × 256 pixels of the mask are painted on the page."""
        return self.page.evaluate(
            """() => {
                const pen = document.querySelector('.ex5-stage canvas').getContext('2d');
                return pen.getImageData(0, 0, 256, 256).data.filter((value, i) => i % 4 === 3 && value > 127).length;
            }"""
        )

    def touch(self, *points: tuple[float, float]) -> None:
        """Draw a finger over the picture, between places in shares of its side."""
        box = self.page.locator(".ex5-stage").bounding_box()
        places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        session = self.page.context.new_cdp_session(self.page)
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": places[:1]})
        for start, end in pairwise(places):
            for share in np.linspace(0, 1, 9)[1:]:
                point = {axis: start[axis] + share * (end[axis] - start[axis]) for axis in "xy"}
                session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

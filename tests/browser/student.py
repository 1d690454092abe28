"""Who plays with the explorer in the browser tests."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


class Student:
    """Somebody in front of the page, who takes a screenshot whenever something has come."""

    def __init__(self, page: Page, folder: Path, name: str):
        self.page, self.folder, self.name, self.shots = page, folder, name, 0

    def wait(self, pattern: str, where: str = "[role=status]") -> None:
        """Until the status line, or what else is named, matches a pattern."""
        script = "([pattern, where]) => new RegExp(pattern).test(document.querySelector('.ex5 ' + where)?.innerText)"
        self.page.wait_for_function(script, arg=[pattern, where])
        self.shoot()

    def wait_for_step(self, numbers: str = "[2-9]") -> None:
        self.wait(f"^step {numbers} ", ".ex5-words")

    def wait_for_numbers(self, words: str = "") -> None:
        """Until all are measured, and these words are there."""
        self.wait(f"^[^…]*{words}[^…]*$", ".ex5-numbers")

    def finish(self) -> None:
        self.wait("^Searching")
        self.wait("^Done")

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def choose(self, degradation: str) -> None:
        self.page.get_by_label("damage", exact=True).select_option(degradation)

    def upload(self, name: str, content: bytes) -> None:
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.page.get_by_label("photo file").set_input_files(file)

    def tags(self) -> list[str]:
        """Which the two pictures are said to be."""
        said = "all => all.map(tag => tag.value + (tag.selectedOptions[0].text.match(/ \\(.*/)?.[0] ?? ''))"
        return self.page.locator(".ex5-tag").evaluate_all(said)

    def drag(self, *points: tuple[float, float]) -> None:
        """Over the picture, between places in shares of its side."""
        places = self._places(points)
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def move(self, x: float, y: float) -> None:
        """Point at a place of the picture."""
        self.page.mouse.move(*self._places(((x, y),))[0])

    def touch(self, *fingers: list[tuple[float, float]]) -> None:
        """The same with a finger, or with several at once, which pass equally many places."""
        session = self.page.context.new_cdp_session(self.page)

        def send(kind: str, *places: np.ndarray) -> None:
            touched = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})

        paths = np.array([self._places(tuple(points)) for points in fingers])  # [fingers, places, 2]
        for i in range(len(paths)):
            send("touchStart", *paths[: i + 1, 0])
        for start, end in pairwise(paths.swapaxes(0, 1)):
            for share in np.linspace(0, 1, 9)[1:]:
                send("touchMove", *(start + share * (end - start)))
        send("touchEnd")

    def _places(self, points: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
        box = self.page.locator(".ex5-stage").bounding_box()
        return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]

    def shoot(self) -> None:
        self.shots += 1
        self.page.screenshot(path=self.folder / f"{self.name}-{self.shots:02d}.png", full_page=True)

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

    def fits_at_all_widths(self) -> bool:
        size, fitting = self.page.viewport_size, []
        for width in (1400, 800, 390):
            self.page.set_viewport_size({"width": width, "height": 2100})
            self.page.wait_for_timeout(700)
            fitting.append(self.fits())
            self.shoot()
        self.page.set_viewport_size(size)
        return all(fitting)

    def painted(self) -> int:
        """How many of the 256 × 256 pixels of the mask are painted on the page."""
        return self.page.evaluate(
            """() => {
                const pen = document.querySelector('.ex5-stage canvas').getContext('2d');
                return pen.getImageData(0, 0, 256, 256).data.filter((value, i) => i % 4 === 3 && value > 127).length;
            }"""
        )


def violations(page: Page) -> list[str]:
    """What axe finds at three widths, in light and dark."""
    seen = []
    for width in (390, 820, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(300)
            for found in Axe().run(page).response["violations"]:
                seen += [f"{width} {scheme} {found['id']}: {node['html']}" for node in found["nodes"]]
    return seen

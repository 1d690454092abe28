"""A person's way from a photo to the restored one on the explorer's page, in a real browser: clicks, seconds, pictures.

python -m scripts.first_visit [PHOTO] [--phone] [--dark]

Needs Chromium, and playwright, which ``make test-browser`` installs. The pictures of the steps go to results/visit/.
The one at the end, wide and light, is docs/explorer.jpg.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from scripts.old_photo import ROOT, aged

_PATIENCE = 1_800_000  # ms


def visit(page: Page, address: str, photo: Path, out: Path) -> None:
    """Go the way, and tell about it."""
    began, clicks = time.monotonic(), 0

    def step(words: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s, {clicks} clicks: {words}", flush=True)
        page.screenshot(path=out / f"{words.replace(' ', '-')}.png")

    page.goto(address)
    page.locator(".restore .example img").last.wait_for()
    page.wait_for_timeout(200)
    step("the page is open")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a photo").click()
    clicks += 1
    chooser.value.set_files(photo)
    page.wait_for_function("() => document.querySelector('.restore .ex5-layer img').naturalWidth > 0")
    step("the photo is seen")
    page.get_by_role("button", name="Restore", exact=True).wait_for()
    step("what is wrong is told")
    page.get_by_role("button", name="Restore", exact=True).click()
    clicks += 1
    page.wait_for_function("() => document.querySelector('.restore .ex5-layer img').src.startsWith('blob:')")
    step("the first face is seen")
    page.get_by_text("Done: drag the line").wait_for()
    page.wait_for_timeout(500)
    step("the photo is restored")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path, nargs="?", help="without one, a sample that was made old")
    parser.add_argument("--phone", action="store_true", help="390 px wide, instead of 1400")
    parser.add_argument("--dark", action="store_true")
    asked = parser.parse_args()
    out = ROOT / "results" / "visit" / ("phone" if asked.phone else "wide") / ("dark" if asked.dark else "light")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        photo = asked.photo or Path(folder, "old.png")
        if asked.photo is None:
            aged(Image.open(ROOT / "data" / "vice-president.jpg")).save(photo)
        command = [sys.executable, "-m", "ex5lib", "explore", "--no-browser"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as program:
            address = [program.stdout.readline() for _ in range(2)][1].split()[-1]
            size = {"width": 390, "height": 844} if asked.phone else {"width": 1400, "height": 900}
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport=size, color_scheme="dark" if asked.dark else "light")
            page.set_default_timeout(_PATIENCE)
            visit(page, address, photo, out)
            if not (asked.photo or asked.phone or asked.dark):
                seen = Image.open(out / "the-photo-is-restored.png").convert("RGB")
                seen.save(ROOT / "docs" / "explorer.jpg", quality=85)
            browser.close()
            program.terminate()


if __name__ == "__main__":
    main()

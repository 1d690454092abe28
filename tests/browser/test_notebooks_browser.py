"""Finished pages in a real browser, without a kernel: an exported notebook's slider, and the report.

``make test-browser`` runs this; ``make test`` does not, for it needs a Chromium.
"""

import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Locator

from ex5lib.course.report import render


def _stored(root: Path) -> dict[str, nbformat.NotebookNode]:
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted((root / "notebooks").glob("*.ipynb"))}


def _shown(sweep: Locator) -> tuple[list[str], bytes]:
    frames = sweep.locator("[data-frames] figure:visible")
    return frames.locator("img").evaluate_all("images => images.map(image => image.alt)"), frames.screenshot()


def test_the_slider_of_an_exported_notebook_changes_its_picture_without_a_kernel(page, root, tmp_path, screenshots):
    # The page's own extras would come from the open internet.
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    html, _ = exporter.from_notebook_node(_stored(root)["3.3.2_colorization"])
    (tmp_path / "notebook.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "notebook.html").as_uri())
    (sweep,) = page.locator("[data-sweep]").all()
    slider = sweep.get_by_role("slider", name="λ_w")
    names, picture = _shown(sweep)
    assert names == ["λ_w: 0.1"]
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    names, moved = _shown(sweep)
    assert names == ["λ_w: 1"]
    assert moved != picture
    assert re.match("λ_w: 1", slider.get_attribute("aria-valuetext"))
    sweep.screenshot(path=screenshots / "exported.png")


def test_the_report_is_whole_and_its_sliders_move_one_by_one(page, root, tmp_path, screenshots):
    pages = _stored(root)
    sections = [{"section": name.partition("_")[0], "claims": [], "searches": []} for name in pages]
    about = {"photo": "astronaut.png", "generator": "mobile-ffhq", "recipe": "fast"}
    path = tmp_path / "report.html"
    path.write_text(render(pages, sections, about, with_what_was_seen=True), encoding="utf-8")
    page.on("request", lambda request: pytest.fail(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    images = page.locator("img")
    assert images.count() > 40
    assert images.evaluate_all("all => all.every(image => image.complete && image.naturalWidth > 0 && image.alt)")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    first, second, *_ = page.locator("[data-sweep]").all()
    before = _shown(second)[0]
    first.scroll_into_view_if_needed()
    box = first.get_by_role("slider").bounding_box()
    page.mouse.click(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    assert _shown(first)[0] == ["latent weight: × 1500"]
    assert _shown(second)[0] == before  # the other one stays where it is
    page.screenshot(path=screenshots / "report.png", full_page=True)

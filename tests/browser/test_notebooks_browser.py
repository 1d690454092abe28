"""The notebooks in a real browser: 3.2's sliders in JupyterLab, an exported page's slider, and the report.

``make test-browser`` runs this; ``make test`` does not, for it needs a Chromium. Screenshots go to results/browser/.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from ex5lib.notebook.report import render

PATIENCE = 300  # seconds to load, align and search on a busy machine
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Notes what the page shows of the explorer whenever it changes: when, the status line, and the picture's pixels.
WATCH = """
() => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 24;
    const pixels = image => {
        canvas.getContext('2d').drawImage(image, 0, 0, 24, 24);
        return canvas.toDataURL();
    };
    window.seen = [];
    const look = () => {
        const status = document.querySelector('[role=status]')?.innerText;
        const image = document.querySelectorAll('.widget-image')[2];
        if (status && image?.complete && image.naturalWidth) {
            const now = {at: performance.now() / 1000, status, picture: pixels(image)};
            const last = window.seen.at(-1);
            if (!last || last.status !== now.status || last.picture !== now.picture) window.seen.push(now);
        }
        requestAnimationFrame(look);
    };
    look();
}
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    named = os.environ.get("EX5_CHROMIUM")
    binary = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        where = f"at {named}" if named else f"among the programs ({', '.join(NAMES)})"
        pytest.fail(f"There is no browser {where}: install Chromium, or name its binary in EX5_CHROMIUM.", False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=binary, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A page on which nothing may be written to the console as an error, and no network but a notebook's badge."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    badge = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>'
    tab.route(
        "https://colab.research.google.com/**", lambda route: route.fulfill(body=badge, content_type="image/svg+xml")
    )
    errors: list[str] = []
    tab.on("console", lambda message: message.type == "error" and errors.append(f"{message.text} {message.location}"))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    tab.close()
    assert errors == []


@pytest.fixture
def screenshots(root) -> Path:
    folder = root / "results" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def lab(tmp_path) -> Iterator[str]:
    """The address of a JupyterLab of its own, whose notebooks are in ``tmp_path``."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    # A user's own settings would change what is tested.
    own = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    news = tmp_path / "jupyter_config_dir/lab/user-settings/@jupyterlab/apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')  # it asks about them otherwise
    recipe = {"EX5_RECIPE": "fast"}  # long enough to move a slider while it runs
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=os.environ | own | recipe, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not _answers(address):
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                assert time.monotonic() < deadline, "JupyterLab did not start."
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()
            server.wait(30)


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/api", timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def _slider(page: Page, words: str) -> Locator:
    return page.locator(".widget-slider").filter(has_text=words).locator(".noUi-handle")


def _wait_for_status(page: Page, pattern: str) -> None:
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.querySelector('[role=status]')?.innerText)",
        arg=pattern,
        timeout=PATIENCE * 1000,
    )


def test_the_explorer_of_notebook_3_2_follows_its_sliders_in_jupyterlab(lab, page, root, tmp_path, screenshots):
    notebook = nbformat.read(root / "notebooks" / "3.2_inversion.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("ex5lib.explore("))
    notebook.cells = notebook.cells[: last + 1]  # what comes after the sliders takes ten minutes
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").symlink_to(root / "data")
    nbformat.write(notebook, tmp_path / "notebooks" / "3.2.ipynb")
    page.goto(f"{lab}/doc/tree/notebooks/3.2.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE * 1000)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=PATIENCE * 1000,
    )
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    _wait_for_status(page, "^Press Run")
    page.evaluate(WATCH)

    degradation = page.locator(".widget-dropdown select")
    degradation.select_option("inpaint")
    edge = page.locator(".widget-image").first
    page.wait_for_timeout(1000)
    before = edge.screenshot()
    _slider(page, "top").press("PageDown")
    page.wait_for_timeout(1000)
    assert edge.screenshot() != before  # the outline has moved on the photo
    page.locator(".jupyter-button", has_text="Run").click()
    _wait_for_status(page, "^Step [3-9] ")
    page.screenshot(path=screenshots / "1-running.png")

    moved = page.evaluate("() => window.seen.length")
    _slider(page, "λ_w").press("PageUp")
    page.wait_for_function(
        """moved => {
            const after = window.seen.slice(moved).map(now => now.status);
            const restart = after.findIndex(status => status.startsWith('Starting'));
            return restart >= 0 && after.slice(restart).some(status => status.startsWith('Step 4 '));
        }""",
        arg=moved,
        timeout=PATIENCE * 1000,
    )
    seen = page.evaluate("moved => window.seen.slice(moved)", moved)
    restart = next(i for i, now in enumerate(seen) if now["status"].startswith("Starting"))
    drawn = next(now["at"] for now in seen[restart:] if now["status"].startswith("Step 1 "))
    changed = next(
        now["at"] for now in seen[restart:] if now["at"] >= drawn and now["picture"] != seen[restart]["picture"]
    )
    assert changed - drawn <= 2  # seconds
    page.screenshot(path=screenshots / "2-restarted.png")

    page.locator(".jupyter-button", has_text="Stop").click()
    _wait_for_status(page, "^Stopped, best so far")
    page.screenshot(path=screenshots / "3-stopped.png")
    degradation.select_option("blur")
    _wait_for_status(page, "^The settings have changed")
    page.locator(".jupyter-button", has_text="Run").click()
    _wait_for_status(page, "^Step [3-9] ")
    page.screenshot(path=screenshots / "4-blur-beside-previous.png")
    assert page.locator(".widget-image").count() == 4
    assert not page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count()


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
    sweep.screenshot(path=screenshots / "5-exported.png")


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
    page.screenshot(path=screenshots / "6-report.png", full_page=True)

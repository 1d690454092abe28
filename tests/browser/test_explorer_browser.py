"""The sliders in a real browser: in JupyterLab with a kernel, and on an exported page without one.

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
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, Locator, Page, sync_playwright

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
        const image = document.querySelectorAll('.jp-OutputArea-output img')[2];
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
    """A page on which nothing may be written to the console as an error."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
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
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=os.environ | own, stdout=log, stderr=log
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


def _notebook(*cells: str) -> nbformat.NotebookNode:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def _slider(page: Page, words: str) -> Locator:
    return page.locator(".widget-slider").filter(has_text=words).locator(".noUi-handle")


def _wait_for_status(page: Page, pattern: str) -> None:
    page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.querySelector('[role=status]')?.innerText)",
        arg=pattern,
        timeout=PATIENCE * 1000,
    )


def test_the_explorer_follows_its_sliders_in_jupyterlab(lab, page, root, tmp_path, screenshots):
    notebook = _notebook(
        f"import ex5lib\nG = ex5lib.load_generator()\nface = ex5lib.align_face({str(root / 'data/astronaut.png')!r})",
        'ex5lib.explore(G, face.image, degradation="inpaint", profile="smoke", steps=40)',
    )
    nbformat.write(notebook, tmp_path / "explorer.ipynb")
    page.goto(f"{lab}/doc/tree/explorer.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE * 1000)
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=PATIENCE * 1000,
    )
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    _wait_for_status(page, "^Press Run")
    page.evaluate(WATCH)

    edge = page.locator(".jp-OutputArea-output img").first
    before = edge.screenshot()
    _slider(page, "top").press("PageDown")
    page.wait_for_timeout(1000)
    assert edge.screenshot() != before  # the outline has moved on the photo
    page.locator(".jp-OutputArea-output button", has_text="Run").click()
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

    page.locator(".jp-OutputArea-output button", has_text="Stop").click()
    _wait_for_status(page, "^Stopped, best so far")
    page.screenshot(path=screenshots / "3-stopped.png")
    page.locator(".widget-dropdown select").select_option("blur")
    _wait_for_status(page, "^The result is of other settings")
    page.locator(".jp-OutputArea-output button", has_text="Run").click()
    _wait_for_status(page, "^Step [3-9] ")
    page.screenshot(path=screenshots / "4-blur-beside-previous.png")
    assert page.locator(".jp-OutputArea-output img").count() == 4
    assert not page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").count()


def test_an_exported_sweep_changes_its_picture_without_a_kernel(page, root, tmp_path, screenshots):
    notebook = _notebook(
        "import torch, ex5lib\nG = ex5lib.load_generator()\nstrengths = [0, 0.25, 0.5, 0.75, 1]\n"
        "def faces(seed):\n    with torch.no_grad():\n        return [G.synthesis(ex5lib.sample_ws(G, seed, "
        "truncation_psi=psi), size=256) for psi in strengths]",
        'ex5lib.sweep_html(strengths, faces(4), label="truncation ψ", numbers={"share of the way": strengths}, '
        'beside={"mean face": faces(4)[0]})',
        'ex5lib.sweep_html(strengths, faces(9), label="another face, ψ", start=4)',
    )
    # The page's own extras would come from the open internet.
    exporter = HTMLExporter(mathjax_url="", require_js_url="", jquery_url="", mermaid_js_url="")
    html, _ = exporter.from_notebook_node(NotebookClient(notebook, timeout=PATIENCE).execute())
    (tmp_path / "sweep.html").write_text(html, encoding="utf-8")

    page.on("request", lambda request: pytest.fail(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "sweep.html").as_uri())
    first, second = page.locator("[data-sweep]").all()
    slider, other = first.get_by_role("slider", name="truncation ψ"), second.get_by_role("slider", name="another face")

    def shown(sweep: Locator) -> tuple[list[str], bytes]:
        frames = sweep.locator("[data-frames] figure:visible")
        return frames.locator("img").evaluate_all("images => images.map(image => image.alt)"), frames.screenshot()

    names, picture = shown(first)
    assert names == ["truncation ψ: 0"]
    assert shown(second)[0] == ["another face, ψ: 1"]
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    names, moved = shown(first)
    assert names == ["truncation ψ: 0.5"]
    assert moved != picture
    assert re.match("truncation ψ: 0.5", slider.get_attribute("aria-valuetext"))
    assert shown(second)[0] == ["another face, ψ: 1"]  # the other one stays where it is
    box = other.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert shown(second)[0] == ["another face, ψ: 0.5"]
    page.screenshot(path=screenshots / "5-exported.png", full_page=True)

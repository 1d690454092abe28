"""A Chromium, a page on which nothing may go wrong, and servers to look at. Screenshots go to results/browser/."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PATIENCE = 300  # seconds to load, align and search on a busy machine
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


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
def errors() -> list[str]:
    """What the page has written to its console as an error."""
    return []


@pytest.fixture
def page(browser, errors) -> Iterator[Page]:
    """A page on which nothing may be written to the console as an error, and no network but a notebook's badge."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    badge = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>'
    tab.route(
        "https://colab.research.google.com/**", lambda route: route.fulfill(body=badge, content_type="image/svg+xml")
    )
    tab.set_default_timeout(PATIENCE * 1000)
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


@contextmanager
def _running(folder: Path, module: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen]:
    """A module of Python that runs until the end of a test and writes its errors to a log."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with (folder / "log").open("w") as log:
        options = {"stdout": subprocess.PIPE, "stderr": log, "text": True}
        program = subprocess.Popen(command, cwd=folder, env=os.environ | environment, **options)
        yield program
        program.terminate()
        program.wait(30)


@pytest.fixture
def explore(root, tmp_path) -> Iterator[Callable[..., str]]:
    """Start ``ex5 explore`` in ``tmp_path``, with further arguments; returns the address of its page, in a mode.

    A page in the mode "#explore" has a photo, one in the mode "" begins without.
    """
    with ExitStack() as running:

        def _explore(*arguments: object, mode: str = "#explore") -> str:
            photo = [root / "data" / "astronaut.png"] if mode == "#explore" else []
            command = ("ex5lib", "explore", *photo, "--no-browser", *arguments)
            environment = {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
            program = running.enter_context(_running(tmp_path, *command, **environment))
            lines = [program.stdout.readline() for _ in range(2)]
            assert "http" in lines[1], (tmp_path / "log").read_text()
            return lines[1].split()[-1] + mode

        yield _explore


@pytest.fixture
def lab(root, tmp_path) -> Iterator[str]:
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
    with _running(tmp_path, "jupyterlab", *options, PYTHONPATH=str(root), EX5_RECIPE="smoke", **own) as server:
        deadline = time.monotonic() + PATIENCE
        while not _answers(address):
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, "JupyterLab did not start."
            time.sleep(0.2)
        yield address


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/api", timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError):
        return False

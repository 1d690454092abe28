"""A folder that workers share: real schedulers and workers, some of which are killed."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from results_folder import RUN_FILES, files_in

from ex5lib.restoration.results import finished_request

PATIENCE = 300  # seconds after which something counts as hung
LONG = 12  # steps of a search: some seconds
LOST = "The scheduler is gone: start it and run the same command again"


@pytest.fixture
def processes(root, tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start Python modules with this project, one thread each, in ``tmp_path``; they are killed in the end."""
    running: list[subprocess.Popen] = []

    def _start(*arguments: object, path: Path = root, **options) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(path), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path} | options
        options.setdefault("preexec_fn", _heed_ctrl_c)
        running.append(subprocess.Popen(command, env=environment, start_new_session=True, **options))
        return running[-1]

    yield _start
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _heed_ctrl_c() -> None:
    """What a shell starts in the background ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def scheduler(processes, tmp_path) -> str:
    return _scheduler(processes, tmp_path)[1]


def _scheduler(processes, folder: Path) -> tuple[subprocess.Popen, str]:
    """A scheduler, and its address."""
    told = folder / "scheduler.json"
    told.unlink(missing_ok=True)
    command = ("distributed.cli.dask_scheduler", "--port", 0, "--no-dashboard", "--scheduler-file", told)
    process = processes(*command, stdout=subprocess.DEVNULL)
    _wait_for(told.exists)
    return process, json.loads(told.read_text())["address"]


def _worker(processes, address: str, *more: object, **options) -> subprocess.Popen:
    command = ("distributed.cli.dask_worker", address, "--nthreads", 1, "--no-dashboard", *more)
    return processes(*command, **({"stdout": subprocess.DEVNULL} | options))


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_searching(out: Path) -> bool:
    """Whether some photo is done, so that the next ones are being searched."""
    return any(out.glob("*/metrics.json"))


@pytest.fixture
def command(album, faces, quick) -> list:
    shutil.copy(faces[2], album / "c.png")
    return ["ex5lib", "invert", "album", "--aligned", *quick]


def _pixels(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in out.glob("*/result.png")}


def test_workers_of_every_kind_find_what_one_process_finds(processes, command, scheduler, tmp_path):
    (tmp_path / "album" / "broken.png").write_bytes(b"no image")
    _worker(processes, scheduler)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _worker(processes, scheduler, cwd=elsewhere)
    kinds = {
        "alone": [],
        "here": ["--workers", 2],
        "there": ["--cluster", scheduler],
        "sent": ["--cluster", scheduler, "--send"],
    }
    told = {}
    for out, more in kinds.items():
        process = processes(*command, "--out", out, *more)
        told[out] = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 1, told[out]
        assert "3 done, 0 done before, 1 failed" in told[out]
        assert all(files_in(tmp_path / out / name) == RUN_FILES for name in "abc")
    alone, *others = (_pixels(tmp_path / out) for out in kinds)
    assert alone.keys() == {*"abc"}
    assert others == [alone] * 3
    table = (tmp_path / "there" / "summary.csv").read_text()
    assert "broken.png is not an image" in table
    assert "(on tcp://" in table
    again = processes(*command, "--out", "there").communicate(timeout=PATIENCE)[0]
    assert "0 done, 3 done before, 1 failed" in again


def test_a_photo_whose_worker_is_killed_is_searched_by_another(processes, command, scheduler, tmp_path):
    workers = [_worker(processes, scheduler, "--no-nanny") for _ in range(2)]
    client = processes(*command, "--out", "out", "--cluster", scheduler, "--num-steps", LONG)
    _wait_for(lambda: _is_searching(tmp_path / "out"))
    workers[0].kill()
    workers[0].wait()  # or its number would still stand for a running process
    told = client.communicate(timeout=PATIENCE)[0]
    assert client.returncode == 0, told
    assert "3 done, 0 done before, 0 failed" in told
    assert all(files_in(tmp_path / "out" / name) == RUN_FILES for name in "abc")


@pytest.mark.parametrize("killed", ["scheduler", "client"])
def test_what_is_done_is_not_done_again_after_the_scheduler_or_the_client_was_killed(
    processes, command, tmp_path, killed
):
    process, address = _scheduler(processes, tmp_path)
    _worker(processes, address, "--no-nanny")
    command = [*command, "--num-steps", LONG, "--out", "out"]
    client = processes(*command, "--cluster", address)
    _wait_for(lambda: _is_searching(tmp_path / "out"))
    (process if killed == "scheduler" else client).kill()
    if killed == "scheduler":
        assert LOST in client.communicate(timeout=PATIENCE)[0]
        assert client.returncode == 1
        _, address = _scheduler(processes, tmp_path)
        _worker(processes, address, "--no-nanny")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/metrics.json")}
    assert 1 <= len(done) < 3
    told = processes(*command, "--cluster", address).communicate(timeout=PATIENCE)[0]
    assert " 0 failed" in told
    assert all(path.stat().st_mtime_ns == at for path, at in done.items())
    assert all(finished_request(tmp_path / "out" / name) for name in "abc")


def test_ctrl_c_lets_what_is_searched_come_to_its_end(processes, command, scheduler, tmp_path):
    _worker(processes, scheduler, "--no-nanny")
    command = [*command, "--num-steps", LONG, "--out", "out", "--cluster", scheduler]
    client = processes(*command)
    _wait_for(lambda: _is_searching(tmp_path / "out"))
    client.send_signal(signal.SIGINT)
    told = client.communicate(timeout=PATIENCE)[0]
    assert client.returncode == 130, told
    assert "Ctrl-C again leaves it" in told
    done = [path for path in (tmp_path / "out").glob("*/metrics.json") if finished_request(path.parent)]
    assert 1 <= len(done) < 3
    assert f"{len(done)} done, 0 done before, 0 failed, {3 - len(done)} not done" in told


def test_a_full_disk_fails_photos_and_leaves_no_half_results(processes, command, scheduler, tmp_path):
    """Files of 20 kB are too large for the system, and so are written in part, as on a full disk."""
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    worker = _worker(processes, scheduler, "--no-nanny", preexec_fn=small)
    command = [*command, "--out", "out", "--cluster", scheduler]
    told = processes(*command).communicate(timeout=PATIENCE)[0]
    assert "0 done, 0 done before, 3 failed" in told, told
    assert "make room there" in (tmp_path / "out" / "summary.csv").read_text()
    assert not any(finished_request(folder) for folder in (tmp_path / "out").iterdir() if folder.is_dir())
    worker.kill()
    _worker(processes, scheduler, "--no-nanny")
    assert "3 done, 0 done before, 0 failed" in processes(*command).communicate(timeout=PATIENCE)[0]
    assert all(files_in(tmp_path / "out" / name) == RUN_FILES for name in "abc")


def test_a_photo_that_ends_three_workers_fails_and_the_others_go_on(processes, album, quick, scheduler):
    Image.fromarray(np.zeros((12000, 12000), np.uint8)).save(album / "a.png")  # small on the disk, 2 GB as a tensor
    _worker(processes, scheduler, "--memory-limit", "2GB")  # its nanny kills it and starts it anew
    client = processes("ex5lib", "invert", "album", "--aligned", *quick, "--out", "out", "--cluster", scheduler)
    told = client.communicate(timeout=PATIENCE)[0]
    assert client.returncode == 1, told
    assert "a.png: It ended 3 workers" in told
    assert "1 done, 0 done before, 1 failed" in told


def test_a_worker_with_another_version_is_refused(processes, command, scheduler, root, tmp_path):
    for package in ("ex5lib", "stylegan2_ada", "data"):
        shutil.copytree(root / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other" / "ex5lib" / "files.py").open("a") as file:
        file.write("# another version\n")
    _worker(processes, scheduler, path=tmp_path / "other")
    client = processes(*command, "--cluster", scheduler)
    assert "Another version of this program runs on tcp://" in client.communicate(timeout=PATIENCE)[0]
    assert client.returncode == 1
    assert not (tmp_path / "results").exists()

"""What goes wrong with disks, names and killed processes, and what is left of it afterwards."""

import os
import resource
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from ex5lib import errors as e
from ex5lib import files
from ex5lib.files import check_writable, replacing


@contextmanager
def small_disk():
    """No file may grow beyond 50 kB: the system refuses the rest in the middle of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.png", lambda path: Image.effect_noise((512, 512), 90).save(path)),
        ("a.npz", lambda path: np.savez(path, a=np.zeros(100_000))),
        ("a.safetensors", lambda path: safetensors.torch.save_file({"a": torch.zeros(100_000)}, path)),
        ("a.json", lambda path: path.write_text("x" * 100_000)),
    ],
)
def test_a_full_disk_is_reported_with_the_path_and_leaves_what_was_there(tmp_path, name, write):
    (tmp_path / name).write_text("before")
    sentence = rf"{tmp_path / name} could not be written \(File too large\)"
    with pytest.raises(e.FileError, match=sentence), small_disk(), replacing(tmp_path / name) as temporary:
        write(temporary)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "No such file", "other"), e.FileError("a sentence"), KeyError("k"), KeyboardInterrupt()],
)
def test_other_errors_and_ctrl_c_pass_through_as_they_are_and_leave_nothing(tmp_path, error):
    def write_half():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)) as caught:
        write_half()
    assert caught.value is error
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_and_what_others_are_writing_stays(tmp_path):
    code = (
        "import sys, time; from ex5lib.files import replacing\n"
        "with replacing(sys.argv[1]) as path:\n    path.write_text('half'); print('half', flush=True); time.sleep(99)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path / name], stdout=subprocess.PIPE)
        for name in ("killed.png", "alive.png")
    ]
    try:
        for process in writers:
            process.stdout.readline()
        writers[0].kill()
        writers[0].wait()
        recent, old = (
            tmp_path / f".writing-{machine}-{writers[0].pid}-abcdefgh.png" for machine in ("00000000", "11111111")
        )
        for path in (recent, old):
            path.touch()
        os.utime(old, (time.time() - 2 * 86400,) * 2)
        (tmp_path / ".writing-mine.txt").touch()
        with replacing(tmp_path / "b.png") as temporary:
            temporary.write_text("whole")
        (beside,) = {path.name for path in tmp_path.iterdir()} - {"b.png", recent.name, ".writing-mine.txt"}
        assert f"-{writers[1].pid}-" in beside
    finally:
        for process in writers:
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_number_that_another_process_has_got_since_is_no_owner(tmp_path):
    left = tmp_path / f".writing-{files._MACHINE}-{os.getpid()}-abcdefgh.png"  # by an earlier process of that number
    left.touch()
    os.utime(left, (1e9, 1e9))
    with replacing(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_is_refused_before_any_work(tmp_path):
    long = "é" * 126  # 252 bytes: a name, but not with anything added to it
    check_writable(tmp_path / "new" / long)
    for folder in (tmp_path / f"{long}-inversion", tmp_path / "new" / f"{long}-inversion" / "a"):
        with pytest.raises(e.FileError, match=r"There can be no folder .* \(File name too long\)"):
            check_writable(folder)
    (tmp_path / "file").touch()
    with pytest.raises(e.FileError, match="file is a file"):
        check_writable(tmp_path / "file" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

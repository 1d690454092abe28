"""What a folder that workers share needs, without workers; tests/cluster has those, some of which are killed."""

from pathlib import Path

import pytest
from results_folder import files_in

from ex5lib.restoration.results import receive


def test_a_system_is_asked_for_what_jobqueue_says(call, album, monkeypatch, quick):
    import dask

    with dask.config.set({"jobqueue.slurm.cores": 4, "jobqueue.slurm.memory": "16 GB"}):
        result = call("invert", album, "--cluster", "slurm", "--workers", 8, "--dry-run", *quick)
    assert result.exit_code == 0
    assert "#SBATCH --cpus-per-task=4" in result.stdout
    assert "#SBATCH --mem=15G" in result.stdout
    assert "dask_worker tcp://" in result.stdout
    assert not Path("results").exists()


def test_a_result_that_was_sent_takes_the_place_of_an_earlier_one(tmp_path):
    record = b'{"files": ["result.png"], "settings": {}}'
    receive(
        tmp_path, {"result.png": b"new", "metrics.json": record, "face1/result.png": b"x", "face1/metrics.json": record}
    )
    assert (tmp_path / "face1" / "result.png").read_bytes() == b"x"
    receive(tmp_path, {"losses.png": b"newer", "metrics.json": record})
    assert files_in(tmp_path) == {"losses.png", "metrics.json", "face1"}
    for name in ("../x/result.png", "notes.txt", "face1/../../x"):
        with pytest.raises(ValueError, match=r"."):
            receive(tmp_path, {name: b"", "metrics.json": record, f"{name.rpartition('/')[0]}/metrics.json": record})
    assert not (tmp_path.parent / "x").exists()

"""The benchmarks' parts, most of them on a small network; how long they take is asserted nowhere."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks import quality
from benchmarks import speed as bench
from ex5lib.figures import plot_quality
from ex5lib.recipes import SMOKE


def test_step_cost_times_the_parts_and_gives_their_ratio(root):
    photo = torch.zeros(1, 3, 256, 256)
    cost = bench.step_cost(photo, rounds=2, device="cpu", generator=root / "tests" / "data" / "uncond_32.pkl")
    assert list(cost) == ["generator", "vgg16", "step", "step, noise as drawn", "step / (generator + vgg16)"]
    assert min(cost.values()) > 0
    assert cost["step / (generator + vgg16)"] == cost["step"] / (cost["generator"] + cost["vgg16"])


def test_previews_are_timed_against_the_full_size(root):
    cost = bench.preview_cost(rounds=1, device="cpu", generator=root / "tests" / "data" / "uncond_32.pkl")
    assert list(cost) == ["32 px"]  # its previews have less than 64 px


def test_fast_is_held_against_a_kept_run(root, monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RECORDS", tmp_path)
    monkeypatch.setattr(bench, "TARGETS", {"sample-3": 5})
    small = {"device": "cpu", "generator": root / "tests" / "data" / "uncond_32.pkl"}
    monkeypatch.setattr(bench, "compare", lambda image, target, distance: {"distance": _d(image, target, distance)})
    record = json.loads(bench.record_recipe("sample-3", **small).read_text())
    assert (record["settings"]["recipe"], record["settings"]["num_steps"], record["settings"]["seed"]) == (
        "karras2020", 5, 0,
    )  # fmt: skip
    assert len(record["history"]["distance"]) == 5
    figures, curves = bench.time_to_quality("sample-3", 2.0, **small)
    assert figures["karras2020: seconds here"] == 10
    assert figures["distance ratio"] == pytest.approx(figures["fast: distance"] / record["result"]["distance"])
    assert curves["karras2020"][0] == [0, 2, 4, 6, 8]
    seconds, distances = curves["fast"]
    assert list(seconds) == sorted(seconds)
    assert distances[-1] == figures["fast: distance"]
    (ax,) = plot_quality({"sample-3": curves}).axes
    assert [line.get_label() for line in ax.lines] == ["karras2020", "fast"]


def _d(image, target, distance) -> float:
    return distance(image, target).item()  # a 32 px face has no descriptor


def test_results_are_a_table_of_groups():
    table = bench.as_table({"first": {"seconds": 1.25, "threads": 2}, "second": {"name": "x"}})
    lines = [line.split() for line in table.splitlines()]
    assert lines == [["first"], ["seconds", "1.250"], ["threads", "2"], ["second"], ["name", "x"]]


@pytest.fixture
def cells(monkeypatch, tmp_path):
    """A bench of one quick method, and a function that runs its command line."""
    monkeypatch.setattr(quality, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(quality, "RECORD", tmp_path / "quality.json")
    monkeypatch.setattr(quality, "METHODS", {"quick": quality.Method(SMOKE, num_steps=1)})
    return lambda *arguments: CliRunner().invoke(quality.app, [str(argument) for argument in arguments])


def test_a_cell_of_the_quality_bench_is_run_once_and_reported(cells, tmp_path):
    asked = ("run", "--face", "sample-3", "--task", "mouth", "--seed", 0, "--seed", 1, "--device", "cpu")
    done = cells(*asked)
    assert done.exit_code == 0, done.output
    assert done.output.count("quick, mouth, sample-3") == 2
    path = tmp_path / "cells" / "quick" / "mouth" / "sample-3-0.json"
    measures = json.loads(path.read_text())
    assert measures["steps"] == 1
    assert 0 < measures["distance"] < 8
    assert 0 < measures["delta_e"] < 40
    assert {p.name for p in path.parent.glob("sample-3-0.*")} == {
        "sample-3-0.json", "sample-3-0.target.jpg", "sample-3-0.result.jpg", "sample-3-0.composite.jpg",
    }  # fmt: skip
    assert "sample-3" not in cells(*asked).output  # done before
    output = cells("report").output
    row = next(line for line in output.splitlines() if line.startswith("| mouth | quick | 2 |"))
    assert "±" in row
    assert list(json.loads((tmp_path / "quality.json").read_text())) == [
        "quick|mouth|sample-3|0",
        "quick|mouth|sample-3|1",
    ]
    assert Image.open(tmp_path / "cells" / "quick.jpg").size == (480, 160)
    path.unlink()
    assert "sample-3" not in cells(*asked).output  # done before, on another machine


def test_the_quality_bench_refuses_what_it_does_not_know(cells):
    for arguments, sentence in (
        (("run", "--method", "fats"), "Known: quick"),
        (("run", "--task", "gray"), 'did you mean "grey"'),
        (("run", "--shard", "2/2"), "A shard is i/n"),
    ):
        assert sentence in str(cells(*arguments).exception)


def test_means_are_over_faces_and_spreads_over_seeds(monkeypatch):
    monkeypatch.setattr(quality, "METHODS", {"a": None})
    names = (
        "distance",
        "psnr",
        "ssim",
        "identity_distance",
        "delta_e",
        "gradient_energy",
        "latent_distance",
        "processor_seconds",
    )
    values = {"a|grey|officer|0": 1.0, "a|grey|officer|1": 3.0, "a|grey|president|0": 5.0, "a|grey|astronaut|0": 9.0}
    cells = {key: dict.fromkeys(names, value) for key, value in values.items()}
    row = quality.table(cells, quality.TO_REPORT).splitlines()[-1]
    assert row.startswith("| grey | a | 3 | 3.50 ± 1.41 | 3.5 ± 1.4 |")  # (2 + 5) / 2; the spread is √2
    assert row.endswith("| 4 |")  # processor seconds, without a spread

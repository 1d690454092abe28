"""The benchmarks' parts, most of them on a small network; how long they take is asserted nowhere."""

import json
from itertools import pairwise

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks import quality, time_to_quality
from benchmarks import speed as bench
from benchmarks.reference_synthesis import compare_with_reference
from benchmarks.robust2023 import robust2023
from ex5lib.errors import SettingError
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.recipes import SMOKE
from ex5lib.weights import load_generator

FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16


@pytest.fixture(scope="module")
def small(root):
    return load_generator(root / "tests" / "data" / "uncond_32.pkl", "cpu"), PerceptualDistance(device="cpu")


def test_parts_are_held_against_what_the_machine_can_do(small):
    rates = {"float32 (GFLOP/s)": 50.0, "bfloat16 (GFLOP/s)": 100.0}
    costs = bench.part_costs(*small, torch.zeros(1, 3, 256, 256), (FLOAT32, BFLOAT16), rates, rounds=1)
    assert list(costs) == ["generator at 32 px", "VGG16 at 256 px"]  # it has no previews of 128 px
    vgg = costs["VGG16 at 256 px"]
    sizes, channels = (
        (256, 256, 128, 128, 64, 64, 64, 32, 32, 32, 16, 16, 16),
        (3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6),
    )
    products = [2 * 9 * i * o * n * n / 1e9 for (i, o), n in zip(pairwise(channels), sizes, strict=True)]
    assert vgg["GFLOP"] == pytest.approx(2 * sum(products), rel=0.02)  # to the image alone; the weights are frozen
    assert vgg["float32, of the limit"] == pytest.approx(vgg["GFLOP"] / 50 / vgg["float32 (s)"])
    assert vgg["bfloat16, of the limit"] == pytest.approx(vgg["GFLOP"] / 100 / vgg["bfloat16 (s)"])
    assert vgg["ratio"] == vgg["bfloat16 (s)"] / vgg["float32 (s)"]


def test_steps_of_every_size_are_timed(small):
    costs = bench.step_costs(*small, torch.zeros(1, 3, 32, 32), (FLOAT32,), rounds=1)
    assert list(costs) == ["karras2020", "fast at 128 px", "fast at 256 px", "fast at 32 px"]
    for cost in costs.values():
        assert cost["steps per second"] == 1 / cost["float32 (s)"] > 0


def test_the_limits_are_of_products_and_of_memory():
    rates = bench.limits(torch.device("cpu"), (FLOAT32, BFLOAT16), rounds=1)
    assert list(rates) == ["float32 (GFLOP/s)", "bfloat16 (GFLOP/s)", "memory (GB/s)"]
    assert min(rates.values()) > 0.1


def test_the_textbook_form_is_timed_beside_ours():
    times = compare_with_reference(1, 16, types=(FLOAT32, BFLOAT16))
    assert times["bfloat16 / textbook"] == times["bfloat16 (s)"] / times["textbook (s)"]
    assert set(times) == {f"{form} (s)" for form in ("textbook", "float32", "bfloat16")} | {
        "float32 / textbook", "bfloat16 / textbook",
    }  # fmt: skip


def test_fast_is_held_against_a_kept_run(root, small, monkeypatch, tmp_path):
    monkeypatch.setattr(time_to_quality, "RECORDS", tmp_path)
    monkeypatch.setattr(time_to_quality, "TARGETS", {"sample-3": 5})
    monkeypatch.setattr(
        time_to_quality, "compare", lambda image, target, distance: {"distance": _d(image, target, distance)}
    )
    file = root / "tests" / "data" / "uncond_32.pkl"
    record = json.loads(time_to_quality.record_recipe("sample-3", device="cpu", generator=file).read_text())
    assert (record["settings"]["recipe"], record["settings"]["num_steps"], record["settings"]["seed"]) == (
        "karras2020", 5, 0,
    )  # fmt: skip
    assert len(record["history"]["distance"]) == 5
    figures, curves = time_to_quality.time_to_quality("sample-3", 2.0, *small)
    assert figures["karras2020: seconds here"] == 10
    assert figures["distance ratio"] == pytest.approx(figures["fast: distance"] / record["result"]["distance"])
    assert curves["karras2020"][0] == [0, 2, 4, 6, 8]
    seconds, distances = curves["fast"]
    assert list(seconds) == sorted(seconds)
    assert distances[-1] == figures["fast: distance"]
    results = {"a step: fast": {"float32 (s)": 0.5, "steps per second": 2.0}}
    left, right = bench.plot_costs(results, {"sample-3": curves}).axes
    assert [bar.get_width() for bar in left.patches] == [0.5, 0]
    assert [line.get_label() for line in right.lines] == ["karras2020", "fast"]


def _d(image, target, distance) -> float:
    return distance(image, target).item()  # a 32 px face has no descriptor


def test_results_are_a_table_of_groups():
    table = bench.as_table({"first": {"seconds": 1.25, "threads": 2}, "second": {"name": "x"}})
    lines = [line.split() for line in table.splitlines()]
    assert lines == [["first"], ["seconds", "1.250"], ["threads", "2"], ["second"], ["name", "x"]]


def test_a_run_that_was_not_recorded_is_asked_for_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RECORDS", tmp_path)
    for asked in ({"target": ["officer"]}, {}, {"target": ["officer"], "record": ["astronaut"]}):
        with pytest.raises(SettingError, match="There is no recorded run"):
            bench.main(**asked, out=tmp_path / "speed.json")


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


def test_a_search_of_the_benchs_own_is_measured_like_a_recipe(generator, distance, samples):
    method = quality.Method(robust2023, num_steps=3)
    assert method.digest not in (quality.METHODS["robust2023"].digest, quality.Method(SMOKE, num_steps=3).digest)
    measures, pictures = quality.run_cell(generator, distance, method, samples[3], "grey", 0, device="cpu")
    target = pictures["target"]
    assert (measures["steps"], measures["dtype"], measures["method"]) == (3, "float32", method.digest)
    assert 0 < measures["target_distance"] < distance(-target, target).item()
    assert 0 < measures["latent_distance"] < 0.1  # a step of 0.08 and one of 0.02


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

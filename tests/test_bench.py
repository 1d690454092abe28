"""The benchmarks' parts, most of them on a small network; how long they take is asserted nowhere."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks import quality, time_to_quality
from benchmarks import speed as bench
from benchmarks.reference_synthesis import compare_with_reference
from benchmarks.robust2023 import robust2023
from ex5lib.degradations.known import GaussianBlur
from ex5lib.errors import SettingError
from ex5lib.inversion.recipes import RECIPES, SMOKE, pick_recipe
from stylegan2_ada.networks import random_generator


def test_the_speed_bench_runs_in_small_on_a_cpu(small, monkeypatch, tmp_path):
    monkeypatch.setitem(RECIPES, "fast", pick_recipe("fast", num_steps=12))
    monkeypatch.setattr(bench, "compare_with_reference", partial(compare_with_reference, resolution=16))
    monkeypatch.setattr(bench, "process_cost", lambda _: {"command align (s)": 1.0})  # a minute of other processes
    # A face of 32 px has no descriptor.
    monkeypatch.setattr(time_to_quality, "compare", lambda image, target, d: {"distance": d(image, target).item()})
    monkeypatch.setattr(time_to_quality, "RECORDS", tmp_path)
    monkeypatch.setitem(time_to_quality.TARGETS, "sample-1", 5)
    bench.main(1, "cpu", str(small), target=["sample-1"], record=["sample-1"], out=tmp_path / "speed.json")
    assert Image.open(tmp_path / "speed.png").size[0] > 1000

    results, record = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("speed", "sample-1"))
    vgg = results["forward and backward: VGG16 at 256 px"]
    sizes = 256, 256, 128, 128, 64, 64, 64, 32, 32, 32, 16, 16, 16
    channels = 3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6
    products = [2 * 9 * i * o * n * n / 1e9 for (i, o), n in zip(pairwise(channels), sizes, strict=True)]
    assert vgg["GFLOP"] == pytest.approx(2 * sum(products), rel=0.02)  # to the image alone; the weights are frozen
    limit = vgg["GFLOP"] / results["limits of the machine"]["float32 (GFLOP/s)"]
    assert vgg["float32, of the limit"] == pytest.approx(limit / vgg["float32 (s)"])
    steps = {name.partition(": ")[2]: cost for name, cost in results.items() if name.startswith("a step: ")}
    assert list(steps) == ["karras2020", "fast at 128 px", "fast at 256 px", "fast at 32 px"]
    step = steps["karras2020"]["float32 (s)"]
    assert steps["karras2020"]["steps per second"] == pytest.approx(1 / step)
    assert (record["settings"]["recipe"], record["settings"]["num_steps"]) == ("karras2020", 5)
    figures = results["time to quality: sample-1"]
    assert figures["karras2020: seconds here"] == pytest.approx(5 * step)
    assert figures["distance ratio"] == pytest.approx(figures["fast: distance"] / record["result"]["distance"])


def test_a_run_that_was_not_recorded_is_asked_for_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RECORDS", tmp_path)
    for asked in ({"target": ["officer"]}, {}, {"target": ["officer"], "record": ["astronaut"]}):
        with pytest.raises(SettingError, match="There is no recorded run"):
            bench.main(**asked, out=tmp_path / "speed.json")


@pytest.fixture
def cells(monkeypatch, tmp_path):
    """A bench of two quick methods on an untrained generator of 256 px, and a function that runs its command line."""
    G = random_generator(torch.Generator().manual_seed(0), 256, channel_max=8, z_dim=16, w_dim=16)
    monkeypatch.setattr(quality.weights, "load_generator", lambda **_: G)
    monkeypatch.setattr(quality, "CELLS", tmp_path / "cells")
    monkeypatch.setattr(quality, "RECORD", tmp_path / "quality.json")
    methods = {"quick": quality.Method(SMOKE, num_steps=1), "own": quality.Method(robust2023, num_steps=3)}
    monkeypatch.setattr(quality, "METHODS", methods)
    return lambda *arguments: CliRunner().invoke(quality.app, [str(argument) for argument in arguments])


def test_a_cell_of_the_quality_bench_is_run_once_and_reported(cells, tmp_path):
    asked = ("run", "--face", "sample-3", "--task", "mouth", "--device", "cpu")
    done = cells(*asked)
    assert done.exit_code == 0, done.output
    for method, steps in (("quick", 1), ("own", 3)):
        path = tmp_path / "cells" / method / "mouth" / "sample-3-0.json"
        measures = json.loads(path.read_text())
        assert (measures["steps"], measures["dtype"]) == (steps, "float32")
        assert measures["method"] == quality.METHODS[method].digest
        assert 0 < measures["distance"] < 8
        assert 0 < measures["delta_e"] < 100
        assert {p.name for p in path.parent.iterdir()} == {
            "sample-3-0.json", *(f"sample-3-0.{kind}.jpg" for kind in ("target", "result", "composite", "face")),
        }  # fmt: skip
    assert len({m.digest for m in (*quality.METHODS.values(), quality.Method(robust2023))}) == 3
    assert "sample-3" not in cells(*asked).output  # done before
    rows = cells("report").output
    assert "| mouth | quick | 1 |" in rows
    assert "| mouth | own | 1 |" in rows
    assert set(json.loads((tmp_path / "quality.json").read_text())) == {
        "quick|mouth|sample-3|0", "own|mouth|sample-3|0",
    }  # fmt: skip
    assert Image.open(tmp_path / "cells" / "quick.jpg").size == (640, 160)
    path.unlink()
    assert "sample-3" not in cells(*asked).output  # done before, on another machine


def test_the_quality_bench_sees_the_face_as_people_do(astronaut, samples, distance):
    same = quality.of_the_face(astronaut.image, astronaut.image, distance)
    assert same.pop("skin_deviation") == pytest.approx(2.8, abs=0.2)  # hers is paler than most
    assert set(same.values()) == {0}
    tinted = astronaut.image + torch.tensor([0.2, 0.0, -0.2]).view(1, 3, 1, 1)
    orange = quality.of_the_face(tinted, astronaut.image, distance)
    assert orange["delta_e"] > 6
    assert orange["iris_delta_e"] > 5
    assert orange["other_identity"] < 0.3  # still the same person
    blurred = quality.of_the_face(GaussianBlur(9)(astronaut.image), astronaut.image, distance)
    assert blurred["face_distance"] > 1.5
    assert blurred["delta_e"] < 2
    other = quality.of_the_face(samples[3], astronaut.image, distance)
    assert other["other_identity"] > 0.5
    mask = torch.ones(1, 1, 256, 256)
    grey = torch.zeros(1, 3, 256, 256)
    assert quality.skin_color(grey, mask).tolist() == pytest.approx([0, 0], abs=0.1)
    x = quality.SKIN @ np.linalg.inv(quality.SKIN_SPREAD) @ quality.SKIN  # from the mean to grey
    assert quality.skin_deviation(grey, mask) == pytest.approx(x**0.5, rel=0.02)


def test_the_quality_bench_refuses_what_it_does_not_know(cells):
    for arguments, sentence in (
        (("run", "--method", "fats"), "Known: own, quick"),
        (("run", "--task", "gray"), 'did you mean "grey"'),
        (("run", "--shard", "2/2"), "A shard is i/n"),
    ):
        assert sentence in str(cells(*arguments).exception)


def test_means_are_over_faces_and_spreads_over_seeds(monkeypatch):
    monkeypatch.setattr(quality, "METHODS", {"a": None})
    names = ("distance", "psnr", "ssim", "identity_distance", "delta_e", "gradient_energy", "latent_distance")
    values = {"a|grey|officer|0": 1.0, "a|grey|officer|1": 3.0, "a|grey|president|0": 5.0, "a|grey|astronaut|0": 9.0}
    cells = {key: dict.fromkeys((*names, "processor_seconds"), value) for key, value in values.items()}
    row = quality.table(cells, quality.TO_REPORT).splitlines()[-1]
    assert row.startswith("| grey | a | 3 | 3.50 ± 1.41 | 3.5 ± 1.4 |")  # (2 + 5) / 2; the spread is √2
    assert row.endswith("| 4 |")  # processor seconds, without a spread

"""The benchmark's parts, on a small network; how long they take is asserted nowhere."""

import json

import pytest
import torch

from benchmarks import speed as bench
from ex5lib.figures import plot_quality


def test_step_cost_times_the_parts_and_gives_their_ratio(root):
    photo = torch.zeros(1, 3, 256, 256)
    cost = bench.step_cost(photo, rounds=2, device="cpu", generator=root / "tests" / "data" / "uncond_32.pkl")
    assert list(cost) == ["generator", "vgg16", "step", "step / (generator + vgg16)"]
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
    assert distances[-1] == figures["fast: distance"] < distances[0]
    (ax,) = plot_quality({"sample-3": curves}).axes
    assert [line.get_label() for line in ax.lines] == ["karras2020", "fast"]


def _d(image, target, distance) -> float:
    return distance(image, target).item()  # a 32 px face has no descriptor


def test_results_are_a_table_of_groups():
    table = bench.as_table({"first": {"seconds": 1.25, "threads": 2}, "second": {"name": "x"}})
    lines = [line.split() for line in table.splitlines()]
    assert lines == [["first"], ["seconds", "1.250"], ["threads", "2"], ["second"], ["name", "x"]]

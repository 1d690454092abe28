"""The benchmark's parts, on a small network; how long they take is asserted nowhere."""

import torch

from ex5lib import bench


def test_step_cost_times_the_parts_and_gives_their_ratio(root):
    photo = torch.zeros(1, 3, 256, 256)
    cost = bench.step_cost(photo, rounds=2, device="cpu", generator=root / "tests" / "data" / "uncond_32.pkl")
    assert list(cost) == ["generator", "vgg16", "step", "step / (generator + vgg16)"]
    assert min(cost.values()) > 0
    assert cost["step / (generator + vgg16)"] == cost["step"] / (cost["generator"] + cost["vgg16"])


def test_results_are_a_table_of_groups():
    table = bench.as_table({"first": {"seconds": 1.25, "threads": 2}, "second": {"name": "x"}})
    lines = [line.split() for line in table.splitlines()]
    assert lines == [["first"], ["seconds", "1.250"], ["threads", "2"], ["second"], ["name", "x"]]

"""The GPU's bench, on the CPU in small."""

import json

import pytest
import torch

from benchmarks import gpu, parity
from ex5lib.restoration import metrics


def test_the_bench_runs_in_small_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.delitem(parity.MODES, "TF32")  # float32, on a CPU
    out = tmp_path / "gpu.json"
    gpu.main(["--quick", "--device", "cpu", "--weights", str(tmp_path), "--out", str(out)])
    results = json.loads(out.read_text())
    assert "failed" not in out.with_suffix(".md").read_text()
    errors = results["parity: relative error"]
    for name in ("StyleGAN2 uncond_32", "StyleGAN2 resnet_16, gradient"):
        assert errors[name]["float32"] < 1e-5 < errors[name]["float16"] < errors[name]["bfloat16"] < 0.05
    assert errors["VGG16's last features, stored"]["float32"] < 1e-3
    assert 0 < errors["perceptual distance, this CPU, gradient"]["float16"] < 0.1
    assert set(results["quality at 256 px"]) == {
        f"{recipe}, {face}" for recipe in ("fast", "karras2020") for face in ("astronaut", "officer")
    }
    assert results["against the published projector's operators"]["float32 / reference"] > 0


def test_what_fails_costs_one_line():
    def fail():
        raise RuntimeError("no such kernel\nat line 3")

    assert gpu.attempted(fail) == "failed: no such kernel"
    table = gpu.as_markdown({"a": {"x": {"s": 1.23456, "t": None}, "y": {"s": "failed: no"}}})
    assert table.splitlines()[-2:] == ["| x | 1.23 |  |", "| y | failed: no |  |"]


@pytest.mark.parametrize("length", [0, 7, 1000])
def test_squeezed_weights_come_back_whole(length):
    data = bytes(range(256)) * 4
    assert gpu.unsqueeze(gpu.squeeze(data[:length])) == data[:length]


def test_psnr_is_the_librarys():
    a, b = (torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(i)) * 2 - 1 for i in (0, 1))
    assert gpu.psnr(a, b) == pytest.approx(metrics.psnr(a, b), rel=1e-5)

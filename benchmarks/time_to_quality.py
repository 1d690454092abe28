"""How soon the recipe "fast" gets as good as a recorded run of the published search in benchmarks/runs/."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.faces import bench_face
from ex5lib import weights
from ex5lib.files import replacing
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.projector import project
from ex5lib.restoration.metrics import compare
from stylegan2_ada.generator import Generator

RECORDS = Path(__file__).parent / "runs"
# Targets of the comparison, and the number of steps of the published recipe in each one's recorded run.
TARGETS = {"astronaut": 1000, "officer": 1000, "sample-0": 300, "sample-1": 300, "sample-2": 300}


def _summary(run: Projection, target: Tensor, distance: PerceptualDistance) -> dict[str, float]:
    return {
        **compare(run.image, target, distance),
        "latent_distance": run.latent_distance,
        "seconds": run.seconds,
        "num_steps": run.num_steps,
    }


def record_recipe(name: str, *, device: str = "auto", generator: str = "mobile-ffhq", seed: int = 0) -> Path:
    """Run karras2020 on a target and record its settings, curves and results in benchmarks/runs/."""
    G, distance = weights.load_generator(generator, device), PerceptualDistance(device=device)
    target = bench_face(name, G)
    run = project(G, target, num_steps=TARGETS[name], distance=distance, device=device, seed=seed)
    curves = {term: [round(float(v), 4) for v in run.history[term]] for term in ("distance", "latent_distance")}
    result = _summary(run, target, distance)
    del result["seconds"]  # true only of that machine on that day
    record = {"result": result, "settings": run.settings, "history": curves}
    path = RECORDS / f"{name}.json"
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    return path


def time_to_quality(
    name: str, step_seconds: float, G: Generator, distance: PerceptualDistance, seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple]]:
    """Run "fast" on a target and compare it with the recorded run of karras2020.

    Args:
        name: of the target.
        step_seconds: of one step at full size, measured on this machine in this run.

    Returns:
        numbers for both runs, and curves {recipe: (seconds, d at full size)}.
    """
    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    target = bench_face(name, G)
    features = distance.features(resize_area(target, 256).to(G.w_avg.device))
    looked, curve = 0.0, []

    def look(report: dict) -> None:
        nonlocal looked
        if report["step"] % 10 == 0:
            began = time.perf_counter()
            with torch.no_grad():
                ws = report["latent"].expand(-1, G.num_ws, -1)
                d = distance(resize_area(G.synthesis(ws, report["noise"]), 256), features).item()
            curve.append((report["seconds"] - looked, d))
            looked += time.perf_counter() - began

    run = project(
        G, target, recipe="fast", distance=distance, device=G.w_avg.device, seed=seed, callback=look, snapshots=(),
        progress=False,
    )  # fmt: skip
    fast, kept = _summary(run, target, distance), record["result"]
    fast["seconds"] -= looked
    curve.append((fast["seconds"], fast["distance"]))
    recipe_seconds = step_seconds * record["settings"]["num_steps"]
    figures = {f"fast: {term}": value for term, value in fast.items()}
    figures |= {f"karras2020: {term}": value for term, value in kept.items()}
    figures |= {
        "karras2020: seconds here": recipe_seconds,
        "time ratio": fast["seconds"] / recipe_seconds,
        "distance ratio": fast["distance"] / kept["distance"],
    }
    steps = range(len(record["history"]["distance"]))
    curves = {
        "karras2020": ([step_seconds * step for step in steps], record["history"]["distance"]),
        "fast": tuple(zip(*curve, strict=True)),
    }
    return figures, curves

"""Time and memory costs, with ratios taken within one run, because machines differ and are shared.

How soon the recipe "fast" reaches the quality of the published one is measured against recorded runs of the latter in
benchmarks/runs/. Their distances do not depend on the machine; their time is taken as the cost of a step, measured
here, times their number of steps.

    python -m benchmarks.speed [--no-quality] [--record astronaut]
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from torch import Tensor

from benchmarks.faces import bench_face
from benchmarks.reference_synthesis import compare_with_reference
from ex5lib import weights
from ex5lib.alignment import align_face
from ex5lib.devices import keep_freed_memory, pick_device, pick_dtype
from ex5lib.errors import SettingError, unknown_name
from ex5lib.figures import plot_quality, save_figure
from ex5lib.files import check_writable, replacing
from ex5lib.images import resize_area
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projection import Projection
from ex5lib.projector import project
from ex5lib.samples import sample_photo

RECORDS = Path(__file__).parent / "runs"
# Targets of the comparison, and the number of steps of the published recipe in each one's recorded run.
TARGETS = {"astronaut": 1000, "officer": 1000, "sample-0": 300, "sample-1": 300, "sample-2": 300}


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def step_cost(
    photo: Tensor, *, rounds: int = 5, device: str = "auto", generator: str = "mobile-ffhq", dtype: str = "auto"
) -> dict[str, float]:
    """Seconds of one optimisation step at the generator's full size, and of its main parts.

    Every round times the generator's own forward and backward pass (to w and the noise), then VGG16's (to the image),
    then two steps of ``project``, with the noise searched and with the noise as drawn. Returns the medians over the
    rounds, and their ratio.
    """
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    G, distance = weights.load_generator(generator, place), PerceptualDistance(device=place)
    perceived = distance.in_precision(precision)
    noise = {name: buffer.requires_grad_() for name, buffer in G.noise_buffers().items()}
    w = G.w_avg.clone().view(1, 1, -1).requires_grad_()
    small = resize_area(photo, 256).to(place)
    features = perceived.features(small)

    def generate() -> None:
        G.synthesis(w.expand(-1, G.num_ws, -1), noise=noise, dtype=precision).sum().backward()

    def perceive() -> None:
        perceived(small.clone().requires_grad_(), features).sum().backward()

    def step(**settings) -> float:
        run = project(
            G, photo, num_steps=3, snapshots=(), w_avg_samples=100, distance=distance, device=place, dtype=precision,
            progress=False, **settings,
        )  # fmt: skip
        at = run.history["seconds"]
        return (at[2] - at[0]) / 2

    seconds: dict[str, list[float]] = {"generator": [], "vgg16": [], "step": [], "step, noise as drawn": []}
    for _ in range(rounds + 1):
        seconds["generator"].append(_timed(generate))
        seconds["vgg16"].append(_timed(perceive))
        seconds["step"].append(step())
        seconds["step, noise as drawn"].append(step(optimize_noise=False))
    medians = {part: statistics.median(values[1:]) for part, values in seconds.items()}  # the first round warms up
    return medians | {"step / (generator + vgg16)": medians["step"] / (medians["generator"] + medians["vgg16"])}


def preview_cost(
    *, rounds: int = 5, device: str = "auto", generator: str = "mobile-ffhq", dtype: str = "auto"
) -> dict[str, float]:
    """Seconds of a forward and backward pass to w at each preview size, and their ratio to the full size's."""
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    G = weights.load_generator(generator, place)
    noise = G.noise_buffers()
    w = G.w_avg.clone().view(1, 1, -1).requires_grad_()
    sizes = [*(size for size in G.preview_sizes if size >= 64), G.img_resolution]
    seconds: dict[int, list[float]] = {size: [] for size in sizes}

    def generate(size: int) -> None:
        G.synthesis(w.expand(-1, G.num_ws, -1), noise, size, dtype=precision).sum().backward()

    for _ in range(rounds + 1):
        for size in sizes:
            seconds[size].append(_timed(lambda size=size: generate(size)))
    medians = {size: statistics.median(values[1:]) for size, values in seconds.items()}
    full = medians[G.img_resolution]
    ratios = {f"{size} px / {G.img_resolution} px": medians[size] / full for size in sizes[:-1]}
    return {f"{size} px": value for size, value in medians.items()} | ratios


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
    name: str, step_seconds: float, *, device: str = "auto", generator: str = "mobile-ffhq", seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple]]:
    """Run "fast" on a target and compare it with the recorded run of karras2020.

    Args:
        name: of the target.
        step_seconds: of one step at full size, measured on this machine in this run.

    Returns:
        numbers for both runs, and curves {recipe: (seconds, d at full size)}.
    """
    record = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))
    G, distance = weights.load_generator(generator, device), PerceptualDistance(device=device)
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
        G, target, recipe="fast", distance=distance, device=device, seed=seed, callback=look, snapshots=(),
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


_PEAK = """
import sys, psutil, threading, time
from ex5lib import load_generator, load_image, project
from ex5lib.devices import keep_freed_memory
keep_freed_memory()
peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, psutil.Process().memory_info().rss)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
G = load_generator(device="cpu")
project(G, load_image(sys.argv[1]), recipe=sys.argv[2], num_steps=6, device="cpu", progress=False)
print(peak)
"""


def process_cost(photo_path: Path) -> dict[str, float]:
    """In fresh processes: seconds to import ex5lib, seconds of the command ``align``, peak memory of a run in GiB."""

    def best_of_3(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return min(_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3))

    with tempfile.TemporaryDirectory() as folder:
        align = best_of_3("-m", "ex5lib", "align", str(photo_path), "--out", folder)
        face = str(Path(folder, "aligned.png"))
        peaks = {
            f"peak memory of a run, {recipe} (GiB)": int(
                subprocess.run(
                    [sys.executable, "-c", _PEAK, face, recipe], check=True, capture_output=True, text=True
                ).stdout
            )
            / 2**30
            for recipe in ("karras2020", "fast")
        }
    return {
        "import of ex5lib (s)": best_of_3("-c", "import ex5lib"),
        "command align (s)": align,
        **peaks,
    }


def run_all(
    photo_path: Path,
    *,
    rounds: int = 5,
    device: str = "auto",
    generator: str = "mobile-ffhq",
    quality: bool = True,
) -> tuple[dict[str, dict], dict[str, dict]]:
    """The results of every benchmark, with the machine that it ran on, and the curves of distance over time."""
    face = align_face(photo_path).image
    machine = {
        "torch": torch.__version__,
        "device": str(pick_device(device)),
        "threads": torch.get_num_threads(),
        "memory (GiB)": psutil.virtual_memory().total / 2**30,
    }
    types = ["float32", str(pick_dtype("auto", pick_device(device))).removeprefix("torch.")]
    results = {"machine": machine}
    for dtype in dict.fromkeys(types):
        options = {"rounds": rounds, "device": device, "generator": generator, "dtype": dtype}
        step = results[f"one step at full size, {dtype} (s)"] = step_cost(face, **options)
        results[f"forward and backward to w, {dtype} (s)"] = preview_cost(**options)
    results |= {
        "StyleGAN2 config F, forward and backward (s)": compare_with_reference(rounds, device=device),
        "processes": process_cost(photo_path),
    }
    curves = {}
    kept = [name for name in TARGETS if (RECORDS / f"{name}.json").exists()]
    for name in kept if quality else ():
        results[f"time to quality: {name}"], curves[name] = time_to_quality(
            name, step["step"], device=device, generator=generator
        )
    return results, curves


def as_table(results: dict[str, dict]) -> str:
    """The results as aligned text."""
    lines = []
    for group, values in results.items():
        lines.append(group)
        for name, value in values.items():
            lines.append(f"  {name:<34}{value:>12.3f}" if isinstance(value, float) else f"  {name:<34}{value!s:>12}")
    return "\n".join(lines)


def main(
    rounds: Annotated[int, typer.Option(help="Rounds to take the medians over.")] = 5,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    generator: Annotated[str, typer.Option(help="A name or a file.")] = "mobile-ffhq",
    quality: Annotated[bool, typer.Option(help="Also compare fast with recorded runs of karras2020: minutes.")] = True,
    record: Annotated[
        list[str] | None, typer.Option(help="Record the run of a target again first: up to half an hour each.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the results.")] = Path("results/speed.json"),
) -> None:
    """Measure the cost of a step, an import and an alignment, the memory, and how soon a search gets good."""
    if rounds < 1:
        raise SettingError(f"A benchmark needs at least 1 round, not {rounds}.")
    keep_freed_memory()
    check_writable(out.parent)
    for name in record or []:
        if name not in TARGETS:
            raise unknown_name("target", name, TARGETS)
        print("written to", record_recipe(name, device=device, generator=generator))
    results, curves = run_all(sample_photo(), rounds=rounds, device=device, generator=generator, quality=quality)
    print(as_table(results))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    print("written to", out)
    if curves:
        print("written to", save_figure(plot_quality(curves), out.with_suffix(".png")))


if __name__ == "__main__":
    typer.run(main)

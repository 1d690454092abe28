"""Time and memory costs, with ratios taken within one run, because machines differ and are shared.

    python -m benchmarks.speed [--rounds 3] [--target astronaut] [--record astronaut]

It measures what the machine can do at best (matrix products, memory), what the parts of a step need of that in float32
and in the form that searches use here, steps of the recipes, memory, and how soon the recipe "fast" reaches the quality
of the published one. The latter is taken from recorded runs in benchmarks/runs/: their distances do not depend on the
machine; their time is the cost of a step, measured here, times their number of steps. Results: JSON and a figure.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import psutil
import torch
import typer
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference_synthesis import compare_with_reference
from benchmarks.time_to_quality import RECORDS, TARGETS, record_recipe, time_to_quality
from ex5lib import weights
from ex5lib.devices import keep_freed_memory, pick_device, pick_dtype
from ex5lib.errors import SettingError, unknown_name
from ex5lib.faces.alignment import align_face
from ex5lib.figures import save_figure
from ex5lib.files import check_writable, replacing
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.losses import FACE, FACE_SIZE, PerceptualDistance
from ex5lib.inversion.projector import project
from ex5lib.inversion.recipes import FAST, KARRAS2020, Recipe
from ex5lib.samples import sample_photo
from stylegan2_ada.generator import Generator

BLUE, ORANGE = "#0072b2", "#d55e00"


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def limits(device: torch.device, types: Sequence[torch.dtype], rounds: int = 5) -> dict[str, float]:
    """The best of several tries: matrix products of 2048 × 2048 in GFLOP/s, and copying 256 MB in GB/s moved."""
    best = {}
    for dtype in types:
        a, b = torch.randn(2, 2048, 2048, device=device).to(dtype)
        seconds = min(_timed(lambda a=a, b=b: a @ b) for _ in range(rounds + 1))
        best[f"{_name(dtype)} (GFLOP/s)"] = 2 * 2048**3 / seconds / 1e9
    source = torch.zeros(2**26, device=device)
    goal = torch.empty_like(source)
    seconds = min(_timed(lambda: goal.copy_(source)) for _ in range(rounds + 1))
    return best | {"memory (GB/s)": 2 * source.nbytes / seconds / 1e9}


def part_costs(
    G: Generator,
    distance: PerceptualDistance,
    photo: Tensor,
    types: Sequence[torch.dtype],
    rates: dict[str, float],
    *,
    rounds: int = 3,
) -> dict[str, dict[str, float]]:
    """What the two networks need, forward and backward: the generator at every size, and for a window of the full image
    that holds the face, to w; VGG16 at 256 px to the image.

    All parts and types take turns, so that any other load on the machine affects all.

    Args:
        photo: [1, 3, R, R].
        types: the first is the one to compare with.
        rates: as from ``limits``.

    Returns:
        {part: {"GFLOP", and for every type "float32 (s)", its median, and "float32, of the limit", the share of that
        time in which the machine could have done the arithmetic at best; "ratio" of the last type to the first}}.
    """
    device = G.w_avg.device
    small, noise = resize_area(photo, 256).to(device), G.noise_buffers()
    w = G.w_avg.clone().view(1, 1, -1).requires_grad_()

    def generate(dtype: torch.dtype, **of_what) -> None:
        G.synthesis(w.expand(-1, G.num_ws, -1), noise, dtype=dtype, **of_what).sum().backward()

    def perceive(perceived: PerceptualDistance, features: object) -> None:
        perceived(small.clone().requires_grad_(), features).sum().backward()

    work: dict[tuple[str, torch.dtype], Callable[[], None]] = {}
    for dtype in types:
        for size in (*(size for size in G.preview_sizes if size >= 128), G.img_resolution):
            work[f"generator at {size} px", dtype] = partial(generate, dtype, size=size)
        if G.img_resolution >= FACE_SIZE:
            window = tuple(px * G.img_resolution // FACE_SIZE for px in FACE)
            work[f"generator, the face of {G.img_resolution} px", dtype] = partial(generate, dtype, window=window)
        perceived = distance.in_precision(dtype)
        features = perceived.features(small)
        work["VGG16 at 256 px", dtype] = lambda p=perceived, f=features: perceive(p, f)
    costs: dict[str, dict[str, float]] = {}
    for (part, _), do in work.items():
        with FlopCounterMode(display=False) as counter:  # also the first, slow pass
            do()
        costs.setdefault(part, {"GFLOP": counter.get_total_flops() / 1e9})
    for (part, dtype), seconds in _medians(work, rounds).items():
        name, cost = _name(dtype), costs[part]
        cost[f"{name} (s)"] = seconds
        cost[f"{name}, of the limit"] = cost["GFLOP"] / rates[f"{name} (GFLOP/s)"] / seconds
    return {part: cost | _ratio(cost, types) for part, cost in costs.items()}


def step_costs(
    G: Generator, distance: PerceptualDistance, photo: Tensor, types: Sequence[torch.dtype], *, rounds: int = 3
) -> dict[str, dict[str, float]]:
    """Seconds of a step of ``project``, everything included: of karras2020, of fast at each of its sizes, and of fast
    when it compares the face alone.

    Returns:
        {step: {for every type "float32 (s)", its median, "ratio" of the last type to the first, "steps per second"}}.
    """

    def step(recipe: Recipe, dtype: torch.dtype) -> float:
        run = project(
            G, photo, recipe=recipe, num_steps=4, snapshots=(), w_avg_samples=100, distance=distance,
            device=G.w_avg.device, dtype=dtype, progress=False,
        )  # fmt: skip
        at = run.history["seconds"]
        return (at[3] - at[0]) / 3

    recipes = {"karras2020": KARRAS2020}
    for stage in FAST.stages:
        size = stage.size or G.img_resolution
        recipes[f"fast at {size} px"] = replace(FAST, stages=(replace(stage, face_every=None),))
        if stage.face_every and size >= FACE_SIZE:
            alone = replace(stage, face_every=1, face_from=0.0)
            recipes[f"fast, the face of {size} px"] = replace(FAST, stages=(alone,))
    work = {
        (name, dtype): lambda recipe=recipe, dtype=dtype: step(recipe, dtype)
        for name, recipe in recipes.items()
        for dtype in types
    }
    costs: dict[str, dict[str, float]] = {name: {} for name in recipes}
    for (name, dtype), seconds in _medians(work, rounds, measure=lambda do: do()).items():
        costs[name][f"{_name(dtype)} (s)"] = seconds
    for cost in costs.values():
        cost |= _ratio(cost, types) | {"steps per second": 1 / cost[f"{_name(types[-1])} (s)"]}
    return costs


def _medians(work: dict[tuple, Callable], rounds: int, measure: Callable = _timed) -> dict[tuple, float]:
    seconds = {key: [] for key in work}
    for _ in range(rounds):
        for key, do in work.items():
            seconds[key].append(measure(do))
    return {key: statistics.median(values) for key, values in seconds.items()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ratio(cost: dict[str, float], types: Sequence[torch.dtype]) -> dict[str, float]:
    first, last = (cost[f"{_name(dtype)} (s)"] for dtype in (types[0], types[-1]))
    return {"ratio": last / first} if len(types) > 1 else {}


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


# The command line, which prints when a search makes its first step and when its last.
_AROUND = """
import sys, time
from ex5lib.cli.app import main
from ex5lib.inversion import projector
def timed(*arguments, descend=projector.descend):
    for step in descend(*arguments):
        print("STEP", time.time())
        yield step
projector.descend = timed
main()
"""


def around_a_search(photo_path: Path, folder: Path) -> tuple[float, float]:
    """Seconds from the start of the command ``invert`` to its first step, and from its last to its end."""
    command = [sys.executable, "-c", _AROUND, "invert", str(photo_path), "--num-steps", "6", "--out", str(folder)]
    began = time.time()
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    ended = time.time()
    steps = [float(line.removeprefix("STEP ")) for line in printed.splitlines() if line.startswith("STEP ")]
    return steps[0] - began, ended - steps[-1]


def process_cost(photo_path: Path) -> dict[str, float]:
    """In fresh processes: seconds of an import, of commands and around a search; peak memory of a run in GiB."""

    def best_of_3(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return min(_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3))

    with tempfile.TemporaryDirectory() as folder:
        align = best_of_3("-m", "ex5lib", "align", str(photo_path), "--out", folder)
        face = str(Path(folder, "aligned.png"))
        first, last = zip(*(around_a_search(photo_path, Path(folder, "found")) for _ in range(3)), strict=True)
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
        "help (s)": best_of_3("-m", "ex5lib", "--help"),
        "command align (s)": align,
        "to the first step of a search (s)": min(first),
        "from its last step to the end (s)": min(last),
        **peaks,
    }


def run_all(
    photo_path: Path,
    *,
    rounds: int = 3,
    device: str = "auto",
    generator: str = "mobile-ffhq",
    targets: Sequence[str] = (),
) -> tuple[dict[str, dict], dict[str, dict]]:
    """The results of every benchmark, with the machine that it ran on, and the curves of distance over time."""
    device, face = pick_device(device), align_face(photo_path).image
    G, distance = weights.load_generator(generator, device), PerceptualDistance(device=device)
    types = list(dict.fromkeys((torch.float32, pick_dtype("auto", device))))
    results: dict[str, dict] = {
        "machine": {
            "torch": torch.__version__,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "memory (GiB)": psutil.virtual_memory().total / 2**30,
        },
        "limits of the machine": limits(device, types),
    }
    parts = part_costs(G, distance, face, types, results["limits of the machine"], rounds=rounds)
    steps = step_costs(G, distance, face, types, rounds=rounds)
    results |= {f"forward and backward: {part}": cost for part, cost in parts.items()}
    results |= {f"a step: {step}": cost for step, cost in steps.items()}
    results["StyleGAN2 config F, forward and backward"] = compare_with_reference(rounds, device=device, types=types)
    results["processes"] = process_cost(photo_path)
    curves = {}
    for name in targets:
        seconds = steps["karras2020"][f"{_name(types[-1])} (s)"]
        results[f"time to quality: {name}"], curves[name] = time_to_quality(name, seconds, G, distance)
    return results, curves


def as_table(results: dict[str, dict]) -> str:
    """The results as aligned text."""
    lines = []
    for group, values in results.items():
        lines.append(group)
        for name, value in values.items():
            lines.append(f"  {name:<34}{value:>12.3f}" if isinstance(value, float) else f"  {name:<34}{value!s:>12}")
    return "\n".join(lines)


def plot_costs(results: dict[str, dict], curves: dict[str, dict[str, tuple]]) -> Figure:
    """Seconds of parts and steps in every type, with what the machine's limit alone would take; d over wall time."""
    bars = {
        name.partition(": ")[2]: cost
        for name, cost in results.items()
        if name.startswith(("forward and backward: ", "a step: "))
    }
    types = [key.removesuffix(" (s)") for key in next(iter(bars.values())) if key.endswith(" (s)")]
    figure = Figure(figsize=(6.4 + 4.2 * len(curves), 4.4), layout="constrained")
    left, *rest = figure.subplots(1, 1 + len(curves), squeeze=False, width_ratios=[1.5, *([1] * len(curves))])[0]
    height = 0.8 / len(types)
    for i, (dtype, colour) in enumerate(zip(types, (BLUE, ORANGE), strict=False)):
        ys = [y + (i - (len(types) - 1) / 2) * height for y in range(len(bars))]
        left.barh(ys, [cost[f"{dtype} (s)"] for cost in bars.values()], height, color=colour, label=dtype)
        shares = [cost[f"{dtype} (s)"] * cost.get(f"{dtype}, of the limit", 0) for cost in bars.values()]
        label = "at the machine's limit" if i == 0 else None
        left.barh(ys, shares, height, color="none", edgecolor="black", hatch="////", linewidth=0, label=label)
    left.set_yticks(range(len(bars)), bars)
    left.invert_yaxis()
    left.set(xlabel="seconds, forward and backward")
    left.legend(frameon=False)
    left.spines[["top", "right"]].set_visible(False)
    for ax, (name, lines) in zip(rest, curves.items(), strict=True):
        for (recipe, (seconds, distances)), colour, style in zip(
            lines.items(), (ORANGE, BLUE), ("--", "-"), strict=False
        ):
            ax.plot(seconds, distances, label=recipe, color=colour, linestyle=style, linewidth=1.8)
        ax.set(xscale="log", yscale="log", xlabel="seconds", ylabel="perceptual distance d", title=name)
        for axis in (ax.xaxis, ax.yaxis):  # plain numbers, not powers of ten
            axis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_formatter(ScalarFormatter())
        ax.grid(which="both", alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return figure


def main(
    rounds: Annotated[int, typer.Option(help="Rounds to take the medians over.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
    generator: Annotated[str, typer.Option(help="A name or a file.")] = "mobile-ffhq",
    target: Annotated[
        list[str] | None, typer.Option(help="A recorded run of karras2020 to hold fast against; astronaut by default.")
    ] = None,
    record: Annotated[
        list[str] | None, typer.Option(help="Record the run of a target again first: up to half an hour each.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the results.")] = Path("results/speed.json"),
) -> None:
    """Measure parts and steps, an import and an alignment, the memory, and how soon a search gets good."""
    if rounds < 1:
        raise SettingError(f"A benchmark needs at least 1 round, not {rounds}.")
    targets = target or ["astronaut"]
    for name in (*targets, *(record or [])):
        if name not in TARGETS:
            raise unknown_name("target", name, TARGETS)
        if name not in (record or []) and not (RECORDS / f"{name}.json").exists():
            raise SettingError(
                f"There is no recorded run of {name}: add --record {name}, which takes up to half an hour."
            )
    keep_freed_memory()
    check_writable(out.parent)
    for name in record or []:
        print("written to", record_recipe(name, device=device, generator=generator))
    results, curves = run_all(sample_photo(), rounds=rounds, device=device, generator=generator, targets=targets)
    print(as_table(results))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    print("written to", out)
    print("written to", save_figure(plot_costs(results, curves), out.with_suffix(".png")))


if __name__ == "__main__":
    typer.run(main)

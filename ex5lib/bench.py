"""What things cost: times and memory, as ratios within one run, because machines differ and are shared."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

from ex5lib import zoo
from ex5lib.alignment import align_face
from ex5lib.devices import pick_device
from ex5lib.images import resize_area
from ex5lib.losses import PerceptualDistance
from ex5lib.projector import project
from ex5lib.reference_synthesis import compare_with_reference


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def step_cost(
    photo: Tensor, *, rounds: int = 5, device: str = "auto", generator: str = "mobile-ffhq"
) -> dict[str, float]:
    """Seconds of one optimisation step at the generator's full size, and of what it consists of.

    In every round the generator's own forward and backward pass (to w and the noise), VGG16's (to the image) and
    two steps of ``project`` follow one another; the medians over the rounds are returned, with their ratio.
    """
    place = pick_device(device)
    G, distance = zoo.load_generator(generator, place), PerceptualDistance(device=place)
    noise = {name: buffer.requires_grad_() for name, buffer in G.noise_buffers().items()}
    w = G.w_avg.clone().view(1, 1, -1).requires_grad_()
    small = resize_area(photo, 256).to(place)
    features = distance.features(small)

    def generate() -> None:
        G.synthesis(w.expand(-1, G.num_ws, -1), noise=noise).sum().backward()

    def perceive() -> None:
        distance(small.clone().requires_grad_(), features).sum().backward()

    seconds: dict[str, list[float]] = {"generator": [], "vgg16": [], "step": []}
    for _ in range(rounds + 1):
        seconds["generator"].append(_timed(generate))
        seconds["vgg16"].append(_timed(perceive))
        run = project(
            G, photo, steps=3, snapshots=(), statistics_samples=100, distance=distance, device=place, progress=False
        )
        at = run.history["seconds"]
        seconds["step"].append((at[2] - at[0]) / 2)
    medians = {part: statistics.median(values[1:]) for part, values in seconds.items()}  # the first round warms up
    return medians | {"step / (generator + vgg16)": medians["step"] / (medians["generator"] + medians["vgg16"])}


_PEAK = """
import sys, psutil, threading, time
from ex5lib import load_generator, load_image, project
peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, psutil.Process().memory_info().rss)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
G = load_generator(device="cpu")
project(G, load_image(sys.argv[1]), steps=3, device="cpu", progress=False)
print(peak)
"""


def process_cost(photo_path: Path) -> dict[str, float]:
    """Of fresh processes: seconds to import ex5lib, seconds of the command ``align``, peak memory of a run in GiB."""

    def best_of_3(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return min(_timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(3))

    with tempfile.TemporaryDirectory() as folder:
        align = best_of_3("-m", "ex5lib", "align", str(photo_path), "--out", folder)
        peak = subprocess.run(
            [sys.executable, "-c", _PEAK, str(Path(folder, "aligned.png"))], check=True, capture_output=True, text=True
        )
    return {
        "import of ex5lib (s)": best_of_3("-c", "import ex5lib"),
        "command align (s)": align,
        "peak memory of a run (GiB)": int(peak.stdout) / 2**30,
    }


def run_all(
    photo_path: Path, *, rounds: int = 5, device: str = "auto", generator: str = "mobile-ffhq"
) -> dict[str, dict]:
    """Every benchmark, with the machine that it ran on."""
    face = align_face(photo_path).image
    machine = {
        "torch": torch.__version__,
        "device": str(pick_device(device)),
        "threads": torch.get_num_threads(),
        "memory (GiB)": psutil.virtual_memory().total / 2**30,
    }
    return {
        "machine": machine,
        "one step at full size (s)": step_cost(face, rounds=rounds, device=device, generator=generator),
        "StyleGAN2 config F, forward and backward (s)": compare_with_reference(rounds, device=device),
        "processes": process_cost(photo_path),
    }


def as_table(results: dict[str, dict]) -> str:
    """The results as aligned text."""
    lines = []
    for group, values in results.items():
        lines.append(group)
        for name, value in values.items():
            lines.append(f"  {name:<34}{value:>12.3f}" if isinstance(value, float) else f"  {name:<34}{value!s:>12}")
    return "\n".join(lines)

"""How good the recipes' results are: eight faces, eleven kinds of damage, every recipe, compared with the original.

    python -m benchmarks.quality --method fast --method course [--face astronaut] [--task "blur 25"] [--seed 0]
    python -m benchmarks.quality --report

Every search is a cell. A cell that is done is kept and never run again, so the command can be stopped and repeated,
and several can share the work (``--shard 0/2`` and ``--shard 1/2``). The faces "to choose" are those on which the
recipes' numbers were chosen; a report tells them from the others.
"""

import io
import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ex5lib.alignment import load_face
from ex5lib.degradations import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Jpeg, Noise
from ex5lib.images import from_uint8, resize_area, to_uint8
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import color_difference, compare, face_mask, gradient_energy
from ex5lib.projector import project
from ex5lib.recipes import Recipe
from ex5lib.samples import sample_photo
from stylegan2_ada.generator import Generator

TO_CHOOSE = ("astronaut", "vice-president", "sample-1", "sample-2")
TO_REPORT = ("officer", "president", "sample-3", "sample-4")
FACES = TO_CHOOSE + TO_REPORT


class Coded(nn.Module):
    """What a JPEG file of the face at 256 px shows, by the real codec."""

    def __init__(self, quality: int):
        super().__init__()
        self.quality = quality

    def forward(self, image: Tensor) -> Tensor:
        file = io.BytesIO()
        Image.fromarray(to_uint8(resize_area(image, 256))).save(file, "JPEG", quality=self.quality)
        return from_uint8(np.asarray(Image.open(file)))


MOUTH = {"top": 164, "left": 84, "height": 44, "width": 88}

# Name: what is done to the generated image, what was done to the photo, λ_w.
TASKS: dict[str, tuple[nn.Module, nn.Module | None, float | None]] = {
    "inversion": (Identity(), None, None),
    "blur 9": (GaussianBlur(9), None, None),
    "blur 25": (GaussianBlur(25), None, None),
    "blur 41": (GaussianBlur(41), None, None),
    "grey": (Grayscale(), None, 0.1),
    "mouth": (Inpaint(**MOUTH), None, 0.02),
    "eye": (Inpaint(top=64, left=64, height=64, width=64), None, 0.02),
    "÷ 8": (Downsample(8), None, None),
    "÷ 16": (Downsample(16), None, None),
    "jpeg 10": (Jpeg(10), Coded(10), None),
    "noise 0.2": (Noise(0.2, seed=0), Noise(0.2, seed=1), None),
    "blur + hole + grey": (nn.Sequential(GaussianBlur(9), Inpaint(**MOUTH), Grayscale()), None, 0.1),
}


def bench_face(name: str, G: Generator) -> Tensor:
    """A face of the bench, [1, 3, R, R]: an aligned sample photo, or "sample-n", the generator's at ψ = 0.7."""
    kind, _, number = name.partition("-")
    if kind == "sample":
        with torch.no_grad():
            return G.synthesis(sample_ws(G, int(number), truncation_psi=0.7)).clamp(-1, 1).cpu()
    return load_face(next(sample_photo().parent.glob(f"{name}.*")), size=G.img_resolution).image


def run_cell(
    G: Generator, distance: PerceptualDistance, recipe: Recipe, face: Tensor, task: str, seed: int, **changes
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """One search: its measures against the original, and its pictures at 256 px."""
    degradation, degraded_by, latent_weight = TASKS[task]
    with torch.no_grad():
        target = (degraded_by or degradation)(face)
    began = time.process_time()
    if latent_weight is not None:
        changes.setdefault("latent_weight", latent_weight)
    run = project(
        G, target, degradation=degradation, distance=distance, recipe=recipe, seed=seed, snapshots=(), progress=False,
        **changes,
    )  # fmt: skip
    original, result = resize_area(face, 256), resize_area(run.image.clamp(-1, 1), 256)
    pictures = {"target": resize_area(target, 256), "result": result}
    if hasattr(degradation, "composite"):
        pictures["composite"] = degradation.composite(resize_area(target, 256), result)
    measures = compare(run.image, face, distance) | {
        "delta_e": color_difference(result, original, face_mask(face)),
        "gradient_energy": gradient_energy(run.image) / gradient_energy(face),
        "latent_distance": run.latent_distance,
        "target_distance": run.distance,
        "steps": run.num_steps,
        "seconds": run.seconds,
        "cpu_seconds": time.process_time() - began,
    }
    return measures, pictures

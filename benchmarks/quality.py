"""How good the recipes' results are: eight faces, fourteen tasks, every method, compared with the original.

    python -m benchmarks.quality run --method fast --method course [--face officer] [--task "blur 25"] [--seed 0]
    python -m benchmarks.quality report

Every search is a cell. A cell that is done is kept and never run again, so ``run`` can be stopped and repeated, and
several processes can share the work (``--shard 0/2`` and ``--shard 1/2``). ``report`` adds the cells to those in
benchmarks/runs/quality.json, prints their means as a table and draws a contact sheet of every method. The recipes'
numbers were chosen on the faces of ``TO_CHOOSE``; the others only report.
"""

import hashlib
import io
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image, ImageDraw
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor, nn

from benchmarks.faces import bench_face
from benchmarks.robust2023 import robust2023
from ex5lib import weights
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise, compositor
from ex5lib.degradations.probe import hides_color
from ex5lib.devices import keep_freed_memory
from ex5lib.errors import SettingError, unknown_name
from ex5lib.faces.descriptor import CHIP_CENTRE, CHIP_SIZE, load_descriptor
from ex5lib.files import replacing
from ex5lib.images.loading import save_image
from ex5lib.images.tensors import from_uint8, resize_area, to_uint8
from ex5lib.inversion.losses import PerceptualDistance, face_alone
from ex5lib.inversion.projector import project
from ex5lib.inversion.recipes import BEST, COURSE, FAST, KARRAS2020, Recipe
from ex5lib.restoration.metrics import color_difference, compare, face_mask, gradient_energy, iris_colors
from stylegan2_ada.generator import Generator

TO_CHOOSE = ("astronaut", "vice-president", "sample-1", "sample-2")
TO_REPORT = ("officer", "president", "sample-3", "sample-4")
FACES = TO_CHOOSE + TO_REPORT

RECORD = Path(__file__).parent / "runs" / "quality.json"
CELLS = Path("results/quality")


class Coded(nn.Module):
    """What a JPEG file of the face at 256 px shows, by the real codec."""

    def __init__(self, quality: int):
        super().__init__()
        self.quality = quality

    def forward(self, image: Tensor) -> Tensor:
        file = io.BytesIO()
        Image.fromarray(to_uint8(resize_area(image, 256))).save(file, "JPEG", quality=self.quality)
        return from_uint8(np.asarray(Image.open(file)))


_MOUTH = {"top": 164, "left": 84, "height": 44, "width": 88}

# Name: what is done to the generated image, and to the photo, if that is something else.
TASKS: dict[str, tuple[nn.Module, nn.Module | None]] = {
    "inversion": (Identity(), None),
    "blur 9": (GaussianBlur(9), None),
    "blur 25": (GaussianBlur(25), None),
    "blur 41": (GaussianBlur(41), None),
    "grey": (Grayscale(), None),
    "mouth": (Inpaint(**_MOUTH), None),
    "eye": (Inpaint(top=64, left=64, height=64, width=64), None),
    "both eyes": (Inpaint(top=92, left=40, height=44, width=176), None),
    "half": (Inpaint(top=0, left=0, height=256, width=128), None),
    "div 8": (Downsample(8), None),
    "div 16": (Downsample(16), None),
    "jpeg 10": (Jpeg(10), Coded(10)),
    "noise 0.2": (Noise(0.2, seed=0), Noise(0.2, seed=1)),
    "blur + hole + grey": (nn.Sequential(GaussianBlur(9), Inpaint(**_MOUTH), Grayscale()), None),
}


# a* and b* of the skin of 150 generated faces, seeds 1000 to 1149 at ψ = 1: mean and covariance.
SKIN = np.array([19.2, 16.5])
SKIN_SPREAD = np.array([[32.8, 31.3], [31.3, 61.6]])


@dataclass(frozen=True)
class Method:
    """A way to search.

    Attributes:
        recipe: what is run: a recipe of ``project``, or a search of its own that takes the same keywords.
        num_steps: None means the recipe's own.
    """

    recipe: Recipe | Callable
    num_steps: int | None = None

    @property
    def digest(self) -> str:
        """Distinguishes a method from an earlier one of the same name."""
        return hashlib.sha256(repr(_as_set(self)).encode()).hexdigest()[:12]


def _as_set(settings: object) -> object:
    """Only settings that differ from their defaults, so that a new field does not change every digest."""
    if isinstance(settings, tuple):
        return tuple(map(_as_set, settings))
    if callable(settings):
        return settings.__name__, settings.__kwdefaults__
    if not is_dataclass(settings):
        return settings
    values = ((field.name, getattr(settings, field.name), field.default) for field in fields(settings))
    return {name: _as_set(value) for name, value, default in values if value != default}


METHODS = {
    "fast": Method(FAST),
    "best": Method(BEST),
    "karras2020": Method(KARRAS2020),
    "course": Method(COURSE),
    "robust2023": Method(robust2023),
    # Cut to the time that fast takes, on a CPU.
    "karras2020, short": Method(KARRAS2020, num_steps=105),
    "course, short": Method(COURSE, num_steps=105),
    "robust2023, short": Method(robust2023, num_steps=99),
}


def run_cell(
    G: Generator, distance: PerceptualDistance, method: Method, face: Tensor, task: str, seed: int, **changes
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """One search: its measures against the original, and its pictures at 256 px, one of them the face alone.

    Args:
        changes: other settings of the recipe.
    """
    degradation, degraded_by = TASKS[task]
    recipe = method.recipe
    search = partial(project, recipe=recipe, snapshots=(), progress=False) if isinstance(recipe, Recipe) else recipe
    if method.num_steps is not None:
        changes["num_steps"] = method.num_steps
    if getattr(recipe, "colorless_weight", None) is None and hides_color(degradation):
        changes.setdefault("latent_weight", 0.1)  # the report's choice for a grey photo
    with torch.no_grad():
        target = (degraded_by or degradation)(face)
    began = time.process_time()
    run = search(G, target, degradation=degradation, distance=distance, seed=seed, **changes)
    original, result = resize_area(face, 256), resize_area(run.image.clamp(-1, 1), 256)
    pictures = {"target": resize_area(target, 256).clamp(-1, 1), "result": result}
    measures = compare(run.image, face, distance) | of_the_face(run.image, face, distance)
    if (composite := compositor(degradation)) is not None:
        made = pictures["composite"] = composite(pictures["target"], result)
        mask = face_mask(face)
        measures["composite_distance"] = distance(made, original).item()
        measures["composite_delta_e"] = color_difference(made, original, mask)
        measures["composite_skin_deviation"] = skin_deviation(made, mask)
    pictures["face"] = face_alone(run.image.clamp(-1, 1))
    measures |= {
        "gradient_energy": gradient_energy(run.image) / gradient_energy(face),
        "latent_distance": run.latent_distance,
        "target_distance": run.distance,
        "steps": run.num_steps,
        "processor_seconds": time.process_time() - began,  # of all threads: what runs beside it matters little
        "dtype": run.settings["dtype"],
        "method": method.digest,
    }
    return measures, pictures


@torch.no_grad()
def of_the_face(image: Tensor, original: Tensor, distance: PerceptualDistance) -> dict[str, float]:
    """What people look at, in an image [1, 3, S, S] and the original photo.

    Returns:
        delta_e: mean CIEDE2000 over the face at 256 px.
        face_distance: d between the faces alone, brows to chin, at 512 px.
        other_identity: distance of the descriptors of chips that no search uses: mirrored, turned, with other padding.
        iris_delta_e: CIEDE2000 of the irises, the mean of both.
        skin_deviation: as the function of that name.
    """
    image = image.clamp(-1, 1)
    mask = face_mask(original)
    descriptor = load_descriptor(distance.offset.device)
    faces = [x.to(distance.offset.device) for x in (image, original)]
    otherwise = [
        torch.dist(*(descriptor(other_chip(face, *how)) for face in faces)).item()
        for how in ((0.344, 0, True), (0.30, 8, False), (0.40, -8, False))
    ]
    irises = [rgb2lab(iris_colors(x)) for x in (image, original)]
    return {
        "delta_e": color_difference(resize_area(image, 256), resize_area(original, 256), mask),
        "face_distance": distance(*(face_alone(face) for face in faces)).item(),
        "other_identity": statistics.fmean(otherwise),
        "iris_delta_e": float(deltaE_ciede2000(*irises).mean()),
        "skin_deviation": skin_deviation(image, mask),
    }


def other_chip(face: Tensor, half: float, degrees: float, mirrored: bool) -> Tensor:
    """A chip of an aligned face [1, 3, S, S], like ``descriptor.chip`` but turned, mirrored or with other padding."""
    face = resize_area(face.flip(3) if mirrored else face, 512)
    x, y = 2 * torch.tensor(CHIP_CENTRE) - 1
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = [[2 * half * cos, -2 * half * sin, -x if mirrored else x], [2 * half * sin, 2 * half * cos, y]]
    grid = F.affine_grid(torch.tensor(turned)[None], [1, 3, CHIP_SIZE, CHIP_SIZE], align_corners=False)
    return F.grid_sample(face, grid.to(face), padding_mode="border", align_corners=False)


def skin_color(image: Tensor, mask: Tensor) -> np.ndarray:
    """a* and b* (CIELAB) of the skin: the medians over the face's middle lights, where no eyes, lips or brows are."""
    pixels = rgb2lab(to_uint8(resize_area(image, 256)))[mask.squeeze().numpy() > 0.5]
    low, high = np.quantile(pixels[:, 0], (0.4, 0.8))
    return np.median(pixels[(low <= pixels[:, 0]) & (pixels[:, 0] <= high), 1:], axis=0)


def skin_deviation(image: Tensor, mask: Tensor) -> float:
    """How far the skin's colour lies from the mean of generated faces, in standard deviations of theirs."""
    apart = skin_color(image, mask) - SKIN
    return float(np.sqrt(apart @ np.linalg.inv(SKIN_SPREAD) @ apart))


def _path(method: str, task: str, face: str, seed: int) -> Path:
    return CELLS / method / task / f"{face}-{seed}.json"


def _recorded() -> dict[str, dict]:
    """The cells of the record that are of today's methods, {"method|task|face|seed": measures}."""
    cells = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return {key: cell for key, cell in cells.items() if _is_current(key.split("|")[0], cell)}


def _is_current(method: str, cell: dict) -> bool:
    return method in METHODS and cell["method"] == METHODS[method].digest


def _collected() -> dict[str, dict]:
    """Those of the record and those that were run here, which are newer."""
    found = _recorded()
    for path in CELLS.glob("*/*/*.json"):
        face, _, seed = path.stem.rpartition("-")
        measures = json.loads(path.read_text(encoding="utf-8"))
        if _is_current(path.parts[-3], measures):
            rounded = {name: v if isinstance(v, str) else round(v, 4) for name, v in measures.items()}
            found["|".join((*path.parts[-3:-1], face, seed))] = rounded
    return dict(sorted(found.items()))


def table(cells: dict[str, dict[str, float]], faces: Sequence[str]) -> str:
    """Means over faces and seeds as a Markdown table, a row for each task and method.

    A method's own mean is over the cells that it has; the number of cells is given, since some have fewer faces. The
    spread is the standard deviation over the seeds of a face, averaged over the faces that have several.
    """
    columns = {
        "distance": ("d", 2), "psnr": ("PSNR (dB)", 1), "ssim": ("SSIM", 3), "face_distance": ("d of the face", 2),
        "identity_distance": ("identity", 3), "other_identity": ("by other chips", 3), "delta_e": ("ΔE in the face", 1),
        "composite_distance": ("d of the composite", 2), "composite_delta_e": ("its ΔE", 1),
        "iris_delta_e": ("ΔE of the irises", 1), "skin_deviation": ("skin (σ)", 1),
        "gradient_energy": ("sharpness", 2), "latent_distance": ("‖w − w̄‖", 1),
        "processor_seconds": ("processor s", 0),
    }  # fmt: skip
    lines = ["| task | method | cells | " + " | ".join(title for title, _ in columns.values()) + " |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    groups: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
    for key, measures in cells.items():
        method, task, face, _ = key.split("|")
        if face in faces:
            groups.setdefault((task, method), {}).setdefault(face, []).append(measures)
    for task in TASKS:
        for method in METHODS:
            of_faces = groups.get((task, method))
            if not of_faces:
                continue
            row = []
            for name, (_, digits) in columns.items():
                of_measure = [[cell[name] for cell in of_face if name in cell] for of_face in of_faces.values()]
                means = [statistics.fmean(values) for values in of_measure if values]
                spreads = [statistics.stdev(values) for values in of_measure if len(values) > 1]
                spread = f" ± {statistics.fmean(spreads):.{digits}f}" if spreads and name != "processor_seconds" else ""
                row.append(f"{statistics.fmean(means):.{digits}f}{spread}" if means else "")
            count = sum(map(len, of_faces.values()))
            lines.append(f"| {task} | {method} | {count} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def contact_sheet(method: str, out: Path, *, size: int = 160) -> Path | None:
    """All pictures of a method with seed 0, a row for each task; of every face target, result, composite, close-up."""
    rows = []
    for task in TASKS:
        row = []
        for face in FACES:
            paths = [
                _path(method, task, face, 0).with_suffix(f".{kind}.jpg")
                for kind in ("target", "result", "composite", "face")
            ]
            row += [Image.open(path).resize((size, size)) for path in paths if path.exists()]
        if row:
            rows.append((task, row))
    if not rows:
        return None
    sheet = Image.new("RGB", (max(len(row) for _, row in rows) * size, len(rows) * size), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (task, row) in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * size, y * size))
        draw.text((4, y * size + 4), task, fill="white", stroke_width=2, stroke_fill="black")
    with replacing(out / f"{method}.jpg") as temporary:
        sheet.save(temporary, "JPEG", quality=88)
    return out / f"{method}.jpg"


def _chosen(asked: Iterable[str] | None, known: Iterable[str], what: str) -> list[str]:
    for name in asked or ():
        if name not in known:
            raise unknown_name(what, name, known)
    return list(asked or known)


app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def run(
    method: Annotated[list[str] | None, typer.Option(help="A method; may be given several times.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task.")] = None,
    face: Annotated[list[str] | None, typer.Option(help="A face.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="A seed; 0 by default.")] = None,
    shard: Annotated[str, typer.Option(help="i/n: every n-th cell, from the i-th.")] = "0/1",
    device: Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")] = "auto",
) -> None:
    """Run the cells that are missing."""
    methods, tasks = _chosen(method, METHODS, "method"), _chosen(task, TASKS, "task")
    faces = _chosen(face, FACES, "face")
    first, _, count = shard.partition("/")
    if not (first.isdigit() and count.isdigit() and int(first) < int(count)):
        raise SettingError(f"A shard is i/n with i below n, 0/2 for example, not {shard}.")
    keep_freed_memory()
    G, distance = weights.load_generator(device=device), PerceptualDistance(device=device)
    recorded, images = _recorded(), {}
    cells = [(m, t, f, s) for s in seed or [0] for t in tasks for f in faces for m in methods]
    for m, t, f, s in cells[int(first) :: int(count)]:
        path = _path(m, t, f, s)
        done = path.exists() and _is_current(m, json.loads(path.read_text(encoding="utf-8")))
        if done or "|".join((m, t, f, str(s))) in recorded:
            continue
        if f not in images:
            images[f] = bench_face(f, G)
        measures, pictures = run_cell(G, distance, METHODS[m], images[f], t, s, device=device)
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind, picture in pictures.items():
            save_image(picture, path.with_suffix(f".{kind}.jpg"))
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(measures), encoding="utf-8")
        typer.echo(
            f"{m}, {t}, {f}, {s}: "
            + ", ".join(f"{name} {value:.3g}" for name, value in measures.items() if not isinstance(value, str))
        )


@app.command()
def report() -> None:
    """Add the cells that were run to the record, and print and draw them all."""
    cells = _collected()
    lines = [f" {json.dumps(key, ensure_ascii=False)}: {json.dumps(measures)}" for key, measures in cells.items()]
    with replacing(RECORD) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    for title, faces in (("Faces to choose by", TO_CHOOSE), ("Faces to report on", TO_REPORT)):
        typer.echo(f"{title}: {', '.join(faces)}\n\n{table(cells, faces)}\n")
    for method in METHODS:
        if sheet := contact_sheet(method, CELLS):
            typer.echo(f"written to {sheet}")


if __name__ == "__main__":
    app()

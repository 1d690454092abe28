"""What a student hands in: one zip of files with the names that the course asks for."""

import io
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ex5lib.errors import FileError
from ex5lib.figures import plot_losses, save_figure
from ex5lib.files import replacing
from ex5lib.images.loading import save_image
from ex5lib.restoration.pipeline import TASKS
from ex5lib.restoration.restored import Restoration

ABOUT = "student.json"  # whose a hand-in is
NO_ANSWER = "*Your answer:*"  # how a question ends that nobody has answered
TOO_SHORT = 30  # steps of a search: fewer give no likeness
NOTEBOOKS = ("3.1_alignment", "3.2_inversion", "3.3.1_deblurring", "3.3.2_colorization", "3.3.3_inpainting")
OPTIONAL = ("3.4_latent",)  # without points: nothing asks for them
FILES = (
    "original_image.png", "original_degraded_image.png", "final_inverted_image.png", "inverted_latent.npz",
    "loss_plot.png",
)  # fmt: skip
_INTERMEDIATE, _COMPOSITE = "intermediate_image_*.png", "composite_image.png"


def task_folder(folder: str | Path, task: str) -> Path:
    """The folder of a task's files in a results folder."""
    return Path(folder, "tasks", task)


def write_task(folder: str | Path, task: str, done: Restoration) -> list[Path]:
    """Write the files that the course asks for about one task, a name in ``TASKS``; returns the paths.

    They are ``FILES``, an image for each snapshot, and a composite if part of the photo is known.
    ``inverted_latent.npz`` holds ``latent`` [1, num_ws, w_dim].
    """
    place = task_folder(folder, task)
    for old in place.glob(_INTERMEDIATE):
        old.unlink()
    images = {
        "original_image.png": done.face.image,
        "original_degraded_image.png": done.target,
        **{_INTERMEDIATE.replace("*", str(step)): image for step, image in sorted(done.run.snapshots.items())},
        "final_inverted_image.png": done.result,
    }
    if done.composite is not None:
        images[_COMPOSITE] = done.composite
    for name, image in images.items():
        save_image(image, place / name)
    with replacing(place / "inverted_latent.npz") as temporary:
        np.savez(temporary, latent=done.run.ws.numpy())
    save_figure(plot_losses(done.run), place / "loss_plot.png")
    return [place / name for name in (*images, "inverted_latent.npz", "loss_plot.png")]


_LATENT_NAMES = ("latent", "ws", "w", "dlatents", "latents", "w_plus", "projected_w")  # the course's, then others'


def load_latent(path: str | Path) -> Tensor:
    """A latent to start a search at, [1, num_ws, w_dim], or [1, 1, w_dim] for a single w.

    It is read from an ``inverted_latent.npz``, the course's or ours, or from what other projectors save: a .npz or .npy
    of w [w_dim] or [1, w_dim], or of w+ [num_ws, w_dim] or [1, num_ws, w_dim].

    Raises:
        FileError: if there is no such file, or it holds no such latent.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"There is no file {path}: name an inverted_latent.npz.")
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.ndarray):
            with file:
                file = file[next(name for name in (*_LATENT_NAMES, *file.files[:1]) if name in file.files)]
        latent = np.asarray(file, dtype=np.float32)
    except Exception:  # NumPy raises nearly anything on other and damaged files; a pickle is not opened
        raise FileError(f"{path} holds no latent, or is damaged: name an inverted_latent.npz or a .npy file.") from None
    shape = list(latent.shape)
    latent = latent[None] if latent.ndim == 2 else latent.reshape(1, 1, -1) if latent.ndim == 1 else latent
    if latent.ndim != 3 or len(latent) != 1 or not np.isfinite(latent).all():
        raise FileError(f"The latent in {path} is {shape}, but must be finite and [1, num_ws, w_dim].")
    return torch.from_numpy(latent)


def missing(folder: str | Path, notebooks: str | Path) -> list[str]:
    """What is still missing in a hand-in, in words; empty if it is complete."""
    lacks = []
    for task in TASKS:
        place = task_folder(folder, task)
        names = [name.replace("*", "…") for name in (*FILES, _INTERMEDIATE) if not any(place.glob(name))]
        if names:
            everything = f"everything of {task} (the last cell of its notebook writes it)"
            lacks.append(everything if len(names) > len(FILES) else f"{', '.join(names)} of {task}")
    for name in NOTEBOOKS:
        if (reason := _unfinished(Path(notebooks, f"{name}.ipynb"))) is not None:
            lacks.append(f"{name}.ipynb{reason}")
    if report(folder) is None:
        lacks.append("the report (python -m ex5lib report makes it)")
    return lacks


def report(folder: str | Path) -> Path | None:
    """The report in a results folder: the PDF, or else the page, or None."""
    return next((path for name in ("report.pdf", "report.html") if (path := Path(folder, name)).is_file()), None)


def doubts(folder: str | Path, notebooks: str | Path) -> list[str]:
    """What is there but was hardly meant to be handed in, in words: searches of a few steps, unanswered questions."""
    found = []
    for task in TASKS:
        numbers = [path.stem.rpartition("_")[2] for path in task_folder(folder, task).glob(_INTERMEDIATE)]
        steps = [int(number) for number in numbers if number.isdigit()]
        if steps and max(steps) < TOO_SHORT:
            found.append(f"the search of {task} has only {max(steps)} steps")
    for name in NOTEBOOKS:
        try:
            cells = json.loads(Path(notebooks, f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
            texts = ["".join(cell["source"]).rstrip() for cell in cells if cell["cell_type"] == "markdown"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if (count := sum(text.endswith(NO_ANSWER) for text in texts)) > 0:
            found.append(f"questions without an answer in {name}: {count}")
    return found


@dataclass(frozen=True)
class Student:
    """Whose a hand-in is."""

    name: str
    number: str

    @property
    def file_name(self) -> str:
        """Of the zip."""
        return re.sub(r"[^\w.]+", "-", f"{self.number}-{self.name}.zip")


def known_student(folder: str | Path) -> Student | None:
    """Who handed in from a results folder before; None if nobody did."""
    try:
        kept = json.loads(Path(folder, ABOUT).read_text(encoding="utf-8"))
        return Student(str(kept["name"]), str(kept["number"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def submit(
    folder: str | Path,
    notebooks: str | Path,
    out: str | Path,
    student: Student,
    *,
    partial: bool = False,
    anyway: bool = False,
) -> Path:
    """Collect a hand-in, results and executed notebooks, into the zip ``out``; returns its path.

    Its pictures are WebP, which are looked at and not computed with; the intermediate ones have 384 px.

    Args:
        partial: take what there is.
        anyway: also if there are ``doubts``.

    Raises:
        FileError: if anything is missing or doubtful; it names all of it, and no zip is written.
    """
    if Path(folder).is_dir():
        with replacing(Path(folder, ABOUT)) as temporary:  # so that nobody has to say it again
            temporary.write_text(json.dumps(asdict(student)), encoding="utf-8")
    page, lacks, doubtful = report(folder), missing(folder, notebooks), doubts(folder, notebooks)
    if lacks and not partial:
        raise FileError(f"Nothing was handed in: missing in {folder} or unfinished: {'; '.join(lacks)}.")
    if doubtful and not anyway:
        raise FileError(f"Nothing was handed in: {'; '.join(doubtful)}: finish it, or hand it in with --anyway.")
    finished = [name for name in OPTIONAL if _unfinished(Path(notebooks, f"{name}.ipynb")) is None]
    files = {f"notebooks/{name}.ipynb": Path(notebooks, f"{name}.ipynb") for name in (*NOTEBOOKS, *finished)}
    for task in TASKS:
        for name in (*FILES, _INTERMEDIATE, _COMPOSITE):
            files |= {f"{task}/{path.name}": path for path in task_folder(folder, task).glob(name)}
    if page is not None:
        files[page.name] = page
    files = {name: path for name, path in files.items() if path.is_file()}
    if not files:
        raise FileError(f"Nothing was handed in: there is nothing to hand in in {folder}: name your results' folder.")
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(ABOUT, json.dumps(asdict(student) | {"missing": lacks, "doubts": doubtful}, indent=1))
        for name, path in sorted(files.items()):
            if path.match("*_image*.png"):
                archive.writestr(str(Path(name).with_suffix(".webp")), _picture(path))
            else:
                archive.write(path, name)
    return Path(out)


def _picture(path: Path) -> bytes:
    """An image file as a small WebP."""
    with Image.open(path) as image:
        if path.match(_INTERMEDIATE):
            image.thumbnail((384, 384))
        made = io.BytesIO()
        image.save(made, "WEBP", quality=85)
    return made.getvalue()


def _unfinished(path: Path) -> str | None:
    """What is unfinished in a notebook, in brackets; "" if it does not exist, None if it is finished.

    A finished notebook has run every code cell without an error, except the one that hands in, which runs after the
    notebook was saved.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [(cell, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
        code = [cell for cell, source in sources if source.strip() and "ex5lib submit" not in source]
        outputs: Iterable[dict] = (output for cell in code for output in cell["outputs"])
        if any(output["output_type"] == "error" for output in outputs):
            return " (a cell ended in an error)"
        not_run = sum(cell["execution_count"] is None for cell in code)
        return f" (cells not run, or run but not saved: {not_run})" if not_run else None
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return " (it cannot be read)"

"""A section of the report, as a notebook works through it: the photo, its searches, figures and claims.

A section shows its figures in the notebook, with a little metadata, and, if it was given a folder, writes them to files
there; ``report`` makes one page of both.
"""

import base64
import html
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from IPython.display import Markdown, display, publish_display_data
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.course import handin
from ex5lib.course.claims import PROVES_NOTHING, Claim, check_claim
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.known import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
from ex5lib.devices import keep_freed_memory, pick_device
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace, align_face
from ex5lib.figures import save_figure
from ex5lib.files import check_writable, replacing
from ex5lib.inversion.latents import LatentStatistics
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recipes import Recipe, Start, pick_recipe
from ex5lib.restoration.pipeline import pick_task, restore_faces
from ex5lib.restoration.restored import Restoration
from stylegan2_ada.generator import Generator

METADATA = "ex5lib"  # the key of an output's kind and name in its metadata
_PAGE_DPI = 96  # a face is then 260 px wide, and four fit side by side on a page
_FILE_DPI = 160


def proves_nothing(recipe: str) -> bool:
    """Whether a recipe is so short that its results say nothing about a claim."""
    return pick_recipe(recipe).num_steps < handin.TOO_SHORT


def notebook_recipe(name: str) -> str:
    """The recipe that a notebook runs with: the one it names, unless EX5_RECIPE names another, as in the tests."""
    return pick_recipe(os.environ.get("EX5_RECIPE") or name).name


class Section:
    """A section of the report on one photo.

    Args:
        number: of the section, such as "3.2"; it numbers the figures.
        photo: path of the photo.
        generator: a name or a file, as in ``load_generator``.
        recipe: the name of a recipe; EX5_RECIPE overrides it.
        out: folder for the figures as PNG and PDF and the numbers as JSON; None writes nothing.
        device: as in ``project``.

    Raises:
        FaceError, FileError: if the photo cannot be read, or has no face, or ``out`` cannot be written to.
        SettingError, DeviceError: if there is no such recipe, or the machine lacks the device.
    """

    def __init__(
        self,
        number: str,
        photo: str | Path,
        *,
        generator: str = "mobile-ffhq",
        recipe: str = "fast",
        out: str | Path | None = None,
        device: str = "auto",
    ):
        self.number, self.device, self.generator = number, device, generator
        self.recipe = notebook_recipe(recipe)
        pick_device(device)  # a missing device is reported now, not at the first search
        keep_freed_memory()  # the notebook's process is ours to configure
        self.out = None if out is None else Path(out)
        if self.out is not None:
            check_writable(self.out)
        self.face: AlignedFace = align_face(photo)
        self.searches: list[dict] = []  # their numbers, for the report
        self.figures: dict[str, str] = {}  # {name: caption}
        self.claims: list[Claim] = []
        self.tasks: dict[str, Restoration] = {}  # the searches for this photo with nothing changed: the hand-in
        self._done: dict[tuple, Restoration] = {}

    @cached_property
    def G(self) -> Generator:
        return weights.load_generator(self.generator, self.device)

    @cached_property
    def distance(self) -> PerceptualDistance:
        return PerceptualDistance(device=self.device)

    @cached_property
    def mean_face(self) -> Tensor:
        """The image of w̄ [1, 3, R, R], without noise."""
        with torch.no_grad():
            return self.G.synthesis(self.G.w_avg.expand(1, self.G.num_ws, -1), noise="none").clamp(-1, 1).cpu()

    def run(
        self,
        task: str = "inversion",
        *,
        face: AlignedFace | None = None,
        degradation: nn.Module | None = None,
        degraded_by: nn.Module | None = None,
        recipe: str | Recipe | None = None,
        seed: int | None = None,
        start: Start = None,
        statistics: LatentStatistics | None = None,
        **settings,
    ) -> Restoration:
        """Run one of the report's searches with this section's recipe, and record its numbers.

        A search that has finished with the same settings is not run again.

        Args:
            task: a name in ``TASKS``, which gives the degradation.
            face, recipe, degradation: instead of the section's or the task's.
            degraded_by: degrades the photo instead of ``degradation``.
            seed, start, statistics: as in ``project``.
            settings: other values for the recipe, as ``pick_recipe`` takes them.

        Raises:
            SettingError: if there is no such task, or as in ``project``.
        """
        given = {"degradation": degradation, "recipe": recipe, "seed": seed, "start": start, "statistics": statistics}
        changes = {name: value for name, value in (given | settings).items() if value is not None}
        subject, D = face or self.face, degradation or pick_task(task)
        degraded_by, seed = degraded_by or D, seed or 0
        recipe = pick_recipe(recipe or self.recipe, start=start, **settings)
        key = (
            subject.image, recipe, seed, _identity(D), _identity(degraded_by), _identity(start), _identity(statistics)
        )  # fmt: skip
        if key in self._done:
            return self._done[key]
        (done,) = restore_faces(
            [subject], D, recipe, generator=self.G, distance=self.distance, degraded_by=degraded_by, start=start,
            seed=seed, statistics=statistics, device=self.device,
        )  # fmt: skip
        if face is None and degraded_by is D and not changes:
            self.tasks[task] = done
        words = [task, *(_in_words(name, value) for name, value in changes.items())]
        name = ", ".join(words if face is None else [*words, "another photo"])
        run, quality = done.run, done.metrics["result and original"]
        about = run.settings | {"degraded_by": repr(degraded_by)}
        self.searches.append({"name": name, **done.metrics, "seed": run.seed, "settings": about})
        print(
            f"{name}: {run.num_steps} steps in {run.seconds:.0f} s, d {run.distance:.3f}, ‖w − w̄‖ "
            f"{run.latent_distance:.1f}; to the original: d {quality['distance']:.3f}, PSNR {quality['psnr']:.1f} dB, "
            f"identity distance {quality['identity_distance']:.3f}"
        )
        if done.note:
            print(f"  {done.note}")
        if not run.stopped:
            self._done[key] = done
        return done

    def num_steps(self, share: float) -> int:
        """That share of the steps of this section's recipe, at least one per stage; SettingError if not positive."""
        if not share > 0:
            raise SettingError(f"A share of a search's steps must be positive, not {share}.")
        recipe = pick_recipe(self.recipe)
        return max(len(recipe.stages), round(share * recipe.num_steps))

    def show(self, name: str, figure: Figure, caption: str) -> None:
        """Show a figure with its number and caption, and write it to the section's folder as PNG and PDF."""
        self.figures.setdefault(name, caption)
        number = f"{self.number}.{list(self.figures).index(name) + 1}"
        label = f"Figure {number}. {caption}"
        mime, picture = _encoded(figure)
        publish_display_data(
            {mime: picture, "text/plain": label}, {METADATA: {"figure": name, "number": number, "caption": caption}}
        )
        display(Markdown(f"*{label}*"))
        if self.out is not None:
            for suffix in (".png", ".pdf"):
                save_figure(figure, self.out / "figures" / f"{self.number}-{name}{suffix}", dpi=_FILE_DPI)

    def check_claim(self, statement: str, holds: bool | Sequence[bool], **numbers: float | Sequence[float]) -> Claim:
        """Like ``claims.check_claim``, and recorded for the report."""
        doubt = PROVES_NOTHING if proves_nothing(self.recipe) else ""
        claim = check_claim(statement, holds, doubt=doubt, **numbers)
        self.claims.append(claim)
        return claim

    def table(self, rows: Sequence[dict[str, object]], caption: str) -> None:
        """Show a table: one row per dictionary, with the keys as columns."""
        names = list(dict.fromkeys(key for row in rows for key in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        lines = ("".join(f"<td>{html.escape(_cell(row.get(name, '')))}</td>" for name in names) for row in rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        text = f"<div><em>{html.escape(caption)}</em><table><tr>{head}</tr>{body}</table></div>"
        plain = "\n".join(", ".join(f"{key} {_cell(value)}" for key, value in row.items()) for row in rows)
        publish_display_data({"text/html": text, "text/plain": f"{caption}\n{plain}"}, {METADATA: {"table": caption}})

    def hand_in(self) -> None:
        """Write the files that the course asks for about this section's tasks (``handin.write_task``)."""
        if self.out is None:
            print("Nothing is saved because out is None: set it to a folder above, and run all cells again.")
            return
        for task, done in self.tasks.items():
            names = [path.name for path in handin.write_task(self.out, task, done)]
            print(f"kept for the hand-in, in tasks/{task}: " + ", ".join(names))

    def finish(self) -> None:
        """List the figures, and write the section's numbers to its folder."""
        print("figures:", ", ".join(self.figures))
        if self.out is None:
            return
        numbers = {
            "section": self.number,
            "recipe": self.recipe,
            "generator": self.generator,
            "searches": self.searches,
            "claims": [asdict(claim) for claim in self.claims],
            "figures": self.figures,
        }
        with replacing(self.out / f"{self.number}.json") as temporary:
            temporary.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


def _identity(value: object) -> object:
    """What identifies a setting: the text of plain data and our own degradations, otherwise the object itself."""
    plain = GaussianBlur | Grayscale | Identity | Downsample | Jpeg | Noise  # their text says everything
    complete = isinstance(value, plain) or getattr(value, "rectangle", None)
    opaque = callable(value) or isinstance(value, Tensor | Projection | LatentStatistics)
    return value if opaque and not complete else repr(value)


def _in_words(name: str, value: object) -> str:
    """A changed setting, as named in the report's table."""
    match name, value:
        case "num_steps", _:
            return f"{value} steps"
        case "identity_weight", _:
            return f"λ_i = {value:.3g}"
        case "latent_weight", _:
            return f"λ_w = {value:.3g}"
        case "noise_weight", _:
            return f"λ_n = {value:.3g}"
        case "optimize_noise", True:
            return "noise searched"
        case "space", str():
            return f"in {value.upper()}"
        case "start", str():
            return "from the mean face" if value == "mean" else f"start {value}"
        case "statistics", _:
            return f"mean {_cell(value)}"
        case "degradation", GaussianBlur():
            return f"searched with kernel {value.kernel_size}"
        case "degradation", Inpaint():
            return "another hole"
    return f"{name} {_cell(value)}"


def _cell(value: object) -> str:
    match value:
        case LatentStatistics():  # their text would fill pages
            return f"of {value.origin['distribution']} z"
        case Recipe():
            return value.name
        case Tensor() | Projection():
            return "given"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _encoded(figure: Figure) -> tuple[str, str]:
    """A figure as PNG or JPEG, whichever is smaller: the MIME type and base64 text."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_PAGE_DPI)
    compressed = io.BytesIO()
    Image.open(drawn).convert("RGB").save(compressed, "JPEG", quality=80)
    mime, picture = min((("image/png", drawn), ("image/jpeg", compressed)), key=lambda kind: kind[1].tell())
    return mime, base64.b64encode(picture.getvalue()).decode()

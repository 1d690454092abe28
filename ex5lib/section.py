"""A section of the report, as a notebook works through it: the photo, its searches, figures and claims.

What a section shows goes to the notebook's page with a little metadata, and, if it was given a folder, into files
there; ``report`` puts both together.
"""

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from IPython.display import Markdown, display, publish_display_data
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ex5lib import zoo
from ex5lib.alignment import AlignedFace, align_face
from ex5lib.degradations import GaussianBlur, Grayscale, Identity
from ex5lib.devices import pick_device
from ex5lib.errors import SettingError
from ex5lib.experiments import Claim, check_claim, notebook_profile, pick_experiment, pick_profile
from ex5lib.figures import save_figure
from ex5lib.files import check_writable, replacing
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projector import Projection, project
from ex5lib.recipes import RECIPES
from stylegan2_ada.networks import Generator

METADATA = "ex5lib"  # the key of a page's output under which its kind and name stand
_PAGE_DPI = 84  # five faces side by side are then about 1100 px wide, and a page of fifteen figures 3 MB
_FILE_DPI = 160


class Section:
    """A section of the report on one photo.

    Args:
        number: of the section, which numbers its figures: "3.2".
        photo: path of the photo.
        generator: a name or a file, as ``load_generator`` takes it.
        profile: "fast", "full" or "smoke"; EX5_PROFILE overrides it.
        out: folder for the figures as PNG and PDF and the numbers as JSON; None writes nothing.
        seed: of every search.
        device: as ``project`` takes it.

    Attributes:
        face: the aligned face.
        searches, figures, claims: what has been done, by name or in order.

    Raises:
        NoFaceError, MissingFileError and whatever else ``align_face`` raises.
        UnknownNameError: for an unknown profile.
        DeviceError: if the machine lacks the device.
        OutputError: if ``out`` cannot be written to.
    """

    def __init__(
        self,
        number: str,
        photo: str | Path,
        *,
        generator: str = "mobile-ffhq",
        profile: str = "fast",
        out: str | Path | None = None,
        seed: int = 0,
        device: str = "auto",
    ):
        self.number, self.seed, self.device, self.generator = number, seed, device, generator
        self.profile = notebook_profile(profile)
        pick_device(device)  # what is asked for and absent is said at once
        self.out = None if out is None else Path(out)
        if self.out is not None:
            check_writable(self.out)
        self.face: AlignedFace = align_face(photo)
        self.searches: list[dict] = []
        self.figures: dict[str, str] = {}
        self.claims: list[Claim] = []
        self._runs: dict[tuple, Projection] = {}

    @cached_property
    def G(self) -> Generator:
        """The generator, loaded when it is first needed."""
        return zoo.load_generator(self.generator, self.device)

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The project's VGG16 distance d."""
        return PerceptualDistance(device=self.device)

    @cached_property
    def mean_face(self) -> Tensor:
        """The image of w̄ [1, 3, R, R], without noise."""
        with torch.no_grad():
            return self.G.synthesis(self.G.w_avg.expand(1, self.G.num_ws, -1), noise="none").clamp(-1, 1).cpu()

    def run(
        self,
        experiment: str = "inversion",
        *,
        face: AlignedFace | None = None,
        given: nn.Module | None = None,
        share: float = 1.0,
        **changes,
    ) -> Projection:
        """Run a search of the report, in this section's profile, and note its figures.

        What has been run to its end before with the same settings is not run again.

        Args:
            experiment: a name in ``EXPERIMENTS``, whose settings are the start.
            face: another face than the section's.
            given: what degraded the photo, if not what the generated image is degraded with.
            share: of the profile's steps.
            changes: keywords of ``project`` that replace the experiment's.
        """
        base = pick_experiment(experiment)
        settings = {"degradation": base.degradation, "latent_weight": base.latent_weight, **changes}
        subject = face or self.face
        given = given or settings["degradation"]
        chosen = ((name, _identity(settings[name])) for name in sorted(settings))
        key = (subject.image, _identity(given), share, *chosen)
        if key in self._runs:
            return self._runs[key]
        keywords = pick_profile(self.profile).keywords() | {"seed": self.seed, "device": self.device} | settings
        if share != 1:
            keywords["steps"] = self._steps(share, settings, keywords)
        target = given(subject.image)
        run = project(self.G, target, distance=self.distance, **keywords)
        quality = compare(run.image, subject.image, self.distance)
        words = [f"{name} {_cell(value)}" for name, value in changes.items()]
        words += [f"{run.steps} steps"] if share != 1 else []
        words += ["another photo"] if face is not None else []
        name = ", ".join([experiment, *words])
        self.searches.append(
            {
                "name": name,
                "d to target": run.distance,
                **quality,
                "latent_distance": run.latent_distance,
                "seconds": run.seconds,
                "steps": run.steps,
                "seed": run.seed,
                "settings": run.settings | {"given": repr(given)},
            }
        )
        print(
            f"{name}: {run.steps} steps in {run.seconds:.0f} s, d {run.distance:.3f}, ‖w − w̄‖ "
            f"{run.latent_distance:.1f}; to the original: d {quality['distance']:.3f}, PSNR {quality['psnr']:.1f} dB, "
            f"identity distance {quality['identity_distance']:.3f}"
        )
        if not run.stopped:
            self._runs[key] = run
        return run

    def _steps(self, share: float, settings: dict, keywords: dict) -> int:
        """``share`` of the steps that the profile takes, but as many as its recipe has stages."""
        if not 0 < share <= 4:
            raise SettingError(f"A share of the profile's steps lies above 0 and up to 4, not {share}.")
        if keywords["steps"] is not None:
            return max(1, round(share * keywords["steps"]))
        stages = RECIPES[keywords["recipe"]](self.G, settings["degradation"], settings.get("space"))
        return max(len(stages), round(share * sum(stage.steps for stage in stages)))

    def show(self, name: str, figure: Figure, caption: str) -> None:
        """Put a figure with its number and caption on the page, and as PNG and PDF into the section's folder."""
        if name not in self.figures:
            self.figures[name] = caption
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

    def check_claim(self, statement: str, holds: bool, **numbers: float) -> Claim:
        """``check_claim``, noted for the report."""
        claim = check_claim(statement, holds, **numbers)
        self.claims.append(claim)
        return claim

    def table(self, rows: Sequence[dict[str, object]], caption: str) -> None:
        """Put a table on the page: one row per dictionary, their keys as columns."""
        names = list(dict.fromkeys(key for row in rows for key in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        lines = ("".join(f"<td>{html.escape(_cell(row.get(name, '')))}</td>" for name in names) for row in rows)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        text = f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"
        plain = "\n".join(", ".join(f"{key} {_cell(value)}" for key, value in row.items()) for row in rows)
        publish_display_data({"text/html": text, "text/plain": f"{caption}\n{plain}"}, {METADATA: {"table": caption}})

    def finish(self) -> None:
        """Name the figures that were made, and write the section's numbers into its folder."""
        print("figures:", ", ".join(self.figures))
        if self.out is None:
            return
        numbers = {
            "section": self.number,
            "profile": self.profile,
            "generator": self.generator,
            "searches": self.searches,
            "claims": [asdict(claim) for claim in self.claims],
            "figures": self.figures,
        }
        with replacing(self.out / f"{self.number}.json") as temporary:
            temporary.write_text(json.dumps(numbers, indent=1), encoding="utf-8")


def _identity(value: object) -> object:
    """What tells a setting from others: the text of a number or an own degradation; of all else the object."""
    complete = isinstance(value, GaussianBlur | Grayscale | Identity) or getattr(value, "rectangle", None)
    return value if isinstance(value, nn.Module | Tensor) and not complete else repr(value)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _encoded(figure: Figure) -> tuple[str, str]:
    """A figure as PNG or JPEG, whichever is smaller: the MIME type and base64 text."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_PAGE_DPI)
    compressed = io.BytesIO()
    Image.open(drawn).convert("RGB").save(compressed, "JPEG", quality=85)
    mime, picture = min((("image/png", drawn), ("image/jpeg", compressed)), key=lambda kind: kind[1].tell())
    return mime, base64.b64encode(picture.getvalue()).decode()

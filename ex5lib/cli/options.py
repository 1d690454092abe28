"""What the commands share: printing, arguments and options, and how a typed path is read."""

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ex5lib.errors import FileError

Options = TypeVar("Options")
DEGRADATIONS = ("blur", "grayscale", "inpaint", "colors", "auto")


def say(line: str, error: bool = False) -> None:
    """Print a line of output, an error in red."""
    typer.secho(line, fg="red" if error else None, err=error)


def with_options(command: Callable[[Options], None]) -> Callable[..., None]:
    """Make a function of one dataclass a command with an option for each of its fields, as typer wants it."""
    kind = get_type_hints(command)["options"]

    @wraps(command)
    def run(**given: Any) -> None:
        command(kind(**given))

    run.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
    return run


def user_path(text: str | Path) -> Path:
    """A path as the user wrote it; a leading ~ is the home directory, even if quotes kept it from the shell.

    Raises:
        FileError: if it is empty, a web address, or in the home directory of an unknown user.
    """
    if not str(text):  # for example an unset variable of the shell; Path would take it for the current folder
        raise FileError("A path is empty: name a file or a folder; a dot is the current folder.")
    if re.match(r"\w+://", str(text)):
        raise FileError(f"{text} is an address: download the file first, then name it.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise FileError(f"There is no home directory for {text}: write the full path.") from None


def results_folder(photo: Path, task: str) -> Path:
    """Where results go by default: a folder named after a photo, or after a folder of photos, and the task."""
    path = Path(os.path.abspath(photo))  # "." has no name of its own
    return Path("results", f"{path.name if photo.is_dir() else path.stem}-{task}")


def generator_name(text: str) -> str:
    """A generator's name, or a path as in ``user_path``."""
    return str(user_path(text))


_PATH = {"parser": user_path, "metavar": "PATH"}
# Options are shown in groups.
_FACE = {"rich_help_panel": "The face"}
_DAMAGE = {"rich_help_panel": "The damage"}
_SEARCH = {"rich_help_panel": "The search"}
_MACHINE = {"rich_help_panel": "The machine"}
_FOLDER = {"rich_help_panel": "A folder of photos"}
_OUTPUT = {"rich_help_panel": "The results"}

Photos = Annotated[Path, typer.Argument(help="Image file, or a folder of them.", show_default=False, **_PATH)]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="results/…", **_PATH, **_OUTPUT)]
OutFolder = Annotated[Path, typer.Option(help="Folder to write to.", **_PATH)]
SamplePhoto = Annotated[Path, typer.Argument(help="Image file.", **_PATH)]
PhotoIfAny = Annotated[Path | None, typer.Argument(help="Image file.", show_default=False, **_PATH)]
ReportPhoto = Annotated[Path, typer.Option(help="Photo to report on.", **_PATH)]
Notebooks = Annotated[
    Path | None, typer.Option(help="Folder with the notebooks.", show_default="the repository's", **_PATH)
]
Optional = Annotated[bool, typer.Option("--optional", help="Also run notebook 3.4, which gives no points.")]
Executed = Annotated[
    Path | None,
    typer.Option("--notebooks", help="The executed notebooks.", show_default="those in the folder", **_PATH),
]
Handed = Annotated[Path, typer.Argument(help="Folder to which the notebooks and the report wrote.", **_PATH)]
Zip = Annotated[
    Path | None, typer.Option(help="The zip, or a folder for it.", show_default="by number and name", **_PATH)
]
StudentName = Annotated[str | None, typer.Option("--name", help="Who hands in.", show_default="as asked once")]
StudentNumber = Annotated[
    str | None, typer.Option("--number", help="The number at the university.", show_default=False)
]
Partial = Annotated[bool, typer.Option("--partial", help="Hand in what there is.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Also with short searches and unanswered questions.")]
Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="NVIDIA's .pkl, or rosinality's .pt or .pth.", show_default=False, **_PATH | {"metavar": "CHECKPOINT"}
    ),
]
Safetensors = Annotated[
    Path, typer.Argument(help="A new .safetensors file.", show_default=False, **_PATH | {"metavar": "SAFETENSORS"})
]
Face = Annotated[
    int | None, typer.Option(help="Index of the face, from 0, best score first.", show_default="the best", **_FACE)
]
Landmarks = Annotated[
    str | None,
    typer.Option(
        help='For a face that is not found: "x,y x,y …" in px of the photo, or a file that holds this: left eye, right '
        "eye, nose tip, left and right corner of the mouth, as you see them; or all 68 points of iBUG.",
        show_default=False,
        **_FACE,
    ),
]
Aligned = Annotated[
    bool, typer.Option("--aligned", help="The photo is an aligned crop: do not look for a face.", **_FACE)
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", help="fast; best, three times as long; karras2020, the published 1000 steps; course.", **_SEARCH
    ),
]
NumSteps = Annotated[int | None, typer.Option(help="Total optimisation steps.", show_default="the recipe's", **_SEARCH)]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.", **_MACHINE)]
GeneratorName = Annotated[
    str,
    typer.Option(
        "--generator",
        help="mobile-ffhq, ffhq, or a .pkl, .pt, .pth or .safetensors file.",
        parser=generator_name,
        metavar="NAME",
        **_SEARCH,
    ),
]
ClassIndex = Annotated[int | None, typer.Option("--class", help="Class of a class-conditional generator.", **_SEARCH)]


@dataclass(kw_only=True)
class SearchOptions:
    """The options of every search."""

    photo: Photos
    recipe: RecipeName = "fast"
    num_steps: NumSteps = None
    latent_weight: Annotated[
        float | None,
        typer.Option(
            help="λ_w, the weight of the distance from the mean latent.", show_default="the recipe's", **_SEARCH
        ),
    ] = None
    space: Annotated[
        str | None, typer.Option(help="Latent space: z, w or w+.", show_default="the recipe's", **_SEARCH)
    ] = None
    start: Annotated[
        Path | None,
        typer.Option(help="An inverted_latent.npz to start at.", show_default="the recipe's", **_PATH, **_SEARCH),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed.", **_SEARCH)] = 0
    device: Device = "auto"
    dtype: Annotated[
        str, typer.Option(help="Number type of the networks: auto, float32, bfloat16 or float16.", **_MACHINE)
    ] = "auto"
    generator: GeneratorName = "mobile-ffhq"
    class_index: ClassIndex = None
    face: Face = None
    landmarks: Landmarks = None
    all_faces: Annotated[
        bool,
        typer.Option("--all-faces", help="Every face of a photo, each in its own folder: face0, face1, …", **_FACE),
    ] = False
    aligned: Aligned = False
    tune: Annotated[
        int,
        typer.Option(
            help="Steps of pivotal tuning after the search, e.g. 50: reproduces the photo almost exactly.", **_SEARCH
        ),
    ] = 0
    answers: Annotated[
        int,
        typer.Option(
            help="How many answers to find: faces that fit the photo and differ in what it does not show.", **_SEARCH
        ),
    ] = 1
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the networks: pays off in long searches.", **_MACHINE)
    ] = False
    batch: Annotated[
        int,
        typer.Option(
            help="Photos of a folder, or faces with --all-faces, to search together; meant for a GPU.", **_FOLDER
        ),
    ] = 1
    workers: Annotated[
        str | None,
        typer.Option(
            help="Processes that share a folder: a number, or auto.", metavar="N", show_default="this one", **_FOLDER
        ),
    ] = None
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Where they run: the address of a Dask scheduler, or slurm, pbs, lsf, sge, htcondor.",
            show_default="this machine",
            **_FOLDER,
        ),
    ] = None
    send: Annotated[
        bool, typer.Option("--send", help="Send photos to the workers and results back: they share no disk.", **_FOLDER)
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what the cluster's system would be asked for, and do nothing.", **_FOLDER
        ),
    ] = False
    enlarge: Annotated[
        int | None,
        typer.Option(
            help="How many times as wide and as high photo.png becomes, 1 to 8.",
            show_default="what a small face needs, else 1",
            **_OUTPUT,
        ),
    ] = None
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print one JSON object per result, for programs; the rest goes to stderr.", **_OUTPUT
        ),
    ] = False
    video: Annotated[
        bool, typer.Option("--video", help="Also write the search as an animation, search.webp.", **_OUTPUT)
    ] = False
    out: Out = None

    @property
    def is_shared(self) -> bool:
        """Whether workers are to search."""
        return self.workers is not None or self.cluster is not None or self.send or self.dry_run


@dataclass(kw_only=True)
class DamageOptions:
    """What is wrong with a photo, or will be done to it."""

    degradation: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(DEGRADATIONS)}. Without it, the photo is examined, and restored from what it suffers "
            "from; with --mask, filled in.",
            show_default=False, **_DAMAGE,
        ),
    ] = None  # fmt: skip
    kernel_size: Annotated[
        str | None,
        typer.Option(
            help="Blur: taps at 256 px, 0 or odd; auto finds how blurred the photo is.", show_default="25", **_DAMAGE
        ),
    ] = None
    sigma: Annotated[
        float | None, typer.Option(help="Blur: px at 256 px.", show_default="0.15 k + 0.35", **_DAMAGE)
    ] = None
    top: Annotated[int | None, typer.Option(help="Inpainting: upper edge of the hole, px at 256 px.", **_DAMAGE)] = None
    left: Annotated[int | None, typer.Option(help="Inpainting: left edge.", **_DAMAGE)] = None
    height: Annotated[int | None, typer.Option(help="Inpainting: height.", **_DAMAGE)] = None
    width: Annotated[int | None, typer.Option(help="Inpainting: width.", **_DAMAGE)] = None
    mask: Annotated[
        Path | None,
        typer.Option(help="Inpainting: mask image, white where to fill in.", show_default=False, **_PATH, **_DAMAGE),
    ] = None
    mask_on: Annotated[
        str | None,
        typer.Option(
            help="What the mask was painted on: photo or crop.",
            show_default="the photo, if the proportions agree",
            **_DAMAGE,
        ),
    ] = None
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="Inpainting: in the mask, black is filled in.", **_DAMAGE)
    ] = False
    already_degraded: Annotated[
        bool, typer.Option("--already-degraded", help="The photo itself is blurred, grey or damaged.", **_DAMAGE)
    ] = False


@dataclass(kw_only=True)
class RestoreOptions(SearchOptions, DamageOptions):
    """The options of ``restore``; fields of the last base come first."""

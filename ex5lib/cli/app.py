"""The command line: ex5, or python -m ex5lib."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import nn
from typer.core import TyperGroup

from ex5lib import figures
from ex5lib.cli import options as o
from ex5lib.cli.album import parse_share
from ex5lib.cli.commands import convert, demo, explore, fetch, report, sample, submit, weights
from ex5lib.cli.jobs import Job
from ex5lib.course.handin import load_latent
from ex5lib.degradations.known import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters
from ex5lib.devices import keep_freed_memory
from ex5lib.errors import Ex5Error, SettingError, UnsureFaceError, sentence, unknown_name
from ex5lib.faces.alignment import align_face
from ex5lib.faces.landmarks import read_landmarks
from ex5lib.faces.masks import PLACES
from ex5lib.files import check_writable
from ex5lib.images.loading import save_image
from ex5lib.images.masks import load_mask
from ex5lib.inversion.recipes import pick_recipe
from ex5lib.restoration.results import check_kept, content
from ex5lib.weights import GENERATORS

DEGRADATIONS = ("blur", "grayscale", "inpaint", "colors", "auto")


class _Commands(TyperGroup):
    """Prints an error that the user can fix as one sentence and exits with 1. Any other is a bug: full traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (Ex5Error, OSError) as error:
            typer.secho(f"error: {sentence(error)}", fg="red", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    help="Restore photos of faces by searching the latent space of a pretrained GAN.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def align(
    photo: o.Photo,
    face: o.Face = None,
    landmarks: o.Landmarks = None,
    size: Annotated[int, typer.Option(help="Side in px.")] = 1024,
    out: o.Out = None,
):
    """Find the face in a photo and crop it as FFHQ did.

    If what was found may not be a face, only alignment.png is written, which shows it.
    """
    if not 64 <= size <= 4096:
        raise SettingError(f"The side of an aligned face must be 64 to 4096 px, not {size}.")
    out = out or Path("results", f"{photo.stem}-align")
    check_writable(out)
    check_kept(out, [photo], names := ("aligned.png", "alignment.png"))
    try:
        found = align_face(photo, face=face, landmarks=_points(landmarks, photo), size=size)
    except UnsureFaceError as error:
        _remove(out, names)
        figures.save_figure(figures.plot_alignment(error.guess), out / "alignment.png")
        o.say(f"written to {out}: alignment.png, which shows what was found")
        raise
    _remove(out, names)  # an earlier crop must not stay if this is interrupted
    save_image(found.image, out / "aligned.png")
    figures.save_figure(figures.plot_alignment(found), out / "alignment.png")
    typer.echo(f"written to {out}: aligned.png, alignment.png")
    if found.detections:
        chosen = found.detections[found.index]
        typer.echo(f"  score {chosen.score:.2f} ({chosen.detector})")
    if found.choice:
        typer.echo(f"  {found.choice}")


@app.command()
def invert(
    photo: o.Photos,
    recipe: o.RecipeName = "fast",
    num_steps: o.NumSteps = None,
    latent_weight: o.LatentWeight = None,
    space: o.Space = None,
    start: o.Start = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    class_index: o.ClassIndex = None,
    face: o.Face = None,
    landmarks: o.Landmarks = None,
    all_faces: o.AllFaces = False,
    aligned: o.Aligned = False,
    tune: o.Tune = 0,
    answers: o.Answers = 1,
    compile: o.Compile = False,
    batch: o.Batch = 1,
    shard: o.Shard = None,
    video: o.Video = False,
    out: o.Out = None,
):
    """Find the latent code whose image looks like the photo, or like each photo of a folder.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    _search(dict(locals()), "inversion", Identity(), already_degraded=False)


@app.command()
def restore(
    photo: o.Photos,
    degradation: Annotated[str, typer.Option(help=f"{', '.join(DEGRADATIONS)}.", show_default=False)],
    kernel_size: Annotated[
        str | None,
        typer.Option(help="Blur: taps at 256 px, 0 or odd; auto finds how blurred the photo is.", show_default="25"),
    ] = None,
    sigma: Annotated[float | None, typer.Option(help="Blur: px at 256 px.", show_default="0.15 k + 0.35")] = None,
    top: Annotated[int | None, typer.Option(help="Inpainting: upper edge of the hole, px at 256 px.")] = None,
    left: Annotated[int | None, typer.Option(help="Inpainting: left edge.")] = None,
    height: Annotated[int | None, typer.Option(help="Inpainting: height.")] = None,
    width: Annotated[int | None, typer.Option(help="Inpainting: width.")] = None,
    mask: o.Mask = None,
    mask_on: o.MaskOn = None,
    already_degraded: Annotated[
        bool, typer.Option("--already-degraded", help="The photo itself is blurred, grey or damaged.")
    ] = False,
    recipe: o.RecipeName = "fast",
    num_steps: o.NumSteps = None,
    latent_weight: o.LatentWeight = None,
    space: o.Space = None,
    start: o.Start = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    class_index: o.ClassIndex = None,
    face: o.Face = None,
    landmarks: o.Landmarks = None,
    all_faces: o.AllFaces = False,
    aligned: o.Aligned = False,
    tune: o.Tune = 0,
    answers: o.Answers = 1,
    compile: o.Compile = False,
    batch: o.Batch = 1,
    shard: o.Shard = None,
    video: o.Video = False,
    out: o.Out = None,
):
    """Deblur, colourise or fill in a photo, or bring back faded or toned colours.

    The aligned photo is degraded first, and the result is compared with the original. With --already-degraded, the
    photo is restored as it is. --degradation auto finds out what is wrong with the photo, and says how it knows.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    if kernel_size is not None and degradation != "blur":
        raise SettingError("--kernel-size only works with --degradation blur: leave it out.")
    kernel_size = kernel_size or "25"
    options = dict(locals())
    hole = {"mask": mask, "mask-on": mask_on, "top": top, "left": left, "height": height, "width": width}
    for name, value in hole.items():
        if value is not None and degradation != "inpaint":
            raise SettingError(f"--{name} says where a hole is: use it with --degradation inpaint.")
    if sigma is not None and (degradation != "blur" or kernel_size == "auto"):
        raise SettingError("--sigma only works with --degradation blur and a known kernel size: leave it out.")
    if mask_on and not mask:
        raise SettingError("--mask-on says what a mask was painted on: add --mask.")
    if mask and any(value is not None for value in (top, left, height, width)):
        raise SettingError("Specify the hole by a mask or by a rectangle, not by both.")
    if mask_on not in (None, *PLACES):
        raise SettingError(f'A mask is painted on the photo or on the crop, not on "{mask_on}".')
    already_degraded = already_degraded or degradation == "auto"
    D: nn.Module | None = None  # a mask or "auto": another one for each face
    if degradation == "blur":
        D = UnknownBlur() if kernel_size == "auto" else GaussianBlur(_taps(kernel_size), sigma)
    elif degradation == "grayscale":
        D = Grayscale()
    elif degradation == "colors":
        D = UnknownColors()
    elif degradation == "inpaint" and not mask:
        D = Inpaint(top, left, height, width)
    elif degradation not in DEGRADATIONS:
        raise unknown_name("degradation", degradation, DEGRADATIONS)
    unknown = D is not None and bool(unknown_parameters(D))
    if unknown and not already_degraded:
        raise SettingError("Unknown damage must be in the photo itself: add --already-degraded.")
    if batch > 1 and (unknown or D is None):
        what = "A mask is fitted to each face" if mask else "Damage is examined face by face"
        raise SettingError(f"{what}, so such photos are searched one by one: set --batch 1.")
    _search(options, degradation, D, already_degraded)


# The options that a Job takes as they are.
_OF_JOBS = (
    "generator", "device", "seed", "class_index", "face", "landmarks", "all_faces", "aligned", "tune", "answers",
    "compile", "batch", "video",
)  # fmt: skip


def _search(options: dict[str, Any], task: str, degradation: nn.Module | None, already_degraded: bool) -> None:
    """Search as the options of ``invert`` or ``restore`` say; ``degradation`` as in ``Job``."""
    photo, mask, start = options["photo"], options.get("mask"), options["start"]
    options["landmarks"] = _points(options["landmarks"], photo, options["aligned"] or options["all_faces"])
    request = _request(options)  # before any file is read, in case it is replaced meanwhile
    latent = load_latent(start) if start else None
    asked = {name: options[name] for name in ("num_steps", "space", "latent_weight")}
    job = Job(
        **{name: options[name] for name in _OF_JOBS},
        recipe=pick_recipe(options["recipe"], start=latent, **asked), start=latent, degradation=degradation,
        already_degraded=already_degraded, mask=load_mask(mask) if mask else None, mask_on=options.get("mask_on"),
        share=parse_share(options["shard"]) if options["shard"] else None, request=request,
        inputs=_files(options["generator"], mask, start), say=o.say,
    )  # fmt: skip
    outcome = job.run(photo, options["out"] or _default_out(photo, task))
    if outcome.stopped and (photo.is_dir() or job.all_faces):  # a single search keeps the best image so far
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _points(given: str | None, photo: Path, otherwise: bool = False) -> np.ndarray | None:
    """The landmarks given on the command line."""
    if given is None:
        return None
    if photo.is_dir():
        raise SettingError("Landmarks belong to one photo: name that photo instead of its folder.")
    if otherwise:
        raise SettingError("Landmarks say which face to crop, and how: leave out --aligned and --all-faces.")
    return read_landmarks(given)


def _taps(text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"A blur's kernel size must be 0, an odd number or auto, not {text}.")
    return int(text)


def _default_out(photo: Path, task: str) -> Path:
    path = Path(os.path.abspath(photo))  # "." has no name of its own
    return Path("results", f"{path.name if photo.is_dir() else path.stem}-{task}")


def _files(*paths: str | Path | None) -> list[Path]:
    """Those of the paths that are files; a generator may be a name."""
    return [Path(path) for path in paths if path and path not in GENERATORS and Path(path).is_file()]


def _request(options: dict[str, Any]) -> dict[str, Any]:
    """The options that affect the result, JSON-ready; files are given by their content."""
    asked = {name: value for name, value in options.items() if name not in ("photo", "out", "batch", "shard")}
    if asked["landmarks"] is not None:
        asked["landmarks"] = asked["landmarks"].tolist()
    return asked | {name: content(asked[name]) for name in ("mask", "generator", "start") if _files(asked.get(name))}


for command in (explore, sample, fetch, weights, convert, demo, report, submit):
    app.command()(command)


def main() -> None:
    """Run the command line in this process."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without λ shows a question mark instead
    app(prog_name="ex5")

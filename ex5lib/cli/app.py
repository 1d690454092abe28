"""The command line: ex5, or python -m ex5lib."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

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
from ex5lib.faces.alignment import AlignedFace, align_face
from ex5lib.faces.landmarks import read_landmarks
from ex5lib.faces.masks import PLACES, fitted_mask
from ex5lib.files import check_writable
from ex5lib.images.loading import save_image
from ex5lib.images.masks import load_mask
from ex5lib.inversion.recipes import pick_recipe
from ex5lib.restoration.diagnosis import examine, proposed
from ex5lib.restoration.results import check_kept, content
from ex5lib.weights import GENERATORS

DEGRADATIONS = ("blur", "grayscale", "inpaint", "colors", "auto")


class _Commands(TyperGroup):
    """Prints an error that the user can fix as one sentence and exits with 1; any other is a bug: full traceback."""

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

    If it is not sure that what was found is a face, only alignment.png is written, which shows it.
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
    _remove(out, names)  # an earlier crop of another photo shall not stay, should this be interrupted
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
    """Find the latent code whose image looks like the photo, or each photo of a folder.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    options = dict(locals()) | {"landmarks": _points(landmarks, photo, aligned or all_faces)}
    request, share = _request(options), _share(options)
    _take_recipe(options)
    photo, out = options.pop("photo"), options.pop("out") or _default_out(photo, "inversion")
    job = Job(
        **options, degradation_of=lambda _: Identity(), already_degraded=False, request=request, share=share, say=o.say,
        inputs=_files(generator, start),
    )  # fmt: skip
    _run(job, photo, out)


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
    """Deblur, colourise or fill in a photo, or give faded and toned colours back.

    The aligned photo is degraded first, and the result is compared with the original. With --already-degraded, the
    photo is restored as it is. --degradation auto asks the photo what it suffers from, and says why.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    if kernel_size is not None and degradation != "blur":
        raise SettingError("--kernel-size is that of a blur: use it with --degradation blur.")
    kernel_size = kernel_size or "25"
    options = dict(locals()) | {"landmarks": _points(landmarks, photo, aligned or all_faces)}
    request, share = _request(options), _share(options)  # before any file is read, lest it be replaced in between
    hole = {"mask": mask, "mask-on": mask_on, "top": top, "left": left, "height": height, "width": width}
    for name, value in hole.items():
        if value is not None and degradation != "inpaint":
            raise SettingError(f"--{name} says where a hole is: use it with --degradation inpaint.")
    if sigma is not None and (degradation != "blur" or kernel_size == "auto"):
        raise SettingError("--sigma is that of a known blur: use it with --degradation blur and a kernel size.")
    if mask_on and not mask:
        raise SettingError("--mask-on says what a mask was painted on: add --mask.")
    if mask and any(value is not None for value in (top, left, height, width)):
        raise SettingError("Specify the hole by a mask or by a rectangle, not by both.")
    if mask_on not in (None, *PLACES):
        raise SettingError(f'A mask is painted on the photo or on the crop, not on "{mask_on}".')
    already_degraded = options["already_degraded"] = already_degraded or degradation == "auto"
    painted = module = None
    if degradation == "blur":
        module = UnknownBlur() if kernel_size == "auto" else GaussianBlur(_taps(kernel_size), sigma)
    elif degradation == "grayscale":
        module = Grayscale()
    elif degradation == "colors":
        module = UnknownColors()
    elif degradation == "inpaint" and mask:
        painted = load_mask(mask)
    elif degradation == "inpaint":
        module = Inpaint(top, left, height, width)
    elif degradation != "auto":
        raise unknown_name("degradation", degradation, DEGRADATIONS)
    unknown = module is not None and bool(unknown_parameters(module))
    if unknown and not already_degraded:
        raise SettingError("Unknown damage is that of the photo itself: add --already-degraded.")
    if batch > 1 and (unknown or module is None):
        what = "A mask is fitted to each face" if painted is not None else "Damage is told for each face"
        raise SettingError(f"{what}, so such photos are searched one by one: set --batch 1.")

    def degradation_of(face: AlignedFace) -> nn.Module | None:
        if module is not None:
            return module
        if painted is not None:
            fitted = fitted_mask(painted, face, mask_on, mask)
            untouched = fitted.max() <= 0.5
            if untouched and all_faces:
                return None
            if untouched and painted.max() > 0.5:
                x, y = face.quad.mean(axis=0)
                raise SettingError(
                    f"What {mask} marks lies outside the crop around ({x:.0f}, {y:.0f}) px: if that is not the face, "
                    "see what ex5 align draws and name another by --face or --landmarks."
                )
            return Inpaint(mask=fitted)
        damages, who = examine(face), f"face {face.index}: " if all_faces else ""
        for damage in damages:
            o.say(f"  {who}{damage.reason}: {damage.degradation}")
        if damages:
            return proposed(damages)
        if all_faces:
            o.say(f"  {who}no damage was found, so it is left alone: name it by --degradation if you see some")
            return None
        o.say("  no damage was found, so the face is inverted as it is: name it by --degradation if you see some")
        return Identity()

    for name in ("degradation", "kernel_size", "sigma", "top", "left", "height", "width"):
        del options[name]
    options["mask"] = painted
    _take_recipe(options)
    photo, out = options.pop("photo"), options.pop("out") or _default_out(photo, degradation)
    job = Job(
        **options,
        degradation_of=degradation_of,
        request=request,
        share=share,
        say=o.say,
        inputs=_files(generator, mask, start),
    )
    _run(job, photo, out)


def _take_recipe(options: dict) -> None:
    """Put the recipe that was asked for, and the latent to start at, in the place of the options that name them."""
    start = options["start"] = load_latent(options["start"]) if options["start"] else None
    asked = {name: options.pop(name) for name in ("num_steps", "space", "latent_weight")}
    options["recipe"] = pick_recipe(options["recipe"], start=start, **asked)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _run(job: Job, photo: Path, out: Path) -> None:
    outcome = job.run(photo, out)
    if outcome.stopped and (photo.is_dir() or job.all_faces):  # of a single search, the best so far is its result
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


def _points(given: str | None, photo: Path, otherwise: bool = False) -> list | None:
    """The landmarks given on the command line, as JSON-ready pairs."""
    if given is None:
        return None
    if photo.is_dir():
        raise SettingError("Landmarks belong to one photo: name that photo instead of its folder.")
    if otherwise:
        raise SettingError("Landmarks say which face to crop, and how: leave out --aligned and --all-faces.")
    return read_landmarks(given).tolist()


def _taps(text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"A blur's kernel size is 0, an odd number or auto, not {text}.")
    return int(text)


def _share(options: dict) -> tuple[int, int] | None:
    text = options.pop("shard")
    return parse_share(text) if text else None


def _default_out(photo: Path, task: str) -> Path:
    path = Path(os.path.abspath(photo))  # "." has no name of its own
    return Path("results", f"{path.name if photo.is_dir() else path.stem}-{task}")


def _files(*paths: str | Path | None) -> list[Path]:
    """Those that are files; a generator may be a name, or not be there."""
    return [Path(path) for path in paths if path and path not in GENERATORS and Path(path).is_file()]


def _request(options: dict) -> dict:
    """The options that affect the result, JSON-ready; a file stands there by its content."""
    asked = {name: value for name, value in options.items() if name not in ("photo", "out", "batch", "shard")}
    files = [name for name in ("mask", "generator", "start") if _files(asked.get(name))]
    return asked | {name: content(asked[name]) for name in files}


for command in (explore, sample, fetch, weights, convert, demo, report, submit):
    app.command()(command)


def main() -> None:
    """Run the command line in this process."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without λ shows a question mark instead
    app(prog_name="ex5")

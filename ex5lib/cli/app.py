"""The command line: ex5, or python -m ex5lib."""

import contextlib
import io
import json
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from ex5lib.cli import options as o
from ex5lib.cli.aligning import align
from ex5lib.cli.commands import convert, demo, explore, fetch, report, sample, submit, weights
from ex5lib.cli.doctor import doctor
from ex5lib.errors import Ex5Error, SettingError, sentence, unknown_name

if TYPE_CHECKING:  # imported where they are used: help does not wait for PyTorch
    from torch import nn

    from ex5lib.cli.jobs import Job


class _Commands(TyperGroup):
    """Prints an error that the user can fix as one sentence and exits with 1. Any other is a bug: full traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (Ex5Error, OSError) as error:
            typer.secho(f"error: {sentence(error)}", fg="red", err=True)
        except KeyboardInterrupt:
            typer.secho("ended", err=True)
            raise typer.Exit(130) from None
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a docstring's paragraph
)


def _version(asked: bool) -> None:
    if asked:
        from ex5lib import __version__

        typer.echo(f"ex5 {__version__}")
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Restore photos of faces by searching the latent space of a pretrained GAN."""


@app.command()
@o.with_options
def invert(options: o.SearchOptions) -> None:
    """Find the latent code whose image looks like the photo, or like each photo of a folder.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    from ex5lib.cli.jobs import Job
    from ex5lib.degradations.known import Identity

    _run(Job(options, Identity()), "inversion")


@app.command()
@o.with_options
def restore(options: o.RestoreOptions) -> None:
    """Restore a photo, or each photo of a folder: find out what it suffers from, or be told.

    With a --degradation, the aligned photo is degraded first, and the result is compared with the original: an
    experiment. Add --already-degraded if the photo itself is blurred, grey, damaged, faded or toned.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    from ex5lib.cli.jobs import Job
    from ex5lib.degradations.known import GaussianBlur, Grayscale, Inpaint
    from ex5lib.degradations.unknown import UnknownBlur, UnknownColors, unknown_parameters
    from ex5lib.faces.masks import PLACES

    name = options.degradation or ("inpaint" if options.mask else "auto")
    if options.kernel_size is not None and name != "blur":
        raise SettingError("--kernel-size only works with --degradation blur: leave it out.")
    options.kernel_size = options.kernel_size or "25"
    rectangle = {"top": options.top, "left": options.left, "height": options.height, "width": options.width}
    for option, value in ({"mask": options.mask, "mask-on": options.mask_on} | rectangle).items():
        if value is not None and name != "inpaint":
            raise SettingError(f"--{option} says where a hole is: use it with --degradation inpaint.")
    if options.sigma is not None and (name != "blur" or options.kernel_size == "auto"):
        raise SettingError("--sigma only works with --degradation blur and a known kernel size: leave it out.")
    if (options.mask_on or options.invert_mask) and not options.mask:
        raise SettingError("--mask-on and --invert-mask say how a mask was painted: add --mask.")
    if options.mask and any(value is not None for value in rectangle.values()):
        raise SettingError("Specify the hole by a mask or by a rectangle, not by both.")
    if options.mask_on not in (None, *PLACES):
        raise SettingError(f'A mask is painted on the photo or on the crop, not on "{options.mask_on}".')
    already_degraded = options.already_degraded or name == "auto" or options.degradation is None
    D: nn.Module | None = None  # a mask or "auto": another one for each face
    if name == "blur":
        unknown = options.kernel_size == "auto"
        D = UnknownBlur() if unknown else GaussianBlur(_taps(options.kernel_size), options.sigma)
    elif name == "grayscale":
        D = Grayscale()
    elif name == "colors":
        D = UnknownColors()
    elif name == "inpaint" and not options.mask:
        D = Inpaint(options.top, options.left, options.height, options.width)
    elif name not in o.DEGRADATIONS:
        raise unknown_name("degradation", name, o.DEGRADATIONS)
    has_unknowns = D is not None and bool(unknown_parameters(D))
    if has_unknowns and not already_degraded:
        raise SettingError("Unknown damage must be in the photo itself: add --already-degraded.")
    if options.batch > 1 and (has_unknowns or D is None):
        what = "A mask is fitted to each face" if options.mask else "Damage is examined face by face"
        raise SettingError(f"{what}, so such photos are searched one by one: set --batch 1.")
    job = Job(
        options, D, already_degraded=already_degraded, mask=options.mask, mask_on=options.mask_on,
        invert_mask=options.invert_mask,
    )  # fmt: skip
    _run(job, name)


def _run(job: "Job", task: str) -> None:
    """Run a job, by default to a folder named after the photo and the task."""
    from ex5lib.devices import keep_freed_memory

    share = None
    if job.options.is_shared:
        from ex5lib.cli import cluster  # imported here: only workers need Dask

        if job.options.dry_run:
            o.say(cluster.job_script(job.options.cluster))
            return
        share = cluster.search
    keep_freed_memory()
    photo = job.options.photo
    out = job.options.out or o.results_folder(photo, task)
    with (
        contextlib.redirect_stdout(sys.stderr) if job.options.json else contextlib.nullcontext(),
        contextlib.nullcontext() if share else _told_of_ctrl_c(),
    ):
        total = job.run(out, share)
    if job.options.json:
        for row in total.rows(out):
            o.say(json.dumps(asdict(row) | {"folder": str(out / row.folder) if row.numbers else None}))
    if total.stopped and (photo.is_dir() or job.options.all_faces):  # a single search keeps the best image so far
        raise typer.Exit(130)
    if total.messages:
        raise typer.Exit(1)


@contextlib.contextmanager
def _told_of_ctrl_c() -> Iterator[None]:
    """Say at once what a first Ctrl-C does: a search writes its best image before it ends, which takes seconds."""

    def told(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        o.say("stopping: the best image so far is written, if there is one; Ctrl-C again ends at once", error=True)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # somebody else's; and only the main thread has it
        yield
        return
    signal.signal(signal.SIGINT, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _taps(text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"A blur's kernel size must be 0, an odd number or auto, not {text}.")
    return int(text)


for command in (align, explore, sample, fetch, weights, convert, demo, report, submit, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line in this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without λ shows a question mark instead
    warnings.showwarning = lambda message, *_: typer.secho(f"warning: {message}", fg="yellow", err=True)
    app(prog_name="ex5")

"""All commands except align, invert and restore. Each imports what it needs: help does not wait for PyTorch."""

import math
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ex5lib.cli import options as o
from ex5lib.errors import SettingError
from ex5lib.files import check_writable, replacing
from ex5lib.samples import sample_photo

SAMPLE_PHOTO = sample_photo()
REPORT = Path("results/report")


def explore(
    photo: o.PhotoIfAny = None,
    recipe: o.RecipeName = "fast",
    num_steps: o.NumSteps = None,
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    face: o.Face = None,
    aligned: o.Aligned = False,
    port: Annotated[int, typer.Option(help="Port of the page.", show_default="any free one")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    out: o.OutFolder = Path("results"),
):
    """Restore a photo in the browser, or explore the search: sliders, a mask to paint. Ctrl-C ends it.

    The page can be reached only from this machine, and only by the address that is printed.
    """
    from ex5lib.devices import keep_freed_memory, pick_device
    from ex5lib.explorer.choices import Choice
    from ex5lib.explorer.exploration import Exploration
    from ex5lib.explorer.page import PageServer
    from ex5lib.explorer.restoring import Restoring
    from ex5lib.explorer.searching import Searcher, offered
    from ex5lib.explorer.subjects import find_subjects, plain_name
    from ex5lib.images.loading import load_image
    from ex5lib.inversion.recipes import pick_recipe
    from ex5lib.restoration.pipeline import crop_size
    from ex5lib.weights import load_generator

    keep_freed_memory()
    given = photo or SAMPLE_PHOTO
    load_image(given)  # cheap checks come before slow downloads
    check_writable(out)
    server = PageServer(port)
    recipes = offered(pick_recipe(recipe, num_steps=num_steps), num_steps=num_steps)
    pick_device(device)
    typer.echo("loading the generator and looking for a face …")
    G = load_generator(generator, device)
    subjects = find_subjects(plain_name(given.name), given, crop_size(G), face=face, aligned=aligned)
    searcher = Searcher(G, recipes, device=device)
    exploration = Exploration(searcher, subjects, Choice(recipe=recipe), out=out)
    server.show(exploration, Restoring(searcher, subjects if photo else (), recipe=recipe, looked=exploration.explore))
    try:
        typer.echo(f"the page is at {server.address}")
        typer.echo("Ctrl-C ends it")
        if browser:
            webbrowser.open(server.address)
        threading.Event().wait()
    except KeyboardInterrupt:
        typer.echo("ended")
    finally:
        server.close()


def sample(
    seeds: Annotated[str, typer.Argument(help="Seeds, such as 0-7 or 3,5,8.")] = "0-7",
    truncation: Annotated[float, typer.Option(help="ψ: 1 is all of W, 0 the mean face.")] = 0.7,
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    class_index: o.ClassIndex = None,
    out: o.OutFolder = Path("results/samples"),
):
    """Generate faces from seeds."""
    import torch
    from tqdm.auto import tqdm

    from ex5lib import figures
    from ex5lib.devices import keep_freed_memory, readable_memory_errors
    from ex5lib.images.loading import save_image
    from ex5lib.inversion.latents import sample_ws
    from ex5lib.weights import load_generator

    keep_freed_memory()
    numbers = _seeds(seeds)
    if not math.isfinite(truncation):
        raise SettingError(f"The truncation ψ must be a number, not {truncation}.")
    check_writable(out)
    G = load_generator(generator, device)
    faces = []
    for seed in tqdm(numbers, desc="sampling", unit="face"):
        with torch.no_grad(), readable_memory_errors():
            ws = sample_ws(G, seed, truncation_psi=truncation, class_index=class_index)
            faces.append(G.synthesis(ws).float().cpu())
        save_image(faces[-1], out / f"seed{seed:04d}.png")
    titles = [f"seed {seed}" for seed in numbers]
    figures.save_figure(figures.plot_images(faces, titles, columns=min(4, len(faces))), out / "faces.png")
    typer.echo(f"written to {out}: faces.png and {len(faces)} faces")


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SettingError(f'"{text}" is not a list of seeds: write them as 0-7 or 3,5,8.')
        span = range(int(first), int(last or first) + 1)
        if not 1 <= len(seeds) + len(span) <= 256 or not span:
            raise SettingError(f'"{text}" is not a list of 1 to 256 seeds: write at most 256, and ranges upward.')
        seeds += span
    return seeds


def fetch(names: Annotated[list[str] | None, typer.Argument(help="Names, as the command weights lists them.")] = None):
    """Fetch pretrained weights before their first use."""
    from ex5lib import weights as pretrained

    for name in names or [name for name, entry in pretrained.REGISTRY.items() if not entry.on_request]:
        typer.echo(f"{name}: {pretrained.fetch(name)}")


def weights():
    """List the pretrained weights: purpose, both licences, and whether they are on this machine."""
    from ex5lib import weights as pretrained

    for name, entry in pretrained.REGISTRY.items():
        typer.echo(f"{name} ({pretrained.status(name)}, {entry.size / 1e6:.0f} MB)")
        typer.echo(f"  {entry.purpose}")
        typer.echo(f"  from {entry.origin}: {entry.filename}")
        typer.echo(f"  SHA-256 {entry.sha256}")
        typer.echo(f"  licence of the package: {entry.package_licence}")
        typer.echo(f"  licence of the weights: {entry.weights_licence}")
    typer.echo(f"cache: {pretrained.cache_folder()}")


def convert(source: o.Checkpoint, target: o.Safetensors):
    """Convert a checkpoint to a file that loads fast and can only hold tensors."""
    from ex5lib.weights import load_generator
    from stylegan2_ada.readers import save_generator

    if target.suffix != ".safetensors":
        raise SettingError(f"{target} must end in .safetensors.")
    generator = load_generator(source, "cpu")
    with replacing(target) as temporary:
        save_generator(generator, temporary)
    typer.echo(f"written to {target}: {generator.img_resolution} px, {generator.num_ws} styles")


def demo(
    photo: o.SamplePhoto = SAMPLE_PHOTO,
    recipe: o.RecipeName = "fast",
    num_steps: o.NumSteps = None,
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    out: o.OutFolder = Path("results/demo"),
):
    """Align a photo; invert, deblur, colourise and inpaint it; draw a gallery of the results."""
    from ex5lib import figures
    from ex5lib.cli.telling import tell
    from ex5lib.devices import keep_freed_memory
    from ex5lib.faces.alignment import load_face
    from ex5lib.images.loading import load_image
    from ex5lib.inversion.losses import PerceptualDistance
    from ex5lib.inversion.recipes import pick_recipe
    from ex5lib.restoration.pipeline import TASKS, restore_faces
    from ex5lib.restoration.results import check_kept
    from ex5lib.weights import load_generator

    keep_freed_memory()
    began = time.perf_counter()
    load_image(photo)  # cheap checks come before slow downloads
    chosen = pick_recipe(recipe, num_steps=num_steps)
    check_writable(out)
    check_kept(out, [photo], ["gallery.png"])
    for name in TASKS:
        check_kept(out / name, [photo])
    G, distance = load_generator(generator, device), PerceptualDistance(device=device)
    face = load_face(photo, size=G.img_resolution)
    given, found = [], []
    for name, degradation in TASKS.items():
        typer.echo(f"{name}:")
        (done,) = restore_faces([face], degradation, chosen, generator=G, distance=distance, device=device)
        tell(done, out / name, done.save(out / name))
        if done.run.stopped:
            raise typer.Exit(130)
        given.append((name, done.images.get("degraded", face.image)))
        found.append(("", done.result))
    # The last column: the original photo, and below it the composite of the last task, the inpainting.
    given.append(("original, and composite", face.image))
    found.append(("", done.best_image))
    path = figures.save_figure(figures.plot_gallery([("given", given), ("found", found)]), out / "gallery.png")
    typer.echo(f"gallery in {path}, after {time.perf_counter() - began:.0f} s")


def report(
    photo: o.ReportPhoto = SAMPLE_PHOTO,
    recipe: o.RecipeName = "fast",
    device: o.Device = "auto",
    generator: o.GeneratorName = "mobile-ffhq",
    notebooks: o.Notebooks = None,
    optional: o.Optional = False,
    out: o.OutFolder = REPORT,
):
    """Run the five notebooks and build the report: one page with every figure and every number.

    Finished notebooks are not run again, so an interrupted report resumes where it stopped.
    """
    from ex5lib.course.report import Request, make_report
    from ex5lib.images.loading import load_image
    from ex5lib.inversion.recipes import pick_recipe

    load_image(photo)
    pick_recipe(recipe)
    began = time.perf_counter()
    request = Request(photo, generator, recipe)
    page = make_report(request, out, notebooks=notebooks, optional=optional, device=device, say=typer.echo)
    typer.echo(f"written to {page}, after {time.perf_counter() - began:.0f} s")


def submit(
    folder: o.Handed = REPORT,
    notebooks: o.Executed = None,
    out: o.Zip = None,
    name: o.StudentName = None,
    number: o.StudentNumber = None,
    partial: o.Partial = False,
    anyway: o.Anyway = False,
):
    """Collect in one zip what the course asks for, or say what is missing.

    The zip holds the executed notebooks, the report, and for each task the original image, the degraded one, the
    intermediate ones, the one found, inverted_latent.npz and loss_plot.png. Your name and number are asked once, and
    kept in the folder.
    """
    from ex5lib.course import handin

    known = handin.known_student(folder) or handin.Student("", "")
    student = handin.Student(_asked("name", name or known.name), _asked("number", number or known.number))
    path = Path(student.file_name) if out is None else out / student.file_name if out.is_dir() else out
    handin.submit(folder, notebooks or folder / "notebooks", path, student, partial=partial, anyway=anyway)
    size = path.stat().st_size / 1e6
    typer.echo(f"written to {path}, {size:.1f} MB, for {student.name}, {student.number}")
    for words in handin.missing(folder, notebooks or folder / "notebooks"):
        typer.echo(f"  without {words}")
    page = handin.report(folder)
    if page is not None and page.suffix != ".pdf":
        typer.echo("  with the report as a page: print report.html from a browser if the course wants a PDF")


def _asked(what: str, known: str) -> str:
    """A student's name or number, as it is typed now if it is not known."""
    if not (known or sys.stdin.isatty()):
        raise SettingError("It is not known who hands in: give --name and --number.")
    return known or typer.prompt(f"Your {what}")

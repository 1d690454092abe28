"""The command line: ex5, or python -m ex5lib."""

import math
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor
from tqdm.auto import tqdm
from typer.core import TyperGroup

from ex5lib import figures
from ex5lib import weights as pretrained
from ex5lib.alignment import AlignedFace, align_face, load_face
from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.devices import keep_freed_memory, readable_memory_errors
from ex5lib.errors import Ex5Error, SettingError, UnsureFaceError, unknown_name
from ex5lib.files import check_writable, replacing
from ex5lib.images import load_image, load_mask, save_image
from ex5lib.jobs import Job, tell
from ex5lib.landmarks import read_landmarks
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.recipes import pick_recipe
from ex5lib.restore import TASKS, restore_faces
from ex5lib.samples import sample_photo
from stylegan2_ada.readers import save_generator


class _Commands(TyperGroup):
    """Prints an error that the user can fix as one sentence and exits with 1; any other is a bug: full traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except Ex5Error as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        typer.secho(f"error: {message}", fg="red", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_Commands,
    help="Restore photos of faces by searching the latent space of a pretrained GAN.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

SAMPLE_PHOTO = sample_photo()

Photo = Annotated[Path, typer.Argument(help="Image file.", show_default=False)]
Photos = Annotated[Path, typer.Argument(help="Image file, or a folder of them.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="results/…")]
Face = Annotated[int | None, typer.Option(help="Index of the face, from 0, best score first.", show_default="the best")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The photo is an aligned crop: do not look for a face.")]
Landmarks = Annotated[
    str | None,
    typer.Option(
        help='For a face that is not found: "x,y x,y …" in px of the photo, or a file of them: left eye, right eye, '
        "nose tip, left and right corner of the mouth as you see them, or all 68 of iBUG.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", help="fast; best, three times as long; karras2020, the published 1000 steps; course; robust2023."
    ),
]
NumSteps = Annotated[int | None, typer.Option(help="Total optimisation steps.", show_default="the recipe's")]
LatentWeight = Annotated[
    float | None,
    typer.Option(
        help="λ_w, weight of the distance from the mean latent.",
        show_default="the recipe's, 0.001",
    ),
]
Space = Annotated[
    str | None, typer.Option(help="Latent space: z, w, w+ or s (every channel's style).", show_default="the recipe's")
]
Tune = Annotated[
    int, typer.Option(help="Steps of pivotal tuning after the search, 50 for example: the photo itself, nearly.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the networks: worth it for long searches.")]
Video = Annotated[bool, typer.Option("--video", help="Also write the search as an animation, search.webp.")]
Batch = Annotated[int, typer.Option(help="Photos of a folder to search at once; meant for a GPU.")]
Seed = Annotated[int, typer.Option(help="Random seed.")]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
GeneratorName = Annotated[
    str, typer.Option("--generator", help="mobile-ffhq, ffhq, or a .pkl, .pt or .safetensors file.")
]
ClassIndex = Annotated[int | None, typer.Option("--class", help="Class of a class-conditional generator.")]


@app.command()
def align(
    photo: Photo,
    face: Face = None,
    landmarks: Landmarks = None,
    size: Annotated[int, typer.Option(help="Side in px.")] = 1024,
    out: Out = None,
):
    """Find the face in a photo and crop it as FFHQ did.

    If it is not sure that what was found is a face, only alignment.png is written, which shows it.
    """
    if not 64 <= size <= 4096:
        raise SettingError(f"The side of an aligned face must be 64 to 4096 px, not {size}.")
    out = out or Path("results", f"{photo.stem}-align")
    check_writable(out)
    try:
        found = align_face(photo, face=face, landmarks=_points(landmarks, photo), size=size)
    except UnsureFaceError as error:
        figures.save_figure(figures.plot_alignment(error.guess), out / "alignment.png")
        typer.echo(f"written to {out}: alignment.png, which shows what was found")
        raise
    save_image(found.image, out / "aligned.png")
    figures.save_figure(figures.plot_alignment(found), out / "alignment.png")
    typer.echo(f"written to {out}: aligned.png, alignment.png")
    if found.detections:
        chosen = found.detections[found.index]
        typer.echo(f"  face {found.index} of {len(found.detections)}, score {chosen.score:.2f} ({chosen.detector})")
    if found.choice:
        typer.echo(f"  {found.choice}")


@app.command()
def invert(
    photo: Photos,
    recipe: RecipeName = "fast",
    num_steps: NumSteps = None,
    latent_weight: LatentWeight = None,
    space: Space = None,
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    landmarks: Landmarks = None,
    aligned: Aligned = False,
    tune: Tune = 0,
    compile: Compile = False,
    batch: Batch = 1,
    video: Video = False,
    out: Out = None,
):
    """Find the latent code whose image looks like the photo."""
    options = dict(locals()) | {"landmarks": _points(landmarks, photo, aligned)}
    request = _request(options)
    photo, out = options.pop("photo"), options.pop("out") or Path("results", f"{photo.stem}-inversion")
    job = Job(**options, degradation_of=lambda _: Identity(), already_degraded=False, request=request, say=_say)
    _run(job, photo, out)


@app.command()
def restore(
    photo: Photos,
    degradation: Annotated[str, typer.Option(help="blur, grayscale or inpaint.", show_default=False)],
    kernel_size: Annotated[int, typer.Option(help="Blur: taps at 256 px, 0 or odd.")] = 25,
    sigma: Annotated[float | None, typer.Option(help="Blur: px at 256 px.", show_default="0.15 k + 0.35")] = None,
    top: Annotated[int | None, typer.Option(help="Inpainting: upper edge of the hole, px at 256 px.")] = None,
    left: Annotated[int | None, typer.Option(help="Inpainting: left edge.")] = None,
    height: Annotated[int | None, typer.Option(help="Inpainting: height.")] = None,
    width: Annotated[int | None, typer.Option(help="Inpainting: width.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Inpainting: mask image, white where to fill in.")] = None,
    already_degraded: Annotated[
        bool, typer.Option("--already-degraded", help="The photo itself is blurred, grey or damaged.")
    ] = False,
    recipe: RecipeName = "fast",
    num_steps: NumSteps = None,
    latent_weight: LatentWeight = None,
    space: Space = None,
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    landmarks: Landmarks = None,
    aligned: Aligned = False,
    tune: Tune = 0,
    compile: Compile = False,
    batch: Batch = 1,
    video: Video = False,
    out: Out = None,
):
    """Deblur, colourise or fill in a photo.

    The aligned photo is degraded first, and the result is compared with the original. With --already-degraded, the
    photo is restored as it is.
    """
    options = dict(locals()) | {"landmarks": _points(landmarks, photo, aligned)}
    request = _request(options)
    painted = None
    if degradation == "blur":
        module = GaussianBlur(kernel_size, sigma)
    elif degradation == "grayscale":
        module = Grayscale()
    elif degradation == "inpaint":
        if mask and any(value is not None for value in (top, left, height, width)):
            raise SettingError("Specify the hole by a mask or by a rectangle, not by both.")
        painted = load_mask(mask) if mask else None
        module = None if mask else Inpaint(top, left, height, width)
    else:
        raise unknown_name("degradation", degradation, ("blur", "grayscale", "inpaint"))
    if mask and batch > 1:
        raise SettingError(
            "A mask is fitted to each face, so photos with a mask are searched one by one: set --batch 1."
        )
    for name in ("degradation", "kernel_size", "sigma", "top", "left", "height", "width", "mask"):
        del options[name]
    photo, out = options.pop("photo"), options.pop("out") or Path("results", f"{photo.stem}-{degradation}")
    job = Job(
        **options,
        mask=painted,
        degradation_of=lambda face: module or Inpaint(mask=_fitted(painted, mask, face)),
        request=request,
        say=_say,
    )
    _run(job, photo, out)


def _say(line: str, error: bool = False) -> None:
    typer.secho(line, fg="red" if error else None, err=error)


def _run(job: Job, photo: Path, out: Path) -> None:
    outcome = job.run(photo, out)
    if photo.is_dir() and outcome.stopped:
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(1)


def _request(options: dict) -> dict:
    """The options that affect the result, JSON-ready."""
    asked = {name: value for name, value in options.items() if name not in ("photo", "out", "batch")}
    return {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}


def _points(given: str | None, photo: Path, aligned: bool = False) -> list | None:
    """The landmarks given on the command line, as JSON-ready pairs."""
    if given is None:
        return None
    if photo.is_dir():
        raise SettingError("Landmarks belong to one photo: name that photo instead of its folder.")
    if aligned:
        raise SettingError("Landmarks say how to crop a photo, --aligned that it is not to be: leave one of them out.")
    return read_landmarks(given).tolist()


def _fitted(mask: Tensor, path: Path, face: AlignedFace) -> Tensor:
    """A mask for the aligned face; one drawn on the whole photo is cropped as the face was."""
    size = face.image.shape[3]
    if face.landmarks is not None and mask.shape[2:] == face.photo.shape[2:]:
        cropped = (face.crop(mask.expand(-1, 3, -1, -1) * 2 - 1)[:, :1] + 1) / 2
        if mask.max() > 0.5 and cropped.max() <= 0.5:
            x, y = face.quad.mean(axis=0)
            raise SettingError(
                f"What {path} marks lies outside the crop around ({x:.0f}, {y:.0f}) px: if that is not the face, see "
                "what ex5 align draws and name another by --face or --landmarks."
            )
        return cropped
    if mask.shape[2] != mask.shape[3]:
        wanted = "square, or drawn on the whole photo" if face.landmarks is not None else f"{size} × {size} px"
        raise SettingError(f"{path} is {mask.shape[3]} × {mask.shape[2]} px: a mask must be {wanted}.")
    return mask


@app.command()
def sample(
    seeds: Annotated[str, typer.Argument(help="Seeds, such as 0-7 or 3,5,8.")] = "0-7",
    truncation: Annotated[float, typer.Option(help="ψ: 1 is all of W, 0 the mean face.")] = 0.7,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/samples"),
):
    """Generate faces from seeds."""
    numbers = _seeds(seeds)
    if not math.isfinite(truncation):
        raise SettingError(f"The truncation ψ must be a number, not {truncation}.")
    check_writable(out)
    G = pretrained.load_generator(generator, device)
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
            raise SettingError(f'"{text}" is not a list of 1 to 256 seeds whose ranges run upward.')
        seeds += span
    return seeds


@app.command()
def fetch(names: Annotated[list[str] | None, typer.Argument(help="Names, as listed by the command weights.")] = None):
    """Fetch pretrained weights ahead of their first use."""
    for name in names or pretrained.ESSENTIAL:
        typer.echo(f"{name}: {pretrained.fetch(name)}")


@app.command()
def weights():
    """List the pretrained weights: what they are for, both licences, and whether they are on this machine."""
    for name, entry in pretrained.REGISTRY.items():
        typer.echo(f"{name} ({pretrained.status(name)}, {entry.size / 1e6:.0f} MB)")
        typer.echo(f"  {entry.purpose}")
        typer.echo(f"  from {entry.origin}: {entry.filename}")
        typer.echo(f"  SHA-256 {entry.sha256}")
        typer.echo(f"  licence of the package: {entry.package_licence}")
        typer.echo(f"  licence of the weights: {entry.weights_licence}")
    typer.echo(f"cache: {pretrained.cache_folder()}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="NVIDIA's .pkl or rosinality's .pt.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="A new .safetensors file.", show_default=False)],
):
    """Convert a checkpoint to a file that loads fast and can hold nothing but tensors."""
    if target.suffix != ".safetensors":
        raise SettingError(f"{target} must end in .safetensors.")
    generator = pretrained.load_generator(source, "cpu")
    with replacing(target) as temporary:
        save_generator(generator, temporary)
    typer.echo(f"written to {target}: {generator.img_resolution} px, {generator.num_ws} styles")


@app.command()
def demo(
    photo: Annotated[Path, typer.Argument(help="Image file.")] = SAMPLE_PHOTO,
    recipe: RecipeName = "fast",
    num_steps: NumSteps = None,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/demo"),
):
    """Align a photo, invert it, deblur, colourise and fill it in, and draw one gallery."""
    began = time.perf_counter()
    load_image(photo)  # cheap checks come before slow downloads
    pick_recipe(recipe)
    check_writable(out)
    G, distance = pretrained.load_generator(generator, device), PerceptualDistance(device=device)
    face = load_face(photo, size=G.img_resolution)
    given, found = [], []
    for name, degradation in TASKS.items():
        typer.echo(f"{name}:")
        (done,) = restore_faces(
            [face], degradation, generator=G, distance=distance, recipe=recipe, num_steps=num_steps, device=device,
        )  # fmt: skip
        tell(done, out / name, done.save(out / name), _say)
        if done.run.stopped:
            raise typer.Exit(130)
        given.append((name, done.images.get("degraded", face.image)))
        found.append(("", done.result))
    # The last column: the original photo, and below it the photo with only its hole filled.
    given.append(("original, and composite", face.image))
    found.append(("", done.composite))
    path = figures.save_figure(figures.plot_gallery([("given", given), ("found", found)]), out / "gallery.png")
    typer.echo(f"gallery in {path}, after {time.perf_counter() - began:.0f} s")


@app.command()
def report(
    photo: Annotated[Path, typer.Option(help="Photo to report on.")] = SAMPLE_PHOTO,
    recipe: RecipeName = "fast",
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/report"),
):
    """Run the five notebooks and build the report: one page, every figure, every number.

    Notebooks that are done are not run again, so an interrupted report resumes at the one it had reached.
    """
    from ex5lib.notebook.report import Request, make_report  # the notebooks' libraries would slow down all commands

    load_image(photo)
    pick_recipe(recipe)
    began = time.perf_counter()
    page = make_report(Request(photo, generator, recipe), out, device=device, say=typer.echo)
    typer.echo(f"written to {page}, after {time.perf_counter() - began:.0f} s")


def main() -> None:
    """Run the command line in this process."""
    keep_freed_memory()
    app(prog_name="ex5")

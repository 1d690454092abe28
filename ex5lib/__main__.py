"""The command line: python -m ex5lib."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn
from tqdm.auto import tqdm
from typer.core import TyperGroup

from ex5lib import bench as benchmark
from ex5lib import figures, zoo
from ex5lib.alignment import AlignedFace, align_face, crop_quad
from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.devices import memory_errors_in_words
from ex5lib.errors import Ex5Error, MaskError, SettingError, UnknownNameError
from ex5lib.files import check_writable, replacing
from ex5lib.images import load_image, load_mask, resize, save_image
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projector import Projection, project
from stylegan2_ada.checkpoints import CheckpointError, load_generator_file, save_generator
from stylegan2_ada.networks import Generator

SAMPLE_PHOTO = Path(__file__).parents[1] / "data" / "astronaut.png"


class _OneSentence(TyperGroup):
    """Prints what the user can mend as one sentence and exits with 1; anything else is a bug and shows its trace."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (Ex5Error, CheckpointError) as error:
            message = str(error)
        except OSError as error:
            message = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        typer.secho(f"error: {message}", fg="red", err=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=_OneSentence,
    help="Restore photos of faces by searching the latent space of a pretrained GAN.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Photo = Annotated[Path, typer.Argument(help="Image file.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="results/…")]
Face = Annotated[int | None, typer.Option(help="Which face, from 0, best score first.", show_default="the best")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The photo is an aligned crop already: search no face in it.")]
Steps = Annotated[int, typer.Option(help="Optimisation steps; 1000 is published, 150 takes minutes.")]
LatentWeight = Annotated[float, typer.Option(help="λ_w, weight of the distance from the mean latent.")]
Space = Annotated[str, typer.Option(help="Latent space: z, w or w+.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness.")]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
GeneratorName = Annotated[
    str, typer.Option("--generator", help="mobile-ffhq, ffhq, or a .pkl, .pt or .safetensors file.")
]
ClassIndex = Annotated[int | None, typer.Option("--class", help="Class of a class-conditional generator.")]


@dataclass(frozen=True)
class _Subject:
    """What a search needs of a photo: ``found`` is how the face was found, None if the photo was an aligned crop."""

    G: Generator
    distance: PerceptualDistance
    image: Tensor
    found: AlignedFace | None


def _prepare(
    photo: Path, out: Path, *, generator: str, device: str, face: int | None = None, aligned: bool = False
) -> _Subject:
    # What is cheap to find out comes before what is slow to fetch.
    image = load_image(photo)
    check_writable(out)
    G = zoo.load_generator(generator, device)
    found = None
    if not aligned:
        found = align_face(photo, face=face, size=G.img_resolution)
        if found.already_aligned:
            found = None
    if found is None and image.shape[2] != image.shape[3]:
        raise SettingError(f"{photo} is not square, so it cannot be an aligned crop: leave out --aligned.")
    crop = resize(image, G.img_resolution) if found is None else found.image
    return _Subject(G, PerceptualDistance(device=device), crop, found)


def _fitted(mask: Tensor, path: Path, subject: _Subject) -> Tensor:
    """A mask for the aligned face; one drawn on the whole photo is cropped as the face was."""
    found, size = subject.found, subject.image.shape[3]
    if found is not None and mask.shape[2:] == found.photo.shape[2:]:
        return (crop_quad(mask.expand(-1, 3, -1, -1) * 2 - 1, found.quad, size)[:, :1] + 1) / 2
    if mask.shape[2] != mask.shape[3]:
        wanted = f"{size} × {size} px" if found is None else "square, or drawn on the whole photo"
        raise MaskError(f"{path} is {mask.shape[3]} × {mask.shape[2]} px: a mask must be {wanted}.")
    return mask


def _search(
    subject: _Subject, degradation: nn.Module, out: Path, *, already_degraded: bool = False, **settings
) -> tuple[Projection, dict[str, Tensor]]:
    """Degrade, search, write everything that this leaves, and print where and how good it is.

    Returns:
        the projection, and images by name: original (or photo), degraded, result, composite, as far as there are such.
    """
    image, found, distance = subject.image, subject.found, subject.distance
    # A blurred photo is its own target; grey and damaged ones are made exactly grey and exactly black.
    target = image if already_degraded and isinstance(degradation, GaussianBlur) else degradation(image)
    run = project(subject.G, target, degradation=degradation, distance=distance, **settings)

    images = {"photo" if already_degraded else "original": image}
    if not isinstance(degradation, Identity):
        images["degraded"] = target
    images["result"] = run.image
    if isinstance(degradation, Inpaint):
        images["composite"] = degradation.composite(image, run.image)
    original = None if already_degraded else image
    metrics = {
        "search": {
            "steps": run.steps, "distance": run.distance, "latent_distance": run.latent_distance,
            "seconds": run.seconds,
        }
    }  # fmt: skip
    if original is not None:
        candidates = {"mean face": run.snapshots[0], **{n: images[n] for n in ("result", "composite") if n in images}}
        metrics |= {f"{n} and original": compare(i, original, distance) for n, i in candidates.items()}

    plots = {
        "comparison": figures.plot_images(list(images.values()), list(images)),
        "iterations": figures.plot_iterations(run, original),
        "losses": figures.plot_losses(run),
    }
    if found is not None:
        plots["alignment"] = figures.plot_alignment(found)
    written = [run.save(out)]
    written += [save_image(picture, out / f"{name}.png") for name, picture in images.items()]
    written += [figures.save_figure(figure, out / f"{name}.png") for name, figure in plots.items()]
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps({"metrics": metrics, "settings": run.settings}, indent=2), encoding="utf-8")
    written.append(out / "metrics.json")
    if run.stopped:
        typer.echo(f"stopped after {run.steps} of {run.settings['steps']} steps")
    typer.echo(f"written to {out}: " + ", ".join(sorted(path.name for path in written)))
    for name, values in metrics.items():
        typer.echo(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    return run, images


@app.command()
def align(
    photo: Photo, face: Face = None, size: Annotated[int, typer.Option(help="Side in px.")] = 1024, out: Out = None
):
    """Find the face in a photo and crop it as FFHQ did."""
    if not 64 <= size <= 4096:
        raise SettingError(f"An aligned face has 64 to 4096 px a side, not {size}.")
    out = out or Path("results", f"{photo.stem}-align")
    check_writable(out)
    found = align_face(photo, face=face, size=size)
    save_image(found.image, out / "aligned.png")
    figures.save_figure(figures.plot_alignment(found), out / "alignment.png")
    chosen = found.detections[found.index]
    typer.echo(f"written to {out}: aligned.png, alignment.png")
    typer.echo(f"  face {found.index} of {len(found.detections)}, score {chosen.score:.2f} ({chosen.detector})")


@app.command()
def invert(
    photo: Photo,
    steps: Steps = 150,
    latent_weight: LatentWeight = 1e-3,
    space: Space = "w",
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    aligned: Aligned = False,
    out: Out = None,
):
    """Find the latent whose image looks like the photo."""
    out = out or Path("results", f"{photo.stem}-inversion")
    subject = _prepare(photo, out, generator=generator, device=device, face=face, aligned=aligned)
    _search(
        subject, Identity(), out, steps=steps, latent_weight=latent_weight, space=space, seed=seed,
        class_index=class_index, device=device,
    )  # fmt: skip


@app.command()
def restore(
    photo: Photo,
    degradation: Annotated[str, typer.Option(help="blur, grayscale or inpaint.", show_default=False)],
    kernel_size: Annotated[int, typer.Option(help="Blur: taps at 256 px, 0 or odd.")] = 25,
    sigma: Annotated[float | None, typer.Option(help="Blur: px at 256 px.", show_default="0.15 k + 0.35")] = None,
    top: Annotated[int | None, typer.Option(help="Inpainting: upper edge of the hole, px at 256 px.")] = None,
    left: Annotated[int | None, typer.Option(help="Inpainting: left edge.")] = None,
    height: Annotated[int | None, typer.Option(help="Inpainting: height.")] = None,
    width: Annotated[int | None, typer.Option(help="Inpainting: width.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Inpainting: image, white where to fill in.")] = None,
    already_degraded: Annotated[
        bool, typer.Option("--already-degraded", help="The photo itself is blurred, grey or damaged.")
    ] = False,
    steps: Steps = 150,
    latent_weight: LatentWeight = 1e-3,
    space: Space = "w",
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    aligned: Aligned = False,
    out: Out = None,
):
    """Deblur, colourise or fill in a photo.

    The aligned photo is degraded first and the result is compared with the original; with --already-degraded the
    photo itself is what is restored.
    """
    if degradation == "blur":
        module = GaussianBlur(kernel_size, sigma)
    elif degradation == "grayscale":
        module = Grayscale()
    elif degradation == "inpaint":
        if mask and any(value is not None for value in (top, left, height, width)):
            raise SettingError("A hole is given by a mask or by a rectangle, not by both.")
        painted = load_mask(mask) if mask else None
        module = None if mask else Inpaint(top, left, height, width)
    else:
        raise UnknownNameError("degradation", degradation, ("blur", "grayscale", "inpaint"))
    out = out or Path("results", f"{photo.stem}-{degradation}")
    subject = _prepare(photo, out, generator=generator, device=device, face=face, aligned=aligned)
    _search(
        subject, module or Inpaint(mask=_fitted(painted, mask, subject)), out, already_degraded=already_degraded,
        steps=steps, latent_weight=latent_weight, space=space, seed=seed, class_index=class_index, device=device,
    )  # fmt: skip


@app.command()
def sample(
    seeds: Annotated[str, typer.Argument(help="Seeds, such as 0-7 or 3,5,8.")] = "0-7",
    truncation: Annotated[float, typer.Option(help="ψ: 1 is all of W, 0 the mean face.")] = 0.7,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/samples"),
):
    """Make faces from seeds."""
    numbers = _seeds(seeds)
    if not math.isfinite(truncation):
        raise SettingError(f"The truncation ψ is a number, not {truncation}.")
    check_writable(out)
    G = zoo.load_generator(generator, device)
    faces = []
    for seed in tqdm(numbers, desc="sampling", unit="face"):
        with torch.no_grad(), memory_errors_in_words():
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
            raise SettingError(f'"{text}" is no list of seeds: write them as 0-7 or 3,5,8.')
        span = range(int(first), int(last or first) + 1)
        if not 1 <= len(seeds) + len(span) <= 256 or not span:
            raise SettingError(f'"{text}" is no list of 1 to 256 rising seeds.')
        seeds += span
    return seeds


@app.command()
def fetch(names: Annotated[list[str] | None, typer.Argument(help="Names, as weights lists them.")] = None):
    """Fetch pretrained weights ahead of their first use."""
    for name in names or zoo.ESSENTIAL:
        typer.echo(f"{name}: {zoo.fetch(name)}")


@app.command()
def weights():
    """List the pretrained weights: what they are for, both licences, and whether they are on this machine."""
    for name, entry in zoo.REGISTRY.items():
        typer.echo(f"{name} ({zoo.status(name)}, {entry.size / 1e6:.0f} MB)")
        typer.echo(f"  {entry.purpose}")
        typer.echo(f"  from {entry.origin}: {entry.filename}")
        typer.echo(f"  SHA-256 {entry.sha256}")
        typer.echo(f"  licence of the package: {entry.package_licence}")
        typer.echo(f"  licence of the weights: {entry.weights_licence}")
    typer.echo(f"cache: {zoo.cache_folder()}")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="NVIDIA's .pkl or rosinality's .pt.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="A new .safetensors file.", show_default=False)],
):
    """Turn a checkpoint into a file that loads at once and can hold nothing but tensors."""
    if target.suffix != ".safetensors":
        raise SettingError(f"{target} must end in .safetensors.")
    generator = load_generator_file(source)
    with replacing(target) as temporary:
        save_generator(generator, temporary)
    typer.echo(f"written to {target}: {generator.img_resolution} px, {generator.num_ws} styles")


@app.command()
def demo(
    photo: Annotated[Path, typer.Argument(help="Image file.")] = SAMPLE_PHOTO,
    steps: Steps = 100,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/demo"),
):
    """Align a photo, invert it, deblur, colourise and fill it in, and draw one gallery."""
    began = time.perf_counter()
    tasks = {
        "inversion": (Identity(), 1e-3),
        "deblurring": (GaussianBlur(kernel_size=25), 1e-3),
        "colourisation": (Grayscale(), 0.1),  # the report's balance of natural and consistent colours
        "inpainting": (Inpaint(top=164, left=84, height=44, width=88), 0.02),  # the skin's colour must fit the photo's
    }
    subject = _prepare(photo, out, generator=generator, device=device)
    given, found = [], []
    for name, (module, weight) in tasks.items():
        typer.echo(f"{name}:")
        run, images = _search(subject, module, out / name, steps=steps, latent_weight=weight, device=device)
        if run.stopped:
            raise typer.Exit(130)
        given.append((name, images.get("degraded", images["original"])))
        found.append(("", images["result"]))
    # The last column: what filling a hole is for, below the photo as it was.
    given.append(("original, and composite", images["original"]))
    found.append(("", images["composite"]))
    path = figures.save_figure(figures.plot_gallery([("given", given), ("found", found)]), out / "gallery.png")
    typer.echo(f"gallery in {path}, after {time.perf_counter() - began:.0f} s")


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(help="Rounds that the medians are taken over.")] = 5,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="File for the figures.")] = Path("results/bench.json"),
):
    """Measure what a step, an import, an alignment and the memory cost, as ratios within one run."""
    if rounds < 1:
        raise SettingError(f"A benchmark needs at least 1 round, not {rounds}.")
    results = benchmark.run_all(SAMPLE_PHOTO, rounds=rounds, device=device, generator=generator)
    typer.echo(benchmark.as_table(results))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    typer.echo(f"written to {out}")


if __name__ == "__main__":
    app(prog_name="python -m ex5lib")

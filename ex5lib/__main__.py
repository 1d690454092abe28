"""The command line: python -m ex5lib."""

import json
import time
from collections.abc import Callable
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
from ex5lib.errors import Ex5Error, MaskError, SettingError, UnknownNameError
from ex5lib.files import replacing
from ex5lib.images import load_image, load_mask, resize, save_image
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projector import project
from stylegan2_ada.checkpoints import CheckpointError, load_generator_file, save_generator

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


def _face(photo: Path, face: int | None, aligned: bool, size: int) -> tuple[Tensor, AlignedFace | None]:
    """The aligned face [1, 3, size, size], and how it was found, or None if the photo is taken as it is."""
    if not aligned:
        found = align_face(photo, face=face, size=size)
        if not found.already_aligned:
            return found.image, found
    image = load_image(photo)
    if image.shape[2] != image.shape[3]:
        raise SettingError(f"{photo} is not square, so it cannot be an aligned crop: leave out --aligned.")
    return resize(image, size), None


def _mask(path: Path, found: AlignedFace | None, size: int) -> Tensor:
    """A mask for the aligned face; one drawn on the whole photo is cropped as the face was."""
    mask = load_mask(path)
    if found is not None and mask.shape[2:] == found.photo.shape[2:]:
        return (crop_quad(mask.expand(-1, 3, -1, -1) * 2 - 1, found.quad, size)[:, :1] + 1) / 2
    if mask.shape[2] != mask.shape[3]:
        wanted = f"{size} × {size} px" if found is None else "square, or drawn on the whole photo"
        raise MaskError(f"{path} is {mask.shape[3]} × {mask.shape[2]} px: a mask must be {wanted}.")
    return mask


def _search(
    photo: Path,
    name: str,
    make_degradation: Callable[[AlignedFace | None, int], nn.Module],
    *,
    already_degraded: bool = False,
    generator: str,
    device: str,
    face: int | None,
    aligned: bool,
    out: Path | None,
    **search,
) -> dict[str, Tensor]:
    """Align, degrade, search, write everything that this leaves, and print where and how good it is.

    Returns:
        the images by name: original (or photo), degraded, result, composite, as far as there are such.
    """
    G = zoo.load_generator(generator, device)
    image, found = _face(photo, face, aligned, G.img_resolution)
    degradation = make_degradation(found, G.img_resolution)
    distance = PerceptualDistance(device=device)
    # A blurred photo is its own target; grey and damaged ones are made exactly grey and exactly black.
    target = image if already_degraded and isinstance(degradation, GaussianBlur) else degradation(image)
    run = project(G, target, degradation=degradation, distance=distance, device=device, **search)

    images = {"photo" if already_degraded else "original": image}
    if not isinstance(degradation, Identity):
        images["degraded"] = target
    images["result"] = run.image
    if isinstance(degradation, Inpaint):
        images["composite"] = degradation.composite(image, run.image)
    original = None if already_degraded else image

    out = out or Path("results", f"{photo.stem}-{name}")
    run.save(out)
    figures.save_figure(figures.plot_images(list(images.values()), list(images)), out / "comparison.png")
    figures.save_figure(figures.plot_iterations(run, original), out / "iterations.png")
    figures.save_figure(figures.plot_losses(run), out / "losses.png")
    if found is not None:
        figures.save_figure(figures.plot_alignment(found), out / "alignment.png")
    for label, picture in images.items():
        save_image(picture, out / f"{label}.png")
    metrics = {"search": {"d": run.distance, "‖w − w̄‖": run.latent_distance, "seconds": run.seconds}}
    if original is not None:
        candidates = {"mean face": run.snapshots[0], **{n: images[n] for n in ("result", "composite") if n in images}}
        metrics |= {f"{n} and original": compare(i, original, distance) for n, i in candidates.items()}
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps({"metrics": metrics, "settings": run.settings}, indent=2, ensure_ascii=False))
    typer.echo(f"written to {out}: " + ", ".join(sorted(path.name for path in out.iterdir())))
    for label, values in metrics.items():
        typer.echo(f"  {label}: " + ", ".join(f"{key} {value:.3f}" for key, value in values.items()))
    return images


@app.command()
def align(
    photo: Photo, face: Face = None, size: Annotated[int, typer.Option(help="Side in px.")] = 1024, out: Out = None
):
    """Find the face in a photo and crop it as FFHQ did."""
    if not 64 <= size <= 4096:
        raise SettingError(f"An aligned face has 64 to 4096 px a side, not {size}.")
    found = align_face(photo, face=face, size=size)
    out = out or Path("results", f"{photo.stem}-align")
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
    common = {k: v for k, v in locals().items() if k != "photo"}
    _search(photo, "inversion", lambda *_: Identity(), **common)


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
    common = ("steps", "latent_weight", "space", "seed", "device", "generator", "class_index", "face", "aligned", "out")
    options = {name: value for name, value in locals().items() if name in (*common, "already_degraded")}
    if degradation == "blur":
        module = GaussianBlur(kernel_size, sigma)
    elif degradation == "grayscale":
        module = Grayscale()
    elif degradation == "inpaint":
        module = None if mask else Inpaint(top, left, height, width)
    else:
        raise UnknownNameError("degradation", degradation, ("blur", "grayscale", "inpaint"))
    _search(photo, degradation, lambda found, size: module or Inpaint(mask=_mask(mask, found, size)), **options)


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
    G = zoo.load_generator(generator, device)
    faces = []
    for seed in tqdm(numbers, desc="sampling", unit="face"):
        with torch.no_grad():
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
        seeds += range(int(first), int(last or first) + 1)
    if not 1 <= len(seeds) <= 256:
        raise SettingError(f'"{text}" names {len(seeds)} seeds: choose 1 to 256.')
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
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/demo"),
):
    """Align a photo, invert it, deblur, colourise and fill it in, and draw one gallery."""
    began = time.perf_counter()
    tasks = {
        "inversion": (Identity(), 1e-3),
        "deblurring": (GaussianBlur(kernel_size=25), 1e-3),
        "colourisation": (Grayscale(), 0.1),  # the report's balance of natural and consistent colours
        "inpainting": (Inpaint(top=164, left=84, height=44, width=88), 1e-3),
    }
    given, found = [], []
    for name, (module, weight) in tasks.items():
        typer.echo(f"{name}:")
        images = _search(
            photo,
            name,
            lambda *_, module=module: module,
            steps=steps,
            latent_weight=weight,
            generator="mobile-ffhq",
            device=device,
            face=None,
            aligned=False,
            out=out / name,
        )
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
    out: Annotated[Path, typer.Option(help="File for the figures.")] = Path("results/bench.json"),
):
    """Measure what a step, an import, an alignment and the memory cost, as ratios within one run."""
    if rounds < 1:
        raise SettingError(f"A benchmark needs at least 1 round, not {rounds}.")
    results = benchmark.run_all(SAMPLE_PHOTO, rounds=rounds, device=device)
    typer.echo(benchmark.as_table(results))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2))
    typer.echo(f"written to {out}")


if __name__ == "__main__":
    app(prog_name="python -m ex5lib")

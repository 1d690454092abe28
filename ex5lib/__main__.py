"""The command line: python -m ex5lib."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from ex5lib.errors import Ex5Error, MaskError, NotAnImageError, SettingError, UnknownNameError
from ex5lib.experiments import EXPERIMENTS, SAMPLE_PHOTO, pick_profile
from ex5lib.files import check_writable, replacing
from ex5lib.images import load_image, load_mask, resize, resize_area, save_image
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projector import Projection, project
from stylegan2_ada.checkpoints import CheckpointError, load_generator_file, save_generator
from stylegan2_ada.networks import Generator

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


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
Photos = Annotated[Path, typer.Argument(help="Image file, or a folder of them.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="results/…")]
Face = Annotated[int | None, typer.Option(help="Which face, from 0, best score first.", show_default="the best")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The photo is an aligned crop already: search no face in it.")]
ProfileName = Annotated[
    str, typer.Option("--profile", help="fast: coarse to fine, about a minute; full: the published 1000 steps.")
]
Steps = Annotated[int | None, typer.Option(help="Optimisation steps in all.", show_default="the profile's")]
LatentWeight = Annotated[float, typer.Option(help="λ_w, weight of the distance from the mean latent.")]
Space = Annotated[str | None, typer.Option(help="Latent space: z, w or w+.", show_default="the profile's")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the networks: pays in long searches.")]
Video = Annotated[bool, typer.Option("--video", help="Also write the search as an animation, search.webp.")]
Batch = Annotated[int, typer.Option(help="Photos of a folder searched at once; more than 1 pays on a GPU.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness.")]
Device = Annotated[str, typer.Option(help="auto, cuda, mps or cpu.")]
GeneratorName = Annotated[
    str, typer.Option("--generator", help="mobile-ffhq, ffhq, or a .pkl, .pt or .safetensors file.")
]
ClassIndex = Annotated[int | None, typer.Option("--class", help="Class of a class-conditional generator.")]


@dataclass(frozen=True)
class _Networks:
    G: Generator
    distance: PerceptualDistance

    @classmethod
    def load(cls, generator: str, device: str) -> "_Networks":
        return cls(zoo.load_generator(generator, device), PerceptualDistance(device=device))


@dataclass(frozen=True)
class _Subject:
    """An aligned face; ``found`` is how it was found, None if the photo was an aligned crop."""

    image: Tensor
    found: AlignedFace | None


@dataclass(frozen=True)
class _Task:
    """One search to be done: ``target`` is what is searched for, ``original`` what it is measured against."""

    subject: _Subject
    degradation: nn.Module
    target: Tensor
    original: Tensor | None
    out: Path

    @classmethod
    def make(cls, subject: _Subject, degradation: nn.Module, out: Path, already_degraded: bool = False) -> "_Task":
        image = subject.image
        # A blurred photo is its own target; grey and damaged ones are made exactly grey and exactly black.
        target = image if already_degraded and isinstance(degradation, GaussianBlur) else degradation(image)
        return cls(subject, degradation, target, None if already_degraded else image, out)


def _subject(photo: Path, image: Tensor, size: int, *, face: int | None = None, aligned: bool = False) -> _Subject:
    found = None
    if not aligned:
        found = align_face(photo, face=face, size=size)
        if found.already_aligned:
            found = None
    if found is None and image.shape[2] != image.shape[3]:
        raise SettingError(f"{photo} is not square, so it cannot be an aligned crop: leave out --aligned.")
    return _Subject(resize(image, size) if found is None else found.image, found)


def _fitted(mask: Tensor, path: Path, subject: _Subject) -> Tensor:
    """A mask for the aligned face; one drawn on the whole photo is cropped as the face was."""
    found, size = subject.found, subject.image.shape[3]
    if found is not None and mask.shape[2:] == found.photo.shape[2:]:
        return (crop_quad(mask.expand(-1, 3, -1, -1) * 2 - 1, found.quad, size)[:, :1] + 1) / 2
    if mask.shape[2] != mask.shape[3]:
        wanted = f"{size} × {size} px" if found is None else "square, or drawn on the whole photo"
        raise MaskError(f"{path} is {mask.shape[3]} × {mask.shape[2]} px: a mask must be {wanted}.")
    return mask


def _search(networks: _Networks, tasks: Sequence[_Task], **settings) -> list[Projection]:
    """Search for several faces at once, all degraded in the same way."""
    target = torch.cat([task.target for task in tasks])
    runs = project(networks.G, target, degradation=tasks[0].degradation, distance=networks.distance, **settings)
    return runs if isinstance(runs, list) else [runs]


class _Film:
    """A callback of ``project`` that keeps about sixty frames of a search, each beside its target."""

    def __init__(self, tasks: Sequence[_Task]):
        self._targets = [resize(resize_area(task.target, 256), 256) for task in tasks]
        self._shots: list[Tensor] = []

    def __call__(self, report: dict) -> None:
        if report["step"] % max(1, report["steps"] // 60) == 0:
            self._shots.append(resize(resize_area(report["image"].cpu().clamp(-1, 1), 256), 256))

    def frames(self, i: int, last: Tensor) -> list[Tensor]:
        """Those of the i-th task, ending with its result."""
        images = [shot[i : i + 1] for shot in self._shots] + [resize(resize_area(last, 256), 256)]
        return [torch.cat([self._targets[i], image], dim=3) for image in images]


def _images(task: _Task, run: Projection) -> dict[str, Tensor]:
    """The images of a search by name: original (or photo), degraded, result, composite, as far as there are such."""
    images = {"photo" if task.original is None else "original": task.subject.image}
    if not isinstance(task.degradation, Identity):
        images["degraded"] = task.target
    images["result"] = run.image
    if isinstance(task.degradation, Inpaint | Grayscale):  # part of the photo is known and need not be generated
        images["composite"] = task.degradation.composite(task.subject.image, run.image)
    return images


def _write(
    task: _Task, run: Projection, distance: PerceptualDistance, request: dict, film: Sequence[Tensor] = ()
) -> dict[str, dict[str, float]]:
    """Write everything that a search leaves, print where and how good it is, and return the metrics."""
    images, out = _images(task, run), task.out
    metrics = {
        "search": {
            "steps": run.steps, "distance": run.distance, "latent_distance": run.latent_distance,
            "seconds": run.seconds,
        }
    }  # fmt: skip
    if task.original is not None:
        candidates = {"start": run.snapshots[0], **{n: images[n] for n in ("result", "composite") if n in images}}
        metrics |= {f"{n} and original": compare(i, task.original, distance) for n, i in candidates.items()}
    plots = {
        "comparison": figures.plot_images(list(images.values()), list(images)),
        "iterations": figures.plot_iterations(run, task.original),
        "losses": figures.plot_losses(run),
    }
    if task.subject.found is not None:
        plots["alignment"] = figures.plot_alignment(task.subject.found)
    written = [run.save(out)]
    written += [save_image(picture, out / f"{name}.png") for name, picture in images.items()]
    written += [figures.save_figure(figure, out / f"{name}.png") for name, figure in plots.items()]
    if film:
        written.append(figures.save_animation(film, out / "search.webp"))
    report = {"metrics": metrics, "settings": run.settings, "request": request}
    with replacing(out / "metrics.json") as temporary:  # last: a folder that has it is complete
        temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
    written.append(out / "metrics.json")
    if run.stopped:
        typer.echo(f"stopped after {run.steps} of {run.settings['steps']} steps")
    typer.echo(f"written to {out}: " + ", ".join(sorted(path.name for path in written)))
    for name, values in metrics.items():
        typer.echo(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    return metrics


def _search_and_write(
    networks: _Networks, tasks: Sequence[_Task], request: dict, video: bool, **settings
) -> list[Projection]:
    film = _Film(tasks) if video else None
    runs = _search(networks, tasks, callback=film, **settings)
    for i, (task, run) in enumerate(zip(tasks, runs, strict=True)):
        _write(task, run, networks.distance, request, film.frames(i, run.image) if film else ())
    return runs


def _restore(
    photos: Path, out: Path, degradation_of: Callable[[_Subject], nn.Module], *, generator: str, device: str,
    face: int | None, aligned: bool, batch: int, video: bool, already_degraded: bool = False, profile: str,
    steps: int | None, space: str | None, request: dict, **settings,
) -> None:  # fmt: skip
    """One photo, or a folder of them: what is done already is skipped, and what goes wrong spoils nothing else."""
    keywords = pick_profile(profile).keywords() | settings | {"space": space, "device": device}
    if steps is not None:
        keywords["steps"] = steps
    if batch < 1:
        raise SettingError(f"A batch has at least 1 photo, not {batch}.")
    if not photos.is_dir():
        # What is cheap to find out comes before what is slow to fetch.
        image = load_image(photos)
        check_writable(out)
        networks = _Networks.load(generator, device)
        subject = _subject(photos, image, networks.G.img_resolution, face=face, aligned=aligned)
        task = _Task.make(subject, degradation_of(subject), out, already_degraded)
        _search_and_write(networks, [task], request, video, **keywords)
        return

    pending, done = [], []
    for path, folder in _outputs(photos, out).items():
        (done if _is_done(folder, request) else pending).append((path, folder))
    check_writable(out)
    failed: dict[Path, str] = {}
    distances: dict[Path, float] = {}
    networks = _Networks.load(generator, device) if pending else None
    for i in range(0, len(pending), batch):
        tasks: dict[Path, _Task] = {}
        for path, folder in pending[i : i + batch]:
            typer.echo(f"{path.name}:")
            with _noting_failure(failed, [path]):
                subject = _subject(path, load_image(path), networks.G.img_resolution, face=face, aligned=aligned)
                tasks[path] = _Task.make(subject, degradation_of(subject), folder, already_degraded)
        with _noting_failure(failed, list(tasks)):
            runs = _search_and_write(networks, list(tasks.values()), request, video, **keywords) if tasks else []
            distances |= {path: run.distance for path, run in zip(tasks, runs, strict=True)}
            if any(run.stopped for run in runs):
                raise typer.Exit(130)
    typer.echo(f"{len(distances)} done, {len(done)} done before, {len(failed)} failed, in {out}")
    for path, d in distances.items():
        typer.echo(f"  {path.name}: distance {d:.3f}")
    for path, sentence in failed.items():
        typer.echo(f"  {path.name}: {sentence}")
    if failed:
        raise typer.Exit(1)


@contextmanager
def _noting_failure(failed: dict[Path, str], paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except (Ex5Error, OSError) as error:
        failed.update(dict.fromkeys(paths, str(error)))
        typer.secho(f"  {error}", fg="red", err=True)


def _outputs(photos: Path, out: Path) -> dict[Path, Path]:
    """The images of a folder, and a folder to write to for each."""
    found = sorted(path for path in photos.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise NotAnImageError(f"There is no image in {photos}: name a folder of JPEG or PNG files, or one file.")
    stems = [path.stem for path in found]
    return {path: out / (path.stem if stems.count(path.stem) == 1 else path.name) for path in found}


def _is_done(folder: Path, request: dict) -> bool:
    """Whether a folder holds the result of the same request, searched to the end."""
    try:
        report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        finished = report["metrics"]["search"]["steps"] == report["settings"]["steps"]
        return finished and report["request"] == request
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    photo: Photos,
    profile: ProfileName = "fast",
    steps: Steps = None,
    latent_weight: LatentWeight = 1e-3,
    space: Space = None,
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    aligned: Aligned = False,
    compile: Compile = False,
    batch: Batch = 1,
    video: Video = False,
    out: Out = None,
):
    """Find the latent whose image looks like the photo."""
    options = dict(locals())
    options |= {"out": out or Path("results", f"{photo.stem}-inversion"), "photos": options.pop("photo")}
    _restore(**options, degradation_of=lambda _: Identity(), request=_request(options))


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
    profile: ProfileName = "fast",
    steps: Steps = None,
    latent_weight: LatentWeight = 1e-3,
    space: Space = None,
    seed: Seed = 0,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    class_index: ClassIndex = None,
    face: Face = None,
    aligned: Aligned = False,
    compile: Compile = False,
    batch: Batch = 1,
    video: Video = False,
    out: Out = None,
):
    """Deblur, colourise or fill in a photo.

    The aligned photo is degraded first and the result is compared with the original; with --already-degraded the
    photo itself is what is restored.
    """
    options = dict(locals())
    request = _request(options)
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
    if mask and batch > 1:
        raise SettingError("A mask is fitted to each face, so photos with a mask are searched one by one: --batch 1.")
    for name in ("degradation", "kernel_size", "sigma", "top", "left", "height", "width", "mask"):
        del options[name]
    options |= {"out": out or Path("results", f"{photo.stem}-{degradation}"), "photos": options.pop("photo")}
    _restore(
        **options,
        degradation_of=lambda subject: module or Inpaint(mask=_fitted(painted, mask, subject)),
        request=request,
    )


def _request(options: dict) -> dict:
    """What was asked for, as far as it decides the result."""
    asked = {name: value for name, value in options.items() if name not in ("photo", "photos", "out", "batch")}
    return {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}


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
    profile: ProfileName = "fast",
    steps: Steps = None,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/demo"),
):
    """Align a photo, invert it, deblur, colourise and fill it in, and draw one gallery."""
    began = time.perf_counter()
    image = load_image(photo)
    check_writable(out)
    keywords = pick_profile(profile).keywords() | ({} if steps is None else {"steps": steps})
    networks = _Networks.load(generator, device)
    subject = _subject(photo, image, networks.G.img_resolution)
    given, found = [], []
    for name, experiment in EXPERIMENTS.items():
        typer.echo(f"{name}:")
        task = _Task.make(subject, experiment.degradation, out / name)
        (run,) = _search(networks, [task], **keywords, latent_weight=experiment.latent_weight, device=device)
        _write(task, run, networks.distance, {})
        if run.stopped:
            raise typer.Exit(130)
        images = _images(task, run)
        given.append((name, images.get("degraded", images["original"])))
        found.append(("", images["result"]))
    # The last column: what filling a hole is for, below the photo as it was.
    given.append(("original, and composite", images["original"]))
    found.append(("", images["composite"]))
    path = figures.save_figure(figures.plot_gallery([("given", given), ("found", found)]), out / "gallery.png")
    typer.echo(f"gallery in {path}, after {time.perf_counter() - began:.0f} s")


@app.command()
def report(
    photo: Annotated[Path, typer.Option(help="Photo to report on.")] = SAMPLE_PHOTO,
    profile: ProfileName = "fast",
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/report"),
):
    """Run the five notebooks and make the whole report of them: one page, every figure, every number.

    What is done already is not run again: an interrupted report goes on where it was, notebook by notebook.
    """
    from ex5lib.report import Request, make_report  # the notebook's libraries would slow down every other command

    load_image(photo)
    pick_profile(profile)
    began = time.perf_counter()
    page = make_report(Request(photo, generator, profile), out, device=device, say=typer.echo)
    typer.echo(f"written to {page}, after {time.perf_counter() - began:.0f} s")


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(help="Rounds that the medians are taken over.")] = 5,
    device: Device = "auto",
    generator: GeneratorName = "mobile-ffhq",
    quality: Annotated[
        bool, typer.Option(help="Also run the recipe fast against kept runs of the published one: minutes.")
    ] = True,
    record: Annotated[
        list[str] | None, typer.Option(help="Make the kept run of a target anew first: up to half an hour each.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the figures.")] = Path("results/bench.json"),
):
    """Measure what a step, an import, an alignment and the memory cost, and how soon a search is good.

    Times are compared within one run: machines differ and are shared.
    """
    if rounds < 1:
        raise SettingError(f"A benchmark needs at least 1 round, not {rounds}.")
    check_writable(out.parent)
    for name in record or []:
        if name not in benchmark.TARGETS:
            raise UnknownNameError("target", name, benchmark.TARGETS)
        typer.echo(f"written to {benchmark.record_recipe(name, device=device, generator=generator)}")
    results, curves = benchmark.run_all(
        SAMPLE_PHOTO, rounds=rounds, device=device, generator=generator, quality=quality
    )
    typer.echo(benchmark.as_table(results))
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(results, indent=2), encoding="utf-8")
    typer.echo(f"written to {out}")
    if curves:
        typer.echo(f"written to {figures.save_figure(figures.plot_quality(curves), out.with_suffix('.png'))}")


if __name__ == "__main__":
    app(prog_name="python -m ex5lib")

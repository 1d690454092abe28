"""What the command line does with photos: one, or a folder of them, in which nothing is searched for twice."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ex5lib import figures, weights
from ex5lib.alignment import AlignedFace, load_face
from ex5lib.errors import Ex5Error, FileError, SettingError
from ex5lib.files import check_writable
from ex5lib.images import load_image, resize, resize_area
from ex5lib.latents import latent_statistics
from ex5lib.losses import PerceptualDistance
from ex5lib.recipes import pick_recipe
from ex5lib.restore import Restoration, restore_faces
from stylegan2_ada.generator import Generator

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search as it was asked for.

    Attributes:
        degradation_of: the degradation, which may depend on the face: a mask is cropped as the face was.
        request: what was asked for, as far as it decides the result; JSON-ready.
        say: told what happens, a line at a time; errors come with ``error=True``.
        video: also write the search as an animation.
        batch: how many photos of a folder are searched at once.
        others: as ``restore`` and ``project`` take them.
    """

    degradation_of: Callable[[AlignedFace], nn.Module]
    request: dict
    say: Callable[..., None]
    generator: str
    device: str
    recipe: str
    num_steps: int | None
    latent_weight: float
    space: str | None
    seed: int
    class_index: int | None
    face: int | None
    aligned: bool
    already_degraded: bool
    compile: bool
    batch: int
    video: bool

    def __post_init__(self):
        pick_recipe(self.recipe)
        if self.batch < 1:
            raise SettingError(f"A batch has at least 1 photo, not {self.batch}.")

    @cached_property
    def G(self) -> Generator:
        """The generator, loaded when it is first needed."""
        return weights.load_generator(self.generator, self.device)

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The project's VGG16 distance d."""
        return PerceptualDistance(device=self.device)

    def run(self, photos: Path, out: Path) -> tuple[list[Restoration], int]:
        """Search for one photo or for every photo of a folder.

        Returns:
            what was done now, and how many photos of the folder failed.
        """
        return self._folder(photos, out) if photos.is_dir() else ([self._photo(photos, out)], 0)

    def _load(self, photo: Path) -> AlignedFace:
        return load_face(photo, face=self.face, aligned=self.aligned, size=self.G.img_resolution)

    def _photo(self, photo: Path, out: Path) -> Restoration:
        load_image(photo)  # what is cheap to find out comes before what is slow to fetch
        check_writable(out)
        (done,) = self._search({out: self._load(photo)})
        return done

    def _folder(self, photos: Path, out: Path) -> tuple[list[Restoration], int]:
        """What is done already is skipped, and what goes wrong with one photo spoils no other."""
        folders = output_folders(photos, out)
        pending = [(photo, folder) for photo, folder in folders.items() if not is_done(folder, self.request)]
        check_writable(out)
        failed: dict[Path, str] = {}
        done: dict[Path, Restoration] = {}
        for i in range(0, len(pending), self.batch):
            faces: dict[Path, AlignedFace] = {}
            some = dict(pending[i : i + self.batch])
            for photo in some:
                self.say(f"{photo.name}:")
                with self._noting_failure(failed, [photo]):
                    faces[photo] = self._load(photo)
            with self._noting_failure(failed, list(faces)):
                found = self._search({some[photo]: face for photo, face in faces.items()}) if faces else []
                done |= dict(zip(faces, found, strict=True))
            if any(restoration.run.stopped for restoration in done.values()):
                break
        self.say(f"{len(done)} done, {len(folders) - len(pending)} done before, {len(failed)} failed, in {out}")
        for photo, restoration in done.items():
            self.say(f"  {photo.name}: perceptual distance {restoration.run.distance:.3f}")
        for photo, sentence in failed.items():
            self.say(f"  {photo.name}: {sentence}")
        return list(done.values()), len(failed)

    @contextmanager
    def _noting_failure(self, failed: dict[Path, str], photos: Sequence[Path]) -> Iterator[None]:
        try:
            yield
        except (Ex5Error, OSError) as error:
            failed.update(dict.fromkeys(photos, str(error)))
            self.say(f"  {error}", error=True)

    def _search(self, faces: dict[Path, AlignedFace]) -> list[Restoration]:
        """Search for several faces at once, all degraded in the same way, and write each into its folder."""
        statistics = None
        if self.class_index is not None:
            samples = pick_recipe(self.recipe).w_avg_samples
            statistics = latent_statistics(self.G, num_samples=samples, seed=self.seed, class_index=self.class_index)
        film = Film() if self.video else None
        found = restore_faces(
            list(faces.values()), self.degradation_of(next(iter(faces.values()))), generator=self.G,
            distance=self.distance, already_degraded=self.already_degraded, recipe=self.recipe,
            num_steps=self.num_steps, space=self.space, latent_weight=self.latent_weight, seed=self.seed,
            statistics=statistics, device=self.device, compile=self.compile, callback=film,
        )  # fmt: skip
        for i, (folder, restoration) in enumerate(zip(faces, found, strict=True)):
            written = restoration.save(folder, request=self.request)
            if film is not None:
                written.append(figures.save_animation(film.frames(i, restoration), folder / "search.webp"))
            tell(restoration, folder, written, self.say)
        return found


class Film:
    """A callback of ``project`` that keeps about sixty frames of a search."""

    def __init__(self):
        self._shots: list[Tensor] = []

    def __call__(self, report: dict) -> None:
        if report["step"] % max(1, report["num_steps"] // 60) == 0:
            self._shots.append(_frame(report["image"].cpu()))

    def frames(self, i: int, restoration: Restoration) -> list[Tensor]:
        """Those of the i-th photo, each beside its target, ending with the result."""
        images = [shot[i : i + 1] for shot in self._shots] + [_frame(restoration.result)]
        return [torch.cat([_frame(restoration.target), image], dim=3) for image in images]


def _frame(image: Tensor) -> Tensor:
    return resize(resize_area(image.clamp(-1, 1), 256), 256)


def tell(restoration: Restoration, folder: Path, written: Sequence[Path], say: Callable[..., None]) -> None:
    """Say where a result lies and how good it is."""
    run = restoration.run
    if run.stopped:
        say(f"stopped after {run.num_steps} of {run.settings['num_steps']} steps")
    say(f"written to {folder}: " + ", ".join(sorted(path.name for path in written)))
    for name, values in restoration.metrics.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))


def output_folders(photos: Path, out: Path) -> dict[Path, Path]:
    """The images in a folder, and a folder to write to for each.

    Raises:
        FileError: if there is no image.
    """
    found = sorted(path for path in photos.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise FileError(f"There is no image in {photos}: name a folder of JPEG or PNG files, or one file.")
    stems = [path.stem for path in found]
    return {path: out / (path.stem if stems.count(path.stem) == 1 else path.name) for path in found}


def is_done(folder: Path, request: dict) -> bool:
    """Whether a folder holds the result of the same request, searched to the end."""
    try:
        report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        finished = report["metrics"]["search"]["num_steps"] == report["settings"]["num_steps"]
        return finished and report["request"] == request
    except (OSError, ValueError, KeyError, TypeError):
        return False

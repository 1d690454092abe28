"""What the command line does with a photo, or with a folder of photos, of which it skips those that are done."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ex5lib import figures, weights
from ex5lib.alignment import AlignedFace, load_face
from ex5lib.errors import Ex5Error, FileError, SettingError
from ex5lib.files import check_writable
from ex5lib.images import load_image, resize, resize_area
from ex5lib.latents import LatentStatistics, latent_statistics
from ex5lib.losses import PerceptualDistance
from ex5lib.recipes import pick_recipe
from ex5lib.restore import Restoration, restore_faces
from stylegan2_ada.generator import Generator

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search as requested on the command line.

    Attributes:
        degradation_of: returns the degradation for a face; a mask, for example, is cropped as the face was.
        request: the options that affect the result, JSON-ready.
        say: called with each line of output; errors come with ``error=True``.
        video: also write the search as an animation.
        batch: how many photos of a folder are searched at once.
        mask: [1, 1, H, W]; if it is drawn on the whole photo, the detector is not to go by what it marks.
        others: as in ``restore`` and ``project``.
    """

    degradation_of: Callable[[AlignedFace], nn.Module]
    request: dict
    say: Callable[..., None]
    generator: str
    device: str
    recipe: str
    num_steps: int | None
    latent_weight: float | None
    space: str | None
    seed: int
    class_index: int | None
    face: int | None
    landmarks: list | None
    aligned: bool
    already_degraded: bool
    tune: int
    compile: bool
    batch: int
    video: bool
    mask: Tensor | None = None

    def __post_init__(self):
        pick_recipe(self.recipe)
        if self.tune < 0:
            raise SettingError(f"The steps of a tuning are 0, for none, or a positive number, not {self.tune}.")
        if self.batch < 1:
            raise SettingError(f"A batch needs at least 1 photo, not {self.batch}.")

    @cached_property
    def G(self) -> Generator:
        """The generator, loaded on first use."""
        return weights.load_generator(self.generator, self.device)

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The project's VGG16 distance d."""
        return PerceptualDistance(device=self.device)

    @cached_property
    def statistics(self) -> LatentStatistics | None:
        """The statistics of W for the class, if one is given."""
        if self.class_index is None:
            return None
        samples = pick_recipe(self.recipe).w_avg_samples
        return latent_statistics(self.G, num_samples=samples, seed=self.seed, class_index=self.class_index)

    def run(self, photos: Path, out: Path) -> "Outcome":
        """Search for one photo, or for every photo of a folder."""
        return self._folder(photos, out) if photos.is_dir() else self._photo(photos, out)

    def _load(self, photo: Path) -> AlignedFace:
        on_photo = self.mask is not None and self.mask.shape[2:] == load_image(photo).shape[2:]
        face = load_face(
            photo, face=self.face, aligned=self.aligned, mask=self.mask if on_photo else None,
            landmarks=self.landmarks, size=self.G.img_resolution,
        )  # fmt: skip
        if face.choice:
            self.say(f"  {face.choice}")
        return face

    def _load_networks(self) -> None:
        """Load everything that does not depend on a photo, so that an error in it is reported only once."""
        self.G, self.distance, self.statistics  # noqa: B018, they are cached

    def _photo(self, photo: Path, out: Path) -> "Outcome":
        load_image(photo)  # cheap checks come before slow downloads
        check_writable(out)
        self._load_networks()
        return self._search({photo: (out, self._load(photo))})

    def _folder(self, photos: Path, out: Path) -> "Outcome":
        """Search a folder: skip photos that are done already, and carry on when one fails."""
        folders = output_folders(photos, out)
        pending = [(photo, folder) for photo, folder in folders.items() if not is_done(folder, self.request)]
        check_writable(out)
        if pending:
            self._load_networks()
        total = Outcome()
        for i in range(0, len(pending), self.batch):
            faces: dict[Path, tuple[Path, AlignedFace]] = {}
            for photo, folder in pending[i : i + self.batch]:
                self.say(f"{photo.name}:")
                with self._noting_failure(total, [photo]):
                    faces[photo] = folder, self._load(photo)
            with self._noting_failure(total, list(faces)):
                if faces:
                    found = self._search(faces)
                    total.distances |= found.distances
                    total.stopped = found.stopped
            if total.stopped:
                break
        done, before = len(total.distances), len(folders) - len(pending)
        self.say(f"{done} done, {before} done before, {len(total.failed)} failed, in {out}")
        for photo, distance in total.distances.items():
            self.say(f"  {photo.name}: perceptual distance {distance:.3f}")
        for photo, sentence in total.failed.items():
            self.say(f"  {photo.name}: {sentence}")
        return total

    @contextmanager
    def _noting_failure(self, total: "Outcome", photos: Sequence[Path]) -> Iterator[None]:
        try:
            yield
        except (Ex5Error, OSError) as error:
            total.failed.update(dict.fromkeys(photos, str(error)))
            self.say(f"  {error}", error=True)

    def _search(self, faces: dict[Path, tuple[Path, AlignedFace]]) -> "Outcome":
        """Search several faces at once, all degraded in the same way, and write each result to its folder."""
        folders, aligned = zip(*faces.values(), strict=True)
        film = Film() if self.video else None
        found = restore_faces(
            aligned, self.degradation_of(aligned[0]), generator=self.G, distance=self.distance,
            already_degraded=self.already_degraded, recipe=self.recipe, num_steps=self.num_steps, space=self.space,
            latent_weight=self.latent_weight, seed=self.seed, statistics=self.statistics, device=self.device,
            tune=self.tune, compile=self.compile, callback=film,
        )  # fmt: skip
        for i, (folder, restoration) in enumerate(zip(folders, found, strict=True)):
            written = restoration.save(folder, request=self.request)
            if film is not None:
                written.append(figures.save_animation(film.frames(i, restoration), folder / "search.webp"))
            tell(restoration, folder, written, self.say)
        distances = {photo: one.run.distance for photo, one in zip(faces, found, strict=True)}
        return Outcome(distances, stopped=any(one.run.stopped for one in found))


@dataclass
class Outcome:
    """The outcome of a job.

    Attributes:
        distances: the perceptual distance of every photo searched in this call.
        failed: the error message of every photo that failed.
        stopped: whether the user ended the job early.
    """

    distances: dict[Path, float] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)
    stopped: bool = False


class Film:
    """A callback of ``project`` that keeps about sixty frames of a search."""

    def __init__(self):
        self._shots: list[Tensor] = []

    def __call__(self, report: dict) -> None:
        if report["step"] % max(1, report["num_steps"] // 60) == 0:
            self._shots.append(_frame(report["image"].cpu()))

    def frames(self, i: int, restoration: Restoration) -> list[Tensor]:
        """The frames of the i-th photo, each beside its target; the last one shows the result."""
        images = [shot[i : i + 1] for shot in self._shots] + [_frame(restoration.result)]
        return [torch.cat([_frame(restoration.target), image], dim=3) for image in images]


def _frame(image: Tensor) -> Tensor:
    return resize(resize_area(image.clamp(-1, 1), 256), 256)


def tell(restoration: Restoration, folder: Path, written: Sequence[Path], say: Callable[..., None]) -> None:
    """Say where a result was written and how good it is."""
    run = restoration.run
    if run.stopped:
        say(f"stopped after {run.num_steps} of {run.settings['num_steps']} steps")
    say(f"written to {folder}: " + ", ".join(sorted(path.name for path in written)))
    if tuning := run.settings.get("tune"):
        say(f"  tuned for {tuning['done']} of {tuning['num_steps']} steps")
    for name, values in restoration.metrics.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))


def output_folders(photos: Path, out: Path) -> dict[Path, Path]:
    """The images in a folder, each with the folder to write its result to.

    Raises:
        FileError: if there is no image in it.
    """
    found = sorted(path for path in photos.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise FileError(f"There is no image in {photos}: name a folder of JPEG or PNG files, or one file.")
    stems = [path.stem for path in found]
    return {path: out / (path.stem if stems.count(path.stem) == 1 else path.name) for path in found}


def is_done(folder: Path, request: dict) -> bool:
    """Whether a folder holds the result of a finished search for the same request."""
    try:
        report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        settings = report["settings"]
        finished = report["metrics"]["search"]["num_steps"] == settings["num_steps"]
        tuning = settings.get("tune", {"done": 0, "num_steps": 0})
        return finished and tuning["done"] == tuning["num_steps"] and report["request"] == request
    except (OSError, ValueError, KeyError, TypeError):
        return False

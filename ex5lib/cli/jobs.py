"""The searches of the command line: one photo, or a folder whose finished photos are skipped."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.cli.album import claimed, output_folders, photos_in, skipped
from ex5lib.cli.summary import Outcome, sum_up
from ex5lib.degradations.known import Identity, Inpaint
from ex5lib.degradations.unknown import with_found
from ex5lib.errors import Ex5Error, SettingError, sentence
from ex5lib.faces.alignment import AlignedFace, load_face
from ex5lib.faces.masks import fitted_mask, mask_on_photo
from ex5lib.files import check_writable
from ex5lib.images.loading import load_image, save_image
from ex5lib.images.tensors import resize, resize_area
from ex5lib.inversion.latents import LatentStatistics, latent_statistics
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recipes import Recipe
from ex5lib.restoration import results
from ex5lib.restoration.diagnosis import diagnosed
from ex5lib.restoration.paste import paste
from ex5lib.restoration.pipeline import Restoration, check_counts, crop_size, restore_faces
from stylegan2_ada.generator import Generator


@dataclass(frozen=True, eq=False)
class Search:
    """One face to search for.

    Attributes:
        photo: the file.
        title: the photo's name and, if every face is searched, the face's index.
        folder: for the result.
        face: of that photo.
        degradation: D.
        request: recorded with the result: the job's, with the content of the photo.
    """

    photo: Path
    title: str
    folder: Path
    face: AlignedFace
    degradation: nn.Module
    request: dict


@dataclass(frozen=True, kw_only=True)
class Job:
    """A search as requested on the command line.

    Attributes:
        degradation: D for every face; None is the hole that the mask marks or, without a mask, the damage found.
        request: the options that affect the result, JSON-ready; files by their content.
        inputs: the files that are read besides the photos.
        say: called with each line of output; errors come with ``error=True``.
        video: also write the search as an animation.
        batch: how many faces are searched together.
        all_faces: search every face of a photo that has damage, each in a folder of its own.
        share: (3, 8) takes the third of eight shares of a folder.
        mask, mask_on: as in ``faces.masks.fitted_mask``; the detector ignores what is marked on the photo.
        others: as in ``restore``.
    """

    degradation: nn.Module | None
    request: dict
    inputs: Sequence[Path] = ()
    say: Callable[..., None]
    generator: str
    device: str
    recipe: Recipe
    seed: int
    class_index: int | None
    face: int | None
    landmarks: np.ndarray | None
    all_faces: bool
    aligned: bool
    already_degraded: bool
    tune: int
    answers: int
    compile: bool
    batch: int
    video: bool
    share: tuple[int, int] | None
    start: Tensor | None = None
    mask: Tensor | None = None
    mask_on: str | None = None

    def __post_init__(self) -> None:
        check_counts(self.tune, self.answers)
        if self.batch < 1:
            raise SettingError(f"A batch needs at least 1 photo, not {self.batch}.")
        if self.all_faces and (self.face is not None or self.aligned):
            raise SettingError("--all-faces cannot be combined with --face or --aligned: leave out --all-faces.")

    @cached_property
    def G(self) -> Generator:
        """The generator, loaded on first use."""
        return weights.load_generator(self.generator, self.device)

    @cached_property
    def distance(self) -> PerceptualDistance:
        """The project's VGG16 distance d."""
        return PerceptualDistance(device=self.device)

    @cached_property
    def statistics(self) -> LatentStatistics:
        """w̄ and σ_w, of the class if one is given."""
        samples = self.recipe.w_avg_samples
        return latent_statistics(self.G, num_samples=samples, seed=self.seed, class_index=self.class_index)

    def run(self, photos: Path, out: Path) -> Outcome:
        """Search for one photo, or for every photo of a folder."""
        if photos.is_dir():
            return self._folder(photos, out)
        if self.share is not None:
            raise SettingError(f"--shard needs a folder, and {photos} is not one: leave out --shard.")
        return self._photo(photos, out)

    def _load_networks(self) -> None:
        """Load everything that does not depend on a photo, so that an error in it is reported only once."""
        self.G, self.distance, self.statistics  # noqa: B018, they are cached

    def _photo(self, photo: Path, out: Path) -> Outcome:
        load_image(photo)  # cheap checks come before slow downloads
        check_writable(out)
        results.check_kept(out, [photo, *self.inputs])
        self._load_networks()
        total = Outcome()
        self._search(self._searches(photo, out), total)
        return total

    def _folder(self, photos: Path, out: Path) -> Outcome:
        """Search a folder, or a share of it: skip photos that are done already, and carry on when one fails."""
        found, others = photos_in(photos)
        # Other photos of the folder must not be overwritten either; few have the name of a result's file.
        inputs = [photo for photo in found if photo.name in results.OWN_FILES] + [*self.inputs]
        part, parts = self.share or (1, 1)
        folders = dict(list(output_folders(found, out).items())[part - 1 :: parts])
        check_writable(out)
        if others:
            self.say(skipped(others))
        total = Outcome()
        try:
            pending = [photo for photo, folder in folders.items() if not self._is_done(photo, folder)]
            total.before = [photo for photo in folders if photo not in set(pending)]
            if pending:
                self._load_networks()
            for _ in range(2):  # again for what other processes had claimed: they may have failed
                pending = self._search_unclaimed(pending, folders, out, inputs, total)
            total.elsewhere = pending
        except KeyboardInterrupt:
            total.stopped = True
        sum_up(folders, out, total, self.say, "summary" if self.share is None else f"summary-{part}-of-{parts}")
        return total

    def _search_unclaimed(
        self, photos: Sequence[Path], folders: dict[Path, Path], out: Path, inputs: Sequence[Path], total: Outcome
    ) -> list[Path]:
        """Search the photos that no other process has claimed; returns the others. No result may replace an input."""
        elsewhere: list[Path] = []
        together = 1 if self.all_faces else self.batch  # then a batch consists of faces
        for i in range(0, len(photos), together):
            searches: list[Search] = []
            with ExitStack() as claims:
                for photo in photos[i : i + together]:
                    with self._noting_failure(total, [photo]):
                        if not claims.enter_context(claimed(out, photo)):
                            elsewhere.append(photo)
                        elif self._is_done(photo, folders[photo]):  # by another process, a moment ago
                            total.before.append(photo)
                        else:
                            self.say(f"{photo.name}:")
                            results.check_kept(folders[photo], [photo, *inputs])
                            searches += self._searches(photo, folders[photo])
                if searches:
                    with self._noting_failure(total, [search.photo for search in searches]):
                        self._search(searches, total)
            if total.stopped:
                break
        return elsewhere

    @contextmanager
    def _noting_failure(self, total: Outcome, photos: Sequence[Path]) -> Iterator[None]:
        try:
            yield
        except (Ex5Error, OSError) as error:
            total.failed.update(dict.fromkeys(photos, sentence(error)))
            self.say(f"  {sentence(error)}", error=True)

    def _is_done(self, photo: Path, folder: Path) -> bool:
        known = results.finished_request(folder)
        if known is None or known != self.request | {"photo": known.get("photo")}:
            return False
        try:
            return known["photo"] == results.content(photo)  # last, because it reads the whole file
        except OSError:  # the search will report it
            return False

    def _searches(self, photo: Path, folder: Path) -> list[Search]:
        """The search for the face of a photo, or the searches for all its faces."""
        # The content is taken before the photo is read, in case it is replaced meanwhile.
        request = self.request | {"photo": results.content(photo)}
        mask = None if self.mask is None else mask_on_photo(self.mask, load_image(photo), self.mask_on)
        found = load_face(
            photo, face=self.face, aligned=self.aligned, mask=mask, landmarks=self.landmarks, every=self.all_faces,
            size=crop_size(self.G),
        )  # fmt: skip
        if not self.all_faces:
            return [Search(photo, photo.name, folder, found, self._degradation_of(found) or Identity(), request)]
        faces = [(face, D) for face in every_face(found) if (D := self._degradation_of(face)) is not None]
        if not faces:
            raise SettingError(
                f"No damage was found in the faces of {photo}: name it by --degradation if you see some."
                if self.mask is None
                else f"The mask touches no face of {photo}: paint it over the damage."
            )
        self.say(f"  faces to search: {len(faces)}")
        return [
            Search(
                photo, f"{photo.name}, face {face.index}", folder / f"face{face.index}", face, D,
                request | {"face": face.index},
            )
            for face, D in faces
        ]  # fmt: skip

    def _degradation_of(self, face: AlignedFace) -> nn.Module | None:
        """What is wrong with a face; None if nothing is."""
        if self.degradation is not None:
            return self.degradation
        if self.mask is not None:
            fitted = fitted_mask(self.mask, face, self.mask_on)
            untouched = fitted.max() <= 0.5
            if untouched and not self.all_faces and self.mask.max() > 0.5:
                x, y = face.quad.mean(axis=0)
                raise SettingError(
                    f"What the mask marks lies outside the crop around ({x:.0f}, {y:.0f}) px: if that is the wrong "
                    "face, choose another one with --face or --landmarks (ex5 align draws them)."
                )
            return None if untouched and self.all_faces else Inpaint(mask=fitted)
        degradation, damages = diagnosed(face)
        who = f"face {face.index}: " if self.all_faces else ""
        for damage in damages:
            self.say(f"  {who}{damage}")
        if degradation is None:
            so = "it is left alone" if self.all_faces else "the face is inverted as it is"
            self.say(f"  {who}no damage was found, so {so}: name it by --degradation if you see some")
        return degradation

    def _search(self, searches: Sequence[Search], total: Outcome) -> None:
        """Search for faces, all of one photo or one of each, and write each result to its folder."""
        pending = list(searches)
        if self.all_faces:
            results.begin(searches[0].folder.parent, faces=[search.face.index for search in searches])
            pending = [search for search in searches if results.finished_request(search.folder) != search.request]
        for i in range(0, len(pending), self.batch):
            found = self._restored(pending[i : i + self.batch])
            total.distances |= {search.title: done.run.distance for search, done in found.items()}
            if any(done.stopped for done in found.values()):
                total.stopped = True
                return
        if self.all_faces:
            self._put_together(searches)
        total.done += dict.fromkeys(search.photo for search in searches)

    def _restored(self, searches: Sequence[Search]) -> dict[Search, Restoration]:
        """Search for several faces together, all degraded in the same way, and write each result to its folder."""
        film = Film() if self.video else None
        found = restore_faces(
            [search.face for search in searches], searches[0].degradation, self.recipe, generator=self.G,
            distance=self.distance, already_degraded=self.already_degraded, answers=self.answers, tune=self.tune,
            start=self.start, seed=self.seed, statistics=self.statistics, device=self.device, compile=self.compile,
            callback=film,
        )  # fmt: skip
        for i, (search, done) in enumerate(zip(searches, found, strict=True)):
            frames = None if film is None else film.frames(i, done)
            tell(done, search.folder, done.save(search.folder, request=search.request, frames=frames), self.say)
            if done.face.choice and not self.all_faces:
                self.say(f"  {done.face.choice}")
        return dict(zip(searches, found, strict=True))

    def _put_together(self, searches: Sequence[Search]) -> None:
        """When all faces are done, write what belongs to the whole photo."""
        folder, faces = searches[0].folder.parent, [search.face.index for search in searches]
        is_crop = searches[0].face.landmarks is None  # then there is nothing around the face to put it back into
        names = [] if is_crop else ["photo.png"]
        results.begin(folder, names, faces)
        if not is_crop:
            found = []
            for search in searches:
                run = Projection.load(search.folder)
                found.append((search.face, run.image, with_found(search.degradation, run.settings["found"])))
            save_image(paste(searches[0].face.photo, found), folder / "photo.png")
        request = searches[0].request | {"face": None}
        results.finish(folder, names, {"faces": faces, "request": request})
        self.say(f"  {'the face is' if len(faces) == 1 else f'all {len(faces)} faces are'} done, in {folder}")


def every_face(found: AlignedFace) -> list[AlignedFace]:
    """All certain faces of a photo, given one of them, the best first, in crops of the same size."""
    faces = [found.another(i) for i, detection in enumerate(found.detections) if detection.sure]
    return faces or [found]  # a photo that was used as the aligned crop has no detections


class Film:
    """A callback of ``project`` that keeps about sixty frames of a search."""

    def __init__(self) -> None:
        self._shots: list[Tensor] = []

    def __call__(self, report: dict) -> None:
        if report["step"] % max(1, report["num_steps"] // 60) == 0:
            self._shots.append(_frame(report["image"]).cpu())

    def frames(self, i: int, restoration: Restoration) -> list[Tensor]:
        """The frames of the i-th photo, each beside its target. The last one shows the result."""
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
    if run.settings["found"]:
        say(f"  found with it: {restoration.degradation}")
    if tuning := run.settings.get("tune"):
        say(f"  tuned for {tuning['done']} of {tuning['num_steps']} steps")
    for name, values in restoration.metrics.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))

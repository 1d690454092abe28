"""The searches of the command line: one photo, or a folder whose finished photos are skipped."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.cli.album import output_folders, photos_in, skipped
from ex5lib.cli.options import SearchOptions, say
from ex5lib.cli.summary import Outcome, sum_up
from ex5lib.cli.telling import tell, tell_enlarged
from ex5lib.course.handin import load_latent
from ex5lib.degradations.known import Identity, Inpaint
from ex5lib.degradations.unknown import with_found
from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace, load_face
from ex5lib.faces.landmarks import read_landmarks
from ex5lib.faces.masks import fitted_mask, mask_on_photo
from ex5lib.files import check_writable
from ex5lib.images.loading import load_image, save_image, save_preview
from ex5lib.images.masks import load_mask
from ex5lib.images.tensors import resize, resize_area
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recipes import pick_recipe
from ex5lib.restoration import results
from ex5lib.restoration.diagnosis import diagnosed
from ex5lib.restoration.enlargement import put_back
from ex5lib.restoration.pipeline import check_counts, crop_size, restore_faces
from ex5lib.restoration.restored import Restoration


@dataclass(frozen=True, eq=False)
class Search:
    """One face to search for, and the folder for its result.

    Attributes:
        title: the photo's name and, if every face is searched, the face's index.
        request: recorded with the result: the job's, with the content of the photo.
    """

    photo: Path
    title: str
    folder: Path
    face: AlignedFace
    degradation: nn.Module
    request: dict


# Options that change no result.
_ELSEWHERE = ("photo", "out", "batch", "workers", "cluster", "send", "dry_run", "json")
Task = Sequence[tuple[Path, Path]]  # photos that are searched together, each with the folder for its result
Share = Callable[["Job", Sequence[Task]], Iterable[Outcome]]


class Job:
    """What a command asks for: the search for one photo, or for every photo of a folder that is not finished yet.

    Args:
        options: of the command.
        degradation: D for every face; None is the hole that the mask marks or, without a mask, the damage found.
        already_degraded: as in ``restore``.
        mask, mask_on: a file, and as in ``faces.masks.fitted_mask``; the detector ignores what is marked on the photo.
        invert_mask: whether black is filled in, not white.
    """

    def __init__(
        self,
        options: SearchOptions,
        degradation: nn.Module | None,
        *,
        already_degraded: bool = False,
        mask: Path | None = None,
        mask_on: str | None = None,
        invert_mask: bool = False,
    ) -> None:
        check_counts(options.tune, options.answers, options.enlarge)
        if options.batch < 1:
            raise SettingError(f"A batch needs at least 1 photo, not {options.batch}.")
        if options.all_faces and (options.face is not None or options.aligned):
            raise SettingError("--all-faces cannot be combined with --face or --aligned: leave out --all-faces.")
        self.options, self.degradation, self.already_degraded = options, degradation, already_degraded
        self.landmarks = typed_landmarks(options.landmarks, options.photo)
        if self.landmarks is not None and (options.aligned or options.all_faces):
            raise SettingError("Landmarks say which face to crop, and how: leave out --aligned and --all-faces.")
        named = {"mask": mask, "generator": options.generator, "start": options.start}
        files = {name: Path(path) for name, path in named.items() if path and Path(path).is_file()}
        self.inputs = list(files.values())
        # What affects the result, JSON-ready. The files' contents are taken first, in case they are replaced meanwhile.
        self.request = {k: v for k, v in vars(options).items() if k not in _ELSEWHERE}
        self.request |= {name: results.content(path) for name, path in files.items()}
        self.request["landmarks"] = None if self.landmarks is None else self.landmarks.tolist()
        self.start = load_latent(options.start) if options.start else None
        self.recipe = pick_recipe(
            options.recipe, start=self.start, num_steps=options.num_steps, space=options.space,
            latent_weight=options.latent_weight,
        )  # fmt: skip
        self.mask, self.mask_on = load_mask(mask) if mask else None, mask_on
        if self.mask is not None and invert_mask:
            self.mask = 1 - self.mask
        self._is_loaded = False

    def run(self, out: Path, share: Share | None = None) -> Outcome:
        """Search, and write the results to a folder.

        Args:
            share: has others search a folder's tasks; None searches them here.
        """
        if self.options.photo.is_dir():
            return self._folder(self.options.photo, out, share)
        if share is not None:
            raise SettingError(f"Workers share a folder, and {self.options.photo} is none: leave out their options.")
        return self._photo(self.options.photo, out)

    def load(self) -> None:
        """Load, once, everything that does not depend on a photo."""
        if self._is_loaded:
            return
        asked = self.options
        self.G = weights.load_generator(asked.generator, asked.device)
        self.distance = PerceptualDistance(device=asked.device)
        self.statistics = latent_statistics(
            self.G, num_samples=self.recipe.w_avg_samples, seed=asked.seed, class_index=asked.class_index
        )
        self._is_loaded = True

    def _photo(self, photo: Path, out: Path) -> Outcome:
        load_image(photo)  # cheap checks come before slow downloads
        check_writable(out)
        results.check_kept(out, [photo, *self.inputs])
        total = Outcome(folders={photo: out})
        with ThreadPoolExecutor(1) as beside:  # dlib finds the face while PyTorch loads the networks
            found = beside.submit(self._find, photo)
            self.load()
            searches = self._searches(photo, out, found.result())
        self._search(searches, total)
        return total

    def _folder(self, photos: Path, out: Path, share: Share | None) -> Outcome:
        """Search a folder: skip photos that are done already, and carry on when one fails."""
        if share is not None:  # workers may run in another folder
            photos, out = photos.absolute(), out.absolute()
        found, others = photos_in(photos)
        # Other photos of the folder must not be overwritten either; few have the name of a result's file.
        self.inputs += [photo for photo in found if photo.name in results.OWN_FILES]
        folders = output_folders(found, out)
        check_writable(out)
        if others:
            say(skipped(others))
        total = Outcome(folders=folders)
        try:
            pending = [photo for photo, folder in folders.items() if not self._is_done(photo, folder)]
            total.outcomes |= {photo: "done before" for photo in folders if photo not in set(pending)}
            together = 1 if self.options.all_faces else self.options.batch  # then a batch consists of faces
            where = [(photo, folders[photo]) for photo in pending]
            tasks = [where[i : i + together] for i in range(0, len(where), together)]
            for part in map(self.search, tasks) if share is None else share(self, tasks):
                total.add(part)
                if part.stopped:
                    break
        except KeyboardInterrupt:
            total.stopped = True
        sum_up(out, total)
        return total

    def search(self, task: Task) -> Outcome:
        """Search the photos of a task, and write each result to its folder. What fails is noted, and not raised."""
        self.load()
        total = Outcome()
        searches: list[Search] = []
        for photo, folder in task:
            with total.noting_failure([photo]):
                say(f"{photo.name}:")
                results.check_kept(folder, [photo, *self.inputs])  # no result may replace an input
                searches += self._searches(photo, folder, self._find(photo))
        if searches:
            with total.noting_failure([search.photo for search in searches]):
                self._search(searches, total)
        return total

    def _is_done(self, photo: Path, folder: Path) -> bool:
        known = results.finished_request(folder)
        if known is None or known != self.request | {"photo": known.get("photo")}:
            return False
        try:
            return known["photo"] == results.content(photo)  # last, because it reads the whole file
        except OSError:  # the search will report it
            return False

    def _find(self, photo: Path) -> tuple[AlignedFace, dict]:
        """The photo's face, or the first of several, and the request that its result answers."""
        # The content is taken before the photo is read, in case it is replaced meanwhile.
        request = self.request | {"photo": results.content(photo)}
        mask = None if self.mask is None else mask_on_photo(self.mask, load_image(photo), self.mask_on)
        asked = self.options
        found = load_face(
            photo, face=asked.face, aligned=asked.aligned, mask=mask, landmarks=self.landmarks, every=asked.all_faces
        )
        return found, request

    def _searches(self, photo: Path, folder: Path, at: tuple[AlignedFace, dict]) -> list[Search]:
        """The search for the face of a photo, or the searches for all its faces, from what ``_find`` returned."""
        found, request = at[0].sized(crop_size(self.G)), at[1]
        asked = self.options
        if not asked.all_faces:
            return [Search(photo, photo.name, folder, found, self._degradation_of(found) or Identity(), request)]
        faces = [(face, D) for face in found.every() if (D := self._degradation_of(face)) is not None]
        if not faces:
            raise SettingError(
                f"No damage was found in the faces of {photo}: name it by --degradation if you see some."
                if self.mask is None
                else f"The mask touches no face of {photo}: paint it over the damage."
            )
        say(f"  faces to search: {len(faces)}")
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
            if untouched and not self.options.all_faces and self.mask.max() > 0.5:
                x, y = face.quad.mean(axis=0)
                raise SettingError(
                    f"What the mask marks lies outside the crop around ({x:.0f}, {y:.0f}) px: if that is the wrong "
                    "face, choose another one with --face or --landmarks (ex5 align draws them)."
                )
            return None if untouched and self.options.all_faces else Inpaint(mask=fitted)
        degradation, damages = diagnosed(face)
        who = f"face {face.index}: " if self.options.all_faces else ""
        for damage in damages:
            say(f"  {who}{damage.reason}")
        if degradation is None:
            so = "it is left alone" if self.options.all_faces else "the face is searched for as it is"
            say(f"  {who}no damage was found, so {so}: if you see some, name it (--degradation) or paint it (--mask)")
        return degradation

    def _search(self, searches: Sequence[Search], total: Outcome) -> None:
        """Search for faces, all of one photo or one of each, and write each result to its folder."""
        pending = list(searches)
        if self.options.all_faces:
            results.begin(searches[0].folder.parent, faces=[search.face.index for search in searches])
            pending = [search for search in searches if results.finished_request(search.folder) != search.request]
        for i in range(0, len(pending), self.options.batch):
            found = self._restored(pending[i : i + self.options.batch])
            total.distances |= {search.title: done.run.distance for search, done in found.items()}
            if any(done.stopped for done in found.values()):
                total.stopped = True
                return
        if self.options.all_faces:
            self._put_together(searches)
        total.outcomes |= {search.photo: "done" for search in searches}

    def _restored(self, searches: Sequence[Search]) -> dict[Search, Restoration]:
        """Search for several faces together, all degraded in the same way, and write each result to its folder."""
        asked = self.options
        film = Film() if asked.video else None
        found = restore_faces(
            [search.face for search in searches], searches[0].degradation, self.recipe, generator=self.G,
            distance=self.distance, already_degraded=self.already_degraded, answers=asked.answers, tune=asked.tune,
            enlarge=asked.enlarge, start=self.start, seed=asked.seed, statistics=self.statistics, device=asked.device,
            dtype=asked.dtype, compile=asked.compile, callback=film,
        )  # fmt: skip
        for i, (search, done) in enumerate(zip(searches, found, strict=True)):
            frames = None if film is None else film.frames(i, done)
            tell(done, search.folder, done.save(search.folder, request=search.request, frames=frames))
            if done.face.choice and not asked.all_faces:
                say(f"  {done.face.choice}")
        return dict(zip(searches, found, strict=True))

    def _put_together(self, searches: Sequence[Search]) -> None:
        """When all faces are done, write what belongs to the whole photo; it is as large as the smallest needs."""
        folder, faces = searches[0].folder.parent, [search.face.index for search in searches]
        is_crop = searches[0].face.landmarks is None  # then there is nothing around the face to put it back into
        names = [] if is_crop else ["photo.png", "before.jpg", "after.jpg"]
        enlarged = max(results.read_record(search.folder)["enlarged"] for search in searches)
        results.begin(folder, names, faces)
        if not is_crop:
            found = []
            for search in searches:
                run = Projection.load(search.folder)
                found.append((search.face, run.image, with_found(search.degradation, run.settings["found"])))
            first = searches[0].face
            whole = put_back(found, enlarged)
            save_image(whole, folder / "photo.png", first.extras.enlarged(enlarged))
            for name, image in (("before.jpg", first.photo), ("after.jpg", whole)):
                save_preview(image, folder / name)
            tell_enlarged(whole, enlarged)
        request = searches[0].request | {"face": None}
        results.finish(folder, names, {"faces": faces, "request": request, "enlarged": enlarged})
        say(f"  {'the face is' if len(faces) == 1 else f'all {len(faces)} faces are'} done, in {folder}")


def typed_landmarks(given: str | None, photo: Path) -> np.ndarray | None:
    """The landmarks given on the command line, if any, for a single photo."""
    if given is None:
        return None
    if photo.is_dir():
        raise SettingError("Landmarks belong to one photo: name that photo instead of its folder.")
    return read_landmarks(given, photo.name)


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

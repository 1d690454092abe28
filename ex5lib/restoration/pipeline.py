"""The whole pipeline: photo → aligned face → degraded → searched → composite → compared → pasted back.

The command line, the notebooks and the explorer all use it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.degradations.known import REFERENCE_SIZE, GaussianBlur, Grayscale, Identity, Inpaint, compositor
from ex5lib.degradations.unknown import unknown_parameters, with_found
from ex5lib.errors import SettingError, unknown_name
from ex5lib.faces.alignment import AlignedFace, Photo, load_face
from ex5lib.inversion import tuning
from ex5lib.inversion.latents import LatentStatistics, latent_statistics, sample_ws
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.projector import project
from ex5lib.inversion.recipes import Recipe, Start, pick_recipe
from ex5lib.restoration.diagnosis import as_blurred, diagnosed
from ex5lib.restoration.enlargement import MOST, enlargement
from ex5lib.restoration.restored import Restoration
from stylegan2_ada.generator import Generator

# The exercise's tasks: what is done to the photo.
TASKS: dict[str, nn.Module] = {
    "inversion": Identity(),
    "deblurring": GaussianBlur(kernel_size=25),
    "colourisation": Grayscale(),
    "inpainting": Inpaint(top=164, left=84, height=44, width=88),  # the mouth
}

MAX_ANSWERS = 8
ANSWERS_PSI = 0.7  # truncation ψ of the faces that answers are pulled towards


def pick_task(name: str) -> nn.Module:
    """The degradation of a task; a ``SettingError`` if there is none of that name."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def restore(
    photo: Photo | AlignedFace,
    degradation: nn.Module | str | None = None,
    recipe: str | Recipe = "fast",
    *,
    already_degraded: bool = False,
    degraded_by: nn.Module | None = None,
    face: int | None = None,
    aligned: bool = False,
    generator: str | Path | Generator = "mobile-ffhq",
    distance: PerceptualDistance | None = None,
    answers: int = 1,
    tune: int = 0,
    enlarge: int | None = None,
    start: Start = None,
    seed: int = 0,
    statistics: LatentStatistics | None = None,
    snapshots: Iterable[int] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
    **settings,
) -> Restoration:
    """Restore a photo: align it, degrade it, search for its latent, and compare the result with the original.

    Args:
        photo: anything that ``align_face`` takes, or an aligned face.
        degradation: D, any module from images to images; None inverts the photo as it is. "auto" undoes all damage that
            ``diagnosis.examine`` finds in the photo, which then counts as degraded already.
        recipe: a name in ``RECIPES``, or a ``Recipe``.
        already_degraded: whether the photo itself is degraded, so that there is no original to compare with.
        degraded_by: degrades the photo instead of ``degradation``, which then applies only to the generated image. A
            photo that is far sharper than a blur in ``degradation`` leaves is blurred further (``Restoration.note``).
        face: index of the face, from 0, best score first; None takes the best.
        aligned: treat the photo as an aligned crop, without looking for a face.
        generator: a name or a file, as in ``load_generator``, or a generator.
        distance: d; by default the project's VGG16 distance.
        answers: how many to find (``Restoration.others``). Where the photo says nothing, the latent distance decides,
            by pulling w towards the mean face w̄. Every search after the first starts at a random face, with its own
            noise buffers, and is pulled towards that face instead.
        tune: steps of pivotal tuning (``tuning.tune``) after the search: 50 reproduce the photo almost exactly; 0 is
            none.
        enlarge: how many times as wide and as high the photo becomes when the result is put back; None enlarges it if
            it is degraded already and its face has few pixels (``enlargement``).
        start, seed, statistics, snapshots, device, dtype, compile, progress, callback: as in ``project``.
        settings: other values for the recipe, as ``pick_recipe`` takes them: num_steps, space, latent_weight, …

    Raises:
        FileError, FaceError: if the photo cannot be read, or has no such face.
        WeightsError: if pretrained weights cannot be fetched or read.
        SettingError, DeviceError, DivergedError: as in ``project``.

    Example:
        >>> done = restore("me.jpg", GaussianBlur(kernel_size=25))
        >>> done.metrics["result and original"]["psnr"], done.save("results/me")
    """
    if isinstance(degradation, str) and degradation != "auto":
        raise SettingError(f'A degradation is a module, or "auto", not "{degradation}".')
    recipe = pick_recipe(recipe, start=start, **settings)
    G = generator if isinstance(generator, Generator) else weights.load_generator(generator, device)
    size = crop_size(G) if degradation == "auto" else G.img_resolution
    subject = load_face(photo, face=face, aligned=aligned, size=size)
    if isinstance(degradation, str):  # "auto"
        degradation, already_degraded = diagnosed(subject)[0], True
    (done,) = restore_faces(
        [subject], degradation, recipe, generator=G, distance=distance, already_degraded=already_degraded,
        degraded_by=degraded_by, answers=answers, tune=tune, enlarge=enlarge, start=start, seed=seed,
        statistics=statistics, snapshots=snapshots, device=device, dtype=dtype, compile=compile, progress=progress,
        callback=callback,
    )  # fmt: skip
    return done


def check_counts(tune: int, answers: int, enlarge: int | None) -> None:
    """Raise a ``SettingError`` if the number of tuning steps or answers, or the enlargement, is out of range."""
    if not isinstance(tune, int) or tune < 0:
        raise SettingError(f"The steps of a tuning must be 0, for none, or a positive whole number, not {tune}.")
    if not isinstance(answers, int) or not 1 <= answers <= MAX_ANSWERS:
        raise SettingError(f"The number of answers must be 1 to {MAX_ANSWERS}, not {answers}.")
    if enlarge is not None and (not isinstance(enlarge, int) or not 1 <= enlarge <= MOST):
        raise SettingError(f"A photo can be enlarged 1 to {MOST} times, by a whole number, not {enlarge} times.")


def crop_size(G: Generator) -> int:
    """The side in px of a face to examine: a crop for a small generator would hide what is wrong with the photo."""
    return max(G.img_resolution, REFERENCE_SIZE)


def restore_faces(
    faces: Sequence[AlignedFace],
    degradation: nn.Module | None,
    recipe: Recipe,
    *,
    generator: Generator,
    distance: PerceptualDistance | None = None,
    already_degraded: bool = False,
    degraded_by: nn.Module | None = None,
    answers: int = 1,
    tune: int = 0,
    enlarge: int | None = None,
    start: Start = None,
    seed: int = 0,
    statistics: LatentStatistics | None = None,
    snapshots: Iterable[int] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
) -> list[Restoration]:
    """Restore several aligned faces in one search, all degraded in the same way; arguments as in ``restore``."""
    if not faces:
        raise SettingError("There is no face to restore: give at least one.")
    check_counts(tune, answers, enlarge)
    if answers > 1 and recipe.stages[0].space == "z":
        raise SettingError("Several answers can be searched in w or w+ only: leave out z, or ask for one answer.")
    if already_degraded and degraded_by is not None:
        raise SettingError("A photo that is already degraded is not degraded again: leave out degraded_by.")
    G, degradation = generator, degradation or Identity()
    distance = distance or PerceptualDistance(device=device)
    degrade = _known_damage(degradation) if already_degraded else degraded_by or degradation
    faces = [load_face(face, size=G.img_resolution) for face in faces]
    factors = [enlargement(face, degradation if already_degraded else None, enlarge) for face in faces]
    with torch.no_grad():
        targets = [degrade(face.image) for face in faces]
    notes = [""] * len(faces)
    if already_degraded or degraded_by not in (None, degradation):
        checked = [as_blurred(target, degradation) for target in targets]
        targets, notes = [target for target, _ in checked], [note for _, note in checked]
    statistics = statistics or latent_statistics(G, num_samples=recipe.w_avg_samples, seed=seed)

    def search(i: int) -> list[Restoration]:
        """The i-th answer for each face; all but the first are pulled towards somebody else."""
        towards, begin = (statistics, start) if i == 0 else another_face(G, statistics, seed + i)
        run = project(
            G, torch.cat(targets), degradation, recipe, start=begin, seed=seed + i, statistics=towards,
            distance=distance, snapshots=snapshots, device=device, dtype=dtype, compile=compile, progress=progress,
            callback=None if i else callback,
        )  # fmt: skip
        D = with_found(degradation, run.settings["found"]) if run.settings["found"] else degradation
        found: list[tuple[Generator | None, Projection]] = [(None, one) for one in run]
        if tune and not run.stopped:
            found = [  # one by one: each photo gets a generator of its own
                tuning.tune(
                    G, one, degradation=D, num_steps=tune, distance=distance, device=device, dtype=dtype,
                    progress=progress,
                )
                for one in run
            ]  # fmt: skip
        return [
            Restoration(
                face, D, target, None if already_degraded else face.image, one, distance, tuned, note=note, enlarged=k
            )
            for face, target, (tuned, one), note, k in zip(faces, targets, found, notes, factors, strict=True)
        ]  # fmt: skip

    found = [search(0)]
    while len(found) < answers and not any(answer.stopped for answer in found[-1]):
        found.append(search(len(found)))
    return [replace(first, others=tuple(others)) for first, *others in zip(*found, strict=True)]


@torch.no_grad()
def another_face(G: Generator, statistics: LatentStatistics, seed: int) -> tuple[LatentStatistics, Tensor]:
    """The random face of a seed: statistics with its w instead of w̄, and w [1, w_dim] to start a search at."""
    chosen = statistics.origin.get("class_index")
    w = sample_ws(G, seed, truncation_psi=ANSWERS_PSI, class_index=chosen)[:, 0]
    return replace(statistics, w_avg=w[0]), w


def _known_damage(degradation: nn.Module) -> nn.Module:
    """The part of a degradation that is applied again to a photo that already has it: holes, loss of colour.

    This changes nothing that such a photo shows, but makes a nearly grey one exactly grey and any hole black.
    """
    members = degradation if isinstance(degradation, nn.Sequential) else [degradation]
    exact = [member for member in members if compositor(member) is not None and not unknown_parameters(member)]
    return nn.Sequential(*exact)

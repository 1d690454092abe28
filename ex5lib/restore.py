"""The whole pipeline for a photo: photo → aligned face → degraded → searched → composite → compared.

The command line and the notebooks (and so the report) all use it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ex5lib import figures, tuning, weights
from ex5lib.alignment import AlignedFace, Photo, load_face
from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.errors import SettingError, unknown_name
from ex5lib.files import replacing
from ex5lib.images import save_image
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare
from ex5lib.projection import Projection
from ex5lib.projector import project
from ex5lib.recipes import Recipe
from stylegan2_ada.generator import Generator
from stylegan2_ada.readers import save_generator

# The exercise's tasks: what is done to the photo.
TASKS: dict[str, nn.Module] = {
    "inversion": Identity(),
    "deblurring": GaussianBlur(kernel_size=25),
    "colourisation": Grayscale(),
    "inpainting": Inpaint(top=164, left=84, height=44, width=88),  # the mouth
}


def pick_task(name: str) -> nn.Module:
    """The degradation of the task of that name.

    Raises:
        SettingError: if there is no such task.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


@dataclass(frozen=True, eq=False)
class Restoration:
    """A photo, the result found for it, and how good that result is.

    Attributes:
        face: the aligned face; ``face.photo`` is the whole photo.
        degradation: D, as applied to the generated image.
        target: y [1, 3, S, S], the degraded face that the search tried to match.
        original: [1, 3, S, S], the undegraded face; None if the photo itself was degraded.
        run: the search.
        distance: d.
        tuned: the generator that was tuned to this photo, if one was; ``run.image`` is then its image.
    """

    face: AlignedFace
    degradation: nn.Module
    target: Tensor
    original: Tensor | None
    run: Projection
    distance: PerceptualDistance
    tuned: Generator | None = None

    @property
    def result(self) -> Tensor:
        """The image that was found [1, 3, R, R], undegraded."""
        return self.run.image

    @cached_property
    def composite(self) -> Tensor | None:
        """The known part of the photo, completed from the result; None if no part is known exactly."""
        if not hasattr(self.degradation, "composite"):
            return None
        return self.degradation.composite(self.target, self.result)

    @cached_property
    def images(self) -> dict[str, Tensor]:
        """The images by name: original (or photo), degraded and composite if there is one, and result."""
        images = {"photo" if self.original is None else "original": self.face.image}
        if self.target is not self.face.image:
            images["degraded"] = self.target
        images["result"] = self.result
        return images if self.composite is None else images | {"composite": self.composite}

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Numbers about the search and, given an original, how close start, result and composite come to it."""
        run = self.run
        search = {
            "num_steps": run.num_steps, "distance": run.distance, "latent_distance": run.latent_distance,
            "seconds": run.seconds,
        }  # fmt: skip
        if self.original is None:
            return {"search": search}
        images = {"start": run.snapshots.get(0), "result": self.result, "composite": self.composite}
        return {"search": search} | {
            f"{name} and original": compare(image, self.original, self.distance)
            for name, image in images.items()
            if image is not None
        }

    def figures(self) -> dict[str, Figure]:
        """The plots by name: comparison, iterations, losses and, if the photo was cropped, alignment."""
        plots = {
            "comparison": figures.plot_images(list(self.images.values()), list(self.images)),
            "iterations": figures.plot_iterations(self.run, self.original),
            "losses": figures.plot_losses(self.run),
        }
        return plots | ({"alignment": figures.plot_alignment(self.face)} if self.face.landmarks is not None else {})

    def save(self, folder: str | Path, *, request: dict | None = None) -> list[Path]:
        """Write everything into a folder: projection, images, figures, tuned generator and ``metrics.json``.

        Args:
            folder: created if it is missing.
            request: recorded in ``metrics.json``, which is written last: a folder that has it is complete.

        Returns:
            the paths of the files.
        """
        folder = Path(folder)
        written = [self.run.save(folder)]
        written += [save_image(image, folder / f"{name}.png") for name, image in self.images.items()]
        written += [figures.save_figure(plot, folder / f"{name}.png") for name, plot in self.figures().items()]
        if self.tuned is not None:
            save_generator(self.tuned, folder / "generator.safetensors")
            written.append(folder / "generator.safetensors")
        report = {"metrics": self.metrics, "settings": self.run.settings, "request": request or {}}
        with replacing(folder / "metrics.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2), encoding="utf-8")
        return [*written, folder / "metrics.json"]


def restore(
    photo: Photo | AlignedFace,
    degradation: nn.Module | None = None,
    *,
    already_degraded: bool = False,
    degraded_by: nn.Module | None = None,
    face: int | None = None,
    aligned: bool = False,
    generator: str | Path | Generator = "mobile-ffhq",
    distance: PerceptualDistance | None = None,
    recipe: str | Recipe = "fast",
    tune: int = 0,
    device: str | torch.device = "auto",
    **settings,
) -> Restoration:
    """Restore a photo: align it, degrade it, search for its latent, and compare the result with the original.

    Args:
        photo: the path of an image file, a PIL image, a tensor [1, 3, H, W], or an aligned face.
        degradation: D, any module from images to images; None inverts the photo as it is.
        already_degraded: whether the photo itself is degraded, so that there is no original to compare with.
        degraded_by: degrades the photo in place of ``degradation``, which then applies only to the generated image.
        face: index of the face, from 0, best score first; None takes the best.
        aligned: treat the photo as an aligned crop, without looking for a face.
        generator: a name or a file, as in ``load_generator``, or a generator.
        distance: d; by default the project's VGG16 distance.
        recipe: a name in ``RECIPES``, or a ``Recipe``.
        tune: steps of pivotal tuning (``tuning.tune``) after the search: 50 bring the photo itself; 0 does without.
        device: "auto", "cuda", "mps", "cpu" or a torch.device.
        settings: further keywords of ``project``: num_steps, latent_weight, seed, callback, …

    Raises:
        FileError, FaceError: if the photo cannot be read, or has no such face.
        WeightsError: if pretrained weights cannot be fetched or read.
        SettingError, DeviceError, DivergedError: as in ``project``.

    Example:
        >>> done = restore("me.jpg", GaussianBlur(kernel_size=25))
        >>> done.metrics["result and original"]["psnr"], done.save("results/me")
    """
    G = generator if isinstance(generator, Generator) else weights.load_generator(generator, device)
    subject = load_face(photo, face=face, aligned=aligned, size=G.img_resolution)
    (done,) = restore_faces(
        [subject], degradation, already_degraded=already_degraded, degraded_by=degraded_by, generator=G,
        distance=distance, recipe=recipe, tune=tune, device=device, **settings,
    )  # fmt: skip
    return done


def restore_faces(
    faces: Sequence[AlignedFace],
    degradation: nn.Module | None = None,
    *,
    generator: Generator,
    already_degraded: bool = False,
    degraded_by: nn.Module | None = None,
    distance: PerceptualDistance | None = None,
    recipe: str | Recipe = "fast",
    tune: int = 0,
    device: str | torch.device = "auto",
    **settings,
) -> list[Restoration]:
    """Restore several aligned faces in one search, all degraded in the same way; arguments as in ``restore``."""
    if not faces:
        raise SettingError("There is no face to restore: give at least one.")
    if not isinstance(tune, int) or tune < 0:
        raise SettingError(f"The steps of a tuning are 0, for none, or a positive whole number, not {tune}.")
    if already_degraded and degraded_by is not None:
        raise SettingError("A photo that is already degraded is not degraded again: leave out degraded_by.")
    degradation = degradation or Identity()
    distance = distance or PerceptualDistance(device=device)
    # If D has a composite, apply it to an already degraded photo as well: that leaves what is known as it is, but
    # makes a nearly grey photo exactly grey and a hole black.
    known = hasattr(degradation, "composite")
    degrade = Identity() if already_degraded and not known else degraded_by or degradation
    faces = [load_face(face, size=generator.img_resolution) for face in faces]
    with torch.no_grad():
        targets = [degrade(face.image) for face in faces]
    run = project(
        generator, torch.cat(targets), degradation=degradation, distance=distance, recipe=recipe, device=device,
        **settings,
    )  # fmt: skip
    found = [(None, one) for one in run]
    if tune and not run.stopped:
        options = {"progress": settings.get("progress", True), "dtype": settings.get("dtype", "auto"), "device": device}
        found = [  # one by one: each photo gets a generator of its own
            tuning.tune(generator, one, degradation=degradation, num_steps=tune, distance=distance, **options)
            for one in run
        ]
    return [
        Restoration(face, degradation, target, None if already_degraded else face.image, one, distance, tuned)
        for face, target, (tuned, one) in zip(faces, targets, found, strict=True)
    ]

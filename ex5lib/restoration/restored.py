"""What a restoration returns: a photo, its result, and all that is drawn, measured and written of them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ex5lib import figures
from ex5lib.degradations.known import compositor
from ex5lib.faces.alignment import AlignedFace
from ex5lib.files import replacing
from ex5lib.images.loading import save_image, save_preview
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.restoration import results
from ex5lib.restoration.enlargement import put_back
from ex5lib.restoration.metrics import compare_all
from stylegan2_ada.generator import Generator
from stylegan2_ada.readers import save_generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Restoration:
    """A photo, its result, and how good that is.

    Attributes:
        face: the aligned face; ``face.photo`` is the whole photo.
        degradation: D, as applied to the generated image, with unknown parameters as found.
        target: y [1, 3, S, S], the degraded face that the search tried to match.
        original: [1, 3, S, S], the undegraded face; None if the photo itself was degraded.
        run: the search.
        distance: d.
        tuned: the generator tuned to this photo, if any; ``run.image`` is then its image.
        others: further answers for the same photo.
        note: what speaks against the degradation, in a sentence; empty if nothing does.
        enlarged: how many times as wide and as high as the photo given ``photo`` is.
    """

    face: AlignedFace
    degradation: nn.Module
    target: Tensor
    original: Tensor | None
    run: Projection
    distance: PerceptualDistance
    tuned: Generator | None = None
    others: tuple["Restoration", ...] = ()
    note: str = ""
    enlarged: int = 1

    @property
    def stopped(self) -> bool:
        """Whether the user ended a search or a tuning early, for this answer or another."""
        tuning = self.run.settings.get("tune", {"done": 0, "num_steps": 0})
        early = self.run.stopped or tuning["done"] < tuning["num_steps"]
        return early or any(other.stopped for other in self.others)

    @property
    def result(self) -> Tensor:
        """The image that was found [1, 3, R, R], undegraded."""
        return self.run.image

    @cached_property
    def composite(self) -> Tensor | None:
        """The known part of the photo, completed by the result; None if no part is known exactly."""
        composite = compositor(self.degradation)
        return None if composite is None else composite(self.target, self.result)

    @cached_property
    def photo(self) -> Tensor | None:
        """The photo as it was given, enlarged, with the result put back; None if it was used as the aligned crop.

        If it was degraded only for the search, it is intact around the result.
        """
        if self.face.landmarks is None:
            return None
        return put_back([(self.face, self.result, self.degradation)], self.enlarged)

    @cached_property
    def images(self) -> dict[str, Tensor]:
        """The images of the crop: original, or aligned if that was degraded already; degraded; result; composite."""
        images = {"aligned" if self.original is None else "original": self.face.image}
        if self.target is not self.face.image:
            images["degraded"] = self.target
        images["result"] = self.result
        return images if self.composite is None else images | {"composite": self.composite}

    @property
    def best_image(self) -> Tensor:
        """The composite if there is one, else the result."""
        return self.result if self.composite is None else self.composite

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Numbers about the search and, if there is an original, how close start, result and composite are to it."""
        run = self.run
        search = {
            "num_steps": run.num_steps, "distance": run.distance, "latent_distance": run.latent_distance,
            "seconds": run.seconds,
        }  # fmt: skip
        if self.original is None:
            return {"search": search}
        made = {"start": run.snapshots.get(0), "result": self.result, "composite": self.composite}
        images = {f"{name} and original": image for name, image in made.items() if image is not None}
        return {"search": search} | compare_all(images, self.original, self.distance)

    def figures(self) -> dict[str, "Figure"]:
        """The plots by name: comparison, iterations, losses; answers, if there are several; alignment, if done here."""
        plots = {
            "comparison": figures.plot_images(list(self.images.values()), list(self.images)),
            "iterations": figures.plot_iterations(self.run, self.original),
            "losses": figures.plot_losses(self.run),
        }
        if self.others:
            plots["answers"] = figures.plot_answers([answer.best_image for answer in (self, *self.others)])
        return plots | ({"alignment": figures.plot_alignment(self.face)} if self.face.landmarks is not None else {})

    def save(
        self, folder: str | Path, *, request: dict | None = None, frames: Sequence[Tensor] | None = None
    ) -> list[Path]:
        """Write everything into a folder: projection, images, figures, tuned generator and ``metrics.json``.

        Files of an earlier result are removed, no others (``results.begin``).

        Args:
            folder: created if it is missing.
            request: recorded in ``metrics.json``, which is written last: a folder that has it is complete.
            frames: for an animation of the search, ``search.webp``.

        Returns:
            the paths of the files.
        """
        folder = Path(folder)
        images = self.images | {f"answer{i}": answer.best_image for i, answer in enumerate(self.others, start=2)}
        with ThreadPoolExecutor() as beside:  # comparing and writing leave Python free to draw the figures
            metrics = beside.submit(lambda: self.metrics)
            plots = self.figures()
            if self.photo is not None:
                images["photo"] = self.photo
            previews = {"before.jpg": self.face.photo, "after.jpg": images.get("photo", self.best_image)}
            names = ["projection.npz", *previews, *(f"{name}.png" for name in (*images, *plots))]
            names += ["generator.safetensors"] * (self.tuned is not None) + ["search.webp"] * (frames is not None)
            report = {
                "metrics": metrics.result(), "settings": self.run.settings, "request": request or {},
                "stopped": self.stopped, "note": self.note, "enlarged": self.enlarged,
            }  # fmt: skip
            results.begin(folder, names)  # from here on, an earlier result is gone
            writing = [beside.submit(self.run.save, folder)]  # result.png, too
            extras = {"photo": self.face.extras.enlarged(self.enlarged)}
            writing += [
                beside.submit(save_image, image, folder / f"{name}.png", extras.get(name))
                for name, image in images.items()
                if name != "result"
            ]
            writing += [beside.submit(save_preview, image, folder / name) for name, image in previews.items()]
            for name, plot in plots.items():
                figures.save_figure(plot, folder / f"{name}.png")
            if self.tuned is not None:
                with replacing(folder / "generator.safetensors") as temporary:
                    save_generator(self.tuned, temporary)
            if frames is not None:
                figures.save_animation(frames, folder / "search.webp")
            for written in writing:
                written.result()
        return [*(folder / name for name in names), results.finish(folder, names, report)]

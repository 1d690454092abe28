"""What a search returns, what it records on the way, and how a result is saved and loaded."""

import copy
import json
import math
import operator
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ex5lib.errors import DivergedError, FileError, SettingError
from ex5lib.files import replacing
from ex5lib.images.loading import save_image
from ex5lib.images.tensors import from_uint8, to_uint8

TERMS = ("loss", "distance", "color_distance", "latent_distance", "noise_regularization")
SCHEDULE = ("learning_rate", "size", "seconds")
_READ_EVERY = 10  # steps: a GPU that is asked for numbers at every one idles while the next is prepared


@dataclass(frozen=True, eq=False)
class Projection:
    """The result of ``project``, on the CPU, for one photo or for the N photos of a batch.

    ``len(run)`` is N; ``run[i]`` is the i-th photo's own result, and iterating yields all of them.

    Attributes:
        ws: [N, num_ws, w_dim], what the generator was given; of a search in styles, what they started from.
        latent: the searched variable: z [N, z_dim], w [N, 1, w_dim], w+ [N, num_ws, w_dim] or styles s [N, S].
        noise: {name: [N, 1, h, w]}.
        image: [N, 3, R, R], G(ws, noise), or G(latent, noise) of styles, undegraded.
        target: [N, 3, H, H], the degraded target.
        snapshots: {step: [N, 3, R, R]}: the image after that many steps.
        terms: {name: [num_steps, N]}: every term of the objective at every step, before that step's update; the latent
            distance as the objective weighs its layers.
        schedule: {name: [num_steps]}: learning_rate, size (px of the image compared) and seconds since the start (on a
            GPU, which is up to ten steps behind, when the step was handed to it).
        distances, latent_distances: [N], of ``image`` and ``ws``: d at the comparison size, and ‖w − w̄‖.
        settings: every setting as it was used, JSON-ready.
        seed: of the noise and the statistics of W.
        seconds: duration of the search.
        stopped: whether it ended before its last step.
    """

    ws: Tensor
    latent: Tensor
    noise: dict[str, Tensor]
    image: Tensor
    target: Tensor
    snapshots: dict[int, Tensor]
    terms: dict[str, np.ndarray]
    schedule: dict[str, np.ndarray]
    distances: np.ndarray
    latent_distances: np.ndarray
    settings: dict
    seed: int
    seconds: float
    stopped: bool = False

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.schedule["seconds"])

    @property
    def distance(self) -> float:
        """d, averaged over the batch."""
        return float(self.distances.mean())

    @property
    def latent_distance(self) -> float:
        """‖w − w̄‖, averaged over the batch."""
        return float(self.latent_distances.mean())

    @property
    def history(self) -> dict[str, np.ndarray]:
        """{name: [num_steps]}: the schedule and the terms, averaged over the batch; only the loss is weighted.

        Distances at different sizes are not comparable.
        """
        return {name: values.mean(axis=1) for name, values in self.terms.items()} | self.schedule

    def __len__(self) -> int:
        return len(self.ws)

    def __iter__(self) -> Iterator["Projection"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> "Projection":
        """The result for one photo, as a copy that does not keep the batch in memory."""
        i = range(len(self))[operator.index(i)]
        one = slice(i, i + 1)
        return Projection(
            **{name: getattr(self, name)[one].clone() for name in ("ws", "latent", "image", "target")},
            noise={name: buffer[one].clone() for name, buffer in self.noise.items()},
            snapshots={step: image[one].clone() for step, image in self.snapshots.items()},
            terms={name: values[:, one].copy() for name, values in self.terms.items()},
            distances=self.distances[one].copy(),
            latent_distances=self.latent_distances[one].copy(),
            **{name: copy.deepcopy(getattr(self, name)) for name in ("schedule", "settings")},
            **{name: getattr(self, name) for name in ("seed", "seconds", "stopped")},
        )

    def save(self, folder: str | Path) -> Path:
        """Write ``projection.npz`` and ``result.png`` into a folder; returns the path of the former.

        Latents, noise and history are kept exactly; images are kept in 8 bits.

        Raises:
            SettingError: if this is a batch of several photos.
        """
        if len(self) != 1:
            raise SettingError(f"This is a batch of {len(self)} photos: save each one, run[0].save(…) and so on.")
        folder = Path(folder)
        arrays = {"ws": self.ws.numpy(), "latent": self.latent.numpy()}
        arrays |= {name: getattr(self, name) for name in ("distances", "latent_distances")}
        arrays |= {f"noise/{name}": buffer.numpy() for name, buffer in self.noise.items()}
        arrays |= {f"snapshots/{step}": to_uint8(image) for step, image in self.snapshots.items()}
        arrays |= {f"terms/{name}": values for name, values in self.terms.items()}
        arrays |= {f"schedule/{name}": values for name, values in self.schedule.items()}
        arrays |= {"image": to_uint8(self.image), "target": to_uint8(self.target)}
        plain = {name: getattr(self, name) for name in ("settings", "seed", "seconds", "stopped")}
        with replacing(folder / "projection.npz") as temporary:
            np.savez(temporary, about=np.array(json.dumps(plain)), **arrays)
        save_image(self.image, folder / "result.png")
        return folder / "projection.npz"

    @classmethod
    def load(cls, path: str | Path) -> "Projection":
        """Read a projection back, from its folder or its .npz file.

        Raises:
            FileError: if there is no such file, or it is not a saved projection.
        """
        path = Path(path)
        path = path / "projection.npz" if path.is_dir() else path
        if not path.exists():
            raise FileError(f"There is no file {path}: name a saved projection or its folder.")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            groups: dict[str, dict] = {"noise": {}, "snapshots": {}, "terms": {}, "schedule": {}}
            for name, value in arrays.items():
                group, _, key = name.partition("/")
                if key:
                    groups[group][key] = value
            return cls(
                ws=torch.from_numpy(arrays["ws"]),
                latent=torch.from_numpy(arrays["latent"]),
                noise={name: torch.from_numpy(buffer) for name, buffer in groups["noise"].items()},
                image=from_uint8(arrays["image"]),
                target=from_uint8(arrays["target"]),
                snapshots={int(step): from_uint8(pixels) for step, pixels in groups["snapshots"].items()},
                terms={name: groups["terms"][name] for name in TERMS},
                schedule={name: groups["schedule"][name] for name in SCHEDULE},
                distances=arrays["distances"],
                latent_distances=arrays["latent_distances"],
                **json.loads(str(arrays["about"])),
            )
        except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise FileError(f"{path} is not a saved projection, or is damaged ({error}).") from None


class Best:
    """The best point that a stage has evaluated for each photo: all that is needed to generate its image again.

    Attributes:
        score: [N].
        latent, noise: at that point.
    """

    def __init__(self, latent: Tensor, noise: dict[str, Tensor]):
        self.score = latent.new_full((len(latent),), math.inf)
        self.latent = latent.detach().clone()
        self.noise = {name: buffer.detach().clone() for name, buffer in noise.items()}

    @torch.no_grad()
    def update(self, score: Tensor, latent: Tensor, noise: dict[str, Tensor]) -> None:
        """Replace the point of each photo whose score [N] is lower than before; of the noise, what is searched."""
        better = score < self.score
        noise = {name: where(better, buffer, self.noise[name]) for name, buffer in noise.items()}
        latent, score = where(better, latent, self.latent), where(better, score, self.score)
        self.score, self.latent, self.noise = score, latent, self.noise | noise  # at once: Ctrl-C may come any time


def where(photos: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Choose between two tensors [N, …], photo by photo, by booleans [N]."""
    return torch.where(photos.view(-1, *[1] * (yes.ndim - 1)), yes, no)


class StopSearch(Exception):
    """Raised when a callback ends a search early."""


class Recorder:
    """Records the history of a search, shows its progress, and calls the caller's callback.

    Args:
        num_steps: of the whole search.
        began: ``time.perf_counter()`` at its start.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of the steps.
        progress: whether to show a progress bar.
        callback: as in ``project``.

    Attributes:
        snapshots: {step: [N, 3, R, R]}.
    """

    def __init__(
        self,
        num_steps: int,
        began: float,
        *,
        snapshots: Iterable[int] | None = None,
        progress: bool = True,
        callback: Callable[[dict], bool | None] | None = None,
    ):
        self.num_steps = num_steps
        self.snapshots: dict[int, Tensor] = {}
        shares = (0, 0.1, 0.2, 0.4, 1)
        self._marks = {round(num_steps * share) for share in shares} if snapshots is None else set(snapshots)
        self._rows: list[tuple[Tensor, tuple]] = []  # one entry a step, so that an interrupt leaves none half-noted
        self._read: list[Tensor] = []  # the terms of as many steps as have been brought to the host
        self._began = began
        self._callback = callback
        self._bar = None
        if progress:
            from tqdm.auto import tqdm  # imported here: without a bar a search needs no more than PyTorch

            self._bar = tqdm(total=num_steps, desc="projecting", unit="step")

    @property
    def seconds(self) -> float:
        """Seconds since the search began."""
        return time.perf_counter() - self._began

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self._rows)

    def wants_snapshot(self) -> bool:
        """Whether to keep the current image."""
        return self.done in self._marks

    def keep_snapshot(self, image: Tensor) -> None:
        """Keep the image after ``done`` steps."""
        self.snapshots[self.done] = image.detach().cpu().clone()

    def step(
        self, terms: dict[str, Tensor], rate: float, *, image: Tensor, latent: Tensor, noise: dict[str, Tensor]
    ) -> None:
        """Record one step: its terms, [N] each, its learning rate, and the point that was evaluated.

        The terms stay on their device. From a GPU they come every ten steps, unless a callback wants them.

        Raises:
            DivergedError: if the loss is NaN or infinite, or was at a step since they last came.
            StopSearch: if the callback returns True.
        """
        values = torch.stack([terms[name].detach() for name in TERMS])  # [terms, N]
        schedule = {"learning_rate": rate, "size": image.shape[-1], "seconds": self.seconds}
        self._rows.append((values, tuple(schedule.values())))
        if self._bar is not None:
            self._bar.update()
        if values.device.type == "cpu" or self._callback is not None or self.done % _READ_EVERY == 0:
            means = dict(zip(TERMS, self._latest().mean(dim=1).tolist(), strict=True))
            if self._bar is not None:
                self._bar.set_postfix(distance=f"{means['distance']:.3f}", px=schedule["size"], refresh=False)
        if self._callback is not None:
            report = {"step": self.done - 1, "num_steps": self.num_steps, "image": image.detach()}
            report |= {"latent": latent.detach(), "noise": {name: buffer.detach() for name, buffer in noise.items()}}
            if self._callback(report | means | schedule) is True:
                raise StopSearch

    def _latest(self) -> Tensor:
        """The terms of the latest step, [terms, N], on the host, after those before it: in one transfer."""
        first = len(self._read)
        steps = torch.stack([values for values, _ in self._rows[first:]]).cpu()  # [steps, terms, N]
        for step, values in enumerate(steps, start=first):
            check_finite(values[0], step)
        self._read += steps
        return steps[-1]

    def close(self) -> None:
        """Close the progress bar, which stays visible."""
        if self._bar is not None:
            self._bar.close()

    def result(
        self,
        *,
        ws: Tensor,
        latent: Tensor,
        noise: dict[str, Tensor],
        image: Tensor,
        target: Tensor,
        terms: dict[str, Tensor],
        latent_distances: Tensor,
        **about,
    ) -> Projection:
        """The Projection of the final point, with the ``terms`` and ‖w − w̄‖ there; ``about`` holds its plain fields.

        Raises:
            DivergedError: if the loss at that point is NaN or infinite.
        """
        if len(self._read) < self.done:
            self._latest()
        check_finite(terms["loss"].cpu(), self.done)
        if self.wants_snapshot() or about["stopped"]:
            self.keep_snapshot(image)
        rows = np.array([values.tolist() for values in self._read]).reshape(-1, len(TERMS), len(ws))
        schedule = np.array([numbers for _, numbers in self._rows]).reshape(-1, len(SCHEDULE))
        return Projection(
            ws=ws.detach().cpu().clone(),
            latent=latent.detach().cpu().clone(),
            noise={name: buffer.detach().cpu().clone() for name, buffer in noise.items()},
            image=image.detach().cpu().clone(),
            target=target.detach().cpu().clone(),
            snapshots=self.snapshots,
            terms={name: rows[:, i] for i, name in enumerate(TERMS)},
            schedule={name: schedule[:, i] for i, name in enumerate(SCHEDULE)},
            distances=np.array(terms["distance"].tolist()),
            latent_distances=np.array(latent_distances.tolist()),
            seconds=self.seconds,
            **about,
        )


def check_finite(losses: Tensor, step: int) -> None:
    """Raise DivergedError, naming the photo and the step, unless every loss [N] is finite."""
    for i, loss in enumerate(losses.tolist()):
        if not math.isfinite(loss):
            photo = f" of photo {i}" if len(losses) > 1 else ""
            raise DivergedError(
                f"The loss{photo} became {loss} at step {step}: lower the learning rate or the weights."
            )

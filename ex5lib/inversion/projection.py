"""What a search returns, and how that is saved and loaded."""

import copy
import json
import operator
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ex5lib.errors import FileError, SettingError
from ex5lib.files import replacing
from ex5lib.images.loading import save_image
from ex5lib.images.tensors import from_uint8, to_uint8

TERMS = ("loss", "score", "distance", "color_distance", "identity_distance", "latent_distance", "noise_regularization")
SCHEDULE = ("learning_rate", "size", "face", "seconds")


@dataclass(frozen=True, eq=False)
class Projection:
    """The result of ``project``, on the CPU, for one photo or for the N photos of a batch.

    ``len(run)`` is N; ``run[i]`` is the i-th photo's own result, and iterating yields all of them.

    Attributes:
        ws: [N, num_ws, w_dim], what the generator was given.
        latent: the searched variable: z [N, z_dim], w [N, 1, w_dim] or w+ [N, num_ws, w_dim].
        noise: {name: [N, 1, h, w]}.
        image: [N, 3, R, R], G(ws, noise), undegraded.
        target: [N, 3, H, H], the degraded target.
        snapshots: {step: [N, 3, R, R]}: the image after that many steps.
        terms: {name: [num_steps, N]}: every term of the objective (``losses.Objective``) at every step, before that
            step's update.
        schedule: {name: [num_steps]}: learning_rate, size (px of the image), face (1: the face alone was compared) and
            seconds since the start (on a GPU, which runs up to ten steps behind, until the step was queued).
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

        Distances at different sizes are not comparable, nor those of the face and of the whole.
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
            np.savez(temporary, about=np.array(json.dumps(plain)), **arrays)  # type: ignore[arg-type]  # all are arrays
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
            about = json.loads(str(arrays["about"]))
            terms, schedule = groups["terms"], groups["schedule"]
            if "score" not in terms:  # saved by version 0.2, which left it out
                terms["score"] = terms["loss"] - about["settings"]["noise_weight"] * terms["noise_regularization"]
            if "face" not in schedule:  # saved before there were looks at the face, and an identity term
                schedule["face"] = np.zeros_like(schedule["seconds"])
                terms["identity_distance"] = np.zeros_like(terms["loss"])
            return cls(
                ws=torch.from_numpy(arrays["ws"]),
                latent=torch.from_numpy(arrays["latent"]),
                noise={name: torch.from_numpy(buffer) for name, buffer in groups["noise"].items()},
                image=from_uint8(arrays["image"]),
                target=from_uint8(arrays["target"]),
                snapshots={int(step): from_uint8(pixels) for step, pixels in groups["snapshots"].items()},
                terms=terms,
                schedule={name: schedule[name] for name in SCHEDULE},
                distances=arrays["distances"],
                latent_distances=arrays["latent_distances"],
                **about,
            )
        except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise FileError(f"{path} is not a saved projection, or is damaged ({error}).") from None

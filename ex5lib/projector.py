"""The search: gradient descent on the latent and the noise buffers of a frozen generator.

    L(w, n) = d(D(G(w, n)), y) + λ_w · ‖w − w̄‖₂ + λ_n · R(n)

The recipe is that of Karras et al. 2020 (StyleGAN2, arXiv 1912.04958, appendix D), with the degradation D applied to
the generated image before it is compared with the degraded target y.
"""

import copy
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ex5lib.devices import memory_errors_in_words, pick_device
from ex5lib.errors import (
    DivergedError,
    MissingFileError,
    ProjectionFileError,
    SettingError,
    UnknownNameError,
)
from ex5lib.files import replacing
from ex5lib.images import check_image, from_uint8, resize_area, save_image, to_uint8
from ex5lib.latents import SPACES, LatentStatistics, class_labels, latent_statistics
from ex5lib.losses import PerceptualDistance, latent_distance, noise_regularization, renormalize_noise
from stylegan2_ada.networks import Generator

# Arguments that a saved projection cannot hold as they are; what matters of them is recorded at the end.
_NOT_SETTINGS = {
    "G",
    "target",
    "degradation",
    "snapshots",
    "start",
    "distance",
    "device",
    "progress",
    "callback",
}
HISTORY_TERMS = ("loss", "distance", "latent_distance", "noise_regularization", "learning_rate", "seconds")


@dataclass
class Projection:
    """The result of ``project``.

    Attributes:
        ws: [1, num_ws, w_dim], what the generator was given.
        latent: the optimised variable: z [1, z_dim], w [1, 1, w_dim] or w+ [1, num_ws, w_dim].
        noise: {name: [1, 1, h, w]}.
        image: [1, 3, R, R], G(ws, noise), undegraded.
        target: [1, 3, H, W], the degraded target as it was given.
        snapshots: {step: image}: what the search had after so many steps.
        history: {term: [steps]}, each term at every step, before that step's update: loss, distance,
            latent_distance and noise_regularization (both unweighted), learning_rate, and seconds since the start.
        settings: every keyword of the run, and the generator's size.
        distance: d of ``image``.
        latent_distance: ‖w − w̄‖ of ``ws``.
        seed: of the noise and of the statistics of W.
        seconds: duration of the run.
        stopped: whether the run was ended before its last step.
    """

    ws: Tensor
    latent: Tensor
    noise: dict[str, Tensor]
    image: Tensor
    target: Tensor
    snapshots: dict[int, Tensor]
    history: dict[str, np.ndarray]
    settings: dict
    distance: float
    latent_distance: float
    seed: int
    seconds: float
    stopped: bool = False

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.history["loss"])

    def save(self, folder: str | Path) -> Path:
        """Write ``projection.npz`` and ``result.png`` into a folder; returns the path of the former.

        Latents, noise and history are kept exactly; images are kept in 8 bits.
        """
        folder = Path(folder)
        arrays = {"ws": self.ws.numpy(), "latent": self.latent.numpy()}
        arrays |= {f"noise/{name}": buffer.numpy() for name, buffer in self.noise.items()}
        arrays |= {f"snapshot/{step}": to_uint8(image) for step, image in self.snapshots.items()}
        arrays |= {f"history/{term}": values for term, values in self.history.items()}
        arrays |= {"image": to_uint8(self.image), "target": to_uint8(self.target)}
        plain = ("settings", "distance", "latent_distance", "seed", "seconds", "stopped")
        arrays["about"] = np.array(json.dumps({name: getattr(self, name) for name in plain}))
        with replacing(folder / "projection.npz") as temporary:
            np.savez(temporary, **arrays)
        save_image(self.image, folder / "result.png")
        return folder / "projection.npz"

    @classmethod
    def load(cls, path: str | Path) -> "Projection":
        """Read a projection back, from its folder or its .npz file.

        Raises:
            MissingFileError: if there is no such file.
            ProjectionFileError: if it is not a saved projection.
        """
        path = Path(path)
        path = path / "projection.npz" if path.is_dir() else path
        if not path.exists():
            raise MissingFileError(f"There is no file {path}: name a saved projection or its folder.")
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            groups: dict[str, dict] = {"noise": {}, "snapshot": {}, "history": {}}
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
                snapshots={int(step): from_uint8(pixels) for step, pixels in groups["snapshot"].items()},
                history=groups["history"],
                **json.loads(str(arrays["about"])),
            )
        except (KeyError, ValueError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise ProjectionFileError(f"{path} is not a saved projection, or is damaged ({error}).") from None


@dataclass
class _Point:
    """A point that the search has evaluated: enough to make its image again.

    ``score`` is d + λ_w ‖w − w̄‖, what one sees of the objective: early on λ_n R(n) exceeds it ten thousand times.
    """

    score: float
    latent: Tensor
    noise: dict[str, Tensor]


def schedule(t: float, *, rampup: float = 0.05, rampdown: float = 0.25) -> float:
    """The learning rate's factor at progress t in [0, 1): a linear rise, a plateau, half a cosine down to 0."""
    fall = min(1.0, (1 - t) / rampdown) if rampdown else 1.0
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * (min(1.0, t / rampup) if rampup else 1.0)


@memory_errors_in_words()
def project(
    G: Generator,
    target: Tensor,
    *,
    degradation: nn.Module | None = None,
    steps: int = 1000,
    space: str = "w",
    latent_weight: float = 1e-3,
    noise_weight: float = 1e5,
    learning_rate: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.999),
    rampup: float = 0.05,
    rampdown: float = 0.25,
    initial_noise: float | None = None,
    noise_ramp: float = 0.75,
    statistics_samples: int = 10_000,
    distribution: str = "normal",
    class_index: int | None = None,
    comparison_size: int = 256,
    snapshots: Iterable[int] | None = None,
    seed: int = 0,
    start: "Projection | Tensor | None" = None,
    distance: PerceptualDistance | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
) -> Projection:
    """Search the latent whose image, degraded in the same way, looks like the target.

    The defaults are the published recipe. The generator is never written to. Ctrl-C ends the search and returns the
    best result so far.

    Args:
        G: the generator.
        target: y [1, 3, H, H], square, already degraded.
        degradation: D; any module from images to images. It is applied to the generated image at the comparison
            size; None means the identity.
        steps: T.
        space: "w" (one w for all layers), "w+" (one for each) or "z" (w = mapping(z)).
        latent_weight: λ_w.
        noise_weight: λ_n.
        learning_rate: Adam's peak rate.
        betas: Adam's β₁ and β₂.
        rampup, rampdown: shares of the steps over which the rate rises linearly and falls as a cosine.
        initial_noise: standard deviation, in units of σ_w, of the Gaussian noise added to w at the first step; None
            means the published 0.05, or 0 where a Projection is continued.
        noise_ramp: share of the steps after which no noise is added to w any more; it falls as a square until then.
        statistics_samples: number of z behind w̄ and σ_w.
        distribution: of those z: "normal", as the generator was trained, or "uniform" on [0, 1].
        class_index: class of a class-conditional generator; None averages w̄ over all, and does for w and w+ only.
        comparison_size: size in px at which images are compared; larger images are averaged down to it.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of the steps.
        seed: of the noise buffers, the noise on w and the statistics.
        start: where to begin instead of w̄ and random noise: a Projection to continue, or a latent: ws
            [1, num_ws, w_dim], w [1, w_dim], or in space "z" z [1, z_dim].
        distance: d; by default the project's VGG16 distance.
        device: "auto", "cuda", "mps", "cpu" or a torch.device; the generator is copied there if it is elsewhere.
        dtype: torch.float32, or torch.bfloat16 to run in autocast. A StyleGAN2 keeps its own precision, which its
            ``num_fp16_res`` sets.
        progress: whether to show a progress bar.
        callback: called after every step with {"step", "steps", "image", "latent", "loss", "distance",
            "latent_distance", "noise_regularization", "learning_rate", "seconds"}; returning True ends the search.

    Returns:
        a Projection, on the CPU.

    Raises:
        SettingError: if a number is out of range or the start does not fit.
        UnknownNameError: for an unknown space or distribution.
        ImageShapeError: if the target is not one square image tensor.
        DeviceError: if the machine lacks the device.
        DivergedError: if the loss becomes NaN or infinite.
        OutOfMemoryError: if the device's memory is too small.
    """
    settings = {name: value for name, value in locals().items() if name not in _NOT_SETTINGS}
    began = time.perf_counter()
    _check(settings, target)
    place = pick_device(device)
    G = _on(place, G)
    degradation = _on(place, degradation or nn.Identity())
    distance = _on(place, distance or PerceptualDistance(device=place))
    size = min(comparison_size, G.img_resolution, target.shape[3])
    if size < 16:
        raise SettingError(f"Images are compared at 16 px or more, not {size}: VGG16 halves them four times.")
    marks = {round(steps * share) for share in (0, 0.1, 0.2, 0.4, 1)} if snapshots is None else set(snapshots)
    initial_noise = (0.0 if isinstance(start, Projection) else 0.05) if initial_noise is None else initial_noise

    statistics = latent_statistics(
        G, num_samples=statistics_samples, seed=seed, distribution=distribution, class_index=class_index
    )
    random = torch.Generator().manual_seed(seed)  # on the CPU, so that every device draws the same noise
    if space == "z" and G.c_dim and class_index is None:
        raise SettingError(f"A search in z of a class-conditional generator needs a class, 0 to {G.c_dim - 1}.")
    label = class_labels(G, 1, class_index, seed=seed)
    latent = _initial_latent(G, start, space, statistics).requires_grad_()
    noise = {name: torch.randn(buffer.shape, generator=random) for name, buffer in G.noise_buffers().items()}
    if isinstance(start, Projection):
        if {name: b.shape for name, b in noise.items()} != {name: b.shape for name, b in start.noise.items()}:
            raise SettingError("The start is a projection by another generator: its noise buffers do not fit.")
        noise = {name: start.noise[name].clone() for name in noise}
    noise = {name: buffer.to(place).requires_grad_() for name, buffer in noise.items()}
    optimizer = torch.optim.Adam([latent, *noise.values()], lr=learning_rate, betas=betas)
    scale = statistics.z_std if space == "z" else statistics.w_std

    def to_ws(latent: Tensor) -> Tensor:
        return G.mapping(latent, label) if space == "z" else latent.expand(-1, G.num_ws, -1)

    def evaluate(latent: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The image [1, 3, R, R] of a latent, and the terms of the objective there."""
        ws = to_ws(latent)
        with torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
            image = G.synthesis(ws, noise=noise)
            d = distance(degradation(resize_area(image, size)), target_features)
        terms = {
            "distance": d.sum().float(),
            "latent_distance": latent_distance(ws, statistics.w_avg).sum(),
            "noise_regularization": noise_regularization(noise).sum().to(place),
        }
        loss = terms["distance"] + latent_weight * terms["latent_distance"]
        return image.float(), {"loss": loss + noise_weight * terms["noise_regularization"], **terms}

    history: dict[str, list[float]] = {term: [] for term in HISTORY_TERMS}
    kept: dict[int, Tensor] = {}
    best, stopped = _Point(math.inf, latent.detach().clone(), _copied(noise)), False
    bar = tqdm(total=steps, desc="projecting", unit="step", disable=not progress)
    with torch.no_grad(), torch.autocast(place.type, dtype, enabled=dtype != torch.float32):
        target_features = distance.features(resize_area(target.to(place), size))
    try:
        for step in range(steps):
            t = step / steps
            if step in marks:
                with torch.no_grad():
                    kept[step] = evaluate(latent)[0].cpu()
            rate = learning_rate * schedule(t, rampup=rampup, rampdown=rampdown)
            for group in optimizer.param_groups:
                group["lr"] = rate
            jitter = initial_noise * scale * max(0.0, 1 - t / noise_ramp) ** 2
            point = latent + jitter * torch.randn(latent.shape, generator=random).to(place)
            image, terms = evaluate(point)
            numbers = dict(zip(terms, torch.stack(list(terms.values())).tolist(), strict=True))
            _check_finite(numbers["loss"], step)
            if (score := numbers["distance"] + latent_weight * numbers["latent_distance"]) < best.score:
                best = _Point(score, point.detach().clone(), _copied(noise))
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            optimizer.step()
            renormalize_noise(noise)

            numbers |= {"learning_rate": rate, "seconds": time.perf_counter() - began}
            for term in HISTORY_TERMS:
                history[term].append(numbers[term])
            bar.update()
            bar.set_postfix(distance=f"{numbers['distance']:.3f}", refresh=False)
            if callback is not None:
                report = {"step": step, "steps": steps, "image": image.detach(), "latent": point.detach(), **numbers}
                if callback(report) is True:
                    stopped = True
                    break
    except KeyboardInterrupt:
        stopped = True
    finally:
        bar.close()

    with torch.no_grad():
        image, terms = evaluate(latent)
        score = (terms["distance"] + latent_weight * terms["latent_distance"]).item()
        if stopped and (best.score < score or math.isnan(score)):
            latent, noise = best.latent, best.noise
            image, terms = evaluate(latent)
        _check_finite(terms["loss"].item(), len(history["loss"]))
        ws = to_ws(latent)
    done = len(history["loss"])
    if done in marks or stopped:
        kept[done] = image.cpu()
    settings |= {
        "initial_noise": initial_noise,
        "degradation": repr(degradation),
        "distance": distance.kind,
        "device": str(place),
        "dtype": str(dtype).removeprefix("torch."),
        "img_resolution": G.img_resolution,
    }
    return Projection(
        ws=ws.detach().cpu().clone(),
        latent=latent.detach().cpu().clone(),
        noise={name: buffer.detach().cpu() for name, buffer in noise.items()},
        image=image.cpu(),
        target=target.detach().cpu(),
        snapshots=kept,
        history={term: np.array(values) for term, values in history.items()},
        settings=settings,
        distance=terms["distance"].item(),
        latent_distance=terms["latent_distance"].item(),
        seed=seed,
        seconds=time.perf_counter() - began,
        stopped=stopped,
    )


def _on(place: torch.device, module: nn.Module) -> nn.Module:
    """The module itself if it is there already, else a copy, so that the caller's stays where it is."""
    there = all(tensor.device == place for tensor in module.state_dict().values())
    return module if there else copy.deepcopy(module).to(place)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise DivergedError(f"The loss became {loss} at step {step}: lower the learning rate or the weights.")


def _copied(noise: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in noise.items()}


def _check(settings: dict, target: Tensor) -> None:
    if settings["space"] not in SPACES:
        raise UnknownNameError("latent space", settings["space"], SPACES)
    if settings["steps"] < 1:
        raise SettingError(f"A search needs at least 1 step, not {settings['steps']}.")
    if not all(0 <= beta < 1 for beta in settings["betas"]):
        raise SettingError(f"Adam's β₁ and β₂ lie in [0, 1), unlike {settings['betas']}.")
    if settings["dtype"] not in (torch.float32, torch.bfloat16):
        raise SettingError(f"A search runs in torch.float32 or torch.bfloat16, not {settings['dtype']}.")
    if settings["noise_ramp"] <= 0:
        raise SettingError(f"noise_ramp is a positive share of the steps, not {settings['noise_ramp']}.")
    for name in ("latent_weight", "noise_weight", "learning_rate", "rampup", "rampdown", "initial_noise"):
        value = settings[name]
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise SettingError(f"{name} is a number from 0 up, not {value}.")
    check_image(target, batch=1)
    if target.shape[2] != target.shape[3]:
        height, width = target.shape[2:]
        raise SettingError(f"The target is {width} × {height} px, but it must be square, like an aligned face.")


def _initial_latent(
    G: Generator, start: "Projection | Tensor | None", space: str, statistics: LatentStatistics
) -> Tensor:
    """The optimisation's variable: z [1, z_dim], w [1, 1, w_dim] or w+ [1, num_ws, w_dim]."""
    if start is None:
        latent = statistics.central_z if space == "z" else statistics.w_avg.view(1, 1, -1)
    elif isinstance(start, Projection):
        latent = start.latent if start.settings["space"] == space or space == "z" else start.ws
    else:
        latent = start
    latent = latent.detach().to(G.w_avg).clone()
    if space == "z":
        wanted = [1, G.z_dim]
    else:
        latent = latent.view(1, -1, latent.shape[-1])
        if space == "w+":
            latent = latent.expand(-1, G.num_ws, -1) if latent.shape[1] == 1 else latent
        elif latent.shape[1] > 1 and (latent == latent[:, :1]).all():
            latent = latent[:, :1]  # the same w in every layer, as the mapping network gives it
        wanted = [1, G.num_ws if space == "w+" else 1, G.w_dim]
    if list(latent.shape) != wanted:
        found = list(latent.shape)
        raise SettingError(f"A start in {space} must have the shape {wanted}, but this one has {found}: choose w+?")
    return latent.clone()

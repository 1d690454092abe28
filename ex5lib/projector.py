"""The search: gradient descent on the latent and the noise buffers of a frozen generator.

    L(w, n) = d(D(G(w, n)), y) + λ_w · ‖w − w̄‖₂ + λ_n · R(n)

The recipe is that of Karras et al. 2020 (StyleGAN2, arXiv 1912.04958, appendix D), with the degradation D applied to
the generated image before it is compared with the degraded target y.
"""

import copy
import inspect
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ex5lib.devices import check_compiler, keep_freed_memory, memory_errors_in_words, pick_device
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
from ex5lib.recipes import RECIPES, Stage, scaled
from ex5lib.warm_start import load_warm_start
from stylegan2_ada.networks import Generator

# Arguments that a saved projection cannot hold as they are; what matters of them is recorded at the end.
_NOT_SETTINGS = {
    "G",
    "target",
    "degradation",
    "recipe",
    "snapshots",
    "start",
    "distance",
    "device",
    "progress",
    "callback",
}
STARTS = ("mean", "warm")
TERMS = ("loss", "distance", "latent_distance", "noise_regularization")
HISTORY_TERMS = (*TERMS, "learning_rate", "size", "seconds")
_STAGE_FIELDS = ("learning_rate", "rampup", "rampdown", "initial_noise", "noise_ramp")


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
            latent_distance and noise_regularization (both unweighted), learning_rate, size in px of the image that
            was compared, and seconds since the start. Distances at different sizes are not comparable.
        settings: every keyword of the run, its stages, and the generator's size.
        distance: d of ``image``, at the comparison size.
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
class _Best:
    """For every photo the best point that a stage has evaluated: enough to make its image again.

    The score is d + λ_w ‖w − w̄‖, what one sees of the objective: early on λ_n R(n) exceeds it ten thousand times.
    """

    score: Tensor
    latent: Tensor
    noise: dict[str, Tensor]

    @classmethod
    def none_yet(cls, latent: Tensor, noise: dict[str, Tensor]) -> "_Best":
        return cls(latent.new_full((len(latent),), math.inf), latent.detach().clone(), _copied(noise))

    def update(self, score: Tensor, latent: Tensor, noise: dict[str, Tensor]) -> None:
        better = score < self.score
        if better.any():
            self.score = torch.where(better, score, self.score)
            self.latent[better] = latent[better]
            for name, buffer in noise.items():
                self.noise[name][better] = buffer.detach()[better]


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
    recipe: str | Sequence[Stage] = "karras2020",
    steps: int | None = None,
    space: str | None = None,
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
    start: "Projection | Sequence[Projection] | Tensor | str | None" = None,
    distance: PerceptualDistance | None = None,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
) -> "Projection | list[Projection]":
    """Search the latent whose image, degraded in the same way, looks like the target.

    The defaults are the published recipe. The generator is never written to. Ctrl-C ends the search and returns the
    best result so far.

    Args:
        G: the generator.
        target: y [N, 3, H, H], square, already degraded. Several photos are searched at once, each with a latent,
            noise and history of its own, and each as it would be alone.
        degradation: D; any module from images to images. It is applied to the generated image at the comparison
            size; None means the identity.
        recipe: "karras2020", the published one; "fast", coarse to fine from a warm start (``recipes.fast``);
            "smoke", a few steps for tests; or stages of one's own. All but the first compare images clamped to
            [−1, 1], as they are seen: a contrast beyond white would bring d down. Stages have rates and noise on w
            of their own.
        steps: T, in all; None means 1000 of karras2020, or the stages' own.
        space: "w" (one w for all layers), "w+" (one for each) or "z" (w = mapping(z)); None means "w" for
            karras2020, and the recipe's choice for others.
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
        comparison_size: size in px at which images are compared; larger images are averaged down to it, and a
            preview is compared at its own size.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of the steps.
        seed: of the noise buffers, the noise on w and the statistics.
        start: where to begin, with random noise: "mean", w̄; "warm", the regressed w (``WarmStart``) or w̄,
            whichever image is nearer; a latent: ws [1, num_ws, w_dim], w [1, w_dim], or in space "z" z [1, z_dim].
            Or a Projection, or one per photo, to continue. None means "mean" for karras2020, else "warm".
        distance: d; by default the project's VGG16 distance.
        device: "auto", "cuda", "mps", "cpu" or a torch.device; the generator is copied there if it is elsewhere.
        dtype: torch.float32, or torch.bfloat16 to run in autocast. A StyleGAN2 keeps its own precision, which its
            ``num_fp16_res`` sets.
        compile: whether to run the networks through ``torch.compile``. It costs up to a minute once and then saves
            about a quarter of every step on a CPU; sums are rounded otherwise, so results differ a little.
        progress: whether to show a progress bar.
        callback: called after every step with {"step", "steps", "image", "latent", "noise"} of all photos, and numbers
            "loss", "distance", "latent_distance", "noise_regularization", "learning_rate", "size", "seconds" (means
            over the photos); returning True ends the search.

    Returns:
        a Projection, on the CPU; of a batch of several photos a list of them.

    Raises:
        SettingError: if a number is out of range or the start does not fit.
        UnknownNameError: for an unknown recipe, space or distribution.
        ImageShapeError: if the target is not a batch of image tensors.
        DeviceError: if the machine lacks the device.
        DivergedError: if the loss becomes NaN or infinite.
        OutOfMemoryError: if the device's memory is too small.
        CompilerError: if the networks are to be compiled and there is no C++ compiler.
    """
    settings = {name: value for name, value in locals().items() if name not in _NOT_SETTINGS}
    began = time.perf_counter()
    _check(settings, target)
    continued = isinstance(start, Projection) or (isinstance(start, Sequence) and not isinstance(start, str))
    place = pick_device(device)
    keep_freed_memory()
    G = _on(place, G)
    degradation = _on(place, degradation or nn.Identity())
    distance = _on(place, distance or PerceptualDistance(device=place))
    target = target.detach()
    if recipe == "karras2020":
        settings["initial_noise"] = (0.0 if continued else 0.05) if initial_noise is None else initial_noise
        of_stage = {name: settings[name] for name in _STAGE_FIELDS}
        stages = [Stage(1000 if steps is None else steps, None, space or "w", **of_stage)]
    else:
        stages = _staged(recipe, settings, G, degradation)
    smallest = min(min(stage.size or G.img_resolution for stage in stages), comparison_size, target.shape[3])
    if smallest < 16:
        raise SettingError(f"Images are compared at 16 px or more, not {smallest}: VGG16 halves them four times.")
    total = sum(stage.steps for stage in stages)
    marks = {round(total * share) for share in (0, 0.1, 0.2, 0.4, 1)} if snapshots is None else set(snapshots)
    label = class_labels(G, 1, class_index, seed=seed)
    if stages[0].space == "z" and G.c_dim and class_index is None:
        raise SettingError(f"A search in z of a class-conditional generator needs a class, 0 to {G.c_dim - 1}.")

    if compile:
        check_compiler(place)
    problem = _Problem(
        G=G,
        synthesis=torch.compile(G.synthesis) if compile else G.synthesis,
        target=target.to(place),
        degradation=degradation,
        distance=distance,
        measure=torch.compile(distance) if compile else distance,
        statistics=latent_statistics(
            G, num_samples=statistics_samples, seed=seed, distribution=distribution, class_index=class_index
        ),
        label=label,
        latent_weight=latent_weight,
        noise_weight=noise_weight,
        comparison_size=comparison_size,
        autocast={"device_type": place.type, "dtype": dtype, "enabled": dtype != torch.float32},
        clamp=recipe != "karras2020",
    )
    random = torch.Generator().manual_seed(seed)  # on the CPU, so that every device draws the same noise
    noise = _initial_noise(G, start if continued else None, len(target), random)
    noise = {name: buffer.to(place).requires_grad_() for name, buffer in noise.items()}
    if start is None:
        start = "mean" if recipe == "karras2020" else "warm"
    if isinstance(start, str) and start not in STARTS:
        raise UnknownNameError("start", start, STARTS)
    if isinstance(start, str) and start == "warm" and stages[0].space != "z":
        start = problem.nearer_of_mean_and_regression(noise, stages[0])
    latent = _initial_latent(
        G, None if isinstance(start, str) else start, stages[0].space, problem.statistics, len(target)
    )

    history: dict[str, list] = {term: [] for term in HISTORY_TERMS}
    kept: dict[int, Tensor] = {}
    done, stopped, stage, best = 0, False, stages[0], _Best.none_yet(latent, noise)
    bar = tqdm(total=total, desc="projecting", unit="step", disable=not progress)
    try:
        for stage in stages:
            latent = _widened(latent, stage.space, G.num_ws).requires_grad_()
            best = _Best.none_yet(latent, noise)
            optimizer = torch.optim.Adam([latent, *noise.values()], betas=betas)
            for step in range(stage.steps):
                t = step / stage.steps
                if done in marks:
                    with torch.no_grad():
                        kept[done] = problem.image(latent, noise, stage.space).cpu()
                rate = stage.learning_rate * schedule(t, rampup=stage.rampup, rampdown=stage.rampdown)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                jitter = stage.initial_noise * problem.scale(stage.space) * max(0.0, 1 - t / stage.noise_ramp) ** 2
                point = latent + jitter * torch.randn(latent[:1].shape, generator=random).to(place)
                image, terms = problem.evaluate(point, noise, stage.space, stage.size)
                values = torch.stack([terms[term].detach() for term in TERMS]).cpu()  # [terms, N], one transfer
                _check_finite(values[0], done)
                numbers = dict(zip(TERMS, values, strict=True))
                best.update(problem.score(terms).detach(), point.detach(), noise)
                optimizer.zero_grad(set_to_none=True)
                terms["loss"].sum().backward()
                optimizer.step()
                renormalize_noise({name: buffer for name, buffer in noise.items() if buffer.grad is not None})

                done += 1
                common = {"learning_rate": rate, "size": image.shape[-1], "seconds": time.perf_counter() - began}
                for term, value in (numbers | common).items():
                    history[term].append(value)
                means = {term: value.mean().item() for term, value in numbers.items()}
                bar.update()
                bar.set_postfix(distance=f"{means['distance']:.3f}", px=common["size"], refresh=False)
                if callback is not None:
                    report = {"step": done - 1, "steps": total, "image": image.detach(), "latent": point.detach()}
                    report["noise"] = {name: buffer.detach() for name, buffer in noise.items()}
                    if callback(report | means | common) is True:
                        stopped = True
                        break
            if stopped:
                break
    except KeyboardInterrupt:
        stopped = True
    finally:
        bar.close()

    with torch.no_grad():
        image, terms = problem.evaluate(latent, noise, stage.space)
        if stopped and best.score.isfinite().any():
            best_image, best_terms = problem.evaluate(best.latent, best.noise, stage.space)
            better = ~(problem.score(terms) <= problem.score(best_terms))  # also where the last step diverged
            latent[better], image[better] = best.latent[better], best_image[better]
            for name, buffer in noise.items():
                buffer[better] = best.noise[name][better]
            terms = {term: torch.where(better, best_terms[term], value) for term, value in terms.items()}
        _check_finite(terms["loss"].cpu(), done)
        ws = problem.ws(latent, stage.space)
    if done in marks or stopped:
        kept[done] = image.cpu()
    settings |= {
        "recipe": recipe if isinstance(recipe, str) else "stages",
        "steps": total,
        "space": stage.space,
        "stages": [asdict(stage) for stage in stages],
        "degradation": repr(degradation),
        "distance": distance.kind,
        "device": str(place),
        "dtype": str(dtype).removeprefix("torch."),
        "img_resolution": G.img_resolution,
    }
    seconds = time.perf_counter() - began

    def of_photo(i: int) -> Projection:
        one = slice(i, i + 1)
        return Projection(
            ws=ws[one].detach().cpu().clone(),
            latent=latent[one].detach().cpu().clone(),
            noise={name: buffer[one].detach().cpu().clone() for name, buffer in noise.items()},
            image=image[one].cpu(),
            target=target[one].cpu(),
            snapshots={step: images[one] for step, images in kept.items()},
            history={
                term: np.array([value[i].item() if isinstance(value, Tensor) else value for value in values])
                for term, values in history.items()
            },
            settings=dict(settings),
            distance=terms["distance"][i].item(),
            latent_distance=terms["latent_distance"][i].item(),
            seed=seed,
            seconds=seconds,
            stopped=stopped,
        )

    runs = [of_photo(i) for i in range(len(target))]
    return runs[0] if len(runs) == 1 else runs


@dataclass
class _Problem:
    """The objective, and the images behind it, for N photos."""

    G: Generator
    synthesis: Callable[..., Tensor]
    target: Tensor
    degradation: nn.Module
    distance: PerceptualDistance
    measure: Callable[..., Tensor]
    statistics: LatentStatistics
    label: Tensor | None
    latent_weight: float
    noise_weight: float
    comparison_size: int
    autocast: dict
    clamp: bool = False
    features: dict[int, list[Tensor]] = field(default_factory=dict)

    def ws(self, latent: Tensor, space: str) -> Tensor:
        if space != "z":
            return latent.expand(-1, self.G.num_ws, -1)
        return self.G.mapping(latent, None if self.label is None else self.label.expand(len(latent), -1))

    def scale(self, space: str) -> float:
        """The standard deviation of a latent."""
        return self.statistics.z_std if space == "z" else self.statistics.w_std

    def target_features(self, size: int) -> list[Tensor]:
        """The target's, computed once for every size at which images are compared."""
        if size not in self.features:
            with torch.no_grad(), torch.autocast(**self.autocast):
                self.features[size] = self.distance.features(resize_area(self.target, size))
        return self.features[size]

    def image(self, latent: Tensor, noise: dict[str, Tensor], space: str, size: int | None = None) -> Tensor:
        """The image [N, 3, R, R], or a preview [N, 3, size, size]."""
        ws = self.ws(latent, space)
        if space == "w+" and size is not None:
            # A preview only guesses at the styles of the layers that it skips: searched there, they would drift.
            shared = self.G.synthesis.styles_shared(size)
            ws = torch.cat([ws[:, :shared], ws[:, shared:].detach()], dim=1)
        with torch.autocast(**self.autocast):
            return self.synthesis(ws, noise=noise, size=size).float()

    def evaluate(
        self, latent: Tensor, noise: dict[str, Tensor], space: str, size: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The image, and the terms of the objective there, [N] each."""
        image = self.image(latent, noise, space, size)
        seen = image.clamp(-1, 1) if self.clamp else image
        used = {name: noise[name] for name in self.G.noise_buffers(size)}
        compared = min(self.comparison_size, image.shape[-1], self.target.shape[-1])
        with torch.autocast(**self.autocast):
            d = self.measure(self.degradation(resize_area(seen, compared)), self.target_features(compared)).float()
        terms = {
            "distance": d,
            "latent_distance": latent_distance(self.ws(latent, space), self.statistics.w_avg),
            "noise_regularization": noise_regularization(used).to(d).expand(len(d)),
        }
        return image, {"loss": self.score(terms) + self.noise_weight * terms["noise_regularization"], **terms}

    def score(self, terms: dict[str, Tensor]) -> Tensor:
        """d + λ_w ‖w − w̄‖ [N], the objective without the noise's share."""
        return terms["distance"] + self.latent_weight * terms["latent_distance"]

    @torch.no_grad()
    def nearer_of_mean_and_regression(self, noise: dict[str, Tensor], stage: Stage) -> Tensor:
        """For every photo w̄ or the warm start's w [N, 1, w_dim], whichever image is nearer to its target."""
        mean = self.statistics.w_avg.expand(len(self.target), 1, -1)
        # It was fitted to the features of the project's own VGG16 and knows no others.
        regression = load_warm_start(self.G) if self.distance.kind == "vgg16" else None
        if regression is None:
            return mean
        regressed = regression(self.target, self.distance)[:, None]
        scores = [self.score(self.evaluate(latent, noise, "w", stage.size)[1]) for latent in (mean, regressed)]
        return torch.where((scores[1] < scores[0])[:, None, None], regressed, mean)


def _on(place: torch.device, module: nn.Module) -> nn.Module:
    """The module itself if it is there already, else a copy, so that the caller's stays where it is."""
    there = all(tensor.device == place for tensor in module.state_dict().values())
    return module if there else copy.deepcopy(module).to(place)


def _check_finite(losses: Tensor, step: int) -> None:
    for i, loss in enumerate(losses.tolist()):
        if not math.isfinite(loss):
            of_photo = f" of photo {i}" if len(losses) > 1 else ""
            raise DivergedError(
                f"The loss{of_photo} became {loss} at step {step}: lower the learning rate or the weights."
            )


def _copied(noise: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in noise.items()}


def _check(settings: dict, target: Tensor) -> None:
    if settings["space"] not in (None, *SPACES):
        raise UnknownNameError("latent space", settings["space"], SPACES)
    if settings["steps"] is not None and settings["steps"] < 1:
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
    check_image(target)
    if not len(target):
        raise SettingError("There is no photo in this batch.")
    if target.shape[2] != target.shape[3]:
        height, width = target.shape[2:]
        raise SettingError(f"The target is {width} × {height} px, but it must be square, like an aligned face.")


def _staged(recipe: str | Sequence[Stage], settings: dict, G: Generator, degradation: nn.Module) -> list[Stage]:
    """The stages of any recipe but karras2020."""
    defaults = inspect.signature(project).parameters
    for name in _STAGE_FIELDS:
        if settings[name] != defaults[name].default:
            raise SettingError(f"{name} belongs to karras2020: the stages of another recipe have their own.")
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UnknownNameError("recipe", recipe, ["karras2020", *RECIPES])
        stages = RECIPES[recipe](G, degradation, settings["space"])
    else:
        stages = list(recipe)
        if not stages:
            raise SettingError("A recipe needs at least one stage.")
    for stage in stages:
        if stage.size not in (None, G.img_resolution, *G.preview_sizes):
            sizes = ", ".join(str(size) for size in (*G.preview_sizes, G.img_resolution))
            raise SettingError(f"This generator makes images of {sizes} px, not {stage.size}.")
    return stages if settings["steps"] is None else scaled(stages, settings["steps"])


def _initial_noise(
    G: Generator, continued: "Projection | Sequence[Projection] | None", count: int, random: torch.Generator
) -> dict[str, Tensor]:
    """Noise buffers [N, 1, h, w]: a continued run's, or standard normal ones, the same for every photo."""
    drawn = {name: torch.randn(buffer.shape, generator=random) for name, buffer in G.noise_buffers().items()}
    if continued is None:
        return {name: buffer.repeat(count, 1, 1, 1) for name, buffer in drawn.items()}
    runs = [continued] if isinstance(continued, Projection) else list(continued)
    if len(runs) != count or not all(isinstance(run, Projection) for run in runs):
        raise SettingError(f"A batch of {count} photos continues {count} projections, not {len(runs)}.")
    shapes = {name: buffer.shape for name, buffer in drawn.items()}
    if any({name: buffer.shape for name, buffer in run.noise.items()} != shapes for run in runs):
        raise SettingError("The start is a projection by another generator: its noise buffers do not fit.")
    return {name: torch.cat([run.noise[name] for run in runs]) for name in drawn}


def _initial_latent(
    G: Generator,
    start: "Projection | Sequence[Projection] | Tensor | None",
    space: str,
    statistics: LatentStatistics,
    count: int,
) -> Tensor:
    """The optimisation's variable: z [N, z_dim], w [N, 1, w_dim] or w+ [N, num_ws, w_dim]."""
    if start is None:
        latent = statistics.central_z if space == "z" else statistics.w_avg.view(1, 1, -1)
    elif isinstance(start, Tensor):
        latent = start
    else:
        runs = [start] if isinstance(start, Projection) else start
        same = all(run.settings["space"] == space for run in runs)
        latent = torch.cat([run.latent if same or space == "z" else run.ws for run in runs])
    latent = latent.detach().to(G.w_avg).clone()
    if space == "z":
        wanted = [G.z_dim]
    else:
        if latent.ndim < 3:
            latent = latent.view(-1, 1, latent.shape[-1])
        if space == "w+":
            latent = _widened(latent, space, G.num_ws)
        elif latent.shape[1] > 1 and (latent == latent[:, :1]).all():
            latent = latent[:, :1]  # the same w in every layer, as the mapping network gives it
        wanted = [G.num_ws if space == "w+" else 1, G.w_dim]
    if list(latent.shape[1:]) != wanted or len(latent) not in (1, count):
        found, wanted = list(latent.shape), [count, *wanted]
        raise SettingError(f"A start in {space} must have the shape {wanted}, but this one has {found}: choose w+?")
    return latent.expand(count, *wanted).clone()


def _widened(latent: Tensor, space: str, num_ws: int) -> Tensor:
    """A copy of a latent for a stage: w [N, 1, w_dim] becomes w+ [N, num_ws, w_dim] where that is searched."""
    widens = space == "w+" and latent.shape[1] == 1
    return (latent.expand(-1, num_ws, -1) if widens else latent).detach().clone()

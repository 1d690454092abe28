"""The search: gradient descent on the latent and the noise buffers of a frozen generator.

    L(w, n) = d(D(G(w, n)), y) + λ_c c(D(G(w, n)), y) + λ_w ‖w − w̄‖₂ + λ_n R(n)

After Karras et al. 2020 (StyleGAN2, arXiv 1912.04958, appendix D), with the degradation D applied to the generated
image before it is compared with the degraded target y. How long, how fast, in which space and from where it searches
is the recipe's business (``recipes``); the terms are in ``losses``.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from inspect import signature

import torch
from torch import Tensor, nn

from ex5lib.degradations.blind import unknown_parameters, with_found
from ex5lib.devices import check_compiler, compiled, on_device, pick_device, pick_dtype, readable_memory_errors
from ex5lib.errors import SettingError, unknown_name
from ex5lib.images.tensors import checked_target
from ex5lib.inversion.descent import NormalizedGradient, ScaledBackward
from ex5lib.inversion.latents import (
    SPACES,
    LatentStatistics,
    for_preview,
    latent_statistics,
    layers_differ,
    seeded,
    starting_latent,
    tied,
    to_ws,
    widened,
)
from ex5lib.inversion.losses import Objective, PerceptualDistance, latent_distance, renormalize_noise
from ex5lib.inversion.projection import Best, Projection, Recorder, StopSearch, where
from ex5lib.inversion.recipes import SETTINGS, Recipe, pick_recipe
from ex5lib.inversion.warm_start import load_warm_start
from stylegan2_ada.generator import Generator, Noise

UNKNOWN_RATE = 0.05  # Adam's, for the unknown parameters of a degradation


@readable_memory_errors()
def project(
    G: Generator,
    target: Tensor,  # y [N, 3, H, H] in [−1, 1], square, already degraded
    *,
    degradation: nn.Module | None = None,
    recipe: str | Recipe = "karras2020",
    start: Projection | Sequence[Projection] | Tensor | str | None = None,
    seed: int = 0,
    statistics: LatentStatistics | None = None,
    distance: PerceptualDistance | None = None,
    snapshots: Iterable[int] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
    **changes,
) -> Projection:
    """Search the latent whose image, degraded in the same way, looks like the target.

    The generator is never written to. Ctrl-C ends the search and returns the best result so far.

    Args:
        G: the generator.
        target: y. Several photos are searched at once, each with a latent and noise of its own.
        degradation: D, any module from images to images, applied at the comparison size; None is the identity.
        recipe: a name in ``RECIPES`` or a ``Recipe``; the published one by default.
        start: a Projection to continue (of a batch, or one per photo); a latent z, w or ws to begin at
            (``starting_latent`` gives the shapes; one whose layers differ is searched in w+ from the first stage);
            "mean" or "warm"; None leaves it to the recipe.
        seed: of the noise buffers, the noise on w and the statistics.
        statistics: w̄ and σ_w of another class or distribution (``latent_statistics``).
        distance: d; by default the project's VGG16 distance. One of your own needs the methods of PerceptualDistance:
            features, forward and, for bfloat16, in_precision; and ``kind``, its name.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of them.
        device: "auto", "cuda", "mps", "cpu" or a torch.device. What is elsewhere is copied there.
        dtype: in which the networks compute: "auto" (``devices.pick_dtype``), float32, bfloat16 or float16. Latents,
            sums and Adam stay in float32, and so do the image and the distance of the result.
        compile: run the networks through ``torch.compile``: up to a minute once, a quarter less per step after it. A
            string is one of its modes; True is "reduce-overhead" on CUDA, which replays a recorded graph at every step.
        progress: show a progress bar.
        callback: called after every step with a dict: "step", "num_steps", "image" and "latent" (as evaluated),
            "noise" (as updated), the terms' means over the photos, "learning_rate", "size", "seconds". The next step
            may overwrite the tensors: clone what you keep. Returning True ends the search.
        changes: other values for settings of the recipe: num_steps, space, latent_weight, noise_weight, betas, …

    Raises:
        SettingError: if an argument is out of range, or there is no such setting.
        DeviceError: if the machine lacks the device, the memory or the compiler.
        DivergedError: if the loss becomes NaN or infinite.
    """
    began = time.perf_counter()
    place, target = pick_device(device), checked_target(target)
    dtype = pick_dtype(dtype, place)
    G, D = on_device(place, G), on_device(place, degradation or nn.Identity())
    distance = on_device(place, distance or PerceptualDistance(device=place))
    _check_keywords(changes, statistics)
    if isinstance(start, str):
        changes["start"] = start
    runs = _continued(start)
    given = "w+" if isinstance(start, Tensor) and layers_differ(start) else None
    continued = max((run.settings["space"] for run in runs), key=SPACES.index, default=given)
    if unknown_parameters(D):
        D = with_found(D, runs[0].settings.get("found", {}) if runs else {})
    unknown = unknown_parameters(D)  # found together with w
    asked = pick_recipe(recipe)
    recipe = asked.planned(G, changes, degradation=D, continued=continued)
    _check(G, target, recipe, statistics)
    if compile:
        check_compiler(place)
    statistics = (statistics or latent_statistics(G, num_samples=recipe.w_avg_samples, seed=seed)).to(place)
    layers = recipe.layer_weights(G.num_ws)
    exact = Objective(
        target.to(place), D, distance, statistics.w_avg,
        layer_weights=None if layers is None else layers.to(place), **recipe.terms,
    )  # fmt: skip
    quick = exact if dtype == torch.float32 else replace(exact, distance=distance.in_precision(dtype))
    synthesis = G.synthesis
    if compile:
        synthesis, d = compiled((synthesis, quick.distance), place, compile)
        quick = replace(quick, distance=d)
    backward = ScaledBackward(place) if dtype == torch.float16 else torch.autograd.backward
    pivot = None  # the ws at which a search of styles begins

    def generate(
        latent: Tensor, noise: Noise, space: str, size: int | None = None, dtype: torch.dtype = dtype
    ) -> tuple[Tensor, Tensor]:
        network = synthesis if torch.is_grad_enabled() else G.synthesis  # only the steps are worth compiling
        if space == "s":
            return network(latent, noise=noise, dtype=dtype), pivot
        ws = tied(to_ws(G, latent, space, statistics.label), recipe.tied_from)  # [N, num_ws, w_dim]
        ws = for_preview(ws, G, size, space)
        return network(ws, noise=noise, size=size, dtype=dtype), ws  # x = G(w, n)

    def evaluate(
        latent: Tensor, noise: Noise, space: str, size: int | None = None, objective: Objective = quick
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        image, ws = generate(latent, noise, space, size, torch.float32 if objective is exact else dtype)
        searched = {name: noise[name] for name in G.noise_buffers(size)} if recipe.optimize_noise else {}
        return image, ws, objective(image, ws, searched)  # d(D(x), y), ‖w − w̄‖, R(n) … and their sum L

    random = seeded(seed)
    noise = {name: buffer.to(place) for name, buffer in _first_noise(G, runs, len(target), random).items()}
    latent = _first_latent(G, runs or start, recipe, statistics, exact, evaluate, noise)
    record = Recorder(recipe.num_steps, began, snapshots=snapshots, progress=progress, callback=callback)
    stopped, stage, best = False, recipe.stages[0], Best(latent, noise)
    try:
        for following in recipe.stages:
            ws, begun = pivot, latent
            if following.space == "s" and pivot is None:
                ws = widened(latent, "w+", G.num_ws)
                begun = G.synthesis.styles(ws)  # [N, S]
            begun = widened(begun, following.space, G.num_ws).requires_grad_()
            stage, pivot, latent, best = following, ws, begun, Best(begun, noise)  # at once: Ctrl-C may come any time
            searched = {name: noise[name] for name in G.noise_buffers(stage.size)} if recipe.optimize_noise else {}
            variables = [latent, *(buffer.requires_grad_() for buffer in searched.values())]
            if recipe.optimizer == "adam":
                optimizers = [torch.optim.Adam(variables, betas=recipe.betas)]
            else:
                optimizers = [NormalizedGradient(latent, G.synthesis.style_scales() if stage.space == "s" else None)]
            if unknown:
                optimizers.append(torch.optim.Adam(unknown.values(), lr=UNKNOWN_RATE, betas=(0.9, 0.95)))
            sigma = recipe.sigma(statistics, stage.space, G)
            jitter = torch.stack([torch.randn(latent[:1].shape, generator=random) for _ in range(stage.num_steps)])
            jitter = jitter.to(place)  # at once: a copy from the host at every step would wait for the device
            if unknown:  # how much detail it hides is clearer than it was
                planned = asked.planned(G, changes, degradation=D, continued=continued)
                recipe = replace(recipe, tied_from=planned.tied_from)
            for step in range(stage.num_steps):
                t = step / stage.num_steps
                if record.wants_snapshot():
                    with torch.no_grad():
                        record.keep_snapshot(generate(latent, noise, stage.space)[0])
                for group in optimizers[0].param_groups:
                    group["lr"] = stage.rate(t)
                amount = stage.latent_noise(t, sigma)
                point = latent + amount * jitter[step] if amount else latent.clone()
                image, _, terms = evaluate(point, noise, stage.space, stage.size)
                best.update(quick.score(terms), point, searched)
                for optimizer in optimizers:
                    optimizer.zero_grad(set_to_none=True)
                backward(terms["loss"].sum(), inputs=[*variables, *unknown.values()])
                for optimizer in optimizers:
                    optimizer.step()
                renormalize_noise(searched)
                record.step(terms, stage.rate(t), image=image, latent=point, noise=noise)
    except (KeyboardInterrupt, StopSearch):
        stopped = True
    finally:
        record.close()

    with torch.no_grad():
        image, ws, terms = evaluate(latent, noise, stage.space, objective=exact)
        if stopped:  # the last step need not be the best
            last = latent, noise, image, ws, terms
            latent, noise, image, ws, terms = _better(exact, last, best, evaluate, stage.space)
    return record.result(
        ws=ws, latent=latent, noise=noise, image=image, target=target, terms=terms, seed=seed,
        latent_distances=latent_distance(ws, statistics.w_avg),
        stopped=stopped, settings=_settings(recipe, G, D, distance, statistics, runs or start) | {
            "space": stage.space, "seed": seed, "device": str(place), "compile": compile,
            "dtype": str(dtype).removeprefix("torch."),
            "found": {name: parameter.tolist() for name, parameter in unknown.items()},
        },
    )  # fmt: skip


def _check_keywords(changes: dict, statistics: LatentStatistics | None) -> None:
    """Refuse a misspelt keyword, with the nearest of all that ``project`` takes, and one that would have no effect."""
    if statistics is not None and changes.get("w_avg_samples") is not None:
        raise SettingError("w_avg_samples has no effect on statistics that are given: leave out one of them.")
    for name in changes.keys() - set(SETTINGS):
        raise unknown_name("keyword of project()", name, {*SETTINGS, *signature(project).parameters} - {"changes"})


def _check(G: Generator, target: Tensor, recipe: Recipe, statistics: LatentStatistics | None) -> None:
    sizes = [stage.size or G.img_resolution for stage in recipe.stages]
    smallest = min(*sizes, target.shape[3])
    if smallest < 16:
        raise SettingError(f"Images are compared at 16 px or more, not {smallest}: VGG16 halves them four times.")
    if recipe.stages[0].space == "z" and G.c_dim and (statistics is None or statistics.label is None):
        raise SettingError("A search in z of a class-conditional generator needs the statistics of one class.")


def _continued(start: object) -> list[Projection]:
    """The projections that a search continues; none if it begins elsewhere."""
    if start is None or isinstance(start, Tensor | str):
        return []
    runs = [start] if isinstance(start, Projection) else list(start) if isinstance(start, Sequence) else []
    if not runs or not all(isinstance(run, Projection) for run in runs):
        raise SettingError(f'A search starts at a Projection, a tensor, "mean" or "warm", not {type(start).__name__}.')
    return runs


def _first_noise(G: Generator, runs: list[Projection], count: int, random: torch.Generator) -> dict[str, Tensor]:
    """Noise buffers [N, 1, h, w]: those of projections that are continued, or standard normal ones, the same for all.

    They are drawn in any case, so that what is drawn after them does not depend on the start.
    """
    drawn = {name: torch.randn(buffer.shape, generator=random) for name, buffer in G.noise_buffers().items()}
    if not runs:
        return {name: buffer.repeat(count, 1, 1, 1) for name, buffer in drawn.items()}
    if sum(map(len, runs)) != count:
        raise SettingError(
            f"The start holds {sum(map(len, runs))} photos and the target {count}: give as many targets."
        )
    shapes = {name: buffer.shape[1:] for name, buffer in drawn.items()}
    if any({name: buffer.shape[1:] for name, buffer in run.noise.items()} != shapes for run in runs):
        raise SettingError("The start is a projection by another generator: its noise buffers do not fit.")
    return {name: torch.cat([run.noise[name] for run in runs]) for name in drawn}


def _first_latent(
    G: Generator,
    start: list[Projection] | Tensor | str | None,
    recipe: Recipe,
    statistics: LatentStatistics,
    objective: Objective,
    evaluate: Callable,
    noise: dict[str, Tensor],
) -> Tensor:
    """Where the search begins: z [N, z_dim], w [N, 1, w_dim] or w+ [N, num_ws, w_dim]."""
    space, count = recipe.stages[0].space, len(objective.target)
    given = isinstance(start, list | Tensor)
    if isinstance(start, list):
        start = torch.cat([run.latent if space in ("z", run.settings["space"]) else run.ws for run in start])
    elif not given:
        start = statistics.central_z if space == "z" else statistics.w_avg
    latent = starting_latent(G, start, space, count)
    # The regression was fitted to the features of the project's own VGG16 and knows no others.
    warm = not given and space != "z" and recipe.start == "warm" and objective.distance.kind == "vgg16"
    if not warm or (regression := load_warm_start(G)) is None:
        return latent
    mean = statistics.w_avg.expand(count, 1, -1)
    regressed = regression(objective.target, objective.distance)[:, None]  # [N, 1, w_dim]
    with torch.no_grad():
        size = recipe.stages[0].size
        of_mean, of_regressed = (objective.score(evaluate(w, noise, "w", size)[-1]) for w in (mean, regressed))
    return starting_latent(G, where(of_regressed < of_mean, regressed, mean), space, count)


def _better(
    objective: Objective,
    last: tuple[Tensor, dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]],
    best: Best,
    evaluate: Callable,
    space: str,
) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor, dict[str, Tensor]]:
    """Latent, noise, image, ws and terms of the last step or, for every photo where that is better, of its best one."""
    latent, noise, image, ws, terms = last
    best_image, best_ws, best_terms = evaluate(best.latent, best.noise, space, objective=objective)
    better = ~(objective.score(terms) <= objective.score(best_terms))  # also where the last step diverged
    return (
        where(better, best.latent, latent),
        {name: where(better, best.noise[name], buffer) for name, buffer in noise.items()},
        where(better, best_image, image),
        where(better, best_ws, ws),
        {name: where(better, best_terms[name], value) for name, value in terms.items()},
    )


def _settings(
    recipe: Recipe,
    G: Generator,
    degradation: nn.Module,
    distance: PerceptualDistance,
    statistics: LatentStatistics,
    start: list[Projection] | Tensor | str | None,
) -> dict:
    """The settings as they were used, JSON-ready."""
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
    return {
        "recipe": fields.pop("name"),
        "num_steps": recipe.num_steps,
        **fields,
        "start": "projection" if isinstance(start, list) else "latent" if isinstance(start, Tensor) else recipe.start,
        "w_avg_samples": statistics.origin["num_samples"],
        "statistics": statistics.origin,
        "degradation": repr(degradation),
        "distance": distance.kind,
        "img_resolution": G.img_resolution,
    }

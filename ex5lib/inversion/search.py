"""A search, prepared: everything that ``projector.descend`` needs to run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from ex5lib.degradations.unknown import unknown_parameters, with_found
from ex5lib.devices import check_compiler, compiled, on_device, pick_device, pick_dtype
from ex5lib.errors import SettingError
from ex5lib.faces.descriptor import load_descriptor
from ex5lib.images.tensors import checked_target
from ex5lib.inversion.adam import Adam
from ex5lib.inversion.float16 import ScaledBackward
from ex5lib.inversion.latents import (
    LatentStatistics,
    for_preview,
    latent_statistics,
    seeded,
    starting_latent,
    tied,
    to_ws,
    widened,
)
from ex5lib.inversion.losses import FACE_SIZE, Objective, PerceptualDistance
from ex5lib.inversion.plan import Plan, plan_search, preview_size, tied_layers
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recipes import Recipe, Start
from ex5lib.inversion.stages import Stage
from ex5lib.inversion.warm_start import load_warm_start
from stylegan2_ada.generator import Generator, Synthesis

UNKNOWN_RATE = 0.05  # Adam's, for parameters of the degradation that are found with w
UNKNOWN_BETAS = (0.9, 0.95)


@dataclass(frozen=True, eq=False)
class State:
    """Where a search stands: all that an image is made from. It is replaced as a whole.

    Attributes:
        space: that of the latent.
        latent: z [N, z_dim], w [N, 1, w_dim] or w+ [N, num_ws, w_dim].
        noise: {name: [N, 1, h, w]}.
        center: what the latent is held to, [1, 1, w_dim] or one for each photo and layer, [N, num_ws, w_dim].
        tied_from: as in ``Plan``.
    """

    space: str
    latent: Tensor
    noise: dict[str, Tensor]
    center: Tensor
    tied_from: int


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a search, before its update.

    Attributes:
        stage: that it belongs to.
        rate: the learning rate.
        state: where the search stands.
        point: the state whose image was compared: with noise on its latent.
        face: whether only the face was made and compared.
        image: [N, 3, R, R], of that point, or the face's window of it.
        terms: of the objective, [N] each.
    """

    stage: Stage
    rate: float
    state: State
    point: State
    face: bool
    image: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Search:
    """A search with all that it needs.

    Attributes:
        G: the generator; ``synthesis`` is its own, or compiled for the steps.
        plan: what follows from the recipe for this photo.
        statistics: w̄ and σ_w.
        objective: L, in the type of the steps; ``exact`` is the same in float32.
        dtype: in which the networks compute a step.
        unknown: parameters of the degradation that are found with w, by name.
        random: draws the noise on w.
        settings: all of this in words and numbers, JSON-ready.
    """

    G: Generator
    synthesis: Synthesis
    plan: Plan
    statistics: LatentStatistics
    objective: Objective
    exact: Objective
    dtype: torch.dtype
    backward: Callable[..., None]
    unknown: dict[str, nn.Parameter]
    random: torch.Generator
    settings: dict

    @property
    def window(self) -> tuple[int, int, int, int]:
        """What is made of the full image to compare the face: top, left, height and width in px."""
        top, left, height, width = (px * self.G.img_resolution // FACE_SIZE for px in self.exact.window)
        return top, left, height, width

    def enter(self, state: State, stage: Stage) -> State:
        """The state at which a stage begins: the same latent as a new variable, widened to w+ if the stage is in w+.

        What the latent is held to then includes what the stage before has found. An unknown degradation is better known
        by then, so which layers are tied is decided again.
        """
        tied_from = state.tied_from
        if self.unknown:
            tied_from = tied_layers(self.plan.recipe, self.G, self.objective.degradation)
        center, held_from = state.center, self.plan.held_from
        if stage is not self.plan.stages[0] and center.shape[1] == 1 and held_from < self.G.num_ws:
            ws = to_ws(self.G, state.latent, state.space, self.statistics.label).detach()
            center = held(center, ws, held_from)
        latent = widened(state.latent, stage.space, self.G.num_ws).requires_grad_()
        return State(stage.space, latent, state.noise, center, tied_from)

    def searched_noise(self, state: State, size: int | None = None) -> dict[str, Tensor]:
        """The noise buffers that are searched along with the latent: those of a preview of that size, or none."""
        if not self.plan.recipe.optimize_noise:
            return {}
        return {name: state.noise[name].requires_grad_() for name in self.G.noise_buffers(size)}

    def optimizers(self, variables: Sequence[Tensor]) -> list[Adam]:
        """Adam for these, at a rate that the loop sets, and for unknown parameters of D, if any, at a fixed one."""
        unknown = list(self.unknown.values())
        of_unknown = [Adam(unknown, UNKNOWN_BETAS, UNKNOWN_RATE)] if unknown else []
        return [Adam(variables, self.plan.recipe.betas), *of_unknown]

    def latent_noise(self, state: State, stage: Stage) -> Tensor:
        """The noise on the latent at every step of a stage, [num_steps, 1, …]: the same for every photo."""
        shape, statistics = state.latent[:1].shape, self.statistics
        sigma = statistics.z_std if state.space == "z" else statistics.w_std * self.plan.sigma_scale
        drawn = torch.stack([torch.randn(shape, generator=self.random) for _ in range(stage.num_steps)])
        # All steps' in one copy: a copy from the host at every step would wait for the device.
        amounts = [stage.latent_noise(step / stage.num_steps, sigma) for step in range(stage.num_steps)]
        return (torch.tensor(amounts).view(-1, *[1] * len(shape)) * drawn).to(state.latent.device)

    def generate(
        self,
        state: State,
        size: int | None = None,
        *,
        face: bool = False,
        synthesis: Synthesis | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[Tensor, Tensor]:
        """x = G(w, n) [N, 3, R, R], a preview of ``size`` px, or the face's window of x, and the ws that made it."""
        ws = tied(to_ws(self.G, state.latent, state.space, self.statistics.label), state.tied_from)
        if state.space == "w+":
            ws = for_preview(ws, self.G, size)
        make, window = synthesis or self.synthesis, self.window if face else None
        return make(ws, noise=state.noise, size=size, window=window, dtype=dtype or self.dtype), ws

    @torch.no_grad()
    def show(self, state: State) -> Tensor:
        """The image of a state at full size, in the type of the steps."""
        return self.generate(state, synthesis=self.G.synthesis)[0]  # only the steps are worth compiling

    @torch.no_grad()
    def evaluate(self, state: State, size: int | None = None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Image, ws and terms of a state, in float32."""
        image, ws = self.generate(state, size, synthesis=self.G.synthesis, dtype=torch.float32)
        return image, ws, self.exact(image, ws, state.center, self.searched_noise(state, size))


def prepare(
    G: Generator,
    target: Tensor,
    degradation: nn.Module | None,
    recipe: Recipe,
    *,
    start: Start = None,
    seed: int = 0,
    statistics: LatentStatistics | None = None,
    distance: PerceptualDistance | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
) -> tuple[Search, State]:
    """Check what a search is given, bring it to the device, plan, and find where to begin; arguments as ``project``."""
    device, target = pick_device(device), checked_target(target)
    dtype = pick_dtype(dtype, device)
    _check_fit(G, target, recipe, statistics)
    if compile:
        check_compiler(device)
    runs = _continued(start)
    G, D = on_device(device, G), on_device(device, degradation or nn.Identity())
    if unknown_parameters(D):  # the copy is the search's own
        D = with_found(D, runs[0].settings["found"] if runs else {})
    distance = on_device(device, distance or PerceptualDistance(device=device))
    statistics = (statistics or latent_statistics(G, num_samples=recipe.w_avg_samples, seed=seed)).to(device)
    plan = plan_search(recipe, G, D, target.shape[-1])
    exact = Objective(
        target.to(device), D, distance, plan.latent_weights.float().to(device), color_weight=recipe.color_weight,
        identity_weight=plan.identity_weight, noise_weight=recipe.noise_weight, clamp=recipe.clamp,
        mean_absolute=recipe.mean_absolute, margin=plan.face_margin,
        descriptor=load_descriptor(device) if plan.identity_weight else None,
    )  # fmt: skip
    objective = exact if dtype == torch.float32 else replace(exact, distance=distance.in_precision(dtype))
    synthesis = G.synthesis
    if compile:
        synthesis = compiled(synthesis, device, compile)
        objective = replace(objective, distance=compiled(objective.distance, device, compile))
    search = Search(
        G, synthesis, plan, statistics, objective, exact, dtype,
        backward=ScaledBackward(device) if dtype == torch.float16 else torch.autograd.backward,
        unknown=unknown_parameters(D), random=seeded(seed),
        settings=_settings(plan, G, distance, statistics)
        | {"start": "projection" if runs else "latent" if isinstance(start, Tensor) else recipe.start}
        | {"seed": seed, "device": str(device), "compile": compile, "dtype": str(dtype).removeprefix("torch.")},
    )  # fmt: skip
    return search, _first_state(search, runs, start if isinstance(start, Tensor) else None)


def _check_fit(G: Generator, target: Tensor, recipe: Recipe, statistics: LatentStatistics | None) -> None:
    sizes = [preview_size(G, stage.size) or G.img_resolution for stage in recipe.stages]
    smallest = min(*sizes, target.shape[3])
    if smallest < 16:
        raise SettingError(
            f"VGG16 halves images four times, so they need 16 px or more, not {smallest}: choose a larger size."
        )
    if recipe.stages[0].space == "z" and G.c_dim and (statistics is None or statistics.label is None):
        raise SettingError("A search in z of a class-conditional generator needs the statistics of one class.")


def _continued(start: Start) -> list[Projection]:
    """The projections that a search continues; none if it begins elsewhere."""
    if start is None or isinstance(start, Tensor | str):
        return []
    given: Sequence[object] = [start] if isinstance(start, Projection) else start if isinstance(start, Sequence) else []
    runs = [run for run in given if isinstance(run, Projection)]
    if not runs or len(runs) < len(given):
        raise SettingError(f'A search starts at a Projection, a tensor, "mean" or "warm", not {type(start).__name__}.')
    return runs


def _first_state(search: Search, runs: list[Projection], start: Tensor | None) -> State:
    """Where the search begins: at the results that it continues, at a given latent, or where the recipe says."""
    target, space = search.exact.target, search.plan.stages[0].space
    noise = _first_noise(search, runs)
    center, tied_from = search.statistics.w_avg.view(1, 1, -1), search.plan.tied_from
    if runs:
        start = torch.cat([run.latent if space == "z" else run.ws for run in runs])
    if start is not None:
        latent = starting_latent(search.G, start, space, len(target))
        if runs and search.plan.held_from < search.G.num_ws:  # their colours stay
            ws = to_ws(search.G, latent, space, search.statistics.label)
            center = held(center, ws, search.plan.held_from)
        return State(space, latent, noise, center, tied_from)
    mean = search.statistics.central_z if space == "z" else search.statistics.w_avg
    state = State(space, starting_latent(search.G, mean, space, len(target)), noise, center, tied_from)
    fits = getattr(search.exact.distance, "fits_warm_start", False)
    warm = space != "z" and search.plan.recipe.start == "warm" and fits
    if not warm or (regression := load_warm_start(search.G)) is None:
        return state
    regressed = regression(target, search.exact.distance)[:, None]  # [N, 1, w_dim]
    regressed = replace(state, latent=starting_latent(search.G, regressed, space, len(target)))
    size = search.plan.stages[0].size
    of_mean, of_regressed = (search.evaluate(each, size)[2]["score"] for each in (state, regressed))
    return replace(state, latent=where(of_regressed < of_mean, regressed.latent, state.latent))


def _first_noise(search: Search, runs: list[Projection]) -> dict[str, Tensor]:
    """Noise buffers [N, 1, h, w]: those of projections that are continued, or standard normal ones, the same for all.

    They are drawn in any case, so that later random numbers do not depend on the start.
    """
    count, target = len(search.exact.target), search.exact.target
    drawn = {
        name: torch.randn(buffer.shape, generator=search.random) for name, buffer in search.G.noise_buffers().items()
    }
    if not runs:
        return {name: buffer.repeat(count, 1, 1, 1).to(target.device) for name, buffer in drawn.items()}
    if sum(map(len, runs)) != count:
        raise SettingError(
            f"The start holds {sum(map(len, runs))} photos and the target {count}: give one target for each."
        )
    shapes = {name: buffer.shape[1:] for name, buffer in drawn.items()}
    if any({name: buffer.shape[1:] for name, buffer in run.noise.items()} != shapes for run in runs):
        raise SettingError("The start is a projection by another generator: its noise buffers do not fit.")
    return {name: torch.cat([run.noise[name] for run in runs]).to(target.device) for name in drawn}


def _settings(plan: Plan, G: Generator, distance: PerceptualDistance, statistics: LatentStatistics) -> dict:
    """The settings as they are used: the recipe's, and what the plan makes of them."""
    fields = asdict(replace(plan.recipe, stages=plan.stages))
    return {
        "recipe": fields.pop("name"),
        "num_steps": plan.num_steps,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()},
        "latent_weight": plan.latent_weights[0].item(),
        "latent_weights": plan.latent_weights.tolist(),
        "identity_weight": plan.identity_weight,
        "held_from": plan.held_from,
        "w_avg_samples": statistics.origin["num_samples"],
        "statistics": statistics.origin,
        "distance": distance.kind,
        "img_resolution": G.img_resolution,
    }


def held(center: Tensor, ws: Tensor, first: int) -> Tensor:
    """What each layer is held to, [N, num_ws, w_dim]: from ``first`` on to ws [N, num_ws, w_dim], else to a center."""
    center = center.expand_as(ws).clone()
    center[:, first:] = ws[:, first:]
    return center


def where(photos: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Choose between two tensors [N, …], photo by photo, by booleans [N]."""
    return torch.where(photos.view(-1, *[1] * (yes.ndim - 1)), yes, no)

"""The explorer's searches: how a choice becomes one, what it shows, and how much time is left."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import compositor
from ex5lib.degradations.unknown import unknown_parameters
from ex5lib.errors import SettingError, unknown_name
from ex5lib.explorer.choices import Choice
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.tensors import resize, resize_area
from ex5lib.inversion.latents import LatentStatistics, latent_statistics
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.plan import Plan, plan_search
from ex5lib.inversion.recipes import RECIPES, SMOKE, Recipe, Start, pick_recipe
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.pipeline import Restoration, another_face, restore_faces
from stylegan2_ada.generator import Generator

LIVE_SIZE = 256  # px of images during a search: a composite at full size would take too long
_POINTS = 300  # of a curve
_EARLY = (0, 0.1, 0.2, 0.4)  # shares of the steps whose images are kept


@dataclass(frozen=True, eq=False)
class Step:
    """The state of a search after a step.

    Attributes:
        image: [1, 3, S, S], at the size of the step's preview.
        show: turns it into what is shown.
        progress: for the page, JSON-ready: the share of the time that has passed, and words.
        curve: so far, as ``curve_of`` returns it.
    """

    image: Tensor
    show: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    progress: dict
    curve: dict

    def images(self) -> tuple[Tensor, Tensor | None]:
        """What to show: the image and, if part of the photo is known, its composite."""
        return self.show(resize_area(self.image.clamp(-1, 1), LIVE_SIZE).cpu())  # shrunk before it leaves a GPU


def offered(chosen: Recipe, *, start: Start = None, **settings) -> dict[str, Recipe]:
    """{name: recipe} to choose from: the chosen one, and the others that take the same settings."""
    recipes = {}
    for name, recipe in RECIPES.items():
        with suppress(SettingError):
            if recipe is not SMOKE:  # only a test
                recipes[name] = pick_recipe(recipe, start=start, **settings)
    return recipes | {chosen.name: chosen}


class Searcher:
    """Searches for choices with one generator, and keeps what its searches share.

    Args:
        G: the generator.
        recipes: {name: recipe} to choose from.
        distance, statistics, start, device, dtype, compile: of every search, as in ``project``.
    """

    def __init__(
        self,
        G: Generator,
        recipes: dict[str, Recipe],
        *,
        distance: PerceptualDistance | None = None,
        statistics: LatentStatistics | None = None,
        start: Start = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        compile: bool | str = False,
    ):
        self.G, self.recipes = G, recipes
        self.distance = distance or PerceptualDistance(device=device)  # loaded only once
        self._given, self._start, self._device, self._dtype, self._compile = statistics, start, device, dtype, compile
        self._statistics: dict[tuple[int, int], LatentStatistics] = {}
        self._plans: dict[Choice, Plan] = {}
        self._learned: dict[int, float] = {}

    def plan(self, choice: Choice) -> Plan:
        """The plan of a choice's search, but with the task's own latent weight.

        Raises:
            SettingError: if the choice makes no sense.
        """
        if choice.recipe not in self.recipes:
            raise unknown_name("recipe", choice.recipe, self.recipes)
        task = replace(choice.searched(), photo="", seed=0, answer=0, latent_weight=None)
        if task not in self._plans:  # finding out what D hides takes a tenth of a second
            self._plans[task] = plan_search(self.recipes[task.recipe], self.G, choice.modules()[1])
        return self._plans[task]

    def search(
        self, choice: Choice, face: AlignedFace, after_step: Callable[[Step], bool]
    ) -> tuple[Restoration, dict[int, Tensor]]:
        """Search for a choice.

        Args:
            choice, face: what to search for.
            after_step: called after every step; returning True ends the search, and so does an exception.

        Returns:
            the result; and {step: image [1, 3, S, S]} from early in the search, at the size of their previews.
        """
        degraded_by, D = choice.modules()
        recipe, plan = self.recipes[choice.recipe], self.plan(choice)
        clock = Clock(plan.stages, self.G.img_resolution, self._learned)
        marks = {round(plan.num_steps * share) for share in _EARLY}
        show = live_composite(face.image, D if degraded_by is None else degraded_by, D)
        curve: list[tuple[float, int]] = []
        early: dict[int, Tensor] = {}

        def callback(report: dict) -> bool:
            clock.step(report["size"], report["seconds"])
            curve.append((report["distance"], report["size"]))
            image = report["image"]
            if report["step"] in marks:
                early[report["step"]] = resize_area(image, LIVE_SIZE).cpu()
            words = f"step {report['step'] + 1} of {report['num_steps']} at {report['size']} px, "
            words += f"d {report['distance']:.3f}, about {time_in_words(clock.seconds_left)} left"
            progress = {"share": clock.share, "words": words}
            return after_step(Step(image, show, progress, curve_of(curve, report["num_steps"])))

        statistics = self._given or self._statistics.get((recipe.w_avg_samples, choice.seed))
        if statistics is None:  # takes a second, and is the same for every search with this seed
            statistics = latent_statistics(self.G, num_samples=recipe.w_avg_samples, seed=choice.seed)
            self._statistics[recipe.w_avg_samples, choice.seed] = statistics
        start, seed = self._start, choice.seed + choice.answer
        if choice.answer:
            statistics, start = another_face(self.G, statistics, seed)
        (done,) = restore_faces(
            [face], D, pick_recipe(recipe, latent_weight=choice.latent_weight), generator=self.G,
            distance=self.distance, already_degraded=choice.damaged, degraded_by=degraded_by, start=start, seed=seed,
            statistics=statistics, device=self._device, dtype=self._dtype, compile=self._compile, progress=False,
            callback=callback,
            snapshots=(),  # one at full size takes longer than many steps on previews
        )  # fmt: skip
        return done, early


def curve_of(steps: Sequence[tuple[float, int]], num_steps: int) -> dict:
    """The curve of a search for the page, JSON-ready, from (d, px) of all its steps; the points are [step, d, px]."""
    points = [[i, round(float(d), 4), int(size)] for i, (d, size) in enumerate(steps, start=1)]
    every = -(-len(points) // _POINTS) or 1
    return {"points": [*points[:-1][::every], *points[-1:]], "steps": num_steps}


def live_composite(
    photo: Tensor, degraded_by: nn.Module, D: nn.Module
) -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
    """A function from a preview [1, 3, S, S] to the image to show and, if part of the photo is known, its composite.

    While D's unknown parameters are being searched, no part counts as known.
    """
    compose = compositor(D)
    if compose is None or unknown_parameters(D):
        return lambda image: (resize_area(image, LIVE_SIZE), None)
    with torch.no_grad():
        target = degraded_by(resize(resize_area(photo.cpu(), LIVE_SIZE), LIVE_SIZE))

    def both(image: Tensor) -> tuple[Tensor, Tensor]:
        image = resize(resize_area(image, LIVE_SIZE), LIVE_SIZE)
        return image, compose(target, image)

    return both


class Clock:
    """The progress of a search in time, not in steps: a step at full size takes several times as long as an early one.

    The duration of a step at each size is learned from the steps, and kept for the next search. A size not seen yet is
    estimated from the nearest one.

    Attributes:
        learned: {px: seconds per step}; clocks can share it.
        share: of the time that has passed.
        seconds_left: None until the first estimate.
    """

    _GROWTH = 0.75  # the seconds per step grow about as px to this power
    seconds_left: float | None

    def __init__(self, stages: Sequence[Stage], full_size: int, learned: dict[int, float]):
        self._left = [(stage.size or full_size, stage.num_steps) for stage in stages]
        self._recent: dict[int, list[float]] = {}
        self._last: float | None = None
        self.learned, self.share, self.seconds_left = learned, 0.0, None

    def step(self, size: int, seconds: float) -> None:
        """Note a step at ``size`` px, done ``seconds`` after the search began."""
        while self._left and not self._left[0][1]:
            self._left.pop(0)
        if self._left:
            self._left[0] = (self._left[0][0], self._left[0][1] - 1)
        if self._last is not None:  # the first step comes after preparations
            recent = self._recent.setdefault(size, [])
            recent.append(seconds - self._last)
            self.learned[size] = median(recent[-9:])
        self._last = seconds
        if self.learned:
            left = sum(steps * self._cost(px) for px, steps in self._left)
            self.share, self.seconds_left = max(self.share, seconds / (seconds + left or 1.0)), left

    def _cost(self, size: int) -> float:
        nearest = min(self.learned, key=lambda known: abs(known - size))
        return self.learned[nearest] * (size / nearest) ** self._GROWTH


def time_in_words(seconds: float | None) -> str:
    """ "12 s", "1 min 20 s", "12 min": no more exact than an estimate is."""
    if seconds is None:
        return "…"
    seconds = round(seconds)
    if seconds < 60:
        return f"{max(seconds, 1)} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest // 10 * 10} s" if minutes < 5 else f"{minutes} min"

"""The explorer's searches: how a choice becomes one, what it shows, and how much time is left."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import compositor
from ex5lib.degradations.unknown import unknown_parameters
from ex5lib.devices import pick_device
from ex5lib.errors import SettingError, unknown_name
from ex5lib.explorer.choices import Choice
from ex5lib.faces.alignment import AlignedFace
from ex5lib.images.frames import preview
from ex5lib.images.tensors import resize, resize_area
from ex5lib.inversion.latents import LatentStatistics, latent_statistics, to_ws
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.plan import Plan, plan_search
from ex5lib.inversion.recipes import RECIPES, SMOKE, Recipe, Start, pick_recipe
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.pipeline import another_face, restore_faces
from ex5lib.restoration.restored import Restoration
from stylegan2_ada.generator import Generator
from stylegan2_ada.windows import Window

View = tuple[float, float, float]  # a part of an image: its centre and its side, in shares of the image's side
LIVE_SIZE = 256  # px of images during a search, unless somebody looks closely: a composite at full size takes long
_SHARPENED = 0.5  # the largest part of an image that is made at full resolution while previews are searched
_POINTS = 300  # of a curve
# Seconds of a step on two cores (docs/performance.md), by px: what is known before the first search.
_ON_CPU = {128: 0.13, 256: 0.35, 1024: 0.48}
_EARLY = (0, 0.1, 0.2, 0.4)  # shares of the steps whose images are kept


@dataclass(frozen=True, eq=False)
class Step:
    """The state of a search after a step."""

    image: Tensor  # [1, 3, S, S], at the size of the step's preview
    compose: Callable[[Tensor], Tensor] | None  # puts the known part of the photo into an image [1, 3, S, S]
    close_up: Callable[[View], Tensor]  # the image at full size [1, 3, S, S], sharp in that part of it
    progress: dict  # for the page: the share of the time that has passed, and words
    curve: dict  # so far, as ``curve_of`` returns it

    def images(self, view: View | None = None) -> tuple[Tensor, Tensor | None]:
        """What to show: the image and, if part of the photo is known, its composite; at full size for a view."""
        shown = resize_area(self.image.clamp(-1, 1), LIVE_SIZE) if view is None else self.close_up(view)
        image = shown.cpu()  # not before it was shrunk
        if self.compose is None:
            return image, None
        image = resize(image, max(image.shape[-1], LIVE_SIZE))
        return image, self.compose(image)


def window_of(view: View, size: int) -> Window:
    """The part of an image of ``size`` px that a view shows."""
    x, y, share = view
    side = min(max(1, round(share * size)), size)
    top, left = (min(max(round(centre * size - side / 2), 0), size - side) for centre in (y, x))
    return top, left, side, side


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
        self._plans: dict[tuple[str, Choice], Plan] = {}
        self._learned: dict[int, float] = {}

    def recipe(self, choice: Choice) -> Recipe:
        """The recipe of a choice; SettingError if it is not among those to choose from."""
        if choice.recipe not in self.recipes:
            raise unknown_name("recipe", choice.recipe, self.recipes)
        return self.recipes[choice.recipe]

    def durations(self) -> dict[str, str]:
        """{recipe: about how long it takes, in words}; empty if that is not known yet."""
        known = self._learned or (_ON_CPU if pick_device(self._device).type == "cpu" else {})
        if not known:
            return {}
        clocks = {name: Clock(each.stages, self.G.img_resolution, known) for name, each in self.recipes.items()}
        return {name: time_in_words(clock.seconds_to_come()) for name, clock in clocks.items()}

    def plan(self, choice: Choice) -> Plan:
        """The plan of a choice's search, but with the task's own latent weight; SettingError if it makes no sense."""
        key = choice.recipe, choice.task()
        if key not in self._plans:  # finding out what D hides takes a tenth of a second
            self._plans[key] = plan_search(self.recipe(choice), self.G, choice.modules()[1])
        return self._plans[key]

    def search(
        self, choice: Choice, face: AlignedFace, after_step: Callable[[Step], bool]
    ) -> tuple[Restoration, dict[int, Tensor]]:
        """Search for a choice; ``after_step`` ends the search by returning True or raising.

        Returns:
            the result; and {step: image [1, 3, S, S]} from early in the search, at the size of their previews.
        """
        degraded_by, D = choice.modules()
        recipe, plan = self.recipe(choice), self.plan(choice)
        clock = self.clock(plan.stages)
        marks = {round(plan.num_steps * share) for share in _EARLY}
        composite = None if unknown_parameters(D) else compositor(D)
        targets: dict[int, Tensor] = {}  # by px

        def compose(composite: Callable[[Tensor, Tensor], Tensor], image: Tensor) -> Tensor:
            size = image.shape[-1]
            if size not in targets:
                targets[size], _ = choice.applied(preview(face.image.cpu(), size))
            return composite(targets[size], image)

        curve: list[tuple[int, float, int]] = []
        early: dict[int, Tensor] = {}

        statistics = self.statistics(recipe, choice.seed)
        label = statistics.label

        def callback(report: dict) -> bool:
            clock.step(report["size"], report["seconds"])
            if not report["face"]:
                curve.append((report["step"] + 1, report["distance"], report["size"]))
            if report["step"] in marks:
                early[report["step"]] = resize_area(report["image"], LIVE_SIZE).cpu()

            def close_up(view: View) -> Tensor:
                full = self.G.img_resolution
                image = resize(report["image"].clamp(-1, 1), full)
                if report["size"] == full or view[2] > _SHARPENED:
                    return image
                here = self.G.w_avg
                latent = report["latent"].to(here)
                noise = {name: buffer.to(here) for name, buffer in report["noise"].items()}
                with torch.no_grad():  # a small window takes less than a tenth of the time of the whole image
                    ws = to_ws(self.G, latent, "z" if latent.ndim == 2 else "w+", label)
                    top, left, height, width = window = window_of(view, full)
                    part = self.G.synthesis(ws, noise, window=window).clamp(-1, 1)
                    image[:, :, top : top + height, left : left + width] = part
                return image

            d = curve[-1][1] if curve else report["distance"]
            words = f"step {report['step'] + 1} of {report['num_steps']} at {report['size']} px, "
            words += f"d {d:.3f}, about {time_in_words(clock.seconds_left)} left"
            progress = {"share": clock.share, "words": words}
            shown = partial(compose, composite) if composite else None
            return after_step(Step(report["image"], shown, close_up, progress, curve_of(curve, report["num_steps"])))

        start, seed = self._start, choice.seed + choice.answer
        if choice.answer:
            statistics, start = another_face(self.G, statistics, seed)
        done = self.restore(
            face, D, pick_recipe(recipe, latent_weight=choice.latent_weight), already_degraded=choice.damaged,
            degraded_by=degraded_by, start=start, seed=seed, statistics=statistics, callback=callback,
        )  # fmt: skip
        return done, early

    def restore(self, face: AlignedFace, D: nn.Module | None, recipe: Recipe, **more) -> Restoration:
        """``restore_faces`` for one face, with what all searches share; ``more`` is passed on."""
        (done,) = restore_faces(
            [face], D, recipe, generator=self.G, distance=self.distance, device=self._device, dtype=self._dtype,
            compile=self._compile, progress=False, **more,
            snapshots=(),  # one at full size takes longer than many steps on previews
        )  # fmt: skip
        return done

    def statistics(self, recipe: Recipe, seed: int) -> LatentStatistics:
        """The latents' statistics, which take a second, and are the same for every search with this seed."""
        if self._given is not None:
            return self._given
        key = recipe.w_avg_samples, seed
        if key not in self._statistics:
            self._statistics[key] = latent_statistics(self.G, num_samples=recipe.w_avg_samples, seed=seed)
        return self._statistics[key]

    def clock(self, stages: Sequence[Stage]) -> "Clock":
        """A clock for a search, which knows how long the steps of earlier ones took."""
        return Clock(stages, self.G.img_resolution, self._learned)


def curve_of(steps: Iterable[tuple[int, float, int]], num_steps: int) -> dict:
    """The curve of a search for the page, JSON-ready, from (step, d, px) of its steps, counted from 1.

    Steps that compared the face alone are left out: their d is another.
    """
    points = [[int(step), round(float(d), 4), int(size)] for step, d, size in steps]
    every = -(-len(points) // _POINTS) or 1
    return {"points": [*points[:-1][::every], *points[-1:]], "steps": num_steps}


class Clock:
    """The progress of a search in time, not in steps: a step at full size takes several times as long as an early one.

    The duration of a step at each size is learned from the steps, and kept for the next search. A size not seen yet is
    estimated from the nearest one.

    Args:
        full_size: px of the generator's own images.
        learned: {px: seconds per step}, shared by the clocks of several searches.
    """

    _GROWTH = 0.75  # the seconds per step grow about as px to this power

    def __init__(self, stages: Sequence[Stage], full_size: int, learned: dict[int, float]):
        self._left = [stage.size or full_size for stage in stages for _ in range(stage.num_steps)]  # px of each step
        self._recent: dict[int, list[float]] = {}
        self._last: float | None = None
        self._learned = learned
        self.share = 0.0  # of the time that has passed
        self.seconds_left: float | None = None  # until the first estimate

    def step(self, size: int, seconds: float) -> None:
        """Note a step at ``size`` px, done ``seconds`` after the search began."""
        del self._left[:1]
        if self._last is not None:  # the first step comes after preparations
            recent = self._recent.setdefault(size, [])
            recent.append(seconds - self._last)
            self._learned[size] = fmean(recent[-12:])  # some of them make the face alone
        self._last = seconds
        if self._learned:
            left = self.seconds_to_come()
            self.share, self.seconds_left = max(self.share, seconds / (seconds + left or 1.0)), left

    def seconds_to_come(self) -> float:
        """The seconds of all steps that are left; something must have been learned."""
        return sum(steps * self._cost(px) for px, steps in Counter(self._left).items())

    def _cost(self, size: int) -> float:
        nearest = min(self._learned, key=lambda known: abs(known - size))
        return self._learned[nearest] * (size / nearest) ** self._GROWTH


def time_in_words(seconds: float | None) -> str:
    """ "12 s", "1 min 20 s", "12 min": no more exact than an estimate is."""
    if seconds is None:
        return "…"
    seconds = round(seconds)
    if seconds < 60:
        return f"{max(seconds, 1)} s"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest // 10 * 10} s" if minutes < 5 and rest >= 10 else f"{minutes} min"

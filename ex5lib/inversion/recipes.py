"""Recipes: how a search runs, as plain data.

A recipe is a list of stages and a few settings for all of them. Everything that distinguishes one recipe from another
is a field here; no code checks a recipe's name.
"""

import math
import warnings
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.degradations.probe import hidden_share, hides_color, visible_resolution
from ex5lib.errors import SettingError, unknown_name
from ex5lib.inversion.latents import SPACES, LatentStatistics
from ex5lib.inversion.stages import Stage, available, check_not_negative, in_space, scaled
from stylegan2_ada.generator import Generator

STARTS = ("mean", "warm")
OPTIMIZERS = ("adam", "normalized")
LARGE_HOLE = 1 / 4  # of the face: from a bar over both eyes on
COARSE_SIZE = 32  # px: up to here a StyleGAN's layers make pose and shape, beyond it colours and texture


@dataclass(frozen=True)
class Recipe:
    """A search as data.

    Attributes:
        name: as recorded in the settings of a result.
        stages: the stages, for whatever was done to the photo.
        start: "mean" starts at w̄; "warm" at the regressed w (``WarmStart``) or at w̄, whichever image is nearer.
        color_weight: λ_c, of the colours at 16 px.
        latent_weight: λ_w, of the latent distance.
        blurred_weight: λ_w if the degradation hides detail (``hidden.visible_resolution``). None leaves it as it is.
        hole_weight: λ_w if the degradation hides more than a quarter of the face (``hidden.hidden_share``); where it
            hides detail as well, the larger of the two weights. None leaves it as it is.
        colorless_weight: λ_w of the layers that make the colours, if the degradation hides them
            (``hidden.hides_color``): what the photo does not say is w̄'s to decide. None leaves it as it is.
        color_layers: the first of those layers; they have features finer than 32 px, where a StyleGAN keeps its colours
            (Karras et al. 2019, arXiv 1812.04948, section 3.1). Set by what the degradation hides; None gives all
            layers ``latent_weight``.
        tied_from: the first of the layers that move together in w+, with one change of w for all; None ties none.
        tied_beyond: sets ``tied_from`` by what the degradation hides: layers are tied whose features are more than so
            many times finer than the finest detail that it leaves (``hidden.visible_resolution``). Alone, each
            would fit what the photo does not show, and make stripes and stray hair. In a preview all follow those that
            it shows.
        noise_weight: λ_n, of the noise regularisation.
        optimize_noise: whether the noise buffers are searched as well; if not, they stay as drawn and R(n) is 0.
        betas: Adam's β₁ and β₂.
        optimizer: "adam", or "normalized": steps of the learning rate's length along the gradient, one for each w
            of the latent (``descent.NormalizedGradient``).
        clamp: compare images clamped to [−1, 1], as they are displayed. Otherwise values beyond white can lower d.
        comparison_sizes: px at which images are compared, d being the mean; larger images are averaged down,
            previews are compared as they are.
        mean_absolute: measure the latent distance by its mean absolute difference (``losses.latent_distance``).
        sigma_over_layers: scale the noise on w by σ_w of all layers together, √num_ws times that of one.
        fill: compare images whose hidden pixels are filled with the same noise, in place of what D puts there.
        w_avg_samples: number of z from which w̄ and σ_w are estimated.

    Raises:
        SettingError: if a value is out of range.

    Example:
        >>> mine = Recipe("mine", stages=(Stage(40, 128), Stage(20, space="w+", learning_rate=0.05)), start="warm")
    """

    name: str
    stages: tuple[Stage, ...]
    start: str = "mean"
    color_weight: float = 0.0
    latent_weight: float = 1e-3
    blurred_weight: float | None = None
    hole_weight: float | None = None
    colorless_weight: float | None = None
    color_layers: int | None = None
    tied_from: int | None = None
    tied_beyond: float | None = None
    noise_weight: float = 1e5
    optimize_noise: bool = True
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    clamp: bool = False
    comparison_sizes: tuple[int, ...] = (256,)
    mean_absolute: bool = False
    sigma_over_layers: bool = False
    fill: bool = False
    w_avg_samples: int = 10_000

    def __post_init__(self):
        if not self.stages:
            raise SettingError("A recipe needs at least one stage.")
        spaces = [SPACES.index(stage.space) for stage in self.stages]
        if 0 in spaces and len(set(spaces)) > 1:
            raise SettingError("A stage in z cannot be combined with stages in other spaces.")
        if spaces != sorted(spaces):
            raise SettingError("A stage in a narrower space cannot follow one in a wider: w, w+, s is the order.")
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.optimizer == "normalized" and self.optimize_noise:
            raise SettingError("Normalised gradient steps are for latents: set optimize_noise to False.")
        check_not_negative(self, ("color_weight", "latent_weight", "noise_weight"))
        for name in ("blurred_weight", "hole_weight", "colorless_weight", "tied_beyond", "tied_from", "color_layers"):
            if getattr(self, name) is not None:
                check_not_negative(self, (name,))
        if self.color_layers is not None and not (self.colorless_weight and self.latent_weight):
            raise SettingError("color_layers needs a latent_weight and a colorless_weight above 0.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise SettingError(f"Adam's β₁ and β₂ must lie in [0, 1), not {tuple(self.betas)}.")
        if self.w_avg_samples < 2:
            raise SettingError(f"Statistics of W need at least 2 samples, not {self.w_avg_samples}.")
        if not self.comparison_sizes or min(self.comparison_sizes) < 16:
            raise SettingError(
                f"Images are compared at 16 px or more, not {list(self.comparison_sizes)}: VGG16 shrinks them."
            )

    @property
    def num_steps(self) -> int:
        """Total number of steps."""
        return sum(stage.num_steps for stage in self.stages)

    @property
    def terms(self) -> dict:
        """The settings of the objective (``losses.Objective``)."""
        return {name: getattr(self, name) for name in _OF_OBJECTIVE}

    def layer_weights(self, num_ws: int) -> Tensor | None:
        """[num_ws]: the factors by which layers' λ_w differ from ``latent_weight``; None if none does."""
        if self.color_layers is None:
            return None
        weights = torch.ones(num_ws)
        weights[self.color_layers :] = self.colorless_weight / self.latent_weight
        return weights

    def sigma(self, statistics: LatentStatistics, space: str, G: Generator) -> float:
        """The unit of the noise on the latent: σ_z in z; else σ_w, of one layer or of all together."""
        if space == "z":
            return statistics.z_std
        return statistics.w_std * (math.sqrt(G.num_ws) if self.sigma_over_layers else 1)

    def planned(
        self,
        G: Generator,
        changes: dict | None = None,
        *,
        degradation: nn.Module | None = None,
        continued: str | None = None,
    ) -> "Recipe":
        """The recipe as a search runs it: with the right stages for this photo and generator, and the caller's changes.

        Args:
            G: the generator; the stages get sizes that it can preview.
            changes: new values for settings (``SETTINGS``); None keeps the recipe's value. ``num_steps`` scales all
                stages; ``space`` "z" or "w" applies to all of them, "w+" or "s" only to the last. The other settings
                of a stage can be changed only if there is one stage.
            degradation: D; what it hides decides λ_w and which layers are tied, unless the changes do.
            continued: space of the result that is continued, if any: then no noise is added to the latent unless
                asked for, and layers that differ stay different.

        Raises:
            SettingError: if there is no such setting, or a value is out of range.
        """
        changes = {name: value for name, value in (changes or {}).items() if value is not None}
        stages = self.stages
        if continued == "s":
            raise SettingError("A search cannot continue in styles: begin at the result's ws.")
        if continued:
            stages = tuple(replace(stage, initial_noise=0.0) for stage in stages)
        if continued == "w+":  # its layers differ: one w for all of them would lose that
            stages = tuple(replace(stage, space="w+") if stage.space == "w" else stage for stage in stages)
        for name, value in changes.items():
            if name not in SETTINGS:
                raise unknown_name("setting of a search", name, SETTINGS)
            if name == "space":
                stages = in_space(stages, value)
            elif name == "num_steps":
                stages = scaled(stages, value)
            elif name in _OF_STAGES and len(stages) > 1:
                raise SettingError(
                    f"Each of the {len(stages)} stages of {self.name} has its own {name}: make a recipe of your own."
                )
            elif name in _OF_STAGES:
                stages = (replace(stages[0], **{name: value}),)
        stages = tuple(replace(stage, size=available(G, stage.size)) for stage in stages)
        chosen = {name: value for name, value in changes.items() if name in _OF_RECIPES}
        if chosen.get("sigma_over_layers", self.sigma_over_layers) and not G.synthesis.demodulates:
            chosen["sigma_over_layers"] = False
            warnings.warn(
                "This generator does not demodulate, so that noise of the size of all layers' σ_w together would leave "
                "no face: the noise on w has the size of one layer's.",
                stacklevel=3,
            )
        if degradation is not None:
            decided = replace(self, **chosen)._by_what_is_hidden(degradation, G)
            if "latent_weight" in chosen and "colorless_weight" not in chosen:  # a weight of all layers was given
                decided.pop("color_layers", None)
            chosen = decided | chosen
        return replace(self, stages=stages, **chosen)

    def _by_what_is_hidden(self, degradation: nn.Module, G: Generator) -> dict:
        """The settings that follow from what the degradation hides: detail, a part of the face, colours."""
        decided = {}
        if self.blurred_weight is not None or self.tied_beyond is not None:
            visible = visible_resolution(degradation)
            if self.blurred_weight is not None and visible < REFERENCE_SIZE:
                decided["latent_weight"] = self.blurred_weight
            if self.tied_beyond is not None and self.tied_from is None:
                decided["tied_from"] = _finer_than(G, self.tied_beyond * visible)
        if self.hole_weight is not None and hidden_share(degradation) > LARGE_HOLE:
            decided["latent_weight"] = max(self.hole_weight, decided.get("latent_weight", 0.0))
        if self.colorless_weight and self.latent_weight and self.color_layers is None and hides_color(degradation):
            decided["color_layers"] = _finer_than(G, COARSE_SIZE)
        return decided


_OF_STAGES = {field.name for field in fields(Stage)}
_OF_RECIPES = {field.name for field in fields(Recipe)} - {"name", "stages"}
_OF_OBJECTIVE = (
    "color_weight", "latent_weight", "noise_weight", "clamp", "comparison_sizes", "mean_absolute", "fill"
)  # fmt: skip
SETTINGS = sorted(_OF_STAGES | _OF_RECIPES)  # what ``Recipe.planned`` and ``project`` can change

# Karras et al. 2020 (StyleGAN2, arXiv 1912.04958), appendix D, with the constants of NVIDIA's projector.
KARRAS2020 = Recipe("karras2020", stages=(Stage(1000, initial_noise=0.05),))

# Small previews cover most of the way; the likeness comes at full size in W+. A w+ that stays near w̄ beats a w that
# wanders far from it. β₂ = 0.95 forgets the first, largest gradients within a stage of 30 steps. Searching the noise
# buffers as well would paint the photo's blur, grain and edges into them, and gains nothing for an intact photo.
FAST = Recipe(
    "fast",
    stages=(
        Stage(30, 128, "w", learning_rate=0.1, rampdown=1.0),
        Stage(30, 256, "w+", learning_rate=0.05, rampdown=0.5),
        Stage(90, None, "w+", learning_rate=0.08, rampdown=1.0),
    ),
    start="warm",
    color_weight=1.0,
    blurred_weight=0.02,
    hole_weight=0.1,
    colorless_weight=0.4,
    tied_beyond=2.0,
    optimize_noise=False,
    betas=(0.9, 0.95),
    clamp=True,
)

# The same in three times as many steps.
BEST = replace(
    FAST,
    name="best",
    stages=(
        Stage(40, 128, "w", learning_rate=0.1, rampdown=1.0),
        Stage(60, 256, "w+", learning_rate=0.05, rampdown=0.5),
        Stage(340, None, "w+", learning_rate=0.08, rampdown=1.0),
    ),
)

# The search of the course that this exercise comes from: W+ from the first step.
COURSE = Recipe(
    "course",
    stages=(Stage(1000, space="w+", initial_noise=0.05),),
    mean_absolute=True,
    sigma_over_layers=True,
)

# Poirier-Ginter and Lalonde 2023, "Robust Unsupervised StyleGAN Image Restoration" (arXiv 2302.06733): three spaces,
# each wider than the last, and smaller steps of a fixed length. The paper weights the colours by 0.1 against the sum of
# the octaves in LPIPS; d here is their mean, without LPIPS's heads, about eight times as large: 0.1 · 8 / 5 is 0.16.
ROBUST2023 = Recipe(
    "robust2023",
    stages=tuple(
        Stage(150, space=space, learning_rate=rate, rampup=0.0, rampdown=0.0)
        for space, rate in (("w", 0.08), ("w+", 0.02), ("s", 0.005))
    ),
    color_weight=0.16,
    latent_weight=0.0,
    optimize_noise=False,
    optimizer="normalized",
    comparison_sizes=(256, 128, 64, 32, 16),
    fill=True,
)

# Takes seconds, to check that everything runs; do not expect a likeness.
SMOKE = Recipe("smoke", stages=(Stage(4, 128),), start="warm", clamp=True, w_avg_samples=1000)

RECIPES = {recipe.name: recipe for recipe in (FAST, BEST, KARRAS2020, COURSE, ROBUST2023, SMOKE)}


def pick_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by its name; a ``Recipe`` is returned as it is.

    Raises:
        SettingError: if there is no recipe of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise unknown_name("recipe", str(recipe), RECIPES)
    return RECIPES[recipe]


def _finer_than(G: Generator, size: float) -> int | None:
    """The first layer with features finer than ``size`` px, if there is one."""
    return next((i for i, resolution in enumerate(G.synthesis.layer_resolutions) if resolution > size), None)

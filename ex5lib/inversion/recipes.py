"""Recipes: how a search runs, as plain data.

A recipe is a list of stages and a few settings for all of them: everything that its author decides. What follows from
it for a photo and a generator is a ``plan``. Everything that distinguishes one recipe from another is a field here; no
code checks a recipe's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from torch import Tensor

from ex5lib.errors import SettingError, unknown_name
from ex5lib.inversion.latents import SPACES, layers_differ
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.stages import Stage, check_not_negative, in_space, scaled

STARTS = ("mean", "warm")
Start = Projection | Sequence[Projection] | Tensor | str | None  # where a search can be told to begin


@dataclass(frozen=True)
class Recipe:
    """A search as data.

    Attributes:
        name: as recorded in the settings of a result.
        stages: the stages, the same for every degradation.
        start: "mean" starts at w̄; "warm" at the regressed w (``WarmStart``) or at w̄, whichever makes the nearer image.
        color_weight: λ_c, of the colours at 16 px.
        latent_weight: λ_w, of the latent distance.
        blurred_weight: λ_w if the degradation hides detail (``probe.visible_resolution``); None leaves it as it is.
        hole_weight: if the degradation hides a part of the face, λ_w is at least the square of that share
            (``probe.hidden_share``), up to this; None leaves it as it is.
        identity_weight: λ_i, of the face's descriptor. Where the degradation hides more than a tenth of the face
            (``probe.hidden_share``), the descriptor says nothing, and it is 0.
        colorless_weight: λ_w of the layers that make the colours, if the degradation hides these
            (``probe.hides_color``). These layers are held not to w̄ but to the w that the first stage found, in which
            colours are as expected for such a face. None leaves it as it is.
        tied_beyond: layers move together in w+, with one change of w for all of them, if their features are more than
            this many times finer than the finest detail that survives the degradation (``probe.visible_resolution``).
            Alone, each would fit what the photo does not show, and make stripes and stray hair. None ties no layers.
        noise_weight: λ_n, of the noise regularisation.
        optimize_noise: whether the noise buffers are searched as well; if not, they stay as drawn and R(n) is 0.
        betas: Adam's β₁ and β₂.
        clamp: compare images clamped to [−1, 1], as they are displayed. Otherwise values beyond white can lower d.
        mean_absolute: measure the latent distance by its mean absolute difference (``losses.latent_distances``).
        sigma_over_layers: scale the noise on w by σ_w of all layers together, √num_ws times that of one.
        w_avg_samples: number of z from which w̄ and σ_w are estimated, unless they are given.

    Raises:
        SettingError: if a value is out of range.

    Example:
        >>> mine = Recipe("mine", stages=(Stage(40, 128), Stage(20, space="w+", learning_rate=0.05)), start="warm")
    """

    name: str
    stages: tuple[Stage, ...]
    start: str = "mean"
    color_weight: float = 0.0
    identity_weight: float = 0.0
    latent_weight: float = 1e-3
    blurred_weight: float | None = None
    hole_weight: float | None = None
    colorless_weight: float | None = None
    tied_beyond: float | None = None
    noise_weight: float = 1e5
    optimize_noise: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    clamp: bool = False
    mean_absolute: bool = False
    sigma_over_layers: bool = False
    w_avg_samples: int = 10_000

    def __post_init__(self):
        if not self.stages:
            raise SettingError("A recipe needs at least one stage.")
        spaces = [SPACES.index(stage.space) for stage in self.stages]
        if 0 in spaces and len(set(spaces)) > 1:
            raise SettingError("A stage in z cannot be combined with stages in other spaces.")
        if spaces != sorted(spaces):
            raise SettingError("A stage in w cannot follow one in w+: the differences of its layers would be lost.")
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        weights = ("color_weight", "identity_weight", "latent_weight", "noise_weight")
        optional = [name for name in (*_BY_WHAT_IS_HIDDEN, "tied_beyond") if getattr(self, name) is not None]
        check_not_negative(self, [*weights, *optional])
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise SettingError(f"Adam's β₁ and β₂ must lie in [0, 1), not {tuple(self.betas)}.")
        if self.w_avg_samples < 2:
            raise SettingError(f"Statistics of W need at least 2 samples, not {self.w_avg_samples}.")

    @property
    def num_steps(self) -> int:
        """Total number of steps."""
        return sum(stage.num_steps for stage in self.stages)


_BY_WHAT_IS_HIDDEN = ("blurred_weight", "hole_weight", "colorless_weight")
_OF_STAGES = {field.name for field in fields(Stage)}
_OF_RECIPES = {field.name for field in fields(Recipe)} - {"name", "stages"}
SETTINGS = sorted(_OF_STAGES | _OF_RECIPES)  # what ``pick_recipe`` can change

# Karras et al. 2020 (StyleGAN2, arXiv 1912.04958), appendix D, with the constants of NVIDIA's projector.
KARRAS2020 = Recipe("karras2020", stages=(Stage(1000, initial_noise=0.05),))

# Small previews cover most of the way; the likeness comes at full size in W+. A w+ that stays near w̄ beats a w that
# wanders far from it. β₂ = 0.95 forgets the first, largest gradients within a stage of 30 steps. Searching the noise
# buffers as well would paint the photo's blur, grain and edges into them, and gains nothing for an intact photo.
FAST = Recipe(
    "fast",
    stages=(
        Stage(30, 128, "w", learning_rate=0.1, rampdown=1.0),
        Stage(15, 256, "w+", learning_rate=0.05, rampdown=0.5),
        Stage(110, None, "w+", learning_rate=0.15, rampdown=1.0, face_every=2, face_from=0.25, shortened=0.75),
    ),
    start="warm",
    color_weight=1.0,
    identity_weight=1.0,
    blurred_weight=0.05,
    hole_weight=0.1,
    colorless_weight=1.0,
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
        Stage(360, None, "w+", learning_rate=0.15, rampdown=1.0, face_every=2, face_from=0.25, shortened=0.75),
    ),
)

# The search of the course that this exercise comes from: W+ from the first step.
COURSE = Recipe(
    "course",
    stages=(Stage(1000, space="w+", initial_noise=0.05),),
    mean_absolute=True,
    sigma_over_layers=True,
)

# Takes seconds, to check that everything runs; do not expect a likeness.
SMOKE = Recipe("smoke", stages=(Stage(4, 128),), start="warm", clamp=True, w_avg_samples=1000)

RECIPES = {recipe.name: recipe for recipe in (FAST, BEST, KARRAS2020, COURSE, SMOKE)}


def pick_recipe(recipe: str | Recipe, *, start: Start = None, **settings) -> Recipe:
    """The recipe that was asked for. This is the one place where keywords become a recipe.

    Args:
        recipe: its name in ``RECIPES``, or a ``Recipe``.
        start: where the search is told to begin, as in ``project``. A search that continues a result adds no noise to
            the latent, and layers that differ stay different.
        settings: other values for fields of the recipe or its stages (``SETTINGS``); None keeps the recipe's own.
            ``num_steps`` scales all stages; ``space`` "z" or "w" applies to all of them, "w+" only to the last; the
            other settings of a stage can be changed only if there is one stage. A ``latent_weight`` holds for all
            layers, whatever the degradation hides, unless the weights for that are given as well.

    Raises:
        SettingError: if there is no such recipe or setting, a value is out of range, or it does not fit the start.
    """
    if not isinstance(recipe, Recipe):
        if recipe not in RECIPES:
            raise unknown_name("recipe", str(recipe), RECIPES)
        recipe = RECIPES[recipe]
    if isinstance(start, str):
        settings["start"] = start
    settings = {name: value for name, value in settings.items() if value is not None}
    stages = recipe.stages
    for name, value in settings.items():
        if name not in SETTINGS:
            raise unknown_name("setting of a search", name, SETTINGS)
        if name == "space":
            stages = in_space(stages, value)
        elif name == "num_steps":
            stages = scaled(stages, value)
        elif name in _OF_STAGES and len(stages) > 1:
            raise SettingError(
                f"Each of the {len(stages)} stages of {recipe.name} has its own {name}: make a recipe of your own."
            )
        elif name in _OF_STAGES:
            stages = (replace(stages[0], **{name: value}),)
    if found_in := _space_of(start):
        if "initial_noise" in settings:
            raise SettingError("A search that continues a result adds no noise to it: leave out initial_noise.")
        if found_in == "w+" and settings.get("space") == "w":
            raise SettingError("The layers of the start differ, and one w for all of them would lose that: use w+.")
        stages = tuple(replace(stage, initial_noise=0.0) for stage in stages)
        if found_in == "w+":
            stages = tuple(replace(stage, space="w+") if stage.space == "w" else stage for stage in stages)
    if "latent_weight" in settings:
        settings = dict.fromkeys(_BY_WHAT_IS_HIDDEN) | settings
    changes = {name: value for name, value in settings.items() if name in _OF_RECIPES}
    return replace(recipe, stages=stages, **changes)


def _space_of(start: object) -> str | None:
    """The space in which a search that continues such a start stays; None if it begins anew."""
    if isinstance(start, Tensor):
        return "w+" if layers_differ(start) else None
    runs = [start] if isinstance(start, Projection) else start if isinstance(start, Sequence) else []
    spaces = [run.settings["space"] for run in runs if isinstance(run, Projection)]
    if not set(spaces) <= set(SPACES):  # styles, which version 0.2 searched
        raise SettingError(f"A search continues in {', '.join(SPACES)}, not in {spaces[0]}: begin at the result's ws.")
    return max(spaces, key=SPACES.index, default=None)

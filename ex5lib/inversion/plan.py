"""What follows from a recipe for one photo and one generator.

No code here looks at a degradation's class. It is tried on test images (``probe``), and what it hides decides. So a
degradation of your own is treated like a built-in one.
"""

import math
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.degradations.probe import hidden_share, hides_color, reach, visible_resolution
from ex5lib.inversion.losses import FACE, FACE_SIZE
from ex5lib.inversion.recipes import Recipe
from ex5lib.inversion.stages import Stage
from stylegan2_ada.generator import Generator

MUCH_OF_THE_FACE = 0.1  # hidden, and it is not looked at alone, nor by the descriptor: less than an eye
COARSE_SIZE = 32  # px: up to here a StyleGAN's layers make pose and shape, beyond it colours and texture (1812.04948)


@dataclass(frozen=True, eq=False)
class Plan:
    """A recipe as it runs for a photo and a generator.

    Attributes:
        recipe: what was asked for.
        stages: those of the recipe, with sizes that the generator can make.
        latent_weights: λ_w of each layer, [num_ws].
        tied_from: the first of the layers that move together in w+; num_ws ties none.
        held_from: the first of the layers that are held to the w that the first stage finds, not to w̄; num_ws holds
            none so.
        identity_weight: λ_i.
        face_margin: px of ``FACE_SIZE`` around the face that D needs for it.
        sigma_scale: factor of σ_w for the noise on w.
    """

    recipe: Recipe
    stages: tuple[Stage, ...]
    latent_weights: Tensor
    tied_from: int
    held_from: int
    identity_weight: float
    face_margin: int
    sigma_scale: float

    @property
    def num_steps(self) -> int:
        """Total number of steps."""
        return sum(stage.num_steps for stage in self.stages)


def plan_search(recipe: Recipe, G: Generator, degradation: nn.Module, target_size: int | None = None) -> Plan:
    """The plan of a search with this recipe, for a photo with this degradation.

    Args:
        target_size: px of the photo; None means that of the generator's images.
    """
    stages = tuple(replace(stage, size=preview_size(G, stage.size)) for stage in recipe.stages)
    wants_looks = any(stage.face_every for stage in stages)
    # D is tried only where that decides something: one of your own may know a single size.
    face_shown = bool(wants_looks or recipe.identity_weight) and hidden_share(degradation) <= MUCH_OF_THE_FACE
    looks = (
        wants_looks
        and face_shown
        and min(G.img_resolution, target_size or G.img_resolution) >= FACE_SIZE  # less has no such detail
        and visible_resolution(degradation) >= REFERENCE_SIZE
    )
    margin = reach(degradation, FACE, FACE_SIZE) if looks else None  # last, because it takes longest
    if margin is None:
        stages = tuple(replace(stage, face_every=None) for stage in stages)
    sigma_scale = 1.0
    if recipe.sigma_over_layers and G.synthesis.demodulates:
        sigma_scale = math.sqrt(G.num_ws)
    elif recipe.sigma_over_layers:
        warnings.warn(
            "This generator does not demodulate, so noise on w scaled by the σ_w of all layers would leave no face: it "
            "is scaled by that of one layer.",
            stacklevel=5,
        )
    return Plan(
        recipe=recipe,
        stages=stages,
        latent_weights=latent_weights(recipe, G, degradation),
        tied_from=tied_layers(recipe, G, degradation),
        held_from=held_layers(recipe, G, degradation),
        identity_weight=recipe.identity_weight if face_shown else 0.0,
        face_margin=margin or 0,
        sigma_scale=sigma_scale,
    )


def latent_weights(recipe: Recipe, G: Generator, degradation: nn.Module) -> Tensor:
    """λ_w of each layer, [num_ws], on the CPU: what the degradation hides, w̄ has to decide."""
    weight = recipe.latent_weight
    if recipe.blurred_weight is not None and visible_resolution(degradation) < REFERENCE_SIZE:
        weight = recipe.blurred_weight
    if recipe.hole_weight is not None:
        weight = max(weight, min(recipe.hole_weight, hidden_share(degradation) ** 2))
    weights = torch.full((G.num_ws,), weight, dtype=torch.float64)  # exactly the recipe's numbers: they are recorded
    if recipe.colorless_weight is not None:
        weights[held_layers(recipe, G, degradation) :] = recipe.colorless_weight
    return weights


def held_layers(recipe: Recipe, G: Generator, degradation: nn.Module) -> int:
    """The first of the layers that make the colours, if the photo says nothing about them; else num_ws."""
    if recipe.colorless_weight is None or not hides_color(degradation):
        return G.num_ws
    return _first_finer_than(G, COARSE_SIZE)


def tied_layers(recipe: Recipe, G: Generator, degradation: nn.Module) -> int:
    """The first of the layers that move together in w+, because alone each would fit what the photo does not show."""
    if recipe.tied_beyond is None:
        return G.num_ws
    return _first_finer_than(G, recipe.tied_beyond * visible_resolution(degradation))


def preview_size(G: Generator, size: int | None) -> int | None:
    """The size of the smallest preview of at least ``size`` px; None, the full size, if there is none."""
    return None if size is None else min((other for other in G.preview_sizes if other >= size), default=None)


def _first_finer_than(G: Generator, size: float) -> int:
    """The first layer with features finer than ``size`` px; num_ws if there is none."""
    return next((i for i, resolution in enumerate(G.synthesis.layer_resolutions) if resolution > size), G.num_ws)

"""Image restoration by searching the latent space of a pretrained face GAN."""

import importlib

from ex5lib.alignment import align_face
from ex5lib.degradations import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
from ex5lib.errors import Ex5Error
from ex5lib.figures import plot_iterations, plot_losses
from ex5lib.images import load_image, save_image
from ex5lib.jpeg import Jpeg
from ex5lib.latents import sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.projection import Projection
from ex5lib.projector import project
from ex5lib.recipes import Recipe
from ex5lib.restore import restore
from ex5lib.stages import Stage
from ex5lib.weights import load_generator

__version__ = "0.2.0"

__all__ = [
    "Downsample",
    "Ex5Error",
    "GaussianBlur",
    "Grayscale",
    "Identity",
    "Inpaint",
    "Jpeg",
    "Noise",
    "PerceptualDistance",
    "Projection",
    "Recipe",
    "Section",
    "Stage",
    "align_face",
    "explore",
    "load_generator",
    "load_image",
    "plot_iterations",
    "plot_losses",
    "project",
    "restore",
    "sample_ws",
    "save_image",
]
_OF_NOTEBOOKS = {"Section": "section", "explore": "explorer"}


def __getattr__(name: str):
    if name in _OF_NOTEBOOKS:  # on first use: the notebook's libraries would slow down every other import
        return getattr(importlib.import_module(f"ex5lib.notebook.{_OF_NOTEBOOKS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

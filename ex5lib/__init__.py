"""Image restoration by searching the latent space of a pretrained face GAN."""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors; at run time every name is imported on first use, with the libraries that it needs
    from ex5lib.alignment import align_face
    from ex5lib.degradations import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
    from ex5lib.errors import Ex5Error
    from ex5lib.figures import plot_iterations, plot_losses
    from ex5lib.images import load_image, save_image
    from ex5lib.jpeg import Jpeg
    from ex5lib.latents import sample_ws
    from ex5lib.losses import PerceptualDistance
    from ex5lib.notebook.explorer import explore
    from ex5lib.notebook.section import Section
    from ex5lib.projection import Projection
    from ex5lib.projector import project
    from ex5lib.recipes import Recipe
    from ex5lib.restore import restore
    from ex5lib.stages import Stage
    from ex5lib.weights import load_generator

__version__ = "0.2.0"

_MODULES = {
    "align_face": "alignment",
    "Downsample": "degradations",
    "GaussianBlur": "degradations",
    "Grayscale": "degradations",
    "Identity": "degradations",
    "Inpaint": "degradations",
    "Noise": "degradations",
    "Ex5Error": "errors",
    "plot_iterations": "figures",
    "plot_losses": "figures",
    "load_image": "images",
    "save_image": "images",
    "Jpeg": "jpeg",
    "sample_ws": "latents",
    "PerceptualDistance": "losses",
    "explore": "notebook.explorer",
    "Section": "notebook.section",
    "Projection": "projection",
    "project": "projector",
    "Recipe": "recipes",
    "restore": "restore",
    "Stage": "stages",
    "load_generator": "weights",
}
__all__ = sorted(_MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str):
    if name in _MODULES:
        found = getattr(importlib.import_module(f"ex5lib.{_MODULES[name]}"), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and importlib.util.find_spec(f"ex5lib.{name}") is not None:
        return importlib.import_module(f"ex5lib.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """Importing the module ``ex5lib.restore``, from wherever, must not put it in the place of its function."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "restore" and isinstance(value, ModuleType):
            value = value.restore
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

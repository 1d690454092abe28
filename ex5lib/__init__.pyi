from .course.section import Section
from .degradations.jpeg import Jpeg
from .degradations.known import Downsample, GaussianBlur, Grayscale, Identity, Inpaint, Noise
from .degradations.unknown import UnknownBlur, UnknownColors
from .errors import Ex5Error
from .explorer.widget import explore
from .faces.alignment import align_face
from .figures import plot_iterations, plot_losses
from .images.loading import load_image, save_image
from .inversion.latents import sample_ws
from .inversion.losses import PerceptualDistance
from .inversion.projection import Projection
from .inversion.projector import project
from .inversion.recipes import Recipe
from .inversion.stages import Stage
from .restoration.pipeline import restore
from .weights.loading import load_generator

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
    "UnknownBlur",
    "UnknownColors",
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
__version__: str

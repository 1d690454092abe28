"""Image restoration by searching the latent space of a pretrained face GAN."""

from ex5lib.alignment import AlignedFace, align_face, crop_quad, detect_faces, ffhq_quad
from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.errors import Ex5Error
from ex5lib.figures import plot_alignment, plot_gallery, plot_images, plot_iterations, plot_losses, save_figure
from ex5lib.images import load_image, load_mask, save_image
from ex5lib.latents import latent_statistics, sample_ws
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import compare, identity_distance, psnr, ssim
from ex5lib.projector import Projection, project
from ex5lib.recipes import Stage
from ex5lib.zoo import landmark_model, load_generator, load_vgg16

__all__ = [
    "AlignedFace",
    "Ex5Error",
    "GaussianBlur",
    "Grayscale",
    "Identity",
    "Inpaint",
    "PerceptualDistance",
    "Projection",
    "Stage",
    "align_face",
    "compare",
    "crop_quad",
    "detect_faces",
    "explore",
    "ffhq_quad",
    "identity_distance",
    "landmark_model",
    "latent_statistics",
    "load_generator",
    "load_image",
    "load_mask",
    "load_vgg16",
    "plot_alignment",
    "plot_gallery",
    "plot_images",
    "plot_iterations",
    "plot_losses",
    "project",
    "psnr",
    "sample_ws",
    "save_figure",
    "save_image",
    "ssim",
    "sweep_html",
]


def __getattr__(name: str):
    if name in {"explore", "sweep_html"}:  # on first use: the widgets' libraries would slow down every other import
        from ex5lib import explorer

        return getattr(explorer, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Image restoration by searching the latent space of a pretrained face GAN."""

import importlib

from ex5lib.alignment import AlignedFace, align_face, aligned_landmarks, crop_quad, detect_faces, ffhq_quad
from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.errors import Ex5Error
from ex5lib.experiments import EXPERIMENTS, PROFILES, check_claim
from ex5lib.figures import (
    plot_alignment,
    plot_curves,
    plot_discriminator,
    plot_eyes,
    plot_gallery,
    plot_gan,
    plot_histograms,
    plot_images,
    plot_iterations,
    plot_losses,
    plot_map,
    save_animation,
    save_figure,
)
from ex5lib.images import load_image, load_mask, resize_area, save_image
from ex5lib.latents import latent_statistics, sample_ws, sample_z
from ex5lib.losses import PerceptualDistance
from ex5lib.metrics import (
    color_difference,
    compare,
    face_mask,
    gradient_energy,
    identity_distance,
    iris_colors,
    psnr,
    ssim,
)
from ex5lib.projector import Projection, project
from ex5lib.recipes import Stage
from ex5lib.zoo import landmark_model, load_generator, load_vgg16

__all__ = [
    "EXPERIMENTS",
    "PROFILES",
    "AlignedFace",
    "Ex5Error",
    "GaussianBlur",
    "Grayscale",
    "Identity",
    "Inpaint",
    "PerceptualDistance",
    "Projection",
    "Section",
    "Stage",
    "align_face",
    "aligned_landmarks",
    "check_claim",
    "choose_photo",
    "color_difference",
    "compare",
    "crop_quad",
    "detect_faces",
    "explore",
    "face_mask",
    "ffhq_quad",
    "gradient_energy",
    "identity_distance",
    "iris_colors",
    "landmark_model",
    "latent_statistics",
    "load_generator",
    "load_image",
    "load_mask",
    "load_vgg16",
    "plot_alignment",
    "plot_curves",
    "plot_discriminator",
    "plot_eyes",
    "plot_gallery",
    "plot_gan",
    "plot_histograms",
    "plot_images",
    "plot_iterations",
    "plot_losses",
    "plot_map",
    "project",
    "psnr",
    "resize_area",
    "sample_ws",
    "sample_z",
    "save_animation",
    "save_figure",
    "save_image",
    "ssim",
    "sweep_html",
]
_OF_NOTEBOOKS = {"explore": "explorer", "sweep_html": "explorer", "Section": "section", "choose_photo": "upload"}


def __getattr__(name: str):
    if name in _OF_NOTEBOOKS:  # on first use: the notebook's libraries would slow down every other import
        return getattr(importlib.import_module(f"ex5lib.{_OF_NOTEBOOKS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

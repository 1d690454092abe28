"""Face generators as plain PyTorch networks: no image files, no optimisation, nothing executed from a weights file."""

from stylegan2_ada.mobile import MobileSynthesis, mobile_generator
from stylegan2_ada.networks import Generator, MappingNetwork, SynthesisNetwork, random_generator

__all__ = [
    "Generator",
    "MappingNetwork",
    "MobileSynthesis",
    "SynthesisNetwork",
    "mobile_generator",
    "random_generator",
]

"""Face generators as plain PyTorch networks: no image files, no optimisation, nothing executed from a weights file."""

from stylegan2_ada.generator import Generator, MappingNetwork
from stylegan2_ada.mobile import MobileSynthesis, mobile_generator
from stylegan2_ada.networks import SynthesisNetwork, random_generator

__all__ = [
    "Generator",
    "MappingNetwork",
    "MobileSynthesis",
    "SynthesisNetwork",
    "mobile_generator",
    "random_generator",
]

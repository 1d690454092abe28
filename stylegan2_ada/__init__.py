"""Face generators as plain PyTorch networks: no image files, no optimisation, nothing executed from a weights file."""

from stylegan2_ada.mobile import MobileSynthesis, mobile_generator
from stylegan2_ada.networks import Generator, MappingNetwork

__all__ = ["Generator", "MappingNetwork", "MobileSynthesis", "mobile_generator"]

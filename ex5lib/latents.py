"""Latents: sampling them, and the statistics of W that the projector starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ex5lib.errors import SettingError, UnknownNameError
from stylegan2_ada.networks import Generator

SPACES = ("z", "w", "w+")
DISTRIBUTIONS = ("normal", "uniform")


@dataclass(frozen=True)
class LatentStatistics:
    """Statistics of W over mapped z.

    Attributes:
        w_avg: w̄ [w_dim], the mean.
        w_std: σ_w, the scalar √(mean ‖w − w̄‖²).
        z_std: the same of z.
        central_z: [1, z_dim], of all sampled z the one whose w lies nearest to w̄: where a search in Z starts.
    """

    w_avg: Tensor
    w_std: float
    z_std: float
    central_z: Tensor


def sample_z(count: int, z_dim: int, *, seed: int, distribution: str = "normal") -> Tensor:
    """z [count, z_dim]: standard normal as in training, or uniform on [0, 1].

    Raises:
        UnknownNameError: for another distribution.
    """
    if distribution not in DISTRIBUTIONS:
        raise UnknownNameError("distribution of z", distribution, DISTRIBUTIONS)
    random = torch.Generator().manual_seed(seed)
    draw = torch.randn if distribution == "normal" else torch.rand
    return draw(count, z_dim, generator=random)


@torch.no_grad()
def latent_statistics(
    G: Generator, *, num_samples: int = 10_000, seed: int = 0, distribution: str = "normal"
) -> LatentStatistics:
    """Mean and standard deviation of W over ``num_samples`` mapped z, on the generator's device.

    Raises:
        SettingError: if num_samples < 2.
        UnknownNameError: for an unknown distribution.
    """
    if num_samples < 2:
        raise SettingError(f"Statistics of W need at least 2 samples, not {num_samples}.")
    z = sample_z(num_samples, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    w = G.mapping(z)[:, 0]  # [num_samples, w_dim]
    w_avg = w.mean(dim=0)
    squared = (w - w_avg).square().sum(dim=1)
    z_std = (z - z.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
    return LatentStatistics(w_avg, squared.mean().sqrt().item(), z_std, z[squared.argmin()][None])


@torch.no_grad()
def sample_ws(G: Generator, seed: int, *, truncation_psi: float = 1.0, distribution: str = "normal") -> Tensor:
    """ws [1, num_ws, w_dim] of a seed: a face to look at, or a start for ``project``."""
    z = sample_z(1, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    return G.mapping(z, truncation_psi=truncation_psi)

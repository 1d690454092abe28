"""Latents: sampling them, and the statistics of W that the projector starts from."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
        SettingError: for a seed that is negative or has more than 63 bits.
    """
    if distribution not in DISTRIBUTIONS:
        raise UnknownNameError("distribution of z", distribution, DISTRIBUTIONS)
    if not 0 <= seed < 2**63:
        raise SettingError(f"A seed is a whole number from 0 to 2⁶³ − 1, not {seed}.")
    random = torch.Generator().manual_seed(seed)
    draw = torch.randn if distribution == "normal" else torch.rand
    return draw(count, z_dim, generator=random)


def class_labels(G: Generator, count: int, class_index: int | None, *, seed: int) -> Tensor | None:
    """One-hot labels c [count, c_dim] for a class-conditional generator: one class, or drawn uniformly if None.

    Returns:
        None for an unconditional generator.

    Raises:
        SettingError: if the generator has no such class.
    """
    if class_index is not None and not 0 <= class_index < G.c_dim:
        has = f"the classes 0 to {G.c_dim - 1}" if G.c_dim else "no classes"
        raise SettingError(f"There is no class {class_index}: this generator has {has}.")
    if not G.c_dim:
        return None
    if class_index is None:
        chosen = torch.randint(G.c_dim, (count,), generator=torch.Generator().manual_seed(seed))
    else:
        chosen = torch.full((count,), class_index)
    return F.one_hot(chosen, G.c_dim).to(G.w_avg)


@torch.no_grad()
def latent_statistics(
    G: Generator,
    *,
    num_samples: int = 10_000,
    seed: int = 0,
    distribution: str = "normal",
    class_index: int | None = None,
) -> LatentStatistics:
    """Mean and standard deviation of W over ``num_samples`` mapped z, on the generator's device.

    Raises:
        SettingError: if num_samples < 2, or the generator has no such class.
        UnknownNameError: for an unknown distribution.
    """
    if num_samples < 2:
        raise SettingError(f"Statistics of W need at least 2 samples, not {num_samples}.")
    z = sample_z(num_samples, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    w = G.mapping(z, class_labels(G, num_samples, class_index, seed=seed))[:, 0]  # [num_samples, w_dim]
    w_avg = w.mean(dim=0)
    squared = (w - w_avg).square().sum(dim=1)
    z_std = (z - z.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
    return LatentStatistics(w_avg, squared.mean().sqrt().item(), z_std, z[squared.argmin()][None])


@torch.no_grad()
def sample_ws(
    G: Generator,
    seed: int,
    *,
    truncation_psi: float = 1.0,
    distribution: str = "normal",
    class_index: int | None = None,
) -> Tensor:
    """ws [1, num_ws, w_dim] of a seed: a face to look at, or a start for ``project``.

    Raises:
        SettingError: if the generator has no such class.
        UnknownNameError: for an unknown distribution.
    """
    z = sample_z(1, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    return G.mapping(z, class_labels(G, 1, class_index, seed=seed), truncation_psi=truncation_psi)

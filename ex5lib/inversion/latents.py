"""Latents z, w and w+: sampling them, the statistics of W, and converting between them in a search."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ex5lib.errors import SettingError, unknown_name
from stylegan2_ada.generator import Generator

SPACES = ("z", "w", "w+")  # from narrow to wide
DISTRIBUTIONS = ("normal", "uniform")


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Statistics of W over mapped z.

    Attributes:
        w_avg: w̄ [w_dim], the mean.
        w_std: σ_w, the scalar √(mean ‖w − w̄‖²).
        z_std: the same for z.
        central_z: [1, z_dim], the sampled z whose w lies nearest to w̄; a search in Z starts there.
        label: [1, c_dim], the one-hot class of the samples; None for all classes, or if the generator has none.
        origin: what they were made from: num_samples, seed, distribution and class_index.
    """

    w_avg: Tensor
    w_std: float
    z_std: float
    central_z: Tensor
    label: Tensor | None
    origin: dict

    def to(self, device: torch.device) -> "LatentStatistics":
        """The same statistics on a device."""
        label = None if self.label is None else self.label.to(device)
        return replace(self, w_avg=self.w_avg.to(device), central_z=self.central_z.to(device), label=label)


def seeded(seed: int) -> torch.Generator:
    """A random generator on the CPU, so that every device draws the same numbers.

    Raises:
        SettingError: for a seed that is negative or has more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"A seed is a whole number from 0 to 2⁶³ − 1, not {seed}.")
    return torch.Generator().manual_seed(seed)


def sample_z(count: int, z_dim: int, *, seed: int, distribution: str = "normal") -> Tensor:
    """z [count, z_dim]: standard normal as in training, or uniform on [0, 1].

    Raises:
        SettingError: for another distribution, or a seed that is negative or has more than 63 bits.
    """
    if distribution not in DISTRIBUTIONS:
        raise unknown_name("distribution of z", distribution, DISTRIBUTIONS)
    random = seeded(seed)
    draw = torch.randn if distribution == "normal" else torch.rand
    return draw(count, z_dim, generator=random)


def class_labels(G: Generator, count: int, class_index: int | None, *, seed: int) -> Tensor | None:
    """One-hot labels c [count, c_dim] for a class-conditional generator: of one class, or drawn uniformly if None.

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
    """Mean and standard deviation of W over mapped z, on the generator's device.

    Args:
        G: the generator.
        num_samples: number of z.
        seed: for z, and for the classes if they are drawn.
        distribution: of z, "normal" as in training or "uniform" on [0, 1].
        class_index: class of a class-conditional generator; None draws classes uniformly.

    Raises:
        SettingError: if num_samples < 2, the generator has no such class, or the distribution is unknown.
    """
    if num_samples < 2:
        raise SettingError(f"Statistics of W need at least 2 samples, not {num_samples}.")
    z = sample_z(num_samples, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    w = G.mapping(z, class_labels(G, num_samples, class_index, seed=seed))[:, 0]  # [num_samples, w_dim]
    w_avg = w.mean(dim=0)
    squared = (w - w_avg).square().sum(dim=1)
    z_std = (z - z.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
    return LatentStatistics(
        w_avg=w_avg,
        w_std=squared.mean().sqrt().item(),
        z_std=z_std,
        central_z=z[squared.argmin()][None],
        label=None if class_index is None else class_labels(G, 1, class_index, seed=seed),
        origin={"num_samples": num_samples, "seed": seed, "distribution": distribution, "class_index": class_index},
    )


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
        SettingError: if the generator has no such class, or the distribution is unknown.
    """
    z = sample_z(1, G.z_dim, seed=seed, distribution=distribution).to(G.w_avg)
    return G.mapping(z, class_labels(G, 1, class_index, seed=seed), truncation_psi=truncation_psi)


def to_ws(G: Generator, latent: Tensor, space: str, label: Tensor | None = None) -> Tensor:
    """ws [N, num_ws, w_dim] of z [N, z_dim] (with label [1, c_dim]), w [N, 1, w_dim] or w+ [N, num_ws, w_dim]."""
    if space != "z":
        return latent.expand(-1, G.num_ws, -1)
    return G.mapping(latent, None if label is None else label.expand(len(latent), -1))


def tied(ws: Tensor, first: int) -> Tensor:
    """ws [N, num_ws, w_dim] as they are, but layers from ``first`` on move together: each gets the mean gradient."""
    if first >= ws.shape[1]:
        return ws
    fine = ws[:, first:]
    mean = fine.mean(dim=1, keepdim=True)
    return torch.cat([ws[:, :first], fine.detach() + (mean - mean.detach())], dim=1)


def for_preview(ws: Tensor, G: Generator, size: int | None) -> Tensor:
    """w+ for a preview of ``size`` px: the same values, some of them without a gradient.

    A preview only approximates the effect of the layers that it skips. In a W+ search their styles would drift, so no
    gradient reaches them.
    """
    if size is None:
        return ws
    shared = G.synthesis.styles_shared(size)
    return torch.cat([ws[:, :shared], ws[:, shared:].detach()], dim=1)


def starting_latent(G: Generator, start: Tensor, space: str, count: int) -> Tensor:
    """The variable of a search that starts at a given latent, one copy for each of ``count`` photos.

    Args:
        G: the generator.
        start: z [1 or N, z_dim] for a search in Z; else w [w_dim] or [1 or N, w_dim], or ws [1 or N, L, w_dim] with
            L = 1 or num_ws.
        space: what is searched: "z", "w" or "w+".
        count: N.

    Returns:
        z [N, z_dim], w [N, 1, w_dim] or w+ [N, num_ws, w_dim].

    Raises:
        SettingError: if the latent has another shape, or its layers differ although a single w is searched.
    """
    latent = start.detach().to(G.w_avg)
    if space == "z":
        wanted = [G.z_dim]
    else:
        if latent.ndim < 3:
            latent = latent.view(-1, 1, latent.shape[-1])
        if space == "w+":
            latent = widened(latent, space, G.num_ws)
        elif latent.shape[1] > 1 and (latent == latent[:, :1]).all():
            latent = latent[:, :1]  # the same w in every layer, as the mapping network gives it
        wanted = [1 if space == "w" else G.num_ws, G.w_dim]
    if list(latent.shape[1:]) != wanted or len(latent) not in (1, count):
        differ = space == "w" and list(latent.shape[1:]) == [G.num_ws, G.w_dim]
        hint = ": its layers differ, so all stages must search in w+" if differ else ""
        raise SettingError(
            f"A start in {space} must have the shape {[count, *wanted]}, but this one has {list(start.shape)}{hint}."
        )
    return latent.expand(count, *wanted).clone()


def layers_differ(start: Tensor) -> bool:
    """Whether a start is ws [N, L, w_dim] whose layers differ."""
    return start.ndim == 3 and bool((start != start[:, :1]).any())


def widened(latent: Tensor, space: str, num_ws: int) -> Tensor:
    """A detached copy of a latent; w [N, 1, w_dim] becomes w+ [N, num_ws, w_dim] if the space is "w+"."""
    widens = space == "w+" and latent.shape[1] == 1
    return (latent.expand(-1, num_ws, -1) if widens else latent).detach().clone()

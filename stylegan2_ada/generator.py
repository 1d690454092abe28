"""What all generators share: the mapping network, the noise argument and the interface.

A synthesis network, StyleGAN2's in ``networks.py`` or MobileStyleGAN's in ``mobile.py``, plugs in behind ``Generator``.
The mapping network is that of StyleGAN (Karras et al. 2019, arXiv 1812.04948).
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The ``noise`` argument of a synthesis network: None for the built-in buffers, "none" for no noise, or {name: buffer}.
Noise = dict[str, Tensor] | str | None


def normalize_2nd_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale every row of x [N, C] to a mean square of 1 (StyleGAN's pixel norm applied to z)."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class MappingNetwork(nn.Module):
    """f: Z → W, a stack of fully connected layers with leaky ReLU (StyleGAN, section 2).

    In training, these weights are scaled at run time by a learning-rate multiplier and by 1/√fan_in ("equalised
    learning rate"). A pretrained network needs neither: the readers fold both into the weights, which leaves an
    ordinary ``nn.Linear`` per layer.

    Args:
        z_dim: width of z.
        w_dim: width of w.
        num_ws: number of w that the synthesis network takes, one for each layer.
        c_dim: number of classes, 0 for an unconditional network.
        num_layers: number of fully connected layers.
        embed_features: width of the class embedding; ``w_dim`` if None.
        layer_features: width of the hidden layers; ``w_dim`` if None.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int = 512,
        w_dim: int = 512,
        num_ws: int = 18,
        *,
        c_dim: int = 0,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
    ):
        super().__init__()
        self.z_dim, self.w_dim, self.num_ws, self.c_dim = z_dim, w_dim, num_ws, c_dim
        embed_features = (embed_features or w_dim) if c_dim else 0
        hidden = layer_features or w_dim
        widths = [z_dim + embed_features] + [hidden] * (num_layers - 1) + [w_dim]
        self.embed = nn.Linear(c_dim, embed_features) if c_dim else None
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map z to the style of every layer.

        Args:
            z: [N, z_dim], standard normal as in training.
            c: [N, c_dim], one-hot classes; only for a conditional network.
            truncation_psi: ψ of the truncation trick, w̄ + ψ (w − w̄); 1 leaves w as it is, 0 gives w̄.
            truncation_cutoff: truncate only the w of the first ``truncation_cutoff`` layers; None truncates all.

        Returns:
            ws [N, num_ws, w_dim], the same w for every layer unless there is a cutoff.

        Raises:
            ValueError: if z or c has the wrong shape.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must have the shape [N, {self.z_dim}], not {list(z.shape)}.")
        x = normalize_2nd_moment(z)  # [N, z_dim]
        if self.embed is not None:
            if c is None or c.shape != (len(z), self.c_dim):
                found = None if c is None else list(c.shape)
                raise ValueError(f"This network is class-conditional: c must be [{len(z)}, {self.c_dim}], not {found}.")
            x = torch.cat([x, normalize_2nd_moment(self.embed(c))], dim=1)  # [N, z_dim + embed_features]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * math.sqrt(2)
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if truncation_psi != 1:
            cut = self.num_ws if truncation_cutoff is None else truncation_cutoff
            ws = torch.cat([self.w_avg.lerp(ws[:, :cut], truncation_psi), ws[:, cut:]], dim=1)
        return ws


def estimate_w_avg(mapping: MappingNetwork, num_samples: int = 10_000, seed: int = 0) -> Tensor:
    """w̄ [w_dim], the mean of mapped z, for a network that was published without it.

    A conditional network's classes are drawn uniformly.
    """
    random = torch.Generator().manual_seed(seed)
    device, dtype = mapping.w_avg.device, mapping.w_avg.dtype
    z = torch.randn(num_samples, mapping.z_dim, generator=random).to(device, dtype)
    c = None
    if mapping.c_dim:
        classes = torch.randint(mapping.c_dim, (num_samples,), generator=random)
        c = F.one_hot(classes, mapping.c_dim).to(device, dtype)
    with torch.no_grad():
        return mapping(z, c)[:, 0].mean(dim=0)


class Synthesis(nn.Module):
    """What a generator needs of a synthesis network.

    The image is ``synthesis(ws, noise=None, size=None, window=None, dtype=None)``.

    Attributes:
        w_dim, num_ws: the shape of ws, [N, num_ws, w_dim].
        img_resolution, img_channels: R and the channels of the image.
        preview_sizes: sizes below R, in px, at which it makes a cheap preview.
        layer_resolutions: for each w of ws, the height and width in px of the finest features that it styles.
        demodulates: whether it normalises each sample's features. If so, it tolerates styles far from those of W.
    """

    w_dim: int
    num_ws: int
    img_resolution: int
    img_channels: int
    preview_sizes: tuple[int, ...]
    layer_resolutions: tuple[int, ...]
    demodulates: bool

    def styles_shared(self, size: int | None = None) -> int:
        """The number of styles, from the first, that act on an image of that size as on the full one."""
        raise NotImplementedError

    def noise_buffers(self, size: int | None = None) -> dict[str, Tensor]:
        """Copies of the built-in noise: {name: [1, 1, h, w]}, coarse to fine; with a size, only its preview's."""
        raise NotImplementedError


class Generator(nn.Module):
    """A mapping network and a synthesis network, behind the one interface that the rest of the project uses.

    Raises:
        ValueError: if the two disagree on the number of styles.
    """

    def __init__(self, mapping: MappingNetwork, synthesis: Synthesis):
        super().__init__()
        if mapping.num_ws != synthesis.num_ws:
            raise ValueError(f"The mapping makes {mapping.num_ws} styles but the synthesis takes {synthesis.num_ws}.")
        self.mapping, self.synthesis = mapping, synthesis
        self.z_dim, self.w_dim, self.c_dim = mapping.z_dim, mapping.w_dim, mapping.c_dim
        self.num_ws = synthesis.num_ws
        self.img_resolution, self.img_channels = synthesis.img_resolution, synthesis.img_channels

    @property
    def w_avg(self) -> Tensor:
        """w̄, the mean of W, [w_dim]."""
        return self.mapping.w_avg

    @property
    def preview_sizes(self) -> tuple[int, ...]:
        """As in ``Synthesis``."""
        return self.synthesis.preview_sizes

    def noise_buffers(self, size: int | None = None) -> dict[str, Tensor]:
        """As in ``Synthesis``."""
        return self.synthesis.noise_buffers(size)

    def forward(self, z: Tensor, c: Tensor | None = None, *, noise: Noise = None, **truncation) -> Tensor:
        """Image [N, img_channels, R, R] in about [−1, 1] of z [N, z_dim]."""
        return self.synthesis(self.mapping(z, c, **truncation), noise=noise)


def layer_noise(noise: Noise, name: str, built_in: Tensor) -> Tensor | None:
    """One layer's noise, from the ``noise`` argument in any of its three forms: None, "none" or a dict.

    Raises:
        ValueError: for any other string, or a buffer that is missing or of the wrong size.
    """
    if noise is None:
        return built_in
    if isinstance(noise, str):
        if noise != "none":
            raise ValueError(f'noise must be None, "none" or a dict of buffers, not "{noise}".')
        return None
    if name not in noise:
        raise ValueError(f"The noise has no buffer for layer {name}; start from G.noise_buffers().")
    if noise[name].ndim != 4 or noise[name].shape[1:] != built_in.shape[1:]:
        raise ValueError(
            f"Noise {name} must be [1 or N, {', '.join(map(str, built_in.shape[1:]))}], not {list(noise[name].shape)}."
        )
    return noise[name]

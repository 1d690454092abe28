"""Poirier-Ginter and Lalonde 2023, "Robust Unsupervised StyleGAN Image Restoration" (arXiv 2302.06733): a baseline.

Gradient descent in three latent spaces, each wider than the last, with steps of a fixed length.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib.degradations.probe import hidden_region
from ex5lib.devices import on_device, pick_device, pick_dtype
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.float16 import ScaledBackward
from ex5lib.inversion.latents import latent_statistics, seeded
from ex5lib.inversion.losses import PerceptualDistance, color_distance, latent_distance
from stylegan2_ada.generator import Generator, Noise

Styles = dict[nn.Linear, Tensor]  # of each affine layer, the style [N, C] that it makes of a w


class Found(NamedTuple):
    """What ``robust2023`` found, on the CPU, in names of a ``Projection``."""

    ws: Tensor  # [N, num_ws, w_dim], at which the search in styles began
    image: Tensor  # [N, 3, R, R], undegraded
    distance: float  # d of the image, averaged over the photos
    latent_distance: float  # ‖w − w̄‖ of ws
    num_steps: int
    settings: dict[str, str]  # "dtype"


def robust2023(
    G: Generator,
    target: Tensor,  # y [N, 3, H, H] in [−1, 1], already degraded
    *,
    degradation: nn.Module,
    distance: PerceptualDistance,
    num_steps: int = 450,
    rates: tuple[float, float, float] = (0.08, 0.02, 0.005),
    octaves: tuple[int, ...] = (256, 128, 64, 32, 16),
    color_weight: float = 0.16,
    latent_weight: float = 0.0,
    seed: int = 0,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
) -> Found:
    """Search for the image that, degraded in the same way, looks like the target.

    Args:
        G, target, degradation, distance, seed, device, dtype: as in ``project``.
        num_steps: a third each in w, w+ and styles.
        rates: the lengths of the steps there.
        octaves: px at which images are compared; d is the mean.
        color_weight: of the colours at 16 px. The paper weighs them by 0.1 against the sum of the octaves in LPIPS; d
            here is their mean, without LPIPS's heads, about eight times as large: 0.1 · 8 / 5 is 0.16.
        latent_weight: of ‖w − w̄‖, which is not in the paper.
    """
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    G, D, distance = (on_device(device, module) for module in (G, degradation, distance))
    backward = ScaledBackward(device) if dtype == torch.float16 else torch.autograd.backward
    w_avg = latent_statistics(G, seed=seed).w_avg
    random = seeded(seed)
    noise = {name: torch.randn(buffer.shape, generator=random).to(device) for name, buffer in G.noise_buffers().items()}
    sizes = sorted({min(size, G.img_resolution, target.shape[-1]) for size in octaves})
    # What D hides is compared as the same noise in both images, instead of what D puts there.
    hidden = hidden_region(D, sizes[-1]).to(device)
    filling = torch.rand(3, sizes[-1], sizes[-1], generator=seeded(0)).to(device) * 2 - 1
    y = torch.where(hidden, filling, resize_area(target.to(device), sizes[-1]))

    def comparison(distance: PerceptualDistance) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        with torch.no_grad():
            features = [distance.features(resize_area(y, size)) for size in sizes]

        def compare(image: Tensor) -> tuple[Tensor, Tensor]:
            x = torch.where(hidden, filling, D(resize_area(image, sizes[-1])))
            d = [distance(resize_area(x, size), of_y) for size, of_y in zip(sizes, features, strict=True)]
            return torch.stack(d).mean(dim=0), color_distance(x, y)  # d and c, [N] each

        return compare

    compare = comparison(distance.in_precision(dtype))
    steps = num_steps // len(rates)
    w = w_avg.repeat(len(target), 1, 1)  # [N, 1, w_dim]
    for space, rate in zip(("w", "w+", "styles"), rates, strict=True):
        w = w.detach().repeat(1, G.num_ws if space == "w+" else 1, 1)  # from w+ on [N, num_ws, w_dim]
        styles = own_styles(G.synthesis, w, noise) if space == "styles" else {}
        variables = [variable.requires_grad_() for variable in styles.values() or [w]]
        for _ in range(steps):
            ws = w.expand(-1, G.num_ws, -1)
            with given_styles(G.synthesis, styles):
                image = G.synthesis(ws, noise, dtype=dtype)
            d, c = compare(image)
            loss = d + color_weight * c + latent_weight * latent_distance(ws, w_avg)
            backward(loss.sum(), inputs=variables)
            step(w, styles, rate)

    with torch.no_grad(), given_styles(G.synthesis, styles):
        image = G.synthesis(w, noise)  # in float32
        d, _ = comparison(distance)(image)
        away = latent_distance(w, w_avg).mean().item()
    done, settings = len(rates) * steps, {"dtype": str(dtype).removeprefix("torch.")}
    return Found(w.detach().cpu(), image.cpu(), d.mean().item(), away, done, settings)


@torch.no_grad()
def step(w: Tensor, styles: Styles, rate: float) -> None:
    """A step along the gradient g, whatever its size, and no gradient after it.

    Each w of w [N, L, w_dim] moves by −rate · g / ‖g‖. Of styles, if there are any, every channel is taken to have a w
    of its own: s = a · w + b moves by −rate · ‖a‖ · sign(g).
    """
    if not styles:
        w.sub_(F.normalize(w.grad, dim=-1, eps=1e-30), alpha=rate)
        w.grad = None
    for affine, style in styles.items():
        style.sub_(affine.weight.norm(dim=1) * style.grad.sign(), alpha=rate)
        style.grad = None


@torch.no_grad()
def own_styles(network: nn.Module, ws: Tensor, noise: Noise = None) -> Styles:
    """The styles that a synthesis network makes of ws [N, num_ws, w_dim] on the way to its full image."""
    found: Styles = {}
    with _hooked(network, lambda affine, _, style: found.update({affine: style})):
        network(ws, noise)
    return found


def given_styles(network: nn.Module, styles: Styles) -> AbstractContextManager[None]:
    """While it lasts, the network takes these styles instead of those that its affine layers make."""
    return _hooked(network, lambda affine, *_: styles.get(affine))


@contextmanager
def _hooked(network: nn.Module, hook: Callable[[nn.Linear, tuple, Tensor], Tensor | None]) -> Iterator[None]:
    """``hook(affine, inputs, style)`` sees what each affine layer makes, and may return a replacement."""
    affines = [module for name, module in network.named_modules() if name.endswith(".affine")]
    handles = [affine.register_forward_hook(hook) for affine in affines]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

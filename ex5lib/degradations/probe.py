"""What a degradation hides, found by trying it on test images: it may be your own, so its class says nothing."""

import math

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import REFERENCE_SIZE
from ex5lib.degradations.unknown import unknown_parameters

_FACE = slice(83, 228), slice(57, 202)  # rows and columns of 256 px where FFHQ's crop has the face, from brows to chin


@torch.no_grad()
def hidden_region(degradation: nn.Module, size: int = REFERENCE_SIZE) -> Tensor:
    """The pixels that D hides completely: those of D(x) that are the same for a black and a white x.

    Returns:
        booleans [1, 1, size, size].
    """
    white = torch.ones(1, 3, size, size, device=_device(degradation))
    return ((degradation(white) - degradation(-white)).abs() < 1e-3).all(dim=1, keepdim=True)


def hidden_share(degradation: nn.Module) -> float:
    """The share, from 0 to 1, of the face (brows to chin) that D hides completely."""
    return hidden_region(degradation)[0, 0][_FACE].float().mean().item()


@torch.no_grad()
def hides_color(degradation: nn.Module) -> bool:
    """Whether the colours of D(x) say next to nothing about those of x.

    D's response to the three primaries, averaged over the image, is a 3 × 3 matrix. If all that it keeps is one
    number (a luma, however weighted or toned), its second singular value is 0; the bound is a tenth of the first.
    A D with unknown parameters that could tint a grey image hides them, too.
    """
    if unknown := list(unknown_parameters(degradation).values()):
        with torch.enable_grad():
            grey = torch.full((1, 3, REFERENCE_SIZE, REFERENCE_SIZE), 0.5, device=_device(degradation))
            red, green, blue = degradation(grey).mean(dim=(0, 2, 3))
            tints = torch.stack([red - green, blue - green])
            slopes = [
                torch.autograd.grad(tint, unknown, retain_graph=True, allow_unused=True, materialize_grads=True)
                for tint in tints
            ]
        if any(slope.abs().max() > 1e-3 for slope in (*slopes[0], *slopes[1])):
            return True
    colors = 0.5 * torch.eye(3, device=_device(degradation))[:, :, None, None]
    colors = colors.repeat(1, 1, REFERENCE_SIZE, REFERENCE_SIZE).split(1)
    responses = [(degradation(color) - degradation(-color)).mean(dim=(2, 3)) for color in colors]
    singular = torch.linalg.svdvals(torch.cat(responses).cpu())
    return bool(singular[1] < max(0.1 * singular[0], 1e-3))


@torch.no_grad()
def visible_resolution(degradation: nn.Module) -> int:
    """The finest detail that survives D: 256 if none is lost, 16 if D(x) shows what 16 × 16 pixels can.

    The largest power of two, from 8 to 256, whose finest grating (a light and a dark pixel in turn) keeps a tenth of
    its contrast, the mean over both directions and phases.
    """
    position = torch.arange(REFERENCE_SIZE, device=_device(degradation)) + 0.5
    for resolution in (256, 128, 64, 32, 16):
        contrasts = []
        for phase in (0.0, 0.5):
            wave = 0.5 * (math.pi * (position * resolution / REFERENCE_SIZE + phase - 0.5)).cos()
            for grating in (wave.repeat(1, 3, REFERENCE_SIZE, 1), wave[:, None].repeat(1, 3, 1, REFERENCE_SIZE)):
                contrasts.append((degradation(grating) - degradation(-grating)).square().mean())
        if torch.stack(contrasts).mean().item() > 0.1**2 * 0.5:
            return resolution
    return 8


@torch.no_grad()
def reach(degradation: nn.Module, window: tuple[int, int, int, int], size: int) -> int | None:
    """How many px around a window of an image of ``size`` px D(x) in the window depends on: a multiple of 16.

    Returns:
        None if it depends on what is farther away than the image's nearest edge.
    """
    top, left, height, width = window
    rows, columns = slice(top, top + height), slice(left, left + width)
    for margin in range(0, min(top, left, size - top - height, size - left - width) + 1, 16):
        outside = torch.ones(1, 3, size, size, device=_device(degradation))
        outside[:, :, top - margin : top + height + margin, left - margin : left + width + margin] = 0
        difference = degradation(outside) - degradation(-outside)
        if difference[:, :, rows, columns].abs().max() < 1e-3:
            return margin
    return None


def _device(module: nn.Module) -> torch.device | None:
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), None)

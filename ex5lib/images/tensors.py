"""Image tensors: float32 [N, 3, H, W] in [−1, 1] everywhere in this project; checking, converting and resizing them."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ex5lib.errors import SettingError


def from_uint8(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] → float32 [1, 3, H, W] in [−1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def to_uint8(image: Tensor) -> np.ndarray:
    """One image tensor [1, 3, H, W] → uint8 [H, W, 3]; values outside [−1, 1] are clamped.

    Raises:
        SettingError: if the tensor is not one image.
    """
    check_image(image, batch=1)
    return ((image[0].detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def check_image(image: Tensor, batch: int | None = None) -> None:
    """Raise SettingError unless image is [N, 3, H, W], with N = batch if that is given."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or (batch and len(image) != batch):
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise SettingError(f"An image tensor is [{batch or 'N'}, 3, H, W] in [−1, 1], not {found}.")


def checked_target(target: Tensor, name: str = "The target") -> Tensor:
    """A search's target [N, 3, H, H] in float32, detached; error messages call it ``name``.

    Raises:
        SettingError: if it is empty, not square, not floating-point, not finite, or not scaled to [−1, 1].
    """
    check_image(target)
    if not len(target):
        raise SettingError("The batch is empty: give at least one photo.")
    height, width = target.shape[2:]
    if height != width:
        raise SettingError(f"{name} is {width} × {height} px, but it must be square, like an aligned face.")
    if not target.is_floating_point():
        raise SettingError(f"{name} is {target.dtype}: scale it to floats in [−1, 1], 8 bits as x / 127.5 − 1.")
    target = target.detach().float()
    if not target.isfinite().all():
        raise SettingError(f"{name} contains NaN or infinity: find the step that produced them.")
    if target.abs().max() > 2:  # a network's output may go a little beyond 1
        low, high = target.min().item(), target.max().item()
        raise SettingError(f"{name} has values from {low:.3g} to {high:.3g}: scale them to [−1, 1].")
    return target


def resize_area(image: Tensor, size: int) -> Tensor:
    """Shrink a square image [N, C, S, S] to [N, C, size, size] by area averaging; a smaller one is returned as is."""
    source = image.shape[-1]
    if source <= size:
        return image
    if source % size == 0:
        return F.avg_pool2d(image, source // size)
    # PyTorch's area interpolation fails on MPS, is not deterministic on CUDA, and counts only whole pixels.
    weights = _overlaps(source, size, image.device).to(image.dtype)
    return weights @ image @ weights.T


def _overlaps(source: int, size: int, device: torch.device) -> Tensor:
    """[size, source]: the share of each new pixel that an old one covers, made on the device, without a copy."""
    # In units in which an old pixel is ``size`` wide and a new one ``source``: whole numbers, so nothing is rounded.
    old, new = torch.arange(source, device=device) * size, torch.arange(size, device=device)[:, None] * source
    covered = torch.minimum(old + size, new + source) - torch.maximum(old, new)
    return covered.clamp(min=0) / source


def resize(image: Tensor, size: int) -> Tensor:
    """Scale a square image [N, C, S, S] up or down to [N, C, size, size] by antialiased bicubic interpolation."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)

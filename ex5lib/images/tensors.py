"""Image tensors: float32 [N, 3, H, W] in [−1, 1] everywhere in this project; checking, converting and resizing them."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ex5lib.errors import SettingError

_ROWS = 1024  # converted at a time: a large photo's intermediate results would need several times its memory


def from_uint8(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] → float32 [1, 3, H, W] in [−1, 1]."""
    height, width, _ = pixels.shape
    image = torch.empty(1, 3, height, width)
    for top in range(0, height, _ROWS):
        rows = pixels[top : top + _ROWS].copy()
        image[0, :, top : top + _ROWS] = torch.from_numpy(rows).permute(2, 0, 1)
    return image.div_(127.5).sub_(1)


def to_uint8(image: Tensor) -> np.ndarray:
    """One image tensor [1, 3, H, W] → uint8 [H, W, 3]; values outside [−1, 1] are clamped.

    Raises:
        SettingError: if the tensor is not one image.
    """
    check_image(image, batch=1)
    pixels = np.empty((*image.shape[2:], 3), np.uint8)
    for top in range(0, len(pixels), _ROWS):
        rows = image[0, :, top : top + _ROWS].detach().float().clamp(-1, 1)
        pixels[top : top + _ROWS] = ((rows + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels


def check_image(image: Tensor, batch: int | None = None) -> None:
    """Raise SettingError unless image is [N, 3, H, W], with N = batch if that is given."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or (batch and len(image) != batch):
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise SettingError(f"An image tensor is [{batch or 'N'}, 3, H, W] in [−1, 1], not {found}.")


def checked_photo(photo: Tensor | np.ndarray) -> Tensor:
    """A photo as float32 [1, 3, H, W] in [−1, 1], given so or in 8 bits: [1, 3, H, W], or an array [H, W, 3].

    Raises:
        SettingError: if it has another shape, type or range.
    """
    if isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
            raise SettingError(f"A photo as an array is uint8 [H, W, 3], not {photo.dtype} {list(photo.shape)}.")
        return from_uint8(photo)
    check_image(photo, batch=1)
    if photo.dtype == torch.uint8:
        return from_uint8(photo[0].permute(1, 2, 0).cpu().numpy())
    photo = _checked_values(photo, "The photo")
    low, high = photo.min().item(), photo.max().item()
    levels = (photo[:, :, ::64] + 1) * 127.5
    from_bytes = (levels - levels.round()).abs().max() < 0.01
    if low >= 0 and high > 0 and not from_bytes:  # a photo has something darker than middle grey, but for a few
        raise SettingError(f"The photo has values from {low:.3g} to {high:.3g}: scale it to [−1, 1], here by 2x − 1.")
    return photo


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
    return _checked_values(target, name)


def _checked_values(image: Tensor, name: str) -> Tensor:
    if not image.is_floating_point():
        raise SettingError(f"{name} is {image.dtype}: scale it to floats in [−1, 1], 8 bits as x / 127.5 − 1.")
    image = image.detach().float()
    low, high = image.min().item(), image.max().item()  # NaN if any value is
    if not math.isfinite(low) or not math.isfinite(high):
        raise SettingError(f"{name} contains NaN or infinity: find the step that produced them.")
    if low < -2 or high > 2:  # a network's output may go a little beyond 1
        raise SettingError(f"{name} has values from {low:.3g} to {high:.3g}: scale them to [−1, 1].")
    return image


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


def resize_photo(photo: Tensor, width: int, height: int) -> Tensor:
    """Scale a photo [1, 3, H, W] up or down to [1, 3, height, width], in 8 bits, by Lanczos' filter."""
    return from_uint8(np.asarray(Image.fromarray(to_uint8(photo)).resize((width, height), Image.Resampling.LANCZOS)))

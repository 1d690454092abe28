"""Degradations D: differentiable modules that map images to images.

Their parameters are in pixels of the aligned face at 256 × 256, the size at which images are compared. Each module
rescales itself to its input, so that a preview at 128 px, the comparison at 256 px and the image at 1024 px show the
same blur and the same hole.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib.errors import SettingError
from ex5lib.images.tensors import resize_area

REFERENCE_SIZE = 256


Identity = nn.Identity  # D(x) = x: plain inversion


class GaussianBlur(nn.Module):
    """Blur with a truncated Gaussian, reflecting the image at its borders.

    Args:
        kernel_size: odd number of taps at 256 px; 0 and 1 mean no blur.
        sigma: standard deviation in px at 256 px; None means 0.15 · kernel_size + 0.35.

    Raises:
        SettingError: if the size is negative, even or above 255, or sigma is not positive.

    Example:
        >>> GaussianBlur(kernel_size=25)(torch.zeros(1, 3, 256, 256)).shape
        torch.Size([1, 3, 256, 256])
    """

    def __init__(self, kernel_size: int, sigma: float | None = None):
        super().__init__()
        if kernel_size < 0 or (kernel_size % 2 == 0 and kernel_size != 0) or kernel_size >= REFERENCE_SIZE:
            raise SettingError(f"A blur's kernel size must be 0 or an odd number from 1 to 255, not {kernel_size}.")
        if sigma is not None and not (sigma > 0 and math.isfinite(sigma)):
            raise SettingError(f"A blur's sigma must be a positive number of pixels, not {sigma}.")
        self.kernel_size = kernel_size
        self.sigma = 0.15 * kernel_size + 0.35 if sigma is None else sigma
        self._taps: dict[tuple, Tensor] = {}  # a search needs the same ones at every step

    def kernel(self, scale: float) -> Tensor:
        """The taps at ``scale`` times 256 px, [2r + 1], summing to 1.

        At scale 1 these are kernel_size samples of the Gaussian. At any other scale the same bell is sampled over
        the same extent, and a tap that extends past the end is weighted by the fraction of it that lies inside.
        """
        half = self.kernel_size / 2 * scale
        radius = max(math.ceil(half - 0.5), 0)
        x = torch.arange(-radius, radius + 1, dtype=torch.float64)
        inside = (half + 0.5 - x.abs()).clamp(0, 1)
        taps = torch.exp(-0.5 * (x / (self.sigma * scale)) ** 2) * inside
        return taps / taps.sum()

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        if self.kernel_size <= 1:
            return image
        key = self.kernel_size, self.sigma, image.shape[-1], image.dtype, image.device
        if key not in self._taps:
            self._taps[key] = self.kernel(image.shape[-1] / REFERENCE_SIZE).to(image)
        return blurred(image, self._taps[key])

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, sigma={self.sigma:g}"


def blurred(image: Tensor, taps: Tensor) -> Tensor:
    """An image [N, C, H, W] filtered along rows and columns by the same taps [2r + 1], reflected at its borders."""
    channels, radius = image.shape[1], len(taps) // 2
    image = F.conv2d(_reflected(image, radius, 3), taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(_reflected(image, radius, 2), taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def _reflected(image: Tensor, radius: int, axis: int) -> Tensor:
    """An image continued by ``radius`` pixels at either end of an axis, by reflection, without the edge's own pixels.

    Like ``F.pad``, whose gradient is not deterministic on CUDA.
    """
    before = image.narrow(axis, 1, radius).flip(axis)
    after = image.narrow(axis, image.shape[axis] - 1 - radius, radius).flip(axis)
    return torch.cat([before, image, after], dim=axis)


def compositor(degradation: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """What combines the known part of a photo with a generated image: the degradation's ``composite``, if it has one.

    A ``Sequential`` has one if all members do. It is undone from its last member to its first: each member's composite
    completes the photo from what the members before it make of the generated image.
    """
    if not isinstance(degradation, nn.Sequential):
        return getattr(degradation, "composite", None)
    members = [member for member in degradation if not isinstance(member, nn.Identity)]
    composites = [part for part in map(compositor, members) if part is not None]
    if not members or len(composites) < len(members):
        return None

    @torch.no_grad()
    def composite(photo: Tensor, generated: Tensor) -> Tensor:
        before = [generated]
        for member in members[:-1]:
            before.append(member(before[-1]))
        for part, image in zip(reversed(composites), reversed(before), strict=True):
            photo = part(photo, image)
        return photo

    return composite


class Grayscale(nn.Module):
    """Three equal channels 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601 luma)."""

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] → the same shape."""
        r, g, b = image.split(1, dim=1)
        return (0.299 * r + 0.587 * g + 0.114 * b).expand_as(image)

    def composite(self, photo: Tensor, generated: Tensor) -> Tensor:
        """Luma from the photo, colour from the generator: generated + D(photo) − D(generated), clamped to [−1, 1].

        Where nothing is clamped, its luma is the photo's, because the weights sum to 1.

        Args:
            photo, generated: [1, 3, S, S].

        Returns:
            [1, 3, S, S].
        """
        return (generated.clamp(-1, 1) + self(photo) - self(generated.clamp(-1, 1))).clamp(-1, 1)


class Inpaint(nn.Module):
    """Remove a rectangle, or the white part of a mask, by painting it black.

    Args:
        top, left, height, width: the rectangle in px at 256 px.
        mask: instead of the rectangle: [H, W] or [1, 1, H, W] in [0, 1], square like the aligned face, 1 where a pixel
            is removed.

    Raises:
        SettingError: if the rectangle is empty or does not lie inside 256 × 256.
        SettingError: if the mask is not square, or removes everything or nothing.

    Example:
        >>> hole = Inpaint(top=160, left=80, height=48, width=96)
        >>> bool((hole(torch.zeros(1, 3, 256, 256))[:, :, 160:208, 80:176] == -1).all())
        True
    """

    mask: Tensor

    def __init__(
        self,
        top: int | None = None,
        left: int | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        mask: Tensor | None = None,
    ):
        super().__init__()
        if (mask is None) == all(value is None for value in (top, left, height, width)):
            raise SettingError("Inpainting needs either a rectangle (top, left, height, width) or a mask.")
        self.rectangle: tuple[int, int, int, int] | None = None
        if mask is None:
            if top is None or left is None or height is None or width is None:
                raise SettingError("A rectangle needs all of top, left, height and width.")
            size = REFERENCE_SIZE
            if height < 1 or width < 1 or top < 0 or left < 0 or top + height > size or left + width > size:
                raise SettingError(
                    f"The rectangle (top {top}, left {left}, height {height}, width {width}) does not lie inside the "
                    f"aligned face, which is {size} × {size} px."
                )
            mask = torch.zeros(1, 1, size, size)
            mask[:, :, top : top + height, left : left + width] = 1
            self.rectangle = top, left, height, width
        self.register_buffer("mask", _check_mask(mask))

    def mask_for(self, image: Tensor) -> Tensor:
        """The mask at the size of an image [N, C, S, S]: [1, 1, S, S], the removed share of each pixel."""
        size, drawn = image.shape[-1], self.mask.shape[-1]
        mask = self.mask.to(image)
        if size >= drawn and size % drawn == 0:
            return F.interpolate(mask, size=(size, size), mode="nearest")
        if size < drawn:
            return resize_area(mask, size)
        return F.interpolate(mask, size=(size, size), mode="bilinear")

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, S, S] → the same shape, −1 where removed."""
        mask = self.mask_for(image)
        return image * (1 - mask) - mask

    def composite(self, photo: Tensor, generated: Tensor, feather: float = 12.0) -> Tensor:
        """Known pixels from the photo, the hole from the generator, blended over a band around the hole.

        Args:
            photo, generated: [1, 3, S, S].
            feather: width of the band in px at 256 px. It lies outside the hole, whose pixels the photo lacks.

        Returns:
            [1, 3, S, S].
        """
        from scipy.ndimage import distance_transform_edt  # imported here: it takes a quarter of a second

        hole = (self.mask_for(photo)[0, 0] > 0).cpu().numpy()
        band = feather * photo.shape[-1] / REFERENCE_SIZE
        ramp = (1 - torch.from_numpy(distance_transform_edt(~hole)) / max(band, 1e-6)).clamp(0, 1)
        share = (ramp * ramp * (3 - 2 * ramp)).to(photo)  # smoothstep: no visible corner at either end
        return photo + share * (generated - photo)

    def fill_smoothly(self, photo: Tensor) -> Tensor:
        """Fill the hole by biharmonic inpainting, which extends the surroundings smoothly and knows nothing of faces.

        Args:
            photo: [1, 3, S, S]; at 256 px this takes seconds.

        Returns:
            [1, 3, S, S] in [−1, 1], the photo outside the hole.
        """
        from skimage.restoration import inpaint_biharmonic

        hole = (self.mask_for(photo)[0, 0] > 0).cpu().numpy()
        pixels = self(photo)[0].permute(1, 2, 0).cpu().numpy()
        filled = inpaint_biharmonic(pixels, hole, channel_axis=2)
        return torch.from_numpy(filled).permute(2, 0, 1)[None].to(photo).clamp(-1, 1)

    def extra_repr(self) -> str:
        if self.rectangle:
            return "top={}, left={}, height={}, width={}".format(*self.rectangle)
        return f"mask={list(self.mask.shape[-2:])}"


class Downsample(nn.Module):
    """Shrink by averaging and scale up again bilinearly: what is left of a thumbnail.

    Args:
        factor: by which each side of the 256 px face is divided.

    Raises:
        SettingError: unless the factor is a whole number from 1 to 64.
    """

    def __init__(self, factor: int):
        super().__init__()
        if not isinstance(factor, int) or not 1 <= factor <= REFERENCE_SIZE // 4:
            raise SettingError(f"The factor must be a whole number from 1 to {REFERENCE_SIZE // 4}, not {factor}.")
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, S, S] → the same shape."""
        size = image.shape[-1]
        return rescaled(rescaled(image, min(size, round(REFERENCE_SIZE / self.factor))), size)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class Noise(nn.Module):
    """Additive Gaussian noise, the same field at every call, so that a search has a fixed objective.

    Two images that are to be compared need different seeds: noise then changes the features of both in the same way on
    average, and painting grain gains nothing.

    Args:
        sigma: standard deviation, for images in [−1, 1], of a pixel at 256 px, or at ``size``.
        seed: of the field.
        size: px of a photo's face in whose pixels the noise is. Like the photo, it is averaged to fewer pixels and
            interpolated to more, which leaves soft spots where the face is small.

    Raises:
        SettingError: if sigma is negative or not a number, or the size not a positive whole number.
    """

    field: Tensor

    def __init__(self, sigma: float, seed: int = 0, size: int | None = None):
        super().__init__()
        if not (sigma >= 0 and math.isfinite(sigma)):
            raise SettingError(f"The noise's sigma must be 0 or a positive number, not {sigma}.")
        if size is not None and not (isinstance(size, int) and size > 0):
            raise SettingError(f"The noise's size must be a positive whole number of pixels, not {size}.")
        self.sigma, self.seed, self.size = sigma, seed, size
        side = size or REFERENCE_SIZE
        field = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("field", field, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, S, S] → the same shape, clamped to [−1, 1]."""
        size, field = image.shape[-1], self.field.to(image)
        if self.size is None and size > REFERENCE_SIZE:  # a larger image has the noise of 256 px, in blocks
            field = F.interpolate(field, size=(size, size), mode="nearest")
        return (image + self.sigma * rescaled(field, size)).clamp(-1, 1)  # as in any file

    def extra_repr(self) -> str:
        size = "" if self.size is None else f", size={self.size}"
        return f"sigma={self.sigma:g}, seed={self.seed}{size}"


def rescaled(image: Tensor, size: int) -> Tensor:
    """An image [N, C, S, S] averaged down, or scaled up bilinearly, to [N, C, size, size]."""
    source = image.shape[-1]
    if source >= size:
        return resize_area(image, size)
    # The gradient of F.interpolate is not deterministic on CUDA.
    old, new = torch.arange(source, device=image.device), torch.arange(size, device=image.device)[:, None]
    position = ((new + 0.5) * (source / size) - 0.5).clamp(0, source - 1)
    weights = (1 - (position - old).abs()).clamp(min=0).to(image.dtype)  # [size, source]
    return weights @ image @ weights.T


def _check_mask(mask: Tensor) -> Tensor:
    if mask.ndim not in (2, 4) or mask.shape[:-2] not in ((), (1, 1)):
        raise SettingError(f"A mask must be [H, W] or [1, 1, H, W], not {list(mask.shape)}.")
    mask = mask.detach().float().view(1, 1, *mask.shape[-2:])
    height, width = mask.shape[-2:]
    if height != width:
        raise SettingError(f"The mask is {width} × {height} px but the aligned face is square: give a square mask.")
    if mask.min() >= 0.5:
        raise SettingError("The mask is white all over, so nothing of the photo is left: paint black what to keep.")
    if mask.max() < 0.5:
        raise SettingError("The mask is black all over, so there is nothing to fill in: paint white what to remove.")
    return mask.clamp(0, 1)

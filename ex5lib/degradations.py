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
from ex5lib.images import resampled, resize_area

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
    image = F.pad(image, [radius] * 4, mode="reflect")
    image = F.conv2d(image, taps.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(image, taps.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)


def compositor(degradation: nn.Module) -> Callable[[Tensor, Tensor], Tensor] | None:
    """What combines the known part of a photo with a generated image, from ``composite`` methods; None without one.

    A ``Sequential`` is undone from its last member to its first: each member's composite completes the photo from what
    the members before it make of the generated image.
    """
    if not isinstance(degradation, nn.Sequential):
        return getattr(degradation, "composite", None)
    members = [member for member in degradation if not isinstance(member, nn.Identity)]
    composites = [compositor(member) for member in members]
    if not members or None in composites:
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
        luma = image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (image * luma).sum(dim=1, keepdim=True).expand_as(image)

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
        rectangle = (top, left, height, width)
        if (mask is None) == all(value is None for value in rectangle):
            raise SettingError("Inpainting needs either a rectangle (top, left, height, width) or a mask.")
        if mask is None:
            if None in rectangle:
                raise SettingError("A rectangle needs all of top, left, height and width.")
            size = REFERENCE_SIZE
            if height < 1 or width < 1 or top < 0 or left < 0 or top + height > size or left + width > size:
                raise SettingError(
                    f"The rectangle (top {top}, left {left}, height {height}, width {width}) does not lie inside the "
                    f"aligned face, which is {size} × {size} px."
                )
            mask = torch.zeros(1, 1, size, size)
            mask[:, :, top : top + height, left : left + width] = 1
        self.rectangle = None if None in rectangle else rectangle
        self.register_buffer("mask", _check_mask(mask))

    def mask_for(self, image: Tensor) -> Tensor:
        """The mask at the size of an image [N, C, S, S]: [1, 1, S, S], the removed share of each pixel."""
        size, drawn = image.shape[-1], self.mask.shape[-1]
        mask = self.mask.to(image)
        if size >= drawn and size % drawn == 0:
            return F.interpolate(mask, size=(size, size), mode="nearest")
        return resize_area(mask, size) if size < drawn else resampled(mask, size, size, "linear")

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
            raise SettingError(f"A face is shrunk by a whole factor from 1 to {REFERENCE_SIZE // 4}, not {factor}.")
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, S, S] → the same shape."""
        size = image.shape[-1]
        return _resized(_resized(image, min(size, round(REFERENCE_SIZE / self.factor))), size)

    def extra_repr(self) -> str:
        return f"factor={self.factor}"


class Jpeg(nn.Module):
    """JPEG compression of the face at 256 px (ITU-T T.81, baseline, colours at half resolution), differentiable.

    Rounding has no useful gradient; x is rounded to ⌊x⌉ + (x − ⌊x⌉)³ instead (Shin and Song 2017), which differs by
    at most ⅛ of a quantisation step.

    Args:
        quality: 1 to 100, as in libjpeg.

    Raises:
        SettingError: if the quality is not a whole number from 1 to 100.
    """

    def __init__(self, quality: int):
        super().__init__()
        if not isinstance(quality, int) or not 1 <= quality <= 100:
            raise SettingError(f"JPEG's quality is a whole number from 1 to 100, not {quality}.")
        self.quality = quality
        percent = 5000 // quality if quality < 50 else 200 - 2 * quality
        steps = ((torch.tensor([_LUMA_STEPS, _CHROMA_STEPS]) * percent + 50) // 100).clamp(1, 255)
        k = torch.arange(8, dtype=torch.float64)
        dct = (math.pi / 8 * torch.outer(k, k + 0.5)).cos() / 2  # the orthonormal DCT-II: rows are its cosines
        dct[0] *= math.sqrt(0.5)
        self.register_buffer("steps", steps.view(2, 8, 8).float())
        self.register_buffer("dct", dct.float())
        to_ycc = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
        self.register_buffer("to_ycc", torch.tensor(to_ycc))
        self.register_buffer("to_rgb", torch.tensor(to_ycc, dtype=torch.float64).inverse().float())

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, S, S] → the same shape. Any other size than 256 px is scaled there and back."""
        x = _resized(image, REFERENCE_SIZE) * 127.5  # −127.5 … 127.5, half a level from what the codec codes
        ycc = torch.einsum("ij,njhw->nihw", self.to_ycc, x)
        luma = self._coded(ycc[:, :1] - 0.5, self.steps[0]) + 0.5
        chroma = self._coded(F.avg_pool2d(ycc[:, 1:], 2), self.steps[1])
        ycc = torch.cat([luma, F.interpolate(chroma, scale_factor=2, mode="bilinear")], dim=1)
        x = torch.einsum("ij,njhw->nihw", self.to_rgb, ycc).clamp(-127.5, 127.5)
        return _resized(x / 127.5, image.shape[-1])

    def _coded(self, x: Tensor, steps: Tensor) -> Tensor:
        """Each 8 × 8 block of x [N, C, H, W] in its DCT coefficients, rounded to multiples of ``steps`` [8, 8]."""
        blocks = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [N, C, H/8, W/8, 8, 8]
        levels = self.dct @ blocks @ self.dct.mT / steps
        whole = levels.detach().round()
        blocks = self.dct.mT @ ((whole + (levels - whole) ** 3) * steps) @ self.dct
        return blocks.transpose(3, 4).flatten(4).flatten(2, 3)

    def extra_repr(self) -> str:
        return f"quality={self.quality}"


class Noise(nn.Module):
    """Additive Gaussian noise, the same field at every call, so that a search has a fixed objective.

    Two photos that are to be compared get fields of different seeds: what the noise does to the features is then the
    same on average, and painting grain gains nothing.

    Args:
        sigma: standard deviation, for images in [−1, 1], of a pixel at 256 px.
        seed: of the field.

    Raises:
        SettingError: if sigma is negative or not a number.
    """

    def __init__(self, sigma: float, seed: int = 0):
        super().__init__()
        if not (sigma >= 0 and math.isfinite(sigma)):
            raise SettingError(f"The noise's sigma must be 0 or a positive number, not {sigma}.")
        self.sigma, self.seed = sigma, seed
        field = torch.randn(1, 3, REFERENCE_SIZE, REFERENCE_SIZE, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("field", field, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, S, S] → the same shape, clamped to [−1, 1]."""
        size = image.shape[-1]
        mode = "nearest" if size >= REFERENCE_SIZE else "area"  # a larger image has the noise of 256 px, in blocks
        noisy = image + self.sigma * F.interpolate(self.field.to(image), size=(size, size), mode=mode)
        return noisy.clamp(-1, 1)  # as in any file

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:g}, seed={self.seed}"


# Quantisation steps at quality 50 (ITU-T T.81, tables K.1 and K.2).
_LUMA_STEPS = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip
_CHROMA_STEPS = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
]  # fmt: skip


def _resized(image: Tensor, size: int) -> Tensor:
    """Averaged down, or scaled up bilinearly, to [N, C, size, size]."""
    if image.shape[-1] >= size:
        return resize_area(image, size)
    return F.interpolate(image, size=(size, size), mode="bilinear")


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

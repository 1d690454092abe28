"""Loading, saving and converting images. Everywhere else an image is a float32 tensor [N, 3, H, W] in [−1, 1]."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ex5lib.errors import FileError, SettingError
from ex5lib.files import replacing

MIN_SIZE = 64
# By which images in a folder are told from other files.
IMAGE_SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip


def load_image(path: str | Path) -> Tensor:
    """Load a photo of any common kind (8 or 16 bits, RGB, CMYK, palette, grey), rotated according to its EXIF data.

    Transparent pixels are put on white.

    Returns:
        float32 [1, 3, H, W] in [−1, 1].

    Raises:
        FileError: if the file is missing, not an image, damaged, implausibly large, or smaller than 64 px.
    """
    return from_picture(_open(Path(path)), str(path))


def from_picture(picture: Image.Image, name: str = "The picture") -> Tensor:
    """A PIL image of any mode as an image tensor; transparent pixels are put on white.

    Returns:
        float32 [1, 3, H, W] in [−1, 1].

    Raises:
        FileError: if it has floating-point pixels, or fewer than 64 px on a side; the message calls it ``name``.
    """
    if min(picture.size) < MIN_SIZE:
        raise FileError(
            f"{name} is {picture.width} × {picture.height} px: a photo needs at least {MIN_SIZE} px on each side."
        )
    if picture.mode == "F":
        raise FileError(f"{name} has floating-point pixels: save it as JPEG or PNG.")
    return from_uint8(np.asarray(_to_rgb(picture, "white")))


def load_mask(path: str | Path) -> Tensor:
    """Load a mask whose white pixels are to be filled in; black and transparent ones are kept.

    Returns:
        float32 [1, 1, H, W]: 1 where a pixel is to be removed, 0 where it is kept.

    Raises:
        FileError: as in ``load_image``, except that there is no minimum size.
    """
    grey = np.asarray(_to_rgb(_open(Path(path)), "black").convert("L"))
    return torch.from_numpy(grey.copy())[None, None].float() / 255


def _open(path: Path) -> Image.Image:
    if path.is_dir():
        raise FileError(f"{path} is a folder: name an image file in it.")
    if path.is_file() and path.stat().st_size == 0:
        raise FileError(f"{path} is empty: save or download the image again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large photos are common; bombs raise
            picture = Image.open(path)
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise FileError(f"There is no file {path}: check its name and folder.") from None
    except Image.DecompressionBombError:
        raise FileError(
            f"{path} has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels: scale it down first."
        ) from None
    except UnidentifiedImageError:
        raise FileError(f"{path} is not an image that can be read: save it as JPEG or PNG.") from None
    except PermissionError:
        raise FileError(f"{path} cannot be read: its permissions do not allow it.") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        raise FileError(f"{path} is damaged or truncated ({error}): save or download it again.") from None


def _to_rgb(picture: Image.Image, background: str) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits a pixel, or more
        values = np.asarray(picture, dtype=np.float64)
        return Image.fromarray((values.clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, background), picture)
    return picture.convert("RGB")


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


def save_image(image: Tensor, path: str | Path) -> Path:
    """Write one image tensor [1, 3, H, W] to a file, in the format that its suffix names; returns the path.

    Raises:
        SettingError: if the tensor is not one image.
    """
    picture = Image.fromarray(to_uint8(image))
    with replacing(path) as temporary:
        picture.save(temporary, quality=95, compress_level=3)  # the first for JPEG; the second makes PNG twice as fast
    return Path(path)


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
    return F.interpolate(image, size=(size, size), mode="area") if image.shape[-1] > size else image


def resize(image: Tensor, size: int) -> Tensor:
    """Scale a square image [N, C, S, S] up or down to [N, C, size, size] by antialiased bicubic interpolation."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)

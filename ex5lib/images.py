"""Loading, saving and converting images. An image tensor is float32 [N, 3, H, W] in [−1, 1] everywhere else."""

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ex5lib.errors import (
    ImageShapeError,
    ImageTooLargeError,
    ImageTooSmallError,
    MissingFileError,
    NotAnImageError,
    TruncatedImageError,
)
from ex5lib.files import replacing

MIN_SIZE = 64


def load_image(path: str | Path) -> Tensor:
    """Load a photo of any common kind: 8 or 16 bits, RGB, CMYK, palette, grey; turned as its EXIF says.

    Transparent pixels are put on white.

    Returns:
        float32 [1, 3, H, W] in [−1, 1].

    Raises:
        MissingFileError, NotAnImageError, TruncatedImageError, ImageTooLargeError: as their names say.
        ImageTooSmallError: if a side is shorter than 64 px.
    """
    picture = _open(Path(path))
    if min(picture.size) < MIN_SIZE:
        raise ImageTooSmallError(
            f"{path} is {picture.width} × {picture.height} px: a photo needs at least {MIN_SIZE} px on each side."
        )
    if picture.mode == "F":
        raise NotAnImageError(f"{path} has floating-point pixels: save it as JPEG or PNG.")
    return from_uint8(np.asarray(_to_rgb(picture, "white")))


def load_mask(path: str | Path) -> Tensor:
    """Load a mask whose white pixels are to be filled in; black and transparent ones are kept.

    Returns:
        float32 [1, 1, H, W]: 1 where a pixel is to be removed, 0 where it is kept.

    Raises:
        as ``load_image``, but for the smallest size.
    """
    grey = np.asarray(_to_rgb(_open(Path(path)), "black").convert("L"))
    return torch.from_numpy(grey.copy())[None, None].float() / 255


def _open(path: Path) -> Image.Image:
    if path.is_dir():
        raise NotAnImageError(f"{path} is a folder: name an image file in it.")
    if path.is_file() and path.stat().st_size == 0:
        raise NotAnImageError(f"{path} is empty: save or download the image again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large photos are common; bombs raise
            picture = Image.open(path)
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError:
        raise MissingFileError(f"There is no file {path}: check its name and folder.") from None
    except Image.DecompressionBombError:
        raise ImageTooLargeError(
            f"{path} has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels: scale it down first."
        ) from None
    except UnidentifiedImageError:
        raise NotAnImageError(f"{path} is not an image that can be read: save it as JPEG or PNG.") from None
    except PermissionError:
        raise NotAnImageError(f"{path} cannot be read: its permissions forbid it.") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        raise TruncatedImageError(f"{path} is damaged or truncated ({error}): save or download it again.") from None


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
        ImageShapeError: if the tensor is not one image.
    """
    check_image(image, batch=1)
    return ((image[0].detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()


def save_image(image: Tensor, path: str | Path) -> Path:
    """Write one image tensor [1, 3, H, W] to a file whose suffix names the format; returns the path.

    Raises:
        ImageShapeError: if the tensor is not one image.
    """
    picture = Image.fromarray(to_uint8(image))
    with replacing(path) as temporary:
        picture.save(temporary, quality=95, compress_level=3)  # of JPEG; of PNG, half the time for a tenth more bytes
    return Path(path)


def check_image(image: Tensor, batch: int | None = None) -> None:
    """Raise ImageShapeError unless image is [N, 3, H, W], with N = batch where that is given."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or (batch and len(image) != batch):
        found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ImageShapeError(f"An image tensor is [{batch or 'N'}, 3, H, W] in [−1, 1], not {found}.")


def resize_area(image: Tensor, size: int) -> Tensor:
    """Shrink a square image [N, C, S, S] to [N, C, size, size] by averaging areas; a smaller one is left as it is."""
    return F.interpolate(image, size=(size, size), mode="area") if image.shape[-1] > size else image


def resize(image: Tensor, size: int) -> Tensor:
    """Scale a square image [N, C, S, S] up or down to [N, C, size, size] by antialiased bicubic interpolation."""
    if image.shape[-1] == size:
        return image
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(-1, 1)

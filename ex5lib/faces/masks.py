"""Fitting a mask that was painted on the whole photo, or on the aligned face, to the aligned face."""

import torch.nn.functional as F
from torch import Tensor

from ex5lib.errors import SettingError
from ex5lib.faces.alignment import AlignedFace

PLACES = ("photo", "crop")

_FACE = slice(0.33, 0.89), slice(0.22, 0.79)  # rows and columns of a crop, as shares, from brows to chin
_TOO_MUCH = 0.8  # of the face and, in the mean, of the whole mask: what black strokes on white leave no less of


def fitted_mask(mask: Tensor, face: AlignedFace, on: str | None = None) -> Tensor:
    """A mask for the aligned face.

    If it has the photo's proportions, it was painted on the photo, at any size, and is cropped as the face was. If it
    is square otherwise, it was painted on the crop. For a square photo, only ``on="crop"`` says so. A photo that was
    used as the aligned crop is the crop.

    Args:
        mask: [1, 1, h, w] in [0, 1].
        on: "photo" or "crop"; None decides as above.

    Returns:
        [1, 1, s, s] in [0, 1].

    Raises:
        SettingError: if it is neither square nor of the photo's proportions, does not fit ``on``, or keeps almost
            nothing of the face, as strokes in black on white do.
    """
    fitted = _fitted(mask, face, on)
    rows, columns = (slice(*(round(share * fitted.shape[2]) for share in (part.start, part.stop))) for part in _FACE)
    hidden = fitted[:, :, rows, columns].mean().item()
    if hidden > _TOO_MUCH and mask.mean() > _TOO_MUCH:
        raise SettingError(
            f"The mask is white on {100 * hidden:.0f} % of the face, and white is what is filled in: invert it "
            "(--invert-mask) if the damage is painted black, or leave more of the face."
        )
    return fitted


def _fitted(mask: Tensor, face: AlignedFace, on: str | None) -> Tensor:
    side = face.image.shape[3]
    photo_height, photo_width = face.photo.shape[2:]
    height, width = mask.shape[2:]
    was_cropped = face.landmarks is not None
    if was_cropped and (on_photo := mask_on_photo(mask, face.photo, on)) is not None:
        return (face.crop(on_photo.expand(-1, 3, -1, -1) * 2 - 1)[:, :1] + 1) / 2
    if height != width or (was_cropped and on == "photo"):
        wanted = {
            "photo": f"{photo_width} × {photo_height} px, like the photo, or of the same proportions",
            "crop": "square, like the aligned face",
            None: "square, or drawn on the whole photo" if was_cropped else f"{side} × {side} px",
        }[on if was_cropped else None]
        raise SettingError(f"The mask is {width} × {height} px: a mask must be {wanted}.")
    return mask


def mask_on_photo(mask: Tensor, photo: Tensor, on: str | None = None) -> Tensor | None:
    """The mask at the size of a photo [1, 3, H, W] if it was painted on the photo (see ``fitted_mask``); else None."""
    if on == "crop" or not is_like(photo, mask):
        return None
    if mask.shape[2:] == photo.shape[2:]:
        return mask
    return F.interpolate(mask, size=photo.shape[2:], mode="bilinear", antialias=True)


def is_like(photo: Tensor, mask: Tensor) -> bool:
    """Whether a mask [1, 1, h, w] has a photo's proportions, to within a pixel of the photo [1, 3, H, W]."""
    (height, width), (photo_height, photo_width) = mask.shape[2:], photo.shape[2:]
    return abs(height * photo_width - width * photo_height) <= max(photo_width, photo_height)

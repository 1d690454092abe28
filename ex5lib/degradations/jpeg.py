"""JPEG as a degradation: the codec's rounding, made differentiable."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib.degradations.known import REFERENCE_SIZE, rescaled
from ex5lib.errors import SettingError

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


class Jpeg(nn.Module):
    """JPEG compression of the face at 256 px (ITU-T T.81, baseline, colours at half resolution), differentiable.

    Rounding has no useful gradient; x is rounded to ⌊x⌉ + (x − ⌊x⌉)³ instead (Shin and Song 2017), and the mean of a
    block to ⌊x⌉ + (x − ⌊x⌉) / 4. Either differs by at most ⅛ of a quantisation step.

    Args:
        quality: 1 to 100, as in libjpeg.

    Raises:
        SettingError: if the quality is not a whole number from 1 to 100.
    """

    steps: Tensor
    dct: Tensor
    to_ycc: Tensor
    to_rgb: Tensor

    def __init__(self, quality: int):
        super().__init__()
        if not isinstance(quality, int) or not 1 <= quality <= 100:
            raise SettingError(f"JPEG's quality must be a whole number from 1 to 100, not {quality}.")
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
        x = rescaled(image, REFERENCE_SIZE) * 127.5  # −127.5 … 127.5; the codec sees half a level less
        ycc = torch.einsum("ij,njhw->nihw", self.to_ycc, x)
        luma = self._coded(ycc[:, :1] - 0.5, self.steps[0]) + 0.5
        chroma = self._coded(F.avg_pool2d(ycc[:, 1:], 2), self.steps[1])
        ycc = torch.cat([luma, rescaled(chroma, REFERENCE_SIZE)], dim=1)
        x = torch.einsum("ij,njhw->nihw", self.to_rgb, ycc).clamp(-127.5, 127.5)
        return rescaled(x / 127.5, image.shape[-1])

    def _coded(self, x: Tensor, steps: Tensor) -> Tensor:
        """x [N, C, H, W] with each 8 × 8 block's DCT coefficients rounded to multiples of ``steps`` [8, 8]."""
        blocks = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # [N, C, H/8, W/8, 8, 8]
        levels = self.dct @ blocks @ self.dct.mT / steps
        whole = levels.detach().round()
        rest = levels - whole
        softened = rest**3
        # The cube's slope is 0 at whole steps. Blocks' means, which hold the colours, would get stuck at wrong ones.
        softened[..., 0, 0] = rest[..., 0, 0] / 4
        blocks = self.dct.mT @ ((whole + softened) * steps) @ self.dct
        return blocks.transpose(3, 4).flatten(4).flatten(2, 3)

    def extra_repr(self) -> str:
        return f"quality={self.quality}"

"""dlib's face descriptor in PyTorch: the same network, with gradients, in batches, on any device.

King 2017, "High Quality Face Recognition with Deep Metric Learning": a ResNet (He et al. 2015, arXiv 1512.03385) with
29 convolutions, read from the file that dlib itself reads. Two photos of one person usually lie within 0.6 of each
other.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.errors import WeightsError
from ex5lib.images.tensors import resize_area

CHIP_SIZE = 150  # px of the square that the network sees
# The chip's centre (x, y) and half its side in an aligned face, in units of the crop's side: the mean over 60
# generated faces of what ``get_face_chip_details(…, 150, 0.25)`` finds.
CHIP_CENTRE, CHIP_HALF = (0.504, 0.603), 0.344
_BLOCKS = (  # channels of each residual block, and whether it halves the size
    *((32, False),) * 3, (64, True), *((64, False),) * 3, (128, True), *((128, False),) * 2, (256, True),
    *((256, False),) * 2, (256, True),
)  # fmt: skip


class _Residual(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut. The smaller of the two is padded with zeros at its end."""

    def __init__(self, in_channels: int, channels: int, halves: bool):
        super().__init__()
        self.halves = halves
        stride, padding = (2, 0) if halves else (1, 1)  # dlib pads no strided convolution
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.halves:
            x = F.avg_pool2d(x, 2)
        sizes = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
        return F.relu(_padded(x, sizes) + _padded(y, sizes))


def _padded(x: Tensor, sizes: list[int]) -> Tensor:
    channels, height, width = (size - have for size, have in zip(sizes, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels))


class FaceDescriptor(nn.Module):
    """The descriptor f [N, 128] of face chips. Each affine layer of dlib's is folded into its convolution.

    Args:
        path: dlib's file; by default it is fetched.

    Raises:
        WeightsError: if the file holds another network.
    """

    mean: Tensor

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1), persistent=False)
        inputs = [32, *(channels for channels, _ in _BLOCKS)]
        with torch.device("meta"):  # nothing is drawn: the file fills it
            self.first = nn.Conv2d(3, 32, 7, 2)
            blocks = (_Residual(before, *block) for before, block in zip(inputs, _BLOCKS, strict=False))
            self.blocks = nn.ModuleList(blocks)
            self.out = nn.Linear(256, 128, bias=False)
        _read(self, Path(path or weights.fetch("dlib-descriptor")).read_bytes())
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        """f [N, 128] of chips [N, 3, 150, 150] in [−1, 1], which ``dlib.get_face_chip`` or ``chip`` cuts out."""
        x = (chips * 127.5 + (127.5 - self.mean)) / 256
        x = F.max_pool2d(F.relu(self.first(x.to(self.first.weight.dtype))), 3, 2)
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(dim=(2, 3))).to(chips.dtype)


def chip(face: Tensor) -> Tensor:
    """The chips [N, 3, 150, 150] of aligned faces [N, 3, S, S] in [−1, 1], with gradients.

    Alignment fixes where the head lies, so no landmarks are needed: they would move the chip by a few px. It is cut out
    bilinearly by two products, since the gradient of ``F.grid_sample`` is not deterministic on CUDA.
    """
    face = resize_area(face, 256)
    x, y = (_samples(face, centre) for centre in CHIP_CENTRE)
    return y @ face @ x.T


def _samples(face: Tensor, centre: float) -> Tensor:
    """[150, S]: how much each row, or column, of a face [N, 3, S, S] counts in each of the chip's."""
    side = face.shape[-1]
    old, new = torch.arange(side, device=face.device), torch.arange(CHIP_SIZE, device=face.device)[:, None]
    position = (centre - CHIP_HALF + 2 * CHIP_HALF * (new + 0.5) / CHIP_SIZE) * side - 0.5
    return (1 - (position - old).abs()).clamp(min=0).to(face.dtype)


def _read(network: FaceDescriptor, data: bytes) -> None:
    """Fill the network from dlib's file, in which each array of numbers follows a header that says its size."""
    position = 0

    def following(count: int, columns: int = 1) -> Tensor:
        nonlocal position
        # Version 2 and four dimensions, each as one byte of length and as many of value.
        header = b"".join(_integer(number) for number in (2, count, columns, 1, 1))
        begin = data.find(header, position)
        end = begin + len(header) + 4 * count * columns
        if begin < 0 or end > len(data):
            raise WeightsError("The file does not hold dlib's face descriptor: fetch it anew.")
        position = end
        return torch.from_numpy(np.frombuffer(data[begin + len(header) : end], "<f4").copy())

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv in convolutions:
        filters = conv.weight.numel()
        numbers = following(filters + conv.out_channels)
        scale, offset = following(2 * conv.out_channels).chunk(2)
        conv.weight = nn.Parameter(numbers[:filters].view_as(conv.weight) * scale[:, None, None, None])
        conv.bias = nn.Parameter(numbers[filters:] * scale + offset)
    network.out.weight = nn.Parameter(following(256, 128).view(256, 128).T.contiguous())


def _integer(number: int) -> bytes:
    length = (number.bit_length() + 7) // 8
    return bytes([length]) + number.to_bytes(length, "little")


def load_descriptor(device: torch.device | str = "cpu") -> FaceDescriptor:
    """dlib's descriptor on a device, read once."""
    return _descriptor(torch.device(device))


@cache
def _descriptor(device: torch.device) -> FaceDescriptor:
    return FaceDescriptor().to(device)

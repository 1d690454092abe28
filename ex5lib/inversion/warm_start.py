"""The warm start: a w regressed on VGG16's features of the degraded photo, in a second instead of a hundred steps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.images.tensors import resize
from ex5lib.inversion.losses import PerceptualDistance
from stylegan2_ada.generator import Generator

SIZE = 128  # px to which the target is scaled
_GRID = 8  # all features are averaged to 8 × 8
_THUMBNAIL = 16
_CHANNELS = (128, 256, 512, 512)  # of VGG16's blocks 2 to 5


def pooled_features(target: Tensor, distance: PerceptualDistance) -> tuple[Tensor, Tensor]:
    """The regression's inputs for targets [N, 3, H, H]: blocks 2 to 5 [N, 1408, 8, 8], and a thumbnail [N, 768]."""
    small = resize(target, SIZE)
    blocks = [
        F.adaptive_avg_pool2d(feature, _GRID) * feature.shape[1] ** 0.5  # scaled to a mean square of about 1
        for feature in distance.features(small)[1:]
    ]
    return torch.cat(blocks, dim=1), F.adaptive_avg_pool2d(small, _THUMBNAIL).flatten(1)


class WarmStart(nn.Module):
    """A regression of w on the features of a degraded photo.

    Fitted by ``training/warm_start.py`` to generated faces: clean, blurred, grey and with a hole.

    Args:
        w_dim: width of w.
        width: channels that each block of VGG16 is squeezed to.
        hidden: width of the hidden layer.
    """

    def __init__(self, w_dim: int = 512, width: int = 32, hidden: int = 640):
        super().__init__()
        self.squeeze = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in _CHANNELS)
        self.hidden = nn.Linear(len(_CHANNELS) * width * _GRID**2 + 3 * _THUMBNAIL**2, hidden)
        self.out = nn.Linear(hidden, w_dim)

    def regress(self, blocks: Tensor, thumbnail: Tensor) -> Tensor:
        """w [N, w_dim] from the output of ``pooled_features``."""
        split = blocks.split(_CHANNELS, dim=1)
        squeezed = [squeeze(block).flatten(1) for squeeze, block in zip(self.squeeze, split, strict=True)]
        return self.out(F.gelu(self.hidden(torch.cat([*squeezed, thumbnail], dim=1))))

    @torch.no_grad()
    def forward(self, target: Tensor, distance: PerceptualDistance) -> Tensor:
        """w [N, w_dim] for degraded targets [N, 3, H, H] in [−1, 1]."""
        return self.regress(*pooled_features(target, distance))


def load_warm_start(G: Generator) -> WarmStart | None:
    """The regression into the W of this generator's mapping network, on its device; None if there is none for it."""
    state = weights.load_warm_start_tensors(G)
    if state is None:
        return None
    with torch.device("meta"):
        network = WarmStart(G.w_dim)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return network.eval().requires_grad_(False).to(G.w_avg.device)

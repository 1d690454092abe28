"""Gradients through networks in float16."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ScaledBackward:
    """``torch.autograd.backward`` for a loss behind networks in float16, in which small gradients vanish.

    The loss is multiplied by a large number, and its gradients are divided by it. If one overflows, all are set to 0 at
    this step, and the number is halved (Micikevicius et al. 2018, arXiv 1710.03740). Nothing is read from the device.

    Args:
        device: that of the loss.
    """

    def __init__(self, device: torch.device):
        self.scale = torch.full((), 2.0**16, device=device)

    def __call__(self, loss: Tensor, inputs: Sequence[Tensor]) -> None:
        torch.autograd.backward(self.scale * loss, inputs=inputs)
        gradients = [leaf.grad for leaf in inputs if leaf.grad is not None]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for gradient in gradients:
            gradient.copy_(torch.where(finite, gradient / self.scale, 0.0))
        self.scale = torch.where(finite, self.scale, self.scale / 2)

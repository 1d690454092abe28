"""The optimisers of a search, and gradients through networks in float16."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


class NormalizedGradient(torch.optim.Optimizer):
    """Steps of a fixed length: every vector of a latent moves by −rate · g / ‖g‖, however large its gradient g is.

    As in Poirier-Ginter and Lalonde 2023 (arXiv 2302.06733). A vector is a w of w [N, 1, w_dim] or w+ [N, num_ws,
    w_dim]. Of styles s [N, S], every channel is taken to have a w of its own: its style s = a · w + b then moves by
    −rate · ‖a‖ · sign(g).

    Args:
        latent: what is searched.
        scales: ‖a‖ of each channel, [S], for a latent of styles.
        lr: the rate.
    """

    def __init__(self, latent: Tensor, scales: Tensor | None = None, lr: float = 0.0):
        super().__init__([latent], {"lr": lr})
        self.scales = scales

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 (a closure is for optimisers that evaluate twice)
        for group in self.param_groups:
            for latent in group["params"]:
                if self.scales is None:
                    direction = F.normalize(latent.grad, dim=-1, eps=1e-30)
                else:
                    direction = self.scales * latent.grad.sign()
                latent.sub_(direction, alpha=group["lr"])


class ScaledBackward:
    """``torch.autograd.backward`` for a loss behind networks in float16, in which small gradients vanish.

    The loss is multiplied by a large number, and its gradients are divided by it. Where one overflows nevertheless, all
    count as 0 at this step, and the number is halved (Micikevicius et al. 2018, arXiv 1710.03740). Nothing is read from
    the device.

    Args:
        place: the device of the loss.
    """

    def __init__(self, place: torch.device):
        self.scale = torch.full((), 2.0**16, device=place)

    def __call__(self, loss: Tensor, inputs: Sequence[Tensor]) -> None:
        torch.autograd.backward(self.scale * loss, inputs=inputs)
        gradients = [leaf.grad for leaf in inputs if leaf.grad is not None]
        finite = torch.stack([gradient.isfinite().all() for gradient in gradients]).all()
        for gradient in gradients:
            gradient.copy_(torch.where(finite, gradient / self.scale, 0.0))
        self.scale = torch.where(finite, self.scale, self.scale / 2)

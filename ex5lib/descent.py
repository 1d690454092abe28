"""The optimisers of a search."""

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

"""Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1), for the few variables of a search.

``torch.optim`` imports PyTorch's compiler: a second, which every command would wait for before its first step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-8


class Adam:
    """Adam over variables that all have the same rate and decays. It computes what ``torch.optim.Adam`` computes.

    Args:
        variables: leaves.
        betas: β₁ and β₂.
        rate: the learning rate; it may be set before every step.
    """

    def __init__(self, variables: Sequence[Tensor], betas: tuple[float, float], rate: float = 0.0):
        self.variables, self.betas, self.rate = variables, betas, rate
        self._moments = [(torch.zeros_like(x), torch.zeros_like(x)) for x in variables]
        self._steps = [0] * len(variables)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for x in self.variables:
            x.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every variable by its gradient; one without stays as it is."""
        beta1, beta2 = self.betas
        for i, (x, (m, v)) in enumerate(zip(self.variables, self._moments, strict=True)):
            if x.grad is None:
                continue
            self._steps[i] += 1
            unbias1, unbias2 = 1 - beta1 ** self._steps[i], 1 - beta2 ** self._steps[i]
            m.lerp_(x.grad, 1 - beta1)
            v.mul_(beta2).addcmul_(x.grad, x.grad, value=1 - beta2)
            x.addcdiv_(m, (v.sqrt() / unbias2**0.5).add_(EPSILON), value=-self.rate / unbias1)

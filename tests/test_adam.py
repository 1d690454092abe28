"""Adam against PyTorch's own."""

import pytest
import torch

from ex5lib.inversion.adam import Adam


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.95)])
def test_it_moves_as_pytorchs_does(betas):
    random = torch.Generator().manual_seed(0)
    first = [torch.randn(shape, generator=random) for shape in ((2, 1, 8), (1, 1, 4, 4))]
    mine, theirs = ([x.clone().requires_grad_() for x in first] for _ in range(2))
    adam, torchs = Adam(mine, betas), torch.optim.Adam(theirs, betas=betas, foreach=False)
    for step in range(60):
        adam.rate = torchs.param_groups[0]["lr"] = 0.1 * (1 - step / 60)
        pulls = [torch.randn(x.shape, generator=random) for x in first]
        for optimizer, variables in ((adam, mine), (torchs, theirs)):
            optimizer.zero_grad()
            used = zip(variables[: 1 + step % 2], pulls, strict=False)  # the other has no gradient in every other step
            sum(((x - 1) ** 4 + pull * x).sum() for x, pull in used).backward()
            optimizer.step()
    for x, y in zip(mine, theirs, strict=True):
        assert torch.equal(x, y)

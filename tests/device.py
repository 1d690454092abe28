"""The device that tests of networks run on, and how exact they may expect it to be.

EX5_TEST_DEVICE=cuda (or mps) moves them from the CPU, where all of them run otherwise. EX5_TEST_DEVICE=simulated only
pretends to, to find tensors that a test forgot on the CPU.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from simulated_device import simulated
from torch.overrides import TorchFunctionMode

_ASKED = os.environ.get("EX5_TEST_DEVICE", "cpu")
DEVICE = torch.device({"simulated": "cuda:0", "cuda": "cuda:0", "mps": "mps:0"}.get(_ASKED, _ASKED))
# By how much results may differ more than a CPU's: other orders of summation, and other libraries' convolutions.
SLACK = 1.0 if _ASKED == "simulated" else {"cpu": 1.0, "cuda": 10.0, "mps": 30.0}[DEVICE.type]

_FACTORIES = (
    torch.arange, torch.as_tensor, torch.empty, torch.eye, torch.full, torch.linspace, torch.ones,
    torch.rand, torch.randint, torch.randn, torch.tensor, torch.zeros,
)  # fmt: skip


class _MadeThere(TorchFunctionMode):
    """Puts what is made without a word about its device on ``DEVICE``; random numbers are the CPU's, as everywhere."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func not in _FACTORIES or kwargs.get("device") is not None:
            return func(*args, **kwargs)
        searched = kwargs.pop("requires_grad", False)
        made = func(*args, **kwargs).to(DEVICE)
        return made.requires_grad_() if searched else made


@contextmanager
def everything_on_the_device() -> Iterator[torch.device]:
    """Inside, tensors that are made are on ``DEVICE``, and convolutions on CUDA compute in float32 proper."""
    if DEVICE.type == "cpu":
        yield DEVICE
        return
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        if _ASKED == "simulated":
            with simulated(str(DEVICE)), _MadeThere():
                yield DEVICE
        else:
            with _MadeThere():
                yield DEVICE
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def relative(a, b) -> float:
    """How far a tensor is from another, as a share of that one's norm; on a device, of what may be expected there."""
    a, b = torch.as_tensor(a).detach().double(), torch.as_tensor(b).detach().double()
    return ((a - b).norm() / b.norm()).item() / SLACK

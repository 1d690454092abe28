"""Choosing where to compute."""

import torch

from ex5lib.errors import DeviceError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: if the name is unknown or the machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available, "cpu": lambda: True}
    if str(device) == "auto":
        return torch.device(next(name for name, is_there in available.items() if is_there()))
    try:
        picked = torch.device(device)
    except RuntimeError:
        picked = None
    if picked is None or picked.type not in available:
        raise DeviceError(f'There is no device "{device}": use auto, cuda, mps or cpu.')
    if not available[picked.type]():
        raise DeviceError(f"This machine has no {picked.type} device that PyTorch can use: choose auto or cpu.")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"This machine has {torch.cuda.device_count()} CUDA devices, so there is no {picked}.")
    return picked

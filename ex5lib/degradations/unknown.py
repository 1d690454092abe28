"""Degradations with unknown parameters, which are found together with w.

If a module has ``unknown = True``, ``projector.project`` searches its parameters along with the latent, in a copy of
it. ``Sequential`` may combine it with others. ``restore``'s result has the copy, with the values that were found.
"""

import copy
import math

import torch
from torch import Tensor, nn

from ex5lib.degradations.known import REFERENCE_SIZE, blurred
from ex5lib.errors import SettingError

_SIGMAS = (0.2, 40.0)  # px at 256 px: below the first nothing is blurred, and above the second nothing is left


class UnknownBlur(nn.Module):
    """A Gaussian blur of unknown σ.

    Args:
        sigma: where the search for it starts, in px at 256 px.

    Raises:
        SettingError: unless sigma lies between 0.2 and 40 px.
    """

    unknown = True

    def __init__(self, sigma: float = 2.0):
        super().__init__()
        if not _SIGMAS[0] <= sigma <= _SIGMAS[1]:
            raise SettingError(f"An unknown blur must start at a sigma from 0.2 to 40 px, not {sigma}.")
        # Its logarithm, because blurs differ by ratios: one more px is much at 1 px and nothing at 20.
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)))

    @property
    def sigma(self) -> float:
        """The standard deviation found so far, in px at 256 px."""
        return self._sigma().item()

    def _sigma(self) -> Tensor:
        return self.log_sigma.clamp(*map(math.log, _SIGMAS)).exp()

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] → the same shape."""
        scale = image.shape[-1] / REFERENCE_SIZE
        sigma = self._sigma() * scale
        # Reading σ waits for the device, unless it is a CPU. Elsewhere filter with as many taps as there can be.
        longest = sigma.item() if sigma.device.type == "cpu" else _SIGMAS[1] * scale
        radius = math.ceil(3 * longest)
        x = torch.arange(-radius, radius + 1, device=image.device)
        taps = torch.exp(-0.5 * (x / sigma) ** 2) * (x.abs() <= (3 * sigma).ceil())
        return blurred(image, (taps / taps.sum()).to(image))

    @property
    def words(self) -> str:
        """What was found, for a person."""
        return f"a blur of σ = {self.sigma:.1f} px, in a crop of {REFERENCE_SIZE} px"

    def extra_repr(self) -> str:
        return f"sigma={self.sigma:.3g}"


class UnknownColors(nn.Module):
    """Faded, tinted or sepia colours: an unknown affine map of each pixel's colour, D(x) = M x + b."""

    unknown = True

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(3))
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] → the same shape."""
        return torch.einsum("ij,njhw->nihw", self.matrix, image) + self.shift.view(1, 3, 1, 1)

    def composite(self, photo: Tensor, generated: Tensor) -> Tensor:
        """Detail from the photo, lost colour from the generator: the most likely x with D(x) = photo.

        Differences between the generated face and the true one are mostly in luminance, so their covariance is taken
        as Σ = 11ᵀ + I / 20; of all δ with M δ = photo − D(generated), it makes one the most likely. For a sepia photo
        that is a grey δ.

        Args:
            photo, generated: [1, 3, S, S].

        Returns:
            [1, 3, S, S].
        """
        matrix = self.matrix.detach().cpu().double()  # MPS has no double
        spread = torch.ones_like(matrix) + torch.eye(3).to(matrix) / 20
        response = matrix @ spread @ matrix.T
        # A direction that faded to a hundredth of the strongest is noise.
        gain = spread @ matrix.T @ torch.linalg.pinv(response, rtol=1e-2, hermitian=True)
        generated = generated.clamp(-1, 1)
        missing = torch.einsum("ij,njhw->nihw", gain.to(photo), photo - self(generated).detach())
        return (generated + missing).clamp(-1, 1)

    @property
    def words(self) -> str:
        """What was found, for a person."""
        contrast = self.matrix.sum().item() / 3  # what becomes of (1, 1, 1), along itself
        strength = (self.matrix.trace().item() - contrast) / 2  # and, on average, of colours across it
        return f"contrast at {contrast:.0%} and colours at {max(strength, 0):.0%} of what they were"

    def extra_repr(self) -> str:
        rows = "; ".join(" ".join(f"{value:.2f}" for value in row) for row in self.matrix.tolist())
        return f"matrix=[{rows}], shift=[{' '.join(f'{value:.2f}' for value in self.shift.tolist())}]"


def unknown_parameters(degradation: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are to be found, by their names in the degradation; one that is frozen counts as known."""
    owners = {name: module for name, module in degradation.named_modules() if getattr(module, "unknown", False)}
    return {
        f"{owner}.{name}".lstrip("."): parameter
        for owner, module in owners.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def with_found(degradation: nn.Module, found: dict[str, list | float]) -> nn.Module:
    """A copy of the degradation with the values that a search found, its ``settings["found"]``."""
    degradation = copy.deepcopy(degradation)
    with torch.no_grad():
        for name, parameter in unknown_parameters(degradation).items():
            if name in found:
                parameter.copy_(torch.tensor(found[name]))
    return degradation

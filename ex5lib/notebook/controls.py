"""The explorer's sliders, and the choice that they stand for."""

from dataclasses import dataclass
from itertools import chain

import ipywidgets
from torch import nn

from ex5lib.degradations import GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.notebook.frames import FRAME_SIZE

DEGRADATIONS = {"none": Identity, "blur": GaussianBlur, "grayscale": Grayscale, "inpaint": Inpaint}
WEIGHT_EXPONENTS = (-7, 1)  # the default's 10 ** −3 and four decades to either side
_RECTANGLE = ("top", "left", "height", "width")


@dataclass(frozen=True)
class Choice:
    """What the controls say: everything that distinguishes one search of an explorer from another.

    Attributes:
        latent_weight: λ_w.
        degradation: a name in ``DEGRADATIONS``.
        parameters: the degradation's, as pairs of name and value.
    """

    latent_weight: float
    degradation: str
    parameters: tuple[tuple[str, float | None], ...]

    def module(self) -> nn.Module:
        """D.

        Raises:
            SettingError: if the parameters make no sense together.
        """
        return DEGRADATIONS[self.degradation](**dict(self.parameters))

    def __str__(self) -> str:
        return f"λ_w = {self.latent_weight:.3g}; {self.degradation_in_words()}"

    def degradation_in_words(self) -> str:
        """For a caption: "blur, kernel size 25", say."""
        if self.degradation == "none":
            return "not degraded"
        numbers = (f"{name.replace('_', ' ')} {value:g}" for name, value in self.parameters if value is not None)
        return ", ".join([self.degradation, *numbers])


class Controls:
    """The sliders.

    Args:
        degradation, latent_weight, kernel_size, sigma, rectangle: where they start, as in ``explore``. The sliders'
            ranges stretch to include the kernel size and σ.

    Attributes:
        box: the widget that holds all of them.
        latent_weight, degradation, kernel_size, sigma, sigma_follows, top, left, height, width: the single controls.
    """

    def __init__(
        self,
        degradation: str,
        latent_weight: float,
        kernel_size: int,
        sigma: float | None,
        rectangle: tuple[int, int, int, int],
    ):
        look = {"style": {"description_width": "130px"}, "layout": {"width": "430px"}}
        low, high = WEIGHT_EXPONENTS
        self.latent_weight = ipywidgets.FloatLogSlider(
            latent_weight, min=low, max=high, step=0.1, readout_format=".2g", description="latent weight λ_w", **look
        )
        self.degradation = ipywidgets.Dropdown(
            options=list(DEGRADATIONS), value=degradation, description="degradation", **look
        )
        self.kernel_size = ipywidgets.IntSlider(
            max(1, kernel_size), min=1, max=max(63, kernel_size), step=2, description="kernel size", **look
        )
        self.sigma = ipywidgets.FloatSlider(
            sigma or 1, min=min(0.3, sigma or 1), max=max(15, sigma or 1), step=0.05, description="sigma σ", **look
        )
        self.sigma_follows = ipywidgets.Checkbox(sigma is None, description="σ follows the kernel size", **look)
        self.top, self.left, self.height, self.width = (
            ipywidgets.IntSlider(value, min=least, max=FRAME_SIZE - 1 + least, description=name, **look)
            for name, value, least in zip(_RECTANGLE, rectangle, (0, 0, 1, 1), strict=True)
        )
        self._of_degradation = {
            "blur": [self.kernel_size, self.sigma, self.sigma_follows],
            "inpaint": [self.top, self.left, self.height, self.width],
        }
        self._parameters = ipywidgets.VBox()
        common = ipywidgets.VBox([self.latent_weight, self.degradation])
        self.box = ipywidgets.HBox([common, self._parameters], layout={"flex_flow": "row wrap"})
        self.show_parameters()

    def observe(self, handler) -> None:
        """Have ``handler`` called with every change of a value."""
        for control in (self.latent_weight, self.degradation, *chain(*self._of_degradation.values())):
            control.observe(handler, "value")

    def show_parameters(self) -> None:
        """Show only the chosen degradation's sliders; where σ follows the kernel size, show the σ that is used."""
        self._parameters.children = self._of_degradation.get(self.degradation.value, [])
        self.sigma.disabled = self.sigma_follows.value
        if self.sigma_follows.value and self.kernel_size.value % 2:  # an even one, typed in, is an error to be told
            self.sigma.value = GaussianBlur(self.kernel_size.value).sigma

    def choice(self) -> Choice:
        """What they say at present."""
        parameters: dict[str, float | None] = {}
        if self.degradation.value == "blur":
            sigma = None if self.sigma_follows.value else self.sigma.value
            parameters = {"kernel_size": self.kernel_size.value, "sigma": sigma}
        elif self.degradation.value == "inpaint":
            parameters = dict(zip(_RECTANGLE, self.hole(), strict=True))
        # The browser and Python compute powers of ten that differ in the last digits. For the cache they are the same.
        weight = float(f"{self.latent_weight.value:.6g}")
        return Choice(weight, self.degradation.value, tuple(parameters.items()))

    def hole(self) -> tuple[int, int, int, int] | None:
        """Top, left, height and width of the hole; None where another degradation is chosen."""
        if self.degradation.value != "inpaint":
            return None
        return self.top.value, self.left.value, self.height.value, self.width.value

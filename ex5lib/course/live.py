"""A search to watch while it runs: the target, the image so far and the curve, redrawn every few steps."""

import io
from collections.abc import Sequence

from IPython.display import DisplayHandle, Image, display
from torch import Tensor

from ex5lib.figures import empty_figure, show_image

_EVERY = 4  # steps between two pictures


class Live:
    """Draws a search towards a target [1, 3, S, S] in one place of the page; the last of its steps is always drawn.

    Example:
        >>> live = Live(photo, steps=40)
        >>> live(image, distances)  # after every step
    """

    def __init__(self, target: Tensor, steps: int):
        self.target, self.steps = target, steps
        self._handle: DisplayHandle | None = None

    def __call__(self, image: Tensor, distances: Sequence[float]) -> None:
        """Draw this step's image [1, 3, S, S] and the curve of the distances so far, if it is time."""
        if len(distances) % _EVERY and len(distances) not in (1, self.steps):
            return
        picture = Image(data=_drawn(self.target, image.detach(), distances), format="jpeg")
        if self._handle is None:
            self._handle = display(picture, display_id=True)
        else:
            self._handle.update(picture)


def _drawn(target: Tensor, image: Tensor, distances: Sequence[float]) -> bytes:
    figure = empty_figure(11, 3.4)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    show_image(left, target, "target")
    show_image(middle, image, f"after {len(distances)} steps")
    right.plot(range(1, len(distances) + 1), distances, color="#d55e00", marker=".", linewidth=1.8)
    right.set(xlabel="step", ylabel="perceptual distance d", ylim=(0, None), xlim=(0, len(distances) + 1))
    right.grid(alpha=0.3)
    right.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="jpeg", dpi=94, pil_kwargs={"quality": 85})
    return drawn.getvalue()

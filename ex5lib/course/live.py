"""A search to watch while it runs: the target, the image so far and the curve, redrawn every few steps."""

import io
from collections.abc import Sequence

from IPython.display import DisplayHandle, Image, display
from matplotlib.figure import Figure
from torch import Tensor

from ex5lib.images.tensors import resize_area, to_uint8

_SIZE = 256  # px of an image
_EVERY = 4  # steps between two pictures


class Live:
    """Draws a search in one place of the page.

    Args:
        target: [1, 3, S, S], shown beside the image.
        steps: their total number; the last one is always drawn.

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
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.6))
    for ax, picture, title in zip(axes, (target, image), ("target", f"after {len(distances)} steps"), strict=False):
        ax.imshow(to_uint8(resize_area(picture, min(_SIZE, picture.shape[-1]))))
        ax.set_title(title, fontsize=10)
        ax.set_axis_off()
    axes[2].plot(range(1, len(distances) + 1), distances, color="#d55e00", marker=".", linewidth=1.8)
    axes[2].set(xlabel="step", ylabel="perceptual distance d", ylim=(0, None), xlim=(0, len(distances) + 1))
    axes[2].grid(alpha=0.3)
    axes[2].spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="jpeg", dpi=94, pil_kwargs={"quality": 85})
    return drawn.getvalue()

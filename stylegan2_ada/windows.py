"""A window of the image, made without the rest of it.

A block doubles the resolution and then looks a few pixels around each one. So a window needs, of every block's input,
half of itself and a margin, and of the first blocks everything. Each block computes as usual on what it is given. Along
a cut it misses what lies beyond and is wrong there, but only as far as its reach, which the next cut removes.
"""

from collections.abc import Sequence

from torch import Tensor

Window = tuple[int, int, int, int]  # top, left, height, width, in px of the image that it is cut from
_Span = tuple[int, int]  # first row or column, and the one after the last


class Cuts:
    """What each block gets of the one before it, so that the last one makes a window; everything if that is None.

    Args:
        window: in px of an image of ``resolution`` px.
        resolution: R.
        sizes: height and width in px of the output of each block, each twice those of its input.
        reach: how many px of a block's output, along a cut of its input, are wrong.

    Raises:
        ValueError: if the window does not lie inside the image.
    """

    def __init__(self, window: Window | None, resolution: int, sizes: Sequence[int], reach: int):
        self._window = window
        self._inputs: list[tuple[_Span, _Span]] = []
        if window is None:
            return
        top, left, height, width = window
        if min(top, left) < 0 or min(height, width) < 1 or max(top + height, left + width) > resolution:
            raise ValueError(f"The window {tuple(window)} does not lie inside the image, {resolution} px.")
        rows, columns, factor = (top, top + height), (left, left + width), 1
        for size in reversed(sizes):
            factor *= resolution // size  # of the rows so far to the block's output: 1, but for the last block
            rows, columns = (_reached(span, reach * factor, 2 * factor, size // 2) for span in (rows, columns))
            self._inputs.insert(0, (rows, columns))
            resolution, factor = size // 2, 1

    def enter(self, block: int, x: Tensor | None) -> Tensor | None:
        """The block's input, cut from the output of the one before, which covers twice that one's input."""
        if self._window is None or x is None:
            return x
        (above, _), (before, _) = self._inputs[block - 1] if block else ((0, 0), (0, 0))
        (top, bottom), (left, right) = self._inputs[block]
        return x[:, :, top - 2 * above : bottom - 2 * above, left - 2 * before : right - 2 * before]

    def noise(self, block: int, buffer: Tensor | None) -> Tensor | None:
        """The part of a noise buffer that the block adds to its output."""
        if self._window is None or buffer is None:
            return buffer
        (top, bottom), (left, right) = self._inputs[block]
        return buffer[:, :, 2 * top : 2 * bottom, 2 * left : 2 * right]

    def leave(self, image: Tensor, scale: int = 1) -> Tensor:
        """The window, cut from the image that the last block's output became, ``scale`` times as large."""
        if self._window is None:
            return image
        top, left, height, width = self._window
        if self._inputs:
            (above, _), (before, _) = self._inputs[-1]
            top, left = top - 2 * scale * above, left - 2 * scale * before
        return image[:, :, top : top + height, left : left + width]


def _reached(span: _Span, reach: int, factor: int, size: int) -> _Span:
    """The rows or columns, of an axis of ``size`` px, that a span on one ``factor`` times as long depends on."""
    start, stop = span
    return max((start - reach) // factor, 0), min(-((-stop - reach) // factor), size)

"""What the pages show of a photo and its searches: pictures, drawn on the board."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from ex5lib.explorer.board import Board
from ex5lib.explorer.searching import Step, lens
from ex5lib.explorer.shelf import Shelf
from ex5lib.images.frames import PICTURE_SIZE, jpeg


class Screen:
    """Draws pictures on a board, also the one in the magnifier."""

    def __init__(self, board: Board):
        self._board = board
        self._looked_at: tuple[float, float] | None = None  # with the magnifier
        self._close_up: Callable[[float, float], Tensor] | None = None  # of what is shown

    def photo(self, photo: Tensor) -> None:
        """Show the photo, [1, 3, S, S]."""
        self._board.put(photo=jpeg(photo, PICTURE_SIZE))

    def target(self, target: Tensor, mask: bytes) -> None:
        """Show the target, [1, 3, S, S], and the mask."""
        self._board.put(target=jpeg(target, PICTURE_SIZE), mask=mask)

    def results(self, shelf: Shelf) -> None:
        """Show the shelf's result, or that there is none."""
        shown = shelf.shown
        self.numbers(shelf)
        self._board.put(**shelf.pictures, curve=shown.curve if shown else {}, progress={})
        self._magnify(partial(lens, shown.done.best_image) if shown else None)

    def numbers(self, shelf: Shelf) -> None:
        """Show the strip of results, and the numbers of the one that is shown."""
        self._board.put(**shelf.numbers)

    def step(self, step: Step, shelf: Shelf) -> None:
        """Show a step of a search and, as the previous result, the shelf's."""
        result, composite = (b"" if image is None else jpeg(image, PICTURE_SIZE) for image in step.images())
        previous = shelf.shown.pictures[shelf.shown.best] if shelf.shown else b""
        self._board.put(result=result, composite=composite, previous=previous, progress=step.progress, curve=step.curve)
        self._magnify(step.close_up)

    def look(self, x: float | None, y: float | None) -> None:
        """Magnify what is around (x, y), in shares of the picture's side, from now on; None ends it."""
        self._looked_at = None if x is None or y is None else (min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0))
        self._magnify(self._close_up)

    def _magnify(self, close_up: Callable[[float, float], Tensor] | None) -> None:
        self._close_up = close_up
        part = None if self._looked_at is None or close_up is None else close_up(*self._looked_at)
        self._board.put(lens=b"" if part is None else jpeg(part, PICTURE_SIZE))

"""What the pages show of a photo and its searches: pictures, drawn on the board."""

from torch import Tensor

from ex5lib.explorer.board import Board
from ex5lib.explorer.searching import Step, View
from ex5lib.explorer.shelf import Shelf
from ex5lib.images.frames import FULL_SIZE, PICTURE_SIZE, jpeg


class Screen:
    """Draws pictures on a board, at full size while somebody looks at a part of them."""

    def __init__(self, board: Board):
        self._board = board
        self._view: View | None = None  # the part that is looked at

    @property
    def size(self) -> int:
        """How large pictures are drawn, in px."""
        return PICTURE_SIZE if self._view is None else FULL_SIZE

    def look(self, view: View | None) -> bool:
        """Note which part is looked at, or that the whole is; returns whether the size of pictures changes."""
        before, self._view = self.size, view
        return self.size != before

    def photo(self, photo: Tensor) -> None:
        """Show the photo, [1, 3, S, S]."""
        self._board.put(photo=jpeg(photo, self.size))

    def target(self, target: Tensor, mask: bytes) -> None:
        """Show the target, [1, 3, S, S], and the mask."""
        self._board.put(target=jpeg(target, self.size), mask=mask)

    def results(self, shelf: Shelf) -> None:
        """Show the shelf's result, or that there is none."""
        shown = shelf.shown
        self.numbers(shelf)
        self._board.put(**shelf.pictures(self.size), curve=shown.curve if shown else {}, progress={})

    def numbers(self, shelf: Shelf) -> None:
        """Show the strip of results, and the numbers of the one that is shown."""
        self._board.put(**shelf.numbers)

    def step(self, step: Step, shelf: Shelf) -> None:
        """Show a step of a search and, as the previous result, the shelf's."""
        result, composite = (b"" if image is None else jpeg(image, self.size) for image in step.images(self._view))
        previous = shelf.shown.pictures(self.size)[shelf.shown.best] if shelf.shown else b""
        self._board.put(result=result, composite=composite, previous=previous, progress=step.progress, curve=step.curve)

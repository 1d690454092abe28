"""What the explorer shows: a line of text, and below it panels of a frame and its caption each."""

import html

import ipywidgets
from IPython.display import HTML, display

from ex5lib.notebook.frames import data_uri

PANELS = ("original", "target", "result", "previous")


class Screen:
    """Holds what is to be seen; the subclasses draw it.

    Attributes:
        box: the widget to put on the page.
        frames, captions: {panel: …}; a panel without a frame is not shown.
        text, is_error: the status line.
    """

    def __init__(self):
        self.box = ipywidgets.VBox()
        self.frames: dict[str, bytes] = {}
        self.captions: dict[str, str] = {}
        self.text, self.is_error = "", False

    def show(self, panel: str, caption: str, frame: bytes) -> None:
        """Put a frame and its caption into a panel; drawn with the next ``say``, so that all changes come together."""
        self.frames[panel], self.captions[panel] = frame, caption

    def say(self, text: str, is_error: bool = False) -> None:
        """Change the status line, and draw everything."""
        self.text, self.is_error = text, is_error
        self.draw()

    def draw(self) -> None:
        """Bring the page up to date."""
        raise NotImplementedError

    def displayed(self) -> None:
        """Called when ``box`` has been put on a page."""

    def _line_html(self) -> str:
        colour = "color:#c62828" if self.is_error else ""
        return f'<div role="status" style="line-height:1.4;white-space:normal;{colour}">{html.escape(self.text)}</div>'

    def _caption_html(self, panel: str) -> str:
        caption = self.captions[panel]
        text = f"<b>{html.escape(panel)}</b>" + (f"<br>{html.escape(caption)}" if caption else "")
        return f'<div style="line-height:1.4;white-space:normal">{text}</div>'


class WidgetScreen(Screen):
    """Drawn by widgets, which any thread may change and which send only what has changed.

    Attributes:
        images: {panel: its image widget}.
    """

    def __init__(self):
        super().__init__()
        self.images = {panel: ipywidgets.Image(format="jpeg", layout={"width": "98%"}) for panel in PANELS}
        self._captions = {panel: ipywidgets.HTML() for panel in PANELS}
        self._columns = {
            panel: ipywidgets.VBox([image, self._captions[panel]], layout={"width": "24%", "min_width": "150px"})
            for panel, image in self.images.items()
        }
        self._line = ipywidgets.HTML()
        self._row = ipywidgets.HBox(layout={"flex_flow": "row wrap", "max_width": "1100px"})
        self.box.children = [self._line, self._row]

    def draw(self) -> None:
        self._line.value = self._line_html()
        for panel, frame in self.frames.items():
            self._captions[panel].value = self._caption_html(panel)
            self.images[panel].value = frame
        self._row.children = [column for panel, column in self._columns.items() if panel in self.frames]


class HandleScreen(Screen):
    """Drawn as one piece of HTML in a display handle, which Colab updates even while a callback runs."""

    _handle = None

    def draw(self) -> None:
        if self._handle is not None:
            self._handle.update(self._html())

    def displayed(self) -> None:
        self._handle = display(self._html(), display_id=True)

    def _html(self) -> HTML:
        panels = "".join(
            f'<div style="width:23%;min-width:140px">'
            f'<img alt="{panel}" src="{data_uri(self.frames[panel])}" style="width:100%">'
            f"{self._caption_html(panel)}</div>"
            for panel in PANELS
            if panel in self.frames
        )
        row = f'<div style="display:flex;flex-wrap:wrap;gap:8px;max-width:1100px">{panels}</div>'
        return HTML(self._line_html() + row)

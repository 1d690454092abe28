"""The explorer in a notebook: ``explore`` checks its arguments, and an ``Explorer`` shows an ``Exploration``."""

import html
import sys
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import torch
import traitlets
from IPython.display import display
from torch import Tensor

from ex5lib.degradations.known import Inpaint
from ex5lib.devices import pick_device
from ex5lib.errors import Ex5Error, sentence
from ex5lib.explorer.choices import Choice, Rectangle, hole_of
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.page import SCRIPT, STYLE, PageServer
from ex5lib.explorer.searching import Searcher, offered
from ex5lib.explorer.subjects import Subject, plain_name
from ex5lib.faces.alignment import AlignedFace, load_face
from ex5lib.images.frames import data_uri
from ex5lib.images.tensors import check_image, checked_target
from ex5lib.inversion.latents import LatentStatistics
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.recipes import Recipe, Start, pick_recipe
from ex5lib.restoration.restored import Restoration
from stylegan2_ada.generator import Generator

_MOUTH: Rectangle = (164, 84, 44, 88)
_HEIGHT = 1250  # px of the frame on Colab


def explore(
    G: Generator,
    face_image: Tensor | AlignedFace,
    *,
    degradation: str = "none",
    recipe: str | Recipe = "fast",
    latent_weight: float | None = None,
    kernel_size: int = 25,
    sigma: float | None = None,
    rectangle: Rectangle | None = None,
    mask: Tensor | None = None,
    seed: int = 0,
    done: Restoration | None = None,
    out: str | Path = "results",
    name: str = "photo",
    distance: PerceptualDistance | None = None,
    statistics: LatentStatistics | None = None,
    start: Start = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
    **settings,
) -> "Explorer":
    """A page for trying out the photo, the degradation and the weight of a search. Make it the last line of a cell.

    Run starts a search. From then on, any change cancels it and starts another, until Stop, which keeps the best result
    so far; a tick on the page makes changes wait for Run. Finished results are kept: moving a slider back shows the
    earlier one immediately. They are still there if the cell is run again with the same generator and face.

    Args:
        G: the generator.
        face_image: an aligned face [1, 3, S, S] in [−1, 1], undegraded, or an ``AlignedFace``.
        degradation: a name in ``choices.DEGRADATIONS``; this and the next five are only where the controls start.
        latent_weight: λ_w, from 0 to 10; None is the recipe's for the task.
        kernel_size, sigma: of the blur, px at 256 px; a sigma of None follows the kernel size.
        rectangle: top, left, height and width of the hole, px at 256 px; None is one over the mouth if the page starts
            with "inpaint", else nothing until something is painted.
        mask: instead of the rectangle, as in ``Inpaint``.
        recipe: a name in ``RECIPES``, or a ``Recipe``.
        seed: of the searches.
        done: a result for these settings, to show at first.
        out: folder in which each saved result gets a folder.
        name: of the photo.
        distance, statistics, start, device, dtype, compile: of every search, as in ``project``.
        settings: other values for every recipe, as ``pick_recipe`` takes them; recipes that do not take them are left
            out.

    Raises:
        SettingError: if the face is not one square image, a number is out of range, or a name or keyword is unknown.
        DeviceError: if the machine lacks the device.
        WeightsError: if the perceptual distance's weights cannot be fetched or read.

    The status line reports later errors.

    Example:
        >>> explore(G, face.image, degradation="blur")
    """
    if not isinstance(face_image, AlignedFace):
        check_image(face_image, batch=1)
        face_image = load_face(checked_target(face_image, "The image"), aligned=True, size=face_image.shape[3])
    starts_with: dict[str, Any] = {"degradation": degradation}
    if rectangle is not None or degradation == "inpaint":
        starts_with["hole"] = rectangle or _MOUTH
    if mask is not None:
        starts_with["hole"] = hole_of(Inpaint(mask=mask))
    recipe = pick_recipe(recipe, start=start, **settings)
    pick_device(device)
    choice = Choice().changed(
        kernel_size=kernel_size, sigma=sigma, recipe=recipe.name, seed=seed, latent_weight=latent_weight, **starts_with,
    )  # fmt: skip
    given: dict[str, Any] = {
        "distance": distance, "statistics": statistics, "start": start, "device": device, "dtype": dtype,
        "compile": compile,
    }  # fmt: skip
    subject = Subject(face_image, plain_name(name))
    key = (id(G), subject.digest, recipe, str(out), str(settings), str(given))
    if Explorer._latest is None or Explorer._latest[0] != key:
        searcher = Searcher(G, offered(recipe, start=start, **settings), **given)
        searcher.plan(choice)
        Explorer._latest = (key, Explorer(Exploration(searcher, [subject], choice, out=out)))
    explorer = Explorer._latest[1]
    explorer.exploration.begin(choice, done)
    return explorer


class _Widget(anywidget.AnyWidget):
    """A page in a notebook, whose values are the board's."""

    _esm = SCRIPT
    _css = STYLE

    def __init__(self, exploration: Exploration):
        values = exploration.board.values
        self.add_traits(**{name: traitlets.Any(value).tag(sync=True) for name, value in values.items()})
        super().__init__()
        self._exploration = exploration
        exploration.board.listeners.append(self._show)
        self.on_msg(self._heard)

    def _show(self, values: dict) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def _heard(self, _: object, message: object, buffers: list) -> None:
        if isinstance(message, dict) and message.get("do") == "download":
            try:
                name, content = self._exploration.download(message.get("picture"))
                self.send({"file": name}, [content])
            except (Ex5Error, OSError) as error:
                self.send({"problem": sentence(error)})
            return
        self._exploration.handle(message, bytes(buffers[0]) if buffers else b"")


class Explorer:
    """What ``explore`` returns: it shows itself in a notebook, and can be driven by code: ``exploration.run()``, …"""

    # The last one, and what it was made from: it is kept when its page is gone.
    _latest: ClassVar[tuple[tuple, "Explorer"] | None] = None

    def __init__(self, exploration: Exploration):
        self.exploration = exploration
        self.widget: _Widget | None = None
        self.server: PageServer | None = None  # on Colab, instead of the widget

    def _ipython_display_(self) -> None:
        if "google.colab" in sys.modules:  # there, a thread cannot draw a widget, only a page
            from google.colab import output

            if self.server is None:
                self.server = PageServer(framed=True)
                self.server.show(self.exploration)
            output.serve_kernel_port_as_iframe(self.server.server_port, path=self.server.path, height=_HEIGHT)
            return
        self.widget = self.widget or _Widget(self.exploration)
        bundle = self.widget._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        display({**data, "text/plain": "An explorer.", "text/html": self._still()}, metadata=metadata, raw=True)

    def _still(self) -> str:
        """What a notebook without a kernel shows: two pictures and a caption."""
        values = self.exploration.board.values
        state = values["state"]
        last = next((name for name in ("composite", "result", "target") if values[name]), "target")
        first = "target" if last != "target" and state["choice"]["degradation"] != "none" else "photo"
        pictures = "".join(
            f'<img alt="{name}" src="{data_uri(values[name])}" style="width:46%;max-width:320px;margin-right:8px">'
            for name in dict.fromkeys((first, last))
        )
        caption = (
            f"The explorer, as it was when the notebook was run: {first} and {last}, {state['in_words']}. In a running "
            "notebook you can wipe from one picture to the other, change the weight, the degradation, the mask or the "
            "photo, and watch the search."
        )
        return f"<figure data-explorer>{pictures}<figcaption>{html.escape(caption)}</figcaption></figure>"

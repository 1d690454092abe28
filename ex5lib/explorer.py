"""Sliders: a search to play with in a notebook, and a finished sweep to slide through on a page without a kernel."""

import base64
import html
import inspect
import io
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import ipywidgets
from IPython.display import HTML, display
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ex5lib.degradations import REFERENCE_SIZE, GaussianBlur, Grayscale, Identity, Inpaint
from ex5lib.errors import Ex5Error, ImageShapeError, SettingError, UnknownNameError
from ex5lib.experiments import pick_profile
from ex5lib.images import check_image, resize, resize_area, to_uint8
from ex5lib.losses import PerceptualDistance
from ex5lib.projector import Projection, project
from stylegan2_ada.networks import Generator

DEGRADATIONS = {"none": Identity, "blur": GaussianBlur, "grayscale": Grayscale, "inpaint": Inpaint}
PANEL = REFERENCE_SIZE  # px of a frame: what the parameters count in, and little enough to send ten times a second
_PANELS = ("original", "target", "result", "previous")
_WEIGHT_EXPONENTS = (-7, 1)  # from the default ÷ 1500 to above the default × 1500
_SECONDS_BETWEEN_FRAMES = 0.1
_SECONDS_AT_REST = 0.15  # a drag sends a value every few milliseconds; only where it rests is searched
_RESULTS_KEPT = 24  # about 20 MB each, mostly the image at full size
_OUTLINE, _BLANK = "#ffb000", "#d9dee3"


def explore(
    G: Generator,
    face_image: Tensor,
    *,
    degradation: str = "none",
    profile: str = "fast",
    latent_weight: float = 1e-3,
    kernel_size: int = 25,
    sigma: float | None = None,
    rectangle: tuple[int, int, int, int] = (164, 84, 44, 88),
    **keywords,
) -> "Explorer":
    """Sliders for the latent weight and the degradation, and the search as it goes; the last line of a cell.

    Run starts a search. From then on whatever is moved ends it and starts another, until Stop, which keeps the best
    so far. A finished result is kept with its settings: moving back shows it at once. On Colab, where only the
    thread of a callback can draw, the search runs inside Run: it ends early by "Interrupt execution", and a slider
    takes effect afterwards.

    Args:
        G: the generator.
        face_image: an aligned face [1, 3, S, S] in [−1, 1], undegraded.
        degradation: "none", "blur", "grayscale" or "inpaint", where the choice begins; the others likewise:
        latent_weight: λ_w, from 1e-7 to 10.
        kernel_size, sigma: of the blur, px at 256 px; sigma None follows the kernel size.
        rectangle: top, left, height and width of the hole, px at 256 px.
        profile: "smoke", "fast" or "full".
        keywords: further ones of ``project``, the same for every search; they override the profile's.

    Raises:
        ImageShapeError: if the face is not one square image.
        UnknownNameError: for an unknown degradation or profile.
        TypeError: if a keyword is not one of ``project``, or one that the explorer sets itself.
        SettingError, KernelSizeError, RectangleError, MaskError: if a number is outside its range.
        DeviceError, CacheError, DownloadError, CorruptWeightsError: as ``PerceptualDistance``. What goes wrong later
            is said in the status line.

    Example:
        >>> explore(G, face.image, degradation="blur")
    """
    check_image(face_image, batch=1)
    _check_square(face_image)
    if degradation not in DEGRADATIONS:
        raise UnknownNameError("degradation", degradation, DEGRADATIONS)
    low, high = _WEIGHT_EXPONENTS
    if not 10.0**low <= latent_weight <= 10.0**high:
        raise SettingError(f"The weight's slider goes from 1e{low} to 1e{high}, so not to {latent_weight}.")
    GaussianBlur(kernel_size, sigma), Inpaint(*rectangle)  # they say what is wrong; a slider would change it silently
    keywords = pick_profile(profile).keywords() | keywords
    own = {"degradation": None, "latent_weight": latent_weight, "snapshots": (), "progress": False, "callback": None}
    inspect.signature(project).bind(G, face_image, **own, **keywords)  # a misspelt keyword is said here, not after Run
    return Explorer(G, face_image, _Controls(degradation, latent_weight, kernel_size, sigma, rectangle), keywords)


@dataclass(frozen=True)
class _Choice:
    """What the controls say: all that tells one search of an explorer from another."""

    latent_weight: float
    degradation: str
    parameters: tuple[tuple[str, float | None], ...]  # of the degradation, by name

    def module(self) -> nn.Module:
        return DEGRADATIONS[self.degradation](**dict(self.parameters))

    def __str__(self) -> str:
        return f"λ_w = {self.latent_weight:.3g}; {self.degraded()}"

    def degraded(self) -> str:
        """The degradation in words."""
        numbers = (f"{name.replace('_', ' ')} {value:g}" for name, value in self.parameters if value is not None)
        return ", ".join([self.degradation, *numbers]) if self.degradation != "none" else "not degraded"


class _Controls:
    """The sliders, and what they say.

    Attributes:
        box: the widget.
        latent_weight, degradation, kernel_size, sigma, sigma_follows, top, left, height, width: its parts.
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
        low, high = _WEIGHT_EXPONENTS
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
        sides = {
            name: ipywidgets.IntSlider(value, min=least, max=PANEL - 1 + least, description=name, **look)
            for name, value, least in zip(("top", "left", "height", "width"), rectangle, (0, 0, 1, 1), strict=True)
        }
        self.top, self.left, self.height, self.width = sides.values()
        self._of_degradation = {
            "blur": [self.kernel_size, self.sigma, self.sigma_follows],
            "inpaint": list(sides.values()),
        }
        self._parameters = ipywidgets.VBox()
        common = ipywidgets.VBox([self.latent_weight, self.degradation])
        self.box = ipywidgets.HBox([common, self._parameters], layout={"flex_flow": "row wrap"})
        self.show_parameters()

    def observe(self, handler) -> None:
        for control in (self.latent_weight, self.degradation, *chain(*self._of_degradation.values())):
            control.observe(handler, "value")

    def show_parameters(self) -> None:
        """Leave only the sliders that the chosen degradation has, and have σ say what is used."""
        self._parameters.children = self._of_degradation.get(self.degradation.value, [])
        self.sigma.disabled = self.sigma_follows.value
        if self.sigma_follows.value and self.kernel_size.value % 2:  # of an even size, typed in, the status line speaks
            self.sigma.value = GaussianBlur(self.kernel_size.value).sigma

    def choice(self) -> _Choice:
        parameters: dict[str, float | None] = {}
        if self.degradation.value == "blur":
            sigma = None if self.sigma_follows.value else self.sigma.value
            parameters = {"kernel_size": self.kernel_size.value, "sigma": sigma}
        elif self.degradation.value == "inpaint":
            parameters = dict(zip(("top", "left", "height", "width"), self.rectangle(), strict=True))
        # A power of ten has other last digits in the browser than here; the cache must not see them.
        weight = float(f"{self.latent_weight.value:.6g}")
        return _Choice(weight, self.degradation.value, tuple(parameters.items()))

    def rectangle(self) -> tuple[int, int, int, int]:
        return self.top.value, self.left.value, self.height.value, self.width.value


class _Screen:
    """The panels, each a caption and a JPEG frame, and a line of text above them, drawn as widgets."""

    def __init__(self):
        self.images = {name: ipywidgets.Image(format="jpeg", layout={"width": "98%"}) for name in _PANELS}
        self._captions = {name: ipywidgets.HTML() for name in _PANELS}
        self._columns = {
            name: ipywidgets.VBox([image, self._captions[name]], layout={"width": "24%", "min_width": "150px"})
            for name, image in self.images.items()
        }
        self._line = ipywidgets.HTML()
        self._row = ipywidgets.HBox(layout={"flex_flow": "row wrap", "max_width": "1100px"})
        self.box = ipywidgets.VBox([self._line, self._row])
        self.captions = dict.fromkeys(_PANELS, "")
        self.text = ""

    def show(self, name: str, caption: str, frame: bytes) -> None:
        self.captions[name] = caption
        self._captions[name].value = _caption_html(name, caption)
        self.images[name].value = frame
        self._row.children = [column for name, column in self._columns.items() if self.images[name].value]

    def say(self, text: str, error: bool = False) -> None:
        self.text = text
        self._line.value = _status_html(text, error)

    def displayed(self) -> None:
        """Called whenever the widgets have been put on a page."""


class _HandleScreen:
    """The same as one piece of HTML in a display handle, which Colab redraws while a callback runs."""

    def __init__(self):
        self.box = ipywidgets.VBox()
        self.frames: dict[str, bytes] = {}
        self.captions = dict.fromkeys(_PANELS, "")
        self.text, self._error = "", False
        self._handle = None

    def show(self, name: str, caption: str, frame: bytes) -> None:
        # Not sent yet: after every change of panels comes a line of text, and all travel together.
        self.captions[name], self.frames[name] = caption, frame

    def say(self, text: str, error: bool = False) -> None:
        self.text, self._error = text, error
        if self._handle is not None:
            self._handle.update(self._html())

    def displayed(self) -> None:
        self._handle = display(self._html(), display_id=True)

    def _html(self) -> HTML:
        panels = "".join(
            f'<div style="width:23%;min-width:140px">'
            f'<img alt="{name}" src="{_data_uri(self.frames[name])}" style="width:100%">'
            f"{_caption_html(name, self.captions[name])}</div>"
            for name in _PANELS
            if name in self.frames
        )
        row = f'<div style="display:flex;flex-wrap:wrap;gap:8px;max-width:1100px">{panels}</div>'
        return HTML(_status_html(self.text, self._error) + row)


class Explorer:
    """What ``explore`` returns: shows itself in a notebook, and can be driven without a mouse.

    Attributes:
        controls: the sliders, by name.
        run_button, stop_button: what they say.
        result: the latest ``Projection`` shown, at full size; None as long as there is none.
        status: the text of the status line.
    """

    # The one that searches: a cell that is run again makes a new explorer, and the old one's search, which nobody
    # sees any more, would slow down the new one's.
    _active: ClassVar[weakref.ref | None] = None

    def __init__(self, G: Generator, face_image: Tensor, controls: _Controls, keywords: dict):
        self._G, self._face, self._keywords = G, face_image, dict(keywords)
        if self._keywords.get("distance") is None:  # loaded here, not in every search
            self._keywords["distance"] = PerceptualDistance(device=self._keywords.get("device", "auto"))
        self._small = resize(resize_area(face_image.detach().cpu().clamp(-1, 1), PANEL), PANEL)

        self._in_callback = "google.colab" in sys.modules
        self.controls = controls
        self.run_button = ipywidgets.Button(description="Run", button_style="primary", icon="play")
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", disabled=True)
        self.screen = _HandleScreen() if self._in_callback else _Screen()
        buttons = [self.run_button] if self._in_callback else [self.run_button, self.stop_button]
        self.widget = ipywidgets.VBox([self.controls.box, ipywidgets.HBox(buttons), self.screen.box])

        self.result: Projection | None = None
        self._finished: OrderedDict[_Choice, Projection] = OrderedDict()
        self._shown: tuple[_Choice, str, bytes] | None = None  # of the result panel, if it holds a finished search
        # The worker and the page's callbacks share all that follows; whoever draws holds the lock. A search may draw
        # as long as its generation is the current one.
        self._lock = threading.RLock()
        self._generation = 0
        self._wanted: tuple[int, _Choice] | None = None
        self._worker: threading.Thread | None = None
        self._live = self._running = self._stopping = False
        self._choice = self.controls.choice()

        self.screen.show("result", "", _blank())
        self._draw_target()
        self.screen.say("Press Run.")
        self.controls.observe(self._on_change)
        self.run_button.on_click(lambda _: self.run())
        self.stop_button.on_click(lambda _: self.stop())

    @property
    def status(self) -> str:
        return self.screen.text

    def run(self) -> None:
        """Search with the present settings, as the button does: on Colab until the end, else in the background."""
        active = Explorer._active and Explorer._active()
        if active is not None and active is not self:
            active.stop()
        Explorer._active = weakref.ref(self)
        with self._lock:
            self._live = True
            self._generation += 1
            if not self._draw_target() or self._show_finished():
                return
            wanted = (self._generation, self._choice)
            self._stopping = False
            self._set_running(True)
            self.screen.say("Starting …")
            if not self._in_callback:
                self._wanted = wanted
                if self._worker is None:
                    self._worker = threading.Thread(target=self._work, name="ex5lib explorer", daemon=True)
                    self._worker.start()
                return
        self._search(*wanted)

    def stop(self) -> None:
        """End the running search after its present step and show the best so far."""
        with self._lock:
            self._live = False
            if self._running:
                self._stopping = True
                self.screen.say("Stopping …")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is running, for ``timeout`` seconds at most; returns whether nothing is."""
        worker = self._worker
        if worker is not None:
            worker.join(timeout)
        return worker is None or not worker.is_alive()

    def _ipython_display_(self) -> None:
        display(self.widget)
        self.screen.displayed()

    def _on_change(self, _change: dict) -> None:
        with self._lock:
            self.controls.show_parameters()
            choice = self.controls.choice()
            if choice == self._choice:
                return
            self._choice = choice
            self._generation += 1
            self._wanted = None
            self._set_running(False)
            if not self._draw_target() or self._show_finished():
                return
            if self._live and not self._in_callback:
                self.run()
            else:
                self.screen.say("Press Run." if self.result is None else "The result is of other settings: press Run.")

    def _set_running(self, running: bool) -> None:
        self._running = running
        self.run_button.disabled, self.stop_button.disabled = running, not running

    def _draw_target(self) -> bool:
        """Draw the photo, with the hole's outline, and the target; returns whether the settings make sense."""
        hole = self.controls.rectangle() if self._choice.degradation == "inpaint" else None
        self.screen.show("original", "", _outlined(self._small, hole))
        try:
            degraded = self._choice.module()(self._small)
        except Ex5Error as error:
            self.screen.say(str(error), error=True)
            return False
        self.screen.show("target", self._choice.degraded(), _jpeg(degraded))
        return True

    def _show_finished(self) -> bool:
        """Show the result of the present settings if there is one; returns whether there is."""
        run = self._finished.get(self._choice)
        if run is None:
            return False
        self._finished.move_to_end(self._choice)
        self._show_result(self._choice, run, "Done before")
        return True

    def _show_result(self, choice: _Choice, run: Projection, how: str) -> None:
        if self._shown is not None and self._shown[0] != choice:
            self._keep_as_previous()
        self.result = run
        self._shown = (choice, f"{choice}; distance {run.distance:.3f} after {run.steps} steps", _jpeg(run.image))
        self.screen.show("result", *self._shown[1:])
        self._set_running(False)
        steps = f"{run.steps} of {run.settings['steps']} steps"
        self.screen.say(f"{how}: {steps}, distance {run.distance:.3f}, {run.seconds:.1f} s.")

    def _keep_as_previous(self) -> None:
        if self._shown is not None:
            self.screen.show("previous", *self._shown[1:])
            self._shown = None

    def _work(self) -> None:
        """The worker: one search after another, always the latest wanted, until none is."""
        while True:
            with self._lock:
                if self._wanted is None:
                    self._worker = None
                    return
                (generation, choice), self._wanted = self._wanted, None
            time.sleep(_SECONDS_AT_REST)
            if generation == self._generation:
                self._search(generation, choice)

    def _search(self, generation: int, choice: _Choice) -> None:
        next_frame = 0.0

        def after_step(report: dict) -> bool | None:
            nonlocal next_frame
            with self._lock:
                if generation != self._generation:
                    raise _SupersededError
                if self._stopping:
                    return True
                if time.monotonic() >= next_frame:
                    self._draw_frame(choice, report)
                    next_frame = time.monotonic() + _SECONDS_BETWEEN_FRAMES
            return None

        try:
            module = choice.module()
            run = project(
                self._G,
                module(self._face),
                degradation=module,
                latent_weight=choice.latent_weight,
                snapshots=(),  # each would be an image at full size, longer in the making than many steps
                progress=False,
                callback=after_step,
                **self._keywords,
            )
        except _SupersededError:
            return
        except KeyboardInterrupt:  # on Colab, before the first step; after it project() returns the best so far instead
            self._end(generation, "Interrupted, without a result.", error=False)
        except Ex5Error as error:
            self._end(generation, str(error))
        except Exception as error:
            self._end(generation, f"The search failed unexpectedly ({type(error).__name__}: {error}).")
            logging.getLogger(__name__).exception("An explorer's search failed.")  # raised, it would end the worker
        else:
            with self._lock:
                if not run.stopped:
                    self._finished[choice] = run
                    while len(self._finished) > _RESULTS_KEPT:
                        self._finished.popitem(last=False)
                if generation == self._generation:
                    self._show_result(choice, run, "Stopped, best so far" if run.stopped else "Done")

    def _draw_frame(self, choice: _Choice, report: dict) -> None:
        self._keep_as_previous()
        self.screen.show("result", str(choice), _jpeg(report["image"]))
        step, distance = f"Step {report['step'] + 1} of {report['steps']}", f"distance {report['distance']:.3f}"
        self.screen.say(f"{step}: {distance} at {report['size']} px, {report['seconds']:.1f} s.")

    def _end(self, generation: int, text: str, error: bool = True) -> None:
        with self._lock:
            if generation == self._generation:
                self._set_running(False)
                self.screen.say(text, error)


class _SupersededError(Exception):
    """Raised in a search whose settings are no longer wanted.

    Returning True would have ``project`` make the best image at full size first, which nobody waits for.
    """


def sweep_html(
    titles: Sequence[str | float],
    images: Sequence[Tensor],
    *,
    label: str = "frame",
    numbers: Mapping[str, Sequence[float]] | None = None,
    beside: Mapping[str, Tensor] | None = None,
    start: int = 0,
) -> HTML:
    """A slider through images that are already there, in one piece of HTML that needs neither kernel nor network.

    It may stand several times on one page: it has no ids and no names, the slider finds the frames around it.

    Args:
        titles: of every image; a number is the value that the slider goes through.
        images: [1, 3, S, S] in [−1, 1] each; sent as JPEG of at most 256 px.
        label: what the slider changes.
        numbers: {name: one number per image}, shown below each.
        beside: {title: [1, 3, S, S]}, images that stay, the original say.
        start: index of the image that is seen first.

    Raises:
        SettingError: if there is no image, or not as many titles or numbers as images, or no image ``start``.
        ImageShapeError: if an image is not one square image.

    Example:
        >>> sweep_html([1e-5, 1e-3, 0.1], [run.image for run in runs], label="λ_w", beside={"original": face.image})
    """
    columns = dict(numbers or {})
    lengths = {"titles": len(titles), **{name: len(values) for name, values in columns.items()}}
    for name, length in lengths.items():
        if length != len(images):
            raise SettingError(f"A sweep of {len(images)} images needs as many {name}, not {length}.")
    if not 0 <= start < len(images):
        raise SettingError(f"A sweep of {len(images)} images cannot begin at image {start}.")

    words = [title if isinstance(title, str) else f"{title:g}" for title in titles]
    frames = []
    for i, (title, image) in enumerate(zip(words, images, strict=True)):
        notes = [f"{name} {values[i]:.4g}" for name, values in columns.items()]
        frames.append(_figure(f"{label}: {title}", image, notes, visible=i == start))
    fixed = "".join(_figure(title, image, [], visible=True) for title, image in (beside or {}).items())
    # Attributes instead of a script element: a page that inserts HTML by itself, or twice, runs these and not those.
    move = (
        "const at = +this.value, stack = this.closest('[data-sweep]').querySelectorAll('[data-frames] > figure');"
        "stack.forEach((figure, i) => figure.style.display = i === at ? '' : 'none');"
        "this.setAttribute('aria-valuetext', stack[at].innerText)"
    )
    name = html.escape(label)
    return HTML(
        '<div data-sweep style="max-width:1100px">'
        f'<label style="display:flex;gap:8px;align-items:center;max-width:540px">{name}'
        f'<input type="range" min="0" max="{len(images) - 1}" step="1" value="{start}" style="flex:1"'
        f' autocomplete="off" aria-valuetext="{html.escape(words[start])}" oninput="{html.escape(move)}"></label>'
        f'<div style="display:flex;flex-wrap:wrap;gap:12px;margin-top:8px">{fixed}'
        f"<div data-frames>{''.join(frames)}</div></div></div>"
    )


def _figure(title: str, image: Tensor, notes: Sequence[str], *, visible: bool) -> str:
    check_image(image, batch=1)
    _check_square(image)
    shown, text = "" if visible else "display:none;", html.escape(title)
    lines = "".join(f"<br>{html.escape(note)}" for note in notes)
    return (
        f'<figure style="{shown}margin:0;width:{PANEL}px;max-width:100%">'
        f'<img alt="{text}" src="{_data_uri(_jpeg(image))}" style="width:100%;display:block">'
        f"<figcaption>{text}{lines}</figcaption></figure>"
    )


def _check_square(image: Tensor) -> None:
    height, width = image.shape[2:]
    if height != width:
        raise ImageShapeError(f"The image is {width} × {height} px, but it must be square, like an aligned face.")


def _jpeg(image: Tensor) -> bytes:
    """One image [1, 3, S, S] as a JPEG of at most 256 px."""
    return _encoded(Image.fromarray(to_uint8(resize_area(image, PANEL))))


def _outlined(face: Tensor, rectangle: tuple[int, int, int, int] | None) -> bytes:
    """A face [1, 3, 256, 256] as a JPEG, with the outline of a hole (top, left, height, width), just outside it."""
    picture = Image.fromarray(to_uint8(face))
    if rectangle is not None:
        top, left, height, width = rectangle
        ImageDraw.Draw(picture).rectangle((left - 2, top - 2, left + width + 1, top + height + 1), None, _OUTLINE, 2)
    return _encoded(picture)


def _blank() -> bytes:
    return _encoded(Image.new("RGB", (PANEL, PANEL), _BLANK))


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _data_uri(frame: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(frame).decode()}"


def _caption_html(name: str, caption: str) -> str:
    text = f"<b>{html.escape(name)}</b>" + (f"<br>{html.escape(caption)}" if caption else "")
    return f'<div style="line-height:1.4;white-space:normal">{text}</div>'


def _status_html(text: str, error: bool) -> str:
    colour = "color:#c62828" if error else ""
    return f'<div role="status" style="line-height:1.4;white-space:normal;{colour}">{html.escape(text)}</div>'

"""Sliders over a search: explore() checks what it is given, an Explorer searches, remembers and cancels."""

import inspect
import logging
import sys
import threading
import time
import weakref
from collections import OrderedDict
from typing import ClassVar

import ipywidgets
from IPython.display import display
from torch import Tensor, nn

from ex5lib.degradations import GaussianBlur, Inpaint
from ex5lib.devices import keep_freed_memory, pick_device
from ex5lib.errors import Ex5Error, SettingError, unknown_name
from ex5lib.images import check_image, checked_target, resize, resize_area
from ex5lib.losses import PerceptualDistance
from ex5lib.notebook.controls import DEGRADATIONS, WEIGHT_EXPONENTS, Choice, Controls
from ex5lib.notebook.frames import FRAME_SIZE, blank, jpeg
from ex5lib.notebook.screens import HandleScreen, WidgetScreen
from ex5lib.projection import Projection
from ex5lib.projector import project
from ex5lib.recipes import Recipe, pick_recipe
from stylegan2_ada.generator import Generator

_SECONDS_BETWEEN_FRAMES = 0.1
_SECONDS_AT_REST = 0.15  # a slider that is dragged sends a value every few milliseconds; only the last one counts
_RESULTS_KEPT = 24  # about 20 MB each, mostly the full-size image
_SET_BY_EXPLORER = ("target", "snapshots", "progress", "callback")


def explore(
    G: Generator,
    face_image: Tensor,
    *,
    degradation: str = "none",
    recipe: str | Recipe = "fast",
    latent_weight: float | None = None,
    kernel_size: int = 25,
    sigma: float | None = None,
    rectangle: tuple[int, int, int, int] = (164, 84, 44, 88),
    **keywords,
) -> "Explorer":
    """Sliders for the latent weight and the degradation, and the search as it runs. Make it the last line of a cell.

    Run starts a search. From then on, moving a slider cancels the search and starts another, until Stop ends it and
    shows the best result so far. Finished results are kept: moving a slider back shows the earlier one at once. On
    Colab, where only a callback's own thread can draw, the search runs inside Run: "Interrupt execution" stops it,
    and a slider takes effect at the next Run.

    Args:
        G: the generator.
        face_image: an aligned face [1, 3, S, S] in [−1, 1], undegraded.
        degradation: "none", "blur", "grayscale" or "inpaint"; like those below, only where its control starts.
        latent_weight: λ_w, from 1e-7 to 10; None leaves it to the recipe until the slider is moved.
        kernel_size, sigma: of the blur, px at 256 px; where sigma is None it follows the kernel size.
        rectangle: top, left, height and width of the hole, px at 256 px.
        recipe: a name in ``RECIPES``, or a ``Recipe``.
        keywords: other keywords of ``project``, for every search.

    Raises:
        SettingError: if the face is not one square image, a number is out of range, or a name or keyword is unknown.
        DeviceError: if the machine lacks the device.
        WeightsError: if the weights of the perceptual distance cannot be had.

    Whatever goes wrong later is said in the status line.

    Example:
        >>> explore(G, face.image, degradation="blur")
    """
    check_image(face_image, batch=1)
    face_image = checked_target(face_image, "The image")
    if degradation not in DEGRADATIONS:
        raise unknown_name("degradation", degradation, DEGRADATIONS)
    GaussianBlur(kernel_size, sigma)  # the sliders would move values that make no sense without a word
    Inpaint(*rectangle)
    recipe = pick_recipe(recipe)
    low, high = (10.0**exponent for exponent in WEIGHT_EXPONENTS)
    if latent_weight is not None and not low <= latent_weight <= high:
        raise SettingError(f"The slider for latent_weight runs from {low:g} to {high:g}, without {latent_weight}.")
    pick_device(keywords.get("device", "auto"))
    weight = min(max(recipe.latent_weight, low), high) if latent_weight is None else latent_weight
    controls = Controls(degradation, weight, kernel_size, sigma, rectangle)
    _check_keywords(G, recipe, keywords, controls.choice().module())
    keep_freed_memory()
    own_weight = controls.choice().latent_weight if latent_weight is None else None
    return Explorer(G, face_image, controls, keywords | {"recipe": recipe}, own_weight)


def _check_keywords(G: Generator, recipe: Recipe, keywords: dict, degradation: nn.Module) -> None:
    """Raise SettingError if a keyword is not one of ``project``, or the recipe does not take it."""
    for name in _SET_BY_EXPLORER:
        if name in keywords:
            raise SettingError(f"The explorer sets {name} itself: leave it out.")
    parameters = inspect.signature(project).parameters.values()
    own = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    changes = {name: value for name, value in keywords.items() if name not in own}
    start = keywords.get("start")
    if isinstance(start, str):  # which is a field of the recipe, too
        changes["start"] = start
    continued = start.settings["space"] if isinstance(start, Projection) else None
    recipe.planned(G, changes, degradation=degradation, continued=continued)


class Explorer:
    """What ``explore`` returns: shows itself in a notebook, and can be driven without a mouse.

    Attributes:
        controls: the sliders.
        run_button, stop_button: the buttons.
        screen: what is shown.
        result: the ``Projection`` last shown, at full size; None until there is one.
        status: the text of the status line.
    """

    # The one that may be searching. When a cell is run again, the explorer of the first run is off the page, and its
    # search would only slow down the new one.
    _active: ClassVar[weakref.ref | None] = None

    def __init__(
        self, G: Generator, face_image: Tensor, controls: Controls, keywords: dict, own_weight: float | None = None
    ):
        self._own_weight = own_weight  # where the slider leaves λ_w to the recipe
        self._G, self._face, self._keywords = G, face_image, dict(keywords)
        if self._keywords.get("distance") is None:  # loaded once, not for every search
            self._keywords["distance"] = PerceptualDistance(device=self._keywords.get("device", "auto"))
        self._small = resize(resize_area(face_image.cpu().clamp(-1, 1), FRAME_SIZE), FRAME_SIZE)

        self._in_callback = "google.colab" in sys.modules
        self.controls = controls
        self.run_button = ipywidgets.Button(description="Run", button_style="primary", icon="play")
        self.stop_button = ipywidgets.Button(description="Stop", icon="stop", disabled=True)
        self.screen = HandleScreen() if self._in_callback else WidgetScreen()
        buttons = [self.run_button] if self._in_callback else [self.run_button, self.stop_button]
        self.widget = ipywidgets.VBox([self.controls.box, ipywidgets.HBox(buttons), self.screen.box])

        self.result: Projection | None = None
        self._finished: OrderedDict[Choice, Projection] = OrderedDict()
        self._shown: tuple[Choice, str, bytes] | None = None  # the result panel, if it shows the result of a search
        # The worker and the page's callbacks share everything below; whoever draws holds the lock. A search may draw
        # only while its generation is the current one.
        self._lock = threading.RLock()
        self._generation = 0
        self._wanted: tuple[int, Choice] | None = None
        self._worker: threading.Thread | None = None
        self._live = self._running = self._stopping = False
        self._choice = self.controls.choice()

        self.screen.show("result", "", blank())
        self._show_target()
        self.screen.say("Press Run.")
        self.controls.observe(self._on_change)
        self.run_button.on_click(lambda _: self.run())
        self.stop_button.on_click(lambda _: self.stop())

    @property
    def status(self) -> str:
        return self.screen.text

    def run(self) -> None:
        """Search with the present settings, as the button does: in the background or, on Colab, until it is done."""
        active = Explorer._active and Explorer._active()
        if active is not None and active is not self:
            active.stop()
        Explorer._active = weakref.ref(self)
        with self._lock:
            self._live = True
            self._generation += 1
            if not self._show_target() or self._show_finished():
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
        """End the running search after its present step, and show the best result so far."""
        with self._lock:
            self._live = False
            if self._running:
                self._stopping = True
                self.screen.say("Stopping …")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait, ``timeout`` seconds at most, until no search is running; returns whether that is so."""
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
            self._generation += 1  # a search that is running ends before its next step
            self._wanted = None
            self._set_running(False)
            if not self._show_target() or self._show_finished():
                return
            if self._live and not self._in_callback:
                self.run()
            else:
                self.screen.say("Press Run." if self.result is None else "The settings have changed: press Run.")

    def _set_running(self, running: bool) -> None:
        self._running = running
        self.run_button.disabled, self.stop_button.disabled = running, not running

    def _show_target(self) -> bool:
        """Show the photo, with the hole's outline, and the target; returns whether the settings make sense."""
        self.screen.show("original", "", jpeg(self._small, outline=self.controls.hole()))
        try:
            degraded = self._choice.module()(self._small)
        except Ex5Error as error:
            self.screen.say(str(error), is_error=True)
            return False
        self.screen.show("target", self._choice.degradation_in_words(), jpeg(degraded))
        return True

    def _show_finished(self) -> bool:
        """Show the kept result of the present settings; returns whether there is one."""
        run = self._finished.get(self._choice)
        if run is None:
            return False
        self._finished.move_to_end(self._choice)
        self._show_result(self._choice, run, "Already done")
        return True

    def _show_result(self, choice: Choice, run: Projection, how: str) -> None:
        if self._shown is not None and self._shown[0] != choice:
            self._keep_as_previous()
        self.result = run
        distance = f"perceptual distance {run.distance:.3f}"
        self._shown = (choice, f"{choice}; {distance} after {run.num_steps} steps", jpeg(run.image))
        self.screen.show("result", *self._shown[1:])
        self._set_running(False)
        steps = f"{run.num_steps} of {run.settings['num_steps']} steps"
        self.screen.say(f"{how}: {steps}, {distance}, {run.seconds:.1f} s.")

    def _keep_as_previous(self) -> None:
        if self._shown is not None:
            self.screen.show("previous", *self._shown[1:])
            self._shown = None

    def _work(self) -> None:
        """The worker: search for whatever was wanted last, until nothing is."""
        while True:
            with self._lock:
                if self._wanted is None:
                    self._worker = None
                    return
                (generation, choice), self._wanted = self._wanted, None
            time.sleep(_SECONDS_AT_REST)
            if generation == self._generation:
                self._search(generation, choice)

    def _search(self, generation: int, choice: Choice) -> None:
        next_frame = 0.0

        def after_step(report: dict) -> bool | None:
            nonlocal next_frame
            with self._lock:
                if generation != self._generation:
                    raise _SupersededError
                if self._stopping:
                    return True
                if time.monotonic() >= next_frame:
                    self._show_step(choice, report)
                    next_frame = time.monotonic() + _SECONDS_BETWEEN_FRAMES
            return None

        try:
            degradation = choice.module()
            run = project(
                self._G,
                degradation(self._face),
                degradation=degradation,
                latent_weight=None if choice.latent_weight == self._own_weight else choice.latent_weight,
                snapshots=(),  # a full-size image takes longer than many of the steps on previews
                progress=False,
                callback=after_step,
                **self._keywords,
            )
        except _SupersededError:
            return
        except KeyboardInterrupt:  # on Colab, before the first step; from then on project() returns the best so far
            self._end(generation, "Interrupted before there was a result.", is_error=False)
        except Ex5Error as error:
            self._end(generation, str(error))
        except Exception as error:  # raised further, it would end the worker
            self._end(generation, f"The search failed unexpectedly ({type(error).__name__}: {error}).")
            logging.getLogger(__name__).exception("An explorer's search failed.")
        else:
            with self._lock:
                if not run.stopped:
                    self._finished[choice] = run
                    while len(self._finished) > _RESULTS_KEPT:
                        self._finished.popitem(last=False)
                if generation == self._generation:
                    self._show_result(choice, run, "Stopped, best so far" if run.stopped else "Done")

    def _show_step(self, choice: Choice, report: dict) -> None:
        self._keep_as_previous()
        self.screen.show("result", str(choice), jpeg(report["image"]))
        step, distance = f"Step {report['step'] + 1} of {report['num_steps']}", f"{report['distance']:.3f}"
        self.screen.say(f"{step}: perceptual distance {distance} at {report['size']} px, {report['seconds']:.1f} s.")

    def _end(self, generation: int, text: str, is_error: bool = True) -> None:
        with self._lock:
            if generation == self._generation:
                self._set_running(False)
                self.screen.say(text, is_error)


class _SupersededError(Exception):
    """Raised in a search whose settings are no longer wanted.

    Were the callback to return True instead, project() would first make the best image so far at full size, for nobody.
    """

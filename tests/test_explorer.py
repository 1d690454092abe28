"""The explorer searches, restarts, stops and remembers, in a worker's thread or, on Colab, in a callback."""

import base64
import io
import re
import signal
import subprocess
import sys
import threading
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from torch import Tensor

import ex5lib
from ex5lib import explore, project
from ex5lib.errors import Ex5Error, SettingError
from ex5lib.images import resize, to_uint8
from ex5lib.notebook.explorer import Explorer
from ex5lib.recipes import SMOKE, Recipe
from ex5lib.stages import Stage
from stylegan2_ada import Generator
from stylegan2_ada.networks import random_generator

LONG = 2000  # steps: a search that no test lets come to its end
PATIENCE = 120  # seconds after which a search that must come to an end counts as hung


class Gate(ex5lib.PerceptualDistance):
    """The real distance; ``before`` is called at every step with the number of the step, on the search's thread."""

    def __init__(self, before):
        super().__init__(device="cpu")
        self.before, self.calls = before, 0

    def forward(self, image: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        self.calls += 1
        self.before(self.calls)
        return super().forward(image, target)


@pytest.fixture
def face() -> Tensor:
    """A red-green gradient with a bright blue square [1, 3, 64, 64]."""
    ramp = torch.linspace(-1, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), -1.0)])[None]
    image[:, 2, 16:32, 16:32] = 1
    return image


@pytest.fixture(scope="module")
def small(root) -> Generator:
    """StyleGAN2 at 32 px."""
    return ex5lib.load_generator(root / "tests" / "data" / "uncond_32.pkl", device="cpu")


@pytest.fixture
def make(small, face, distance):
    made: list[Explorer] = []

    def _make(G: Generator = small, **settings) -> Explorer:
        settings = {"recipe": "smoke", "w_avg_samples": 200, "device": "cpu", "distance": distance} | settings
        made.append(explore(G, face, **settings))
        return made[-1]

    yield _make
    for explorer in made:
        explorer.stop()
        assert explorer.wait(PATIENCE)


@pytest.fixture
def colab(monkeypatch):
    """As on Colab, inside a shell that keeps what is displayed."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


def _pixels(frame: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(frame))
    assert picture.format == "JPEG"
    assert max(picture.size) <= 256
    return np.asarray(picture).astype(int)


def _close(frame: bytes, image: Tensor) -> bool:
    """Whether a frame shows the image, but for what JPEG does to an untrained network's noise."""

    pair = (_pixels(frame), to_uint8(image))
    return np.corrcoef([pixels.mean(axis=2).ravel() for pixels in pair])[0, 1] > 0.9


def _first_frame(explorer: Explorer) -> threading.Event:
    """Set when the result panel gets its next picture."""
    drawn = threading.Event()
    explorer.screen.images["result"].observe(lambda _: drawn.set(), "value")
    return drawn


def _run_and_stop(explorer: Explorer) -> None:
    drawn = _first_frame(explorer)
    explorer.run_button.click()
    assert drawn.wait(PATIENCE)
    explorer.stop_button.click()
    assert explorer.wait(PATIENCE)


def test_run_searches_what_project_finds_with_the_same_settings(make, small, face, distance):
    explorer = make(degradation="blur", kernel_size=33, latent_weight=0.1)
    drawn = _first_frame(explorer)
    assert explorer.result is None
    explorer.run_button.click()
    assert drawn.wait(PATIENCE)
    assert explorer.wait(PATIENCE)

    blur = ex5lib.GaussianBlur(33)
    settings = {"recipe": "smoke", "w_avg_samples": 200, "device": "cpu", "distance": distance, "progress": False}
    same = project(small, blur(face), degradation=blur, latent_weight=0.1, **settings)
    assert torch.equal(explorer.result.image, same.image)
    assert _close(explorer.screen.images["result"].value, same.image)
    assert re.fullmatch(rf"Done: 8 of 8 steps, perceptual distance {same.distance:.3f}, [\d.]+ s\.", explorer.status)
    assert explorer.screen.captions["result"].startswith("λ_w = 0.1; blur, kernel size 33; perceptual distance")
    assert (explorer.run_button.disabled, explorer.stop_button.disabled) == (False, True)


def test_the_status_line_counts_steps(make):
    explorer = make(num_steps=LONG)
    drawn, lines = _first_frame(explorer), []
    explorer.screen.images["result"].observe(lambda _: lines.append(explorer.status), "value")
    explorer.run_button.click()
    assert drawn.wait(PATIENCE)
    drawn.clear()
    assert drawn.wait(PATIENCE)  # by the second frame the first one's line is there
    assert re.fullmatch(rf"Step \d+ of {LONG}: perceptual distance [\d.]+ at 32 px, [\d.]+ s\.", lines[1])


def test_stop_keeps_the_best_so_far(make):
    explorer = make(num_steps=LONG)
    _run_and_stop(explorer)
    assert explorer.result.stopped
    assert 0 < explorer.result.num_steps < LONG
    assert explorer.status.startswith(f"Stopped, best so far: {explorer.result.num_steps} of {LONG} steps")
    assert _close(explorer.screen.images["result"].value, explorer.result.image)


def test_a_stopped_search_is_not_taken_for_the_result_of_its_settings(make):
    explorer = make(num_steps=LONG)
    _run_and_stop(explorer)
    explorer.run_button.click()
    assert explorer.run_button.disabled  # it searches again


def test_moving_the_slider_ends_the_search_and_starts_another(make):
    started, go_on = [], threading.Event()

    def before(_: int) -> None:
        if not go_on.is_set():
            started.append(explorer.controls.latent_weight.value)
            assert go_on.wait(PATIENCE)

    gate = Gate(before)
    explorer = make(distance=gate)
    drawn = _first_frame(explorer)
    explorer.run_button.click()
    while not started:
        assert not drawn.wait(0.01)
    explorer.controls.latent_weight.value = 1.0  # while the first search is within its first step
    go_on.set()
    assert explorer.wait(PATIENCE)
    assert explorer.result.settings["latent_weight"] == 1.0
    assert explorer.result.num_steps == 8
    # The start's two, one step of the search that was given up, and a whole one.
    whole = Gate(lambda _: None)
    again = make(distance=whole)
    again.run_button.click()
    assert again.wait(PATIENCE)
    assert whole.calls < gate.calls < 2 * whole.calls


def test_before_run_and_after_stop_a_slider_starts_nothing(make):
    explorer = make(num_steps=LONG)
    explorer.controls.latent_weight.value = 0.5
    assert explorer.status == "Press Run."
    assert not explorer.run_button.disabled
    _run_and_stop(explorer)
    explorer.controls.latent_weight.value = 0.1
    assert explorer.status == "The settings have changed: press Run."
    assert not explorer.run_button.disabled


def test_going_back_shows_the_finished_result_at_once(make):
    gate = Gate(lambda _: None)
    explorer = make(distance=gate, latent_weight=0.001)
    explorer.run_button.click()
    assert explorer.wait(PATIENCE)
    first, frame, calls = explorer.result, explorer.screen.images["result"].value, gate.calls
    explorer.controls.latent_weight.value = 1.0
    assert explorer.wait(PATIENCE)
    second = explorer.result
    assert second is not first
    assert explorer.screen.images["previous"].value == frame
    assert explorer.screen.captions["previous"].startswith("λ_w = 0.001; not degraded; perceptual distance")
    assert gate.calls == 2 * calls

    explorer.controls.latent_weight.value = 0.001 * (1 + 1e-12)  # as a browser computes it
    assert explorer.result is first
    assert explorer.screen.images["result"].value == frame
    assert explorer.screen.captions["previous"].startswith("λ_w = 1; not degraded; perceptual distance")
    assert explorer.status.startswith("Already done: 8 of 8 steps")
    assert explorer.wait(PATIENCE)
    assert gate.calls == 2 * calls


def test_only_the_latest_results_are_kept(make, monkeypatch):
    monkeypatch.setattr("ex5lib.notebook.explorer._RESULTS_KEPT", 2)
    explorer = make()
    explorer.run_button.click()
    for weight in (0.001, 0.1, 1.0):
        explorer.controls.latent_weight.value = weight
        assert explorer.wait(PATIENCE)
    explorer.stop_button.click()
    explorer.controls.latent_weight.value = 0.1
    assert explorer.status.startswith("Already done")
    explorer.controls.latent_weight.value = 0.001
    assert explorer.status.startswith("The settings have changed")


def test_a_search_that_is_no_longer_wanted_does_not_draw(make):
    inside, go_on = threading.Event(), threading.Event()

    def before(call: int) -> None:
        if call == 5:
            inside.set()
            assert go_on.wait(PATIENCE)

    explorer = make(distance=Gate(before), degradation="inpaint")
    explorer.run_button.click()
    assert inside.wait(PATIENCE)  # in the middle of a step
    explorer.controls.top.value = 230  # beyond the edge, so that no other search follows
    result, line = explorer.screen.images["result"].value, explorer.status
    drawn = _first_frame(explorer)
    go_on.set()
    assert explorer.wait(PATIENCE)
    assert not drawn.is_set()
    assert (explorer.screen.images["result"].value, explorer.status) == (result, line)
    assert explorer.result is None


def test_the_hole_is_drawn_on_the_photo_while_it_moves(make, face):
    explorer = make(degradation="inpaint", rectangle=(40, 60, 30, 50))
    photo, target = (explorer.screen.images[name] for name in ("original", "target"))
    plain = to_uint8(resize(face, 256)).astype(int)

    def _differs(frame: bytes) -> np.ndarray:
        return np.abs(_pixels(frame) - plain).max(axis=2) > 90

    for top in (40, 150):
        explorer.controls.top.value = top
        drawn = np.argwhere(_differs(photo.value))
        assert np.abs(drawn.min(axis=0) - [top - 2, 58]).max() <= 1
        assert np.abs(drawn.max(axis=0) - [top + 31, 111]).max() <= 1
        inside = _pixels(photo.value)[top + 4 : top + 26, 64:106]
        assert np.abs(inside - plain[top + 4 : top + 26, 64:106]).mean() < 6  # the photo is still seen in it
        assert _pixels(target.value)[top + 4 : top + 26, 64:106].max() < 30  # where the target is black
    explorer.controls.degradation.value = "none"
    assert np.abs(_pixels(photo.value) - plain).mean() < 6


def test_only_the_sliders_of_the_degradation_are_there(make):
    explorer = make(degradation="blur", kernel_size=9)
    controls = explorer.controls
    parameters = controls.box.children[1]
    assert parameters.children == (controls.kernel_size, controls.sigma, controls.sigma_follows)
    assert (controls.sigma.value, controls.sigma.disabled) == (pytest.approx(0.15 * 9 + 0.35), True)
    controls.sigma_follows.value = False
    controls.sigma.value = 5.0
    controls.kernel_size.value = 33
    assert (controls.sigma.value, controls.sigma.disabled) == (5.0, False)
    controls.degradation.value = "grayscale"
    assert parameters.children == ()
    target = _pixels(explorer.screen.images["target"].value)
    assert np.ptp(target, axis=2).max() <= 2


def test_a_weight_that_was_not_touched_is_the_recipes_business(make):
    """For a grey photo the recipe holds the colours by a weight of their own; one that is chosen is for all layers."""
    recipe = Recipe("mine", (Stage(2, space="w+"),), colorless_weight=0.2, w_avg_samples=200, optimize_noise=False)
    G = random_generator(torch.Generator().manual_seed(3), 64, channel_base=1024, channel_max=32, z_dim=32, w_dim=32)
    first = next(i for i, size in enumerate(G.synthesis.layer_resolutions) if size > 32)
    explorer = make(G, recipe=recipe, degradation="grayscale")
    for weight, held_from in ((recipe.latent_weight, first), (0.5, None), (recipe.latent_weight, first)):
        explorer.controls.latent_weight.value = weight
        explorer.run_button.click()
        assert explorer.wait(PATIENCE)
        settings = explorer.result.settings
        assert (settings["latent_weight"], settings["color_layers"]) == (pytest.approx(weight, rel=1e-3), held_from)


@pytest.mark.parametrize("mode", ["worker", "callback"])
def test_an_error_is_one_sentence_in_the_status_line(make, request, mode, capfd):
    if mode == "callback":
        request.getfixturevalue("colab")
    explorer = make(degradation="inpaint", start=torch.zeros(7))
    explorer.controls.left.value = 250
    assert explorer.status.startswith("The rectangle (top 164, left 250, height 44, width 88) does not lie inside")
    explorer.run_button.click()
    assert explorer.status.startswith("The rectangle")
    explorer.controls.left.value = 84
    assert explorer.wait(PATIENCE)
    if mode == "callback":
        explorer.run_button.click()
    assert explorer.status == "A start in w must have the shape [1, 1, 64], but this one has [7]."
    assert not explorer.run_button.disabled
    assert "Traceback" not in "".join(capfd.readouterr())


def test_after_an_unexpected_error_the_next_search_runs(make, caplog):
    def before(call: int) -> None:
        if call == 3:
            raise ZeroDivisionError("a bug")

    explorer = make(distance=Gate(before))
    explorer.run_button.click()
    assert explorer.wait(PATIENCE)
    assert explorer.status == "The search failed unexpectedly (ZeroDivisionError: a bug)."
    assert "test_explorer.py" in caplog.text  # where it happened
    explorer.run_button.click()
    assert explorer.wait(PATIENCE)
    assert explorer.result.num_steps == 8


def test_a_new_explorer_stops_the_search_of_another(make):
    first = make(num_steps=LONG)
    drawn = _first_frame(first)
    first.run_button.click()
    assert drawn.wait(PATIENCE)
    second = make()
    second.run_button.click()
    assert first.wait(PATIENCE)
    assert first.result.stopped
    assert second.wait(PATIENCE)
    assert second.result.num_steps == 8


def test_on_colab_the_search_runs_in_the_callback_and_updates_a_display_handle(make, colab):
    threads = set()
    explorer = make(distance=Gate(lambda _: threads.add(threading.current_thread())))
    explorer._ipython_display_()
    (handle,) = {output["transient"]["display_id"] for output in colab if output.get("transient")}
    before = len(colab)
    explorer.run_button.click()
    assert threads == {threading.main_thread()}
    updates = colab[before:]
    assert all(output["update"] and output["transient"]["display_id"] == handle for output in updates)
    assert len(updates) >= 3  # that it starts, a frame at least, the result
    page = updates[-1]["data"]["text/html"]
    assert "Done: 8 of 8 steps" in page
    frames = dict(re.findall(r'<img alt="(\w+)" src="data:image/jpeg;base64,([^"]+)"', page))
    assert list(frames) == ["original", "target", "result"]
    assert _close(base64.b64decode(frames["result"]), explorer.result.image)


def test_on_colab_a_slider_waits_for_run_and_shows_what_is_finished(make, colab):
    explorer = make()
    explorer.run_button.click()
    first = explorer.result
    explorer.controls.latent_weight.value = 1.0
    assert explorer.status == "The settings have changed: press Run."
    explorer.run_button.click()
    explorer.controls.latent_weight.value = 0.001
    assert explorer.result is first


@pytest.fixture
def heed_interrupts():
    """A shell's background job ignores Ctrl-C; a kernel never does."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("call", "line"),
    [(6, r"Stopped, best so far: \d+ of 8 steps, .*"), (0, r"Interrupted before there was a result\.")],
)
def test_on_colab_an_interrupt_ends_the_search(make, colab, call, line, heed_interrupts):
    def before(now: int) -> None:
        if now == call:
            signal.raise_signal(signal.SIGINT)

    class Interrupted(Gate):
        """Interrupts the preparation too."""

        def features(self, image: Tensor) -> list[Tensor]:
            if call == 0 and self.calls == 0:
                before(0)
            return super().features(image)

    explorer = make(distance=Interrupted(before if call else lambda _: None), start="warm")
    explorer.run_button.click()
    assert re.fullmatch(line, explorer.status)
    assert not explorer.run_button.disabled


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degradation": "blurr"}, 'did you mean "blur"'),
        ({"latent_weight": 0.0}, "from 1e-07 to 10"),
        ({"kernel_size": 24}, "odd number"),
        ({"rectangle": (0, 200, 10, 100)}, "does not lie inside"),
        ({"recipe": "fasst"}, 'did you mean "fast"'),
        ({"step": 10}, 'no setting of a search "step"'),
        ({"changes": {}}, 'no setting of a search "changes"'),
        ({"num_steps": 0}, "at least 1 step"),
        ({"recipe": "fast", "degradation": "blur", "learning_rate": 0.1}, "3 stages of fast"),
        ({"start": "wram"}, 'did you mean "warm"'),
        ({"device": "tpu"}, 'no device "tpu"'),
        ({"progress": True}, "sets progress itself"),
        ({"target": torch.zeros(1, 3, 64, 64)}, "sets target itself"),
    ],
)
def test_what_cannot_work_is_said_before_run(make, settings, message):
    with pytest.raises(Ex5Error, match=message):
        make(**settings)


def test_a_recipe_of_ones_own_brings_its_latent_weight_and_steps(make):
    explorer = make(recipe=replace(SMOKE, name="mine", latent_weight=0.5), num_steps=3)
    assert explorer.controls.latent_weight.value == 0.5
    explorer.run_button.click()
    assert explorer.wait(PATIENCE)
    settings = explorer.result.settings
    assert [settings[name] for name in ("recipe", "latent_weight", "num_steps")] == ["mine", 0.5, 3]


@pytest.mark.parametrize(
    ("face", "message"),
    [
        (torch.zeros(1, 3, 64, 80), "80 × 64 px"),
        (torch.zeros(2, 3, 64, 64), r"\[1, 3, H, W\]"),
        (torch.full((1, 3, 64, 64), 255, dtype=torch.uint8), "scale it to floats"),
    ],
)
def test_a_face_that_cannot_be_searched_for_is_refused(small, distance, face, message):
    with pytest.raises(SettingError, match=message):
        explore(small, face, distance=distance)


def test_the_widgets_are_loaded_on_first_use_only(root):
    loaded = "'ipywidgets' in sys.modules"
    code = f"import sys, ex5lib; assert not {loaded}; ex5lib.explore; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

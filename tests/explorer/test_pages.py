"""A widget, a frame and a page of its own show an exploration."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.parse
import urllib.request

import pytest
import torch
from explorations import PAINTED, PATIENCE, QUICK
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

import ex5lib
from ex5lib.degradations.known import Inpaint
from ex5lib.errors import DeviceError, FileError, SettingError
from ex5lib.explorer.board import Board
from ex5lib.explorer.page import PageServer
from ex5lib.explorer.searching import Clock, Searcher, offered, time_in_words
from ex5lib.explorer.widget import Explorer
from ex5lib.inversion.recipes import RECIPES, Recipe
from ex5lib.inversion.stages import Stage


def test_time_is_what_the_progress_measures():
    """Ten steps of 0.1 s, then ten of 1 s: half of the steps are a ninth of the time."""
    learned: dict[int, float] = {}
    for guessed in (True, False):  # the second search knows what the first one has learned
        clock, now, shares = Clock((Stage(10, 128), Stage(10, None)), 1024, learned), 0.5, []
        for size, seconds in [(128, 0.1)] * 10 + [(1024, 1.0)] * 10:
            now += seconds
            clock.step(size, now)
            shares.append(clock.share)
            if now > 0.7 and (size == 1024 or not guessed):
                assert clock.seconds_left == pytest.approx(11.5 - now, rel=0.35, abs=0.2)
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
    assert shares[9] == pytest.approx(1.5 / 11.5, rel=0.1)
    said = {None: "…", 0.2: "1 s", 12.4: "12 s", 61: "1 min", 89: "1 min 20 s", 700: "11 min"}
    assert {seconds: time_in_words(seconds) for seconds in said} == said  # as exactly as it is known


def test_a_recipe_is_said_to_take_as_long_as_was_measured_here_or_before_that_elsewhere(generator, distance, root):
    searcher = Searcher(generator, offered(RECIPES["fast"]), distance=distance, device="cpu")
    measured = re.search(r"`fast` takes (\d+) s", (root / "docs" / "performance.md").read_text())[1]
    minutes, seconds = re.fullmatch(r"(\d) min(?: (\d+) s)?", searcher.durations()["fast"]).groups(default="0")
    assert 60 * int(minutes) + int(seconds) == pytest.approx(int(measured), rel=0.1)
    clock = Clock((Stage(3, 128),), 1024, searcher._learned)
    clock.step(128, 1.0)
    clock.step(128, 2.0)  # each step here takes a second
    assert re.fullmatch(r"(9|10) min", searcher.durations()["fast"])


def test_a_board_tells_what_has_changed_since():
    board = Board()
    board.put(a=1, b=b"x")
    version, values = board.since(0)
    assert values == {"a": 1, "b": b"x"}
    board.put(a=1, b=b"y")
    assert board.since(version) == (version + 1, {"b": b"y"})
    assert board.since(version + 1, timeout=0.01) == (version + 1, {})
    assert board.since(10**6) == (version + 1, {"a": 1, "b": b"y"})  # of a page that knew another process
    threading.Timer(0.05, lambda: board.put(c=3)).start()
    assert board.since(version + 1, timeout=PATIENCE)[1] == {"c": 3}


@pytest.fixture
def show(small_generator, face, distance, tmp_path, monkeypatch, ended):
    monkeypatch.setattr(Explorer, "_latest", None)

    def _show(face=face, recipe=QUICK, **settings) -> Explorer:
        settings = {"recipe": recipe, "out": tmp_path, "distance": distance, "device": "cpu"} | settings
        shown = ex5lib.explore(small_generator, face, **settings)
        ended.append(shown.exploration)
        return shown

    return _show


@pytest.fixture
def shell():
    """A shell that keeps what is displayed."""
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


@pytest.fixture
def server(show):
    running = PageServer()
    running.show(show(degradation="blur").exploration)
    yield running
    running.close()


def _ask(server: PageServer, path: str, data: bytes | None = None, **query: object):
    words = urllib.parse.urlencode({"token": server.token} | query)
    return urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}?{words}", data, timeout=PATIENCE)


def _send(server: PageServer, data: bytes = b"", **message: object) -> None:
    assert _ask(server, "/send", data, message=json.dumps(message)).status == 200


def test_the_widget_shows_the_board_and_passes_on_what_is_asked(show, shell):
    one = show(degradation="blur", kernel_size=9)
    one._ipython_display_()
    (output,) = shell
    assert set(output["data"]) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    widget = one.widget
    widget._heard(widget, {"do": "change", "kernel_size": 33}, [])
    assert one.exploration.choice.kernel_size == widget.state["choice"]["kernel_size"] == 33
    widget._heard(widget, {"do": "run"}, [])
    assert one.exploration.wait(PATIENCE)
    assert {name: getattr(widget, name) for name in one.exploration.board.values} == one.exploration.board.values
    assert widget.numbers[0]["distance"] > 0
    sent = []
    widget.send = lambda *message: sent.append(message)
    widget._heard(widget, {"do": "download"}, [])
    assert sent == [({"problem": "There is nothing to download yet: press Save."},)]
    widget._heard(widget, {"do": "paint", "stroke": 1}, [memoryview(PAINTED)])
    assert isinstance(one.exploration.choice.hole, bytes)


def test_where_there_is_no_kernel_a_picture_with_a_caption_is_left(show, restored, shell):
    one = show(degradation="inpaint", done=restored(Inpaint(164, 84, 44, 88)))
    assert one.exploration.status.startswith("Found before: 4 of 4 steps")
    one._ipython_display_()
    page = shell[0]["data"]["text/html"]
    pictures = dict(re.findall(r'<img alt="(\w+)" src="data:image/jpeg;base64,([^"]+)"', page))
    assert list(pictures) == ["target", "composite"]
    assert all(base64.b64decode(data) == one.exploration.board.values[name] for name, data in pictures.items())
    assert re.search("<figcaption>.*target and composite, inpaint", page)


def test_when_the_cell_is_run_again_what_was_found_is_still_there(show, face):
    one = show()
    one.exploration.run()
    assert one.exploration.wait(PATIENCE)
    found = one.exploration.result
    assert show(face=face.clone()) is one
    assert one.exploration.result is found
    assert one.exploration.choice.hole is None
    assert show(degradation="inpaint").exploration.choice.hole == (164, 84, 44, 88)  # the mouth
    assert show(degradation="blur") is one
    assert one.exploration.choice.degradation == "blur"
    assert one.exploration.shelf.found
    assert show(num_steps=3) is not one
    assert show(face=-face) is not one


def test_on_colab_the_page_is_served_into_a_frame(show, monkeypatch):
    frames = []
    colab = types.ModuleType("google.colab")
    colab.output = types.SimpleNamespace(serve_kernel_port_as_iframe=lambda port, **frame: frames.append((port, frame)))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    one = show()
    one._ipython_display_()
    ((port, frame),) = frames
    assert int(frame["height"]) > 600
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{frame['path']}", timeout=PATIENCE) as page:
        assert b"page.js?token=" in page.read()
        assert "frame-ancestors" not in page.headers["Content-Security-Policy"]
    one.server.close()


def test_a_page_asks_for_changes_and_sends_what_is_done(server):
    news = json.load(_ask(server, "/changes", since=0))
    assert news["values"]["state"]["choice"]["degradation"] == "blur"
    photo = base64.b64decode(news["values"]["photo"]["base64"])
    assert photo == server.exploration.board.values["photo"]
    _send(server, do="change", kernel_size=7)
    later = json.load(_ask(server, "/changes", since=news["version"]))
    assert later["values"]["state"]["choice"]["kernel_size"] == 7
    assert "photo" not in later["values"]
    _send(server, PAINTED, do="paint", stroke=1)
    assert isinstance(server.exploration.choice.hole, bytes)
    kinds = {"/": "html", "/explorer.js": "javascript", "/page.js": "javascript", "/explorer.css": "css"}
    for path, kind in kinds.items():
        assert _ask(server, path).headers["Content-Type"].startswith(f"text/{kind}")
    _send(server, do="run")
    assert server.exploration.wait(PATIENCE)
    server.exploration._save(server.exploration.shelf.shown)
    archive = _ask(server, "/archive")
    assert archive.headers["Content-Disposition"] == "attachment; filename*=UTF-8''photo-blur-1.zip"
    assert archive.read(2) == b"PK"


@pytest.mark.parametrize("path", ["/", "/explorer.js", "/changes", "/archive", "/send"])
def test_nobody_gets_anything_without_the_token(server, path):
    body = b"{}" if path == "/send" else None
    for query in ("", "?token=", "?token=x"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}{query}", body, timeout=PATIENCE)
        assert refused.value.code == 403
    assert server.server_address[0] == "127.0.0.1"


def test_what_a_page_should_not_send_does_no_harm(server):
    claimed = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    claimed.request("POST", f"/send?token={server.token}", headers={"Content-Length": "9000000"})
    assert claimed.getresponse().status == 413
    claimed.close()
    for message in ("", "no json", "[]", '{"do": "__init__"}', '{"do": 7}', '{"do": "run", "far": 1}', "{}"):
        assert _ask(server, "/send", b"", message=message).status == 200
        assert server.exploration.board.values["state"]["error"]
    for path in ("/../explorer.py", "/archive"):  # nothing was saved yet
        with pytest.raises(urllib.error.HTTPError) as missing:
            _ask(server, path)
        assert missing.value.code == 404
    for port in (server.server_port, 99999):
        with pytest.raises(FileError, match="cannot use port"):
            PageServer(port)


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"degradation": "blurr"}, SettingError, 'did you mean "blur"'),
        ({"latent_weight": 11.0}, SettingError, "from 0 to 10"),
        ({"seed": -1}, SettingError, "from 0 to 9007199254740991"),
        ({"kernel_size": 24}, SettingError, "odd number"),
        ({"rectangle": (0, 200, 10, 100)}, SettingError, "does not lie inside"),
        ({"recipe": "fasst"}, SettingError, 'did you mean "fast"'),
        ({"step": 10}, SettingError, 'no setting of a search "step"'),
        ({"device": "tpu"}, DeviceError, 'no device "tpu"'),
        ({"face": torch.zeros(1, 3, 64, 80)}, SettingError, "80 × 64 px"),
        ({"face": torch.zeros(2, 3, 64, 64)}, SettingError, r"\[1, 3, H, W\]"),
    ],
)
def test_what_cannot_work_is_said_before_run(show, settings_, error, message):
    with pytest.raises(error, match=message):
        show(**settings_)


def test_a_recipe_of_ones_own_brings_its_latent_weight_and_steps_and_a_mask_may_replace_the_rectangle(show):
    recipe = Recipe("mine", (Stage(30, 128),), latent_weight=0.5, clamp=True)
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., :100, :] = 1
    one = show(recipe=recipe, num_steps=3, degradation="inpaint", mask=mask).exploration
    assert one.choice.modules()[1].mask[0, 0, :, 0].sum() == 50
    assert one.board.values["state"]["own_weight"] == 0.5
    assert {"mine", "smoke"} & set(one.board.values["about"]["recipes"]) == {"mine"}
    one.run()
    assert one.wait(PATIENCE)
    settings = one.result.run.settings
    assert [settings[name] for name in ("recipe", "latent_weight", "num_steps")] == ["mine", 0.5, 3]


def test_a_page_of_its_own_is_opened_by_a_command_and_ended_by_ctrl_c(root, small, tmp_path):
    photo = tmp_path / "grey.png"
    Image.open(root / "data" / "president.jpg").convert("L").save(photo)
    command = [sys.executable, "-m", "ex5lib", "explore", photo, "--no-browser"]
    command += ["--generator", small, "--recipe", "smoke"]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    started = {"cwd": tmp_path, "env": environment, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **started) as program:
        try:
            lines = [program.stdout.readline(), program.stdout.readline()]
            address = re.fullmatch(r"the page is at (http://127\.0\.0\.1:\d+/\?token=[\w-]{20,})\n", lines[1])[1]
            with urllib.request.urlopen(address, timeout=PATIENCE) as page:
                assert b"<title>Old photos of faces</title>" in page.read()
            with urllib.request.urlopen(address.replace("/?", "/changes?"), timeout=PATIENCE) as news:
                damages = json.load(news)["values"]["state"]["damages"]  # examined like an uploaded photo
            assert any("grey" in damage["reason"] for damage in damages)
            program.send_signal(signal.SIGINT)
            assert program.stdout.read().endswith("ended\n")
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()
    assert list(tmp_path.iterdir()) == [photo]


def test_a_command_that_cannot_work_says_so_before_it_loads_anything(call, root):
    for arguments, words in (
        (["nobody.jpg"], "nobody.jpg"),
        (["--port", 99999], "The page cannot use port 99999 (there are ports from 0 to 65535)"),
    ):
        done = call("explore", *arguments, "--no-browser")
        assert done.exit_code == 1
        assert words in " ".join(done.output.split())
        assert "loading" not in done.output


def test_what_takes_seconds_to_import_is_loaded_on_first_use_only(root):
    """Help waits for nothing, a search not for plots and widgets, nor for PyTorch's compiler."""
    code = """
import sys
import ex5lib.cli.app
assert "torch" not in sys.modules
import torch, ex5lib.cli.jobs
from stylegan2_ada.mobile import MobileSynthesis
from ex5lib.inversion.adam import Adam
with torch.device("meta"):
    MobileSynthesis(preview_sizes=(128,))
Adam([x := torch.zeros(1, requires_grad=True)], (0.9, 0.99))
assert not {"ipywidgets", "matplotlib", "torch._dynamo"} & sys.modules.keys()
ex5lib.explore
assert "ipywidgets" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

"""The explorer's pages: the widget of a notebook, the frame on Colab, and the server behind a page of its own."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import types
import urllib.error
import urllib.parse
import urllib.request

import pytest
import torch
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor

import ex5lib
from ex5lib.errors import DeviceError, FileError, SettingError
from ex5lib.explorer.page import PageServer
from ex5lib.explorer.widget import Explorer
from ex5lib.inversion.recipes import Recipe
from ex5lib.inversion.stages import Stage
from stylegan2_ada import Generator

PATIENCE = 120  # seconds after which a search that must come to an end counts as hung
PAINTED = b"\x01" * 1000 + bytes(256 * 256 - 1000)


@pytest.fixture
def face() -> Tensor:
    """A ramp from black to white [1, 3, 64, 64]."""
    return torch.linspace(-1, 1, 64).expand(1, 3, 64, 64).clone()


@pytest.fixture(scope="module")
def G(small) -> Generator:
    return ex5lib.load_generator(small, device="cpu")


@pytest.fixture
def settings(distance) -> dict:
    return {"recipe": "smoke", "w_avg_samples": 200, "device": "cpu", "distance": distance}


@pytest.fixture
def make(G, face, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(Explorer, "_latest", None)
    made: list[Explorer] = []

    def _make(**more) -> Explorer:
        made.append(ex5lib.explore(G, more.pop("face", face), out=tmp_path, **(settings | more)))
        return made[-1]

    yield _make
    for one in made:
        one.exploration.stop()
        assert one.exploration.wait(PATIENCE)


@pytest.fixture
def shell():
    """A shell that keeps what is displayed."""
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    yield shell.display_pub.outputs
    InteractiveShell.clear_instance()


@pytest.fixture
def server(make):
    running = PageServer(make(degradation="blur").exploration)
    yield running
    running.close()


def _ask(server: PageServer, path: str, data: bytes | None = None, **query: object):
    words = urllib.parse.urlencode({"token": server.token} | query)
    return urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}?{words}", data, timeout=PATIENCE)


def _send(server: PageServer, data: bytes = b"", **message: object) -> None:
    assert _ask(server, "/send", data, message=json.dumps(message)).status == 200


def test_the_widget_shows_the_board_and_passes_on_what_is_asked(make, shell):
    one = make(degradation="blur", kernel_size=9)
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
    widget._heard(widget, {"do": "paint"}, [memoryview(PAINTED)])
    assert isinstance(one.exploration.choice.hole, bytes)


def test_where_there_is_no_kernel_a_picture_with_a_caption_is_left(make, G, face, settings, shell):
    hole = ex5lib.Inpaint(164, 84, 44, 88)
    done = ex5lib.restore(face, hole, aligned=True, generator=G, progress=False, **settings)
    one = make(degradation="inpaint", done=done)
    assert one.exploration.status.startswith("Found before: 4 of 4 steps")
    one._ipython_display_()
    page = shell[0]["data"]["text/html"]
    pictures = dict(re.findall(r'<img alt="(\w+)" src="data:image/jpeg;base64,([^"]+)"', page))
    assert list(pictures) == ["target", "composite"]
    assert all(base64.b64decode(data) == one.exploration.board.values[name] for name, data in pictures.items())
    assert re.search("<figcaption>.*target and composite, inpaint", page)


def test_when_the_cell_is_run_again_what_was_found_is_still_there(make, face):
    one = make()
    one.exploration.run()
    assert one.exploration.wait(PATIENCE)
    found = one.exploration.result
    assert make(face=face.clone()) is one
    assert one.exploration.result is found
    assert make(degradation="blur") is one
    assert one.exploration.choice.degradation == "blur"
    assert one.exploration.shelf.found
    assert make(num_steps=3) is not one
    assert make(face=-face) is not one


def test_on_colab_the_page_is_served_into_a_frame(make, monkeypatch):
    frames = []
    colab = types.ModuleType("google.colab")
    colab.output = types.SimpleNamespace(serve_kernel_port_as_iframe=lambda port, **frame: frames.append((port, frame)))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    one = make()
    one._ipython_display_()
    ((port, frame),) = frames
    assert int(frame["height"]) > 600
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{frame['path']}", timeout=PATIENCE) as page:
        assert b"explorer.js?token=" in page.read()
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
    _send(server, PAINTED, do="paint")
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
    with pytest.raises(FileError, match="cannot use port"):
        PageServer(server.exploration, server.server_port)


@pytest.mark.parametrize(
    ("settings_", "error", "message"),
    [
        ({"degradation": "blurr"}, SettingError, 'did you mean "blur"'),
        ({"latent_weight": 0.0}, SettingError, "between 1e-07 and 10"),
        ({"kernel_size": 24}, SettingError, "odd number"),
        ({"rectangle": (0, 200, 10, 100)}, SettingError, "does not lie inside"),
        ({"degradation": "inpaint", "mask": torch.zeros(1, 1, 100, 90)}, SettingError, "give a square mask"),
        ({"recipe": "fasst"}, SettingError, 'did you mean "fast"'),
        ({"step": 10}, SettingError, 'no setting of a search "step"'),
        ({"recipe": "fast", "degradation": "blur", "learning_rate": 0.1}, SettingError, "3 stages of fast"),
        ({"start": "wram"}, SettingError, 'did you mean "warm"'),
        ({"device": "tpu"}, DeviceError, 'no device "tpu"'),
        ({"progress": True}, SettingError, "sets progress itself"),
        ({"face": torch.zeros(1, 3, 64, 80)}, SettingError, "80 × 64 px"),
        ({"face": torch.zeros(2, 3, 64, 64)}, SettingError, r"\[1, 3, H, W\]"),
    ],
)
def test_what_cannot_work_is_said_before_run(make, settings_, error, message):
    with pytest.raises(error, match=message):
        make(**settings_)


def test_a_recipe_of_ones_own_brings_its_latent_weight_and_steps_and_a_mask_may_replace_the_rectangle(make):
    recipe = Recipe("mine", (Stage(30, 128),), latent_weight=0.5, clamp=True)
    mask = torch.zeros(1, 1, 512, 512)
    mask[..., :100, :] = 1
    one = make(recipe=recipe, num_steps=3, degradation="inpaint", mask=mask).exploration
    assert one.choice.modules()[1].mask[0, 0, :, 0].sum() == 50
    assert one.board.values["state"]["own_weight"] == 0.5
    assert {"mine", "smoke"} & set(one.board.values["about"]["recipes"]) == {"mine"}
    one.run()
    assert one.wait(PATIENCE)
    settings = one.result.run.settings
    assert [settings[name] for name in ("recipe", "latent_weight", "num_steps")] == ["mine", 0.5, 3]


def test_a_page_of_its_own_is_opened_by_a_command_and_ended_by_ctrl_c(root, small, tmp_path):
    command = [sys.executable, "-m", "ex5lib", "explore", root / "data" / "astronaut.png", "--no-browser"]
    command += ["--generator", small, "--recipe", "smoke"]
    environment = os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    started = {"cwd": tmp_path, "env": environment, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **started) as program:
        try:
            lines = [program.stdout.readline(), program.stdout.readline()]
            address = re.fullmatch(r"the page is at (http://127\.0\.0\.1:\d+/\?token=[\w-]{20,})\n", lines[1])[1]
            with urllib.request.urlopen(address, timeout=PATIENCE) as page:
                assert b"<title>Explorer: astronaut.png</title>" in page.read()
            program.send_signal(signal.SIGINT)
            assert program.stdout.read().endswith("ended\n")
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()
    assert not list(tmp_path.iterdir())


def test_widgets_and_plots_are_loaded_on_first_use_only(root):
    loaded = "'ipywidgets' in sys.modules"
    code = f"import sys, ex5lib.cli.app; assert not {loaded} and 'matplotlib' not in sys.modules; "
    code += f"ex5lib.explore; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

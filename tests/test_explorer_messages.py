"""Whatever is sent to the explorer's server, only what a page may ask for changes anything, and nothing breaks it."""

import contextlib
import http.client
import json
import math
import random
import re
import socket
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch

from ex5lib.errors import SettingError
from ex5lib.explorer import page
from ex5lib.explorer.choices import DEGRADATIONS, RANGES, Choice
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.messages import MESSAGES
from ex5lib.explorer.page import PageServer
from ex5lib.explorer.searching import Searcher
from ex5lib.explorer.subjects import Subject
from ex5lib.faces.alignment import load_face
from ex5lib.inversion.recipes import SMOKE, pick_recipe

PATIENCE = 120  # seconds
PAINTED = b"\xff" * 125 + bytes(256 * 256 // 8 - 125)
VALID = [
    *(({"do": "change", "degradation": name}, b"") for name in DEGRADATIONS),
    ({"do": "change", "kernel_size": 9, "sigma": None}, b""),
    ({"do": "change", "hole": [100, 60, 60, 60], "latent_weight": 0}, b""),
    ({"do": "change", "factor": 3, "quality": 50, "noise_sigma": 0.1, "fading": 0.5}, b""),
    ({"do": "change", "seed": 3, "recipe": "smoke", "damaged": True}, b""),
    ({"do": "paint", "stroke": 3}, PAINTED),
    ({"do": "accept", "damage": 0, "on": True}, b""),
    ({"do": "restore", "number": 1}, b""),
    ({"do": "choose", "name": "nobody.png"}, b""),
    ({"do": "upload", "name": "letter.txt", "size": 7, "at": 0}, b"Dear me"),
    ({"do": "upload", "name": "large.png", "size": 90, "at": 0}, b"the first part"),
    ({"do": "pick", "face": 0}, b""),
    ({"do": "look", "x": 0.5, "y": 0.25, "side": 0.5}, b""),
    ({"do": "mask", "name": "letter.txt", "size": 7, "at": 0}, b"Dear me"),
    ({"do": "follow", "on": False}, b""),
    *(({"do": action}, b"") for action in ("run", "stop", "another", "reset", "save")),
]
JUNK = [
    None, True, False, 0, -1, -5, 1.5, 24, 1e9, float("inf"), float("nan"), 2**53, 10**300, "", "7", "x", "zzz", "..",
    "/", "\x00", "\ud800", "x" * 2000, [], [1], [[[[[[[[[[[]]]]]]]]]]], {}, {"a": 1}, [0, 0, 300, 1], [0.5, 0, 9, 9],
    ["0", 0, 9, 9], [0, 0, 0, 0],
]  # fmt: skip
TEXTS = [
    "", "{", "null", "7", '"run"', "[]", "{}", '{"do": 7}', '{"do": ["run"]}', '{"do": null}', '{"do": "_cancel"}',
    '{"do": "handle"}', '{"do": "run", "do": {}}', '{"do": "change", "seed": 1' + "0" * 5000 + "}", "[" * 9000,
]  # fmt: skip


def mutated(chance: random.Random) -> tuple[str, bytes]:
    """A message as text, which has mostly something wrong, and the bytes beside it."""
    if chance.random() < 0.1:
        return chance.choice(TEXTS), b""
    message, data = chance.choice(VALID)
    message = dict(message)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        key = chance.choice([*message, "photo", "answer", "more", "data", "x"])
        match chance.randrange(5):
            case 0:
                message.pop(key, None)
            case 1:
                message["do"] = chance.choice(list(MESSAGES))
            case 2:
                data = chance.choice((b"", b"\x00", PAINTED, PAINTED[:-1], chance.randbytes(99)))
            case _:
                message[key] = chance.choice(JUNK)
    text = json.dumps(message)
    return (text[: chance.randrange(len(text))] if chance.random() < 0.05 else text), data


# What is never accepted, however right the rest is; the bytes are a whole mask if nothing else is said.
NEVER = [
    {}, {"do": "change", "hole": {"a": 1}}, {"do": "change", "hole": None}, {"do": "change", "recipe": [1]},
    {"do": "change", "recipe": "slow"}, {"do": "change", "photo": "x"}, {"do": "change", "answer": 1},
    {"do": "change", "seed": -1}, {"do": "change", "kernel_size": 24}, {"do": "change", "sigma": 0},
    {"do": "change", "latent_weight": float("nan")}, {"do": "paint", "stroke": "zzz"}, {"do": "paint"},
    {"do": "paint", "stroke": 9, "bytes": 99}, {"do": "upload", "name": "a.png", "size": -5, "at": 0, "bytes": 9},
    {"do": "upload", "name": "a.png", "size": 90, "at": 30, "bytes": 9}, {"do": "run", "far": 1},
    {"do": "upload", "name": "b.png", "size": 90, "at": 14, "bytes": 9}, {"do": "look", "x": "a", "y": 0, "side": 1},
    {"do": "upload", "name": "a.png", "size": 20, "at": 14, "bytes": 9}, {"do": "save"}, {"do": "pick", "face": 1},
    {"do": "restore", "number": 9}, {"do": "accept", "damage": 0, "on": 1}, {"do": "choose", "name": "x" * 2000},
]  # fmt: skip


def ask(server: PageServer, method: str, path: str, data: bytes = b"", host: str = "", **query: str) -> tuple:
    """The status and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=PATIENCE)
    with contextlib.closing(connection):
        headers = {"Host": host} if host else {}
        connection.request(method, f"{path}?{urllib.parse.urlencode(query)}", data or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


def everything(one: Exploration) -> dict:
    """All that a refused message must leave as it is."""
    said = ("status", "error", "field", "heard")
    shown = one.board.values | {"state": {k: v for k, v in one.board.values["state"].items() if k not in said}}
    return {
        "choice": one.choice, "shown": shown, "found": list(one.shelf.found), "subject": one._subject,
        "upload": bytes(one._upload._content),
    }  # fmt: skip


def is_sound(one: Exploration) -> bool:
    """Whether everything that is kept is of its kind."""
    choice, state = one.choice, one.board.values["state"]
    whole = (choice.kernel_size, choice.factor, choice.quality, choice.seed, choice.answer, state["stroke"])
    any_number = (choice.fading, choice.noise_sigma, choice.sigma or 1.0, choice.latent_weight or 0.0)
    hole = choice.hole if isinstance(choice.hole, tuple) else [255] * 4
    return (
        [type(value) for value in (*whole, *hole)] == [int] * 10
        and min(*whole, *hole, *any_number) >= 0
        and max(*hole, choice.kernel_size) < 256
        and all(type(value) is float and math.isfinite(value) for value in any_number)
        and type(choice.damaged) is bool
        and set(choice.kinds) <= set(DEGRADATIONS)
        and choice.recipe == "smoke"
        and choice.photo == one._subject.digest
    )


def play(server: PageServer, seed: int, count: int) -> int:
    """Send so many mutated messages, a quarter of them without the token; returns how many others were refused."""
    one, chance, refused = server.exploration, random.Random(seed), 0
    for i in range(count):
        text, data = mutated(chance)
        before, heard = everything(one), one.board.values["state"]["heard"]
        if i % 4 == 0:
            token = chance.choice(("", "x", server.token[:-1], server.token + "x", "é"))
            assert ask(server, "POST", "/send", data, token=token, message=text)[0] == 403
            assert everything(one) == before, text
            assert one.board.values["state"]["heard"] == heard
            continue
        assert ask(server, "POST", "/send", data, token=server.token, message=text)[0] == 200, text
        status, answer, _ = ask(server, "GET", "/changes", token=server.token, since="0")
        assert (status, json.loads(answer)["values"]["about"]["recipes"]) == (200, ["smoke"])
        state = one.board.values["state"]
        assert state["heard"] == heard + 1
        assert "unexpectedly" not in state["status"], (text, state["status"])
        # What only looks leaves an earlier refusal in the status line, and an empty mask is still to be painted.
        looks = re.search('"do": "(look|follow)"', text)
        if state["error"] and not looks and "painted" not in state["status"]:
            after = everything(one)
            if '"do": "mask"' in text:  # a file with a mask is taken whole before it is judged
                after["upload"] = before["upload"]
            assert after == before, (text, state["status"])
            assert re.fullmatch(r"[A-Z\"|.\w].{8,400}[.?]", state["status"]), (text, state["status"])
            refused += 1
        assert is_sound(one), text
        one.stop()
        assert one.wait(PATIENCE)
        if i % 10 == 0:  # what is right still works
            one.handle({"do": "change", "degradation": "blur", "kernel_size": (size := 3 + 2 * (i % 7))})
            assert (one.choice.degradation, one.choice.kernel_size) == ("blur", size)
    return refused


@pytest.fixture
def server(small_generator, distance, tmp_path) -> Iterator[PageServer]:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    subject = Subject(load_face(image, aligned=True, size=64), "noise.png")
    recipe = pick_recipe(replace(SMOKE, w_avg_samples=100), num_steps=2)
    searcher = Searcher(small_generator, {"smoke": recipe}, distance=distance, device="cpu")
    running = PageServer()
    running.show(Exploration(searcher, [subject], Choice(recipe="smoke"), out=tmp_path))
    yield running
    running.exploration.stop()
    assert running.exploration.wait(PATIENCE)
    running.close()


def test_messages_of_all_kinds_break_nothing_and_refused_ones_change_nothing(server, monkeypatch, caplog, capfd):
    monkeypatch.setattr("ex5lib.restoration.metrics.identity_distance", lambda *_: 0.5)  # of noise, in seconds
    monkeypatch.setattr("ex5lib.explorer.shelf.Found.save", lambda *_: server.exploration._out)
    one = server.exploration
    one.handle({"do": "upload", "name": "a.png", "size": 90, "at": 0}, b"the first part")
    for message in map(dict, NEVER):
        before = everything(one)
        data = PAINTED[: message.pop("bytes", None)] if message.get("do") in ("paint", "upload") else b""
        assert ask(server, "POST", "/send", data, token=server.token, message=json.dumps(message))[0] == 200
        assert one.board.values["state"]["error"], message
        assert len(one.status) < 200
        assert everything(one) == before
    for text in TEXTS:
        assert ask(server, "POST", "/send", token=server.token, message=text)[0] == 200, text
        assert one.board.values["state"]["error"], text
    assert play(server, seed=0, count=300) > 100
    assert (caplog.records, capfd.readouterr().err) == ([], "")


RAW = [
    b"GET http://[/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /%s HTTP/1.1\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: evil.example:80\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    b"POST /send%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /send%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /send%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
    b"POST /send%s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    b"PUT /%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET /../page.py%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def test_what_is_no_request_of_the_page_is_refused_in_words(server, capfd):
    for request in RAW:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=PATIENCE) as connection:
            connection.sendall(request.replace(b"%s", f"?token={server.token}".encode()))
            answer = b"".join(iter(partial(connection.recv, 4096), b""))
        head, _, words = answer.rpartition(b"\r\n\r\n")
        assert re.match(rb"HTTP/1.1 [45]\d\d ", head) or head == b"", request  # what is no HTTP gets words alone
        assert len(words) > 10
    assert capfd.readouterr().err == ""


def test_the_token_opens_nothing_under_another_name_and_no_page_runs_what_is_not_its_own(server):
    named = [("127.0.0.1", 200), ("localhost:9000", 200), ("evil.example", 403), ("127.0.0.1.evil.example:80", 403)]
    for host, status in named:
        assert ask(server, "GET", "/", host=host, token=server.token)[0] == status
    for path in ("/", "/page.js", "/changes", "/nothing"):
        _, content, headers = ask(server, "GET", path, token=server.token)
        policy = headers["Content-Security-Policy"]
        assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        if path == "/":
            assert re.findall(rb"<script[^>]*>(.*?)</script>", content) == [b""]
            assert not re.search(rb"<style|style=|\son\w+=", content)
            assert content.count(b"<h1>") == 1


def test_slow_connections_get_no_more_than_their_share(server, monkeypatch, capfd):
    monkeypatch.setattr(page, "_PATIENCE", 2.0)
    half = f"POST /send?token={server.token} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n".encode()
    with contextlib.ExitStack() as opened:
        slow = []
        for i in range(page._MOST):
            slow.append(opened.enter_context(socket.create_connection(("127.0.0.1", server.server_port), PATIENCE)))
            slow[-1].sendall((half, half + b"\r\nonly", b"")[i % 3])
        status, content, _ = ask(server, "GET", "/", token=server.token)
        assert (status, content[:9]) == (503, b"Too many ")
        for connection in slow:
            while connection.recv(1000):  # until it is closed
                pass
    assert ask(server, "GET", "/", token=server.token)[0] == 200
    assert everything(server.exploration)["choice"] == Choice(recipe="smoke").of(server.exploration.choice.photo)
    assert capfd.readouterr().err == ""


def test_no_name_reveals_where_a_file_was_put(server):
    one = server.exploration
    for name in ("..", "/", "a/..", r"C:\photos\..", "", "\x00", "\ud800.png", "n" * 5000, ".\n."):
        one.handle({"do": "upload", "name": name, "size": 7, "at": 0}, b"Dear me")
        assert one.wait(PATIENCE)
        assert re.fullmatch(r"[^/\\]{1,100} is not an image[^/\\]*", one.status)
        one.status.encode()


@pytest.mark.parametrize("name", RANGES)
def test_what_a_slider_accepts_is_what_its_degradation_accepts(name):
    kind = next(kind for kind, names in DEGRADATIONS.items() if name in names)
    field = RANGES[name]
    low, high, _ = field.slider
    for value in (field.least, low, high, field.most):
        target, _ = Choice().changed(degradation=kind, **{name: value}).applied(torch.zeros(1, 3, 64, 64))
        assert torch.isfinite(target).all()
    for value in (field.least - 1, field.most + 1, "7", True, [7]):
        with pytest.raises(SettingError, match="must be"):
            Choice().changed(**{name: value})

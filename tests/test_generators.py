"""Other generators than the embedded one: files of one's own, and a download that is cut off and resumed."""

import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ex5lib
from ex5lib import errors as e
from ex5lib import weights
from ex5lib.images.tensors import from_uint8
from ex5lib.inversion import latents
from ex5lib.inversion.latents import class_labels
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import load_generator_file


@pytest.fixture
def data(root) -> Path:
    return root / "tests" / "data"


class UnreliableServer(http.server.ThreadingHTTPServer):
    """Serves one file and drops every connection after ``cut`` bytes; ``ranges`` lists the Range headers it saw."""

    def __init__(self, body: bytes, cut: int, accepts_ranges: bool = True):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.body, self.cut, self.accepts_ranges = body, cut, accepts_ranges
        self.ranges: list[str | None] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.accepts_ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        self.send_header("Content-Length", str(len(self.server.body) - start))
        self.end_headers()
        self.wfile.write(self.server.body[start : start + self.server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch, tmp_path, data):
    """Serve a snapshot as if it were NVIDIA's, into an empty cache."""
    monkeypatch.setenv("EX5_CACHE", str(tmp_path / "cache"))
    servers = []

    def start(cut: int, *, served: bytes | None = None, accepts_ranges: bool = True) -> UnreliableServer:
        body = (data / "uncond_32.pkl").read_bytes()
        server = UnreliableServer(body if served is None else served, cut, accepts_ranges)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        entry = replace(
            weights.REGISTRY["ffhq"],
            origin=f"http://127.0.0.1:{server.server_port}/ffhq.pkl",
            sha256=hashlib.sha256(body).hexdigest(),
            size=len(body),
        )
        monkeypatch.setitem(weights.REGISTRY, "ffhq", entry)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_dropped_download_goes_on_where_it_stopped(serve, data, capsys):
    server = serve(cut=200_000)
    G = weights.load_generator("ffhq", device="cpu")
    assert server.ranges == [None, "bytes=196608-", "bytes=393216-"]  # whole chunks of 64 KiB are kept
    direct = load_generator_file(data / "uncond_32.pkl")
    ws = ex5lib.sample_ws(direct, 1)
    assert torch.equal(G.synthesis(ws), direct.synthesis(ws))
    assert "fetching ffhq.pkl" in capsys.readouterr().err
    left = {path.name for path in weights.cache_folder().iterdir()}
    assert left == {"ffhq.pkl", "ffhq.lock"}


@pytest.mark.parametrize(
    ("part", "accepts_ranges", "ranges"),
    [
        (lambda body: body[:300_000], True, ["bytes=300000-"]),  # by an earlier process that was stopped
        (lambda _: b"x" * 1000, False, ["bytes=1000-"]),  # the answer is all of it
        (lambda _: b"x" * 1000, True, ["bytes=1000-", None]),  # damaged
    ],
)
def test_a_part_of_a_download_is_used_if_it_can_be(serve, data, capsys, part, accepts_ranges, ranges):
    body = (data / "uncond_32.pkl").read_bytes()
    server = serve(cut=10**9, accepts_ranges=accepts_ranges)
    weights.cache_folder().mkdir()
    (weights.cache_folder() / "ffhq.pkl.part").write_bytes(part(body))
    weights.fetch("ffhq")
    assert server.ranges == ranges
    assert (weights.cache_folder() / "ffhq.pkl").read_bytes() == body
    assert ("was damaged: fetching all of it" in capsys.readouterr().err) == (len(ranges) == 2)


@pytest.mark.parametrize(
    ("served", "cut", "requests", "sentence"),
    [
        (lambda body: body + bytes(10**6), 10**9, 1, "more bytes than the file has"),
        (lambda body: body, 0, 3, r"fetched \(the connection failed\).* put ffhq\.pkl by hand"),
        (lambda body: body[:-1] + bytes([body[-1] ^ 1]), 10**9, 1, r"sent a different file than ffhq\.pkl"),
    ],
)
def test_what_is_not_the_file_is_given_up(serve, data, served, cut, requests, sentence):
    server = serve(cut, served=served((data / "uncond_32.pkl").read_bytes()))
    with pytest.raises(e.WeightsError, match=sentence):
        weights.fetch("ffhq")
    assert len(server.ranges) == requests
    assert weights.status("ffhq") == "missing"
    assert not any(path.stat().st_size for path in weights.cache_folder().glob("*.part"))


def test_a_network_without_noise_is_searched_in_w_alone(distance):
    G = random_generator(torch.Generator().manual_seed(0), 32, channel_max=16, use_noise=False)
    run = ex5lib.project(
        G, torch.zeros(1, 3, 32, 32), num_steps=3, w_avg_samples=100, distance=distance, device="cpu", progress=False
    )
    assert run.noise == {}
    assert (run.history["noise_regularization"] == 0).all()


def test_classes_condition_the_mean_and_the_search(data, distance):
    G = weights.load_generator(data / "cond_64_fp16.pkl", device="cpu")
    assert G.c_dim > 1
    means = [latents.latent_statistics(G, num_samples=2000, class_index=i).w_avg for i in (0, 1)]
    mixed = latents.latent_statistics(G, num_samples=4000).w_avg
    assert (means[0] - means[1]).norm() > 0.05 * means[0].norm()
    assert (mixed - means[0]).norm() < (means[1] - means[0]).norm() * 1.5
    assert class_labels(G, 2, 1, seed=0)[:, 1].tolist() == [1, 1]
    target = torch.zeros(1, 3, 64, 64)
    settings = {"num_steps": 3, "distance": distance, "device": "cpu", "progress": False, "space": "z"}
    found = []
    for index in (0, 1):
        statistics = latents.latent_statistics(G, num_samples=100, class_index=index)
        run = ex5lib.project(G, target, statistics=statistics, **settings)
        assert torch.equal(run.ws, G.mapping(run.latent, class_labels(G, 1, index, seed=0)))
        torch.testing.assert_close(G.synthesis(run.ws, run.noise), run.image)
        found.append(run.ws)
    assert (found[0] - found[1]).abs().max() > 0.01
    with pytest.raises(e.SettingError, match="needs the statistics of one class"):
        ex5lib.project(G, target, **settings)
    with pytest.raises(e.SettingError, match=f"no class 9999: this generator has the classes 0 to {G.c_dim - 1}"):
        latents.latent_statistics(G, num_samples=100, class_index=9999)


def test_commands_take_a_file_convert_it_and_search_in_one_class(data, call, root):
    made = call("convert", data / "cond_64_fp16.pkl", "mine.safetensors")
    assert "64 px" in made.stdout
    mine = ("--generator", "mine.safetensors", "--device", "cpu", "--class", 1)
    assert call("sample", 1, *mine).exit_code == 0
    G = load_generator_file(data / "cond_64_fp16.pkl")
    expected = G.synthesis(ex5lib.sample_ws(G, 1, truncation_psi=0.7, class_index=1)).clamp(-1, 1)
    found = from_uint8(np.asarray(Image.open("results/samples/seed0001.png")))  # too small for load_image
    assert (found - expected).abs().max() < 1.1 / 127.5
    photo = root / "benchmarks" / "crops" / "astronaut.jpg"
    done = call("invert", photo, "--aligned", *mine, "--num-steps", 3, "--out", "run", "--space", "z")
    assert done.exit_code == 0, done.output
    settings = ex5lib.Projection.load("run").settings
    assert (settings["img_resolution"], settings["statistics"]["class_index"]) == (64, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["convert", "nothing.pkl", "a.safetensors"], "nothing.pkl does not exist"),
        (["convert", "page.pkl", "a.safetensors"], "web page"),
        (["convert", "page.pkl", "a.pkl"], "must end in .safetensors"),
        (["sample", "1", "--generator", "page.pkl"], "web page"),
        (["sample", "1", "--generator", "fhq"], 'did you mean "ffhq"'),
        (["sample", "1", "--class", "3", "--generator", "small"], "no class 3: this generator has no classes"),
    ],
)
def test_bad_files_are_one_sentence_and_leave_nothing(tmp_path, call, small, arguments, sentence):
    Path("page.pkl").write_text("<!DOCTYPE html><title>403</title>")
    result = call(*(small if argument == "small" else argument for argument in arguments))
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.pkl"]

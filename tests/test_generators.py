"""Other generators than the embedded one: files of one's own, and a download that is cut off and resumed."""

import hashlib
import http.server
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

import ex5lib
from ex5lib import errors as e
from ex5lib import weights
from ex5lib.cli.app import app
from ex5lib.images.tensors import from_uint8
from ex5lib.inversion import latents
from ex5lib.inversion.latents import class_labels
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import load_nvidia_pickle


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
    direct = load_nvidia_pickle(data / "uncond_32.pkl")["G_ema"]
    ws = ex5lib.sample_ws(direct, 1)
    assert torch.equal(G.synthesis(ws), direct.synthesis(ws))
    assert "fetching ffhq.pkl" in capsys.readouterr().err
    left = {path.name for path in weights.cache_folder().iterdir()}
    assert left == {"ffhq.pkl", "ffhq.safetensors", "ffhq.sha256", "ffhq.lock"}


def test_a_later_process_goes_on_where_an_earlier_one_was_stopped(serve, data):
    server = serve(cut=10**9)
    weights.cache_folder().mkdir()
    (weights.cache_folder() / "ffhq.pkl.part").write_bytes((data / "uncond_32.pkl").read_bytes()[:300_000])
    weights.fetch("ffhq")
    assert server.ranges == ["bytes=300000-"]


def test_a_server_without_ranges_is_asked_from_the_start(serve, data):
    serve(cut=10**9, accepts_ranges=False)
    weights.cache_folder().mkdir()
    (weights.cache_folder() / "ffhq.pkl.part").write_bytes(b"x" * 1000)
    weights.fetch("ffhq")
    assert (weights.cache_folder() / "ffhq.pkl").read_bytes() == (data / "uncond_32.pkl").read_bytes()


def test_a_damaged_part_is_fetched_anew(serve, capsys):
    server = serve(cut=10**9)
    weights.cache_folder().mkdir()
    (weights.cache_folder() / "ffhq.pkl.part").write_bytes(b"x" * 1000)
    assert weights.fetch("ffhq").exists()
    assert server.ranges == ["bytes=1000-", None]
    assert "was damaged: fetching all of it" in capsys.readouterr().err


def test_a_server_that_sends_too_much_is_given_up(serve, data):
    server = serve(cut=10**9, served=(data / "uncond_32.pkl").read_bytes() + bytes(10**6))
    with pytest.raises(e.WeightsError, match="more bytes than the file has"):
        weights.fetch("ffhq")
    assert len(server.ranges) == 1
    assert not list(weights.cache_folder().glob("*.part"))


def test_a_download_that_gets_nowhere_is_given_up(serve):
    serve(cut=0)
    with pytest.raises(e.WeightsError, match=r"fetched \(the connection failed\).* put ffhq\.pkl by hand"):
        weights.fetch("ffhq")
    assert weights.status("ffhq") == "missing"


def test_another_file_under_the_same_address_is_refused(serve, data):
    body = bytearray((data / "uncond_32.pkl").read_bytes())
    body[1000] ^= 1
    serve(cut=10**9, served=bytes(body))
    with pytest.raises(e.WeightsError, match=r"is not the ffhq\.pkl expected"):
        weights.fetch("ffhq")
    assert not (weights.cache_folder() / "ffhq.safetensors").exists()


def test_a_spoilt_conversion_is_made_again_without_a_download(serve, capsys):
    server = serve(cut=10**9)
    path = weights.fetch("ffhq")
    whole = path.read_bytes()
    tensors = safetensors.torch.load(whole)
    path.write_bytes(whole[:-4] + b"\x00\x00\x00\x7f")
    again = safetensors.torch.load(
        weights.fetch("ffhq").read_bytes()
    )  # its header's entries may stand in another order
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert "is corrupted: making it again" in capsys.readouterr().err
    assert server.ranges == [None]


def test_a_file_of_ones_own_is_inverted_like_any_other(data, distance):
    G = weights.load_generator(data / "resnet_16.pkl", device="cpu")
    assert (G.img_resolution, G.w_avg.dtype) == (16, torch.float32)
    target = G.synthesis(ex5lib.sample_ws(G, 3)).clamp(-1, 1)
    run = ex5lib.project(
        G, target, num_steps=5, w_avg_samples=100, distance=distance, device="cpu", progress=False, space="w+"
    )
    assert run.image.shape == (1, 3, 16, 16)


def test_an_untrained_network_of_config_fs_widths_takes_steps(distance):
    G = random_generator(torch.Generator().manual_seed(0), 64)  # test_networks has the whole of it, at 1024 px
    target = torch.zeros(1, 3, 32, 32)
    run = ex5lib.project(
        G, target, num_steps=2, w_avg_samples=100, distance=distance, device="cpu", progress=False, rampup=0
    )
    assert run.image.shape == (1, 3, 64, 64)
    assert run.history["learning_rate"].tolist() == [0.1, 0.1]
    assert run.latent_distance > 0


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
    settings = {"num_steps": 3, "distance": distance, "device": "cpu", "progress": False}
    found = []
    for index in (0, 1):
        statistics = latents.latent_statistics(G, num_samples=100, class_index=index)
        run = ex5lib.project(G, target, space="z", statistics=statistics, **settings)
        assert torch.equal(run.ws, G.mapping(run.latent, class_labels(G, 1, index, seed=0)))
        torch.testing.assert_close(G.synthesis(run.ws, run.noise), run.image)
        assert run.settings["statistics"]["class_index"] == index
        found.append(run.ws)
    assert (found[0] - found[1]).abs().max() > 0.01
    with pytest.raises(e.SettingError, match="needs the statistics of one class"):
        ex5lib.project(G, target, space="z", **settings)
    with pytest.raises(e.SettingError, match=f"no class 9999: this generator has the classes 0 to {G.c_dim - 1}"):
        latents.latent_statistics(G, num_samples=100, class_index=9999)


def test_the_command_searches_in_one_class(data, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    arguments = ["invert", str(root / "data" / "astronaut.png"), "--generator", str(data / "cond_64_fp16.pkl")]
    arguments += ["--num-steps", "3", "--device", "cpu", "--out", "run", "--class", "1", "--space", "z"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert ex5lib.Projection.load("run").settings["statistics"]["class_index"] == 1


def test_an_unconditional_generator_has_no_classes(tiny_generator):
    with pytest.raises(e.SettingError, match="no class 0: this generator has no classes"):
        ex5lib.sample_ws(tiny_generator, 0, class_index=0)


def test_commands_take_a_file_and_convert_it(data, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(app, ["convert", str(data / "uncond_32.pkl"), "mine.safetensors"])
    assert made.exit_code == 0
    assert "32 px" in made.stdout
    faces = CliRunner().invoke(app, ["sample", "1", "--generator", "mine.safetensors", "--device", "cpu"])
    assert faces.exit_code == 0
    G = load_nvidia_pickle(data / "uncond_32.pkl")["G_ema"]
    expected = G.synthesis(ex5lib.sample_ws(G, 1, truncation_psi=0.7)).clamp(-1, 1)
    found = from_uint8(np.asarray(Image.open("results/samples/seed0001.png")))  # too small for load_image
    assert (found - expected).abs().max() < 1.1 / 127.5
    photo = str(root / "data" / "astronaut.png")
    done = CliRunner().invoke(
        app, ["invert", photo, "--generator", "mine.safetensors", "--num-steps", "3", "--device", "cpu", "--out", "run"]
    )
    assert done.exit_code == 0, done.output
    assert ex5lib.Projection.load("run").settings["img_resolution"] == 32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["convert", "nothing.pkl", "a.safetensors"], "nothing.pkl does not exist"),
        (["convert", "page.pkl", "a.safetensors"], "web page"),
        (["convert", "page.pkl", "a.pkl"], "must end in .safetensors"),
        (["sample", "1", "--generator", "page.pkl"], "web page"),
        (["sample", "1", "--generator", "fhq"], 'did you mean "ffhq"'),
        (["sample", "1", "--class", "3"], "this generator has no classes"),
    ],
)
def test_bad_files_are_one_sentence_and_leave_nothing(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    Path("page.pkl").write_text("<!DOCTYPE html><title>403</title>")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["page.pkl"]


def test_a_hostile_pickle_is_refused_by_the_library_too(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(e.WeightsError, match=r"os\.system"):
        weights.load_generator(tmp_path / "evil.pkl", device="cpu")

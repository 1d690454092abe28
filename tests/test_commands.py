"""The command line as users type it, on real photos; most searches are those of a small generator."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ex5lib
from ex5lib.images.tensors import from_uint8, resize
from ex5lib.inversion.stages import Stage


@pytest.fixture
def photo(root) -> Path:
    return root / "data" / "astronaut.png"


@pytest.fixture(scope="session")
def aligned(astronaut, tmp_path_factory) -> Path:
    return ex5lib.save_image(astronaut.image, tmp_path_factory.mktemp("faces") / "aligned.png")


def _pixels(path: Path) -> torch.Tensor:
    """An image of a result, which may be smaller than a photo may be."""
    return from_uint8(np.asarray(Image.open(path)))


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


RUN_FILES = {
    "comparison.png", "iterations.png", "losses.png", "metrics.json", "original.png", "projection.npz", "result.png",
}  # fmt: skip


def test_align_writes_the_crop_and_the_detection(call, photo):
    result = call("align", photo, "--size", 256)
    assert result.exit_code == 0
    folder = Path("results/astronaut-align")
    assert _files(folder) == {"aligned.png", "alignment.png"}
    assert Image.open(folder / "aligned.png").size == (256, 256)
    assert "score 1.16 (hog)" in result.stdout
    assert str(folder) in result.stdout


def test_align_neither_replaces_its_photo_nor_leaves_an_earlier_crop(call, photo, tmp_path):
    Image.open(photo).crop((40, 300, 300, 500)).save("patch.png")  # a patch on her suit, of which it is not sure
    for name in ("aligned.png", "alignment.png"):
        shutil.copy(photo, name)
        result = call("align", name, "--out", ".")
        assert (result.exit_code, "would be replaced" in result.stderr) == (1, True)
        assert Path(name).read_bytes() == photo.read_bytes()
        Path(name).unlink()
    assert call("align", photo, "--size", 64, "--out", "here").exit_code == 0
    shown = Path("here/alignment.png").read_bytes()
    result = call("align", "patch.png", "--size", 64, "--out", "here")
    assert (result.exit_code, "may not show a face" in result.stderr) == (1, True)
    assert _files(Path("here")) == {"alignment.png"}
    assert Path("here/alignment.png").read_bytes() != shown


def test_invert_aligns_searches_and_reports(call, photo, quick):
    result = call("invert", photo, *quick, "--space", "w+", "--seed", 5, "--out", "here")
    assert result.exit_code == 0
    assert _files(Path("here")) == RUN_FILES | {"alignment.png", "photo.png"}
    run = ex5lib.Projection.load("here")
    assert run.settings["space"] == "w+"
    assert (run.seed, run.num_steps) == (5, 3)
    report = json.loads(Path("here/metrics.json").read_text())["metrics"]
    assert report["search"]["distance"] == pytest.approx(run.distance)
    assert set(report["result and original"]) == {"distance", "psnr", "ssim", "identity_distance"}
    assert f"psnr {report['result and original']['psnr']:.4g}" in result.stdout


def test_an_aligned_photo_is_not_aligned_again_and_is_degraded_first(call, aligned, quick):
    result = call("restore", aligned, "--degradation", "blur", "--kernel-size", 17, *quick)
    assert result.exit_code == 0
    folder = Path("results/aligned-blur")
    assert _files(folder) == RUN_FILES | {"degraded.png"}
    original, degraded = _pixels(folder / "original.png"), _pixels(folder / "degraded.png")
    assert (original - resize(ex5lib.load_image(aligned), 32)).abs().max() <= 1.1 / 127.5
    assert (ex5lib.GaussianBlur(17)(original) - degraded).abs().max() <= 1.1 / 127.5


def test_a_damaged_photo_is_restored_without_claiming_an_original(call, astronaut, quick):
    damaged = ex5lib.Inpaint(164, 84, 44, 88)(astronaut.image)
    ex5lib.save_image(damaged, "damaged.png")
    mask = np.zeros((256, 256), np.uint8)
    mask[164:208, 84:172] = 255
    Image.fromarray(mask).save("mask.png")
    result = call(
        "restore", "damaged.png", "--degradation", "inpaint", "--mask", "mask.png", "--already-degraded", "--aligned",
        *quick,
    )  # fmt: skip
    assert result.exit_code == 0
    folder = Path("results/damaged-inpaint")
    assert _files(folder) == (RUN_FILES - {"original.png"}) | {"aligned.png", "composite.png", "degraded.png"}
    assert list(json.loads((folder / "metrics.json").read_text())["metrics"]) == ["search"]
    composite, made = _pixels(folder / "composite.png"), _pixels(folder / "result.png")
    hole = (slice(None), slice(None), slice(21, 26), slice(11, 21))  # of 32 px, a pixel of the mask being an eighth
    assert torch.equal(composite[hole], made[hole])
    damaged = resize(ex5lib.load_image("damaged.png"), 32)
    assert (composite - damaged)[:, :, :18].abs().max() <= 1.1 / 127.5


def test_a_mask_drawn_on_the_whole_photo_is_cropped_like_the_face(call, photo, astronaut, quick):
    mask = np.zeros((512, 512), np.uint8)
    x, y = astronaut.landmarks[48:68].mean(axis=0).astype(int)  # the mouth
    mask[y - 15 : y + 15, x - 25 : x + 25] = 255
    Image.fromarray(mask).save("mask.png")
    result = call("restore", photo, "--degradation", "inpaint", "--mask", "mask.png", *quick)
    assert result.exit_code == 0
    folder = Path("results/astronaut-inpaint")
    original, degraded = (_pixels(folder / f"{name}.png") for name in ("original", "degraded"))
    hole = (original - degraded).mean(dim=1)[0] / (original + 1).mean(dim=1)[0].clamp(min=0.1)  # the share that is gone
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    middle = ((hole * rows).sum() / hole.sum() * 8, (hole * columns).sum() / hole.sum() * 8)  # px at 256
    assert [place.item() for place in middle] == pytest.approx((181, 127), abs=8)  # where FFHQ puts a mouth
    assert 0.02 < hole.mean() < 0.08


def test_auto_says_what_a_photo_suffers_from_and_restores_that(call, photo, quick):
    Image.open(photo).convert("L").save("old.png")
    result = call("restore", "old.png", "--degradation", "auto", "--samples", 2, *quick)
    assert result.exit_code == 0
    assert "it is grey" in result.stdout
    folder = Path("results/old-auto")
    assert {"photo.png", "answers.png", "answer2.png"} < _files(folder)
    assert "original.png" not in _files(folder)
    settings = json.loads((folder / "metrics.json").read_text())["settings"]
    assert "Grayscale" in settings["degradation"]


def test_how_blurred_a_photo_is_is_found_and_told(call, aligned, quick):
    blurred = ("restore", aligned, "--degradation", "blur", "--kernel-size", "auto", *quick)
    result = call(*blurred, "--already-degraded")
    assert result.exit_code == 0
    assert "found with it: UnknownBlur(sigma=" in result.stdout
    found = json.loads(Path("results/aligned-blur/metrics.json").read_text())["settings"]["found"]
    assert set(found) == {"log_sigma"}
    for options, sentence in (
        ((), "add --already-degraded"),
        (("--sigma", 2), "--sigma only works with"),
        (("--mask", "mask.png"), "--mask says where a hole is"),
        (("--mask-on", "crop"), "--mask-on says where a hole is"),
        (("--already-degraded", "--samples", 9), "answers must be 1 to 8"),
        (("--already-degraded", "--batch", 2), "set --batch 1"),
    ):
        result = call(*blurred, *options)
        assert (result.exit_code, sentence in result.stderr) == (1, True), (options, result.stderr)


def test_sample_makes_the_faces_of_seeds(call, generator):
    result = call("sample", "3,5-6", "--truncation", 0.5, "--device", "cpu")
    assert result.exit_code == 0
    assert _files(Path("results/samples")) == {"faces.png", "seed0003.png", "seed0005.png", "seed0006.png"}
    with torch.no_grad():
        expected = generator.synthesis(ex5lib.sample_ws(generator, 5, truncation_psi=0.5)).clamp(-1, 1)
    assert (ex5lib.load_image("results/samples/seed0005.png") - expected).abs().max() < 1.1 / 127.5


def test_demo_draws_one_gallery_of_four_searches(call, photo, quick):
    result = call("demo", photo, *quick)
    assert result.exit_code == 0, result.output
    demo = Path("results/demo")
    assert _files(demo) == {"gallery.png", "inversion", "deblurring", "colourisation", "inpainting"}
    pasted = {"alignment.png", "degraded.png", "composite.png", "photo.png"}
    assert _files(demo / "inpainting") == RUN_FILES | pasted
    assert Image.open(demo / "gallery.png").size[0] > 1000


def test_ctrl_c_keeps_what_was_found_and_says_so(call, aligned, monkeypatch):
    rate, calls = Stage.rate, []

    def interrupt(stage, t):
        calls.append(t)
        if len(calls) == 5:  # the rate is asked for twice a step
            raise KeyboardInterrupt
        return rate(stage, t)

    monkeypatch.setattr(Stage, "rate", interrupt)
    small = Path(__file__).parent / "data" / "uncond_32.pkl"
    result = call(
        "invert", aligned, "--aligned", "--generator", small, "--num-steps", 40, "--device", "cpu", "--out", "stopped"
    )
    assert result.exit_code == 0
    assert "stopped after 2 of 40 steps" in result.stdout
    assert ex5lib.Projection.load("stopped").stopped


@pytest.fixture
def album(aligned, tmp_path, root) -> Path:
    """A folder with three faces, a file that is no image, and one that is none of our business."""
    folder = tmp_path / "album"
    with torch.no_grad():
        G = ex5lib.load_generator(root / "tests" / "data" / "uncond_32.pkl", device="cpu")
        for seed, name in enumerate(("a.png", "b.png", "b.jpg")):
            ex5lib.save_image(resize(G.synthesis(ex5lib.sample_ws(G, seed)), 256), folder / name)
    (folder / "broken.png").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("text")
    return folder


def test_a_folder_is_searched_photo_by_photo_and_goes_on_after_a_bad_file(call, album, root):
    arguments = ["invert", album, "--aligned", "--generator", root / "tests" / "data" / "uncond_32.pkl"]
    arguments += ["--device", "cpu", "--batch", 2, "--num-steps", 4]
    result = call(*arguments)
    assert result.exit_code == 1
    assert "3 done, 0 done before, 1 failed" in result.stdout
    assert "broken.png is not an image" in result.stdout
    out = Path("results/album-inversion")
    assert _files(out) == {"a", "b.png", "b.jpg", "summary.csv", "summary.html"}
    assert all(_files(folder) == RUN_FILES for folder in out.iterdir() if folder.is_dir())

    (album / "broken.png").unlink()
    written = (out / "a" / "projection.npz").stat().st_mtime_ns
    again = call(*arguments)
    assert again.exit_code == 0
    assert "0 done, 3 done before, 0 failed" in again.stdout
    (out / "a" / "metrics.json").unlink()  # as if interrupted while it was written
    assert "1 done, 2 done before" in call(*arguments).stdout
    report = json.loads((out / "a" / "metrics.json").read_text())
    report["metrics"]["search"]["num_steps"] = 2  # as if stopped by Ctrl-C
    (out / "a" / "metrics.json").write_text(json.dumps(report))
    assert "1 done, 2 done before" in call(*arguments).stdout
    assert (out / "a" / "projection.npz").stat().st_mtime_ns > written
    assert "3 done, 0 done before" in call(*arguments[:-1], 3).stdout  # other settings, other results


def test_ctrl_c_ends_a_folder(call, album, root, monkeypatch):
    rate, calls = Stage.rate, []

    def interrupt(stage, t):
        calls.append(t)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return rate(stage, t)

    monkeypatch.setattr(Stage, "rate", interrupt)
    small = root / "tests" / "data" / "uncond_32.pkl"
    result = call("invert", album, "--aligned", "--generator", small, "--device", "cpu", "--num-steps", 6)
    assert result.exit_code == 130
    assert "0 done, 0 done before, 0 failed, 4 not done" in result.stdout  # and no further photo was begun
    assert ex5lib.Projection.load("results/album-inversion/a").stopped
    assert not Path("results/album-inversion/b.jpg").exists()


def test_what_is_wrong_with_every_photo_is_said_once(call, album):
    for option, value in (("--generator", "mobile-fhq"), ("--device", "gpu")):
        result = call("invert", album, "--aligned", option, value)
        assert result.exit_code == 1
        assert result.stderr.count("error:") == 1
        assert "failed" not in result.stdout


def test_a_folder_without_images_is_said_so(call, tmp_path):
    (tmp_path / "empty").mkdir()
    result = call("invert", "empty")
    assert result.exit_code == 1
    assert "There is no image in empty" in result.stderr


def test_weights_states_both_licences(call):
    text = call("weights").stdout
    assert text.count("licence of the package") == text.count("licence of the weights") > 5
    assert "mobile-ffhq (ready" in text
    assert "cache: " in text


def test_fetch_names_the_files(call):
    text = call("fetch").stdout
    for name in ("mobile-ffhq", "vgg16", "dlib-landmarks", "dlib-cnn-detector", "dlib-descriptor"):
        assert Path(re.search(rf"{name}: (.+)", text)[1]).is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["invert", "missing.jpg"], "There is no file missing.jpg"),
        (["align", "."], "is a folder"),
        (["invert", "PHOTO", "--batch", "0"], "at least 1 photo"),
        (["restore", "PHOTO", "--degradation", "inpaint", "--mask", "WHITE", "--batch", "2"], "one by one"),
        (["align", "PHOTO", "--face", "7"], "Face 7 was asked for, but 2 faces"),
        (["align", "PHOTO", "--size", "5"], "64 to 4096 px"),
        (["invert", "PHOTO", "--generator", "mobile-fhq"], 'did you mean "mobile-ffhq"'),
        (["invert", "PHOTO", "--device", "gpu"], "use auto, cuda, mps or cpu"),
        (["invert", "ALIGNED", "--aligned", "--num-steps", "0"], "whole number from 1 up"),
        (["invert", "ALIGNED", "--aligned", "--space", "y"], "Known: s, w, w+, z"),
        (["invert", "OFFICER", "--aligned"], "is not square"),
        (["restore", "PHOTO", "--degradation", "greyscale"], 'did you mean "grayscale"'),
        (["restore", "PHOTO", "--degradation", "blur", "--kernel-size", "8"], "0 or an odd number"),
        (
            ["restore", "PHOTO", "--degradation", "grayscale", "--kernel-size", "auto"],
            "--kernel-size only works with",
        ),
        (["restore", "PHOTO", "--degradation", "auto", "--kernel-size", "25"], "--kernel-size only works with"),
        (["restore", "PHOTO", "--degradation", "inpaint"], "either a rectangle"),
        (
            ["restore", "PHOTO", "--degradation", "inpaint", "--top=9", "--left=250", "--height=9", "--width=9"],
            "does not lie inside",
        ),
        (["restore", "ALIGNED", "--degradation", "inpaint", "--mask", "WIDE", "--aligned"], "mask must be 1024 × 1024"),
        (["restore", "ALIGNED", "--degradation", "inpaint", "--mask", "WHITE", "--aligned"], "white all over"),
        (["sample", "1-x"], "not a list of seeds"),
        (["sample", "0-99999999999"], "1 to 256 seeds"),
        (["sample", "5-3"], "1 to 256 seeds"),
        (["sample", "1", "--truncation", "nan"], "ψ must be a number"),
        (
            ["restore", "PHOTO", "--degradation", "inpaint", "--mask", "WHITE", "--top", "3"],
            "by a mask or by a rectangle, not by both",
        ),
        (["restore", "PHOTO", "--degradation", "inpaint", "--mask", "nothing.png"], "There is no file nothing.png"),
        (["invert", "PHOTO", "--out", "PHOTO"], "is a file: choose another --out"),
        (
            ["invert", "https://example.org/a/me.jpg"],
            "https://example.org/a/me.jpg is an address: download the file first",
        ),
        (["restore", "PHOTO", "--degradation", "inpaint", "--mask", "ftp://a/m.png"], "ftp://a/m.png is an address"),
        (["align", "~nobody-known-here/me.jpg"], "no home directory"),
        (["invert", ""], "A path is empty"),
        (["invert", "PHOTO", "--out", "x" * 256], "(File name too long): choose another --out"),
        (["invert", "PHOTO", "--all-faces", "--face", "1"], "leave out --all-faces"),
        (["fetch", "vgg61"], 'did you mean "vgg16"'),
        (["invert", "PHOTO", "--recipe", "slow"], "There is no recipe"),
    ],
)
def test_bad_input_is_one_sentence_exit_code_1_and_nothing_written(call, photo, aligned, root, arguments, sentence):
    made = {"PHOTO": photo, "ALIGNED": aligned, "OFFICER": root / "data" / "officer.jpg"}
    for name, size in (("WIDE", (20, 10)), ("WHITE", (16, 16))):
        if name in arguments:
            made[name] = aligned.parent / f"{name}.png"
            Image.new("L", size, 255).save(made[name])
    result = call(*(made.get(a, a) for a in arguments))
    assert result.exit_code == 1
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not Path("results").exists()


def test_an_unwritable_place_is_named(call, photo, tmp_path):
    Path("file").touch()
    for command in ("align", "invert", "demo"):  # known before the search, not after
        result = call(command, photo, "--out", "file/folder")
        assert result.exit_code == 1
        assert "Nothing can be written to" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_name_that_leaves_no_room_for_the_results_is_refused_before_the_search(call, photo):
    name = "a" * 251 + ".png"
    shutil.copy(photo, name)
    for command in (["align"], ["invert"], ["restore", "--degradation", "blur"]):
        result = call(command[0], name, *command[1:])
        assert result.exit_code == 1
        assert "There can be no folder" in result.stderr
        assert "projecting" not in result.stderr
    assert _files(Path()) == {name}


def test_a_tilde_in_quotes_is_the_home_directory(call, photo, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    shutil.copy(photo, tmp_path / "home" / "me.png")
    assert call("align", "~/me.png", "--size", 64, "--out", "~/crops").exit_code == 0
    assert _files(tmp_path / "home" / "crops") == {"aligned.png", "alignment.png"}
    assert _files(tmp_path) == {"home"}


def test_help_is_shown_on_a_console_without_greek_letters(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "ex5lib", "restore", "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?_w" in done.stdout
    assert b"130 if it was interrupted" in b" ".join(done.stdout.split())


def test_the_module_runs_and_exits_with_1(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "ex5lib", "align", "nothing.png"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "error: There is no file nothing.png: check its name and folder."


def test_a_video_shows_the_search_beside_what_is_searched_for(call, aligned, quick):
    options = [*quick, "--recipe", "smoke", "--num-steps", 8, "--video"]
    result = call("restore", aligned, "--degradation", "grayscale", *options)
    assert result.exit_code == 0
    folder = Path("results/aligned-grayscale")
    assert _files(folder) == RUN_FILES | {"degraded.png", "composite.png", "search.webp"}
    with Image.open(folder / "search.webp") as moving:
        assert (moving.n_frames, moving.size) == (9, (512, 256))  # 8 steps and the result
        moving.seek(8)
        last = np.asarray(moving.convert("RGB"), dtype=float)
    run = ex5lib.Projection.load(folder)
    for half, image in ((last[:, :256], run.target), (last[:, 256:], run.image)):
        expected = (resize(image, 256)[0].permute(1, 2, 0).numpy().clip(-1, 1) + 1) * 127.5
        assert np.abs(half - expected).mean() < 6


def test_report_says_what_is_wrong_before_it_runs_anything(call):
    for arguments, sentence in (
        (["--photo", "nobody.jpg"], "There is no file nobody.jpg"),
        (["--recipe", "quick"], 'There is no recipe "quick"'),
    ):
        result = call("report", *arguments)
        assert result.exit_code == 1
        assert sentence in result.stderr
    assert list(Path().iterdir()) == []

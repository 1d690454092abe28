"""A folder as a job: what is searched again, what is left of earlier results, who searches what, and the table."""

import csv
import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from results_folder import RUN_FILES, files_in

import ex5lib
from ex5lib import errors as e
from ex5lib.cli.album import output_folders, photos_in, skipped
from ex5lib.cli.summary import Row, write_summary
from ex5lib.faces.alignment import crop_quad
from ex5lib.faces.landmarks import ffhq_quad
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.results import begin, check_kept, finish, finished_request
from stylegan2_ada.readers import save_generator


@pytest.fixture
def head(root) -> np.ndarray:
    """The astronaut's head, small enough for the slow detector, which looks for every face."""
    photo = Image.open(root / "data" / "astronaut.png").convert("RGB")
    return np.asarray(photo.crop((90, 0, 390, 300)).resize((200, 200)))


def _rows(path: str) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_searched_past_a_bad_file_and_the_table_says_what_became_of_every_photo(call, album, faces, quick):
    odd, out = "é <b>&\"'#1?%20,.png", Path("results/album-inversion")
    shutil.copy(faces[2], album / odd)
    (album / "broken.png").write_bytes(b"no image")
    (album / "notes.txt").touch()
    command = ["invert", album, "--aligned", *quick, "--batch", 2]
    result = call(*command)
    assert result.exit_code == 1
    assert "3 done, 0 done before, 1 failed" in result.stdout
    assert "skipped 1 file" in result.stdout
    assert files_in(out) == {"a", "b", Path(odd).stem, "summary.csv", "summary.html"}
    assert all(files_in(folder) == RUN_FILES for folder in out.iterdir() if folder.is_dir())
    rows = {row["photo"]: row for row in _rows(out / "summary.csv")}
    outcomes = {"a.png": "done", "b.png": "done", "broken.png": "failed", odd: "done"}
    assert {name: row["outcome"] for name, row in rows.items()} == outcomes
    assert "is not an image" in rows["broken.png"]["message"]
    record = json.loads((out / "a" / "metrics.json").read_text())["metrics"]
    assert float(rows["a.png"]["distance"]) == pytest.approx(record["search"]["distance"], rel=1e-5)
    assert float(rows["a.png"]["psnr"]) == pytest.approx(record["result and original"]["psnr"], rel=1e-5)
    page = (out / "summary.html").read_text(encoding="utf-8")
    assert odd in html.unescape(page)
    assert not re.search("<(b|script|link|iframe)[ >]", page)
    links = re.findall('(?:src|href)="([^"]+)"', page)
    assert len(links) == 12
    assert all((out / unquote(link)).exists() for link in links)
    (album / "broken.png").unlink()
    again = call(*command)
    assert (again.exit_code, "0 done, 3 done before, 0 failed" in again.stdout) == (0, True)


def test_names_that_are_not_in_unicode_get_into_the_table_too(tmp_path):
    name = "caf\udce9.png"  # as Python reads the byte E9 of a Latin-1 name
    page = write_summary(tmp_path, [Row(name, "done", "caf\udce9")])
    assert b"caf\xe9.png" in (tmp_path / "summary.csv").read_bytes()
    assert 'src="caf%E9/comparison.png"' in page.read_text(encoding="utf-8")


def test_the_page_shows_whole_photos_before_and_after_the_least_sure_first(tmp_path):
    rows = [Row("sure.png", "done", "sure", numbers={"distance": 0.5, "seconds": 61.2})]
    rows += [Row("group.png", "done", f"group/face{i}", i, {"distance": d}) for i, d in enumerate((0.4, 2.0))]
    rows += [Row("unsure.png", "done", "unsure", numbers={"distance": 1.5}), Row("bad.png", "failed", message="Why.")]
    for name in ("sure", "group", "unsure"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "after.jpg").touch()
    page = write_summary(tmp_path, rows).read_text(encoding="utf-8")
    assert re.findall("<h2>(.+)</h2>", page) == ["bad.png", "group.png", "unsure.png", "sure.png"]
    pictures = [f"{name}/{what}.jpg" for name in ("group", "unsure", "sure") for what in ("before", "after")]
    assert re.findall('src="(.+?)"', page) == pictures  # of a group, the one in which all are restored
    assert "least sure" in page
    for told in ("distance from the photo 0.50 · time 61 s", "face 1 · distance from the photo 2.00", "Why."):
        assert told in " ".join(page.split())
    assert "PSNR" not in page  # there are none


def test_what_is_replaced_under_its_name_is_searched_again_and_what_is_renamed_is_not(call, album, faces, quick, small):
    for name, rows in (("mask", slice(60, 120)), ("other", slice(150, 200))):
        mask = np.zeros((256, 256), np.uint8)
        mask[rows, 60:200] = 255
        Image.fromarray(mask).save(f"{name}.png")
    G = ex5lib.load_generator(small, device="cpu")
    save_generator(G, "G.safetensors")
    command = ["restore", album, "--degradation", "inpaint", "--mask", "mask.png", "--aligned", *quick]
    command[command.index("--generator") + 1] = "G.safetensors"

    def counts(*more: object) -> str:
        return call(*command, *more).stdout.partition(" failed")[0].splitlines()[-1]

    assert counts() == "2 done, 0 done before, 0"
    first = Image.open("results/album-inpaint/b/degraded.png").tobytes()
    shutil.copy(faces[2], album / "a.png")
    assert counts() == "1 done, 1 done before, 0"
    (album / "a.png").unlink()
    shutil.copy("other.png", "mask.png")
    assert counts() == "1 done, 0 done before, 0"
    assert Image.open("results/album-inpaint/b/degraded.png").tobytes() != first
    next(G.synthesis.parameters()).mul_(1.5)
    save_generator(G, "G.safetensors")
    assert counts() == "1 done, 0 done before, 0"
    Path("mask.png").rename("renamed.png")
    Path("G.safetensors").rename("H.safetensors")
    command[command.index("mask.png")], command[command.index("G.safetensors")] = "renamed.png", "H.safetensors"
    assert counts() == "0 done, 1 done before, 0"
    for more in (("--seed", 1), ("--seed", 1, "--enlarge", 2)):  # other settings, another result
        assert counts(*more) == "1 done, 0 done before, 0"


FINISHED = {"files": ["result.png"], "settings": {"num_steps": 3}, "metrics": {"search": {"num_steps": 3}}}
FINISHED["request"] = {}


@pytest.mark.parametrize(
    "record",
    [
        *([], {}, {"files": 3}, {"files": [], "settings": []}, {"files": [], "faces": 2}),
        FINISHED | {"files": ["composite.png"]},  # which is not there
        FINISHED | {"settings": {"num_steps": 4}},
        FINISHED | {"stopped": True},
        FINISHED | {"settings": {"num_steps": 3, "tune": {"done": 1, "num_steps": 2}}},
        FINISHED | {"faces": [0]},  # which has no result
    ],
)
def test_a_record_that_makes_no_sense_or_is_of_an_unfinished_search_is_no_result(tmp_path, record):
    (tmp_path / "result.png").touch()
    for text, request in ((json.dumps(FINISHED), {}), (json.dumps(record), None), ("", None)):
        (tmp_path / "metrics.json").write_text(text)
        assert finished_request(tmp_path) == request
    begin(tmp_path)


def test_nothing_of_an_earlier_result_stays_and_nothing_of_anybody_else_goes(call, faces, quick):
    command = ["--aligned", *quick, "--out", "here"]
    more = ["--video", "--tune", 1, "--recipe", "smoke", "--num-steps", 8]
    call("restore", faces[0], "--degradation", "grayscale", *command, *more)
    rich = {"degraded.png", "composite.png", "search.webp", "generator.safetensors"}
    assert files_in("here") == RUN_FILES | rich
    assert set(json.loads(Path("here/metrics.json").read_text())["files"]) == (RUN_FILES | rich) - {"metrics.json"}
    with Image.open("here/search.webp") as video:
        assert (video.n_frames, video.size) == (9, (512, 256))  # 8 steps and the result, each beside its target
        video.seek(8)
        last = np.asarray(video.convert("RGB"), dtype=float)
    run = ex5lib.Projection.load("here")
    for half, image in ((last[:, :256], run.target), (last[:, 256:], run.image)):
        assert np.abs(half - to_uint8(resize(image, 256))).mean() < 6
    for name in ("notes.txt", "mine.png", "alignment.png"):  # the last one could be of this program, but is not
        Path("here", name).write_text("of the user")
    call("restore", faces[0], "--degradation", "blur", "--already-degraded", *command)
    users = {"notes.txt", "mine.png", "alignment.png"}
    assert files_in("here") == (RUN_FILES - {"original.png"}) | {"aligned.png"} | users
    call("invert", faces[0], *command)
    assert files_in("here") == RUN_FILES | users


def test_an_interrupted_write_is_never_taken_for_done_and_is_cleaned_up_after(tmp_path):
    (tmp_path / "result.png").touch()
    finish(tmp_path, ["result.png"], FINISHED)
    begin(tmp_path, ["result.png", "aligned.png"])
    (tmp_path / "aligned.png").touch()  # and here the process is killed
    assert finished_request(tmp_path) is None
    (tmp_path / "composite.png").write_text("of the user")
    begin(tmp_path, ["result.png"])
    finish(tmp_path, ["result.png"], FINISHED)
    assert finished_request(tmp_path) == {}
    assert files_in(tmp_path) == {"metrics.json", "result.png", "composite.png"}


def test_a_list_cannot_have_other_files_removed_and_one_without_a_list_is_of_the_first_versions(tmp_path):
    folder = tmp_path / "here"
    for name in ("../outside.png", "notes.txt", "face0/a.png", "result.png", "composite.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    foreign = ["../outside.png", "notes.txt", "face0/a.png", "..", None, 3, "result.png"]
    for listed in (foreign, "result.png", {"result.png": 1}, None):
        (folder / "metrics.json").write_text(json.dumps({"files": listed, "faces": [0, -1, "..", None]}))
        begin(folder)
        finish(folder, [], {})
    assert files_in(folder) == {"metrics.json", "notes.txt", "face0", "composite.png"}
    assert (tmp_path / "outside.png").exists()
    assert files_in(folder / "face0") == {"a.png"}
    for name in ("face1/result.png", "face2/result.png", "face2/notes.txt", "face3/result.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        (folder / name).with_name("metrics.json").write_text(json.dumps({"files": ["result.png"]}))
    (folder / "metrics.json").write_text(json.dumps({"metrics": {}, "settings": {}, "faces": [1, 2]}))
    begin(folder, ["losses.png"])
    assert files_in(folder) == {".unfinished.json", "notes.txt", "face0", "face2", "face3"}
    assert files_in(folder / "face2") == {"notes.txt"}
    with pytest.raises(ValueError, match="must be listed"):
        begin(folder, ["new.png"])


def test_what_a_result_is_made_from_is_safe_from_it_also_behind_links_and_in_the_folders_of_faces(tmp_path):
    here, link = tmp_path / "here", tmp_path / "link.png"
    for name in ("original.png", "face0/original.png", "face12/result.png", "b/result.png", "a.png", "../me.png"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    link.symlink_to("here/face0/original.png")  # the file itself lies in the way
    (here / "result.png").symlink_to("../me.png")  # only the link does
    for path in (*map(here.joinpath, ("original.png", "face0/original.png", "face12/result.png", "result.png")), link):
        with pytest.raises(e.FileError, match=f"{path} would be replaced by a file of the result"):
            check_kept(here, [path])
    check_kept(here, [here / "a.png", here / "b" / "result.png", tmp_path / "me.png"])


def test_a_result_that_would_replace_what_it_is_made_from_is_refused(call, faces, quick):
    Path("here/inversion").mkdir(parents=True)
    options = ["--aligned", "--num-steps", 3, "--device", "cpu", "--out", "here"]
    for name, command in (
        ("original.png", ["invert", "here/original.png", *options]),
        ("composite.png", ["restore", faces[0], "--degradation", "inpaint", "--mask", "here/composite.png", *options]),
        ("generator.safetensors", ["invert", faces[0], "--generator", "here/generator.safetensors", *options]),
        ("inversion/photo.png", ["demo", "here/inversion/photo.png", *quick, "--out", "here"]),
    ):
        Image.fromarray(np.eye(64) > 0).save(f"here/{name}", "PNG")
        content = Path("here", name).read_bytes()
        result = call(*command)
        assert (result.exit_code, f"{name} would be replaced" in result.stderr) == (1, True), result.output
        assert Path("here", name).read_bytes() == content
        assert len(files_in("here")) == 1 + (name[0] != "i")
        Path("here", name).unlink()
    for place, face in (("b.png", 1), ("result.png", 0)):  # b.png's results go to here/b, where there is a result.png
        Path("here/b").mkdir(exist_ok=True)
        shutil.copy(faces[face], f"here/b/{place}")
    kept = Path("here/b/result.png").read_bytes()
    result = call("invert", "here/b", "--aligned", *quick, "--out", "here")
    assert "1 done, 0 done before, 1 failed" in result.stdout
    assert Path("here/b/result.png").read_bytes() == kept


def test_images_are_told_from_other_files_by_their_suffix_and_no_two_share_a_folder(tmp_path):
    names = ["a.jfif", "b.AVIF", "c.gif", "d.HEIC", "e.heif", "f.jpeg", "gone.png"]
    for name in [*names[:-1], "._a.jpg", ".hidden.png", "x.TXT", "y.txt", "z.mp4", "Makefile"]:
        (tmp_path / name).touch()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "folder.png").mkdir()
    photos, others = photos_in(tmp_path)
    assert [path.name for path in photos] == names
    assert skipped(others) == "skipped 4 files that are not images: 1 .mp4, 2 .txt, 1 without a suffix"
    names = ["a.png", "A.jpg", "b.png", "b.png.jpg", "summary.csv.png", "c.png", "d.e.png"]
    folders = output_folders([Path(name) for name in names], Path("out")).values()
    assert [folder.name for folder in folders] == ["a.png", "A.jpg", "b", "b.png.jpg", "summary.csv.png", "c", "d.e"]


@pytest.mark.parametrize("folder", [False, True])
def test_ctrl_c_keeps_what_was_found_and_ends_a_folder(call, album, quick, monkeypatch, folder):
    rate, calls = Stage.rate, []

    def interrupt(stage, t):
        calls.append(t)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return rate(stage, t)

    monkeypatch.setattr(Stage, "rate", interrupt)
    result = call(
        "invert", album if folder else album / "a.png", "--aligned", *quick, "--num-steps", 40, "--out", "out"
    )
    assert result.exit_code == (130 if folder else 0)
    assert re.search(r"stopped after \d of 40 steps", result.stdout)
    assert ("0 done, 0 done before, 0 failed, 2 not done" in result.stdout) == folder  # no further photo was begun
    assert ex5lib.Projection.load("out/a" if folder else "out").stopped


def test_all_faces_of_a_photo_are_searched_each_in_its_folder(call, head, quick, tmp_path, astronaut):
    (tmp_path / "album").mkdir()
    Image.fromarray(np.hstack([head, head[:, ::-1]])).save("album/a.png")
    command = ["invert", "album", "--all-faces", *quick, "--out", "out"]
    result = call(*command)
    assert result.exit_code == 0, result.output
    found = ex5lib.align_face("album/a.png", every=True)
    assert files_in("out/a") == {"metrics.json", "photo.png", "before.jpg", "after.jpg", "face0", "face1"}
    for preview, whole in (("before", "album/a.png"), ("after", "out/a/photo.png")):
        small, large = (np.asarray(Image.open(path), float) for path in (f"out/a/{preview}.jpg", whole))
        assert np.abs(small - large).mean() < 4
    whole, photo = (np.asarray(Image.open(path)).astype(int) for path in ("out/a/photo.png", "album/a.png"))
    for i in (0, 1):
        x, y = found.detections[i].landmarks.mean(axis=0).astype(int)
        assert np.abs(whole - photo)[y - 13 : y + 13, x - 13 : x + 13].mean() > 10  # both were put back
        cropped = np.asarray(Image.open(f"out/a/face{i}/original.png")).astype(int)
        assert files_in(f"out/a/face{i}") == RUN_FILES | {"alignment.png", "photo.png"}
        alone = to_uint8(crop_quad(found.photo, ffhq_quad(found.detections[i].landmarks), 32))
        assert np.abs(cropped - alone).mean() < 8  # a generator this small gets a crop of 256 px, scaled down
    assert (whole[-20:] == photo[-20:]).all()
    assert [row["face"] for row in _rows("out/summary.csv")] == ["0", "1"]
    assert "0 done, 1 done before" in call(*command).stdout
    shutil.rmtree("out/a/face1")
    kept = Path("out/a/face0/projection.npz").stat().st_mtime_ns
    assert "1 done, 0 done before" in call(*command).stdout
    assert Path("out/a/face0/projection.npz").stat().st_mtime_ns == kept
    assert [face.index for face in astronaut.every()] == [0]  # of patches on the suit the detector is not sure


def test_of_all_faces_those_without_damage_are_left_alone(call, head, quick, root):
    Image.fromarray(np.hstack([head, head[:, ::-1]])).save("two.png")
    Image.open(root / "data" / "astronaut.png").crop((90, 0, 390, 300)).save("sound.png")
    masked = ["--degradation", "inpaint", "--mask", "mask.png"]
    mask = np.zeros((200, 400), np.uint8)
    mask[90:110, 75:105] = 255  # one mouth
    for mask_, photo, degradation, sentence in (
        (mask, "two.png", masked, ""),
        (mask[:, :200] * 0, "sound.png", masked, "touches no face"),
        (mask, "sound.png", ["--degradation", "auto"], "No damage was found in the faces of"),
    ):
        Image.fromarray(mask_).save("mask.png")
        result = call("restore", photo, *degradation, "--all-faces", *quick, "--out", Path(photo).stem)
        assert (result.exit_code, sentence in result.stderr) == (bool(sentence), True)
    assert "face 0: no damage was found, so it is left alone" in result.stdout
    assert len([name for name in files_in("two") if name.startswith("face")]) == 1
    assert not Path("sound").exists()


def test_all_faces_are_put_back_with_what_was_found_of_their_damage(call, head, quick):
    """The search begins at colours that are intact, and finds others."""
    sepia = head @ np.array([[0.393, 0.349, 0.272], [0.769, 0.686, 0.534], [0.189, 0.168, 0.131]])
    Image.fromarray(sepia.clip(0, 255).astype(np.uint8)).save("old.png", dpi=(100, 100))
    command = ["restore", "old.png", "--degradation", "auto", "--all-faces", "--enlarge", 2, "--out", "out"]
    result = call(*command, *quick)
    assert result.exit_code == 0
    assert "  face 0: it has one tint" in result.stdout
    assert result.stdout.count("  photo.png is 2 times larger: 400 × 400 px") == 2  # that of the face, that of all
    assert Image.open("out/photo.png").info["dpi"] == pytest.approx((200, 200), abs=0.1)
    photo, together, alone = (ex5lib.load_image(path) for path in ("old.png", "out/photo.png", "out/face0/photo.png"))
    x, y = ex5lib.align_face(photo, size=64).landmarks[27:48].astype(int).T * 2  # of nose and eyes; then, the seam
    photo = resize(photo, 400)
    change, difference = ((one - alone)[0, :, y, x].abs().max() for one in (photo, together))
    assert difference < 0.1 * change

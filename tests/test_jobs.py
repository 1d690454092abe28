"""A folder as a job: what is searched again, what is left of earlier results, who searches what, and the table."""

import csv
import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image

import ex5lib
from ex5lib import errors as e
from ex5lib import figures
from ex5lib.cli.album import claimed, output_folders, parse_share, photos_in, skipped
from ex5lib.cli.summary import Row, write_summary
from ex5lib.faces.alignment import AlignedFace, crop_quad
from ex5lib.faces.detection import Detection
from ex5lib.faces.landmarks import ffhq_quad
from ex5lib.faces.masks import fitted_mask
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.restoration.results import begin, finish, finished_request
from stylegan2_ada.readers import save_generator

RUN_FILES = {
    "comparison.png", "iterations.png", "losses.png", "metrics.json", "original.png", "projection.npz", "result.png",
}  # fmt: skip


@pytest.fixture(scope="session")
def faces(small, tmp_path_factory) -> list[Path]:
    """Four aligned faces, as far as the small generator makes faces."""
    folder, G = tmp_path_factory.mktemp("faces"), ex5lib.load_generator(small, device="cpu")
    with torch.no_grad():
        made = [resize(G.synthesis(ex5lib.sample_ws(G, seed)), 256) for seed in range(4)]
    return [ex5lib.save_image(image, folder / f"{i}.png") for i, image in enumerate(made)]


@pytest.fixture
def album(faces, tmp_path) -> Path:
    (tmp_path / "album").mkdir()
    for name, face in zip("ab", faces, strict=False):
        shutil.copy(face, tmp_path / "album" / f"{name}.png")
    return tmp_path / "album"


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _rows(path: str) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_is_replaced_under_its_name_is_searched_again_and_what_is_renamed_is_not(call, album, faces, quick, small):
    for name, rows in (("mask", slice(60, 120)), ("other", slice(150, 200))):
        mask = np.zeros((256, 256), np.uint8)
        mask[rows, 60:200] = 255
        Image.fromarray(mask).save(f"{name}.png")
    G = ex5lib.load_generator(small, device="cpu")
    save_generator(G, "G.safetensors")
    command = ["restore", album, "--degradation", "inpaint", "--mask", "mask.png", "--aligned", *quick]
    command[command.index("--generator") + 1] = "G.safetensors"

    def counts() -> str:
        return call(*command).stdout.partition(" failed")[0].splitlines()[-1]

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
    Path("results/album-inpaint/b/result.png").unlink()
    assert counts() == "1 done, 0 done before, 0"


def test_nothing_of_an_earlier_result_stays_and_nothing_of_anybody_else_goes(call, faces, quick):
    command = ["--aligned", *quick, "--out", "here"]
    call("restore", faces[0], "--degradation", "grayscale", "--video", "--tune", 1, *command)
    rich = {"degraded.png", "composite.png", "search.webp", "generator.safetensors"}
    assert _files(Path("here")) == RUN_FILES | rich
    assert set(json.loads(Path("here/metrics.json").read_text())["files"]) == (RUN_FILES | rich) - {"metrics.json"}
    for name in ("notes.txt", "mine.png", "alignment.png"):  # the last one could be of this program, but is not
        Path("here", name).write_text("of the user")
    call("restore", faces[0], "--degradation", "blur", "--already-degraded", *command)
    assert _files(Path("here")) == (RUN_FILES - {"original.png"}) | {
        "aligned.png", "notes.txt", "mine.png", "alignment.png",
    }  # fmt: skip
    call("invert", faces[0], *command)
    assert _files(Path("here")) == RUN_FILES | {"notes.txt", "mine.png", "alignment.png"}


def test_an_interrupted_write_is_never_taken_for_done_and_is_cleaned_up_after(call, album, quick, monkeypatch):
    (album / "b.png").unlink()
    command = ["restore", album, "--aligned", *quick, "--out", "here", "--degradation"]
    call(*command, "blur")
    Path("here/a/composite.png").write_text("of the user")
    save, names = figures.save_figure, []

    def killed(figure, path, dpi=120):
        names.append(path.name)
        if path.name == "losses.png":
            raise SystemError("as if the process were killed here")
        return save(figure, path, dpi)

    with monkeypatch.context() as patch:
        patch.setattr(figures, "save_figure", killed)
        with pytest.raises(SystemError):
            call(*command, "blur", "--seed", 1, "--already-degraded")
    assert names == ["comparison.png", "iterations.png", "losses.png"]
    assert {"aligned.png", "composite.png"} < _files(Path("here/a"))
    assert not {"metrics.json", "original.png"} & _files(Path("here/a"))
    result = call(*command, "blur")
    assert "1 done, 0 done before" in result.stdout
    assert _files(Path("here/a")) == RUN_FILES | {"degraded.png", "composite.png"}
    assert Path("here/a/composite.png").read_text() == "of the user"


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
    assert _files(folder) == {"metrics.json", "notes.txt", "face0", "composite.png"}
    assert (tmp_path / "outside.png").exists()
    assert _files(folder / "face0") == {"a.png"}
    (folder / "metrics.json").write_text(json.dumps({"metrics": {}, "settings": {}, "request": {}}))
    begin(folder, ["losses.png"])
    assert _files(folder) == {".unfinished.json", "notes.txt", "face0"}
    with pytest.raises(ValueError, match="must be listed"):
        begin(folder, ["new.png"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": 3}', '{"files": [], "settings": []}', '{"files": [], "faces": 2}']
)
def test_a_record_that_makes_no_sense_is_no_result(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    assert finished_request(tmp_path) is None
    begin(tmp_path)


def test_a_result_that_would_replace_what_it_is_made_from_is_refused(call, faces, quick):
    for command, name in (
        (["invert", "here/original.png"], "original.png"),
        (["restore", faces[0], "--degradation", "inpaint", "--mask", "here/composite.png"], "composite.png"),
        (["invert", faces[0], "--generator", "here/generator.safetensors"], "generator.safetensors"),
    ):
        Path("here").mkdir(exist_ok=True)
        shutil.copy(faces[0], f"here/{name}")
        if "--mask" in command:
            Image.fromarray(np.eye(64) > 0).save(f"here/{name}")
        result = call(*command, "--aligned", "--num-steps", 3, "--device", "cpu", "--out", "here")
        assert result.exit_code == 1
        assert f"{name} would be replaced by a file of the result" in result.stderr
        assert _files(Path("here")) == {name}
        Path("here", name).unlink()


def test_what_a_result_is_made_from_is_safe_in_folders_of_faces_behind_links_and_beside_other_photos(
    call, faces, quick, tmp_path
):
    options = ["--aligned", *quick, "--out", "here"]
    for name in ("here/face0/original.png", "here/face12/result.png", "here/b/result.png", "me.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(faces[0], name)
    Path("link.png").symlink_to("here/face0/original.png")  # the photo itself lies in the way
    Path("here/original.png").symlink_to("../me.png")  # only the link does
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    for command in (
        ["invert", "here/face0/original.png"],
        ["invert", "here/face12/result.png"],
        ["invert", "link.png"],
        ["invert", "here/original.png"],
        ["demo", "here/inversion/photo.png"],
    ):
        if command[0] == "demo":
            shutil.copytree("here/b", "here/inversion")
            Path("here/inversion/result.png").rename("here/inversion/photo.png")
        result = call(*command, *(options[1:] if command[0] == "demo" else options))
        assert (result.exit_code, "would be replaced by a file" in result.stderr) == (1, True), (command, result.output)
    shutil.copy(faces[1], "here/b/b.png")
    result = call("invert", "here/b", *options)  # b.png's results go to here/b, where there is a result.png to search
    assert "1 done, 0 done before, 1 failed" in result.stdout
    assert "here/b/result.png would be replaced" in result.stderr
    assert {path: path.read_bytes() for path in kept} == kept


def test_all_faces_are_put_back_with_what_was_found_of_their_damage(call, root, quick):
    """The search begins at colours that are intact, and finds others."""
    intact = np.asarray(Image.open(root / "data" / "astronaut.png").convert("RGB"))
    sepia = intact @ np.array([[0.393, 0.349, 0.272], [0.769, 0.686, 0.534], [0.189, 0.168, 0.131]])
    Image.fromarray(sepia.clip(0, 255).astype(np.uint8)).save("old.png")
    result = call("restore", "old.png", "--degradation", "auto", "--all-faces", "--out", "out", *quick)
    assert result.exit_code == 0
    assert "  face 0: it has one tint" in result.stdout
    assert "the face is done" in result.stdout
    photo, together, alone = (ex5lib.load_image(path) for path in ("old.png", "out/photo.png", "out/face0/photo.png"))
    x, y = ex5lib.align_face(photo, size=64).landmarks[27:48].astype(int).T  # of nose and eyes; further out, the seam
    change, difference = ((one - alone)[0, :, y, x].abs().max() for one in (photo, together))
    assert difference < 0.1 * change


def test_images_of_every_kind_are_searched_and_what_is_skipped_is_said(call, tmp_path, faces, quick):
    folder = tmp_path / "album"
    folder.mkdir()
    names = ["a.jfif", "b.AVIF", "c.gif", "d.HEIC", "e.heif", "f.jpeg", "gone.png"]
    for name in [*names, "._a.jpg", ".hidden.png", "x.TXT", "y.txt", "z.mp4", "Makefile"]:
        (folder / name).touch()
    (folder / "gone.png").unlink()
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "folder.png").mkdir()
    photos, others = photos_in(folder)
    assert [path.name for path in photos] == names
    assert skipped(others) == "skipped 4 files that are not images: 1 .mp4, 2 .txt, 1 without a suffix"
    for path in photos:
        path.unlink()
    for name, options in (("a.jfif", {"format": "JPEG"}), ("b.AVIF", {}), ("c.gif", {})):
        Image.open(faces[0]).convert("RGB").save(folder / name, **options)
    result = call("invert", folder, "--aligned", *quick, "--batch", 3)
    assert "skipped 4 files" in result.stdout
    assert "3 done, 0 done before, 0 failed" in result.stdout
    assert result.exit_code == 0


def test_no_two_photos_share_a_results_folder():
    names = ["a.png", "A.jpg", "b.png", "b.png.jpg", "summary.csv.png", "c.png", "d.e.png"]
    folders = output_folders([Path(name) for name in names], Path("out"))
    found = [folder.name for folder in folders.values()]
    assert found == ["a.png", "A.jpg", "b", "b.png.jpg", "summary.csv.png", "c", "d.e"]


def test_shares_are_parts_of_the_sorted_names_that_leave_nothing_out(call, album, faces, quick):
    shutil.copy(faces[2], album / "c.png")
    result = call("invert", album, "--aligned", *quick, "--shard", "1/2")
    assert "2 done" in result.stdout
    assert [row["photo"] for row in _rows("results/album-inversion/summary-1-of-2.csv")] == ["a.png", "c.png"]
    assert "1 done, 0 done before" in call("invert", album, "--aligned", *quick, "--shard", "2/2").stdout
    assert "0 done, 3 done before" in call("invert", album, "--aligned", *quick).stdout
    assert len(_rows("results/album-inversion/summary.csv")) == 3
    assert "0 done, 0 done before" in call("invert", album, "--aligned", *quick, "--shard", "7/9").stdout
    assert "--shard needs a folder" in call("invert", faces[0], "--aligned", *quick, "--shard", "1/2").stderr
    for text in ("0/2", "3/2", "1", "1/0", "a/2", "1/2/3", "-1/2", "½/2"):
        with pytest.raises(e.SettingError, match="is not a share"):
            parse_share(text)


def test_two_processes_on_a_folder_share_the_work(album, faces, quick, tmp_path):
    for i in (2, 3):
        shutil.copy(faces[i], album / f"{i}.png")
    command = [
        sys.executable,
        "-m",
        "ex5lib",
        "invert",
        album,
        "--aligned",
        *map(str, quick),
        "--out",
        tmp_path / "out",
    ]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    begun = [line for out, _ in outputs for line in out.splitlines() if line.endswith(".png:")]
    assert sorted(begun) == [f"{name}.png:" for name in "23ab"]  # each by one of them
    assert _files(tmp_path / "out") == {*"23ab", "summary.csv", "summary.html"}  # and no claim is left


def test_a_claimed_photo_is_left_to_its_process_until_that_is_killed(call, album, quick):
    code = (
        "import sys, time; from pathlib import Path; from ex5lib.cli.album import claimed\n"
        "with claimed(Path(sys.argv[1]), Path('a.png')) as mine:\n    print(mine, flush=True); time.sleep(999)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, "out"], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        result = call("invert", album, "--aligned", *quick, "--out", "out")
        assert result.exit_code == 0
        assert "1 done, 0 done before, 0 failed, 1 in another process" in result.stdout
        assert [row["outcome"] for row in _rows("out/summary.csv")] == ["in another process", "done"]
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with claimed(Path("out"), Path("a.png")) as mine:
        assert mine
    assert "1 done, 1 done before, 0 failed," in call("invert", album, "--aligned", *quick, "--out", "out").stdout


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.text, self.tags = [], "", set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_table_says_what_became_of_every_photo(call, album, faces, quick):
    odd = "é <b>&\"'#1?%20,.png"
    shutil.copy(faces[2], album / odd)
    (album / "broken.png").write_bytes(b"no image")
    result = call("invert", album, "--aligned", *quick)
    assert result.exit_code == 1
    assert "summary in results/album-inversion/summary.html" in result.stdout
    out = Path("results/album-inversion")
    rows = {row["photo"]: row for row in _rows(out / "summary.csv")}
    assert list(rows) == ["a.png", "b.png", "broken.png", odd]
    assert [row["outcome"] for row in rows.values()] == ["done", "done", "failed", "done"]
    assert "is not an image" in rows["broken.png"]["message"]
    record = json.loads((out / "a" / "metrics.json").read_text())["metrics"]
    assert float(rows["a.png"]["distance"]) == pytest.approx(record["search"]["distance"], rel=1e-5)
    assert float(rows["a.png"]["psnr"]) == pytest.approx(record["result and original"]["psnr"], rel=1e-5)
    page = _Links()
    page.feed((out / "summary.html").read_text(encoding="utf-8"))
    assert odd in page.text
    assert not page.tags & {"b", "script", "link", "iframe"}
    assert len(page.links) == 6
    assert all((out / unquote(link)).exists() for link in page.links)


def test_names_that_are_not_in_unicode_get_into_the_table_too(tmp_path):
    name = "caf\udce9.png"  # as Python reads the byte E9 of a Latin-1 name
    page = write_summary(tmp_path, [Row(name, "done", "caf\udce9")])
    assert b"caf\xe9.png" in (tmp_path / "summary.csv").read_bytes()
    assert 'src="caf%E9/comparison.png"' in page.read_text(encoding="utf-8")


def test_all_faces_of_a_photo_are_searched_each_in_its_folder(call, root, quick, tmp_path):
    (tmp_path / "album").mkdir()
    one = np.asarray(Image.open(root / "data" / "astronaut.png"))
    Image.fromarray(np.hstack([one, one[:, ::-1]])).save("album/a.png")
    command = ["invert", "album", "--all-faces", *quick, "--out", "out"]
    result = call(*command)
    assert result.exit_code == 0, result.output
    found = ex5lib.align_face("album/a.png")
    faces = [i for i, detection in enumerate(found.detections) if detection.sure]
    assert len(faces) == 2  # and the patches on the suit, which the detector doubts, are none
    names = [f"face{i}" for i in faces]
    assert _files(Path("out/a")) == {"metrics.json", "photo.png", *names}
    whole, photo = (np.asarray(Image.open(path)).astype(int) for path in ("out/a/photo.png", "album/a.png"))
    for i in faces:
        x, y = found.detections[i].landmarks.mean(axis=0).astype(int)
        assert np.abs(whole - photo)[y - 20 : y + 20, x - 20 : x + 20].mean() > 10  # both were put back
    assert (whole[-60:] == photo[-60:]).all()
    for i, name in zip(faces, names, strict=True):
        cropped = np.asarray(Image.open(f"out/a/{name}/original.png")).astype(int)
        assert _files(Path("out/a", name)) == RUN_FILES | {"alignment.png", "photo.png"}
        alone = to_uint8(crop_quad(found.photo, ffhq_quad(found.detections[i].landmarks), 32))
        assert np.abs(cropped - alone).mean() < 8  # a generator this small gets a crop of 256 px, scaled down
    assert [row["face"] for row in _rows("out/summary.csv")] == ["0", "1"]
    assert "0 done, 1 done before" in call(*command).stdout
    shutil.rmtree("out/a/face1")
    kept = Path("out/a/face0/projection.npz").stat().st_mtime_ns
    again = call(*command)
    assert "1 done, 0 done before" in again.stdout
    assert Path("out/a/face0/projection.npz").stat().st_mtime_ns == kept
    Path("out/a/face1/notes.txt").touch()
    assert "1 done, 0 done before" in call(*[a for a in command if a != "--all-faces"]).stdout
    assert _files(Path("out/a")) == RUN_FILES | {"alignment.png", "photo.png", "face1"}
    assert _files(Path("out/a/face1")) == {"notes.txt"}


def test_of_all_faces_those_without_damage_are_left_alone(call, root, quick, astronaut):
    photo = root / "data" / "astronaut.png"
    mask = np.zeros((512, 512), np.uint8)
    x, y = astronaut.landmarks[48:68].mean(axis=0).astype(int)
    mask[y - 15 : y + 15, x - 25 : x + 25] = 255
    Image.fromarray(mask).save("mask.png")
    command = [
        "restore",
        photo,
        "--degradation",
        "inpaint",
        "--mask",
        "mask.png",
        "--all-faces",
        *quick,
        "--out",
        "out",
    ]
    assert call(*command).exit_code == 0
    assert {name for name in _files(Path("out")) if name.startswith("face")} == {"face0"}
    Image.new("L", (512, 512)).save("mask.png")
    result = call(*command)
    assert (result.exit_code, "touches no face" in result.stderr) == (1, True)
    result = call("restore", photo, "--degradation", "auto", "--all-faces", *quick, "--out", "sound")
    assert (result.exit_code, Path("sound").exists()) == (1, False)
    assert "face 0: no damage was found, so it is left alone" in result.stdout
    assert "No damage was found in the faces of" in result.stderr


@pytest.fixture
def cropped() -> AlignedFace:
    """A face of 100 px whose upper left corner is at (200, 100) in a photo of 400 × 400 px."""
    quad = np.array([(200, 100), (200, 200), (300, 200), (300, 100)]) - 0.5
    found = Detection(quad, 1.0, np.zeros((68, 2)), 0, "hog", 0.0, True)
    return AlignedFace(torch.zeros(1, 3, 100, 100), np.zeros((68, 2)), quad, torch.zeros(1, 3, 400, 400), (found,), 0)


@pytest.mark.parametrize("size", [100, 200, 400, 1024])
def test_a_square_mask_of_any_size_lies_on_the_square_photo(cropped, size):
    mask = torch.zeros(1, 1, size, size)
    mask[:, :, size // 8 : 3 * size // 8, 3 * size // 8 : 7 * size // 8] = 1  # rows 50 to 150, columns 150 to 350
    fitted = fitted_mask(mask, cropped)
    assert fitted.shape == (1, 1, 100, 100)
    assert fitted[:, :, :46].min() > 0.9
    assert fitted[:, :, 54:].max() < 0.1
    assert torch.equal(fitted_mask(mask, cropped, "photo"), fitted)
    assert torch.equal(fitted_mask(mask, cropped, "crop"), mask)


def test_masks_that_fit_neither_photo_nor_crop_are_refused(cropped):
    wide = AlignedFace(
        cropped.image, cropped.landmarks, cropped.quad, torch.zeros(1, 3, 300, 400), cropped.detections, 0
    )
    square, like_wide, tall = torch.ones(1, 1, 64, 64), torch.ones(1, 1, 150, 200), torch.ones(1, 1, 200, 150)
    assert fitted_mask(like_wide, wide).shape == (1, 1, 100, 100)
    assert fitted_mask(square, wide) is square
    for mask, face, on, sentence in (
        (tall, wide, None, "150 × 200 px: a mask must be square, or drawn on the whole photo"),
        (square, wide, "photo", "must be 400 × 300 px, like the photo"),
        (like_wide, wide, "crop", "must be square, like the aligned face"),
        (tall, cropped, None, "must be square"),
    ):
        with pytest.raises(e.SettingError, match=sentence):
            fitted_mask(mask, face, on)


def test_what_was_painted_where_can_be_said(call, root, faces, quick):
    mask = np.zeros((512, 512), np.uint8)
    mask[:100, :100] = 255  # far from the face
    Image.fromarray(mask).save("mask.png")
    command = ["restore", root / "data" / "astronaut.png", "--degradation", "inpaint", "--mask", "mask.png", *quick]
    assert "lies outside the crop" in call(*command).stderr
    assert call(*command, "--mask-on", "crop").exit_code == 0
    assert 'not on "face"' in call(*command, "--mask-on", "face").stderr

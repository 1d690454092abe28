"""The page's first mode restores whole photos as the command line does, and keeps nothing of other photos."""

import io
import json
import re
import threading
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from explorations import wait_for
from PIL import Image, ImageDraw
from PIL.ImageFilter import GaussianBlur
from test_explorer_messages import JUNK, ask

import ex5lib
from ex5lib.degradations.known import Grayscale
from ex5lib.errors import FileError
from ex5lib.explorer.choices import Choice
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.live import LivePhoto
from ex5lib.explorer.marks import Marks
from ex5lib.explorer.messages import RESTORING
from ex5lib.explorer.page import PageServer
from ex5lib.explorer.restoring import Restoring
from ex5lib.explorer.searching import Searcher
from ex5lib.explorer.subjects import Subject
from ex5lib.images.masks import unpacked
from ex5lib.images.tensors import resize, to_uint8
from ex5lib.inversion.recipes import SMOKE, pick_recipe

PATIENCE = 120  # seconds
DATE = "1954:07:01 12:00:00"


@pytest.fixture
def make(small_generator, distance):
    """A page's restorer, as ``ex5 explore`` makes it, with a search of a second."""
    made: list[Restoring] = []

    def _make(num_steps: int = 3, **more) -> Restoring:
        recipes = {"smoke": pick_recipe(SMOKE, num_steps=num_steps)}
        searcher = Searcher(small_generator, recipes, distance=distance, device="cpu")
        made.append(Restoring(searcher, recipe="smoke", **more))
        return made[-1]

    yield _make
    for one in made:
        one.stop()
        assert one.wait(PATIENCE)


@pytest.fixture(scope="session")
def old(root) -> bytes:
    """A grey, blurred photo as a JPEG file with a date and a thumbnail."""
    picture = Image.open(root / "data" / "president.jpg").convert("L").filter(GaussianBlur(4))
    exif = Image.Exif()
    exif[0x132] = DATE
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=97, exif=exif)
    return content.getvalue()


@pytest.fixture(scope="session")
def group(root) -> bytes:
    """A grey photo of two people, one of them small, and a sound one of a third, as a PNG."""
    picture = Image.new("RGB", (900, 340))
    for i, (name, size) in enumerate(
        (("president.jpg", (180, 204)), ("vice-president.jpg", (300, 340)), ("officer.jpg", (300, 340)))
    ):
        person = Image.open(root / "data" / name).convert("RGB").resize(size)
        picture.paste(person if i == 2 else person.convert("L"), (300 * i, 0))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _state(one: Restoring) -> dict:
    return one.board.values["state"]


def _give(one: Restoring, name: str, content: bytes) -> None:
    """Send a photo in two parts, and wait until it has been looked at."""
    half = len(content) // 2
    for at, part in ((0, content[:half]), (half, content[half:])):
        one.handle({"do": "upload", "name": name, "size": len(content), "at": at}, part)
    assert one.wait(PATIENCE)


def _do(one: Restoring, action: str, **more) -> None:
    one.handle({"do": action} | more)
    assert one.wait(PATIENCE)


def _begin(one: Restoring) -> None:
    """Begin a search, and wait for its first step."""
    begun = threading.Event()
    one.board.listeners.append(lambda values: values.get("progress") and begun.set())
    one.handle({"do": "restore"})
    assert begun.wait(PATIENCE)


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_page_gives_the_photo_that_the_command_writes(make, old, call, quick, tmp_path):
    (tmp_path / "old.jpg").write_bytes(old)
    result = call("restore", "old.jpg", "--recipe", "smoke", "--seed", 3, *quick, "--out", "out")
    assert result.exit_code == 0, result.output
    one = make(seed=3)
    _give(one, "old.jpg", old)
    on = [(switch["label"], switch["on"]) for switch in _state(one)["switches"]]
    assert on == [("Blurred", True), ("No colours", True), ("Faded or toned colours", False)]
    for switch in _state(one)["switches"][:2]:
        assert switch["reason"] in result.output
    _do(one, "restore")
    assert _state(one)["status"].startswith("Done")
    assert one.download("png") == ("old-restored.png", (tmp_path / "out" / "photo.png").read_bytes())

    name, content = one.download("jpg")
    assert name == "old-restored.jpg"
    picture = _opened(content)
    assert (picture.format, picture.getexif()[0x132]) == ("JPEG", DATE)
    written = np.asarray(Image.open(tmp_path / "out" / "photo.png").convert("RGB"), int)
    assert np.abs(np.asarray(picture, int) - written).mean() < 3
    assert re.fullmatch(r"(likely|perhaps|hardly) \(\d\.\d\d\)", *_state(one)["alike"])
    assert "blur of σ" in _state(one)["found"][0]


def test_a_photo_of_few_pixels_grows_on_the_page_as_by_the_command(make, root, call, quick, tmp_path):
    picture = Image.open(root / "data" / "president.jpg").convert("RGB").resize((114, 124), Image.Resampling.LANCZOS)
    picture.save(tmp_path / "old.png", dpi=(72, 72))
    result = call("restore", "old.png", "--recipe", "smoke", *quick, "--out", "out", "--json")
    assert result.exit_code == 0, result.output
    assert "  photo.png is 5 times larger: 570 × 620 px" in result.stderr
    assert json.loads(result.stdout)["enlarged"] == 5
    one = make()
    _give(one, "old.png", (tmp_path / "old.png").read_bytes())
    seen: list[tuple] = []
    one.board.listeners.append(lambda values: values.get("live") and seen.append(_opened(values["live"]).size))
    _do(one, "restore")
    assert one.download("png")[1] == (tmp_path / "out" / "photo.png").read_bytes()
    for suffix in ("png", "jpg"):
        large = _opened(one.download(suffix)[1])
        assert (large.size, large.info["dpi"]) == ((570, 620), pytest.approx((360, 360), abs=0.1))
    assert set(seen) == {(570, 620)}  # also during the search
    _do(one, "switch", damage="Downsample", on=False)
    _do(one, "restore")
    assert _opened(one.download("png")[1]).size == (114, 124)


def test_all_faces_are_those_of_the_command(make, group, call, quick, tmp_path):
    (tmp_path / "group.png").write_bytes(group)
    result = call("restore", "group.png", "--recipe", "smoke", "--all-faces", *quick, "--out", "out")
    assert result.exit_code == 0, result.output
    one = make()
    _give(one, "group.png", group)
    assert (len(_state(one)["faces"]), _state(one)["sure"]) == (3, 3)
    _do(one, "pick", face=None)
    assert _state(one)["face"] is None
    grey = next(switch for switch in _state(one)["switches"] if switch["label"] == "No colours")
    assert grey["reason"].endswith("(2 of 3 faces)")
    _do(one, "restore")
    assert len(_state(one)["alike"]) == 2  # the sound face is left alone
    # The command puts faces together that it has kept with 8 bits.
    made = (group, (tmp_path / "out" / "photo.png").read_bytes(), one.download("png")[1])
    pictures = [_opened(content).convert("RGB") for content in made]
    assert [picture.size for picture in pictures] == [(900, 340), (3600, 1360), (3600, 1360)]  # as the small one needs
    given, written, shown = (np.asarray(picture.resize((900, 340)), int) for picture in pictures)
    assert np.abs(shown - written).mean() < 0.02 * np.abs(shown - given).mean()


def test_another_answer_has_the_next_seed_and_the_first_one_stays(make, old):
    one = make()
    _give(one, "old.jpg", old)
    _do(one, "restore")
    first = one.download("png")
    _do(one, "another")
    second = one.download("png")
    assert first != second
    _do(one, "show", number=_state(one)["answers"][0])
    assert one.download("png") == first
    assert _state(one)["settled"]
    _do(one, "restore")  # it is there already
    assert len(_state(one)["answers"]) == 2
    other = make(seed=1)
    _give(other, "old.jpg", old)
    _do(other, "restore")
    assert other.download("png") == second


def test_a_switch_decides_what_the_photo_is_treated_for(make, old):
    one = make()
    _give(one, "old.jpg", old)
    asked = one.order
    _do(one, "switch", damage="UnknownBlur", on=False)
    assert one.order != asked
    _do(one, "switch", damage="UnknownBlur", on=True)
    assert one.order == asked
    _do(one, "switch", damage="UnknownBlur", on=False)
    assert [type(D) for _, D in one.order.work(one._subjects)] == [Grayscale]
    _do(one, "switch", damage="UnknownColors", on=True)  # then it is not without colours
    assert {switch["name"]: switch["on"] for switch in _state(one)["switches"]} == {
        "UnknownBlur": False, "Grayscale": False, "UnknownColors": True,
    }  # fmt: skip
    _do(one, "switch", damage="UnknownBlur", on=True)
    ((_, D),) = one.order.work(one._subjects)
    assert [type(part).__name__ for part in D] == ["UnknownBlur", "UnknownColors"]  # in the order of examine
    assert D[0].sigma == one._subjects[0].damages[0].degradation.sigma  # as measured


def _marked(one: Restoring, *rectangle: float) -> bytes:
    """A mask of the photo's marks with a rectangle: left, top, right, bottom in shares of its sides."""
    width, height = _state(one)["mask_size"]
    picture = Image.new("1", (width, height))
    corners = [round(share * side) for share, side in zip(rectangle, 2 * (width, height), strict=True)]
    picture.paste(1, corners)
    return np.packbits(np.asarray(picture)).tobytes()


def _paint(one: Restoring, stroke: int, *rectangle: float) -> None:
    one.handle({"do": "paint", "stroke": stroke, "photo": _state(one)["photo"]}, _marked(one, *rectangle))


def test_what_is_marked_on_the_photo_is_replaced_on_the_face(make, old):
    one = make()
    _give(one, "old.jpg", old)
    (subject,) = one._subjects
    nose = subject.face.landmarks[30]  # the tip
    x, y = nose / _opened(old).size
    _paint(one, 4, x - 0.1, y - 0.05, x + 0.1, y + 0.05)
    assert (_state(one)["stroke"], _state(one)["marked"]) == (4, True)
    ((face, D),) = one.order.work(one._subjects)
    assert [type(part).__name__ for part in D] == ["UnknownBlur", "Grayscale", "Inpaint"]
    painted = np.zeros(_opened(old).size[::-1], np.uint8)
    (left, top), (right, bottom) = (
        (nose + sign * 0.5 * np.array([0.2, 0.1]) * painted.shape[::-1]) for sign in (-1, 1)
    )
    painted[round(top) : round(bottom), round(left) : round(right)] = 255
    expected = np.asarray(face.crop(torch.from_numpy(painted / 127.5 - 1).float().expand(1, 3, -1, -1))[0, 0] > 0)
    made = np.asarray(D[2].mask_for(face.image)[0, 0] > 0.5)
    assert (made & expected).sum() > 0.97 * (made | expected).sum()

    _do(one, "restore")
    first = one.download("png")
    before = _state(one)["answers"]
    _paint(one, 5, 0, 0, 0, 0)
    assert (_state(one)["marked"], _state(one)["settled"]) == (False, False)
    _do(one, "restore")
    assert one.download("png") != first
    _do(one, "show", number=before[0])  # with what was marked for it
    assert (_state(one)["marked"], _state(one)["settled"]) == (True, True)

    _paint(one, 6, 0, 0.95, 0.05, 1)
    assert _state(one)["status"].startswith("This is the answer without your last changes")
    before = one.order
    for action in ("restore", "another"):
        one.handle({"do": action})
        assert _state(one)["status"].startswith("What is marked lies outside the outline")
        assert one.order == before
    _paint(one, 7, 0, 0, 1, 1)
    one.handle({"do": "restore"})
    assert _state(one)["status"].startswith("Too much of the face is marked")


def test_a_stroke_that_is_refused_can_be_taken_back_by_its_page_and_none_comes_to_another_photo(make, old):
    one = make(num_steps=2000)
    _give(one, "old.jpg", old)
    bits = _marked(one, 0.4, 0.4, 0.6, 0.5)
    _begin(one)
    one.handle({"do": "paint", "stroke": 3, "photo": _state(one)["photo"]}, bits)
    assert (_state(one)["error"], _state(one)["stroke"], any(one.board.values["mask"])) == (True, 3, False)
    earlier = _state(one)["photo"]
    _give(one, "again.jpg", old)
    one.handle({"do": "paint", "stroke": 9, "photo": earlier}, bits)
    assert (_state(one)["error"], _state(one)["stroke"], _state(one)["marked"]) == (True, 0, False)


def test_marks_fit_the_face_also_in_a_strip_of_photos(astronaut):
    strip = torch.full((1, 3, 6144, 512), -1.0)
    strip[:, :, 4608:5120] = astronaut.photo
    face = replace(astronaut, photo=strip, quad=astronaut.quad + np.array([0, 4608]))
    marks = Marks.none(strip)
    nose = face.landmarks[30] + np.array([0, 4608])
    mask = torch.zeros(1, 1, 6144, 512)
    mask[:, :, int(nose[1]) - 20 : int(nose[1]) + 20, int(nose[0]) - 20 : int(nose[0]) + 20] = 1
    fitted = marks.read(mask, face).on(face)[0, 0].numpy()
    expected = astronaut.crop(mask[:, :, 4608:5120].expand(-1, 3, -1, -1) * 2 - 1)[0, 0].numpy() > 0
    centres = [np.argwhere(hole).mean(axis=0) / hole.shape[0] for hole in (fitted > 0.5, expected)]
    assert np.abs(centres[0] - centres[1]).max() < 0.02  # the mask's pixels are six of the photo's
    hole = torch.zeros(1, 1, 256, 256)
    hole[:, :, 150:180, 100:160] = 1
    there = marks.read(hole, face).on(face)[0, 0].numpy() > 0.5  # as the second mode saves it
    assert np.abs(np.argwhere(there).mean(axis=0) / len(there) - np.array([165, 130]) / 256).max() < 0.02


def test_what_is_marked_may_come_as_a_file_of_the_photos_proportions(make, old):
    one = make()
    _give(one, "old.jpg", old)
    width, height = _opened(old).size
    for size, words in (((width // 2, height // 2), ""), ((width, width // 3), "the proportions of the whole photo")):
        mask, content = Image.new("L", size), io.BytesIO()
        mask.paste(255, (size[0] // 2, size[1] // 2, *size))
        mask.save(content, "PNG")
        message = {"do": "mask", "name": "mask.png", "size": len(content.getvalue()), "at": 0}
        one.handle(message, content.getvalue())
        wait_for(lambda words=words: _state(one)["marked"] and words in _state(one)["status"])
        marked = np.asarray(unpacked(one.order.marks.bits, one.order.marks.height, one.order.marks.width)[0, 0])
        quarter = np.zeros_like(marked)
        quarter[marked.shape[0] // 2 :, marked.shape[1] // 2 :] = 1
        assert np.abs(marked - quarter).mean() < 0.01


def test_found_scratches_are_shown_where_they_are_and_joined_to_what_is_marked(make, old):
    scratched, content = _opened(old).convert("RGB"), io.BytesIO()
    width, height = scratched.size
    line = [(0.35 * width, 0.2 * height), (0.6 * width, 0.65 * height)]
    ImageDraw.Draw(scratched).line(line, "black", width // 25)
    scratched.save(content, "PNG")
    one = make()
    _give(one, "scratched.png", content.getvalue())
    shown = _opened(one.picture("damage"))
    drawn = Image.new("L", scratched.size)
    ImageDraw.Draw(drawn).line(line, 255, width // 25)
    drawn = np.asarray(drawn.resize(shown.size)) > 127
    seen = np.asarray(shown.getchannel("A")) > 127
    assert (seen & drawn).sum() > 0.95 * drawn.sum()
    assert seen.sum() < 2 * drawn.sum()  # with its soft edges

    ((face, D),) = one.order.work(one._subjects)
    alone = D[-1].mask_for(face.image)
    _paint(one, 1, 0.4, 0.6, 0.6, 0.7)
    ((_, D),) = one.order.work(one._subjects)
    both = D[-1].mask_for(face.image)
    assert (both >= alone - 1e-4).all()
    assert both.sum() > 1.5 * alone.sum()
    _do(one, "switch", damage="Inpaint", on=False)
    assert _state(one)["found_mask"] == ""
    ((_, D),) = one.order.work(one._subjects)
    assert D[-1].mask_for(face.image).sum() < both.sum()
    with pytest.raises(FileError):
        one.picture("damage")


def test_a_photo_of_the_first_mode_can_be_explored_in_the_second(make, old, tmp_path, astronaut):
    first = make()
    exploration = Exploration(
        first._searcher, [Subject(astronaut, "astronaut.png")], Choice(recipe="smoke"), out=tmp_path
    )
    first._looked = exploration.explore
    _give(first, "old.jpg", old)
    state = exploration.board.values["state"]
    assert state["name"] == "old.jpg"
    assert [each["reason"] for each in state["damages"]] == [each.reason for each in first._subjects[0].damages]
    exploration._phase = "searching"  # is not disturbed
    _give(first, "again.jpg", old)
    assert exploration.board.values["state"]["name"] == "old.jpg"


def test_a_search_is_shown_stopped_and_keeps_the_best_so_far(make, old):
    one = make(num_steps=2000)
    _give(one, "old.jpg", old)
    drawn = threading.Event()
    one.board.listeners.append(lambda values: values.get("live") and drawn.set())
    one.handle({"do": "restore"})
    assert drawn.wait(PATIENCE)
    for message in ({"do": "restore"}, {"do": "another"}, {"do": "switch", "damage": "Jpeg", "on": True}):
        one.handle(message)
        assert _state(one)["status"] == "The search is still running: press Stop first."
        assert _state(one)["phase"] == "searching"
    seed = one.order.seed
    frame = _opened(one.board.values["live"])
    assert frame.size == _opened(old).size
    _do(one, "stop")
    assert _state(one)["status"].startswith("Stopped")
    assert (_state(one)["settled"], len(_state(one)["answers"]), seed) == (False, 1, 0)
    assert one.board.values["live"] == b""
    assert _opened(one.download("png")[1]).size == frame.size
    assert all(recipe["time"].startswith("about ") for recipe in _state(one)["recipes"])


def test_another_photo_replaces_everything_also_one_without_a_face(make, old):
    one = make()
    _give(one, "old.jpg", old)
    _do(one, "switch", damage="UnknownBlur", on=False)
    _do(one, "restore")
    assert one.picture("before")
    wall = io.BytesIO()
    Image.new("RGB", (200, 200), "grey").save(wall, "PNG")
    _give(one, "../wall.png", wall.getvalue())
    state = _state(one)
    assert (state["status"], state["error"]) == (
        "No face was found in wall.png: choose a photo with a larger, better-lit face turned to the camera.", True,
    )  # fmt: skip
    assert (state["photo"], state["answers"], state["shown"], state["switches"]) == (0, [], None, [])
    for missing in (lambda: one.picture("before"), lambda: one.download("png"), lambda: one.picture("1")):
        with pytest.raises(FileError):
            missing()
    _do(one, "restore")
    assert _state(one)["status"] == "There is no photo yet: drop, paste or choose one."
    _give(one, "letter.png", b"Dear me, this is not a photo")
    assert _state(one)["status"].startswith("letter.png ")
    assert _state(one)["error"]
    _give(one, "old.jpg", old)
    assert not _state(one)["error"]
    assert all(switch["on"] for switch in _state(one)["switches"] if switch["found"])


def test_a_photo_that_comes_during_a_search_ends_it(make, old):
    one = make(num_steps=2000)
    _give(one, "old.jpg", old)
    _begin(one)
    _give(one, "again.jpg", old)
    assert (_state(one)["name"], _state(one)["answers"], _state(one)["phase"]) == ("again.jpg", [], "ready")
    assert one.board.values["live"] == b""


def test_what_a_page_may_not_ask_for_changes_nothing(make, old):
    one = make()
    _give(one, "old.jpg", old)
    said = ("status", "error", "heard")
    before = {key: value for key, value in _state(one).items() if key not in said}
    file = {"name": "a.png", "size": 9, "at": 0}
    fields = {"upload": file, "mask": file, "paint": {"stroke": 3, "photo": _state(one)["photo"]},
              "switch": {"damage": "Jpeg", "on": True},
              "pick": {"face": 0}, "take": {"recipe": "smoke"}, "show": {"number": 1}}  # fmt: skip
    assert fields.keys() | {"restore", "another", "stop"} == RESTORING.keys()
    for action, right in fields.items():
        for name in right:
            for junk in JUNK:
                right_too = {"face": (None, 0), "on": (True, False), "size": (24,)}.get(name, ())
                if name != "name" and not any(junk is each for each in right_too):
                    data = b"1234567890" if "size" in right or "stroke" in right else b""
                    one.handle({"do": action} | right | {name: junk}, data)
                    assert _state(one)["error"], (action, name, junk)
            one.handle({"do": action} | {key: value for key, value in right.items() if key != name})
            assert _state(one)["error"]
    for message in (None, {}, {"do": "run"}, {"do": "_begin"}, {"do": "restore", "far": 1}, {"do": "handle"}):
        one.handle(message)
        assert _state(one)["error"]
    assert {key: value for key, value in _state(one).items() if key not in said} == before


def test_a_server_has_both_modes_with_pictures_and_a_download(make, old, small_generator, distance, tmp_path):
    one = make()
    _give(one, "old.jpg", old)
    exploration = Exploration(
        one._searcher, [Subject(one._subjects[0].face, "old.jpg")], Choice(recipe="smoke"), out=tmp_path
    )
    with closing(PageServer()) as server:
        server.show(exploration, one)
        token = server.token
        page = ask(server, "GET", "/", token=token)[1].decode()
        for mode in ("Restore my photo", "Explore the search"):
            assert mode in page
        for path in ("/restore.js", "/restore.css", "/crease-before.jpg", "/print-after.jpg", "/blur-after.jpg"):
            assert ask(server, "GET", path, token=token)[0] == 200
        assert _opened(ask(server, "GET", "/picture", token=token, name="before")[1]).size == _opened(old).size
        for name in ("7", "..", "/etc/passwd", ""):
            assert ask(server, "GET", "/picture", token=token, name=name)[0] == 404
        assert ask(server, "GET", "/photo", token=token, **{"as": "png"})[:2] == (
            404, b"There is no restored photo to download yet: press Restore.",
        )  # fmt: skip
        ask(server, "POST", "/send", token=token, mode="restore", message='{"do": "restore"}')
        assert one.wait(PATIENCE)
        assert exploration.result is None
        for suffix, kind in (("png", "image/png"), ("jpg", "image/jpeg")):
            status, content, headers = ask(server, "GET", "/photo", token=token, **{"as": suffix})
            assert (status, headers["Content-Type"]) == (200, kind)
            assert f"old-restored.{suffix}" in headers["Content-Disposition"]
            assert content == one.download(suffix)[1]
        assert ask(server, "GET", "/photo", token=token, **{"as": "exe"})[0] == 404
        number = str(one.answers.numbers[0])
        assert _opened(ask(server, "GET", "/picture", token=token, name=number)[1]).size == _opened(old).size


def test_a_search_in_one_mode_ends_that_of_the_other(make, old, tmp_path):
    one = make(num_steps=2000)
    _give(one, "old.jpg", old)
    _begin(one)
    exploration = Exploration(one._searcher, one._subjects, Choice(recipe="smoke"), out=tmp_path)
    exploration.run()
    exploration.stop()
    assert one.wait(PATIENCE)
    assert exploration.wait(PATIENCE)
    assert _state(one)["status"].startswith("Stopped")


def test_a_preview_appears_where_the_face_is(astronaut):
    photo = resize(astronaut.photo, 2048)
    large = replace(astronaut, photo=photo, quad=4 * (astronaut.quad + 0.5) - 0.5)
    live = LivePhoto(photo)
    live.begin(large, ex5lib.GaussianBlur(25))
    frame = np.asarray(_opened(live.step(resize(-astronaut.image, 128))), int)
    assert frame.shape == (1024, 1024, 3)
    changed = np.abs(frame - to_uint8(resize(photo, 1024)).astype(int)).mean(axis=2)
    x, y = (2 * astronaut.detections[astronaut.index].box.mean(axis=0)).astype(int)
    assert changed[y - 40 : y + 40, x - 40 : x + 40].mean() > 30
    low, high = (2 * astronaut.quad.min(axis=0)).astype(int), (2 * astronaut.quad.max(axis=0)).astype(int)
    outside = np.ones(changed.shape, bool)
    outside[low[1] : high[1] + 1, low[0] : high[0] + 1] = False
    assert changed[outside].mean() < 3
    assert live.step(resize(-astronaut.image, 128)) == b""  # drawing must not slow the search down

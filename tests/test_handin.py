"""What a student hands in: the course's files under its names, complete or not at all, and a latent to start from."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import ex5lib
from ex5lib.course import handin
from ex5lib.errors import FileError, SettingError
from ex5lib.faces.alignment import load_face
from ex5lib.images.loading import load_image
from ex5lib.inversion.latents import starting_latent
from ex5lib.inversion.recipes import pick_recipe
from ex5lib.restoration.pipeline import TASKS, restore_faces
from ex5lib.weights import load_generator


@pytest.fixture(scope="module")
def G(root):
    return load_generator(root / "tests" / "data" / "tf_orig_64.pkl", device="cpu")


@pytest.fixture(scope="module")
def done(G, root, distance):
    """Results of the four tasks, in two steps."""
    face = load_face(root / "benchmarks" / "crops" / "astronaut.jpg", aligned=True, size=64)
    recipe = pick_recipe("smoke", num_steps=2, space="w+")
    settings = {"generator": G, "distance": distance, "device": "cpu", "progress": False}
    return {task: restore_faces([face], degradation, recipe, **settings)[0] for task, degradation in TASKS.items()}


def _notebook(path, **cell) -> None:
    code = {"cell_type": "code", "source": ["1 + 1"], "execution_count": 1, "outputs": []} | cell
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [code]}))


def test_a_hand_in_is_complete_or_says_all_that_is_missing(done, tmp_path, call):
    folder, out = tmp_path / "results", tmp_path / "hand-in.zip"
    folder.mkdir()
    me = ("--name", "Ada Lovelace", "--number", "0042")

    def refused() -> str:
        result = call("submit", folder, *me, "--out", out)
        assert result.exit_code == 1
        assert not out.exists()
        (line,) = result.stderr.strip().splitlines()
        return line

    assert "everything of inversion (the last cell of its notebook writes it); everything of deblurring" in refused()
    for task, restoration in done.items():
        handin.write_task(folder, task, restoration)
    assert f"missing in {folder} or unfinished: 3.1_alignment.ipynb; 3.2_inversion.ipynb; " in refused()
    for name in handin.NOTEBOOKS:
        _notebook(folder / "notebooks" / f"{name}.ipynb")
    assert refused().endswith("unfinished: the report (python -m ex5lib report makes it).")
    (folder / "report.html").write_text("a page")

    (folder / "tasks" / "inpainting" / "loss_plot.png").rename(tmp_path / "plot.png")
    assert refused().endswith("unfinished: loss_plot.png of inpainting.")
    (tmp_path / "plot.png").rename(folder / "tasks" / "inpainting" / "loss_plot.png")
    _notebook(folder / "notebooks" / "3.2_inversion.ipynb", execution_count=None)
    assert "3.2_inversion.ipynb (cells not run" in refused()
    _notebook(folder / "notebooks" / "3.2_inversion.ipynb", outputs=[{"output_type": "error"}])
    assert "3.2_inversion.ipynb (a cell ended in an error)" in refused()
    handing_in = {"source": ["!cd .. && python -m ex5lib submit"], "execution_count": None, "cell_type": "code"}
    _notebook(folder / "notebooks" / "3.2_inversion.ipynb", **handing_in)

    assert "the search of inversion has only 2 steps; the search of deblurring has only 2 steps" in refused()
    (optional,) = (folder / "notebooks" / f"{name}.ipynb" for name in handin.OPTIONAL)
    _notebook(optional, execution_count=None)  # not finished, so that it stays here
    result = call("submit", folder, "--out", tmp_path, "--anyway")  # it still knows who hands in
    assert result.exit_code == 0
    assert "print report.html from a browser" in result.stdout
    with zipfile.ZipFile(tmp_path / "0042-Ada-Lovelace.zip") as archive:
        names = set(archive.namelist())
        latent = np.load(archive.open("colourisation/inverted_latent.npz"))["latent"]
        about = json.loads(archive.read("student.json"))
        picture = Image.open(archive.open("deblurring/final_inverted_image.webp"))
        shown = torch.from_numpy(np.asarray(picture, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    assert (about["name"], about["number"], about["missing"]) == ("Ada Lovelace", "0042", [])
    assert (shown - done["deblurring"].result.clamp(-1, 1)).abs().mean() < 0.05
    np.testing.assert_array_equal(latent, done["colourisation"].run.ws.numpy())
    names_of = "original_image original_degraded_image final_inverted_image intermediate_image_0 intermediate_image_1"
    expected = {f"{task}/{name}.webp" for task in TASKS for name in (*names_of.split(), "intermediate_image_2")}
    expected |= {f"{task}/{name}" for task in TASKS for name in ("inverted_latent.npz", "loss_plot.png")}
    expected |= {f"{task}/composite_image.webp" for task in ("colourisation", "inpainting")}
    expected |= {f"notebooks/{name}.ipynb" for name in handin.NOTEBOOKS} | {"report.html", "student.json"}
    assert names == expected
    (folder / "report.pdf").write_text("printed")
    _notebook(optional)
    assert "print report.html" not in call("submit", folder, "--out", out, "--anyway").stdout
    with zipfile.ZipFile(out) as archive:
        assert f"notebooks/{optional.name}" in archive.namelist()


def test_part_of_a_hand_in_and_unanswered_questions_only_on_request(tmp_path, call):
    folder, out = tmp_path / "results", tmp_path / "part.zip"
    question = {"cell_type": "markdown", "source": ["**1.** Why?\n", "\n", "*Your answer:*\n"]}
    _notebook(folder / "notebooks" / "3.1_alignment.ipynb", **question)

    def told(*options) -> tuple[int, str]:
        result = call("submit", folder, "--out", out, *options)
        return result.exit_code, " ".join((result.stderr or result.stdout).removeprefix("error: ").split())

    assert told() == (1, "It is not known who hands in: give --name and --number.")
    assert told("--name", "Ada", "--number", "7")[0] == 1
    status, said = told("--partial")
    assert (status, said.partition(": ")[2]) == (
        1, "questions without an answer in 3.1_alignment: 1: finish it, or hand it in with --anyway.",
    )  # fmt: skip
    assert not out.exists()
    status, said = told("--partial", "--anyway")
    assert status == 0
    assert "for Ada, 7 without everything of inversion" in said
    with zipfile.ZipFile(out) as archive:
        assert set(archive.namelist()) == {"student.json", "notebooks/3.1_alignment.ipynb"}
        assert len(json.loads(archive.read("student.json"))["missing"]) == 4 + 4 + 1
    question["source"].append("Because.")
    _notebook(folder / "notebooks" / "3.1_alignment.ipynb", **question)
    assert told("--partial")[0] == 0
    assert told("--partial", "--notebooks", tmp_path / "nowhere") == (
        1, f"Nothing was handed in: there is nothing to hand in in {folder}: name your results' folder.",
    )  # fmt: skip


def test_the_images_are_what_their_names_say(done, tmp_path):
    for task in ("deblurring", "inpainting"):
        result = done[task]
        paths = {path.name: path for path in handin.write_task(tmp_path, task, result)}
        images = {
            "original_image": result.original,
            "original_degraded_image": result.target,
            "final_inverted_image": result.result,
            "intermediate_image_0": result.run.snapshots[0],
        }
        for name, image in images.items():
            assert (load_image(paths[f"{name}.png"]) - image.clamp(-1, 1)).abs().max() < 0.01, name
    stale = tmp_path / "tasks" / "deblurring" / "intermediate_image_999.png"
    stale.write_text("of a longer search")
    handin.write_task(tmp_path, "deblurring", done["deblurring"])
    assert not stale.exists()


def test_a_latent_in_the_courses_form_is_a_start(done, tmp_path, G, distance):
    """Also by a recipe that begins in w: its layers stay different."""
    first = done["inversion"]
    path = next(p for p in handin.write_task(tmp_path, "inversion", first) if p.name == "inverted_latent.npz")
    latent = handin.load_latent(path)
    assert torch.equal(latent, first.run.ws)
    assert not torch.equal(latent[:, :1].expand_as(latent), latent)
    for recipe in ("fast", "karras2020"):
        points = []
        run = ex5lib.project(
            G, first.target, start=latent, recipe=recipe, num_steps=3, distance=distance, device="cpu",
            progress=False, callback=lambda report, points=points: points.append(report["latent"].clone()),
        )  # fmt: skip
        assert run.settings["space"] == "w+"
        assert torch.equal(points[0], latent)


@pytest.mark.parametrize("shape", [(512,), (1, 512), (1, 1, 512), (16, 512), (1, 16, 512), (1, 18, 512)])
def test_latents_of_other_projectors_are_a_start_if_they_fit_the_generator(tmp_path, generator, shape):
    latent = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(tmp_path / "latents.npy", latent)
    np.savez(tmp_path / "projected_w.npz", noise=np.zeros(3), w=latent)
    np.savez(tmp_path / "any.npz", dlatents=latent)
    for path in tmp_path.iterdir():
        found = handin.load_latent(path)
        assert found.shape == (1, latent.size // 512, 512)
        assert (found.numpy().flatten() == latent.flatten()).all()
        if shape[1:] == (18, 512):
            with pytest.raises(SettingError, match=r"shape \[1, 16, 512\], but this one has \[1, 18, 512\]"):
                starting_latent(generator, found, "w+", 1)
        else:
            assert starting_latent(generator, found, "w+", 1).shape == (1, 16, 512)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"latent": np.zeros((2, 16, 512))}, r"is \[2, 16, 512\], but must be finite and \[1, num_ws, w_dim\]"),
        ({"latent": np.full((1, 16, 512), np.nan)}, "must be finite"),
        ({"w": np.array("a face")}, "holds no latent"),
        ({"latent": np.array({"a": 1}, dtype=object)}, "holds no latent"),  # a pickle, which is not opened
        (None, "There is no file"),
    ],
)
def test_a_file_that_holds_no_latent_is_refused(tmp_path, call, root, content, message):
    path = tmp_path / "inverted_latent.npz"
    if content is not None:
        np.savez(path, **content)
    with pytest.raises(FileError, match=message):
        handin.load_latent(path)
    result = call("invert", root / "data" / "astronaut.png", "--start", path)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()

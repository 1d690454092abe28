"""A section of the report: what it runs, shows and writes, with an untrained generator, whose searches take seconds."""

import json

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

import ex5lib
from ex5lib import figures, weights
from ex5lib.course import lesson_figures
from ex5lib.course.claims import PROVES_NOTHING
from ex5lib.course.section import notebook_recipe, proves_nothing
from ex5lib.errors import DeviceError, FileError, SettingError
from ex5lib.images.tensors import resize
from ex5lib.inversion.adam import Adam
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.recipes import FAST
from ex5lib.restoration.metrics import compare
from ex5lib.restoration.pipeline import TASKS


@pytest.fixture(scope="module")
def shell() -> InteractiveShell:
    return InteractiveShell.instance()


@pytest.fixture
def section(root, tmp_path, tiny_generator, monkeypatch, shell) -> ex5lib.Section:
    monkeypatch.setattr(weights, "load_generator", lambda *_: tiny_generator)
    return ex5lib.Section("3.2", root / "data" / "astronaut.png", recipe="smoke", out=tmp_path, device="cpu")


def test_a_search_is_run_once_with_the_tasks_settings_and_its_changes(section, capsys):
    first = section.run("deblurring", num_steps=2)
    assert first.run.settings["degradation"] == repr(ex5lib.GaussianBlur(25))
    assert torch.equal(first.target, ex5lib.GaussianBlur(25)(first.original))
    assert section.run("deblurring", num_steps=2) is first
    assert section.run("deblurring", num_steps=2, degraded_by=ex5lib.GaussianBlur(25)) is first  # as it was anyway
    other = section.run("deblurring", num_steps=2, latent_weight=0.5, degradation=ex5lib.GaussianBlur(9))
    assert other.run.settings["latent_weight"] == 0.5
    sharp = section.run("deblurring", num_steps=2, degraded_by=ex5lib.Identity())
    assert torch.equal(sharp.target, sharp.original)
    assert [search["name"] for search in section.searches] == [
        "deblurring, 2 steps",
        "deblurring, searched with kernel 9, 2 steps, λ_w = 0.5",
        "deblurring, 2 steps",
    ]
    quality = compare(first.result, first.original, section.distance)
    assert section.searches[0]["result and original"] == quality
    assert f"2 steps in {first.run.seconds:.0f} s, d {first.run.distance:.3f}" in capsys.readouterr().out


def test_a_search_is_the_librarys_own_with_the_sections_recipe_and_seed(section, tiny_generator):
    """The section adds no setting and draws no random number of its own."""
    small = resize(section.face.image, 64)  # the generator's size
    expected = ex5lib.project(tiny_generator, small, recipe="smoke", seed=0, distance=section.distance, device="cpu")
    found = section.run().run
    assert found.settings == expected.settings
    assert torch.equal(found.image, expected.image)


def test_another_face_is_searched_for_and_compared_with_itself(section, root):
    officer = ex5lib.align_face(root / "data" / "officer.jpg")
    done = section.run("inpainting", num_steps=2, face=officer)
    assert torch.equal(done.original, resize(officer.image, 64))
    far = torch.ones(64, 64, dtype=torch.bool)
    far[36:57, 16:49] = False  # the hole and the band around it
    assert torch.equal(done.composite[..., far], done.original[..., far])
    assert not torch.equal(done.composite, done.original)
    assert section.run("inpainting", num_steps=2) is not done
    assert section.searches[0]["name"] == "inpainting, 2 steps, another photo"


def test_every_task_has_its_degradation(section):
    for name, degradation in TASKS.items():
        assert section.run(name, num_steps=1).run.settings["degradation"] == repr(degradation)
    with pytest.raises(SettingError, match='did you mean "inpainting"'):
        section.run("inpaint")


def test_searches_that_only_look_alike_are_told_apart(section):
    masks = [torch.zeros(64, 64) for _ in range(2)]
    masks[0][10:20, 10:20], masks[1][30:40, 30:40] = 1, 1
    first, second = (section.run("inpainting", num_steps=1, degradation=ex5lib.Inpaint(mask=mask)) for mask in masks)
    assert not torch.equal(first.target, second.target)
    starts = [torch.zeros(1, 32), torch.ones(1, 32)]
    first, second = (section.run(num_steps=1, start=start).run for start in starts)
    assert first.latent_distance != second.latent_distance


def test_a_search_among_other_latents_is_named_and_kept_apart(section, tiny_generator):
    uniform = latent_statistics(tiny_generator, num_samples=1000, distribution="uniform")
    normal, other = section.run(num_steps=2, start="mean"), section.run(num_steps=2, start="mean", statistics=uniform)
    assert other.run.settings["statistics"]["distribution"] == "uniform"
    assert not torch.equal(normal.run.snapshots[0], other.run.snapshots[0])
    assert section.run(num_steps=2, start="mean", statistics=uniform) is other
    assert section.searches[1]["name"] == "inversion, from the mean face, mean of uniform z, 2 steps"


def test_a_search_that_was_stopped_is_run_anew(section, monkeypatch):
    def interrupted(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(Adam, "step", interrupted)
    assert section.run(num_steps=3).run.stopped
    again = section.run(num_steps=3).run
    assert (again.stopped, again.num_steps) == (False, 3)


def test_a_number_of_steps_is_a_share_of_the_recipes_own(root, section):
    assert section.num_steps(0.5) == 2
    assert section.num_steps(0.01) == 1
    assert section.run(num_steps=section.num_steps(1)) is section.run()
    with pytest.raises(SettingError, match="positive, not 0"):
        section.num_steps(0)
    fast = ex5lib.Section("3.2", root / "data" / "astronaut.png", recipe="fast", device="cpu")
    assert [fast.num_steps(share) for share in (0.05, 1, 2)] == [8, 155, 310]
    assert fast.num_steps(0.001) == len(FAST.stages)


def test_the_environment_overrides_a_notebooks_recipe(monkeypatch):
    monkeypatch.delenv("EX5_RECIPE", raising=False)
    assert notebook_recipe("karras2020") == "karras2020"
    monkeypatch.setenv("EX5_RECIPE", "smoke")
    assert notebook_recipe("karras2020") == "smoke"
    monkeypatch.setenv("EX5_RECIPE", "slow")
    with pytest.raises(SettingError, match="Known: best, course, fast"):
        notebook_recipe("karras2020")


def test_only_a_search_that_is_long_enough_says_something_about_a_claim(section):
    assert proves_nothing("smoke")
    assert not any(proves_nothing(name) for name in ("fast", "best", "karras2020", "course"))
    assert section.check_claim("it ran", True).doubt


def test_what_is_handed_in_is_the_tasks_search_with_nothing_changed(section, tmp_path, capsys):
    section.run("deblurring", num_steps=1)
    section.hand_in()
    assert capsys.readouterr().out.count("kept") == 0
    done = section.run("deblurring")
    section.run("deblurring", latent_weight=0.5)
    section.hand_in()
    assert "in tasks/deblurring: original_image.png, " in capsys.readouterr().out
    latent = np.load(tmp_path / "tasks" / "deblurring" / "inverted_latent.npz")["latent"]
    np.testing.assert_array_equal(latent, done.run.ws.numpy())
    section.out = None
    section.hand_in()
    assert "out is None: set it to a folder" in capsys.readouterr().out


def test_figures_are_numbered_shown_small_and_written_as_png_and_pdf(section, tmp_path, shell):
    noisy = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with capture_output() as captured:
        section.show("first", figures.plot_images([noisy] * 5, list("abcde")), "Five.")
        section.show("second", lesson_figures.plot_histograms({"x": np.arange(9)}, xlabel="x"), "Bars.")
        section.show("first", figures.plot_images([noisy], ["again"]), "Five.")
    shown = [output for output in captured.outputs if output.metadata.get("ex5lib")]
    assert [output.metadata["ex5lib"]["number"] for output in shown] == ["3.2.1", "3.2.2", "3.2.1"]
    assert shown[0].data["text/plain"] == "Figure 3.2.1. Five."
    assert "image/jpeg" in shown[0].data  # of noise, JPEG is the smaller
    assert "image/png" in shown[1].data
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert files == ["3.2-first.pdf", "3.2-first.png", "3.2-second.pdf", "3.2-second.png"]
    assert Image.open(tmp_path / "figures" / "3.2-second.png").width > 1000
    assert (tmp_path / "figures" / "3.2-first.pdf").read_bytes().startswith(b"%PDF")


def test_a_table_escapes_its_text_and_rounds_its_numbers(section, shell):
    with capture_output() as captured:
        section.table([{"a<b": 1.23456, "name": "x"}, {"a<b": 2.0}], "All & more.")
    (output,) = captured.outputs
    html = output.data["text/html"]
    assert "<th>a&lt;b</th>" in html
    assert "<td>1.235</td><td>x</td>" in html
    assert "<td>2</td><td></td>" in html
    assert "All &amp; more." in html
    assert "a<b 1.235, name x" in output.data["text/plain"]


def test_finishing_names_the_figures_and_writes_every_number(section, tmp_path, capsys, shell):
    section.run(num_steps=1)
    section.check_claim("it ran", True, steps=1)
    with capture_output():
        section.show("one", lesson_figures.plot_discriminator(), "One.")
    section.finish()
    assert capsys.readouterr().out.endswith("figures: one\n")
    numbers = json.loads((tmp_path / "3.2.json").read_text())
    (claim,) = numbers["claims"]
    assert claim == {"statement": "it ran", "holds": True, "numbers": {"steps": 1.0}, "doubt": PROVES_NOTHING}
    assert numbers["figures"] == {"one": "One."}
    (search,) = numbers["searches"]
    assert {"distance", "latent_distance", "num_steps", "seconds"} <= set(search["search"])
    assert {"distance", "psnr", "ssim", "identity_distance"} <= set(search["result and original"])
    assert search["settings"]["degraded_by"] == "Identity()"
    assert search["seed"] == 0
    assert numbers["recipe"] == "smoke"


def test_what_is_wrong_is_said_before_anything_is_done(root, tmp_path):
    photo = root / "data" / "astronaut.png"
    with pytest.raises(FileError, match=r"nobody\.jpg"):
        ex5lib.Section("3.2", tmp_path / "nobody.jpg")
    with pytest.raises(SettingError, match='no recipe "quick"'):
        ex5lib.Section("3.2", photo, recipe="quick")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            ex5lib.Section("3.2", photo, device="cuda")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(FileError, match="is a file"):
        ex5lib.Section("3.2", photo, out=blocked)


def test_errors_show_one_sentence_in_a_notebook(root, shell):
    with capture_output() as captured:
        shell.run_cell(f"import ex5lib; ex5lib.align_face({str(root / 'data' / 'nobody.png')!r})")
        shell.run_cell("import torch; ex5lib.align_face(torch.zeros(1, 3, 200, 200))")
        shell.run_cell(f"ex5lib.load_generator({str(root / 'README.md')!r})")
    lines = [line for line in captured.stdout.splitlines() if line.strip()]
    assert len(lines) == 3, captured.stdout
    assert "FileError: There is no file" in lines[0]
    assert "FaceError: No face was found" in lines[1]
    assert "Error: " in lines[2]

"""A section of the report: what it runs, shows and writes. On the untrained generator, whose searches take seconds."""

import json

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

import ex5lib
from ex5lib import zoo
from ex5lib.errors import DeviceError, MissingFileError, OutputError, SettingError, UnknownNameError


@pytest.fixture(scope="module")
def shell() -> InteractiveShell:
    return InteractiveShell.instance()


@pytest.fixture
def section(root, tmp_path, tiny_generator, monkeypatch, shell) -> ex5lib.Section:
    monkeypatch.setattr(zoo, "load_generator", lambda *_: tiny_generator)
    return ex5lib.Section("3.2", root / "data" / "astronaut.png", profile="smoke", out=tmp_path, device="cpu")


def test_a_search_is_run_once_with_the_experiments_settings_and_its_changes(section, capsys):
    first = section.run("deblurring", steps=2)
    assert first.settings["degradation"] == repr(ex5lib.GaussianBlur(25))
    assert torch.equal(first.target, ex5lib.GaussianBlur(25)(section.face.image))
    assert section.run("deblurring", steps=2) is first
    assert section.run("deblurring", steps=2, given=ex5lib.GaussianBlur(25)) is first  # what it was given anyway
    other = section.run("deblurring", steps=2, latent_weight=0.5, degradation=ex5lib.GaussianBlur(9))
    assert other.settings["latent_weight"] == 0.5
    sharp = section.run("deblurring", steps=2, given=ex5lib.Identity())
    assert torch.equal(sharp.target, section.face.image)
    assert [search["name"] for search in section.searches] == [
        "deblurring, steps 2",
        "deblurring, steps 2, latent_weight 0.5, degradation GaussianBlur(kernel_size=9, sigma=1.7)",
        "deblurring, steps 2",
    ]
    assert section.searches[0]["psnr"] == ex5lib.compare(first.image, section.face.image, section.distance)["psnr"]
    assert "2 steps in" in capsys.readouterr().out


def test_searches_that_only_look_alike_are_told_apart(section):
    masks = [torch.zeros(64, 64) for _ in range(2)]
    masks[0][10:20, 10:20], masks[1][30:40, 30:40] = 1, 1
    first, second = (section.run("inpainting", steps=1, degradation=ex5lib.Inpaint(mask=mask)) for mask in masks)
    assert not torch.equal(first.target, second.target)
    starts = [torch.zeros(1, 32), torch.ones(1, 32)]
    first, second = (section.run(steps=1, start=start) for start in starts)
    assert first.latent_distance != second.latent_distance


def test_a_search_that_was_stopped_is_run_anew(section):
    calls = []

    def stop_the_first(report: dict) -> bool:
        calls.append(report["step"])
        return len(calls) == 1

    assert section.run(steps=3, callback=stop_the_first).stopped
    assert section.run(steps=3, callback=stop_the_first).steps == 3


def test_a_share_is_of_the_profiles_own_steps(section):
    whole, half = section.run(), section.run(share=0.5)
    assert half.steps == whole.steps / 2
    assert section.run(share=0.5) is half
    with pytest.raises(SettingError, match="above 0"):
        section.run(share=0)


def test_figures_are_numbered_shown_small_and_written_as_png_and_pdf(section, tmp_path, shell):
    noisy = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with capture_output() as captured:
        section.show("first", ex5lib.plot_images([noisy] * 5, list("abcde")), "Five.")
        section.show("second", ex5lib.plot_histograms({"x": np.arange(9)}, xlabel="x"), "Bars.")
        section.show("first", ex5lib.plot_images([noisy], ["again"]), "Five.")
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
    section.run(steps=1)
    section.check_claim("it ran", True, steps=1)
    with capture_output():
        section.show("one", ex5lib.plot_discriminator(), "One.")
    section.finish()
    assert capsys.readouterr().out.endswith("figures: one\n")
    numbers = json.loads((tmp_path / "3.2.json").read_text())
    assert numbers["claims"] == [{"statement": "it ran", "holds": True, "numbers": {"steps": 1.0}}]
    assert numbers["figures"] == {"one": "One."}
    (search,) = numbers["searches"]
    assert {"distance", "psnr", "ssim", "identity_distance", "latent_distance", "seconds", "seed"} <= set(search)
    assert search["settings"]["given"] == "Identity()"


def test_what_is_wrong_is_said_before_anything_is_done(root, tmp_path):
    photo = root / "data" / "astronaut.png"
    with pytest.raises(MissingFileError, match=r"nobody\.jpg"):
        ex5lib.Section("3.2", tmp_path / "nobody.jpg")
    with pytest.raises(UnknownNameError, match='no profile "quick"'):
        ex5lib.Section("3.2", photo, profile="quick")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="cuda"):
            ex5lib.Section("3.2", photo, device="cuda")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="is a file"):
        ex5lib.Section("3.2", photo, out=blocked)


def test_errors_show_one_sentence_in_a_notebook(root, shell):
    with capture_output() as captured:
        shell.run_cell(f"import ex5lib; ex5lib.align_face({str(root / 'data' / 'nobody.png')!r})")
        shell.run_cell("import torch; ex5lib.align_face(torch.zeros(1, 3, 200, 200))")
        shell.run_cell(f"ex5lib.load_generator({str(root / 'README.md')!r})")
    lines = [line for line in captured.stdout.splitlines() if line.strip()]
    assert len(lines) == 3, captured.stdout
    assert "MissingFileError: There is no file" in lines[0]
    assert "NoFaceError: No face was found" in lines[1]
    assert "Error: " in lines[2]

"""The explorer in a real browser, in JupyterLab and as a page of its own: what a student does with it, what goes wrong.

Every step leaves a screenshot in results/browser/, for people to look at.
"""

import io
import time

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from student import Student, violations

STEPS = 30  # at 128 px: long enough to be watched and stopped, short enough to wait for


def test_a_first_visit_to_a_page_of_its_own(explore, page, root, screenshots, tmp_path):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", STEPS))
    student = Student(page, screenshots, "page")
    student.wait("^Press Run")
    student.upload("officer.jpg", (root / "data" / "officer.jpg").read_bytes())
    student.wait("^Looking for a face in officer.jpg")
    student.wait("^Press Run")
    assert page.inner_text(".ex5-name") == "officer.jpg"

    student.choose("inpaint")  # its brush is in the hand at once
    student.wait("^Nothing is painted yet: paint over")
    assert student.painted() == 0
    assert page.get_by_role("button", name="▶ Run").is_disabled()
    student.drag((0.3, 0.42), (0.5, 0.46), (0.7, 0.42))
    student.wait("^Press Run")
    student.press("▬ rectangle")
    student.drag((0.36, 0.62), (0.64, 0.76))
    page.wait_for_timeout(500)

    student.press("▶ Run")
    student.wait_for_step()
    bar, line = "document.querySelector('.ex5 progress').value", "document.querySelector('.ex5 polyline').outerHTML"
    before = page.evaluate(f"() => [{bar}, {line}]")
    page.wait_for_function(f"([share, curve]) => {bar} > share && {line} !== curve", arg=before)
    student.press("■ Stop")
    page.wait_for_function("() => document.querySelector('.ex5').dataset.phase === 'finishing'")
    student.wait("^Stopped, best so far")
    assert student.tags() == ["target", "composite"]
    seen = page.locator(".ex5-stage").screenshot()
    student.drag((0.5, 0.5), (0.8, 0.5))
    assert page.locator(".ex5-stage").screenshot() != seen
    assert page.locator(".ex5-handle").get_attribute("aria-valuenow") == "80"

    page.get_by_role("button", name="Another answer").click()
    student.finish()
    page.get_by_role("checkbox", name="each change starts a search").uncheck()
    student.choose("grayscale")
    student.wait("^The settings have changed: press Run")
    student.press("▶ Run")
    student.finish()
    student.wait_for_numbers()
    student.press("Save")
    student.wait("^Saved in .*officer-grayscale-1")
    with page.expect_download() as download:
        student.press("Download")
    assert download.value.suggested_filename == "officer-grayscale-1.zip"
    assert (tmp_path / "results" / "officer-grayscale-1" / "metrics.json").exists()
    page.get_by_role("button", name="Result 1").click()
    student.wait("^Back to an earlier result")
    assert page.get_by_label("damage", exact=True).input_value() == "inpaint"

    student.press("▶ Run")  # the first one was stopped
    student.wait_for_step()
    page.reload()  # in the middle of a search
    student.wait("^Searching")
    student.wait_for_step("[12][0-9]")
    assert page.locator(".ex5-past button").count() == 3
    student.wait("^Done")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert student.fits_at_all_widths()


def test_an_eye_can_be_seen_closely_while_the_search_runs_and_the_picture_taken_home(
    explore, page, screenshots, tmp_path
):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", STEPS))
    student = Student(page, screenshots, "zoom")
    student.wait("^Press Run")
    student.press("▶ Run")
    student.wait_for_step()
    student.move(0.4, 0.48)
    page.mouse.wheel(0, -500)
    expect(page.locator(".ex5-zoomed")).to_have_count(0)  # the page scrolls, until the picture is in use
    page.locator(".ex5-handle").focus()
    page.mouse.wheel(0, -500)
    page.wait_for_function("() => document.querySelector('.ex5-layer img').naturalWidth === 1024")  # not of a preview
    before = page.get_attribute(".ex5-layer img", "src")
    page.wait_for_function("(old) => document.querySelector('.ex5-layer img').src !== old", arg=before)  # it goes on
    layer = page.locator(".ex5-layer").bounding_box()
    stage = page.locator(".ex5-stage").bounding_box()
    assert layer["width"] == pytest.approx(4 * stage["width"], rel=0.01)
    eye = [(stage[at] - layer[at] + share * stage["width"]) / layer["width"] for at, share in (("x", 0.4), ("y", 0.48))]
    assert eye == pytest.approx([0.4, 0.48], abs=0.01)  # still under the pointer
    student.finish()
    student.drag((0.2, 0.3), (0.4, 0.3))  # now moves the picture
    assert page.locator(".ex5-layer").bounding_box()["x"] == pytest.approx(layer["x"] + 0.2 * stage["width"], abs=2)
    student.shoot()
    wipe = page.locator(".ex5-handle").get_attribute("aria-valuenow")
    assert wipe == "50"
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".ex5-layer").bounding_box()["x"] < layer["x"] + 0.1 * stage["width"]
    page.keyboard.press("0")
    assert page.locator(".ex5-layer").bounding_box() == stage
    with page.expect_download() as download:
        student.press("⤓ PNG")
    download.value.save_as(tmp_path / "result.png")
    assert download.value.suggested_filename == "astronaut-result.png"
    assert Image.open(tmp_path / "result.png").size == (1024, 1024)


def test_the_page_can_be_used_by_everyone(explore, page, screenshots):
    """What axe can check, at three widths, in light and dark; and on a phone, what a thumb needs."""
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", 6))
    student = Student(page, screenshots, "axe")
    student.wait("^Press Run")
    student.choose("inpaint")
    student.wait("^Nothing is painted")
    student.drag((0.3, 0.4), (0.7, 0.4))
    student.wait("^Press Run")
    assert violations(page) == []
    student.press("▶ Run")
    student.finish()
    student.wait_for_numbers()
    page.get_by_text("What these numbers mean").click()
    mark = page.get_by_label("what is this: pull to the average face")
    mark.press("Enter")
    expect(page.get_by_text("The weight λ_w of the distance")).to_be_visible()
    assert violations(page) == []
    mark.press("Escape")
    expect(page.get_by_text("The weight λ_w of the distance")).to_be_hidden()
    page.set_viewport_size({"width": 390, "height": 844})
    student.press("● brush")
    assert page.evaluate(SMALL) == []
    for top in (0, 500, 5000):
        page.evaluate(f"() => scrollTo(0, {top})")
        box = page.get_by_role("button", name="▶ Run").bounding_box()
        assert 0 < box["y"] < 844 - box["height"]


# What a finger can hit is at least 44 px wide and high.
SMALL = """
() => [...document.querySelectorAll(".ex5 :is(button, select, input, summary)")]
    .map((each) => each.closest("label.ex5-tick") ?? each)
    .filter((each) => each.checkVisibility())
    .filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 44)
    .map((each) => each.outerHTML)
"""


def test_bad_acts_end_in_a_sentence(explore, browser, page, root, screenshots):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", 12))
    student = Student(page, screenshots, "bad")
    student.wait("^Press Run")
    student.choose("inpaint")
    for field in ("top", "height", "width"):
        page.get_by_label(f"{field} of the hole").fill("40")
    for field, value, words in (("left of the hole", "250", "does not lie inside"), ("seed", "-1", "must be a whole")):
        box = page.get_by_label(field, exact=True)
        box.fill(value)
        box.press("Enter")
        expect(page.locator(".ex5-row:has([aria-invalid='true']) .ex5-refusal")).to_contain_text(words)  # at the field
        page.get_by_label("recipe", exact=True).focus()
        page.wait_for_timeout(1000)
        assert box.input_value() == value  # it stays, to be corrected
    weight = page.get_by_label("pull to the average face, typed")
    weight.fill("0")
    weight.press("Enter")
    expect(page.locator(".ex5-refusal")).to_have_count(0)
    student.press("Reset")
    student.wait("^Press Run")
    student.upload("letter.txt", b"Dear me")
    student.wait("^letter.txt is not an image")
    assert page.inner_text(".ex5-name") == "astronaut.png"
    large = io.BytesIO()
    Image.open(root / "data" / "astronaut.png").convert("RGB").resize((3240, 3240)).save(large, "BMP")
    assert len(large.getvalue()) > 30e6
    student.upload("large.bmp", large.getvalue())
    student.wait("^Looking for a face in large.bmp")
    student.wait("^Press Run")
    assert page.inner_text(".ex5-name") == "large.bmp"

    student.press("▶ Run")
    student.wait("^Searching")
    slider = page.get_by_label("pull to the average face", exact=True)
    began = time.monotonic()
    while time.monotonic() < began + 4:  # dragged wildly
        slider.press("PageUp" if int(4 * (time.monotonic() - began)) % 2 else "PageDown")
    slider.fill("0")
    student.wait("^Done")
    assert weight.input_value() == "1"

    second = browser.new_page()  # two pages of one explorer
    second.goto(page.url)
    other = Student(second, screenshots, "bad-second")
    other.wait("^Done")
    other.choose("blur")
    student.wait("^(Searching|Done)")
    expect(page.get_by_label("damage", exact=True)).to_have_value("blur")
    second.close()


CELLS = (
    "import ex5lib\n\nG = ex5lib.load_generator()\nface = ex5lib.align_face({photo!r})",
    "ex5lib.explore(G, face, recipe='smoke', num_steps={steps}, device='cpu', name='astronaut.png')",
)
KERNEL_IS_IDLE = "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def _command(page: Page, name: str, **arguments: str) -> None:
    page.evaluate("([name, args]) => window.jupyterapp.commands.execute(name, args)", [name, arguments])


def test_in_jupyterlab_the_explorer_outlives_its_page_but_not_its_kernel(
    lab, page, errors, root, tmp_path, screenshots
):
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    values = {"photo": str(root / "data" / "astronaut.png"), "steps": STEPS}
    notebook.cells = [nbformat.v4.new_code_cell(cell.format(**values)) for cell in CELLS]
    nbformat.write(notebook, tmp_path / "play.ipynb")
    page.set_viewport_size({"width": 1400, "height": 2100})  # JupyterLab scrolls the notebook inside its window
    page.goto(f"{lab}/doc/tree/play.ipynb")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(KERNEL_IS_IDLE)
    _command(page, "notebook:run-all-cells")
    page.wait_for_selector(".ex5-stage")
    student = Student(page, screenshots, "lab")
    student.wait("^Press Run")
    student.press("▶ Run")
    student.finish()
    student.choose("inpaint")
    student.wait("^Nothing is painted")
    student.drag((0.3, 0.42), (0.7, 0.42))
    student.wait_for_step()
    _command(page, "docmanager:save")
    page.wait_for_timeout(1000)
    page.reload()  # in the middle of a search
    page.wait_for_selector(".ex5-stage")
    student.wait("^(Searching|Done)")
    student.wait("^Done")
    assert student.tags() == ["target", "composite"]
    assert page.locator(".ex5-past button").count() >= 2
    for theme in ("Light", "Dark"):
        _command(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
        page.wait_for_timeout(1500)
        assert student.fits_at_all_widths()

    assert errors == []
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(KERNEL_IS_IDLE)
    student.press("Reset")
    student.wait("^There is no answer: .*run this cell again")
    errors[:] = [error for error in errors if "blob:" in error]  # JupyterLab's own, about requests that it gave up
    assert not page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count()

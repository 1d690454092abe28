"""The explorer in a real browser, in JupyterLab and as a page of its own: what a student does with it, what goes wrong.

Every step leaves a screenshot in results/browser/, for people to look at.
"""

import io
import time

import nbformat
from PIL import Image
from playwright.sync_api import Page, expect
from student import Student

STEPS = 30  # at 128 px: long enough to be watched and stopped, short enough to wait for


def test_a_first_visit_to_a_page_of_its_own(explore, page, root, screenshots, tmp_path):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", STEPS))
    student = Student(page, screenshots, "page")
    student.wait("^Press Run")
    student.upload("officer.jpg", (root / "data" / "officer.jpg").read_bytes())
    student.wait("^Looking for a face in officer.jpg")
    student.wait("^Press Run")
    assert page.inner_text(".ex5-name") == "officer.jpg"

    student.choose("inpaint")
    student.press("● brush")
    student.press("clear")
    student.wait("^Nothing is painted")
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
    student.press("■ Stop")
    student.wait("^From now on, changes wait for Run")
    student.choose("grayscale")
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
    assert page.get_by_label("degradation", exact=True).input_value() == "inpaint"

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


def test_a_magnifier_shows_an_eye_while_the_search_runs(explore, page, screenshots):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", STEPS))
    student = Student(page, screenshots, "magnifier")
    student.wait("^Press Run")
    student.press("⌕ magnify")
    student.press("▶ Run")
    student.wait_for_step()
    student.move(0.4, 0.48)
    lens = page.locator(".ex5-lens")
    expect(lens).to_be_visible()
    size = page.wait_for_function("() => document.querySelector('.ex5-lens img').naturalWidth").json_value()
    assert size == 1024 // 8  # full resolution, though the search runs on previews
    before = page.get_attribute(".ex5-lens img", "src")
    page.wait_for_function("(old) => document.querySelector('.ex5-lens img').src !== old", arg=before)  # it goes on
    student.finish()
    student.shoot()
    lens.focus()
    page.keyboard.press("ArrowRight")
    box = page.locator(".ex5-stage").bounding_box()
    middle = lens.bounding_box()["x"] + lens.bounding_box()["width"] / 2 - box["x"]
    assert abs(middle / box["width"] - 0.42) < 0.01
    student.press("◧ compare")
    expect(lens).to_be_hidden()


def test_bad_acts_end_in_a_sentence(explore, browser, page, root, screenshots):
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", 12))
    student = Student(page, screenshots, "bad")
    student.wait("^Press Run")
    student.choose("inpaint")
    for field, value, words in (("left of the hole", "250", "does not lie inside"), ("seed", "-1", "must be a whole")):
        box = page.get_by_label(field, exact=True)
        box.fill(value)
        box.press("Enter")
        expect(page.locator(".ex5-row:has([aria-invalid='true']) .ex5-refusal")).to_contain_text(words)  # at the field
        page.get_by_label("recipe").focus()
        page.wait_for_timeout(1000)
        assert box.input_value() == value  # it stays, to be corrected
    weight = page.get_by_label("weight λ_w, typed")
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
    slider = page.get_by_label("weight λ_w", exact=True)
    began = time.monotonic()
    while time.monotonic() < began + 4:  # dragged wildly
        slider.press("PageUp" if int(4 * (time.monotonic() - began)) % 2 else "PageDown")
    slider.fill("0")
    student.wait("^Done")
    assert page.get_by_label("weight λ_w, typed").input_value() == "1"

    second = browser.new_page()  # two pages of one explorer
    second.goto(page.url)
    other = Student(second, screenshots, "bad-second")
    other.wait("^Done")
    other.choose("blur")
    student.wait("^(Searching|Done)")
    expect(page.get_by_label("degradation", exact=True)).to_have_value("blur")
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
    student.press("● brush")
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

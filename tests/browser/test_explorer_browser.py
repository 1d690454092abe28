"""The explorer in a real browser, in JupyterLab and as a page of its own: what a student does with it, what goes wrong.

Every step leaves a screenshot in results/browser/, and the measured latencies are written to latency.json there; both
are for people to look at.
"""

import io
import json
import resource
import statistics
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from student import Student

STEPS = 30  # at 128 px: long enough to be watched and stopped, short enough to wait for
SIZES = (1400, 800, 390)
TALL = 2100  # px: JupyterLab scrolls the notebook inside its window, and a screenshot shows the window


def play(student: Student, root: Path) -> None:
    """Everything that the explorer is for, in the order of a first visit."""
    page = student.page
    student.wait("^Press Run")
    student.shoot("first-sight")
    student.upload("officer.jpg", (root / "data" / "officer.jpg").read_bytes())
    student.wait("^Looking for a face in officer.jpg")
    student.wait("^Press Run")
    assert page.inner_text(".ex5-name") == "officer.jpg"
    student.shoot("uploaded")

    student.choose("inpaint")
    student.press("● brush")
    student.press("clear")
    student.wait("^Nothing is painted")
    student.drag((0.3, 0.42), (0.5, 0.46), (0.7, 0.42))
    student.wait("^Press Run")
    student.press("▬ rectangle")
    student.drag((0.36, 0.62), (0.64, 0.76))
    page.wait_for_timeout(500)
    student.shoot("painted")

    student.press("▶ Run")
    page.wait_for_function("() => /^step [2-9] /.test(document.querySelector('.ex5-words').innerText)")
    bar, line = "document.querySelector('.ex5 progress').value", "document.querySelector('.ex5 polyline').outerHTML"
    before = page.evaluate(f"() => [{bar}, {line}]")
    student.shoot("running")
    page.wait_for_function(f"([share, curve]) => {bar} > share && {line} !== curve", arg=before)
    student.press("■ Stop")
    page.wait_for_function("() => document.querySelector('.ex5').dataset.phase === 'finishing'")
    student.shoot("stopping")
    student.wait("^Stopped, best so far")
    student.shoot("stopped")
    assert page.locator(".ex5-tag").all_inner_texts() == ["target", "composite"]
    seen = student.picture()
    student.drag((0.5, 0.5), (0.8, 0.5))
    assert student.picture() != seen
    assert page.locator(".ex5-handle").get_attribute("aria-valuenow") == "80"
    page.locator(".ex5-handle").press("ArrowLeft")
    assert page.locator(".ex5-handle").get_attribute("aria-valuenow") == "75"
    student.shoot("wiped")

    page.get_by_role("button", name="Another answer").click()
    student.wait("^Searching")
    student.wait("^Done")
    page.wait_for_function("() => !document.querySelector('.ex5-numbers').innerText.includes('…')")
    student.shoot("another-answer")
    student.press("■ Stop")
    student.wait("^From now on, changes wait for Run")
    page.get_by_label("recipe", exact=True).select_option("fast")  # it has weights of its own for each task
    weight = page.get_by_label("weight λ_w, typed")
    expect(weight).to_have_value("0.001")
    student.choose("grayscale")
    expect(weight).to_have_value("0.4")
    student.shoot("grey-and-its-own-weight")
    page.get_by_label("recipe", exact=True).select_option("smoke")  # takes less time
    student.press("▶ Run")
    student.wait("^Searching")
    student.wait("^Done")
    assert page.locator(".ex5-tag").all_inner_texts() == ["target", "composite"]
    page.wait_for_function("() => !document.querySelector('.ex5-numbers').innerText.includes('…')")
    student.shoot("grey")
    student.press("Save")
    student.wait("^Saved in .*officer-grayscale-1")
    with page.expect_download() as download:
        student.press("Download")
    assert download.value.suggested_filename == "officer-grayscale-1.zip"
    page.get_by_role("button", name="Result 1").click()
    student.wait("^Back to an earlier result")
    assert page.get_by_label("degradation", exact=True).input_value() == "inpaint"
    student.shoot("back-to-the-first")


def show_sizes(student: Student, name: str) -> None:
    """Screenshots at all sizes; nothing may stick out."""
    for width in SIZES:
        student.page.set_viewport_size({"width": width, "height": TALL})
        student.page.wait_for_timeout(700)
        assert student.fits(), width
        student.page.locator(".ex5").screenshot(path=student.folder / f"{student.name}-{name}-{width}.png")
    student.page.set_viewport_size({"width": SIZES[0], "height": TALL})


def test_a_page_of_its_own(explore, page, root, screenshots, tmp_path):
    address = explore("--device", "cpu", "--recipe", "smoke", "--num-steps", STEPS)
    page.goto(address)
    student = Student(page, screenshots, "page")
    play(student, root)
    assert (tmp_path / "results" / "officer-grayscale-1" / "metrics.json").exists()
    student.press("▶ Run")  # the first one was stopped
    page.wait_for_function("() => /^step [2-9] /.test(document.querySelector('.ex5-words').innerText)")
    page.reload()  # in the middle of a search
    student.wait("^Searching")
    page.wait_for_function("() => /^step [12][0-9] /.test(document.querySelector('.ex5-words').innerText)")
    assert page.locator(".ex5-past button").count() == 3
    student.wait("^Done")
    student.shoot("reloaded")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        show_sizes(student, scheme)


def _noise(side: int, kind: str) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def test_ten_bad_acts_end_in_a_sentence(explore, browser, page, root, screenshots):
    """Those that need a kernel are in the test of JupyterLab."""
    page.goto(explore("--device", "cpu", "--recipe", "smoke", "--num-steps", 12))
    student = Student(page, screenshots, "bad")
    student.wait("^Press Run")
    student.choose("inpaint")
    page.get_by_label("left of the hole").fill("250")  # reaches outside
    page.get_by_label("left of the hole").press("Enter")
    student.wait("does not lie inside")
    expect(page.locator(".ex5-stage img.ex5-stale")).not_to_have_count(0)
    student.shoot("rectangle-outside")
    student.press("clear")
    student.wait("^Nothing is painted")
    student.shoot("mask-empty")
    student.press("Reset")
    student.wait("^Press Run")
    for name, content, sentence in (
        ("noise.png", _noise(300, "PNG"), "^No face was found in noise.png"),
        ("letter.txt", b"Dear me", "^letter.txt is not an image"),
    ):
        student.upload(name, content)
        student.wait(sentence)
        student.shoot(name.partition(".")[0])
    assert page.inner_text(".ex5-name") == "astronaut.png"
    large = io.BytesIO()
    Image.open(root / "data" / "astronaut.png").convert("RGB").resize((3240, 3240)).save(large, "BMP")
    assert len(large.getvalue()) > 30e6
    student.upload("large.bmp", large.getvalue())
    student.wait("^Looking for a face in large.bmp")
    student.wait("^Press Run")
    assert page.inner_text(".ex5-name") == "large.bmp"
    student.shoot("30-megabytes")

    student.press("▶ Run")
    student.wait("^Searching")
    slider = page.get_by_label("weight λ_w", exact=True)
    began = time.monotonic()
    while time.monotonic() < began + 10:
        slider.press("PageUp" if int(4 * (time.monotonic() - began)) % 2 else "PageDown")
    slider.fill("0")
    student.wait("^Done")
    assert page.get_by_label("weight λ_w, typed").input_value() == "1"
    student.shoot("dragged-wildly")

    second = browser.new_page()  # two pages of one explorer
    second.goto(page.url)
    other = Student(second, screenshots, "bad-second")
    other.wait("^Done")
    other.choose("blur")
    student.wait("^(Searching|Done)")
    expect(page.get_by_label("degradation", exact=True)).to_have_value("blur")
    second.close()


def test_a_full_disk_at_save_loses_nothing(explore, page, root, screenshots):
    small = ("--generator", root / "tests" / "data" / "uncond_32.pkl", "--recipe", "smoke")
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
    page.goto(explore(*small, preexec_fn=full))
    student = Student(page, screenshots, "full")
    student.wait("^Press Run")
    student.press("▶ Run")
    student.wait("^Done")
    student.press("Save")
    student.wait("could not be written .*: make room there, or choose another folder")
    student.shoot("disk")
    assert page.locator(".ex5-past button").count() == 1
    assert page.get_by_role("button", name="Save", exact=True).is_enabled()


CELLS = (
    "import ex5lib\n\nG = ex5lib.load_generator()\nface = ex5lib.align_face({photo!r})",
    "ex5lib.explore(G, face, recipe='smoke', num_steps={steps}, device='cpu', name='astronaut.png')",
    "ex5lib.explore(G, face.image.flip(3), recipe='smoke', num_steps={steps}, device='cpu', name='mirrored.png')",
)


def _write_notebook(path: Path, photo: Path, steps: int, cells: int = 2) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    sources = [cell.format(photo=str(photo), steps=steps) for cell in CELLS[:cells]]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def _run_cells(page: Page) -> None:
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


def test_in_jupyterlab(lab, page, errors, root, tmp_path, screenshots):
    _write_notebook(tmp_path / "play.ipynb", root / "data" / "astronaut.png", STEPS)
    page.set_viewport_size({"width": SIZES[0], "height": TALL})
    page.goto(f"{lab}/doc/tree/play.ipynb")
    _run_cells(page)
    student = Student(page, screenshots, "lab")
    page.wait_for_selector(".ex5-stage")
    play(student, root)
    student.press("▶ Run")
    page.wait_for_function("() => /^step [2-9] /.test(document.querySelector('.ex5-words').innerText)")
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_timeout(1000)
    page.reload()  # in the middle of a search
    page.wait_for_selector(".ex5-stage")
    student.wait("^(Searching|Done)")
    student.wait("^Done")
    assert page.locator(".ex5-past button").count() == 4
    student.shoot("reloaded")
    for theme in ("Light", "Dark"):
        theme_name = f"JupyterLab {theme}"
        page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", theme_name)
        page.wait_for_timeout(1500)
        show_sizes(student, theme.lower())

    assert errors == []
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    student.press("Reset")
    student.wait("^There is no answer: .*run this cell again")
    student.shoot("kernel-restarted")
    errors[:] = [error for error in errors if "blob:" in error]  # JupyterLab's own, about requests that it gave up
    assert not page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count()


def test_two_explorers_in_one_notebook(lab, page, root, tmp_path, screenshots):
    _write_notebook(tmp_path / "two.ipynb", root / "data" / "astronaut.png", 400, cells=3)
    page.goto(f"{lab}/doc/tree/two.ipynb")
    _run_cells(page)
    first, second = page.locator(".ex5").nth(0), page.locator(".ex5").nth(1)
    second.locator(".ex5-stage").wait_for()
    first.get_by_role("button", name="▶ Run").click()
    expect(first.locator("[role=status]")).to_have_text("Searching …", timeout=60_000)
    page.wait_for_function("() => /^step [2-9] /.test(document.querySelector('.ex5-words').innerText)")
    second.get_by_role("button", name="▶ Run").click()
    expect(first.locator("[role=status]")).to_contain_text("Stopped", timeout=60_000)
    second.get_by_role("button", name="■ Stop").click()
    expect(first.locator("[role=status]")).to_contain_text("best so far", timeout=120_000)
    expect(second.locator("[role=status]")).to_contain_text("Stopped", timeout=120_000)
    page.screenshot(path=screenshots / "lab-two.png")


# Resolves with the milliseconds from an act until something is true, looked at in every frame of the page.
LATENCY = """
([act, condition]) => new Promise((resolve) => {
    const words = () => document.querySelector('.ex5-words').innerText;
    const phase = () => document.querySelector('.ex5').dataset.phase;
    const slider = document.querySelector("input[aria-label='weight λ_w']");
    const began = performance.now();
    eval(act);
    const look = () => (eval(condition) ? resolve(performance.now() - began) : requestAnimationFrame(look));
    requestAnimationFrame(look);
})
"""
MOVE = "slider.value = Number(slider.value) + ({up} ? 0.5 : -0.5); slider.dispatchEvent(new Event('input'))"
FRAMES = """
() => new Promise((resolve) => {
    let count = 0;
    const images = new MutationObserver(() => count++);
    images.observe(document.querySelector('.ex5-stage img'), {attributes: true, attributeFilter: ['src']});
    setTimeout(() => resolve(count / 4), 4000);
})
"""


@pytest.mark.parametrize("host", ["page", "lab"])
def test_latency(host, request, page, root, tmp_path, screenshots):
    """Nothing is asserted: a busy machine would decide. The medians of ten are written down."""
    if host == "page":
        page.goto(request.getfixturevalue("explore")("--device", "cpu", "--recipe", "smoke", "--num-steps", 1000))
    else:
        _write_notebook(tmp_path / "latency.ipynb", root / "data" / "astronaut.png", 1000)
        page.goto(f"{request.getfixturevalue('lab')}/doc/tree/latency.ipynb")
        _run_cells(page)
    student = Student(page, screenshots, host)
    page.wait_for_selector(".ex5-stage")
    student.wait("^Press Run")
    student.press("▶ Run")
    searching = "() => /^step ([4-9]|..+) of/.test(document.querySelector('.ex5-words').innerText)"
    page.wait_for_function(searching)
    measured: dict[str, list[float]] = {"first frame after a slider's move, ms": [], "frames a second": []}
    for i in range(10):
        move = MOVE.format(up="true" if i % 2 else "false")
        measured["first frame after a slider's move, ms"].append(
            page.evaluate(LATENCY, [move, "/^step [1-3] of/.test(words())"])
        )
        page.wait_for_function(searching)
    measured["frames a second"] = [page.evaluate(FRAMES) for _ in range(10)]
    measured["stop, ms"] = []
    for _ in range(10):
        stop = "[...document.querySelectorAll('.ex5 button')].find(b => b.innerText === '■ Stop').click()"
        measured["stop, ms"].append(page.evaluate(LATENCY, [stop, "phase() === 'finishing'"]))
        student.wait("^Stopped, best so far")
        student.press("▶ Run")
        page.wait_for_function(searching)
    student.press("■ Stop")
    student.wait("^Stopped, best so far")
    page.goto("about:blank")  # which asks nothing of a server that ends before the page does
    path = screenshots / "latency.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    medians = {name: round(statistics.median(values), 1) for name, values in measured.items()}
    path.write_text(json.dumps(before | {host: medians}, indent=1))

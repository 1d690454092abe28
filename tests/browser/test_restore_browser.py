"""A person's way with an old photo in a real browser: open the page, give the photo, restore it, download it.

Every step leaves a screenshot in results/browser/, for people to look at.
"""

import base64
import io
import re

import pytest
from conftest import PATIENCE
from PIL import Image, ImageFilter
from playwright.sync_api import Page, expect
from student import violations

OPTIONS = ("--device", "cpu", "--recipe", "smoke", "--num-steps", 12)
DROP = """
([name, text]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
    const event = (kind) => new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
    for (const kind of ["dragenter", "dragover", "drop"]) document.querySelector("h1").dispatchEvent(event(kind));
}
"""
PASTE = """
([name, text]) => {
    const clipboardData = new DataTransfer();
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    clipboardData.items.add(new File([bytes], name, { type: "image/png" }));
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}
"""
# The share of the photo that is painted.
PAINTED = """
() => {
    const canvas = document.querySelector(".restore canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, i) => i % 4 === 3 && value > 127).length / (data.length / 4);
}
"""
# Buttons, links and inputs that a finger would miss; of a label with an input, the label counts.
SMALL = """
() => [...document.querySelectorAll(".top :is(button, a), .restore :is(button, a, summary, label.choice)")]
    .filter((e) => e.checkVisibility() && Math.min(e.offsetWidth, e.offsetHeight) < 44).map((e) => e.outerHTML)
"""
ZOOMED = "() => document.querySelector('.restore .ex5-stage').classList.contains('ex5-zoomed')"
WIDE = "() => document.documentElement.scrollWidth > innerWidth"


@pytest.fixture
def old(root) -> bytes:
    content = io.BytesIO()
    Image.open(root / "data" / "president.jpg").convert("L").filter(ImageFilter.GaussianBlur(3)).save(content, "PNG")
    return content.getvalue()


def _is_ready(page: Page) -> None:
    expect(page.locator(".restore .status")).to_have_text("Press Restore.", timeout=PATIENCE * 1000)


def _is_done(page: Page) -> None:
    expect(page.locator(".restore .status")).to_contain_text("Done", timeout=PATIENCE * 1000)


def _source(page: Page) -> str:
    return page.locator(".restore .ex5-layer img").first.get_attribute("src")


def test_with_a_mouse(explore, page, old, screenshots):
    page.goto(explore(*OPTIONS, mode=""))
    stage, handle = page.locator(".restore .ex5-stage"), page.locator(".restore .ex5-handle")
    expect(page.locator(".example")).to_have_count(3)
    page.get_by_role("button", name="A black-and-white print").click()
    assert "print-after" in _source(page)
    seen = stage.screenshot()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50, steps=4)
    page.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", "25")
    assert stage.screenshot() != seen
    page.screenshot(path=screenshots / "restore-1-open.png", full_page=True)
    assert violations(page) == []

    page.evaluate(DROP, ["old.png", base64.b64encode(old).decode()])
    _is_ready(page)
    expect(page.locator(".restore .example").first).to_be_hidden()
    ticks = page.locator(".restore .switch input:visible")
    assert [tick.is_checked() for tick in ticks.all()] == [True, True]
    page.screenshot(path=screenshots / "restore-2-ready.png", full_page=True)
    page.get_by_role("button", name="Restore", exact=True).click()
    page.wait_for_function("() => document.querySelector('.restore .ex5-layer img').src.startsWith('blob:')")
    page.screenshot(path=screenshots / "restore-3-searching.png", full_page=True)
    _is_done(page)
    assert violations(page) == []
    expect(handle).to_have_attribute("aria-valuenow", "50")
    with page.expect_download() as download:
        page.get_by_role("link", name="as PNG").click()
    assert download.value.suggested_filename == "old-restored.png"
    assert Image.open(download.value.path()).size == Image.open(io.BytesIO(old)).size

    # Both pictures are zoomed and moved in step, by wheel, drag and keys.
    seen = "() => document.querySelector('.restore .ex5-layer').getBoundingClientRect().toJSON()"
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    whole = page.evaluate(seen)
    page.mouse.wheel(0, -100)
    assert page.evaluate(seen)["width"] == whole["width"]  # the page scrolls, until the picture is in use
    handle.focus()
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function(ZOOMED)
    whole = page.evaluate(seen)
    page.mouse.down()
    page.mouse.move(x - 40, y + 40, steps=3)
    page.mouse.up()
    moved = page.evaluate(seen)
    assert [moved[side] - whole[side] for side in ("left", "top")] == pytest.approx([-40, 40], abs=2)
    page.keyboard.press("Shift+ArrowUp")
    assert page.evaluate(seen)["top"] > moved["top"] + 20
    page.screenshot(path=screenshots / "restore-4-zoomed.png", full_page=True)
    page.keyboard.press("0")
    assert page.evaluate(seen)["width"] == stage.bounding_box()["width"]

    page.reload()
    _is_done(page)
    page.get_by_role("tab", name="Explore the search").click()
    expect(page.locator(".ex5 .ex5-name")).to_have_text("old.png")  # one photo for both modes
    page.get_by_role("tab", name="Restore my photo").click()
    page.evaluate(DROP, ["letter.png", base64.b64encode(b"Dear me").decode()])
    expect(page.locator(".restore .status.error")).to_contain_text("letter.png")
    expect(page.locator(".restore .result")).to_be_hidden()
    page.screenshot(path=screenshots / "restore-5-letter.png", full_page=True)


def test_with_fingers_and_keys_on_a_phone(explore, browser, old, errors, screenshots):
    size = {"width": 390, "height": 844}
    phone = browser.new_context(viewport=size, has_touch=True, is_mobile=True, color_scheme="dark")
    phone.set_default_timeout(PATIENCE * 1000)
    page = phone.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(explore(*OPTIONS, mode=""))
    expect(page.locator(".restore .example").first).to_be_visible()
    assert not page.evaluate(WIDE)
    assert page.evaluate(SMALL) == []
    page.screenshot(path=screenshots / "restore-phone-1-open.png", full_page=True)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a photo").tap()
    chooser.value.set_files({"name": "old.png", "mimeType": "image/png", "buffer": old})
    _is_ready(page)
    meaning = page.get_by_label("what is this: Blurred")
    meaning.tap()
    expect(page.get_by_text("Deblurring")).to_be_visible()
    meaning.press("Escape")
    expect(page.get_by_text("Deblurring")).to_be_hidden()
    restore = page.get_by_role("button", name="Restore", exact=True)
    for top in (0, 300, 10_000):  # it stays reachable while the page scrolls
        page.evaluate("(top) => scrollTo(0, top)", top)
        expect(restore).to_be_in_viewport(ratio=1)
    page.screenshot(path=screenshots / "restore-phone-2-ready.png")
    restore.tap()
    expect(page.get_by_role("button", name="Stop")).to_be_in_viewport(ratio=1)
    _is_done(page)
    assert not page.evaluate(WIDE)
    assert page.evaluate(SMALL) == []
    page.screenshot(path=screenshots / "restore-phone-3-done.png", full_page=True)

    session = phone.new_cdp_session(page)
    page.locator(".restore .ex5-stage").scroll_into_view_if_needed()
    box = page.locator(".restore .ex5-stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, apart in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function(ZOOMED)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download photo").tap()
    assert download.value.suggested_filename == "old-restored.jpg"
    phone.close()
    assert errors == []


def test_a_scratch_is_marked_and_a_group_pasted(explore, page, old, root, screenshots):
    page.goto(explore(*OPTIONS, mode=""))
    page.evaluate(PASTE, ["old.png", base64.b64encode(old).decode()])
    _is_ready(page)
    page.get_by_role("button", name="Mark scratches").click()
    stage = page.locator(".restore .ex5-stage")
    box = stage.bounding_box()

    def drag(*places: tuple[float, float]) -> None:
        for i, (x, y) in enumerate(places):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
            if i == 0:
                page.mouse.down()
        page.mouse.up()

    drag((0.4, 0.3), (0.6, 0.6))
    painted = page.evaluate(PAINTED)
    assert painted > 0.01
    drag((0.6, 0.3), (0.4, 0.6))
    assert page.evaluate(PAINTED) > 1.3 * painted
    page.keyboard.press("Control+z")
    assert page.evaluate(PAINTED) == painted
    page.screenshot(path=screenshots / "restore-6-painting.png", full_page=True)
    assert violations(page) == []
    with page.expect_download() as download:
        page.get_by_role("button", name="save mask").click()
    assert Image.open(download.value.path()).size == Image.open(io.BytesIO(old)).size
    page.get_by_role("button", name="✓ Done").click()
    page.screenshot(path=screenshots / "restore-7-marked.png", full_page=True)
    page.reload()
    expect(page.get_by_role("button", name="Change what is marked")).to_be_visible()
    assert page.evaluate(PAINTED) == painted
    page.get_by_role("button", name="Restore", exact=True).click()
    _is_done(page)

    names = ("president.jpg", "vice-president.jpg")
    people = [Image.open(root / "data" / name).convert("L").resize((300, 340)) for name in names]
    group, content = Image.new("L", (600, 340)), io.BytesIO()
    for i, person in enumerate(people):
        group.paste(person, (300 * i, 0))
    group.save(content, "PNG")
    page.evaluate(PASTE, ["group.png", base64.b64encode(content.getvalue()).decode()])
    _is_ready(page)
    assert page.evaluate(PAINTED) == 0
    page.get_by_label("Both faces").check()
    expect(page.locator(".restore .ex5-layer polygon.chosen")).to_have_count(2, timeout=PATIENCE * 1000)
    page.screenshot(path=screenshots / "restore-8-group.png", full_page=True)
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(page.locator(".restore")).to_contain_text("Face 2 of 2", timeout=PATIENCE * 1000)
    _is_done(page)
    expect(page.locator(".result")).to_contain_text(re.compile(r"Same person: \w+ \(0\.\d\d\), \w+ \(0\.\d\d\)"))
    page.screenshot(path=screenshots / "restore-9-group-done.png", full_page=True)

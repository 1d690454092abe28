"""What a student does with the explorer that no manual foresees: acts in any order, keys only, fingers only."""

import io

import pytest
from conftest import PATIENCE
from PIL import Image
from playwright.sync_api import expect
from student import Student

from ex5lib.images.masks import load_mask

# How often the brush's outline is moved.
WATCH = """
() => {
    const outline = document.querySelector(".ex5-outline");
    window.outlined = 0;
    new MutationObserver(() => (window.outlined += !outline.hidden)).observe(outline, { attributes: true });
}
"""
OPTIONS = ("--device", "cpu", "--recipe", "smoke", "--num-steps", 12)
WIPE = ".ex5-handle"
# Each mask that comes from the kernel is held back until it is released.
HOLD = """
() => {
    const fetched = (window.fetched = window.fetch);
    window.held = window.asked = 0;
    window.fetch = async (address, ...rest) => {
        window.asked += 1;
        const reply = await fetched(address, ...rest);
        if (address.startsWith("changes") && (await reply.clone().text()).includes('"mask"')) {
            window.held += 1;
            await new Promise((resolve) => (window.release = resolve));
        }
        return reply;
    };
}
"""


@pytest.fixture
def student(explore, page, screenshots) -> Student:
    page.goto(explore(*OPTIONS))
    one = Student(page, screenshots, "play")
    one.wait("^Press Run")
    return one


def test_acts_in_any_order(student, page, root):
    expect(page.locator(".ex5-hints li")).to_have_count(4)
    student.press("▶ Run")
    student.wait_for_step()
    expect(page.locator(".ex5-hints")).to_be_hidden()
    assert page.get_by_role("button", name="Save", exact=True).is_disabled()  # what is seen is not a result yet
    grey = io.BytesIO()
    Image.open(root / "data" / "officer.jpg").convert("L").save(grey, "PNG")
    student.upload("grey.png", grey.getvalue())  # in mid-search
    student.wait("^Looking for a face in grey.png")
    assert student.tags() == ["photo (earlier)", "result (earlier)"]
    student.choose("unknown blur")  # while the face is looked for
    student.wait("^Done: .*found σ")
    assert page.inner_text(".ex5-name") == "grey.png"
    student.wait_for_numbers(r"\(it was 4\.10 px\)")
    expect(page.locator(".ex5-damage")).to_contain_text("it is grey")

    page.get_by_label("it is grey").check()
    student.finish()
    assert page.get_by_role("checkbox", name="the photo itself is damaged").is_checked()
    assert student.tags() == ["target", "composite"]
    student.wait_for_numbers("there is no original to compare with")

    student.choose("inpaint")  # a damaged photo's own hole; from here on, each stroke searches anew
    student.wait("^Nothing is painted")
    page.evaluate(HOLD)
    page.wait_for_function("() => window.asked > 0")  # the request that was under way is answered unheld
    strokes = []
    for row in (0.3, 0.45, 0.6):
        student.drag((0.3, row), (0.7, row))
        strokes.append(student.painted())
        if row == 0.3:
            page.wait_for_function("() => window.held === 1")
        if row == 0.45:  # the kernel's answer to the first stroke comes after the second
            page.evaluate("() => window.release()")
            page.wait_for_function("() => window.held === 2")
    assert strokes == pytest.approx([n * strokes[0] for n in (1, 2, 3)], rel=0.02)
    page.evaluate("() => { window.fetch = window.fetched; window.release(); }")
    student.press("undo")
    student.press("undo")
    page.keyboard.press("Control+Shift+Z")
    student.wait("^Done")
    assert student.painted() == strokes[1]
    student.choose("blur")
    student.choose("inpaint")
    student.press("● brush")
    page.wait_for_timeout(1000)
    assert student.painted() == strokes[1]
    page.get_by_role("button", name="Another answer").click()
    expect(page.get_by_role("button", name="compare")).to_have_attribute("aria-pressed", "true")  # to see it
    student.finish()
    expect(page.locator(".ex5-controls")).to_contain_text("This is answer 2.")


def test_keys_are_enough(student, page):
    page.get_by_label("damage", exact=True).press("a")  # part is missing
    student.wait("^Nothing is painted")
    mask = page.locator(".ex5-stage canvas")
    mask.press("ArrowRight")
    painted = []
    for key in ("Space", "]", "]", "Space", "Control+z", "Control+Shift+Z", "Control+z"):
        mask.press(key)
        painted.append(student.painted())
    small, large = painted[0], painted[3]
    assert painted == [small, small, small, large, small, large, small]
    assert large == pytest.approx(small * 1.25**4, rel=0.1)
    mask.press("Shift+ArrowRight")
    mask.press("+")
    expect(page.locator(".ex5-zoomed")).to_have_count(1)
    mask.press("0")
    student.wait("^Press Run")
    assert student.painted() == small
    page.get_by_role("button", name="▶ Run").press("Enter")
    student.wait("^Done")
    for key, at in (("Home", "0"), ("ArrowRight", "5"), ("End", "100"), ("ArrowLeft", "95")):
        page.locator(WIPE).press(key)
        expect(page.locator(WIPE)).to_have_attribute("aria-valuenow", at)
    nameless = "b => b.checkVisibility() && !(b.innerText.trim() || b.ariaLabel)"
    assert page.evaluate(f"() => [...document.querySelectorAll('.ex5 button')].filter({nameless}).length") == 0


def test_fingers_are_enough(explore, browser, errors, screenshots):
    phone = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    phone.set_default_timeout(PATIENCE * 1000)
    page = phone.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(explore(*OPTIONS))
    student = Student(page, screenshots, "phone")
    student.wait("^Press Run")
    page.locator(".ex5-stage").scroll_into_view_if_needed()
    student.touch([(0.5, 0.5), (0.2, 0.5)])
    expect(page.locator(WIPE)).to_have_attribute("aria-valuenow", "20")
    student.touch([(0.6, 0.7), (0.6, 0.1)])  # scrolls and wipes nothing
    page.wait_for_function("() => scrollY > 100")
    expect(page.locator(WIPE)).to_have_attribute("aria-valuenow", "20")
    student.choose("inpaint")
    student.wait("^Nothing is painted")
    page.evaluate("() => scrollTo(0, 200)")
    page.wait_for_timeout(1000)  # what comes right after a swipe only stops its momentum
    page.evaluate(WATCH)
    student.touch([(0.3, 0.4), (0.7, 0.4), (0.3, 0.6)])
    painted = student.painted()
    assert painted > 3000
    assert page.evaluate("() => scrollY") == 200  # a painting finger does not scroll
    assert page.evaluate("() => window.outlined") > 5  # its brush was to be seen
    expect(page.locator(".ex5-outline")).to_be_hidden()
    student.touch([(0.4, 0.5), (0.2, 0.4)], [(0.6, 0.5), (0.8, 0.6)])  # two fingers zoom, and paint nothing
    layer, stage = (page.locator(part).bounding_box()["width"] for part in (".ex5-layer", ".ex5-stage"))
    assert layer / stage == pytest.approx((0.6**2 + 0.2**2) ** 0.5 / 0.2, rel=0.1)
    assert student.painted() == painted
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="whole").tap()
    page.get_by_label("what is this: seed").tap()
    expect(page.get_by_text("The number from which chance is drawn")).to_be_visible()
    student.wait("^Press Run")
    page.get_by_role("button", name="▶ Run").tap()
    student.wait("^Done")
    assert student.fits()
    phone.close()
    assert errors == []


def test_a_mask_is_painted_with_the_mouse_saved_and_read_again(student, page, tmp_path):
    student.choose("inpaint")
    student.wait("^Nothing is painted")
    student.move(0.3, 0.4)
    outline = page.locator(".ex5-outline")
    expect(outline).to_be_visible()
    size, stage = outline.bounding_box(), page.locator(".ex5-stage").bounding_box()
    assert size["width"] == pytest.approx(20 / 256 * stage["width"], abs=3)
    assert size["x"] + size["width"] / 2 - stage["x"] == pytest.approx(0.3 * stage["width"], abs=2)
    student.drag((0.3, 0.4), (0.7, 0.4))
    whole = student.painted()
    for _ in range(3):
        student.press("zoom in")
    student.press("○ eraser")
    student.drag((0.5, 0.3), (0.5, 0.9))
    part = student.painted()
    assert 0.8 * whole < part < whole
    student.press("whole")
    student.move(-0.2, 0.5)
    expect(outline).to_be_hidden()
    with page.expect_download() as download:
        student.press("save mask")
    download.value.save_as(tmp_path / "mask.png")
    assert download.value.suggested_filename == "astronaut-mask.png"
    mask = load_mask(tmp_path / "mask.png")
    assert mask.sum() == part
    assert set(mask.unique().tolist()) == {0, 1}
    student.press("clear")
    student.wait("^Nothing is painted")
    page.get_by_label("mask file").set_input_files(tmp_path / "mask.png")
    student.wait("^Press Run")
    page.wait_for_timeout(500)
    assert student.painted() == part
    for before in (0, part):  # the file was opened, and before that the mask was cleared
        student.press("undo")
        assert student.painted() == before

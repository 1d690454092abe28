"""What a student does with the explorer that no manual foresees: acts in any order, keys only, fingers only."""

import io

import pytest
from conftest import PATIENCE
from PIL import Image
from playwright.sync_api import expect
from student import Student

OPTIONS = ("--device", "cpu", "--recipe", "smoke", "--num-steps", 12)
WIPE = ".ex5-handle"
# Each mask that comes from the kernel is held back until it is released.
HOLD = """
() => {
    const fetched = (window.fetched = window.fetch);
    window.held = 0;
    window.fetch = async (address, ...rest) => {
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
    assert page.get_by_label("the photo itself is damaged").is_checked()
    assert student.tags() == ["target", "composite"]
    student.wait_for_numbers("there is no original to compare with")

    student.choose("inpaint")  # a damaged photo's own hole; from here on, each stroke searches anew
    student.press("● brush")
    page.evaluate(HOLD)
    student.press("clear")
    student.wait("^Nothing is painted")
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
    page.get_by_label("degradation", exact=True).press("i")
    page.get_by_role("button", name="brush").press("Enter")
    page.get_by_role("button", name="clear").press("Enter")
    mask = page.locator(".ex5-stage canvas")
    for _ in range(5):
        mask.press("ArrowRight")
        mask.press("Space")
    student.wait("^Press Run")
    assert student.painted() > 300
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
    student.touch((0.5, 0.5), (0.2, 0.5))
    expect(page.locator(WIPE)).to_have_attribute("aria-valuenow", "20")
    student.touch((0.6, 0.9), (0.6, 0.1))  # scrolls and wipes nothing
    page.wait_for_function("() => scrollY > 100")
    expect(page.locator(WIPE)).to_have_attribute("aria-valuenow", "20")
    student.choose("inpaint")
    page.get_by_role("button", name="brush").tap()
    page.evaluate("() => scrollTo(0, 0)")
    place = page.locator(".ex5-stage").bounding_box()
    page.get_by_role("button", name="clear").tap()
    student.wait("^Nothing is painted")
    assert page.locator(".ex5-stage").bounding_box() == place  # or a stroke would jump
    student.touch((0.3, 0.4), (0.7, 0.4), (0.3, 0.6))
    assert student.painted() > 3000
    assert page.evaluate("() => scrollY") == 0  # a painting finger does not scroll
    page.wait_for_timeout(1000)  # a tap right after a swipe only stops its momentum
    student.wait("^Press Run")
    page.get_by_role("button", name="▶ Run").tap()
    student.wait("^Done")
    assert student.fits()
    phone.close()
    assert errors == []

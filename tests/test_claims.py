"""The report's claims and a student's checks, as a notebook shows them."""

import re

import pytest

from ex5lib.course.claims import check, check_claim
from ex5lib.errors import CheckFailed, SettingError


def test_a_claim_shows_whether_it_holds_and_the_numbers(capsys):
    kept = check_claim("a < b", 0.8 < 2.1, blurred=0.8, of_the_original=2.1)
    missed = check_claim("it rises", False, doubt="Too short.")
    told = [line for line in capsys.readouterr().out.splitlines() if line]
    assert told in ([str(kept), str(missed)], [])  # beyond a notebook, text; in a test that has a shell, its display
    assert str(kept) == "holds: a < b (blurred 0.8, of the original 2.1)"
    assert str(missed) == "does not hold: it rises Too short."
    assert (kept.holds, kept.numbers) == (True, {"blurred": 0.8, "of the original": 2.1})
    boxes = [claim._repr_html_() for claim in (kept, missed)]
    for words in ("✓", "holds", "a &lt; b", "blurred 0.8, of the original 2.1"):
        assert words in boxes[0]
    for words in ("✗", "does not hold", "Too short."):
        assert words in boxes[1]
    assert [re.search(r"border-left:6px (\w+)", box)[1] for box in boxes] == ["solid", "dashed"]  # not only a colour


def test_where_seeds_disagree_chance_decides():
    same, apart = check_claim("a < b", [True, True], a=[1, 2]), check_claim("a < b", [True, False, True], a=[1, 2, 3.5])
    assert (same.holds, apart.holds) == (True, None)
    assert str(same) == "holds: a < b (a 1 / 2)"
    assert str(apart) == "chance decides: a < b (a 1 / 2 / 3.5)"
    assert check_claim("a < b", [False, False]).holds is False
    assert "~ chance decides" in apart._repr_html_()


def test_a_check_says_in_one_sentence_what_is_missing_or_wrong():
    def fails(code) -> str:
        with pytest.raises(CheckFailed) as caught, check("blur: a convolution"):
            code()
        return str(caught.value)

    def empty():
        raise NotImplementedError

    def wrong():
        raise AssertionError("its weights must sum to 1.")

    assert fails(empty) == "✗ not written yet: blur: a convolution."
    assert fails(lambda: blur(1)) == "✗ not written yet (name 'blur' is not defined): blur: a convolution."  # noqa: F821
    assert fails(wrong) == "✗ blur: a convolution: its weights must sum to 1."
    assert fails(lambda: 1 / 0) == "✗ blur: a convolution: your code raised ZeroDivisionError: division by zero."
    with pytest.raises(SettingError), check("blur: a convolution"):
        raise SettingError("The library's own errors stay as they are.")
    with check("blur: a convolution"):
        pass

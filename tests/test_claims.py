"""The report's claims, as a notebook checks them."""

from ex5lib.notebook.claims import check_claim


def test_a_claim_prints_whether_it_holds_and_the_numbers(capsys):
    kept = check_claim("blur lowers the energy", 0.8 < 2.1, blurred=0.8, of_the_original=2.1)
    missed = check_claim("it rises", False)
    assert capsys.readouterr().out == (
        "holds: blur lowers the energy (blurred 0.8, of the original 2.1)\ndoes not hold: it rises\n"
    )
    assert kept.holds
    assert not missed.holds
    assert kept.numbers == {"blurred": 0.8, "of the original": 2.1}

"""Named experiments, profiles and claims."""

import pytest

import ex5lib
from ex5lib.errors import UnknownNameError
from ex5lib.experiments import notebook_profile, pick_experiment


def test_a_claim_prints_whether_it_holds_and_the_numbers(capsys):
    kept = ex5lib.check_claim("blur lowers the energy", 0.8 < 2.1, blurred=0.8, of_the_original=2.1)
    missed = ex5lib.check_claim("it rises", False)
    assert capsys.readouterr().out == (
        "holds: blur lowers the energy (blurred 0.8, of the original 2.1)\ndoes not hold: it rises\n"
    )
    assert kept.holds
    assert not missed.holds
    assert kept.numbers == {"blurred": 0.8, "of the original": 2.1}


def test_the_environment_overrides_a_notebooks_profile(monkeypatch):
    monkeypatch.delenv("EX5_PROFILE", raising=False)
    assert notebook_profile("full") == "full"
    monkeypatch.setenv("EX5_PROFILE", "smoke")
    assert notebook_profile("full") == "smoke"
    monkeypatch.setenv("EX5_PROFILE", "slow")
    with pytest.raises(UnknownNameError, match="Known: fast, full, smoke"):
        notebook_profile("full")


def test_the_reports_settings_are_those_of_the_design():
    weights = {name: experiment.latent_weight for name, experiment in ex5lib.EXPERIMENTS.items()}
    assert weights["inversion"] == weights["deblurring"] == 1e-3
    assert weights["colourisation"] == 0.1
    assert ex5lib.EXPERIMENTS["deblurring"].degradation.kernel_size == 25
    with pytest.raises(UnknownNameError, match='did you mean "inpainting"'):
        pick_experiment("inpaint")

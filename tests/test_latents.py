"""Statistics of W against closed forms and NumPy."""

import math

import numpy as np
import pytest
import torch

import ex5lib
from ex5lib.errors import SettingError
from ex5lib.inversion import latents
from ex5lib.inversion.latents import sample_z


def test_statistics_of_w_are_those_of_mapped_z(generator):
    found = latents.latent_statistics(generator, num_samples=2000, seed=4)
    z = torch.randn(2000, 512, generator=torch.Generator().manual_seed(4))
    w = generator.mapping(z)[:, 0].double().numpy()
    mean = w.mean(axis=0)
    np.testing.assert_allclose(found.w_avg, mean, atol=1e-4)
    assert found.w_std == pytest.approx(math.sqrt(((w - mean) ** 2).sum(axis=1).mean()), rel=1e-4)
    nearest = z[((w - mean) ** 2).sum(axis=1).argmin()]
    assert torch.equal(found.central_z[0], nearest)


def test_the_generators_mean_is_the_mean_over_ten_thousand(generator):
    other = latents.latent_statistics(generator, seed=123)
    assert (generator.w_avg - other.w_avg).norm() < 0.05 * other.w_std
    assert 7 < other.w_std < 11


def test_z_is_normal_or_uniform():
    normal, uniform = (sample_z(4000, 16, seed=0, distribution=d) for d in ("normal", "uniform"))
    assert normal.mean().abs() < 0.02
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert uniform.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)
    with pytest.raises(SettingError, match='did you mean "uniform"'):
        sample_z(1, 2, seed=0, distribution="unifrom")


def test_truncated_samples_lie_between_the_mean_and_the_full_ones(generator):
    full, half = ex5lib.sample_ws(generator, 3), ex5lib.sample_ws(generator, 3, truncation_psi=0.5)
    torch.testing.assert_close(half, (full + generator.w_avg) / 2)
    assert full.shape == (1, 16, 512)

"""Measures of a face against faces of which one thing, and only that, was changed by a known amount."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ex5lib.faces.landmarks import aligned_landmarks
from ex5lib.faces.measures import measure_face
from ex5lib.images.loading import load_image


@pytest.fixture(scope="module")
def face(root) -> Tensor:
    return load_image(root / "benchmarks" / "crops" / "astronaut.jpg")


def _moved(face: Tensor, centres: Tensor, shift: Tensor, width: float) -> Tensor:
    """The face with what is around some points [K, 2] moved by [K, 2], all in shares of its side."""
    y, x = torch.meshgrid(*[(torch.arange(face.shape[2]) + 0.5) / face.shape[2]] * 2, indexing="ij")
    place = torch.stack([x, y], dim=-1)  # [S, S, 2]
    near = torch.exp(-(place[:, :, None] - centres).square().sum(dim=-1) / (2 * width**2))  # [S, S, K]
    grid = 2 * (place - near @ shift)[None] - 1
    return F.grid_sample(face, grid, "bicubic", "border", align_corners=False).clamp(-1, 1)


# Points (iBUG, from 0), by how much they are moved, how wide an area with them; and what must follow. A predicted
# landmark follows a moved one only in part: it knows what faces look like.
@pytest.mark.parametrize(
    ("points", "shift", "width", "name", "in_units"),
    [
        ((48, 54), (0, -0.02), 0.03, "smile", 0.08),
        ((30,), (0.04, 0), 0.05, "turn", 0.16),
        ((37, 38, 43, 44), (0, 0.008), 0.012, "open eyes", -0.07),
    ],
)
def test_what_is_moved_is_noticed_and_by_its_own_measure_alone(face, points, shift, width, name, in_units):
    centres = torch.from_numpy(aligned_landmarks(face)).float()[list(points)]
    before = measure_face(face)
    after = measure_face(_moved(face, centres, torch.tensor([shift]).expand(len(points), 2), width))
    assert 0.3 < (after.pop(name) - before.pop(name)) / in_units < 1.3
    assert after == pytest.approx(before, abs=0.05)


def test_a_mirrored_face_measures_the_same_and_turns_the_other_way(face):
    before, after = measure_face(face), measure_face(face.flip(3))
    assert after.pop("turn") == pytest.approx(-before.pop("turn"), abs=0.04)
    assert after == pytest.approx(before, abs=0.02)


def test_hair_and_skin_are_measured_where_they_are(face):
    painted = face.clone()
    side = face.shape[2]
    painted[:, :, : round(0.17 * side)] = 1.0
    before, after = measure_face(face), measure_face(painted)
    assert after["light hair"] > max(0.9, before["light hair"] + 0.3)
    assert after["light skin"] == pytest.approx(before["light skin"], abs=0.02)
    dark = face.clone()
    dark[:, :, round(0.56 * side) : round(0.75 * side)] = -1.0
    after = measure_face(dark)
    assert after["light skin"] < 0.1
    assert after["light hair"] == pytest.approx(before["light hair"], abs=0.05)

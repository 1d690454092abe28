"""dlib's face descriptor in PyTorch, against dlib itself."""

import dlib
import numpy as np
import pytest
import torch

from ex5lib import weights
from ex5lib.errors import WeightsError
from ex5lib.faces.descriptor import CHIP_SIZE, FaceDescriptor, chip, load_descriptor
from ex5lib.faces.landmarks import aligned_box
from ex5lib.images.tensors import from_uint8, resize_area, to_uint8
from ex5lib.inversion.latents import sample_ws


@pytest.fixture(scope="module")
def theirs():
    return dlib.face_recognition_model_v1(str(weights.fetch("dlib-descriptor")))


@pytest.fixture(scope="module")
def faces(generator):
    """50 generated faces, 256 px."""
    with torch.no_grad():
        ws = torch.cat([sample_ws(generator, seed, truncation_psi=0.7) for seed in range(50)])
        return generator.synthesis(ws, size=256).clamp(-1, 1)


def dlibs_chip(face):
    pixels = np.ascontiguousarray(to_uint8(face))
    return dlib.get_face_chip(pixels, weights.landmark_model()(pixels, aligned_box(len(pixels))), CHIP_SIZE, 0.25)


def test_it_agrees_with_dlib(faces, theirs):
    chips = [dlibs_chip(face) for face in faces.split(1)]
    expected = np.array([theirs.compute_face_descriptor(each) for each in chips])
    found = load_descriptor()(torch.cat([from_uint8(each) for each in chips]))
    assert found.shape == (50, 128)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)


def test_a_chip_by_alignment_alone_says_nearly_the_same_as_one_by_landmarks(faces, theirs):
    found = load_descriptor()(chip(faces))
    expected = torch.tensor(np.array([theirs.compute_face_descriptor(dlibs_chip(face)) for face in faces.split(1)]))
    own = (found - expected).norm(dim=1)
    others = torch.cdist(found.double(), expected)[~torch.eye(50, dtype=torch.bool)]
    assert own.median() < 0.15  # two photos of a person lie within 0.6
    assert own.max() < others.min()


def test_the_chip_is_where_dlib_cuts_it_out_on_average(faces):
    """By the coordinates that it samples: those of an image whose colours are the x and y of each pixel."""
    rects = []
    for face in faces.split(1):
        pixels = np.ascontiguousarray(to_uint8(face))
        shape = weights.landmark_model()(pixels, aligned_box(256))
        rect = dlib.get_face_chip_details(shape, CHIP_SIZE, 0.25).rect
        rects.append([rect.left(), rect.right(), rect.top(), rect.bottom()])
    ramp = (torch.arange(256) + 0.5).expand(256, 256)
    x, y = chip(torch.stack([ramp, ramp.T, ramp])[None])[0, :2]
    half = (x[0, 1] - x[0, 0]) / 2  # pixels have a width
    found = [x.min() - half, x.max() + half, y.min() - half, y.max() + half]
    np.testing.assert_allclose(found, np.mean(rects, axis=0), atol=2)


def test_its_gradient_is_that_of_the_descriptor(astronaut):
    f = FaceDescriptor().double()
    face = resize_area(astronaut.image, 64).double()
    directions = torch.randn(3, *face.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    # A larger step crosses the kinks of some ReLU.
    torch.autograd.gradcheck(lambda t: f(chip(face + torch.einsum("d,dchw->chw", t, directions)))[0], t, eps=1e-7)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(weights.fetch("dlib-descriptor").read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match="does not hold dlib's face descriptor"):
        FaceDescriptor(path)

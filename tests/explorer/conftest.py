"""A face to explore, and explorations of it that are stopped in the end."""

import pytest
import torch
from explorations import PATIENCE, QUICK
from torch import Tensor

from ex5lib.explorer.choices import Choice
from ex5lib.explorer.exploration import Exploration
from ex5lib.explorer.searching import Searcher
from ex5lib.explorer.subjects import Subject
from ex5lib.faces.alignment import load_face
from ex5lib.inversion.recipes import Recipe, pick_recipe
from ex5lib.restoration import metrics
from ex5lib.restoration.pipeline import restore_faces


@pytest.fixture
def face() -> Tensor:
    """A red-green gradient with a bright blue square [1, 3, 64, 64]."""
    ramp = torch.linspace(-1, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.full((64, 64), -1.0)])[None]
    image[:, 2, 16:32, 16:32] = 1
    return image


@pytest.fixture(autouse=True)
def one_descriptor(monkeypatch):
    """The search's own images are noise: dlib's descriptors of them would take most of the time."""
    monkeypatch.setattr(metrics, "identity_distance", lambda *_: 0.5)


@pytest.fixture
def ended():
    """The explorations of a test, which are stopped in the end."""
    explorations: list[Exploration] = []
    yield explorations
    for one in explorations:
        one.stop()
        assert one.wait(PATIENCE)


@pytest.fixture
def make(small_generator, face, distance, tmp_path, ended):
    def _make(recipe: Recipe = QUICK, num_steps: int = 4, distance=distance, **choices) -> Exploration:
        recipes = {recipe.name: pick_recipe(recipe, num_steps=num_steps)}
        choice, subject = Choice(recipe=recipe.name, **choices), load_face(face, aligned=True, size=64)
        searcher = Searcher(small_generator, recipes, distance=distance, device="cpu")
        ended.append(Exploration(searcher, [Subject(subject, "square.png")], choice, out=tmp_path))
        return ended[-1]

    return _make


@pytest.fixture
def restored(small_generator, face, distance):
    """What ``restore`` finds for the same face with the same settings."""
    subject, same = (
        load_face(face, aligned=True, size=64),
        {"generator": small_generator, "distance": distance, "device": "cpu"},
    )
    return lambda D, recipe=QUICK, **more: restore_faces([subject], D, recipe, progress=False, **same, **more)[0]

"""The checks of the assignment judge what students may write: right in many ways, or wrong, and then told why.

``solutions/`` holds the variants, a file for each notebook. They run in networks of the real kind, thin and untrained.
"""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from nbformat import NotebookNode
from torch import nn

import ex5lib
from ex5lib.errors import CheckFailed
from ex5lib.faces.landmarks import ffhq_quad
from ex5lib.images.tensors import resize
from ex5lib.inversion.losses import PerceptualDistance
from scripts import assignment

FOLDER = Path(__file__).with_name("solutions")


class Variant(NamedTuple):
    """What a student may write in one of the tasks' cells."""

    notebook: str
    task: str  # the cell's grade_id
    kind: str  # "right"; "alone", if the stored solutions of later tasks cannot be run on it; or "wrong"
    name: str
    told: str  # if it is wrong: a part of what the check must say
    source: str  # of the cell; or lines "- …" and "+ …": what to exchange in the solution

    def written(self, solution: str) -> str:
        """The source, or the solution with what is to be exchanged in it; a backslash and n there end a line."""
        if not self.source.startswith("- "):
            return self.source
        pairs = re.findall(r"^- (.*)\n\+ (.*)$", self.source, re.M)
        assert 2 * len(pairs) == len(self.source.splitlines()), self.name
        for old, new in pairs:
            assert solution.count(old) == 1, f"{self.name}: {old}"
            solution = solution.replace(old, new.replace("\\n", "\n"))
        return solution


def _variants() -> list[Variant]:
    found, heading = [], re.compile(r"^## (\S+) (right|alone|wrong): (.+?)(?: → (.+))?\n", re.M)
    for path in sorted(FOLDER.glob("*.txt")):
        parts = heading.split(path.read_text(encoding="utf-8"))
        for task, kind, name, told, source in zip(*(parts[i::5] for i in range(1, 6)), strict=True):
            found.append(Variant(path.stem, task, kind, name, told or "", source.strip("\n")))
    return found


VARIANTS = _variants()
WRONG = [each for each in VARIANTS if each.kind == "wrong"]
RIGHT = [each for each in VARIANTS if each.kind != "wrong"]


class Course:
    """The notebooks' cells of definitions, solutions and checks, to be run with one of the solutions exchanged."""

    def __init__(self):
        self.sources = assignment.sources()
        self.before: dict[tuple[str, str], dict] = {}  # the names that exist before a task's cell
        for name, notebook in self.sources.items():
            scope: dict = {"__name__": "__main__"}
            for cell in _cells(notebook):
                if _about(cell).get("solution"):
                    self.before[name, _about(cell).grade_id] = dict(scope)
                if not _about(cell).get("locked"):
                    _execute(cell.source.replace('device = "auto"', 'device = "cpu"'), scope)

    def judge(self, variant: Variant) -> None:
        """Run a variant and its checks; if it is right, also the rest of the notebook's tasks, which build on it."""
        scope = dict(self.before[variant.notebook, variant.task])
        cells = _cells(self.sources[variant.notebook])
        task, *others = cells[[_about(cell).get("grade_id") for cell in cells].index(variant.task) :]
        _execute(task.source, scope)  # of its functions, a variant may leave some as they are
        _execute(variant.written(task.source), scope)
        for cell in others:
            if variant.kind != "right" and _about(cell).get("solution"):
                break
            _execute(cell.source, scope)


def _about(cell: NotebookNode) -> dict:
    return cell.metadata.get("nbgrader", {})


def _cells(notebook: NotebookNode) -> list[NotebookNode]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in code if _about(cell) or "setup" in cell.metadata.get("tags", ())]


def _execute(source: str, scope: dict) -> None:
    exec(compile(source, "cell", "exec"), scope)


def _thin_vgg() -> nn.Sequential:
    """VGG16's layers, four channels wide, the first of which takes every fourth pixel: a step takes milliseconds."""
    torch.manual_seed(3)
    layers, width = [], 3
    for block in (2, 2, 3, 3, 3):
        for _ in range(block):
            layers += [nn.Conv2d(width, 4, 3, padding=1, stride=1 if layers else 4), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)
            nn.init.normal_(layers[-2].bias)
            width = 4
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


@pytest.fixture(scope="module")
def course(preview_generator) -> Course:
    random = np.random.default_rng(4)
    landmarks = random.uniform(100, 400, (68, 2))
    # As symmetric as no face is: what is wrong only for others must be noticed as well.
    landmarks[36:42] = random.normal((200, 210), 9, (6, 2))
    landmarks[42:48] = (512, 0) - landmarks[36:42] * (1, -1)
    landmarks[[48, 54]] = (205, 330), (307, 330)
    image = resize(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1, 512)
    face = SimpleNamespace(image=image, landmarks=landmarks, quad=ffhq_quad(landmarks))
    distance = PerceptualDistance(vgg=_thin_vgg(), device="cpu")
    section = SimpleNamespace(face=face, G=preview_generator, distance=distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ex5lib, "Section", lambda *_, **__: section)
        yield Course()


def test_there_are_variants_of_every_task(course):
    for some in (RIGHT, WRONG):
        assert {(each.notebook, each.task) for each in some} == set(course.before)
        assert len(some) >= 60
    assert [bool(each.told) for each in VARIANTS] == [each in WRONG for each in VARIANTS]
    assert len({(each.notebook, each.task, each.name) for each in VARIANTS}) == len(VARIANTS)


def _named(variants: list[Variant]) -> Callable:
    return pytest.mark.parametrize("variant", variants, ids=[f"{each.task}: {each.name}" for each in variants])


@_named(RIGHT)
def test_a_right_solution_passes_its_check_and_those_that_build_on_it(course, variant):
    course.judge(variant)


@_named(WRONG)
def test_a_wrong_solution_is_told_what_is_wrong(course, variant):
    with pytest.raises(CheckFailed) as caught:
        course.judge(variant)
    assert variant.told in str(caught.value)

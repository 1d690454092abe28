"""What checks ask of a student's function besides its values: type, gradient, rates, and that it is the student's own.

All of them raise AssertionError with a sentence for the student, which ``check`` shows.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, FunctionType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from stylegan2_ada.generator import Generator

# Where there are ready-made answers to the tasks, by module and name. (A dataclass's __init__ has a name of no use.)
_ANSWERS = re.compile(
    r"(?!.*__create_fn__)(ex5lib\.(degradations|faces|inversion|restoration)\b|(kornia|torchvision)\b.*(gauss|gray))"
)
_CUT = (
    "no gradient passes through it, and a search needs one: `detach`, `item`, `no_grad`, `torch.tensor` and NumPy cut "
    "it off."
)


def by_hand(function: Callable, *given: FunctionType | type) -> Callable:
    """A student's function that fails if it calls a library where the student should write.

    Args:
        function: the student's.
        given: functions and classes of the library that the task offers; what these call is allowed as well.
    """
    functions = [function for each in given for function in (vars(each).values() if isinstance(each, type) else [each])]
    offered = {each.__code__ for each in functions if isinstance(each, FunctionType)}

    def called(*args, **kwargs):
        used: list[str] = []

        def watch(frame: FrameType, event: str, _: object) -> None:
            name = frame.f_code.co_qualname
            if event == "call" and _ANSWERS.match(f"{frame.f_globals.get('__name__')}.{name}"):
                outer: FrameType | None = frame
                while outer is not None and outer.f_code is not called.__code__:
                    if outer.f_code in offered or outer.f_code.co_name == "<module>":  # a module that is being imported
                        return
                    outer = outer.f_back
                used.append(name.partition(".")[0])

        before = sys.getprofile()
        sys.setprofile(watch)
        try:
            found = function(*args, **kwargs)
        finally:
            sys.setprofile(before)
        assert not used, f"it calls the library's {used[0]}, which is what you should write yourself here."
        return found

    return called


def tensor_like(found: object, like: Tensor) -> Tensor:
    """What a student's function returned, with the type and device of another tensor: any precision is right."""
    assert torch.is_tensor(found), f"it must return a tensor, not {type(found).__name__}."
    return found.detach().to(like)


def number(found: Any) -> float:
    """What a student's function returned, if it is a single number."""
    assert found is not None, "it must return a number, and returns nothing: is there a `return`?"
    if torch.is_tensor(found):
        found = found.detach().cpu().numpy()
    assert np.size(found) == 1, f"it must return a single number, not {list(np.shape(found))} of them."
    return float(np.reshape(found, ()))


def gradient(function: Callable[[Tensor], object], at: Tensor) -> Tensor | None:
    """The gradient of a function's result, weighted by fixed random numbers; None if there is none."""
    at = at.detach().clone().requires_grad_()
    try:
        made = function(at)
    except RuntimeError as error:
        if "numpy()" in str(error):  # PyTorch refuses to hand over to NumPy what has a gradient
            return None
        raise
    if not torch.is_tensor(made) or not made.requires_grad:
        return None
    weights = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made)
    return torch.autograd.grad((made * weights).sum(), at, allow_unused=True)[0]


def check_gradient(mine: Callable[[Tensor], object], theirs: Callable[[Tensor], Tensor], at: Tensor) -> None:
    """Fail unless a student's function has the gradient of the library's."""
    found, right = gradient(mine, at), gradient(theirs, at)
    assert found is not None, _CUT
    assert right is not None
    apart = (found - right).norm() / right.norm()
    assert apart < 0.01, "its value is right, but its gradient is not: is a part of it detached?"


def check_pair(
    mine: Callable[[Tensor, Tensor], object],
    degraded: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    images: tuple[Tensor, Tensor],
    word: str,
) -> None:
    """Fail unless a student's distance degrades both images, and its gradient reaches the first, the generated one.

    Args:
        mine: the student's, of a generated image and a photo.
        degraded: the student's degradation, which has a check of its own.
        distance: d.
        images: two different ones [1, 3, S, S].
        word: for what a degraded image is, such as "blurred".
    """
    one, two = images
    same = number(mine(one, one))
    assert same < 1e-6, f"of two equal images it must be 0, and is {same:.2f}: is only one of them {word}?"
    d, right = number(mine(two, one)), number(distance(degraded(two), degraded(one)))
    assert abs(d / right - 1) < 1e-4, f"it is {d:.3f}, but {right:.3f} is right: both must be {word}, once."
    assert gradient(degraded, two) is not None, f"what makes images {word} lets no gradient through: mend that first."
    first, second = (lambda image: mine(image, one)), (lambda image: mine(two, image))
    exchanged = gradient(first, two) is None and gradient(second, one) is not None
    assert not exchanged, "no gradient reaches the generated image: it comes first, then the photo."
    check_gradient(first, lambda image: distance(degraded(image), degraded(one)), two)


@contextmanager
def cheap_steps(G: Generator) -> Iterator[list[float]]:
    """Within the block G makes images of 16 px in no time, and the list gets the rate of every optimiser's step."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook  # imported here: it takes a second

    basis = 0.03 * torch.randn(G.w_dim, 3 * 16 * 16, generator=torch.Generator().manual_seed(0)).to(G.w_avg)

    def small(ws: Tensor, _noise: object = None, size: int | None = None, **_: object) -> Tensor:
        assert size in (16, None), f"it asks for an image of {size} px, and not of `size`, here 16 px."
        return (ws.mean(dim=1) @ basis).view(-1, 3, 16, 16)

    rates: list[float] = []
    hook = register_optimizer_step_pre_hook(lambda each, *_: rates.append(float(each.param_groups[0]["lr"])))
    try:
        with patch.object(G.synthesis, "forward", small):
            yield rates
    finally:
        hook.remove()

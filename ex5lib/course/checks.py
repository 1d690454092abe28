"""Checks of what a student has written; each says in one sentence what is missing or wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

from IPython.display import display

from ex5lib.course.claims import Passed
from ex5lib.errors import CheckFailed, Ex5Error


@contextmanager
def check(task: str) -> Iterator[None]:
    """Run the assertions of a ``with`` block on what the student wrote, and show that they passed.

    Raises:
        CheckFailed: with one sentence, if the code is not written yet, raises an error, or fails an assertion.

    Example:
        >>> with check("square: the corners"):  # the task's name, and what to write
        ...     assert np.allclose(square(points), expected), "The corners are not FFHQ's."
    """
    try:
        yield
    except (NotImplementedError, NameError) as error:
        missing = f" ({error})" if isinstance(error, NameError) else ""
        raise CheckFailed(f"✗ not written yet{missing}: {task}.") from None
    except AssertionError as error:
        raise CheckFailed(f"✗ {task}: {error}") from None
    except Ex5Error:
        raise
    except Exception as error:
        raise CheckFailed(f"✗ {task}: your code raised {type(error).__name__}: {error}.") from error
    display(Passed(task))

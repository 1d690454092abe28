"""Named ways to run a search."""

from dataclasses import asdict, dataclass

from ex5lib.errors import UnknownNameError


@dataclass(frozen=True)
class Profile:
    """Keywords of ``project()`` under one name.

    Example:
        >>> project(G, target, **PROFILES["fast"].keywords())
    """

    recipe: str
    steps: int | None = None
    statistics_samples: int = 10_000

    def keywords(self) -> dict:
        """The fields, as ``project()`` takes them."""
        return asdict(self)


PROFILES = {
    "smoke": Profile("smoke", statistics_samples=1000),  # for tests: seconds a run, and looks like it
    "fast": Profile("fast"),
    "full": Profile("karras2020", steps=1000),
}


def pick_profile(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES)
    return PROFILES[name]

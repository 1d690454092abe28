"""What a command says about a result: where it is, what to look at first, how good it is."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ex5lib.cli.options import say
from ex5lib.restoration.metrics import likeness
from ex5lib.restoration.restored import Restoration

# The picture to look at first, and what it is.
_FIRST = {
    "photo.png": "the photo with its face restored",
    "composite.png": "what the photo tells, and the rest from the generator",
    "result.png": "the face found",
}


def tell(restoration: Restoration, folder: Path, written: Sequence[Path]) -> None:
    """Say where a result was written, what to look at first, and how good it is."""
    run, names = restoration.run, {path.name for path in written}
    if run.stopped:
        say(f"stopped after {run.num_steps} of {run.settings['num_steps']} steps")
    first = next(name for name in _FIRST if name in names)
    say(f"written to {folder}: look at {first} first, {_FIRST[first]}")
    tell_enlarged(restoration.photo, restoration.enlarged)
    if restoration.note:
        say(f"  {restoration.note}")
    if run.settings["found"]:
        unknown = [part for part in restoration.degradation.modules() if getattr(part, "unknown", False)]
        say(f"  found with it: {'; '.join(getattr(part, 'words', str(part)) for part in unknown)}")
    if tuning := run.settings.get("tune"):
        say(f"  tuned for {tuning['done']} of {tuning['num_steps']} steps")
    for name, values in restoration.metrics.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
        if "identity_distance" in values and name.startswith("result"):
            say(f"  same person as in the original: {likeness(values['identity_distance'])}")


def tell_enlarged(photo: Tensor | None, factor: int) -> None:
    """Say how large a restored photo [1, 3, H, W] has become, if there is one and it was enlarged."""
    if photo is not None and factor > 1:
        height, width = photo.shape[2:]
        say(f"  photo.png is {factor} times larger: {width} × {height} px")

"""Choosing your own photo in a notebook."""

import sys
from pathlib import Path
from typing import Any

import ipywidgets
from IPython.display import display

from ex5lib.errors import FileError
from ex5lib.files import replacing

_FOLDER = Path("uploads")
_chooser: ipywidgets.FileUpload | None = None  # kept from one run of the cell to the next


def choose_photo(photo: str | Path) -> Path:
    """The photo to work on: the given path or, for "upload", a file that the user picks.

    On Colab, this waits for the file. Elsewhere a cell cannot wait for a widget: the first run shows the button and
    ends with a FileError; the second run takes the file.
    """
    global _chooser
    if str(photo) != "upload":
        return Path(photo)
    if "google.colab" in sys.modules:
        from google.colab import files

        chosen = dict(files.upload())
        if not chosen:
            raise FileError("No file was chosen: run this cell again, or give a path.")
        return _save(*next(iter(chosen.items())))
    if _chooser is None:
        _chooser = ipywidgets.FileUpload(
            accept="image/*", multiple=False, description="Choose a photo", layout={"width": "max-content"}
        )
    if not _chooser.value:
        nothing = "No photo has been chosen yet."
        status = ipywidgets.Label(nothing)

        def tell(change: dict) -> None:
            value = change["new"]
            status.value = f"{_chosen(value)[0]} is here: run this cell again." if value else nothing

        _chooser.observe(tell, "value")
        display(ipywidgets.HBox([_chooser, status]))
        raise FileError(
            "Choose a photo with the button above, then run this cell again; if nothing happens (some set-ups lose "
            "files of 1 MB and more), put the photo next to the notebook and give its path."
        )
    return _save(*_chosen(_chooser.value))


def _chosen(value: Any) -> tuple[str, bytes]:
    """Name and content of the file in a chooser's value."""
    if isinstance(value, dict):  # ipywidgets 7: {name: {"metadata": …, "content": bytes}}
        name, file = next(iter(value.items()))
    else:  # 8: ({"name": …, "content": memoryview, …},)
        (file,) = value
        name = file["name"]
    return name, bytes(file["content"])


def _save(name: str, content: bytes) -> Path:
    path = _FOLDER / Path(name).name  # whatever folder the name claims
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path

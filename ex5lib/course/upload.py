"""Choosing a photo of one's own in a notebook."""

import sys
from pathlib import Path

import ipywidgets
from IPython.display import display

from ex5lib.errors import FileError
from ex5lib.files import replacing

_FOLDER = Path("uploads")
_chooser: ipywidgets.FileUpload | None = None  # stays from one run of the cell to the next


def choose_photo(photo: str | Path) -> Path:
    """The photo to work on: the given path or, for "upload", a file that the user picks.

    On Colab this asks for the file and waits for it. Elsewhere a cell cannot wait for a widget: its first run shows
    the button and ends with one sentence, and its second run takes the file.

    Raises:
        FileError: if no file has been chosen (yet).
    """
    global _chooser
    if str(photo) != "upload":
        return Path(photo)
    if "google.colab" in sys.modules:
        from google.colab import files

        chosen = dict(files.upload())
        if not chosen:
            raise FileError("No file was chosen: run this cell again, or name a path.")
        name, content = next(iter(chosen.items()))
        return _save(name, content)
    if _chooser is None:
        _chooser = ipywidgets.FileUpload(
            accept="image/*", multiple=False, description="Choose a photo", layout={"width": "max-content"}
        )
    if not _chooser.value:
        said = ipywidgets.Label("No photo has been chosen yet.")
        _chooser.observe(lambda _: setattr(said, "value", _chosen_in_words()), "value")
        display(ipywidgets.HBox([_chooser, said]))
        raise FileError(
            "Choose a photo with the button above, then run this cell again; if the button says nothing of it (some "
            "set-ups lose files of 1 MB and more), put the photo next to the notebook and name its path."
        )
    return _save(*_chosen())


def _chosen() -> tuple[str, bytes]:
    if isinstance(_chooser.value, dict):  # ipywidgets 7: {name: {"metadata": …, "content": bytes}}
        name, file = next(iter(_chooser.value.items()))
    else:  # 8: ({"name": …, "content": memoryview, …},)
        (file,) = _chooser.value
        name = file["name"]
    return name, bytes(file["content"])


def _chosen_in_words() -> str:
    return f"{_chosen()[0]} is here: run this cell again." if _chooser.value else "No photo has been chosen yet."


def _save(name: str, content: bytes) -> Path:
    path = _FOLDER / Path(name).name  # whatever folder the name claims
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path

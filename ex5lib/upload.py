"""A photo of the user's own, in a notebook."""

import sys
from pathlib import Path

import ipywidgets
from IPython.display import display

from ex5lib.errors import MissingFileError
from ex5lib.files import replacing

_FOLDER = Path("uploads")
_chooser: ipywidgets.FileUpload | None = None  # on the page, from one run of the cell to the next


def choose_photo(photo: str | Path) -> Path:
    """The photo to work on: the path that is given, or, for "upload", a file of the user's.

    On Colab this asks for the file and waits. Elsewhere a notebook cannot wait for a widget: the first run of the
    cell shows the button and ends with one sentence, and the next takes what was chosen.

    Raises:
        MissingFileError: if no file has been chosen (yet).
    """
    global _chooser
    if str(photo) != "upload":
        return Path(photo)
    if "google.colab" in sys.modules:
        from google.colab import files

        chosen = dict(files.upload())
        if not chosen:
            raise MissingFileError("No file was chosen: run this cell again, or name a path.")
        name, content = next(iter(chosen.items()))
        return _kept(name, content)
    if _chooser is None:
        _chooser = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Choose a photo")
    if not _chooser.value:
        display(_chooser)
        raise MissingFileError(
            "Choose a photo with the button above, then run this cell again; if the button does nothing (files of "
            "1 MB and more are lost in some set-ups), put the photo beside the notebook and name its path."
        )
    if isinstance(_chooser.value, dict):  # ipywidgets 7: {name: {"metadata": …, "content": bytes}}
        name, file = next(iter(_chooser.value.items()))
    else:  # 8: ({"name": …, "content": memoryview, …},)
        (file,) = _chooser.value
        name = file["name"]
    return _kept(name, bytes(file["content"]))


def _kept(name: str, content: bytes) -> Path:
    path = _FOLDER / Path(name).name
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path

"""The sample photos in ``data/``, which travel with the package."""

from pathlib import Path

from ex5lib.errors import unknown_name

# A wheel carries data/ inside the package; in a checkout, installed or not, it lies beside the package.
_FOLDERS = (Path(__file__).parent / "data", Path(__file__).parents[1] / "data")


def sample_photo(name: str = "astronaut.png") -> Path:
    """The file of a sample photo: "astronaut.png", "officer.jpg" or "portrait.jpg" (credits in data/CREDITS.md).

    Raises:
        SettingError: if there is none of that name.
    """
    photos = _photos()
    if name not in photos:
        raise unknown_name("sample photo", name, photos)
    return photos[name]


def sample_names() -> list[str]:
    """The names of all sample photos."""
    return sorted(_photos())


def _photos() -> dict[str, Path]:
    folder = next((folder for folder in _FOLDERS if (folder / "CREDITS.md").is_file()), _FOLDERS[-1])
    return {path.name: path for path in folder.glob("*.*") if path.suffix in (".jpg", ".png")}

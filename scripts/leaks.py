"""Find what students must work out for themselves, and must not find: solutions, hidden tests and sample answers."""

import html
import re
from pathlib import Path

from nbformat import NotebookNode

_KEPT_BACK = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)[^\n]*\n(.*?)^[^\n]*### END \1", re.M | re.S)
_TAG = re.compile(r"<[^>]+>")
_ENOUGH = 14  # letters, digits and _ in a line; shorter ones, such as `return x`, occur anywhere by chance


def leaks(folder: Path, notebooks: dict[str, NotebookNode]) -> list[str]:
    """The lines between the notebooks' markers that a text file in the folder shows, as "file: line".

    Punctuation, white space, tags and Markdown's marks do not count. Lines that are also outside the markers are no
    secret.
    """
    hidden, given = {}, ""
    for notebook in notebooks.values():
        for cell in notebook.cells:
            given += _letters(_KEPT_BACK.sub("", cell.source)) + "\n"
            lines = [line for _, block in _KEPT_BACK.findall(cell.source) for line in block.splitlines()]
            hidden |= {_letters(line): line.strip() for line in lines}
    secrets = {letters: line for letters, line in hidden.items() if len(letters) >= _ENOUGH and letters not in given}
    found = []
    for path in sorted(folder.rglob("*")):
        text = _text(path)
        found += [f"{path.relative_to(folder)}: {line}" for letters, line in secrets.items() if letters in text]
    return found


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError:  # an image
        return ""
    return _letters(html.unescape(_TAG.sub("", text)) if path.suffix == ".html" else text)


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", text)

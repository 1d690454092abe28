"""What of the solutions, hidden tests and model answers stands in a folder: in its files and in the archives there."""

import html
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from nbformat import NotebookNode
from pypdf import PdfReader

from scripts.assignment import student_copy

_SECRET = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS)[^\n]*\n(.*?)\n[^\n]*### END", re.S)
_TAG = re.compile(r"<[^>]+>")
_TELLING = 30  # characters besides spaces. A shorter line, such as `return mask`, counts together with the next ones
_COMMON = 2  # notebooks: a line of code that so many give to students anyway tells nothing

# The library's own ways to do what students write. They may share lines with a solution: a call of them is told by the
# checks. Hidden tests and answers must not be there either.
_READY_MADE = re.compile(r"\.whl/ex5lib/(degradations|faces|inversion|restoration)/")


def leaks(folder: Path, notebooks: Mapping[str, NotebookNode], *more: str) -> list[str]:
    """Every passage that must not be in a folder but is, in words: where it is, whence, and what.

    Lines are compared without spaces, wherever they stand: in the sources, outputs and metadata of notebooks, in text
    files, in PDFs, and in the files of zips and wheels.

    Args:
        notebooks: the sources, by name.
        more: what must not be there besides.
    """
    passages = [(name, kind, passage) for name, source in notebooks.items() for kind, passage in _passages(source)]
    given = [_plain("\n".join(cell.source for cell in student_copy(each).cells)) for each in notebooks.values()]
    passages = [each for each in passages if sum(_plain(each[2]) in text for text in given) < _COMMON]
    passages += [("the project", "address", words) for words in more]
    found = []
    for place, text in _texts(folder):
        for name, kind, passage in passages:
            if _plain(passage) in text and not (kind == "solution" and _READY_MADE.search(place)):
                found.append(f"{place}: {kind} of {name}: {passage}")
    return found


def _passages(source: NotebookNode) -> Iterator[tuple[str, str]]:
    """The lines between a notebook's markers, each after what it is, short ones with their neighbours."""
    for cell in source.cells:
        for marker, block in _SECRET.findall(cell.source):
            kind = "hidden test" if marker == "HIDDEN TESTS" else "solution" if cell.cell_type == "code" else "answer"
            lines = [line for line in map(str.strip, block.splitlines()) if line]
            for first in range(len(lines)):
                last = first + 1
                while len(_plain(passage := " ".join(lines[first:last]))) < _TELLING and last < len(lines):
                    last += 1
                if len(_plain(passage)) >= _TELLING or first == 0:  # or the whole block
                    yield kind, passage


def _plain(text: str) -> str:
    return "".join(text.split())  # a PDF breaks lines also where there is no space


def _texts(folder: Path) -> Iterator[tuple[str, str]]:
    """The files in a folder, and those in the archives there: path, and text without spaces."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield from _text(path.relative_to(folder).as_posix(), path.read_bytes())


def _text(name: str, content: bytes) -> Iterator[tuple[str, str]]:
    match PurePosixPath(name).suffix:
        case ".whl" | ".zip":
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for entry in archive.namelist():
                    yield from _text(f"{name}/{entry}", archive.read(entry))
        case ".pdf":
            yield name, _plain("\n".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages))
        case ".html":
            yield name, _plain(html.unescape(_TAG.sub("", content.decode("utf-8"))))
        case ".ipynb":
            yield name, _plain("\n".join(_strings(json.loads(content))))
        case _:
            yield name, _plain(content.decode("utf-8", errors="replace"))


def _strings(value: object) -> Iterator[str]:
    """All strings in what JSON holds; a list of strings, as a cell's source, is one."""
    match value:
        case str():
            yield value
        case list() if all(isinstance(each, str) for each in value):
            yield "".join(value)
        case list():
            for each in value:
                yield from _strings(each)
        case dict():
            for each in value.values():
                yield from _strings(each)

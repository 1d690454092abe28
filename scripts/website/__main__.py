"""Build the site: the assignment and the notebooks without solutions, the documents, and a reference.

    python -m scripts.website        writes site/, to be opened in a browser or published

Sphinx reads its pages from build/site, where they lie as in the repository. It stops at every warning, such as a link
to a page or a heading that does not exist. A site in which a link leads nowhere, or that shows a line of a solution, is
not kept.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from bs4 import BeautifulSoup

import ex5lib
from scripts.assignment import ROOT, shown_copy, sources
from scripts.leaks import leaks
from scripts.notebooks import BADGE, PLACEHOLDER

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "site"
SITE = ROOT / "site"
COPIED = ("docs", "training/README.md", "CONTRIBUTING.md")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)#]+)[^)]*\)")
MODULES = (
    "figures", "devices", "errors", "images.tensors", "faces.alignment", "faces.landmarks", "inversion.latents",
    "inversion.losses", "inversion.stages", "inversion.recipes", "restoration.pipeline", "restoration.restored",
    "restoration.metrics", "course.claims", "course.live", "course.sweep", "course.handin",
)  # fmt: skip


def gather(folder: Path) -> None:
    """Write the site's pages into a folder, as Markdown and notebooks."""
    (folder / "notebooks").mkdir(parents=True)
    for name, notebook in sources().items():
        nbformat.write(shown_copy(notebook), folder / "notebooks" / f"{name}.ipynb")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        (folder / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    readme = BADGE.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    first, _, rest = readme.partition("## From Python")
    first = re.sub(r"^(\|.*\|)(?: *|---)\|$", r"\1", first, flags=re.M)  # the column of badges is empty now
    contents = (HERE / "contents.md").read_text(encoding="utf-8")
    (folder / "index.md").write_text(first + contents, encoding="utf-8")
    (folder / "usage.md").write_text(f"# Using it\n\n## From Python{rest}", encoding="utf-8")
    shutil.copyfile(ROOT / "scripts" / "student.md", folder / "assignment.md")
    _reference(folder / "api")
    for page in folder.rglob("*.md"):
        page.write_text(_LINK.sub(lambda link, page=page: _led(link, page, folder), page.read_text()))


def _led(link: re.Match, page: Path, folder: Path) -> str:
    """A link, or, if its target is not on the site, one to the repository, as soon as that has an address."""
    target = (page.parent / link[2]).resolve()
    if target.exists():
        return link[0]
    address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
    return link[1] if PLACEHOLDER in address else f"[{link[1]}]({address}/blob/main/{target.relative_to(folder)})"


def _reference(folder: Path) -> None:
    """Write a page of the package's names, by the rooms that they come from, and one of the modules behind them."""
    folder.mkdir()
    rooms: dict[str, list[str]] = {}
    for name in ex5lib.__all__:
        rooms.setdefault(getattr(ex5lib, name).__module__.split(".")[1], []).append(name)
    page = ["# ex5lib", f"{ex5lib.__doc__} After `import ex5lib`, these names are there."]
    for room, names in sorted(rooms.items()):
        page += [f"## {room.capitalize()}", *(_described(f"ex5lib.{name}") for name in names)]
    (folder / "ex5lib.md").write_text("\n\n".join(page), encoding="utf-8")
    page = ["# Its modules", "What the notebooks and the documents use besides."]
    for module in MODULES:
        page += [f"## {module.removeprefix('ex5lib.')}", _described(f"ex5lib.{module}", "module")]
    (folder / "modules.md").write_text("\n\n".join(page), encoding="utf-8")


def _described(name: str, kind: str = "") -> str:
    """Sphinx's directive for what the docstrings say about a name."""
    kind = kind or ("class" if isinstance(getattr(ex5lib, name.removeprefix("ex5lib.")), type) else "function")
    return f"```{{eval-rst}}\n.. auto{kind}:: {name}\n```"


def broken(site: Path) -> list[str]:
    """The links inside the site that lead nowhere, as "page: link"."""
    pages = {path: BeautifulSoup(path.read_bytes(), "html.parser") for path in site.rglob("*.html")}
    names = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    found = []
    for path, page in pages.items():
        for tag in page.find_all(["a", "img", "link", "script"]):
            link = urlsplit(tag.get("href") or tag.get("src") or "")
            if link.scheme or link.netloc:
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            if target.is_dir():
                target /= "index.html"
            fragment = unquote(link.fragment)
            if not target.exists() or (fragment and target in names and fragment not in names[target]):
                found.append(f"{path.relative_to(site)}: {link.geturl()}")
    return found


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    gather(BUILD / "pages")
    html = BUILD / "html"
    strict = ("--fail-on-warning", "--keep-going", "--quiet")
    command = [sys.executable, "-m", "sphinx", *strict, "-c", HERE, "-d", BUILD / "doctrees", BUILD / "pages", html]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit("The site was not built: see the warnings above.")
    wrong = [f"A link leads nowhere. {each}" for each in broken(html)]
    wrong += [f"A solution is shown. {each}" for each in leaks(html, sources())]
    if wrong:
        sys.exit("\n".join(wrong))
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(html, SITE)
    print(f"written to site/: open {SITE / 'index.html'}")


if __name__ == "__main__":
    main()

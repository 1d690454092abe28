"""The whole report: run the notebooks, and make one page of what they show.

From the notebooks, in their order, the page takes the paragraphs tagged "report", the figures, tables and sliders, and
the claims. A paragraph tagged "seen" asks what a figure shows, and says it of the sample photo: that answer is taken,
for that photo alone.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ex5lib import errors
from ex5lib.course.claims import VERDICTS, in_words
from ex5lib.course.handin import OPTIONAL, task_folder
from ex5lib.course.printing import print_page
from ex5lib.course.section import METADATA, notebook_recipe, proves_nothing
from ex5lib.errors import Ex5Error, FileError, ReportError
from ex5lib.files import check_writable, replacing
from ex5lib.images.frames import data_uri, jpeg
from ex5lib.images.loading import load_image
from ex5lib.inversion.recipes import pick_recipe
from ex5lib.restoration.pipeline import TASKS
from ex5lib.samples import sample_photo

try:
    import jinja2
    import mistune
    import nbformat
    import papermill
except ModuleNotFoundError as error:
    raise ReportError(
        f'The report needs {error.name}, from pip install "ex5lib[dev]", and a clone of the repository with notebooks/.'
    ) from None

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TEMPLATE = Path(__file__).with_name("report.html.j2")
_PAGE, _PDF = "report.html", "report.pdf"
_QUESTION = re.compile(r"\A\*\*Look\.\*\*.*?### BEGIN SOLUTION -->\n|\n<!-- ### END SOLUTION -->\Z", re.S)
_SHOWN = ("original_degraded_image.png", "final_inverted_image.png")


@dataclass(frozen=True)
class Request:
    """What to report on: the notebooks' parameters, except the device, which changes no result."""

    photo: Path = field(default_factory=sample_photo)
    generator: str = "mobile-ffhq"
    recipe: str = "fast"

    def as_json(self) -> dict[str, str]:
        """What identifies a finished notebook; the photo is given by its digest."""
        digest = hashlib.sha256(self.photo.read_bytes()).hexdigest()
        return {"photo": digest, "generator": self.generator, "recipe": notebook_recipe(self.recipe)}


def make_report(
    request: Request,
    out: str | Path,
    *,
    notebooks: str | Path | None = None,
    optional: bool = False,
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Path:
    """Run the notebooks that ``out`` does not hold yet, and write the page, its PDF and ``metrics.json``.

    Args:
        out: folder; ``notebooks/`` gets the executed notebooks, ``figures/`` the figures as PNG and PDF, ``tasks/``
            the files to hand in.
        notebooks: folder with notebooks; None takes the repository's own.
        optional: also those that a report does without (``handin.OPTIONAL``).
        device: as in ``project``.
        say: called with one line for each notebook.

    Returns:
        the path of the page, ``report.html``, which loads no other file. With a Chromium on this machine it is also
        printed to ``report.pdf``.

    Raises:
        ReportError: if a notebook fails; those before it are kept and not run again.
        FileError: if ``out`` cannot be written to, or this is not a clone of the repository.
    """
    folder = Path(notebooks or NOTEBOOKS).absolute()
    found = sorted(path.stem for path in folder.glob("*.ipynb"))
    names = [name for name in found if optional or name not in OPTIONAL]
    if not names and notebooks:
        raise FileError(f"There are no notebooks in {notebooks}: name the folder that holds them.")
    if not names:
        raise FileError("The report needs a clone of the repository: the installed package comes without notebooks/.")
    out = Path(out).absolute()
    check_writable(out)
    pages = {}
    for name in names:
        began = time.perf_counter()
        pages[name], fresh = _executed(folder / f"{name}.ipynb", request, out, device)
        say(f"{name}: {time.perf_counter() - began:.0f} s" if fresh else f"{name}: done before")
    sections = [json.loads((out / f"{name.partition('_')[0]}.json").read_text(encoding="utf-8")) for name in names]
    about = request.as_json() | {"photo": request.photo.name}
    with replacing(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps({**about, "sections": sections}, indent=1), encoding="utf-8")
    sample = request.as_json() == Request().as_json() | {"recipe": Request.recipe}  # whatever EX5_RECIPE says
    page = render(pages, sections, about, with_what_was_seen=sample and not notebooks, gallery=_gallery(out, sections))
    (out / _PDF).unlink(missing_ok=True)  # it belongs to an earlier page
    with replacing(out / _PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if print_page(out / _PAGE, out / _PDF):
        say(f"printed as {_PDF}")
    else:
        say("no Chromium was found to print it as PDF: open the page in a browser and print it from there")
    return out / _PAGE


def _gallery(out: Path, sections: list[dict]) -> list[dict[str, str]]:
    """The photo given and the image found for each task that the sections ran, as small pictures."""
    pictures = []
    for task in TASKS:
        place = task_folder(out, task)
        ran = any(search["name"] == task for section in sections for search in section["searches"])
        if ran and all((place / name).is_file() for name in _SHOWN):
            images = [data_uri(jpeg(load_image(place / name))) for name in _SHOWN]
            pictures.append({"task": task, "given": images[0], "found": images[1]})
    return pictures


def _executed(path: Path, request: Request, out: Path, device: str) -> tuple[nbformat.NotebookNode, bool]:
    """A notebook with its outputs for this request, and whether it had to be run."""
    name, done = path.stem, out / "notebooks" / path.name
    source = nbformat.read(path, as_version=4)
    code = [cell.source for cell in _code(source)]  # text may change without a new run
    wanted = {"request": request.as_json(), "code": hashlib.sha256(json.dumps(code).encode()).hexdigest()}
    if done.exists():
        executed = nbformat.read(done, as_version=4)
        if executed.metadata.get(METADATA) == wanted and (out / f"{name.partition('_')[0]}.json").exists():
            together = with_outputs(source, executed)
            if together.cells != executed.cells:  # the hand-in gets the new text
                together.metadata[METADATA] = wanted
                with replacing(done) as temporary:
                    nbformat.write(together, temporary)
            return together, False
    done.parent.mkdir(parents=True, exist_ok=True)
    parameters = asdict(request) | {"photo": str(request.photo.absolute()), "device": device, "out": str(out)}
    # Notebooks read ../data; a folder that somebody handed in may have none beside it.
    place = path.parent if (path.parents[1] / "data").is_dir() else sample_photo().parent
    with replacing(done) as temporary:
        try:
            executed = papermill.execute_notebook(
                path, temporary, parameters, cwd=place, kernel_name="python3", log_output=False
            )
        except papermill.PapermillExecutionError as error:
            ours = issubclass(getattr(errors, error.ename, Exception), Ex5Error)
            sentence = error.evalue if ours else f"{error.ename}: {error.evalue}"
            raise ReportError(f"Notebook {name} failed: {sentence}") from None
        executed.metadata[METADATA] = wanted
        nbformat.write(executed, temporary)
    return with_outputs(source, executed), True


def with_outputs(notebook: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the outputs of ``executed``, which has the same code cells, and papermill's parameters."""
    # By their order: the cells of some notebooks, such as Colab's, have no ids.
    done = [cell for cell in _code(executed) if "injected-parameters" not in cell.metadata.get("tags", ())]
    for cell, ran in zip(_code(notebook), done, strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    return notebook


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def render(
    pages: dict[str, nbformat.NotebookNode],
    sections: list[dict],
    about: dict,
    *,
    with_what_was_seen: bool,
    gallery: Sequence[dict[str, str]] = (),
) -> str:
    """The report as one HTML page.

    Args:
        pages: executed notebooks by name, in order.
        sections: their numbers, as ``Section.finish`` writes them, in the same order.
        about: photo, generator and recipe.
        with_what_was_seen: whether to include the paragraphs about the sample photo's figures.
        gallery: as ``_gallery`` returns it.
    """
    tags = {"report", "seen"} if with_what_was_seen else {"report"}
    results = [
        {
            "number": section["section"],
            "title": page.cells[0].source.splitlines()[0].strip("# "),
            "parts": [part for cell in page.cells for part in _parts(cell, tags)],
            "claims": section["claims"],
            "searches": section["searches"],
        }
        for page, section in zip(pages.values(), sections, strict=True)
    ]
    claims = [(section["section"], claim) for section in sections for claim in section["claims"]]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    recipe = pick_recipe(about["recipe"])
    return template.render(
        results=results,
        claims=claims,
        gallery=gallery,
        proves_nothing=proves_nothing(recipe.name),
        verdicts=VERDICTS,
        in_words=in_words,
        **about | {"recipe": recipe},
    )


def _parts(cell: nbformat.NotebookNode, tags: set[str]) -> list[dict[str, Any]]:
    """What the report takes from a cell: {"kind": "text", "figure", "table" or "sweep", …}."""
    if cell.cell_type == "markdown":
        taken = tags & set(cell.metadata.get("tags", ()))
        text = _QUESTION.sub("", cell.source)
        lower = re.sub(r"^## ", "### ", text, flags=re.M)  # a notebook's section is a subsection here
        return [{"kind": "text", "html": mistune.html(lower)}] if taken else []
    parts: list[dict[str, Any]] = []
    for output in cell.get("outputs", ()):
        about, data = output.get("metadata", {}).get(METADATA, {}), output.get("data", {})
        if "figure" in about:
            mime = next(kind for kind in data if kind.startswith("image/"))
            picture = "".join(data[mime].split())
            parts.append({"kind": "figure", "source": f"data:{mime};base64,{picture}", **about})
        elif "table" in about:
            parts.append({"kind": "table", "html": data["text/html"]})
        elif data.get("text/html", "").startswith(("<div data-sweep", "<figure data-explorer")):
            parts.append({"kind": "sweep", "html": data["text/html"]})
    return parts

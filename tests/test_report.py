"""The report, on a small notebook of its own: run, resumed, and made into one page."""

import importlib
import json
import re
import sys
from collections.abc import Sequence

import nbformat
import pytest
from test_sweep import Parsed

from ex5lib.course import report
from ex5lib.course.printing import find_browser, print_page
from ex5lib.course.report import Request, make_report
from ex5lib.errors import FileError, ReportError
from scripts import notebooks as script

LOADING = {"src", "href", "srcset", "data"}
SEEN = "**Look.** Which colour?\n\n<!-- ### BEGIN SOLUTION -->\nHer eyes are brown.\n<!-- ### END SOLUTION -->"
CELLS = [
    ("markdown", "# 3.9 A small section\n\nNot in the report.", None),
    ("code", "photo = ''\ngenerator = ''\nrecipe = ''\ndevice = ''\nout = ''", "parameters"),
    ("markdown", "## Theory with $x^2$", None),
    ("markdown", "## What is *done*\n\nThe report has this.", "report"),
    (
        "code",
        "import ex5lib\nfrom ex5lib import figures\nfrom ex5lib.course import sweep_html\n"
        "section = ex5lib.Section('3.9', photo, generator=generator, recipe=recipe, out=out)\n"
        "section.show('one', figures.plot_images([section.face.image], ['the face']), 'A <face>.')\n"
        "section.table([{'n': 1.5}], 'Numbers.')\n"
        "section.check_claim('water is wet', True, wetness=1)\nsection.check_claim('pigs fly', False)\n"
        "section.check_claim('heads come up', [True, False], tosses=[1, 0])\n"
        "sweep_html([1, 2], [section.face.image] * 2, label='nothing')",
        None,
    ),
    ("markdown", SEEN, "seen"),
    ("code", "section.finish()", None),
]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Writes the notebook, with further cells at its end or after the parameters, where the report looks for it."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr(report, "NOTEBOOKS", folder)
    monkeypatch.setenv("EX5_RECIPE", "smoke")
    monkeypatch.setenv("EX5_CHROMIUM", "no-browser")  # printing has its own test

    def write(*more: str, early: Sequence[str] = ()) -> None:
        notebook = nbformat.v4.new_notebook()
        first, last = ([("code", source, None) for source in sources] for sources in (early, more))
        for kind, source, tag in [*CELLS[:2], *first, *CELLS[2:], *last]:
            make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
            notebook.cells.append(make(source, metadata={"tags": [tag]} if tag else {}))
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook.nbformat_minor = 0  # as Colab saves it, without ids
        for cell in notebook.cells:
            del cell["id"]
        nbformat.write(notebook, folder / "3.9_small.ipynb")

    return write


@pytest.fixture
def request_(root) -> Request:
    """Asks for a small generator, and a photo of a face alone, which is found sooner."""
    generator = root / "tests" / "data" / "tf_orig_64.pkl"
    return Request(photo=root / "benchmarks" / "crops" / "astronaut.jpg", generator=str(generator))


def test_a_report_is_one_page_with_everything_in_it_and_goes_on_where_it_was(notebooks, request_, tmp_path):
    notebooks(
        "open('../data/officer.jpg')\nsection.run('inpainting', num_steps=2)\nsection.run('deblurring')\n"
        "section.hand_in()\nsection.finish()"
    )
    said: list[str] = []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.pdf").write_text("of an earlier report")
    page = make_report(request_, tmp_path / "out", device="cpu", say=said.append)
    seen = Parsed(page.read_text(encoding="utf-8"))
    sources = [link for _, attributes in seen.tags for name, link in attributes.items() if name in LOADING]
    sources = [link for link in sources if not link.startswith("#")]
    assert "<h3>What is <em>done</em></h3>" in page.read_text(encoding="utf-8")
    assert len(sources) == 5  # the figure, two frames of the slider, what was given to the task, and found
    assert all(source.startswith("data:image/") for source in sources)
    text = re.sub(r"\s+", " ", " ".join(seen.texts))
    for words in (
        "The report has this.", "Figure 3.9.1. A <face>.", "✓ holds : water is wet wetness 1",
        "✗ does not hold : pigs fly", "1 of 3 claims hold; on 1 chance decides", "~ chance decides : heads come up",
        "A trial run", "Numbers.", "recipe smoke",
    ):  # fmt: skip
        assert words in text
    assert re.search(r"inpainting, 2 steps 2 \d+ \d+\.\d{3} \d+\.\d 0\.\d\d 0\.\d{3} \d+\.\d ", text)  # the searches
    # What is not tagged; and words about the sample photo, as this was EX5_RECIPE's run.
    for words in ("Theory", "Not in the report", "Her eyes are brown", str(tmp_path)):
        assert words not in text
    assert not (tmp_path / "out" / "report.pdf").exists()

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["recipe"] == "smoke"
    assert metrics["sections"][0]["claims"][0]["statement"] == "water is wet"
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"3.9-one.png", "3.9-one.pdf"}

    make_report(request_, tmp_path / "out", device="cpu", say=said.append)
    assert re.fullmatch(r"3\.9_small: \d+ s", said[0])
    assert "no Chromium" in said[1]
    assert said[2] == "3.9_small: done before"

    # A student's own words: nothing is run again, but what is handed in has the new ones.
    own = tmp_path / "own"
    (tmp_path / "notebooks").rename(own)
    path = own / "3.9_small.ipynb"
    changed = nbformat.read(path, as_version=4)
    changed.cells[3].source = "My own finding."
    nbformat.write(changed, path)
    (own / "3.4_latent.ipynb").write_text("not opened unless it is asked for")
    page = make_report(request_, tmp_path / "out", notebooks=own, device="cpu", say=said.append)
    assert said[4] == "3.9_small: done before"
    assert "My own finding." in page.read_text(encoding="utf-8")
    kept = nbformat.read(tmp_path / "out" / "notebooks" / "3.9_small.ipynb", as_version=4)
    assert any(cell.source == "My own finding." for cell in kept.cells)
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")
    with pytest.raises(nbformat.reader.NotJSONError):
        make_report(request_, tmp_path / "out", notebooks=own, optional=True, device="cpu", say=said.append)
    with pytest.raises(FileError, match="There are no notebooks in"):
        make_report(request_, tmp_path / "out", notebooks=tmp_path)


@pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine")
def test_a_page_is_printed_by_the_browser_of_the_machine(tmp_path):
    page, out = tmp_path / "a page.html", tmp_path / "a page.pdf"
    page.write_text("<h1>Printed</h1>")
    assert print_page(page, out)
    assert out.read_bytes().startswith(b"%PDF")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pdf"] == [out.name]


def rendered(recipe: str = "fast", *, with_what_was_seen: bool = False) -> str:
    cells = [("# 3.9 Small", ()), (SEEN, ("seen",))]
    cells = [nbformat.v4.new_markdown_cell(text, metadata={"tags": list(tags)}) for text, tags in cells]
    section = {"section": "3.9", "claims": [], "searches": []}
    about = {"photo": "me.png", "generator": "mobile-ffhq", "recipe": recipe}
    notebook = nbformat.v4.new_notebook(cells=cells)
    return report.render({"3.9": notebook}, [section], about, with_what_was_seen=with_what_was_seen)


def test_what_was_seen_is_told_of_the_sample_photo_only():
    for seen in (True, False):
        page = rendered(with_what_was_seen=seen)
        assert ("Her eyes are brown" in page) == seen
        assert "Which colour" not in page
        assert "SOLUTION" not in page


def test_of_the_explorer_a_picture_stays_where_its_widget_cannot():
    page = "<figure data-explorer><img src='data:,'></figure>"
    explorer, bar = (
        nbformat.v4.new_output("display_data", {script.WIDGET: {"model_id": "x"}, "text/plain": "…"} | more)
        for more in ({"text/html": page}, {})
    )
    assert script._is_worth_storing(explorer)
    assert not script._is_worth_storing(bar)
    cell = nbformat.v4.new_code_cell("", outputs=[explorer, bar])
    assert report._parts(cell, set()) == [{"kind": "sweep", "html": page}]


@pytest.mark.parametrize(
    ("early", "sentence"),
    [
        ("from ex5lib.errors import FileError; raise FileError('No photo.')", "^Notebook 3.9_small failed: No photo"),
        ("1 / 0", "failed: ZeroDivisionError: division by zero"),
    ],
)
def test_a_notebook_that_fails_ends_the_report_with_one_sentence_and_is_not_kept(notebooks, tmp_path, early, sentence):
    notebooks(early=[early])
    with pytest.raises(ReportError, match=sentence):
        make_report(Request(), tmp_path / "out", device="cpu", say=lambda _: None)
    assert list((tmp_path / "out" / "notebooks").iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "warm", "samples"), [("fast", True, "10,000"), ("karras2020", False, "10,000"), ("smoke", True, "1,000")]
)
def test_the_algorithm_is_told_as_the_recipe_runs_it(recipe, warm, samples):
    page = rendered(recipe)
    assert ("predicts" in page) == warm
    assert f"{samples} random z" in page
    assert ("c</i>(<i>D" in page) == (recipe == "fast")  # the colours' term
    assert ("R(n)" in page) == (recipe != "fast")


def test_an_installed_package_says_in_one_sentence_what_the_report_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path / "notebooks")
    with pytest.raises(FileError, match="needs a clone of the repository"):
        make_report(Request(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setitem(sys.modules, "papermill", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "ex5lib.course.report")
    with pytest.raises(ReportError, match="The report needs papermill"):
        importlib.import_module("ex5lib.course.report")

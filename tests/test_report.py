"""The report, on a small notebook of its own: run, resumed, and made into one page."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser

import nbformat
import pytest

from ex5lib.course import report
from ex5lib.course.printing import find_browser, print_page
from ex5lib.course.report import Request, make_report
from ex5lib.errors import FileError, ReportError

CELLS = [
    ("markdown", "# 3.9 A small section\n\nNot in the report.", None),
    ("code", "photo = ''\ngenerator = ''\nrecipe = ''\ndevice = ''\nout = ''", "parameters"),
    ("markdown", "## Theory with $x^2$", None),
    ("markdown", "## What is *done*\n\nThe report has this.", "report"),
    (
        "code",
        "import torch\nimport ex5lib\nfrom ex5lib import figures\nfrom ex5lib.course import sweep_html\n"
        "section = ex5lib.Section('3.9', photo, generator=generator, recipe=recipe, out=out)\n"
        "section.show('one', figures.plot_images([section.face.image], ['the face']), 'A <face>.')\n"
        "section.table([{'n': 1.5}], 'Numbers.')\n"
        "section.check_claim('water is wet', True, wetness=1)\nsection.check_claim('pigs fly', False)\n"
        "sweep_html([1, 2], [section.face.image] * 2, label='nothing')",
        None,
    ),
    ("markdown", "Her eyes are brown.", "seen"),
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
        nbformat.write(notebook, folder / "3.9_small.ipynb")

    return write


class _Sources(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):  # noqa: ARG002, the base class names it
        links = [value for name, value in attrs if name in {"src", "href", "srcset", "data"}]
        self.sources += [link for link in links if not link.startswith("#")]

    def handle_data(self, data):
        self.text += f"{data} "


def test_a_report_is_one_page_with_everything_in_it_and_goes_on_where_it_was(notebooks, tmp_path):
    notebooks("section.run('inpainting', num_steps=2)\nsection.finish()")
    said: list[str] = []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.pdf").write_text("of an earlier report")
    page = make_report(Request(), tmp_path / "out", device="cpu", say=said.append)
    seen = _Sources(page.read_text(encoding="utf-8"))
    assert "<h3>What is <em>done</em></h3>" in page.read_text(encoding="utf-8")
    assert len(seen.sources) == 3  # the figure, and two frames of the slider
    assert all(source.startswith("data:image/") for source in seen.sources)
    text = re.sub(r"\s+", " ", seen.text)
    assert "What is done The report has this." in text
    assert "Theory" not in text
    assert "Not in the report" not in text
    assert "Figure 3.9.1. A <face>." in text
    assert "✓ holds : water is wet wetness 1" in text
    assert "✗ does not hold : pigs fly" in text
    assert "1 of 2 claims hold 3.9 : ✓ ✗" in text
    assert "A trial run. The recipe smoke takes 4 steps" in text
    assert "Of 2 claims, 1 hold" in text
    assert "3.9: pigs fly." in text
    assert "Numbers." in text
    assert re.search(r"inpainting, 2 steps 2 \d+ \d+\.\d{3} \d+\.\d 0\.\d\d 0\.\d{3} \d+\.\d ", text)  # the searches
    assert "recipe smoke" in text
    assert "Her eyes are brown" not in text  # EX5_RECIPE: not the run that the sentence was written about
    assert str(tmp_path) not in seen.text
    assert not (tmp_path / "out" / "report.pdf").exists()

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["recipe"] == "smoke"
    assert metrics["sections"][0]["claims"][0]["statement"] == "water is wet"
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"3.9-one.png", "3.9-one.pdf"}
    executed = nbformat.read(tmp_path / "out" / "notebooks" / "3.9_small.ipynb", as_version=4)
    assert any("injected-parameters" in cell.metadata.get("tags", ()) for cell in executed.cells)

    make_report(Request(), tmp_path / "out", device="cpu", say=said.append)
    assert re.fullmatch(r"3\.9_small: \d+ s", said[0])
    assert said[1] == "no Chromium was found to print it as PDF: open the page in a browser and print it from there"
    assert said[2] == "3.9_small: done before"


def test_a_students_notebooks_are_reported_on_with_their_own_words_and_pictures(notebooks, root, tmp_path):
    request = Request(generator=str(root / "tests" / "data" / "cond_64_fp16.pkl"))
    notebooks("section.run('deblurring')\nsection.hand_in()\nsection.finish()")
    own = tmp_path / "own"
    (tmp_path / "notebooks").rename(own)
    page = make_report(request, tmp_path / "out", notebooks=own, device="cpu", say=lambda _: None)
    text = page.read_text(encoding="utf-8")
    assert text.count('alt="deblurring: found"') == 1
    # Only the words change: nothing is run again, but what is handed in has the new ones.
    path = own / "3.9_small.ipynb"
    changed = nbformat.read(path, as_version=4)
    changed.cells[3].source = "My own finding."
    nbformat.write(changed, path)
    said: list[str] = []
    page = make_report(request, tmp_path / "out", notebooks=own, device="cpu", say=said.append)
    assert said[0] == "3.9_small: done before"
    assert "My own finding." in page.read_text(encoding="utf-8")
    kept = nbformat.read(tmp_path / "out" / "notebooks" / "3.9_small.ipynb", as_version=4)
    assert any(cell.source == "My own finding." for cell in kept.cells)
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")
    with pytest.raises(FileError, match="There are no notebooks in"):
        make_report(request, tmp_path / "out", notebooks=tmp_path)


@pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine")
def test_a_page_is_printed_by_the_browser_of_the_machine(tmp_path):
    page, out = tmp_path / "a page.html", tmp_path / "a page.pdf"
    page.write_text("<h1>Printed</h1>")
    assert print_page(page, out)
    assert out.read_bytes().startswith(b"%PDF")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pdf"] == [out.name]


def test_what_was_seen_is_told_of_the_sample_photo_only():
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# 3.9 Small"),
            nbformat.v4.new_markdown_cell("Her eyes are brown.", metadata={"tags": ["seen"]}),
        ]
    )
    section = {"section": "3.9", "claims": [], "searches": []}
    about = {"photo": "me.png", "generator": "mobile-ffhq", "recipe": "fast"}
    for seen in (True, False):
        page = report.render({"3.9": notebook}, [section], about, with_what_was_seen=seen)
        assert ("Her eyes are brown" in page) == seen


def test_of_the_explorer_a_picture_stays_where_its_widget_cannot(root):
    spec = importlib.util.spec_from_file_location("notebooks_script", root / "scripts" / "notebooks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = "<figure data-explorer><img src='data:,'></figure>"
    explorer, bar = (
        nbformat.v4.new_output("display_data", {script.WIDGET: {"model_id": "x"}, "text/plain": "…"} | more)
        for more in ({"text/html": page}, {})
    )
    assert script._is_worth_storing(explorer)
    assert not script._is_worth_storing(bar)
    cell = nbformat.v4.new_code_cell("", outputs=[explorer, bar])
    assert report._parts(cell, set()) == [{"kind": "sweep", "html": page}]


def test_a_notebook_that_fails_ends_the_report_with_one_sentence_and_is_run_again(notebooks, tmp_path):
    notebooks(early=["import ex5lib; ex5lib.load_image('nobody.jpg')"])
    with pytest.raises(ReportError, match=r"^Notebook 3\.9_small failed: There is no file nobody\.jpg"):
        make_report(Request(), tmp_path / "out", device="cpu", say=lambda _: None)
    assert list((tmp_path / "out" / "notebooks").iterdir()) == []
    notebooks(early=["1 / 0"])
    with pytest.raises(ReportError, match="failed: ZeroDivisionError: division by zero"):
        make_report(Request(), tmp_path / "out", device="cpu", say=lambda _: None)
    notebooks()
    assert make_report(Request(), tmp_path / "out", device="cpu", say=lambda _: None).exists()


def test_the_algorithm_is_told_as_the_recipe_runs_it():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 3.9 Small")])
    section = {"section": "3.9", "claims": [], "searches": []}
    for recipe, warm, samples in (("fast", True, "10,000"), ("karras2020", False, "10,000"), ("smoke", True, "1,000")):
        about = {"photo": "me.png", "generator": "mobile-ffhq", "recipe": recipe}
        page = report.render({"3.9": notebook}, [section], about, with_what_was_seen=False)
        assert ("predicts from those features" in page) == warm
        assert f"Map {samples} random z" in page
        assert ("c</i>(<i>D" in page) == (recipe == "fast")  # the colours' term
        assert ("autocorrelation R(n)" in page) == ("optimised along with w" in page) == (recipe != "fast")


def test_an_installed_package_says_in_one_sentence_what_the_report_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path / "notebooks")
    with pytest.raises(FileError, match="needs a clone of the repository"):
        make_report(Request(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    code = """if True:
        import sys
        sys.modules["papermill"] = None  # as where it is not installed
        from ex5lib.errors import Ex5Error
        try:
            import ex5lib.course.report
        except Ex5Error as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('The report needs papermill, from pip install "ex5lib[dev]"')

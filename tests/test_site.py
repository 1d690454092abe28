"""The site, before Sphinx makes pages of it, and the two looks at what Sphinx made: dead links and leaks."""

import html
import re
import shutil

import nbformat
import pytest

from scripts import assignment
from scripts.leaks import leaks
from scripts.website import __main__ as website


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    website.gather(folder)
    return folder


def _figures(notebook) -> int:
    return sum("image/jpeg" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ()))


def test_notebooks_have_all_figures_and_no_line_of_a_solution_nor_what_a_check_said(pages):
    assert leaks(pages, assignment.sources()) == []
    for name, source in assignment.sources().items():
        shown = nbformat.read(pages / "notebooks" / f"{name}.ipynb", as_version=4)
        assert _figures(shown) == _figures(source) > 0
        assert "passed" not in str([cell.get("outputs") for cell in shown.cells])
        assert [cell.source for cell in shown.cells] == [c.source for c in assignment.student_copy(source).cells]


def test_a_line_of_code_or_of_an_answer_is_found_in_a_page_however_it_is_marked_up(tmp_path):
    page = tmp_path / "page.html"
    for planted in (
        "x *= max(2 * abs(e), 1.8 * abs(m)) / abs(x)",  # code of a solution
        "An affine map would also stretch and shear: a long face would become a round one. Then the generator would",
    ):
        words = [f"<span class='x'>{html.escape(word)}</span>" for word in planted.split()]
        page.write_text("<p>Nothing.\n" + "\n".join(words) + "</p>")
        (found,) = leaks(tmp_path, assignment.sources())
        assert found.startswith("page.html: ")
        assert found.endswith(planted)
    page.write_text("<pre>def square(landmarks):\n    # YOUR CODE HERE\n    raise NotImplementedError()</pre>")
    assert leaks(tmp_path, assignment.sources()) == []


def test_every_hidden_test_is_found_in_the_notebooks_that_have_them(root, tmp_path):
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    found = "\n".join(leaks(tmp_path, assignment.sources()))
    for source in assignment.sources().values():
        for cell in source.cells:
            for check in re.findall(r"BEGIN HIDDEN TESTS.*?(with check\(.*?:)\n", cell.source, re.S):
                assert check in found


def test_links_of_the_documents_lead_to_pages_of_the_site_or_are_none(pages):
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), (page, target)
        assert "colab-badge" not in text


def test_a_link_to_a_page_or_a_heading_that_is_not_there_is_told(tmp_path):
    (tmp_path / "a").mkdir()
    good = (
        "<a href='a/b.html#here'>1</a> <a href='https://nowhere.invalid/'>2</a> <a href='a/'>3</a> <a href='#top'>4</a>"
    )
    (tmp_path / "index.html").write_text(f"<h1 id=top>{good}</h1>")
    (tmp_path / "a" / "b.html").write_text("<h1 id=here><a href='../index.html'>5</a></h1>")
    (tmp_path / "a" / "index.html").write_text("")
    assert website.broken(tmp_path) == []
    (tmp_path / "a" / "b.html").write_text("<a href='c.html'></a><img src='../d.png'><a href='../index.html#gone'></a>")
    told = ["a/b.html: c.html", "a/b.html: ../d.png", "a/b.html: ../index.html#gone", "index.html: a/b.html#here"]
    assert sorted(website.broken(tmp_path)) == sorted(told)

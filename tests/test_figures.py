"""Figures hold what they are given, are drawn without a display, and nothing in them is cut off."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

import ex5lib
from ex5lib.course import lesson_figures
from ex5lib.course.section import _PAGE_DPI as PAGE_DPI
from ex5lib.inversion.projection import SCHEDULE, TERMS, Projection


@pytest.fixture
def run() -> Projection:
    falling = 0.5 ** np.arange(50)
    image = torch.zeros(1, 3, 64, 64)
    return Projection(
        ws=torch.zeros(1, 2, 4),
        latent=torch.zeros(1, 1, 4),
        noise={},
        image=image,
        target=image,
        snapshots={50: image, 0: image - 1, 10: image + 0.5},
        terms=dict.fromkeys(TERMS, falling[:, None]) | {"score": 1.5 * falling[:, None]},
        schedule=dict.fromkeys(SCHEDULE, falling) | {"size": np.full(50, 64), "face": np.zeros(50)},
        settings={"color_weight": 0.0, "noise_weight": 0.0},
        distances=np.ones(1),
        latent_distances=np.ones(1),
        seed=0,
        seconds=1.0,
    )


def _drawn(figure) -> list:
    """The boxes of its titles once it is drawn, which nothing in it leaves."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.02
    assert box.x1 <= width + 0.02
    assert box.y1 <= height + 0.02
    return [ax.title.get_window_extent(canvas.get_renderer()) for ax in figure.axes if ax.get_title()]


def test_iterations_are_in_order_beside_the_original(run):
    figure = ex5lib.plot_iterations(run, torch.ones(1, 3, 64, 64))
    assert [ax.get_title() for ax in figure.axes] == ["start", "10 steps", "50 steps", "original"]
    assert [ax.images[0].get_array().flat[0] for ax in figure.axes] == [0, 191, 128, 255]
    _drawn(figure)


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (5, 3), (8, 4)])
def test_a_page_has_room_for_every_face_and_every_title(count, columns):
    """At most four faces side by side, so that each has 256 px; a long title is wrapped, not cut or overlapped."""
    titles = ["the quick brown fox jumps over the lazy dog, and over λ_w = 0.001"] * count
    figure = ex5lib.figures.plot_images([torch.zeros(1, 3, 64, 64)] * count, titles)
    boxes = _drawn(figure)
    assert len({round(ax.get_position().x0, 3) for ax in figure.axes}) == columns
    assert len(boxes) == count
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert figure.axes[0].get_window_extent().width / figure.dpi * PAGE_DPI >= 256


def test_eyes_and_mouth_are_shown_below_each_face():
    face = torch.zeros(1, 3, 200, 200)
    face[:, :, 82:110, 48:152] = 1  # where FFHQ's crop has the eyes
    figure = ex5lib.figures.plot_images([face, -face, face, face, face], list("abcde"), details=True)
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == list("abcde")
    shown = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(shown) == 15
    eyes = [image for image in shown if image.shape[:2] == (28, 104)]
    assert [int(image.mean()) for image in eyes] == [255, 0, 255, 255, 255]
    assert len([image for image in shown if image.shape[:2] == (40, 92)]) == 5  # mouths
    _drawn(figure)


def test_curves_have_the_axes_that_were_asked_for_and_lines_differ_in_more_than_their_colour():
    curves = {name: ([1, 10], [i, i + 1]) for i, name in enumerate("abcd", start=1)}
    for log, scales in (("", ("linear", "linear")), ("xy", ("log", "log"))):
        figure = lesson_figures.plot_curves(curves, xlabel="x", ylabel="y", log=log)
        (ax,) = figure.axes
        assert (ax.get_xscale(), ax.get_yscale()) == scales
        assert [list(line.get_ydata()) for line in ax.lines] == [[1, 2], [2, 3], [3, 4], [4, 5]]
        assert len({line.get_linestyle() for line in ax.lines}) == len({line.get_color() for line in ax.lines}) == 4
        _drawn(figure)


def test_losses_are_the_distance_and_below_it_what_is_added_weighted(run):
    figure = ex5lib.plot_losses(run)
    distance, added = figure.axes
    (line,) = distance.get_lines()
    np.testing.assert_allclose(line.get_ydata(), run.history["distance"])
    assert (distance.get_yscale(), added.get_yscale()) == ("linear", "log")
    assert distance.get_ylim()[0] == 0
    (line,) = added.get_lines()  # weights of 0 have no line
    assert line.get_label() == "latent: λ$_w$ ‖w − w̄‖"
    np.testing.assert_allclose(line.get_ydata(), 0.5 * run.history["distance"])  # the score's share of it
    _drawn(figure)
    run.settings["color_weight"] = 0.5
    (line,) = ex5lib.plot_losses(run).axes[1].get_lines()
    np.testing.assert_allclose(line.get_ydata(), 0.5 * run.history["color_distance"])
    run.settings["color_weight"], run.terms["score"] = 0.0, run.terms["distance"]
    assert len(ex5lib.plot_losses(run).axes) == 1
    run.schedule["face"][[2, 5]] = 1
    whole, face = ex5lib.plot_losses(run).axes[0].get_lines()
    assert list(face.get_xdata()) == [2, 5]
    np.testing.assert_allclose(face.get_ydata(), run.history["distance"][[2, 5]])
    assert list(whole.get_xdata()) == [0, 1, 3, 4, *range(6, 50)]


def test_alignment_figure_shows_every_face_and_the_crop(astronaut):
    figure = ex5lib.figures.plot_alignment(astronaut)
    left, right = figure.axes
    assert [text.get_text()[:6] for text in left.texts] == ["face 0", "face 1"]
    np.testing.assert_allclose(left.collections[0].get_offsets(), astronaut.landmarks)
    assert right.images[0].get_array().shape == (512, 512, 3)
    _drawn(figure)


def test_gallery_has_a_row_for_each_task():
    image = torch.zeros(1, 3, 64, 64)
    figure = ex5lib.figures.plot_gallery(
        [("first", [("a", image), ("b", image)]), ("second", [("c", image), ("d", image)])]
    )
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c", "d"]
    assert [text.get_text() for ax in figure.axes for text in ax.texts] == ["first", "second"]
    _drawn(figure)


def test_figures_are_saved_in_the_format_of_their_suffix(run, tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".jpg", b"\xff\xd8"), (".pdf", b"%PDF")):
        path = ex5lib.figures.save_figure(ex5lib.plot_losses(run), tmp_path / "new" / f"a{suffix}")
        assert path.read_bytes().startswith(start)


def test_stages_are_parted_in_the_loss_plot(run):
    def marks() -> tuple[list[str], list[float]]:
        ax, below = ex5lib.plot_losses(run).axes
        dotted, also = (
            [line.get_xdata()[0] for line in each.lines if line.get_linestyle() == ":"] for each in (ax, below)
        )
        assert dotted == also
        return [text.get_text() for text in ax.texts], dotted

    assert marks() == ([], [])
    run.schedule["size"] = np.repeat([128, 256, 1024], [25, 15, 10])
    assert marks() == (["128 px", "256 px", "1024 px"], [24.5, 39.5])
    _drawn(ex5lib.plot_losses(run))


def test_the_figures_of_the_lessons_are_whole():
    image = torch.zeros(1, 3, 64, 64)
    for figure in (
        lesson_figures.plot_gan(image, image),
        lesson_figures.plot_discriminator(),
        lesson_figures.plot_histograms({"a": np.arange(9), "b": np.arange(5)}, xlabel="x"),
        lesson_figures.plot_eyes({"photo": image}, {"photo": np.zeros((2, 3))}),
        lesson_figures.plot_map(torch.eye(8), "a map", image, "an image"),
        ex5lib.figures.plot_images([torch.zeros(1, 3, 20, 80)] * 2, ["wide", "two\nlines"]),
    ):
        _drawn(figure)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_shows_every_frame_rests_at_the_end_and_begins_anew(tmp_path, suffix):
    frames = [torch.full((1, 3, 64, 128), value) for value in (-1.0, -0.33, 0.33, 1.0)]
    ex5lib.figures.save_animation(frames, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as moving:
        assert (moving.n_frames, moving.size, moving.info["loop"]) == (4, (128, 64), 0)
        shown, durations = [], []
        for i in range(4):
            moving.seek(i)
            moving.load()
            durations.append(moving.info["duration"])
            shown.append(np.asarray(moving.convert("L")).mean())
    assert np.abs(np.array(shown) - (0, 85, 170, 255)).max() < 3
    if suffix == ".gif":  # Pillow says a WebP's times at its end
        assert durations == [2000, 2000, 2000, 4000]

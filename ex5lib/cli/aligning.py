"""``ex5 align``: the aligned crop of a photo, or of each photo of a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ex5lib.cli import options as o
from ex5lib.errors import SettingError, UnsureFaceError
from ex5lib.files import check_writable

if TYPE_CHECKING:  # imported where they are used: help does not wait for PyTorch
    import numpy as np

    from ex5lib.cli.summary import Outcome
    from ex5lib.faces.alignment import AlignedFace

_NAMES = "aligned.png", "alignment.png"


def align(
    photo: o.Photos,
    face: o.Face = None,
    landmarks: o.Landmarks = None,
    size: Annotated[int, typer.Option(help="Side in px.")] = 1024,
    out: o.Out = None,
):
    """Find the face in a photo, or in each photo of a folder, and crop it as FFHQ did.

    If what was found may not be a face, only alignment.png is written, which shows it.

    Exits with 0 if every photo of a folder is done, with 1 if some have failed, and with 130 if it was interrupted.
    """
    from ex5lib.cli.jobs import typed_landmarks

    if not 64 <= size <= 4096:
        raise SettingError(f"The side of an aligned face must be 64 to 4096 px, not {size}.")
    points = typed_landmarks(landmarks, photo)
    out = out or o.results_folder(photo, "align")
    check_writable(out)
    if photo.is_dir():
        total = _align_folder(photo, out, face, size)
        if total.stopped:
            raise typer.Exit(130)
        if total.messages:
            raise typer.Exit(1)
        return
    try:
        found = _align(photo, out, face, points, size)
    except UnsureFaceError:
        o.say(f"written to {out}: alignment.png, which shows what was found")
        raise
    o.say(f"written to {out}: {', '.join(_NAMES)}")
    if found.detections:
        o.say(f"  {_score(found)}")
    if found.choice:
        o.say(f"  {found.choice}")


def _align_folder(photos: Path, out: Path, face: int | None, size: int) -> "Outcome":
    """Crop the face of each photo, and carry on when one fails; a line for each, and the failures at the end."""
    from ex5lib.cli.album import output_folders, photos_in, skipped
    from ex5lib.cli.summary import Outcome

    found, others = photos_in(photos)
    if others:
        o.say(skipped(others))
    total = Outcome(folders=output_folders(found, out))
    try:
        for photo, folder in total.folders.items():
            with total.noting_failure([photo], quietly=True):
                o.say(f"{photo.name}: {_score(_align(photo, folder, face, None, size))}, in {folder}")
                total.outcomes[photo] = "done"
    except KeyboardInterrupt:
        total.stopped = True
    total.tell(out, "done", "failed")
    return total


def _align(photo: Path, out: Path, face: int | None, landmarks: "np.ndarray | None", size: int) -> "AlignedFace":
    """Write the crop and a picture of what was found; only the picture if that may not be a face."""
    from ex5lib.faces.alignment import align_face
    from ex5lib.figures import plot_alignment, save_figure
    from ex5lib.images.loading import save_image
    from ex5lib.restoration.results import check_kept

    check_kept(out, [photo], _NAMES)
    for name in _NAMES:  # an earlier crop must not stay if this fails or is interrupted
        (out / name).unlink(missing_ok=True)
    try:
        found = align_face(photo, face=face, landmarks=landmarks, size=size)
    except UnsureFaceError as error:
        save_figure(plot_alignment(error.guess), out / "alignment.png")
        raise
    save_image(found.image, out / "aligned.png")
    save_figure(plot_alignment(found), out / "alignment.png")
    return found


def _score(found: "AlignedFace") -> str:
    if not found.detections:
        return "by its landmarks"
    chosen = found.detections[found.index]
    return f"score {chosen.score:.2f} ({chosen.detector})"

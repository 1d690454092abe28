"""What every search writes into its folder."""

from pathlib import Path

RUN_FILES = {
    "after.jpg", "before.jpg", "comparison.png", "iterations.png", "losses.png", "metrics.json", "original.png",
    "projection.npz", "result.png",
}  # fmt: skip


def files_in(folder: Path | str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}

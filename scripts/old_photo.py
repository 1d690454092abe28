"""The README's old photo: damage a sample, restore it with the two commands given there, and draw both.

python scripts/old_photo.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).parents[1]


def aged(photo: Image.Image) -> Image.Image:
    """The photo out of focus, with a crease across the face where the colour came off."""
    blurred = photo.filter(ImageFilter.GaussianBlur(4))
    width, height = photo.size
    random = np.random.default_rng(4)
    along = np.linspace(0.2, 0.7, 25)
    line = [(width * (0.28 + 0.5 * t) + random.normal(0, 1.5), height * (0.02 + 0.96 * t)) for t in along]
    ImageDraw.Draw(blurred).line(line, fill=(238, 236, 230), width=9, joint="curve")
    return blurred


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old.png"
        aged(Image.open(ROOT / "data" / "vice-president.jpg")).save(old)
        for arguments in (("align", old), ("restore", old, "--degradation", "auto")):
            subprocess.run([sys.executable, "-m", "ex5lib", *map(str, arguments), "--out", folder + "/out"], check=True)
        before, after = Image.open(old), Image.open(Path(folder) / "out" / "photo.png").convert("RGB")
        both = Image.new("RGB", (2 * before.width + 12, before.height), "white")
        both.paste(before, (0, 0))
        both.paste(after, (before.width + 12, 0))
        both.save(ROOT / "docs" / "old-photo.jpg", quality=88)


if __name__ == "__main__":
    main()

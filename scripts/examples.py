"""The explorer's three finished examples: samples, damaged or old, and what one press of Restore makes of them.

python -m scripts.examples
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageFilter

from scripts.old_photo import ROOT, aged

_SIDE = 560  # px, the longest: the six files are to stay small


def main() -> None:
    data, out = ROOT / "data", ROOT / "ex5lib" / "explorer" / "static" / "examples"
    photos = {
        "crease": aged(Image.open(data / "vice-president.jpg")),
        "print": Image.open(data / "portrait.jpg"),
        "blur": Image.open(data / "astronaut.png").filter(ImageFilter.GaussianBlur(3)),
    }
    out.mkdir(exist_ok=True)
    for name, photo in photos.items():
        with tempfile.TemporaryDirectory() as folder:
            before = Path(folder) / "before.png"
            photo.save(before)
            command = [sys.executable, "-m", "ex5lib", "restore", str(before), "--out", folder + "/out"]
            subprocess.run(command, check=True)
            for path in (before, Path(folder, "out", "photo.png")):
                picture = Image.open(path).convert("RGB")
                picture.thumbnail((_SIDE, _SIDE))
                picture.save(out / f"{name}-{'before' if path == before else 'after'}.jpg", quality=85)


if __name__ == "__main__":
    main()

"""Install what the project needs and Colab does not have, and look for a GPU. The notebooks' first cell runs this.

Colab has its own compiled dlib, which dlib-bin would hide. Packages that are installed and new enough stay.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"


def wanted(text: str, has_dlib: bool) -> list[str]:
    """The lines of a requirements file that have to be installed."""
    unwanted = ("#", "dlib-bin") if has_dlib else ("#",)
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(unwanted)]


def main() -> None:
    has_dlib = importlib.util.find_spec("dlib") is not None
    packages = wanted(REQUIREMENTS.read_text(encoding="utf-8"), has_dlib)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
    import torch

    if torch.cuda.is_available():
        print("GPU:", torch.cuda.get_device_name())
    else:
        print(
            "This runtime has no GPU, so a search takes minutes instead of seconds: choose Runtime, then Change "
            "runtime type, then T4 GPU, and run this cell again."
        )


if __name__ == "__main__":
    main()

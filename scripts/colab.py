"""Install what the project needs and Colab lacks, and look for a GPU. The notebooks' first cell runs it.

Colab has a dlib of its own, compiled for it, which dlib-bin would shadow. What is installed and new enough stays.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"


def wanted(text: str, has_dlib: bool) -> list[str]:
    """The requirements to install, of a requirements file."""
    lines = (line.strip() for line in text.splitlines())
    names = [line for line in lines if line and not line.startswith("#")]
    return [name for name in names if not (has_dlib and name.startswith("dlib-bin"))]


def main() -> None:
    """Install them, then look for a GPU."""
    has_dlib = importlib.util.find_spec("dlib") is not None
    packages = wanted(REQUIREMENTS.read_text(encoding="utf-8"), has_dlib)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
    import torch

    if torch.cuda.is_available():
        print("GPU:", torch.cuda.get_device_name())
    else:
        print(
            "This runtime has no GPU, so that a search takes minutes instead of seconds: choose Runtime, then Change "
            "runtime type, then T4 GPU, and run this cell again."
        )


if __name__ == "__main__":
    main()

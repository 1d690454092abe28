"""Install what the project needs and Colab does not have, and look for a GPU. The notebooks' first cell runs this.

It lies in scripts/ of the project, or beside the library's wheel in the students' folder. Colab has its own compiled
dlib, which dlib-bin would hide. Packages that are installed and new enough stay.
"""

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def wanted(required: list[str], has_dlib: bool) -> list[str]:
    """What has to be installed of a requirements file's lines, or of a package's metadata."""
    unwanted = ("#", "dlib-bin") if has_dlib else ("#",)
    lines = (line.strip() for line in required)
    return [line for line in lines if line and not line.startswith(unwanted) and "extra ==" not in line]


def install(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments], check=True)


def main() -> None:
    if wheels := sorted(HERE.glob("ex5lib-*.whl")):
        install("--no-deps", wheels[-1])
        required = importlib.metadata.requires("ex5lib") or []
    else:
        required = (HERE.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    install(*wanted(required, has_dlib=importlib.util.find_spec("dlib") is not None))
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

"""Make ``data/portrait.jpg``: an old black-and-white print of the officer's photo.

It imitates a print of the 1930s in what matters to a search: orthochromatic film, which hardly sees red; a short tonal
range; vignetting; grain; no more sharpness than the lens gives. Seeded, so that it can be reproduced.

Run: python -m training.portrait
"""

from pathlib import Path

import numpy as np
import torch

import ex5lib

DATA = Path(__file__).parents[1] / "data"


def age(photo: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A photo [1, 3, H, W] in [−1, 1] turned into such a print, in three equal channels."""
    red, green, blue = ((photo[0].numpy() + 1) / 2) ** 2.2  # linear light
    plate = (0.12 * red + 0.48 * green + 0.40 * blue) ** (1 / 2.2)
    height, width = plate.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    plate = plate * (1 - 0.18 * (x**2 + y**2))
    grain = torch.randn(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    grain = torch.nn.functional.avg_pool2d(grain, 3, stride=1, padding=1)[0, 0].numpy()
    plate = 0.08 + 0.82 * plate + 0.035 * grain
    return torch.from_numpy(np.clip(plate * 2 - 1, -1, 1)).float().expand(1, 3, -1, -1)


if __name__ == "__main__":
    ex5lib.save_image(age(ex5lib.load_image(DATA / "officer.jpg")), DATA / "portrait.jpg")

"""More than one answer: faces that all fit what is known of a photo, and differ in what is not."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ex5lib.alignment import AlignedFace
from ex5lib.errors import SettingError
from ex5lib.images import resize_area
from ex5lib.latents import latent_statistics, sample_ws
from ex5lib.recipes import Recipe, pick_recipe
from ex5lib.restore import Restoration, restore_faces
from stylegan2_ada.generator import Generator

PSI = 0.7  # how far from w̄ the anchors lie: as truncated samples do


def find_answers(
    face: AlignedFace,
    degradation: nn.Module,
    count: int = 4,
    *,
    generator: Generator,
    recipe: str | Recipe = "fast",
    seed: int = 0,
    **settings,
) -> list[Restoration]:
    """Restore a face several times, towards different people.

    What the photo does not say is decided by the latent distance, which pulls w towards the mean face w̄. The first
    answer is the usual one. Every other search starts at a random w̄ + ψ (w − w̄) and is pulled towards that, with noise
    buffers of its own.

    Args:
        count: number of answers, at least 2.
        seed: of the first answer; the others have the seeds after it.
        settings: further keywords of ``restore_faces``.

    Raises:
        SettingError: if the count is less than 2, or as in ``restore``.
    """
    if not isinstance(count, int) or count < 2:
        raise SettingError(f"There are at least 2 answers to compare, not {count}.")
    G = generator
    statistics = settings.pop("statistics", None) or latent_statistics(
        G, num_samples=pick_recipe(recipe).w_avg_samples, seed=seed
    )
    found = []
    for i in range(count):
        start = {}
        if i:
            with torch.no_grad():
                w = sample_ws(G, seed + i)[:, 0].to(statistics.w_avg)  # [1, w_dim]
            anchor = statistics.w_avg + PSI * (w - statistics.w_avg)
            start = {"start": anchor, "statistics": replace(statistics, w_avg=anchor[0])}
        found += restore_faces(
            [face], degradation, generator=G, recipe=recipe, seed=seed + i,
            **({"statistics": statistics} | start | settings),
        )  # fmt: skip
        if found[-1].run.stopped:
            break
    return found


def disagreement(answers: list[Restoration], size: int = 256) -> Tensor:
    """Where the answers differ: the standard deviation over them of each pixel's colour, [1, 1, size, size]."""
    images = torch.cat([resize_area(answer.result.clamp(-1, 1), size) for answer in answers])
    return images.std(dim=0, keepdim=True).square().mean(dim=1, keepdim=True).sqrt()

"""Faces of the full generator, area-averaged to 256 px, with the latents that made them.

Three sets, each from its own range of seeds:

- train: ψ uniform in 0.5 … 1; every second latent scattered from W into W+; fresh noise for each face.
- psi07: ψ = 0.7, built-in noise: what the preview's PSNR is measured on.
- psi1: ψ = 1, built-in noise: what the warm start's R² is measured on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import ex5lib
from ex5lib.images.tensors import resize_area
from stylegan2_ada.generator import Generator

SETS = {"train": (2400, 0), "psi07": (200, 1_000_000), "psi1": (500, 2_000_000)}  # number, first seed
SIZE = 256


def draw_train(G: Generator, seed: int, size: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The latent ws [1, num_ws, w_dim] and the noise of one training sample, both determined by its seed.

    With a size, only the noise for a preview of that size, which is the same because it is drawn first.
    """
    random = torch.Generator().manual_seed(seed)
    psi = 0.5 + 0.5 * torch.rand((), generator=random).item()
    ws = G.mapping(torch.randn(1, G.z_dim, generator=random).to(G.w_avg), truncation_psi=psi)
    if seed % 2:
        # Add a share of another mapped w to each layer, the same share in all: a cloud around W, as in W+ searches.
        share = 0.5 * torch.rand((), generator=random).item()
        others = G.mapping(torch.randn(G.num_ws, G.z_dim, generator=random).to(G.w_avg))[:, 0]
        ws = ws + share * (others - G.w_avg)
    shapes = {name: buffer.shape for name, buffer in G.noise_buffers(size).items()}
    noise = {name: torch.randn(shape, generator=random).to(G.w_avg) for name, shape in shapes.items()}
    return ws, noise


def draw_truncated(G: Generator, seed: int, psi: float) -> Tensor:
    """The latent of one held-out sample."""
    z = torch.randn(1, G.z_dim, generator=torch.Generator().manual_seed(seed))
    return G.mapping(z.to(G.w_avg), truncation_psi=psi)


@torch.no_grad()
def make(folder: Path, name: str, *, device: str = "auto") -> Path:
    """Write ``{name}.npy``, float16 [count, 3, 256, 256], and ``{name}-ws.npy``; existing files are kept."""
    images_path, ws_path = folder / f"{name}.npy", folder / f"{name}-ws.npy"
    if images_path.exists() and ws_path.exists():
        return images_path
    folder.mkdir(parents=True, exist_ok=True)
    G = ex5lib.load_generator(device=device)
    synthesis = torch.compile(G.synthesis)  # halves the time, which matters for thousands of faces
    count, first = SETS[name]
    images = np.empty((count, 3, SIZE, SIZE), np.float16)
    latents = np.empty((count, G.num_ws, G.w_dim), np.float32)
    for i in tqdm(range(count), desc=name):
        if name == "train":
            ws, noise = draw_train(G, first + i)
        else:
            ws, noise = draw_truncated(G, first + i, 0.7 if name == "psi07" else 1.0), G.noise_buffers()
        images[i] = resize_area(synthesis(ws, noise), SIZE)[0].cpu()
        latents[i] = ws[0].cpu()
    np.save(ws_path, latents)
    np.save(images_path, images)
    return images_path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/training"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    for name in ("psi07", "psi1", "train"):
        make(arguments.folder, name, device=arguments.device)

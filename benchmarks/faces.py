"""The faces that the benchmarks search for."""

import torch
from torch import Tensor

from ex5lib.faces.alignment import load_face
from ex5lib.inversion.latents import sample_ws
from ex5lib.samples import sample_photo
from stylegan2_ada.generator import Generator


def bench_face(name: str, G: Generator) -> Tensor:
    """[1, 3, R, R]: an aligned sample photo by its name, or "sample-n", the generator's n-th face at ψ = 0.7."""
    kind, _, number = name.partition("-")
    if kind == "sample":
        with torch.no_grad():
            return G.synthesis(sample_ws(G, int(number), truncation_psi=0.7)).clamp(-1, 1).cpu()
    return load_face(next(sample_photo().parent.glob(f"{name}.*")), size=G.img_resolution).image

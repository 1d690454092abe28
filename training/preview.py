"""Distil the preview heads: from the first layers' features to the full image, area-averaged to 128 and 256 px.

First on pixels alone, which is quick and yields most of the PSNR; then with the perceptual distance as well, because
that is what the projector minimises. Both heads are trained together, on the same samples.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import ex5lib
from ex5lib.files import replacing
from ex5lib.images.tensors import resize_area
from stylegan2_ada.generator import Generator
from stylegan2_ada.mobile import MobileSynthesis
from training.samples import draw_train, make

SIZES = (128, 256)
BATCH = 4


def pixel_error(image: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of images in [−1, 1], as if their range were 1 instead of 2."""
    return F.mse_loss(image, target) / 4


@torch.no_grad()
def evaluate(G: Generator, folder: Path, count: int = 200) -> dict[str, float]:
    """Mean PSNR in dB over held-out samples, per size."""
    images, latents = np.load(folder / "psi07.npy", mmap_mode="r"), np.load(folder / "psi07-ws.npy", mmap_mode="r")
    values: dict[int, list[float]] = {size: [] for size in SIZES}
    for image, ws in zip(images[:count], latents[:count], strict=True):
        for size in SIZES:
            target = resize_area(torch.from_numpy(image[None].astype(np.float32)), size)
            made = G.synthesis(torch.from_numpy(ws[None].copy()).to(G.w_avg), None, size).cpu()
            values[size].append(-10 * math.log10(pixel_error(made, target)))
    return {f"PSNR at {size} px (dB)": float(np.mean(values[size])) for size in SIZES}


def train(folder: Path, out: Path, *, device: str, epochs: int, perceptual: int, weight: float, seed: int) -> None:
    """Train both heads and write ``preview-mobile-ffhq.safetensors``.

    Args:
        folder: where the samples are.
        out: the file to write.
        epochs: passes over the samples on pixels alone.
        perceptual: number of samples in the second phase.
        weight: of the perceptual distance in the second phase, added to 400 × the pixel error.
    """
    torch.manual_seed(seed)
    G = ex5lib.load_generator(device=device)
    G.synthesis = with_fresh_heads(G)
    heads = G.synthesis.previews.requires_grad_(True)
    images = np.load(make(folder, "train", device=device), mmap_mode="r")
    distance = ex5lib.PerceptualDistance(device=device)
    device = G.w_avg.device
    order = np.random.default_rng(seed)
    queue = np.concatenate([order.permutation(len(images)) for _ in range(epochs)])
    queue = np.concatenate([queue, order.permutation(len(images))[:perceptual]])
    batches = [queue[i : i + BATCH] for i in range(0, len(queue), BATCH)]
    optimizer = torch.optim.Adam(heads.parameters(), lr=2e-3, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=len(batches), pct_start=0.1)
    bar = tqdm(batches)
    running: dict[str, float] = {}
    for step, chosen in enumerate(bar):
        drawn = [draw_train(G, int(i), max(SIZES)) for i in chosen]
        ws = torch.cat([ws for ws, _ in drawn])
        noise = {name: torch.cat([n[name] for _, n in drawn]) for name in drawn[0][1]}
        target = torch.from_numpy(images[chosen].astype(np.float32)).to(device)
        second = step * BATCH >= len(queue) - perceptual
        loss = torch.zeros((), device=device)
        for size in SIZES:
            made = G.synthesis(ws, noise, size)
            error = pixel_error(made, resize_area(target, size))
            loss = loss + 400 * error
            terms = {f"{size} px": -10 * math.log10(error.item())}
            if second:
                d = distance(made, distance.features(resize_area(target, size))).mean()
                loss = loss + weight * d
                terms[f"d{size}"] = d.item()
            for name, value in terms.items():
                running[name] = 0.98 * running.get(name, value) + 0.02 * value
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix({name: f"{value:.2f}" for name, value in running.items()}, refresh=False)
        if step % 100 == 99 or step == len(batches) - 1:
            print(json.dumps({"step": step + 1, **evaluate(G, folder, 24), **running}), flush=True)
            with replacing(out) as temporary:
                safetensors.torch.save_file(heads.state_dict(), temporary)
    print(json.dumps(evaluate(G, folder)), flush=True)


@torch.no_grad()
def with_fresh_heads(G: Generator) -> MobileSynthesis:
    """The frozen network with untrained heads, which scale every channel of their features to a mean square of 1."""
    network = MobileSynthesis(preview_sizes=SIZES)
    trunk = {name: value for name, value in G.synthesis.state_dict().items() if not name.startswith("previews.")}
    network.load_state_dict(trunk, strict=False)
    network.requires_grad_(False).to(G.w_avg.device)
    ws = torch.cat([draw_train(G, seed)[0] for seed in range(16)])
    for size, head in network.previews.items():
        seen = []
        hook = head.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        network(ws, None, int(size))
        hook.remove()
        head.modulation.affine.bias.copy_(seen[0].square().mean(dim=(0, 2, 3)).rsqrt())
    return network


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/training"), help="where the samples are")
    parser.add_argument("--out", type=Path, default=Path("ex5lib/weights/preview-mobile-ffhq.safetensors"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--perceptual", type=int, default=600)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))

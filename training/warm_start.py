"""Fit the warm start: w from VGG16's features of faces, degraded like the photos that are to be restored.

The faces are previews at 128 px, which cost a tenth of full images; the held-out ones are full images.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pooch
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import ex5lib
from ex5lib import weights
from ex5lib.files import replacing
from ex5lib.inversion.warm_start import SIZE, WarmStart, pooled_features
from stylegan2_ada.generator import Generator
from training.samples import make

KINDS = ("clean", "blur", "grey", "hole")
BATCH = 8
FIRST_SEED = 3_000_000


def draw_degradation(kind: str, random: np.random.Generator) -> nn.Module:
    """A degradation of that kind with parameters drawn at random."""
    if kind == "blur":
        return ex5lib.GaussianBlur(kernel_size=2 * int(random.integers(2, 21)) + 1)  # 5 to 41 px
    if kind == "grey":
        return ex5lib.Grayscale()
    if kind == "hole":
        height, width = (int(n) for n in random.integers(24, 129, size=2))
        # The middle of the hole lies on the face, which fills the middle of an aligned photo.
        top = int(np.clip(random.integers(64, 225) - height // 2, 0, 256 - height))
        left = int(np.clip(random.integers(56, 201) - width // 2, 0, 256 - width))
        return ex5lib.Inpaint(top, left, height, width)
    return ex5lib.Identity()


@torch.no_grad()
def collect(G: Generator, distance: ex5lib.PerceptualDistance, folder: Path, count: int) -> None:
    """Write the features and latents of ``count`` previews, cycling through the kinds of degradation."""
    blocks_file, ws_file = folder / "features.npy", folder / "features-w.npy"
    if ws_file.exists():
        return
    features = np.lib.format.open_memmap(blocks_file, "w+", np.float16, (count, 1408 * 64 + 768))
    latents = np.empty((count, G.w_dim), np.float32)
    degradations = np.random.default_rng(FIRST_SEED)
    random = torch.Generator().manual_seed(FIRST_SEED)
    for i in tqdm(range(0, count, BATCH), desc="features"):
        ws = G.mapping(torch.randn(BATCH, G.z_dim, generator=random).to(G.w_avg))
        shapes = {name: buffer.shape[1:] for name, buffer in G.noise_buffers(SIZE).items()}
        noise = {name: torch.randn(BATCH, *shape, generator=random).to(ws) for name, shape in shapes.items()}
        images = G.synthesis(ws, noise, SIZE)
        degraded = [draw_degradation(KINDS[j % 4], degradations)(images[j : j + 1]) for j in range(BATCH)]
        blocks, thumbnail = pooled_features(torch.cat(degraded), distance)
        features[i : i + BATCH] = torch.cat([blocks.flatten(1), thumbnail], dim=1).cpu()
        latents[i : i + BATCH] = ws[:, 0].cpu()
    features.flush()
    np.save(ws_file, latents)


@torch.no_grad()
def held_out(G: Generator, distance, folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """For each kind of degradation, the features of the 500 full images at ψ = 1."""
    images = np.load(folder / "psi1.npy", mmap_mode="r")
    found = {}
    for kind in KINDS:
        random = np.random.default_rng(0)
        parts = []
        for i in range(len(images)):
            image = torch.from_numpy(images[i : i + 1].astype(np.float32)).to(G.w_avg)
            parts.append(pooled_features(draw_degradation(kind, random)(image), distance))
        found[kind] = tuple(torch.cat(column) for column in zip(*parts, strict=True))
    return found


def r_squared(predicted: Tensor, w: Tensor) -> float:
    """The share of the variance of w, summed over its coordinates, that the prediction explains."""
    return 1 - ((predicted - w).square().sum() / (w - w.mean(dim=0)).square().sum()).item()


def fit(
    folder: Path,
    tests: dict[str, tuple[Tensor, Tensor]],
    test_w: Tensor,
    *,
    epochs: int = 10,
    rate: float = 1e-3,
    decay: float = 0.3,
    dropout: float = 0.5,
    seed: int = 0,
    **sizes,
) -> WarmStart:
    """Fit w to the collected features by least squares."""
    torch.manual_seed(seed)
    features = np.load(folder / "features.npy", mmap_mode="r")
    latents = torch.from_numpy(np.load(folder / "features-w.npy"))
    mean, scale = latents.mean(dim=0), latents.std()
    network = WarmStart(latents.shape[1], **sizes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * (len(features) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    order = np.random.default_rng(seed)

    def predict(blocks: Tensor, thumbnail: Tensor) -> Tensor:
        return mean + scale * network.regress(blocks, thumbnail)

    for epoch in range(epochs):
        shuffled = order.permutation(len(features))
        total = 0.0
        for i in range(0, len(features) - 127, 128):
            chosen = np.sort(shuffled[i : i + 128])
            rows = torch.from_numpy(features[chosen].astype(np.float32))
            blocks, thumbnail = rows[:, :-768].unflatten(1, (1408, 8, 8)), rows[:, -768:]
            predicted = predict(F.dropout(blocks, dropout), thumbnail)
            loss = ((predicted - latents[chosen]) / scale).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        with torch.no_grad():
            scores = {kind: round(r_squared(predict(*seen), test_w), 4) for kind, seen in tests.items()}
        print(json.dumps({"epoch": epoch + 1, "loss": round(total / (len(features) // 128), 4), **scores}), flush=True)
    with torch.no_grad():  # fold the scale and mean of w into the last layer
        network.out.weight.mul_(scale)
        network.out.bias.mul_(scale).add_(mean)
    return network


@torch.no_grad()
def first_distances(G: Generator, distance, network: WarmStart, folder: Path, count: int = 50) -> dict[str, float]:
    """For each kind, d(D(G(w)), y) of the regressed w relative to that of w̄, averaged over held-out full images."""
    images = np.load(folder / "psi1.npy", mmap_mode="r")[:count]
    mean_face = G.synthesis(G.w_avg.expand(1, G.num_ws, -1), None, 256)
    shares = {}
    for kind in KINDS:
        random = np.random.default_rng(0)
        values = []
        for image in images:
            degradation = draw_degradation(kind, random)
            target = degradation(torch.from_numpy(image[None].astype(np.float32)).to(G.w_avg))
            made = G.synthesis(network(target, distance)[:, None].expand(-1, G.num_ws, -1), None, 256)
            features = distance.features(target)
            values.append([distance(degradation(i), features).item() for i in (made, mean_face)])
        warm, mean = np.mean(values, axis=0)
        shares[kind] = round(float(warm / mean), 3)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/training"), help="where the samples are")
    parser.add_argument(
        "--out", type=Path, default=Path(weights.__file__).with_name("warm-start-mobile-ffhq.safetensors")
    )
    parser.add_argument("--count", type=int, default=6_400, help="number of faces to fit to")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    folder = arguments.folder
    G = ex5lib.load_generator(device=arguments.device)
    distance = ex5lib.PerceptualDistance(device=arguments.device)
    make(folder, "psi1", device=arguments.device)
    collect(G, distance, folder, arguments.count)
    tests = {kind: tuple(part.cpu() for part in seen) for kind, seen in held_out(G, distance, folder).items()}
    network = fit(folder, tests, torch.from_numpy(np.load(folder / "psi1-ws.npy"))[:, 0])
    tensors = {name: tensor.detach().half() for name, tensor in network.state_dict().items()}
    with replacing(arguments.out) as temporary:
        safetensors.torch.save_file(tensors, temporary, {"mapping_sha256": weights.mapping_digest(G)})
    network.to(G.w_avg.device)
    print(json.dumps({"d relative to the mean face's": first_distances(G, distance, network, folder)}))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, SHA-256 {pooch.file_hash(str(arguments.out))}")


if __name__ == "__main__":
    main()

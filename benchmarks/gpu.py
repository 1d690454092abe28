"""Measures a GPU in one command, in under eight minutes: is it correct, good, fast? How much memory does it need?

    python -m benchmarks.gpu [--device cuda] [--weights FOLDER] [--out results/gpu.json] [--quick]
    python -m benchmarks.gpu pack FOLDER

It needs PyTorch, NumPy, safetensors and Pillow. ``pack`` copies the code, the reference numbers and the weights in half
precision to a folder, under 60 MB, from which the first command runs on a machine without network. ``--quick`` does
the same with small networks and a few steps, on any device, to check that it works.
"""

import argparse
import json
import lzma
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from benchmarks.parity import CROPS, SNAPSHOTS, attempted, parity
from benchmarks.reference_synthesis import reference_synthesis
from ex5lib import weights
from ex5lib.devices import pick_device, pick_dtype
from ex5lib.files import replacing
from ex5lib.images.loading import load_image
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.losses import PerceptualDistance
from ex5lib.inversion.projector import project
from ex5lib.inversion.recipes import RECIPES
from ex5lib.inversion.warm_start import WarmStart
from ex5lib.weights.converters import vgg16_features
from ex5lib.weights.loading import PREVIEW_SIZES
from stylegan2_ada.generator import Generator, MappingNetwork, estimate_w_avg
from stylegan2_ada.mobile import MobileSynthesis, mobile_generator
from stylegan2_ada.networks import random_generator

ROOT = Path(__file__).parents[1]
PACKED = (
    "ex5lib/**/*.py", "ex5lib/**/*.toml", "stylegan2_ada/**/*.py", "benchmarks/*.py", "benchmarks/crops/*",
    *(f"tests/data/{name}.*" for name in (*SNAPSHOTS, "mobile_ffhq", "vgg16_relu")),
)  # fmt: skip


def tensors(name: str, folder: Path | None) -> dict[str, Tensor]:
    """A network's tensors in float32, from a folder, such as that of ``pack``, or from the cache."""
    if folder is not None and (squeezed := folder / f"{name}.xz").exists():
        loaded = safetensors.torch.load(unsqueeze(squeezed.read_bytes()))
    else:
        file = folder and folder / f"{name}.safetensors"
        loaded = safetensors.torch.load_file(file if file and file.exists() else weights.fetch(name))
    return {key: tensor.float() for key, tensor in loaded.items()}


def load_networks(
    folder: Path | None, device: torch.device, quick: bool
) -> tuple[Generator, PerceptualDistance, WarmStart | None]:
    """The embedded generator, d and the warm start; if ``quick``, an untrained generator of 64 px and no warm start."""
    vgg, regression = vgg16_features(), None
    vgg.load_state_dict(tensors("vgg16", folder), assign=True)
    distance = PerceptualDistance(vgg=vgg.eval().requires_grad_(False))
    if quick:
        torch.manual_seed(0)
        synthesis = MobileSynthesis(w_dim=32, channels=(32, 32, 32), const_channels=32, preview_sizes=(32,))
        for name, parameter in synthesis.named_parameters():  # signals must keep their size in float16
            if name.endswith("affine.bias"):
                torch.nn.init.ones_(parameter)
            elif name.endswith("weight") and parameter.ndim > 1 and "affine" not in name:
                torch.nn.init.kaiming_normal_(parameter, a=0.2)
        G = Generator(MappingNetwork(32, 32, synthesis.num_ws, num_layers=2), synthesis).eval().requires_grad_(False)
    else:
        heads = {f"synthesis.previews.{key}": t for key, t in tensors("preview-mobile-ffhq", folder).items()}
        G = mobile_generator(tensors("mobile-ffhq", folder) | heads, PREVIEW_SIZES)
        G.mapping.w_avg.copy_(estimate_w_avg(G.mapping))
        # load_warm_start does not recognise a mapping network that went through half precision.
        regression = WarmStart().requires_grad_(False)
        regression.load_state_dict(tensors("warm-start-mobile-ffhq", folder))
        regression.to(device)
    return G.to(device), distance.to(device), regression


def squeeze(data: bytes) -> bytes:
    """Numbers in half precision, a seventh smaller: bytes of signs and exponents, which repeat, apart from the rest."""
    return lzma.compress(data[::2] + data[1::2], preset=1)


def unsqueeze(data: bytes) -> bytes:
    """What ``squeeze`` was given."""
    halves = lzma.decompress(data)
    joined, first = bytearray(len(halves)), (len(halves) + 1) // 2
    joined[::2], joined[1::2] = halves[:first], halves[first:]
    return bytes(joined)


def pack(folder: Path) -> None:
    """Copy everything that the bench needs to a folder, and say how large it is."""
    for pattern in PACKED:
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (folder / "weights").mkdir(exist_ok=True)
    for name in ("mobile-ffhq", "vgg16", "preview-mobile-ffhq", "warm-start-mobile-ffhq"):
        half = {key: tensor.half() for key, tensor in safetensors.torch.load_file(weights.fetch(name)).items()}
        (folder / "weights" / f"{name}.xz").write_bytes(squeeze(safetensors.torch.save(half)))
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    squeezed = [path for path in files if path.suffix == ".xz"]
    for kind, paths in (("weights", squeezed), ("with code and reference numbers", files)):
        print(f"{kind}: {len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")
    print(f"in {folder}; there:")
    print(f"  cd {folder} && python -m benchmarks.gpu --device cuda --weights weights")


def psnr(image: Tensor, original: Tensor) -> float:
    """dB of images in [−1, 1]."""
    return -10 * ((image - original).square().mean() / 4).log10().item()


class Bench:
    """The networks, the crops, and searches with them on one device.

    Args:
        quick: a few steps of every search.
    """

    def __init__(
        self,
        G: Generator,
        distance: PerceptualDistance,
        regression: WarmStart | None,
        device: torch.device,
        *,
        quick: bool,
    ):
        self.G, self.distance, self.regression, self.device, self.quick = G, distance, regression, device, quick
        crops = {path.stem: load_image(path) for path in sorted(CROPS.glob("*.jpg"))}
        self.crops = {name: resize_area(crop, min(crop.shape[-1], G.img_resolution)) for name, crop in crops.items()}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def search(self, target: Tensor, recipe: str, num_steps: int | None = None, **settings) -> dict:
        """A search's result and cost; if it is shortened, its seconds are scaled up to all steps of the recipe."""
        full = RECIPES[recipe].num_steps
        steps = max(len(RECIPES[recipe].stages), 6) if self.quick else num_steps or full
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        if RECIPES[recipe].start == "warm":
            regress = self.regression
            settings["start"] = "mean" if regress is None else regress(target.to(self.device), self.distance)
        run = project(
            self.G, target, recipe=recipe, num_steps=steps, distance=self.distance, device=self.device, progress=False,
            snapshots=(), w_avg_samples=200 if self.quick else None,
            identity_weight=0.0,  # the descriptor, 3 % of a step, would not fit into what is carried there
            **settings,
        )  # fmt: skip
        self.wait()
        seconds = time.perf_counter() - began
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        begun = run.schedule["seconds"][0]
        whole = seconds if self.quick else begun + (seconds - begun) * full / steps
        return {"run": run, "seconds": whole, "photo": whole / len(target), "steps": steps, "peak": peak}

    def quality(self) -> dict[str, dict]:
        """d and PSNR at 256 px of fast and karras2020, for both crops."""
        rows = {}
        for recipe in ("fast", "karras2020"):
            for name, crop in self.crops.items():
                done = self.search(crop, recipe)
                small, original = (resize_area(t, 256).clamp(-1, 1) for t in (done["run"].image, crop))
                rows[f"{recipe}, {name}"] = {
                    "d": done["run"].distance, "PSNR": psnr(small, original), "seconds": done["seconds"],
                }  # fmt: skip
        return rows

    def seconds_per_photo(self) -> dict[str, dict]:
        """At N = 1 and 8. Long searches are cut short at 100 steps of one size, and their seconds scaled up."""
        crop = next(iter(self.crops.values()))
        rows: dict[str, dict] = {}
        for recipe, shortened in (("fast", None), ("best", 44), ("karras2020", 100)):
            for count in (1, 2 if self.quick else 8):
                target = crop.expand(count, -1, -1, -1)
                done = attempted(lambda recipe=recipe, t=target, s=shortened: self.search(t, recipe, s))
                failed = isinstance(done, str)
                rows[f"{recipe}, N = {count}"] = {
                    "seconds per photo": done if failed else done["photo"],
                    "peak memory (GiB)": None if failed else done["peak"],
                }
        return rows

    def steps_per_second(self, dtype: str) -> dict[str, object]:
        """Of karras2020 at full size, warmed up: eager and, in the fast type, compiled and replaying CUDA graphs."""
        crop = next(iter(self.crops.values()))
        steps, first, last = (6, 3, 5) if self.quick else (80, 40, 70)  # every tenth waits for the device
        modes: dict[str, bool | str] = {"eager": False}
        if not self.quick and dtype != "float32":  # a minute each
            modes |= {"compiled": "default"} | ({"graphed": "reduce-overhead"} if self.device.type == "cuda" else {})

        def measured(mode: bool | str) -> float:
            torch.compiler.reset()
            at = self.search(crop, "karras2020", steps, compile=mode, dtype=dtype)["run"].schedule["seconds"]
            return (last - first) / (at[last] - at[first])

        return {name: attempted(lambda mode=mode: measured(mode)) for name, mode in modes.items()}

    def against_reference(self, dtype: torch.dtype) -> dict[str, float]:
        """Steps per second of a StyleGAN2 of config F (generator and VGG16, forwards and backwards to w and the noise),
        with the operators of this project and with those of the published projector, in float32."""
        resolution = 32 if self.quick else 1024
        network = random_generator(torch.Generator().manual_seed(0), resolution).synthesis.to(self.device)
        ws = torch.randn(1, network.num_ws, network.w_dim, generator=torch.Generator().manual_seed(1)).to(self.device)
        noise = {name: buffer.requires_grad_() for name, buffer in network.noise_buffers().items()}
        target = self.distance.features(resize_area(self.crops["astronaut"].to(self.device), 32 if self.quick else 256))
        inputs = [ws.requires_grad_(), *noise.values()]

        def step(form: Callable[[], Tensor], distance: PerceptualDistance) -> float:
            self.wait()
            began = time.perf_counter()
            torch.autograd.grad(distance(resize_area(form(), target[0].shape[-1]), target).sum(), inputs)
            self.wait()
            return time.perf_counter() - began

        forms = {
            "reference, float32": (lambda: reference_synthesis(network, ws, noise), self.distance),
            "float32": (lambda: network(ws, noise), self.distance),
            str(dtype).removeprefix("torch."): (
                lambda: network(ws, noise, dtype=dtype), self.distance.in_precision(dtype)
            ),
        }  # fmt: skip
        for form in forms.values():
            step(*form)
        times = {
            name: statistics.median(step(*form) for _ in range(1 if self.quick else 5)) for name, form in forms.items()
        }
        rates = {f"{name} (steps/s)": 1 / seconds for name, seconds in times.items()}
        first = times["reference, float32"]
        return rates | {f"{name} / reference": first / seconds for name, seconds in times.items()}


def as_markdown(results: dict) -> str:
    """Every group of results as a table."""
    parts = []
    for group, rows in results.items():
        if not all(isinstance(row, dict) for row in rows.values()):
            rows = {name: {"": value} for name, value in rows.items()}
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        lines = [f"**{group}**", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for name, row in rows.items():
            lines.append(f"| {name} | {' | '.join(_cell(row.get(column)) for column in columns)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def run_all(device: str, folder: Path | None, *, quick: bool) -> dict[str, dict]:
    """All results, each group printed as soon as it is complete."""
    device = pick_device(device)
    began, dtype = time.perf_counter(), pick_dtype("auto", device)
    G, distance, regression = load_networks(folder, device, quick)
    bench = Bench(G, distance, regression, device, quick=quick)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    results: dict[str, dict] = {}
    groups = {
        "machine": lambda: {"device": name, "torch": torch.__version__, "auto type": str(dtype)},
        "parity: relative error": lambda: parity(G, distance, device),
        "against the published projector's operators": lambda: bench.against_reference(dtype),
        "steps per second, karras2020 at full size": lambda: {
            kind: bench.steps_per_second(kind) for kind in dict.fromkeys(("float32", str(dtype).removeprefix("torch.")))
        },
        "seconds per photo": bench.seconds_per_photo,
        "quality at 256 px": bench.quality,
    }
    for group, work in groups.items():
        found = attempted(work)
        results[group] = {"": found} if isinstance(found, str) else found
        print(as_markdown({group: results[group]}), f"\n\n({time.perf_counter() - began:.0f} s)\n", flush=True)
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("command", nargs="?", choices=["run", "pack"], default="run")
    parser.add_argument("folder", nargs="?", type=Path, help="pack: where to")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")
    parser.add_argument("--weights", type=Path, help="folder with mobile-ffhq.safetensors and vgg16.safetensors")
    parser.add_argument("--out", type=Path, default=Path("results/gpu.json"), help="the results; a .md beside it")
    parser.add_argument("--quick", action="store_true", help="small networks, a few steps")
    given = parser.parse_args(arguments)
    if given.command == "pack":
        if given.folder is None:
            parser.error("pack needs a folder to copy to")
        return pack(given.folder)
    results = run_all(given.device, given.weights, quick=given.quick)
    texts = {given.out: json.dumps(results, indent=1), given.out.with_suffix(".md"): as_markdown(results)}
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print("written to", given.out)
    return None


if __name__ == "__main__":
    main()

"""``ex5 doctor``: what a report of a problem needs to tell about a machine, and whether a search runs on it."""

import platform
import sys
import time
from importlib import metadata

import typer

from ex5lib import __version__
from ex5lib.cli import options as o
from ex5lib.samples import sample_photo

_PACKAGES = ("torch", "numpy", "pillow", "dlib-bin", "dlib", "matplotlib", "safetensors")
_NUM_STEPS = 4


def doctor(device: o.Device = "auto", generator: o.GeneratorName = "mobile-ffhq") -> None:
    """Check that everything works here: versions, device, memory, weights, a search of four steps.

    Paste what it prints into a report of a problem.
    """
    import psutil
    import torch

    from ex5lib import weights
    from ex5lib.devices import fastest_dtype, pick_device
    from ex5lib.restoration.pipeline import restore

    o.say(f"ex5 {__version__}, Python {platform.python_version()}, {platform.platform()}")
    versions = {distribution.name.lower(): distribution.version for distribution in metadata.distributions()}
    o.say(", ".join(f"{name} {versions[name]}" for name in _PACKAGES if name in versions))
    picked = pick_device(device)
    name = torch.cuda.get_device_name(picked) if picked.type == "cuda" else platform.processor() or platform.machine()
    number_type = str(fastest_dtype(picked)).removeprefix("torch.")
    o.say(f"device {picked} ({name}), {torch.get_num_threads()} threads, networks in {number_type}")
    memory = psutil.virtual_memory()
    o.say(f"memory {memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB of it free")
    o.say(f"weights, some in {weights.cache_folder()}:")
    for name, entry in weights.REGISTRY.items():
        if not entry.on_request:
            o.say(f"  {name}: {weights.fetch(name).name}, as it should be")
    began = time.perf_counter()
    done = restore(
        sample_photo(), generator=generator, num_steps=_NUM_STEPS, device=device, progress=sys.stderr.isatty()
    )
    run, seconds = done.run, time.perf_counter() - began
    o.say(f"a search of {_NUM_STEPS} steps: {seconds:.0f} s, with loading; d {run.distance:.2f}")
    typer.secho("everything works", fg="green")

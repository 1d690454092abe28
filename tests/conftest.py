"""The real networks and photos, loaded once for all tests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from device import everything_on_the_device
from typer.testing import CliRunner

import ex5lib
from ex5lib import devices, weights
from ex5lib.cli.app import app
from ex5lib.devices import keep_freed_memory
from ex5lib.faces import alignment
from ex5lib.faces.detection import Detection, detect_faces
from ex5lib.images.tensors import resize
from ex5lib.inversion.latents import sample_ws
from stylegan2_ada import Generator, MappingNetwork, MobileSynthesis

ROOT = Path(__file__).parents[1]
keep_freed_memory()  # as every host of the library should: a step at full size takes half the time


@pytest.fixture
def device(request):
    """Where tests of networks run, with all tensors that they make: the CPU, or what EX5_TEST_DEVICE names."""
    if "compile" in request.node.name:  # torch.compile does not see the mode that puts tensors there
        yield torch.device("cpu")
    else:
        with everything_on_the_device() as place:
            yield place


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Run a command of the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def reference():
    return lambda name: np.load(ROOT / "tests" / "data" / f"{name}.npz")


@pytest.fixture(scope="session")
def generator() -> Generator:
    return weights.load_generator(device="cpu")


@pytest.fixture(scope="session")
def small(root) -> Path:
    """The file of a StyleGAN2 at 32 px: with it a search, its figures and its numbers take a second."""
    return root / "tests" / "data" / "uncond_32.pkl"


@pytest.fixture(scope="session")
def small_generator(small) -> Generator:
    return weights.load_generator(small, device="cpu")


@pytest.fixture(scope="session")
def quick(small) -> list:
    """Options of a command for a search of a second."""
    return ["--generator", small, "--device", "cpu", "--num-steps", 3]


@pytest.fixture(scope="session")
def distance() -> ex5lib.PerceptualDistance:
    return ex5lib.PerceptualDistance(device="cpu")


@pytest.fixture(scope="session")
def astronaut() -> alignment.AlignedFace:
    return ex5lib.align_face(ROOT / "data" / "astronaut.png")


@pytest.fixture(scope="session", autouse=True)
def float32_by_default():
    """Searches give the same numbers on every machine; faster types have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "fastest_dtype", lambda _: torch.float32)
        yield


@pytest.fixture(scope="session", autouse=True)
def detected_once():
    """``align_face`` looks only once for the faces of a photo, which takes seconds and finds the same every time."""
    found: dict[tuple, list[Detection]] = {}

    def detect_once(photo: torch.Tensor, *, mask: torch.Tensor | None = None, every: bool = False) -> list[Detection]:
        images = (None if each is None else (each.shape, each.numpy().tobytes()) for each in (photo, mask))
        key = (*images, every)
        if key not in found:
            found[key] = detect_faces(photo, mask=mask, every=every)
        return list(found[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "detect_faces", detect_once)
        yield


class Samples(dict[int, torch.Tensor]):
    """Generated faces [1, 3, 1024, 1024] at ψ = 0.7 by seed, each made when it is first asked for."""

    def __init__(self, G: Generator):
        self.G = G

    def __missing__(self, seed: int) -> torch.Tensor:
        with torch.no_grad():
            self[seed] = self.G.synthesis(sample_ws(self.G, seed, truncation_psi=0.7)).clamp(-1, 1)
        return self[seed]


@pytest.fixture(scope="session")
def samples(generator) -> Samples:
    return Samples(generator)


@pytest.fixture
def tiny_generator() -> Generator:
    """An untrained network of the real architecture, at 64 px: a search in it takes milliseconds a step."""
    return _untrained((64, 64, 64))


@pytest.fixture(scope="session")
def preview_generator() -> Generator:
    """The same, thinner, at 256 px with a preview of 128 px."""
    return _untrained((16, 16, 16, 16, 16), preview_sizes=(128,))


def _untrained(channels: tuple[int, ...], **settings) -> Generator:
    torch.manual_seed(5)
    synthesis = MobileSynthesis(w_dim=32, channels=channels, const_channels=channels[0], **settings)
    for name, parameter in synthesis.named_parameters():  # signals keep their size through the layers
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.05)
        elif name.endswith("affine.bias"):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim == 4 and name.endswith("weight"):
            torch.nn.init.kaiming_normal_(parameter, a=0.2)
        elif name.endswith("conv.1.weight"):
            torch.nn.init.normal_(parameter, std=(2 / parameter.shape[1]) ** 0.5)
    torch.nn.init.normal_(synthesis.to_img_conv.weight, std=0.05)
    mapping = MappingNetwork(z_dim=32, w_dim=32, num_ws=synthesis.num_ws, num_layers=4)
    return Generator(mapping, synthesis).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def faces(small_generator, tmp_path_factory) -> list[Path]:
    """Four aligned faces, as far as the small generator makes faces."""
    folder, G = tmp_path_factory.mktemp("faces"), small_generator
    with torch.no_grad():
        made = [resize(G.synthesis(ex5lib.sample_ws(G, seed)), 256) for seed in range(4)]
    return [ex5lib.save_image(image, folder / f"{i}.png") for i, image in enumerate(made)]


@pytest.fixture
def album(faces, tmp_path) -> Path:
    (tmp_path / "album").mkdir()
    for name, face in zip("ab", faces, strict=False):
        shutil.copy(face, tmp_path / "album" / f"{name}.png")
    return tmp_path / "album"

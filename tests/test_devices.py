"""Everything a search does, on devices that this machine need not have: on the right one, and with hardly a wait."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from simulated_device import simulated
from squared_error import SquaredError
from torch import Tensor, nn

import ex5lib
from ex5lib import devices
from ex5lib.degradations.jpeg import Jpeg
from ex5lib.degradations.probe import hidden_region, hides_color, visible_resolution
from ex5lib.degradations.unknown import UnknownBlur, UnknownColors
from ex5lib.errors import DeviceError
from ex5lib.explorer.choices import Choice
from ex5lib.explorer.searching import LIVE_SIZE, Searcher
from ex5lib.faces.alignment import load_face
from ex5lib.images.tensors import resize_area
from ex5lib.inversion import search, tuning
from ex5lib.inversion.latents import latent_statistics, seeded
from ex5lib.inversion.losses import noise_regularization, renormalize_noise
from ex5lib.inversion.recipes import RECIPES, Recipe, pick_recipe
from ex5lib.inversion.stages import Stage
from ex5lib.restoration.metrics import compare_all
from ex5lib.restoration.pipeline import restore_faces
from ex5lib.weights import loading
from stylegan2_ada import Generator, MappingNetwork, MobileSynthesis
from stylegan2_ada.generator import estimate_w_avg
from stylegan2_ada.networks import random_generator

CPU = torch.device("cpu")
TYPES = (torch.float32, torch.bfloat16, torch.float16)
W_PLUS = Stage(2, None, "w+")
HELD = Recipe("held", (W_PLUS,), optimize_noise=False, colorless_weight=0.5, tied_beyond=2.0, hole_weight=0.1)
PREVIEWED = Recipe("previewed", (Stage(2, 16), Stage(2, 16, "w+"), W_PLUS), color_weight=1.0, clamp=True)
QUICK = {"distance": SquaredError(), "w_avg_samples": 50, "progress": False}


class Half(SquaredError):
    """The same in another type, as VGG16 can be."""

    def in_precision(self, dtype: torch.dtype) -> nn.Module:
        other = copy.copy(self)
        other.forward = lambda image, target: SquaredError.forward(self, image.to(dtype).float(), target)
        return other


@pytest.fixture(params=["cuda:0", "mps:0"])
def place(request, monkeypatch) -> torch.device:
    place = torch.device(request.param)
    for module in (search, tuning, loading):
        monkeypatch.setattr(module, "pick_device", lambda _: place)
    return place


def _mobile() -> Generator:
    torch.manual_seed(0)
    synthesis = MobileSynthesis(w_dim=16, channels=(16, 16), const_channels=16, preview_sizes=(16,))
    return Generator(MappingNetwork(16, 16, synthesis.num_ws, num_layers=2), synthesis).eval().requires_grad_(False)


def _stylegan2(**keywords) -> Generator:
    rng = torch.Generator().manual_seed(0)
    return random_generator(rng, 32, channel_base=256, channel_max=12, w_dim=16, z_dim=16, **keywords)


GENERATORS = {
    "mobile": _mobile,
    "stylegan2": _stylegan2,
    "resnet": lambda: _stylegan2(architecture="resnet", conv_clamp=256.0),
    "conditional": lambda: _stylegan2(c_dim=3),
}
DEGRADATIONS = {
    "blur": ex5lib.GaussianBlur(9),
    "grey": ex5lib.Grayscale(),
    "rectangle": ex5lib.Inpaint(top=64, left=64, height=96, width=96),
    "mask": ex5lib.Inpaint(mask=(torch.arange(24 * 24).view(24, 24) % 7 == 0).float()),
    "downsample": ex5lib.Downsample(6),  # to 43 px, which divides nothing
    "noise": ex5lib.Noise(0.1),
    "jpeg": Jpeg(20),
    "unknown blur": UnknownBlur(6.0),
    "unknown colours": UnknownColors(),
}
DEGRADATIONS["several"] = nn.Sequential(
    *(DEGRADATIONS[name] for name in ("blur", "rectangle", "jpeg", "unknown colours"))
)


def _copy_on(place: torch.device, module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).to(place)


def _with_gradients(function, *inputs: Tensor) -> list[Tensor]:
    """What a function makes of inputs, and the gradient of each: to the host."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    made = function(*inputs)
    (made.float() * torch.linspace(-1, 1, made.shape[-1], device=made.device)).sum().backward()
    return [tensor.detach().cpu() for tensor in (made, *(tensor.grad for tensor in inputs))]


def _same(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.device == CPU
        assert torch.equal(a, b)


def test_a_simulated_device_refuses_to_be_mixed_and_counts_who_waits():
    here = torch.ones(3, 3)
    with simulated("mps:0") as traffic:
        there = torch.ones(3, 3, device="mps:0")
        assert (there.device.type, here.device.type, (there * 2).T[1:].device.type) == ("mps", "cpu", "mps")
        for mixed in (lambda: here + there, lambda: there @ here, lambda: torch.cat([here, there])):
            with pytest.raises(RuntimeError, match="mixes tensors on cpu and mps:0"):
                mixed()
        assert (there * torch.tensor(2.0)).device.type == "mps"  # a number may come from anywhere
        with pytest.raises(TypeError, match="no float64"):
            there.double()
        with pytest.raises(TypeError, match="no NumPy array"):
            there.numpy()
        assert (traffic.to_host, traffic.to_device) == (0, 0)
        assert there.sum().item() == 9
        assert there[there > 0].cpu().tolist() == [1] * 9
        assert traffic.to_host == 3  # a number, how many are above 0, and the copy
        assert (here.to(there) + there).mean().device == there.new_tensor([1]).device == torch.device("mps:0")
        assert traffic.to_device == 2
        weight = _copy_on(there.device, nn.Linear(3, 3)).weight
        (weight * there).sum().backward()
        assert weight.grad.device.type == "mps"
    assert here.device.type == "cpu"


def test_a_simulated_device_lacks_what_it_lacks():
    image = torch.ones(1, 3, 5, 5, requires_grad=True)
    with simulated("mps:0"):
        with pytest.raises(NotImplementedError, match="MPS has no heaviside"):
            torch.heaviside(image.to("mps:0"), torch.tensor(0.0))
        with pytest.raises(RuntimeError, match="parts of equal size"):
            F.adaptive_avg_pool2d(image.to("mps:0"), 2)
    with simulated("cuda:0"), pytest.raises(RuntimeError, match="reflection_pad2d_backward does not give the same"):
        F.pad(image.to("cuda:0"), [1] * 4, mode="reflect").sum().backward()


def test_a_gpu_is_compiled_for_with_triton(monkeypatch):
    monkeypatch.setattr(devices, "find_spec", lambda name: None if name == "triton" else object())
    with pytest.raises(DeviceError, match="There is no Triton"):
        devices.check_compiler(torch.device("cuda:0"))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", ["mobile", "stylegan2", "resnet"])
def test_generators_run_on_a_device(name, dtype, place):
    G, random = GENERATORS[name](), torch.Generator().manual_seed(1)
    ws = torch.randn(2, G.num_ws, G.w_dim, generator=random)
    noise = {name: torch.randn(2, *b.shape[1:], generator=random) for name, b in G.noise_buffers().items()}

    def made(network: Generator, size: int | None) -> list[Tensor]:
        names, here = list(network.noise_buffers(size)), network.w_avg.device

        def image(ws: Tensor, *buffers: Tensor) -> Tensor:
            return network.synthesis(ws, dict(zip(names, buffers, strict=False)) or "none", size, dtype=dtype)

        given = [noise[name].to(here) for name in names]
        return _with_gradients(image, ws.to(here), *given) + _with_gradients(image, ws.to(here))

    for size in (*G.preview_sizes[-1:], None):
        expected = made(G, size)
        with simulated(str(place)):
            there = _copy_on(place, G)
            found = made(there, size)
        for a, b in zip(found, expected, strict=True):  # StyleGAN2's layouts differ
            scale = b.abs().max().item()
            torch.testing.assert_close(a, b, rtol=0, atol=scale * {torch.float32: 1e-5}.get(dtype, 0.05))


def test_features_in_half_precision_run_on_a_device(place):
    with simulated(str(place)):
        G = _copy_on(place, GENERATORS["resnet"]())
        _with_gradients(G.synthesis, torch.randn(2, G.num_ws, G.w_dim).to(place))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_distance_runs_on_a_device(distance, dtype, place):
    image, target = (torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    expected = _with_gradients(lambda x: distance.in_precision(dtype)(x, target)[:, None], image)
    with simulated(str(place)):
        there = _copy_on(place, distance)
        quick, y = there.in_precision(dtype), target.to(place)
        _same(_with_gradients(lambda x: quick(x, y)[:, None], image.to(place)), expected)
        assert quick.in_precision(torch.float32) is there


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degradations_run_on_a_device_and_have_nothing_copied_to_it_again(name, place):
    D = copy.deepcopy(DEGRADATIONS[name])
    image = torch.rand(1, 3, 72, 72, generator=seeded(0)) * 2 - 1  # px that do not divide 256
    expected, parameters = _with_gradients(D, image), list(D.parameters())
    seen = visible_resolution(D), hides_color(D), hidden_region(D, 32)
    with simulated(str(place)) as traffic:
        there, image = _copy_on(place, D), image.to(place)
        found = _with_gradients(there, image)
        gradients = [parameter.grad.cpu() for parameter in there.parameters()]
        traffic.to_host = traffic.to_device = 0
        there(image)
        assert (traffic.to_host, traffic.to_device) == (0, 0)
        assert (visible_resolution(there), hides_color(there)) == seen[:2]
        assert torch.equal(hidden_region(there, 32).cpu(), seen[2])
    for a, b in zip([*found, *gradients], [*expected, *(p.grad for p in parameters)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)  # an unknown blur has more taps there, of weight 0


def test_statistics_and_noise_stay_on_a_device(place):
    G = GENERATORS["conditional"]()
    expected = latent_statistics(G, num_samples=50, class_index=1)
    with simulated(str(place)):
        there = _copy_on(place, G)
        found = latent_statistics(there, num_samples=50, class_index=1)
        assert {found.w_avg.device, found.central_z.device, found.label.device} == {place}
        _same([found.w_avg.cpu()], [expected.w_avg])
        assert ex5lib.sample_ws(there, 3, class_index=1).device == place
        noise = {name: buffer.repeat(3, 1, 1, 1) for name, buffer in there.noise_buffers().items()}
        renormalize_noise(noise)
        assert noise_regularization(noise).device == place
        _same([estimate_w_avg(there.mapping, 50).cpu()], [estimate_w_avg(G.mapping, 50)])


def test_networks_are_loaded_to_a_device(place, small, astronaut):
    with simulated(str(place)):
        G, distance = ex5lib.load_generator(small), ex5lib.PerceptualDistance()
        for network in (G, distance):
            assert {tensor.device for tensor in network.state_dict().values()} == {place}
        section = object.__new__(ex5lib.Section)
        section.G = G
        assert section.mean_face.device == CPU
        face = resize_area(astronaut.image, 256)
        assert compare_all({"same": face}, face, distance)["same"]["distance"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("place", "count"), [("cuda:0", 1), ("mps:0", 3)], indirect=["place"])
@pytest.mark.parametrize(
    ("name", "recipe", "changes"),
    [
        *((name, RECIPES[recipe], {}) for name in ("mobile", "stylegan2") for recipe in ("fast", "karras2020")),
        ("stylegan2", RECIPES["course"], {}),
        ("mobile", HELD, {"degradation": ex5lib.Grayscale()}),  # which itself is nowhere
        ("conditional", RECIPES["karras2020"], {"space": "w+"}),
        ("stylegan2", RECIPES["karras2020"], {"space": "z"}),
        ("mobile", PREVIEWED, {"dtype": "bfloat16"}),
        ("stylegan2", RECIPES["karras2020"], {"dtype": "float16"}),
    ],
    ids=lambda value: value.name if isinstance(value, Recipe) else str(value),
)
def test_a_search_runs_on_a_device(name, recipe, changes, count, place, monkeypatch):
    """Every step with its backward pass and its optimisers."""
    G, random = GENERATORS[name](), torch.Generator().manual_seed(0)
    D = nn.Sequential(ex5lib.Inpaint(64, 64, 96, 96), UnknownColors())
    settings = QUICK | {"num_steps": 2 * len(recipe.stages), "degradation": D} | changes
    settings["distance"] = Half() if "dtype" in changes else SquaredError()
    target = torch.rand(count, 3, 32, 32, generator=random) * 2 - 1

    def found() -> ex5lib.Projection:
        return ex5lib.project(G, target, recipe=replace(recipe), **settings)

    with simulated(str(place)):
        there = found()
        results = [there.ws, there.latent, there.image, there.target, *there.noise.values(), *there.snapshots.values()]
        assert {tensor.device for tensor in (*results, *G.state_dict().values(), *D.parameters(), target)} == {CPU}
    monkeypatch.setattr(search, "pick_device", lambda _: CPU)
    here = found()
    tensors = ([run.ws, run.latent, run.image, *run.noise.values()] for run in (there, here))
    for a, b in zip(*tensors, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05 if "dtype" in changes else 1e-4)  # layouts differ
    assert there.settings["device"] == str(place)


def test_a_search_on_a_device_begins_where_it_is_told(place):
    G, target = GENERATORS["conditional"](), torch.rand(1, 3, 32, 32) * 2 - 1
    statistics = latent_statistics(G, num_samples=50, class_index=1)
    settings = {"distance": SquaredError(), "num_steps": 2, "progress": False, "statistics": statistics}
    ws = ex5lib.sample_ws(G, 3, class_index=1)
    with simulated(str(place)):
        run = ex5lib.project(G, target.to(place), start=ws.to(place), initial_noise=0.0, **settings)
        assert run.target.device == CPU
        again = ex5lib.project(G, target, start=run, **settings)
        in_z = ex5lib.project(G, target, space="z", initial_noise=0.0, **settings)
    assert (run.ws - ws).abs().max() < 0.5
    assert (again.ws - run.ws).abs().max() < 0.5
    assert (in_z.ws - G.mapping(statistics.central_z, statistics.label)).abs().max() < 0.5


def test_a_search_starts_warm_on_a_device(generator, distance, place):
    synthesis = MobileSynthesis(channels=(4,) * 7, const_channels=4, preview_sizes=(128,))
    G = Generator(generator.mapping, synthesis).eval().requires_grad_(False)
    target = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with simulated(str(place)):
        run = ex5lib.project(G, target, recipe="smoke", distance=distance, num_steps=2, progress=False)
    assert run.settings["start"] == "warm"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pivotal_tuning_runs_on_a_device_and_waits_once_a_step(dtype, place):
    G, D = GENERATORS["stylegan2"](), UnknownColors().requires_grad_(False)
    settings = {"distance": Half(), "progress": False, "degradation": D, "dtype": dtype}

    def traffic(num_steps: int) -> tuple[int, int]:
        with simulated(str(place)) as counted:
            tuned, done = tuning.tune(G, run, num_steps=num_steps, **settings)
            tensors = (*tuned.state_dict().values(), *G.state_dict().values(), *D.parameters(), done.image)
            assert {tensor.device for tensor in tensors} == {CPU}
        return counted.to_host, counted.to_device

    with simulated(str(place)):
        run = ex5lib.project(G, torch.rand(1, 3, 32, 32) * 2 - 1, num_steps=3, w_avg_samples=50, **settings)
    few, many = traffic(1), traffic(3)
    assert (many[0] - few[0], many[1] - few[1]) == (2, 0)


def test_photos_are_restored_on_a_device(place):
    face = load_face(torch.rand(1, 3, 64, 64, generator=seeded(0)) * 2 - 1, aligned=True, size=32)
    D = nn.Sequential(ex5lib.Grayscale(), ex5lib.Inpaint(64, 64, 96, 96))
    recipe = pick_recipe("karras2020", num_steps=2, w_avg_samples=50)
    with simulated(str(place)):
        G = _copy_on(place, GENERATORS["conditional"]())
        statistics = latent_statistics(GENERATORS["conditional"](), num_samples=50, class_index=2)
        (done,) = restore_faces(
            [face], D, recipe, generator=G, distance=SquaredError(), answers=2, tune=1, statistics=statistics,
            progress=False,
        )  # fmt: skip
        answers = [image for answer in (done, *done.others) for image in (answer.result, answer.composite)]
        assert {image.device for image in (done.target, *answers)} == {CPU}


def test_the_explorer_shows_what_a_device_finds(place):
    synthesis = MobileSynthesis(w_dim=16, channels=(4,) * 6, const_channels=4)  # images of 512 px
    face = load_face(torch.rand(1, 3, 64, 64, generator=seeded(0)) * 2 - 1, aligned=True, size=512)
    seen = []
    with simulated(str(place)) as traffic:
        G = Generator(MappingNetwork(16, 16, synthesis.num_ws, num_layers=2), synthesis).requires_grad_(False).to(place)
        recipes = {"karras2020": pick_recipe("karras2020", num_steps=2, w_avg_samples=50)}
        searcher = Searcher(G, recipes, distance=SquaredError())

        def after_step(step) -> bool:
            seen.extend(image for image in step.images() if image is not None)
            assert traffic.largest < 512**2  # none was larger than what is shown
            return False

        choice = Choice(degradation="inpaint", hole=(64, 64, 80, 80), recipe="karras2020")
        _, early = searcher.search(choice, face, after_step)
        assert {(image.device, image.shape[-1]) for image in (*seen, *early.values())} == {(CPU, LIVE_SIZE)}
    assert len(seen) == 4
    assert len(early) == 2


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("mobile", "fast"), ("stylegan2", "karras2020"), ("conditional", "karras2020")],
)
def test_a_step_waits_for_nothing(name, recipe, monkeypatch):
    """No step copies anything to the device; the terms come back every nine steps, or when a callback wants them."""
    monkeypatch.setattr(search, "pick_device", torch.device)
    settings = QUICK | {"snapshots": ()}
    G, target = GENERATORS[name](), torch.rand(1, 3, 32, 32) * 2 - 1
    if name == "conditional":
        settings |= {"space": "z", "statistics": latent_statistics(G, num_samples=50, class_index=1)}

    def traffic(num_steps: int, **keywords) -> tuple[int, int]:
        blur = ex5lib.GaussianBlur(9) if recipe == "fast" else UnknownBlur()
        keywords |= {"degradation": nn.Sequential(ex5lib.Grayscale(), blur), "num_steps": num_steps}
        with simulated("cuda:0") as counted:
            ex5lib.project(G, target, recipe=recipe, device="cuda:0", **settings, **keywords)
        return counted.to_host, counted.to_device

    traffic(4)  # the first search brings the descriptor to the device
    few, many = traffic(10), traffic(20)
    assert (many[0] - few[0], many[1] - few[1]) == (1, 0)
    assert traffic(10, callback=lambda _: None)[0] - few[0] == 10 - 2  # without one after nine steps and at the end

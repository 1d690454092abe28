"""The search: its schedule against closed forms, and its promises, most of them under a distance that costs nothing."""

import copy
import dataclasses
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from squared_error import SquaredError

import ex5lib
from ex5lib import GaussianBlur, Projection, devices, project
from ex5lib import errors as e
from ex5lib.devices import fastest_dtype
from ex5lib.images.tensors import resize_area
from ex5lib.inversion import recorder
from ex5lib.inversion.adam import Adam
from ex5lib.inversion.latents import latent_statistics
from ex5lib.inversion.losses import latent_distance, noise_regularization
from ex5lib.inversion.stages import Stage
from stylegan2_ada import Generator, MappingNetwork, MobileSynthesis


@pytest.fixture
def target(tiny_generator) -> torch.Tensor:
    ws = ex5lib.sample_ws(tiny_generator, 11)
    return tiny_generator.synthesis(ws).clamp(-1, 1)


@pytest.fixture
def search(tiny_generator, target):
    """A short search with the tiny generator, whose images mean nothing to VGG16; keywords override."""

    def run(**keywords) -> Projection:
        settings = {"num_steps": 8, "w_avg_samples": 500, "distance": SquaredError(), "device": "cpu"}
        settings["progress"] = False
        return project(tiny_generator, keywords.pop("target", target), **(settings | keywords))

    return run


def test_schedule_is_a_ramp_a_plateau_and_half_a_cosine():
    rate = Stage(10, learning_rate=1.0).rate
    assert rate(0) == 0
    assert rate(0.025) == pytest.approx(0.5)
    assert rate(0.05) == rate(0.5) == rate(0.75) == 1
    assert rate(0.875) == pytest.approx(0.5)
    assert rate(0.9375) == pytest.approx((1 - math.cos(math.pi / 4)) / 2)
    assert Stage(10, learning_rate=0.3, rampup=0).rate(0.0) == 0.3
    assert Stage(10, learning_rate=0.3, rampdown=1.0).rate(0.5) == pytest.approx(0.15)
    assert Stage(10, learning_rate=0.3, rampdown=0).rate(0.99) == 0.3


def test_a_generated_image_is_found_again(search, tiny_generator):
    tiny_generator.synthesis.to_img_conv.weight.mul_(0.05)  # images in about [−1, 1], as a target must be
    ws = ex5lib.sample_ws(tiny_generator, 11)
    target = tiny_generator.synthesis(ws, "none")
    run = search(target=target, num_steps=300, learning_rate=0.05, latent_weight=0, noise_weight=0.0)
    statistics = latent_statistics(tiny_generator, num_samples=500, seed=0)
    assert run.distance < 0.02 * run.history["distance"][0]
    assert (run.ws - ws).norm(dim=2).max() < 0.1 * latent_distance(ws, statistics.w_avg).item()


def test_history_holds_every_term_of_the_objective(search):
    run = search(latent_weight=0.3, noise_weight=7.0, color_weight=2.0)
    h = run.history
    assert {len(values) for values in h.values()} == {8}
    seen = h["distance"] + 2.0 * h["color_distance"] + 0.3 * h["latent_distance"]
    np.testing.assert_allclose(h["score"], seen, rtol=1e-5)
    np.testing.assert_allclose(h["loss"], seen + 7.0 * h["noise_regularization"], rtol=1e-5)
    np.testing.assert_allclose(h["learning_rate"], [Stage(8).rate(i / 8) for i in range(8)], rtol=1e-6)
    assert (np.diff(h["seconds"]) > 0).all()


def test_first_step_starts_at_the_mean_with_noise_of_the_published_size(tiny_generator, search):
    statistics = latent_statistics(tiny_generator, num_samples=500, seed=0)
    quiet = search(initial_noise=0.0)
    assert quiet.history["latent_distance"][0] == 0
    drawn = [search(num_steps=1, seed=seed).history["latent_distance"][0] for seed in range(6)]
    expected = 0.05 * statistics.w_std * math.sqrt(tiny_generator.w_dim)  # norm of N(0, (0.05 σ_w)²) in w_dim
    assert np.mean(drawn) == pytest.approx(expected, rel=0.15)


def test_noise_on_z_is_in_units_of_its_own_deviation(tiny_generator, search):
    statistics = latent_statistics(tiny_generator, num_samples=500, seed=0)
    assert abs(statistics.z_std / statistics.w_std - 1) > 0.3  # so that they can be told apart
    seen = []
    for seed in range(6):
        search(
            space="z", num_steps=1, seed=seed, statistics=statistics,
            callback=lambda info: seen.append((info["latent"] - statistics.central_z).norm().item()),
        )  # fmt: skip
    expected = 0.05 * statistics.z_std * math.sqrt(tiny_generator.z_dim)
    assert np.mean(seen) == pytest.approx(expected, rel=0.15)


def test_noise_on_w_fades_as_a_square_and_ends_at_three_quarters(search):
    seen = []
    search(num_steps=8, learning_rate=0.0, callback=lambda info: seen.append(info["latent"].norm().item()))
    still = []
    search(num_steps=8, learning_rate=0.0, initial_noise=0.0, callback=lambda info: still.append(info["latent"]))
    assert all(torch.equal(still[0], latent) for latent in still)
    run = search(num_steps=8, learning_rate=0.0)
    sizes = run.history["latent_distance"]
    assert (sizes[6:] == 0).all()
    assert sizes[:6].min() > 0
    assert sizes[5] < 0.1 * sizes[0]  # ((1 − 5/6) / 1)² = 1/36


def test_result_is_what_its_latent_and_noise_make(search, tiny_generator, target):
    for space in ("w", "w+", "z"):
        run = search(space=space)
        image = tiny_generator.synthesis(run.ws, run.noise)
        torch.testing.assert_close(image, run.image)
        assert run.distance == pytest.approx(SquaredError()(image, target).item(), rel=1e-4)
        statistics = latent_statistics(tiny_generator, num_samples=500, seed=0)
        assert run.latent_distance == pytest.approx(latent_distance(run.ws, statistics.w_avg).item(), rel=1e-4)
        for buffer in run.noise.values():
            assert buffer.mean().abs() < 1e-5
            assert buffer.var(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_a_callback_gets_the_image_and_the_latent_that_it_was_made_of(search, tiny_generator):
    differences = []

    def look(report: dict) -> None:
        with torch.no_grad():
            image = tiny_generator.synthesis(report["latent"].expand(-1, tiny_generator.num_ws, -1), report["noise"])
        differences.append((image - report["image"]).abs().max().item())

    for noise in (0.0, 0.05):
        search(num_steps=4, optimize_noise=False, initial_noise=noise, callback=look)
    assert differences == [0] * 8


def test_spaces_have_their_freedom(search, tiny_generator):
    w, w_plus, z = (search(space=space) for space in ("w", "w+", "z"))
    assert w.latent.shape == (1, 1, 32)
    assert (w.ws == w.ws[:, :1]).all()
    assert w_plus.latent.shape == w_plus.ws.shape == (1, 8, 32)
    assert (w_plus.ws != w_plus.ws[:, :1]).any()
    assert z.latent.shape == (1, 32)
    torch.testing.assert_close(z.ws, tiny_generator.mapping(z.latent))


def test_same_seed_same_image(search):
    assert torch.equal(search(seed=3).image, search(seed=3).image)
    assert not torch.equal(search(seed=3).image, search(seed=4).image)


def test_the_generator_is_left_as_it_was(search, tiny_generator):
    before = copy.deepcopy(tiny_generator.state_dict())
    tiny_generator.requires_grad_(True)  # somebody else's affair
    search()
    after = tiny_generator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in tiny_generator.parameters())


def test_noise_regularization_pulls_structure_out_of_the_noise(search):
    free, tied = search(num_steps=40, noise_weight=0.0), search(num_steps=40, noise_weight=1e5)
    assert noise_regularization(tied.noise).item() < 0.2 * noise_regularization(free.noise).item()


def test_latent_weight_holds_w_at_the_mean(search):
    assert (
        search(num_steps=40, latent_weight=100.0).latent_distance
        < 0.2 * search(num_steps=40, latent_weight=0).latent_distance
    )


def test_snapshots_are_the_images_after_so_many_steps(search):
    run = search(num_steps=10)
    assert sorted(run.snapshots) == [0, 1, 2, 4, 10]
    assert torch.equal(run.snapshots[10], run.image)
    full = search(num_steps=10, snapshots=[0, 3], initial_noise=0.0)
    seen = {}
    search(num_steps=10, initial_noise=0.0, callback=lambda info: seen.setdefault(info["step"], info["image"].clone()))
    torch.testing.assert_close(full.snapshots[3], seen[3])


def test_degradation_is_applied_to_the_generated_image(search, target, distance):
    blur = GaussianBlur(25)
    run = search(target=blur(target), degradation=blur, distance=distance)
    assert run.distance == pytest.approx(distance(blur(run.image), blur(target)).item(), rel=1e-4)
    assert "kernel_size=25" in run.settings["degradation"]


def test_ctrl_c_returns_the_best_so_far(search):
    def interrupt(info):
        if info["step"] == 5:
            raise KeyboardInterrupt

    run = search(num_steps=1000, callback=interrupt)
    assert run.stopped
    assert run.num_steps == 6
    score = run.history["distance"] + 1e-3 * run.history["latent_distance"]
    assert run.distance + 1e-3 * run.latent_distance <= score.min() * 1.0001
    assert torch.equal(run.snapshots[6], run.image)
    assert search(num_steps=1000, callback=lambda info: info["step"] == 3).num_steps == 4


@pytest.mark.parametrize("noise", [True, False])
def test_a_stopped_batch_keeps_each_photos_own_best_point(search, target, noise):
    """The rate is far too large: every step makes things worse, and the best point is the first."""
    other = target.flip(3)
    run = search(
        target=torch.cat([target, other]), learning_rate=30.0, rampup=0, initial_noise=0.0, num_steps=20,
        optimize_noise=noise, callback=lambda info: info["step"] == 6,
    )  # fmt: skip
    assert run.stopped
    assert (run.terms["distance"][1:] > run.terms["distance"][0]).all()
    np.testing.assert_allclose(run.distances, run.terms["distance"][0], rtol=1e-4)
    np.testing.assert_allclose(run.latent_distances, 0, atol=1e-5)


@pytest.mark.parametrize("place", ["G.synthesis", "Adam.step", "Best.update", "Recorder.step"])
def test_ctrl_c_at_any_moment_leaves_a_whole_result(search, tiny_generator, monkeypatch, place):
    owner, name = {
        "G.synthesis": (tiny_generator.synthesis, "forward"),
        "Adam.step": (Adam, "step"),
        "Best.update": (recorder.Best, "update"),
        "Recorder.step": (recorder.Recorder, "step"),
    }[place]
    original, calls = getattr(owner, name), []

    def interrupted(*arguments, **keywords):
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, interrupted)
    run = search(num_steps=20, snapshots=(), start="mean")
    done = 4 if place == "Adam.step" else 3  # whose image has been compared already
    assert run.stopped
    assert {len(values) for values in run.history.values()} == {run.num_steps} == {done}
    monkeypatch.undo()
    torch.testing.assert_close(tiny_generator.synthesis(run.ws, run.noise), run.image)


def test_a_projection_survives_saving(search, tmp_path):
    run = search()
    path = run.save(tmp_path / "run")
    assert sorted(p.name for p in path.parent.iterdir()) == ["projection.npz", "result.png"]
    for loaded in (Projection.load(path), Projection.load(tmp_path / "run")):
        assert torch.equal(loaded.ws, run.ws)
        assert all(torch.equal(loaded.noise[name], run.noise[name]) for name in run.noise)
        assert loaded.settings == run.settings
        assert (loaded.distance, loaded.seed, loaded.stopped) == (run.distance, 0, False)
        np.testing.assert_array_equal(loaded.history["loss"], run.history["loss"])
        assert sorted(loaded.snapshots) == sorted(run.snapshots)
        torch.testing.assert_close(loaded.image, run.image.clamp(-1, 1), atol=1 / 254, rtol=0)


def test_a_projection_can_be_continued(search, tmp_path):
    first = search(num_steps=30)
    first.save(tmp_path)
    second = search(num_steps=20, start=Projection.load(tmp_path))
    assert second.history["distance"][0] == pytest.approx(first.distance, rel=1e-4)
    assert second.distance < first.distance
    wider = search(num_steps=20, start=first, space="w+")
    assert wider.history["distance"][0] == pytest.approx(first.distance, rel=1e-4)
    assert wider.distance < first.distance


def test_every_result_can_be_continued_with_the_recipe_that_made_it(search):
    """Also one in w+, whose layers differ, by a recipe that begins in w."""
    for recipe in ("fast", "karras2020", "smoke"):
        first = search(recipe=recipe, num_steps=6)
        noise = {name: buffer.clone() for name, buffer in first.noise.items()}
        again = search(recipe=recipe, num_steps=6, start=first)
        assert again.settings["start"] == "projection"
        assert again.snapshots[0].sub(first.image).abs().max() < 1e-4
        assert all(torch.equal(first.noise[name], noise[name]) for name in noise)  # and is left as it was


def test_photos_that_were_saved_one_by_one_are_continued_as_a_batch(search, target, tmp_path):
    both = torch.cat([target, target.flip(3)])
    run = search(target=both, num_steps=6)
    paths = [one.save(tmp_path / str(i)) for i, one in enumerate(run)]
    again = search(target=both, num_steps=2, start=[Projection.load(path) for path in paths])
    np.testing.assert_allclose(again.terms["distance"][0], run.distances, rtol=1e-4)


def test_a_photos_own_result_shares_nothing_with_the_batch(search, target):
    batch = torch.cat([target, target.flip(3)])
    run = search(target=batch, num_steps=4)
    one = run[1]
    tensors = [one.ws, one.latent, one.image, one.target, *one.noise.values(), *one.snapshots.values()]
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)
    one.settings["stages"][0]["num_steps"] = 99
    assert run.settings["stages"][0]["num_steps"] == 4
    batch.zero_()
    assert run.target.abs().sum() > 0
    with pytest.raises(e.SettingError, match="batch of 2 photos"):
        run.save("nowhere")
    with pytest.raises(IndexError):
        run[2]


def test_a_result_of_version_0_2_can_be_loaded(search, tmp_path):
    path = (run := search(latent_weight=0.3)).save(tmp_path)
    with np.load(path) as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "terms/score"})
    np.testing.assert_allclose(Projection.load(path).history["score"], run.history["score"], rtol=1e-3)


def test_a_search_can_start_from_a_truncated_seed(search, tiny_generator):
    ws = ex5lib.sample_ws(tiny_generator, 7, truncation_psi=0.5)
    run = search(start=ws, initial_noise=0.0)
    statistics = latent_statistics(tiny_generator, num_samples=500, seed=0)
    assert run.history["latent_distance"][0] == pytest.approx(latent_distance(ws, statistics.w_avg).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("keywords", "error", "sentence"),
    [
        ({"num_steps": 0}, e.SettingError, "whole number from 1 up, not 0"),
        ({"num_steps": 5.0}, e.SettingError, "whole number from 1 up, not 5.0"),
        ({"start": [1]}, e.SettingError, "starts at a Projection"),
        ({"latent_wieght": 1}, e.SettingError, 'did you mean "latent_weight"'),
        ({"target": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)}, e.SettingError, "x / 127.5 − 1"),
        ({"target": torch.full((1, 3, 64, 64), 255.0)}, e.SettingError, "from 255 to 255: scale them"),
        ({"target": torch.full((1, 3, 64, 64), math.nan)}, e.SettingError, "NaN or infinity"),
        ({"space": "w++"}, e.SettingError, r'did you mean "w\+"'),
        ({"latent_weight": -1.0}, e.SettingError, "latent_weight must be 0 or a positive number"),
        ({"learning_rate": math.nan}, e.SettingError, "learning_rate"),
        ({"w_avg_samples": 1}, e.SettingError, "at least 2 samples"),
        ({"target": torch.zeros(1, 3, 32, 64)}, e.SettingError, "64 × 32 px, but it must be square"),
        ({"target": torch.zeros(3, 64, 64)}, e.SettingError, r"not \[3, 64, 64\]"),
        ({"start": torch.randn(1, 5, 32)}, e.SettingError, r"shape \[1, 8, 32\]"),
        ({"device": "tpu"}, e.DeviceError, "use auto, cuda, mps or cpu"),
        ({"learning_rate": 1e30}, e.DivergedError, "lower the learning rate"),
        ({"learning_rate": 1e30, "num_steps": 2}, e.DivergedError, "lower the learning rate"),
        ({"betas": (0.9, 1.0)}, e.SettingError, "β₁ and β₂"),
        ({"dtype": torch.float64}, e.SettingError, "float32, bfloat16 or float16, not torch.float64"),
        ({"seed": -1}, e.SettingError, "A seed is a whole number"),
        ({"seed": 10**20}, e.SettingError, "A seed is a whole number"),
        ({"target": torch.zeros(1, 3, 8, 8)}, e.SettingError, "16 px or more"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(search, keywords, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        search(**keywords)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_missing_gpu_is_said_plainly(search):
    with pytest.raises(e.DeviceError, match="no cuda device"):
        search(device="cuda")


@pytest.mark.slow
def test_compiled_networks_find_the_same():
    torch.manual_seed(5)
    synthesis = MobileSynthesis(w_dim=32, channels=(64,), const_channels=64)  # 16 px: every layer takes seconds
    G = Generator(MappingNetwork(32, 32, synthesis.num_ws, num_layers=2), synthesis).eval().requires_grad_(False)
    settings = {"num_steps": 6, "initial_noise": 0.0, "w_avg_samples": 100, "device": "cpu", "progress": False}
    target = G.synthesis(ex5lib.sample_ws(G, 11)).clamp(-1, 1)
    runs = [project(G, target, distance=SquaredError(), compile=compiled, **settings) for compiled in (False, True)]
    np.testing.assert_allclose(runs[1].history["distance"], runs[0].history["distance"], rtol=2e-3)
    assert runs[0].history["distance"][-1] != runs[0].history["distance"][0]
    assert [run.settings["compile"] for run in runs] == [False, True]


def test_a_missing_compiler_is_said_plainly(search, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(e.DeviceError, match="no C\\+\\+ compiler no-such-compiler"):
        search(compile=True)


def test_running_out_of_memory_is_said_plainly(search, monkeypatch, tiny_generator):
    # Asks the real allocator for more than any machine has.
    monkeypatch.setattr(tiny_generator.synthesis, "forward", lambda *_, **__: torch.empty(1, 3, 2**26, 2**20))
    with pytest.raises(e.DeviceError, match="too little memory for this run"):
        search()


def test_files_that_are_no_projection_are_refused(tmp_path):
    with pytest.raises(e.FileError, match="no file"):
        Projection.load(tmp_path)
    (tmp_path / "projection.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(e.FileError, match="not a saved projection"):
        Projection.load(tmp_path)
    np.savez(tmp_path / "projection.npz", ws=np.zeros(3))
    with pytest.raises(e.FileError, match="not a saved projection"):
        Projection.load(tmp_path)
    np.savez(tmp_path / "projection.npz", ws=np.array([print], dtype=object))  # would need pickle
    with pytest.raises(e.FileError, match="not a saved projection"):
        Projection.load(tmp_path)


def test_a_small_target_is_compared_at_its_own_size(search, target, distance):
    small = resize_area(target, 32)
    run = search(target=small, distance=distance)
    assert run.distance == pytest.approx(distance(resize_area(run.image, 32), small).item(), rel=1e-4)


def test_a_projection_by_another_generator_cannot_be_continued(search, root, distance):
    first = search(num_steps=1)
    other = ex5lib.load_generator(root / "tests" / "data" / "uncond_32.pkl", device="cpu")
    start = dataclasses.replace(first, latent=torch.zeros(1, 1, other.w_dim))
    with pytest.raises(e.SettingError, match="by another generator"):
        project(other, first.target, start=start, distance=distance, device="cpu", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stylegan2_can_be_searched_in_half_precision(root, distance, dtype):
    G = ex5lib.load_generator(root / "tests" / "data" / "uncond_32.pkl", device="cpu")
    target = G.synthesis(ex5lib.sample_ws(G, 3)).clamp(-1, 1)
    settings = {"num_steps": 5, "w_avg_samples": 100, "distance": distance, "device": "cpu", "progress": False}
    exact, half = (project(G, target, dtype=dtype, **settings) for dtype in (torch.float32, dtype))
    assert half.distance == pytest.approx(exact.distance, rel=0.1)
    assert half.distance != exact.distance


@pytest.mark.slow
def test_half_precision_stays_near_float32(search, distance):
    settings = {"num_steps": 20, "initial_noise": 0.0, "distance": distance}
    exact, half = search(**settings), search(**settings, dtype=torch.bfloat16)
    assert half.distance == pytest.approx(exact.distance, rel=0.2)
    assert half.distance != exact.distance
    assert half.image.dtype == torch.float32
    assert half.settings["dtype"] == "bfloat16"


def test_the_result_of_a_search_in_bfloat16_is_made_in_float32(tiny_generator, search, distance):
    run = search(num_steps=3, dtype="bfloat16", distance=distance)
    with torch.no_grad():
        image = tiny_generator.synthesis(run.ws, run.noise)
    torch.testing.assert_close(run.image, image, rtol=1e-5, atol=1e-5)
    assert run.distance == pytest.approx(distance(image, run.target).item(), rel=1e-5)


def test_the_type_is_chosen_by_the_hardware_unless_it_is_named(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    monkeypatch.setattr(devices, "fastest_dtype", fastest_dtype)  # the real one
    for has, wanted in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(devices, "_has_bfloat16", lambda has=has: has)
        assert devices.pick_dtype("auto", cpu) == wanted
        assert devices.pick_dtype("bfloat16", gpu) == devices.pick_dtype(torch.bfloat16, cpu) == torch.bfloat16
    for capability, wanted in (((6, 1), torch.float32), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert devices.pick_dtype("auto", gpu) == wanted
    assert devices.pick_dtype("auto", torch.device("mps:0")) == torch.float32
    for wrong in ("half", "nn", torch.float64):
        with pytest.raises(e.SettingError, match="float32, bfloat16 or float16"):
            devices.pick_dtype(wrong, cpu)


@pytest.mark.slow
def test_a_processor_held_to_avx2_does_not_get_bfloat16():
    code = "from ex5lib.devices import _has_bfloat16; print(_has_bfloat16())"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

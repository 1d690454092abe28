import io

import numpy as np
import pytest
import torch
from nvidia_layout import make_generator, snapshot_bytes
from rosinality_layout import make_state, plain_image, plain_w
from test_checkpoints import DATA, refusal, write

from ex5lib import weights
from ex5lib.errors import WeightsError
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import CheckpointError, load_generator_file, save_generator


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def saved(path, checkpoint, **options):
    torch.save(checkpoint, path, **options)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PTH"])
@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_are_read_wherever_they_stand(suffix, legacy, rng, tmp_path):
    state, other = make_state(rng), make_state(rng)
    checkpoints = {
        "average": {"g": other, "g_ema": state},
        "trained": {"g": state, "d": {}, "g_ema": None},
        "bare": state,
    }
    mean = torch.randn(8, generator=rng)
    ws = torch.randn(1, 6, 8, generator=rng)
    for name, checkpoint in checkpoints.items():
        path = saved(
            tmp_path / f"{name}{suffix}", checkpoint | {"latent_avg": mean}, _use_new_zipfile_serialization=not legacy
        )
        G = load_generator_file(path)
        expected = plain_image(state, ws[0])
        assert (G.synthesis(ws) - expected).norm() / expected.norm() < 1e-5
        assert torch.equal(G.w_avg, mean)


def test_a_file_without_a_mean_of_w_gets_one(rng, tmp_path):
    state = make_state(rng)
    G = load_generator_file(saved(tmp_path / "bare.pth", state))
    mean = plain_w(state, torch.randn(10_000, G.z_dim, generator=rng)).mean(0)
    assert (G.w_avg - mean).norm() < 0.1 * plain_w(state, torch.randn(2, G.z_dim, generator=rng)).norm(dim=1).mean()


def test_another_networks_state_dict_is_not_taken_for_a_generator(tmp_path):
    message = refusal(saved(tmp_path / "vgg.pth", torch.nn.Linear(2, 2).state_dict()))
    assert "it holds weight, bias, but no g_ema, no g, and no generator's own weights" in message


def test_a_missing_pth_is_a_missing_file_and_no_unknown_name(tmp_path):
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load_generator(tmp_path / "absent.pth", device="cpu")


@pytest.mark.parametrize("classes", [0, 8])
def test_an_export_of_a_conditional_network_is_refused(classes, rng, tmp_path):
    state = make_state(rng)
    state["style.1.weight"] = torch.cat([state["style.1.weight"]] * 2, dim=1)  # [8, 16]: z and the embedding
    if classes:
        state["embed.weight"] = torch.randn(8, classes, generator=rng)
    message = refusal(saved(tmp_path / "g.pt", {"g_ema": state}))
    assert "takes 16 numbers, not the 8 of z" in message
    assert "class-conditional" in message


class Whole(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.style = torch.nn.Linear(2, 2)


def torchscript():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


UNSAFE = {
    "module": (
        lambda path, legacy: saved(path, Whole(), _use_new_zipfile_serialization=legacy),
        "test_rosinality.Whole",
    ),
    "module in a dict": (
        lambda path, legacy: saved(path, {"g_ema": Whole()}, _use_new_zipfile_serialization=legacy),
        "test_rosinality.Whole",
    ),
    "torch's own module": (
        lambda path, legacy: saved(path, torch.nn.Linear(2, 2), _use_new_zipfile_serialization=legacy),
        "torch.nn.modules.linear.Linear",
    ),
    "numpy's number": (
        lambda path, legacy: saved(path, {"loss": np.float64(2)}, _use_new_zipfile_serialization=legacy),
        "multiarray.scalar",
    ),
    "TorchScript": (lambda path, _: write(path, torchscript()), "TorchScript"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("make", "found"), UNSAFE.values(), ids=UNSAFE)
def test_a_whole_object_is_refused_with_what_to_do_and_without_unsafe_advice(make, found, legacy, tmp_path, recwarn):
    path = make(tmp_path / "g.pt", legacy)
    recwarn.clear()
    message = refusal(path)
    assert found in message
    assert "save a state dict" in message
    assert not unsafe_advice(message)
    assert not recwarn.list


def unsafe_advice(message):
    return [word for word in ("weights_only", "trust", "safe_globals") if word in message]


def answer(path):
    try:
        return str(load_generator_file(path))
    except CheckpointError as error:
        return str(error)


def test_no_damaged_file_is_refused_with_unsafe_advice(rng, tmp_path):
    state = make_state(rng, channels=(2, 2), width=2)
    for legacy in (False, True):
        path = saved(tmp_path / "g.pt", state, _use_new_zipfile_serialization=not legacy)
        content = path.read_bytes()
        for end in range(100, len(content), len(content) // 50):
            assert not unsafe_advice(refusal(write(path, content[:end])))
            changed = content[:end] + b"\xff" * 8 + content[end + 8 :]
            assert not unsafe_advice(answer(write(path, changed)))


# Other generators that no reader can serve


def test_a_genuine_stylegan3_is_named():
    message = refusal(DATA / "stylegan3_t_16.pkl")
    assert "it holds a StyleGAN3 generator; supported are NVIDIA's StyleGAN2" in message


@pytest.mark.parametrize("channels", [1, 4])
def test_generators_of_other_than_rgb_images_are_refused_in_every_format(channels, rng, tmp_path):
    plain = make_generator(rng, img_channels=channels)
    files = [
        write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})),
        saved(tmp_path / "g.pt", {"g_ema": make_state(rng, img_channels=channels)}),
        tmp_path / "g.safetensors",
    ]
    save_generator(random_generator(rng, 8, channel_max=4, z_dim=4, w_dim=4, img_channels=channels), files[-1])
    for path in files:
        message = refusal(path)
        assert f"its images have {channels} channel" in message
        assert "this project restores RGB photos" in message

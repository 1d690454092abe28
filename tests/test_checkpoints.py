import argparse
import builtins
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvidia_layout import Persistent, make_generator, snapshot_bytes
from rosinality_layout import make_state, plain_image, plain_w
from tensorflow_layout import as_tensorflow, tensorflow_bytes

from stylegan2_ada import mobile
from stylegan2_ada.generator import Generator, MappingNetwork
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import CheckpointError, load_generator_file, load_nvidia_pickle, save_generator

DATA = Path(__file__).parent / "data"


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def write(path, content):
    path.write_bytes(content)
    return path


def image(generator):
    ws = torch.randn(1, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(9))
    return generator.synthesis(ws)


# NVIDIA's snapshots


@pytest.mark.parametrize(
    ("name", "labels", "num_fp16_res", "clamp"),
    [("uncond_32", False, 0, None), ("cond_64_fp16", True, 3, 256.0), ("resnet_16", False, 0, None)],
)
def test_a_snapshot_holds_two_frozen_generators_and_its_metadata(name, labels, num_fp16_res, clamp):
    snapshot = load_nvidia_pickle(DATA / f"{name}.pkl")
    assert snapshot.keys() == {"G", "G_ema", "metadata"}
    for G in (snapshot["G"], snapshot["G_ema"]):
        assert isinstance(G, Generator)
        assert not G.training
        assert not any(p.requires_grad for p in G.parameters())
        assert {t.dtype for t in G.state_dict().values()} == {torch.float32}
        assert (G.synthesis.conv_clamp, G.synthesis.num_fp16_res) == (clamp, 0)
    dataset = {"class_name": "training.dataset.ImageFolderDataset", "path": "x.zip", "use_labels": labels}
    assert snapshot["metadata"] == {"training_set_kwargs": dataset, "num_fp16_res": num_fp16_res}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_every_protocol_that_holds_bytes_is_read(protocol, rng, tmp_path):
    plain = make_generator(rng)
    path = write(tmp_path / "a.pkl", snapshot_bytes({"G_ema": plain, "augment_pipe": None}, protocol))
    snapshot = load_nvidia_pickle(path)
    assert torch.equal(snapshot["G_ema"].w_avg, plain["mapping"]["w_avg"].float())
    assert snapshot.keys() == {"G_ema", "metadata"}


def test_tensors_in_other_layouts_and_precisions_are_read(rng, tmp_path):
    plain = make_generator(rng)
    expected = load_nvidia_pickle(write(tmp_path / "a.pkl", snapshot_bytes({"G_ema": plain})))["G_ema"]
    for block in plain["synthesis"].state["_modules"].values():
        parameters = block["conv1"].state["_parameters"]
        weight = parameters["weight"].data.to(memory_format=torch.channels_last)
        parameters["weight"] = torch.nn.Parameter(weight, False)
        parameters["bias"] = torch.nn.Parameter(parameters["bias"].data.double(), False)
    G = load_nvidia_pickle(write(tmp_path / "b.pkl", snapshot_bytes({"G_ema": plain})))["G_ema"]
    assert torch.equal(image(G), image(expected))


# Other files


def test_safetensors_give_back_the_generator(tmp_path):
    G = load_nvidia_pickle(DATA / "cond_64_fp16.pkl")["G_ema"]
    save_generator(G, tmp_path / "g.safetensors")
    again = load_generator_file(tmp_path / "g.safetensors")
    assert torch.equal(image(again), image(G))
    z, c = torch.randn(2, G.z_dim), torch.eye(G.c_dim)[:2]
    assert torch.equal(again.mapping(z, c, 0.5), G.mapping(z, c, 0.5))
    assert again.synthesis.conv_clamp == 256
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x3C20])  # as a pickle, an archive and a web page begin
def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path, length):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    path = write(tmp_path / "g.safetensors", struct.pack("<Q", length) + header + bytes(4))
    with pytest.raises(CheckpointError, match="tensors of another model"):
        load_generator_file(path)


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    G = load_nvidia_pickle(DATA / "resnet_16.pkl")["G_ema"]
    path = write(tmp_path / "g.safetensors", b"old")

    def half_a_file(_tensors, filename, _metadata):
        Path(filename).write_bytes(b"ha")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", half_a_file)
    with pytest.raises(KeyboardInterrupt):
        save_generator(G, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_safetensors_give_back_a_mobilestylegan(tiny_generator, tmp_path):
    synthesis = mobile.MobileSynthesis(32, (64, 64, 64), 64, preview_sizes=(32,))
    torch.manual_seed(0)
    G = Generator(tiny_generator.mapping, synthesis).requires_grad_(False)
    save_generator(G, tmp_path / "g.safetensors")
    again = load_generator_file(tmp_path / "g.safetensors")
    ws = torch.randn(1, 8, 32)
    for size in (None, 32):
        assert torch.equal(again.synthesis(ws, size=size), G.synthesis(ws, size=size))
    assert torch.equal(again.w_avg, G.w_avg)
    assert not any(p.requires_grad for p in again.parameters())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"config": {"preview_sizes": [48]}}, "previews of \\[48\\] px"),
        ({"config": {"preview_sizes": "ab"}}, "does not describe a generator"),
        ({"config": {"preview_sizes": [float("inf")]}}, "does not describe a generator"),
        ({"config": {"preview_sizes": []}}, "unknown tensor synthesis.previews"),
        ({"drop": "synthesis.const"}, "tensor synthesis.const is missing"),
        ({"drop": "synthesis.blocks.1.up.affine.bias"}, "blocks.1.up.affine.bias is missing"),
    ],
)
def test_a_broken_mobilestylegan_is_refused(tiny_generator, tmp_path, change, sentence):
    synthesis = mobile.MobileSynthesis(32, (64, 64, 64), 64, preview_sizes=(32,))
    state = Generator(tiny_generator.mapping, synthesis).state_dict()
    state.pop(change.get("drop"), None)
    config = json.dumps(change.get("config", {"preview_sizes": [32]}))
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.torch.save_file(state, tmp_path / "g.safetensors", {"format": "stylegan2_ada", "config": config})
    with pytest.raises(CheckpointError, match=sentence):
        load_generator_file(tmp_path / "g.safetensors")


def test_other_networks_are_not_saved(tmp_path):
    synthesis = mobile.MobileSynthesis(8, (8, 8), 8)
    G = Generator(MappingNetwork(8, 8, synthesis.num_ws), synthesis)
    G.synthesis = torch.nn.Identity()
    with pytest.raises(ValueError, match="not Identity"):
        save_generator(G, tmp_path / "g.safetensors")


@pytest.mark.parametrize("legacy", [False, True])
def test_rosinality_parity(legacy, rng, tmp_path):
    state = make_state(rng)
    checkpoint = {"g_ema": state, "d": {}, "args": argparse.Namespace(size=16)}
    torch.save(checkpoint, tmp_path / "g.pt", _use_new_zipfile_serialization=not legacy)
    G = load_generator_file(tmp_path / "g.pt")
    z = torch.randn(2, G.z_dim, generator=rng)
    torch.testing.assert_close(G.mapping(z)[:, 0].double(), plain_w(state, z), rtol=1e-5, atol=1e-5)
    ws = torch.randn(2, G.num_ws, G.w_dim, generator=rng)
    expected = torch.cat([plain_image(state, w) for w in ws])
    assert (G.synthesis(ws) - expected).norm() / expected.norm() < 1e-5
    # No mean in the file: it is that of 10,000 z, here another 10,000.
    mean = plain_w(state, torch.randn(10_000, G.z_dim, generator=rng)).mean(0)
    assert (G.w_avg - mean).norm() < 0.1 * plain_w(state, z).norm(dim=1).mean()


def test_rosinality_mean_of_w_is_used_where_there_is_one(rng, tmp_path):
    mean = torch.randn(8, generator=rng)
    torch.save({"g_ema": make_state(rng), "latent_avg": mean}, tmp_path / "g.pt")
    assert torch.equal(load_generator_file(tmp_path / "g.pt").w_avg, mean)


# Bad input


def refusal(path):
    with pytest.raises(CheckpointError) as refused:
        load_generator_file(path)
    message = str(refused.value)
    assert str(path) in message
    assert message.count("\n") == 0
    return message


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("g.pkl", b"", "empty"),
        ("g.pkl", b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        ("g.pkl", b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00.", "not a snapshot"),
        ("g.pkl", b"\x80\x03ctraining.networks_stylegan3\nGenerator\nq\x00.", "StyleGAN3"),
        ("g.pkl", b"PK\x03\x04", "a PyTorch archive"),
        ("g.pkl", b"GIF89a", "unknown data"),
        ("g.pkl", b"\x80\x03K\x01.", "type int, not a snapshot"),
        ("G.PKL", b"\x80\x03K\x01.", "type int, not a snapshot"),
        ("g.safetensors", b"\x80\x03K\x01.", "a pickle"),
        ("g.safetensors", struct.pack("<Q", 1 << 60) + b"{}", "damaged"),
        ("g.pt", b"PK\x03\x04 but no archive", "it is damaged"),
        ("g.bin", b"\x80\x03K\x01.", "suffix '.bin'"),
    ],
)
def test_what_is_no_generator_is_named(name, content, found, tmp_path):
    assert found in refusal(write(tmp_path / name, content))


def test_missing_files_and_folders_are_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.pkl")
    (tmp_path / "folder.pkl").mkdir()
    assert "not a file" in refusal(tmp_path / "folder.pkl")


def test_a_stylegan3_network_is_named(tmp_path):
    synthesis = Persistent("SynthesisNetwork", modules={"input": Persistent("SynthesisInput")})
    G = Persistent("Generator", modules={"synthesis": synthesis})
    assert "StyleGAN3" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": G})))


def test_a_file_with_only_a_discriminator_is_named(tmp_path):
    D = Persistent("Discriminator")
    assert "holds D, but no generator G_ema" in refusal(write(tmp_path / "d.pkl", snapshot_bytes({"D": D})))
    assert "holds G_ema, but no generator" in refusal(write(tmp_path / "d.pkl", snapshot_bytes({"G_ema": None})))
    assert "a Discriminator, not a Generator" in refusal(write(tmp_path / "d.pkl", snapshot_bytes({"G_ema": D})))
    torch.save({"d": {}}, tmp_path / "d.pt")
    assert "holds d, but no g_ema" in refusal(tmp_path / "d.pt")


def drop(tensors, name):
    del tensors[name]


def add(tensors, name):
    tensors[name + "2"] = tensors[name].clone()


def grow(tensors, name):
    tensors[name] = torch.cat([tensors[name], tensors[name]])


def replace(tensors, name):
    tensors[name] = "text"


@pytest.mark.parametrize(("edit", "found"), [(drop, "missing"), (add, "unknown tensor"), (grow, "is [10]")])
def test_state_dicts_that_do_not_fit_name_the_tensor(edit, found, rng, tmp_path):
    save_generator(random_generator(rng, 16, channel_max=5, w_dim=8, z_dim=8), tmp_path / "g.safetensors")
    with safetensors.safe_open(tmp_path / "g.safetensors", "pt") as file:
        metadata = file.metadata()
    state = safetensors.torch.load_file(tmp_path / "g.safetensors")
    edit(state, "synthesis.blocks.1.conv0.bias")
    safetensors.torch.save_file(state, tmp_path / "g.safetensors", metadata)
    message = refusal(tmp_path / "g.safetensors")
    assert found in message
    assert "synthesis.blocks.1.conv0.bias" in message


@pytest.mark.parametrize(
    ("edit", "found"), [(drop, "missing"), (add, "unknown"), (grow, "is [10]"), (replace, "not a tensor")]
)
def test_rosinality_files_that_do_not_fit_name_the_tensor(edit, found, rng, tmp_path):
    state = make_state(rng)
    edit(state, "convs.0.activate.bias")
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    message = refusal(tmp_path / "g.pt")
    assert found in message
    assert "conv0." in message or "convs.0." in message


@pytest.mark.parametrize("name", [n for n in make_state(torch.Generator()) if "kernel" not in n])
@pytest.mark.parametrize("value", [torch.zeros(0, 3), torch.zeros(2, 2, 2, 2, 2, 2)], ids=["empty", "six dimensions"])
def test_no_misshapen_tensor_goes_unnoticed(name, value, rng, tmp_path):
    torch.save({"g_ema": make_state(rng) | {name: value}}, tmp_path / "g.pt")
    refusal(tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("edit", "found"),
    [(drop, "conv1.weight is missing"), (add, "conv1.weight2"), (grow, "not [10, 6, 3, 3]"), (replace, "not a tensor")],
)
def test_snapshots_that_do_not_fit_name_the_tensor(edit, found, rng, tmp_path):
    plain = make_generator(rng)
    edit(plain["synthesis"]["b8"]["conv1"].state["_parameters"], "weight")
    assert found in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))


def test_another_activation_is_refused(rng, tmp_path):
    plain = make_generator(rng)
    plain["synthesis"]["b8"]["conv1"].state["activation"] = "relu"
    assert "synthesis.b8.conv1. has an activation other than lrelu" in refusal(
        write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain}))
    )


@pytest.mark.parametrize("gain", [float("inf"), float("nan"), "2", None])
def test_gains_that_are_not_finite_numbers_are_refused(gain, rng, tmp_path):
    plain = make_generator(rng)
    plain["synthesis"]["b8"]["conv1"].state["bias_gain"] = gain
    assert "not a finite number" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))


def test_another_models_safetensors_are_refused(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "g.safetensors")
    assert "1 tensors of another model" in refusal(tmp_path / "g.safetensors")


# Hostile pickles


class Call:
    """Pickles as a call: reading the pickle naively makes it."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


def hostile_objects(canary):
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    getattr_chain = Call(getattr, Call(__import__, "os"), "system")
    return {
        "os.system": Call(os.system, command),
        "subprocess": Call(subprocess.call, ["touch", str(canary)]),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "compile": Call(exec, Call(compile, code, "x", "exec")),
        "getattr chain": Call(Call, getattr_chain, command),
        "open": Call(open, str(canary), "w"),
        "torch.load": Call(torch.load, str(canary)),
        "unknown class": argparse.Namespace(a=1),
        "setstate": Call(argparse.Namespace, state={"__class__": 1}),
        "partial": Call(builtins.map, print, [1]),
    }


HOSTILE = list(hostile_objects(""))
PLACES = {
    "alone": lambda evil, _: evil,
    "beside G_ema": lambda evil, G: {"G_ema": G, "training_set_kwargs": evil},
    "in the state of a module": lambda evil, G: {"G_ema": [G.state.update(extra=evil), G][1]},
    "in a discarded network": lambda evil, G: {"G_ema": G, "D": Persistent("Discriminator", hook=evil)},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("name", HOSTILE)
def test_calls_are_refused_by_name_and_never_made(name, place, rng, tmp_path):
    canary = tmp_path / "canary"
    evil = hostile_objects(canary)[name]
    content = snapshot_bytes(place(evil, make_generator(rng)))
    message = refusal(write(tmp_path / "evil.pkl", content))
    assert "it names" in message
    assert not canary.exists()
    if name in ("os.system", "open", "exec", "eval"):  # the canary does sing when the pickle is run
        pickle.loads(pickle.dumps(evil))
        assert canary.exists()


def legacy_stream(storage):
    """What ``torch.save`` used to write, up to the elements, around the pickle of the storage."""
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    return magic + protocol + pickle.dumps({}, 2) + storage + pickle.dumps(["0"], 2)


def test_calls_inside_the_bytes_of_a_tensor_are_refused(tmp_path):
    canary = tmp_path / "canary"
    for evil in hostile_objects(canary).values():
        inner = legacy_stream(pickle.dumps(evil, 2))
        content = pickle.dumps(Call(torch.storage._load_from_bytes, inner))
        assert "it names" in refusal(write(tmp_path / "evil.pkl", content))
    assert not canary.exists()


def test_a_hostile_pt_is_refused(tmp_path):
    canary = tmp_path / "canary"
    for legacy in (False, True):
        for evil in hostile_objects(canary).values():
            if isinstance(evil, Call):
                torch.save({"g_ema": evil}, tmp_path / "evil.pt", _use_new_zipfile_serialization=not legacy)
                refusal(tmp_path / "evil.pt")
    assert not canary.exists()


def storage_of(data, dtype=b"FloatStorage", key=b"0"):
    """The legacy stream of one storage with these bytes, written by hand."""
    pid = b"(X\x07\x00\x00\x00storagectorch\n" + dtype + b"\nX\x01\x00\x00\x00" + key + b"X\x03\x00\x00\x00cpuK\x01Nt"
    numel = struct.pack("<q", len(data) // 4)
    return legacy_stream(b"\x80\x02" + pid + b"Q.") + numel + data


def tensor_call(storage, offset, size, stride):
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


def load_call(data):
    return Call(torch.storage._load_from_bytes, data)


def nested(opening, closing, depth):
    return b"\x80\x04" + opening * depth + b"N" + closing * depth + b"."


def bombs():
    # Tuples of two of the tuple before, 2 ** 60 leaves; lists of ten of the list before, 10 ** 20.
    doubled = b")" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(60))
    laughs = b"]" + b"".join(b"\x94](" + (b"h" + bytes([i])) * 10 + b"e" for i in range(20))
    items = list(range(1000))
    return {
        "BINBYTES8": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        "BYTEARRAY8": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        "BINUNICODE8": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
        "BINBYTES8 beyond the address space": b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
        "FRAME": b"\x80\x04\x95" + b"\xff" * 8 + b"x.",
        "LONG4": b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
        "LONG_BINPUT": b"\x80\x02Nr\xff\xff\xff\xff.",
        "deep lists": nested(b"](", b"e", 50_000),
        "deep tuples": nested(b"(", b"t", 50_000),
        "deep dicts": nested(b"}(\x8c\x01a", b"u", 50_000),
        "too many instructions": b"\x80\x02" + b"N" * 1_100_000 + b".",
        "billion laughs": b"\x80\x04" + laughs + b".",
        "exponential hash": b"\x80\x04}" + doubled + b"Ns.",
        "exponential hash in a set": b"\x80\x04\x8f(" + doubled + b"\x90.",
        "one list in many sets": pickle.dumps([Call(set, items) for _ in range(3000)]),
    }


@pytest.mark.parametrize("name", bombs())
def test_small_files_cannot_allocate_much(name, tmp_path):
    content = bombs()[name]
    path = write(tmp_path / "bomb.pkl", content)
    tracemalloc.start()
    refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6 + 100 * len(content)


def misdirected():
    """Instructions that a naive reader passes on to a tensor, or to a function that stands for a name."""
    tensor = tensor_call(load_call(storage_of(bytes(400))), 0, (100,), (1,))
    unfinished = pickle.dumps(tensor)[:-1]
    tensor.state = (load_call(storage_of(bytes(400))), 0, (100, 100), (0, 0))
    return {
        "Tensor.__setstate__": pickle.dumps(tensor),
        "attributes of a tensor": unfinished + b"N\x8c\x01<\x86b.",
        "Tensor.add": unfinished + b"(K\x01\x90.",
        "Tensor.__setitem__": unfinished + b"NK\x07s.",
        "attributes of a function": b"\x80\x04cnumpy\ndtype\nN}\x8c\x0c__defaults__Ns\x86b.",
    }


@pytest.mark.parametrize("content", misdirected().values(), ids=misdirected())
def test_instructions_reach_neither_tensors_nor_functions(content, tmp_path):
    assert "it is damaged" in refusal(write(tmp_path / "evil.pkl", content))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (100, 100, 100, 100), (0, 0, 0, 0)),
        (0, (1 << 40,), (0,)),
        (0, (0, 1 << 70), (1, 1)),
        (0, (1,), (1 << 70,)),
        (99, (50,), (-1,)),
        (50, (60,), (1,)),
        (0, (10, 10), (10, 11)),
        (1 << 62, (1,), (1,)),
    ],
)
def test_tensors_beyond_their_bytes_are_refused(offset, size, stride, tmp_path):
    content = pickle.dumps(tensor_call(load_call(storage_of(bytes(400))), offset, size, stride))
    message = refusal(write(tmp_path / "bomb.pkl", content))
    assert "larger than its data" in message or "malformed" in message


@pytest.mark.parametrize("claimed", [0, 99, 101, 1 << 40, -1])
def test_storages_that_miscount_their_elements_are_refused(claimed, tmp_path):
    store = storage_of(bytes(400))
    store = store[:-408] + struct.pack("<q", claimed) + bytes(400)
    assert "malformed" in refusal(write(tmp_path / "bomb.pkl", pickle.dumps(load_call(store))))


def test_the_same_bytes_cannot_be_made_into_many_storages(tmp_path):
    inner = storage_of(bytes(10_000))
    load = b"\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93\x94"
    content = (
        b"\x80\x04" + load + b"B" + struct.pack("<I", len(inner)) + inner + b"\x94" + b"h\x00h\x01\x85R" * 100 + b"."
    )
    assert "more tensor data than it holds" in refusal(write(tmp_path / "bomb.pkl", content))


def test_one_module_cannot_stand_in_for_many(rng, tmp_path):
    plain = make_generator(rng)
    modules = plain["synthesis"].state["_modules"]
    for i in range(500):
        modules[f"x{i}"] = modules["b8"]
    assert "more modules" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))
    for i in range(500):
        del modules[f"x{i}"]
    modules["loop"] = Persistent("SynthesisBlock")
    modules["loop"].state = plain["synthesis"].state
    assert "more modules" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))


def test_one_dict_of_parameters_cannot_stand_in_for_many(rng, tmp_path):
    plain = make_generator(rng)
    parameters = {f"x{i}": None for i in range(5000)} | {"x": torch.nn.Parameter(torch.zeros(()), False)}
    parameters |= {f"y{i}": parameters["x"] for i in range(5000)}
    modules = plain["synthesis"].state["_modules"]
    modules |= {f"m{i}": Persistent("SynthesisBlock") for i in range(100)}
    for i in range(100):
        modules[f"m{i}"].state["_parameters"] = parameters
    assert "more tensors" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))


def test_a_tensor_cannot_stand_in_for_many(rng, tmp_path):
    plain = make_generator(rng)
    parameters = plain["synthesis"]["b4"]["conv1"].state["_parameters"]
    parameters |= {f"x{i}": torch.nn.Parameter(torch.zeros(1000), False) for i in range(1)}
    parameters |= {f"x{i}": parameters["x0"] for i in range(1, 1000)}
    assert "more tensor data" in refusal(write(tmp_path / "g.pkl", snapshot_bytes({"G_ema": plain})))


def test_a_compressed_or_overlapping_pt_is_refused(rng, tmp_path):
    state = make_state(rng)
    torch.save({"g_ema": state | {"conv1.activate.bias": torch.zeros(1).expand(1 << 40)}}, tmp_path / "g.pt")
    assert "more tensor data than it holds" in refusal(tmp_path / "g.pt")
    torch.save({"g_ema": state | {"conv1.activate.bias": torch.zeros(1_000_000)}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "g.pt", "w", 8) as packed:
        for entry in plain.namelist():
            packed.writestr(entry, plain.read(entry))
    assert "compressed" in refusal(tmp_path / "g.pt")


def test_every_truncation_is_refused(rng, tmp_path):
    content = snapshot_bytes({"G_ema": make_generator(rng, channels=(2, 2), z_dim=2, w_dim=2, num_layers=1)})
    for end in range(1, len(content), 61):
        refusal(write(tmp_path / "g.pkl", content[:end]))


@functools.cache
def small_files():
    """A little generator in each of the four formats, by the end of its name."""
    rng = torch.Generator().manual_seed(0)
    plain = make_generator(rng, channels=(2, 2), z_dim=2, w_dim=2, num_layers=1)
    pkl = snapshot_bytes({"G_ema": plain})
    tensorflow_pkl = tensorflow_bytes((None, None, as_tensorflow(plain, resolution=8)))
    pt = io.BytesIO()
    torch.save({"g_ema": make_state(rng, channels=(2, 2), width=2, num_layers=1)}, pt)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "g.safetensors"
        save_generator(random_generator(rng, 8, channel_max=2, z_dim=2, w_dim=2, mapping_layers=1), path)
        safetensors_file = path.read_bytes()
    return {
        ".pkl": pkl,
        "-tensorflow.pkl": tensorflow_pkl,
        ".pt": pt.getvalue(),
        ".safetensors": safetensors_file,
    }


@st.composite
def mutations(draw, content):
    """The content with bytes changed, cut out, repeated, inserted or moved."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        other = draw(st.integers(0, len(content) - 1))
        length = draw(st.sampled_from([1, 2, 4, 8, 100]))
        match draw(st.sampled_from(["set", "flip", "cut", "insert", "copy", "end"])):
            case "set":
                content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "flip":
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at : at + length]
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=length))
            case "copy":
                content[at:at] = content[other : other + length]
            case "end":
                del content[at:]
        content = content or bytearray(b"\x80")
    return bytes(content)


def is_read(path, content):
    """Whether the file is read; False if it is refused, and any other outcome is an error."""
    path.write_bytes(content)
    try:
        generator = load_generator_file(path)
    except CheckpointError:
        return False
    assert isinstance(generator, Generator)
    return True


@pytest.mark.filterwarnings("ignore")  # pickletools and PyTorch warn of what they find in damaged files
@pytest.mark.parametrize(
    ("suffix", "examples"), [(".pkl", 800), ("-tensorflow.pkl", 2000), (".pt", 100), (".safetensors", 200)]
)
def test_mutated_files_are_read_or_refused(suffix, examples, tmp_path):
    @settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(content=mutations(small_files()[suffix]))
    def read(content):
        is_read(tmp_path / f"mutated{suffix}", content)

    read()

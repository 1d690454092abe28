"""Files without a generator, damaged and hostile ones among them: refused in one sentence, and nothing is run."""

import argparse
import builtins
import functools
import io
import json
import os
import pickle
import re
import struct
import subprocess
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nvidia_layout import Persistent, make_generator, snapshot_bytes
from rosinality_layout import as_rosinality
from tensorflow_layout import Network, as_tensorflow, tensorflow_bytes
from test_checkpoints import DATA, write

from stylegan2_ada import Generator, MappingNetwork, MobileSynthesis
from stylegan2_ada.networks import random_generator
from stylegan2_ada.readers import CheckpointError, load_generator_file, pickles


def answer(path):
    """The sentence that a file is refused with; None if it is read."""
    try:
        generator = load_generator_file(path)
    except CheckpointError as error:
        message = str(error)
        assert message.startswith(str(path))
        assert "\n" not in message
        assert not re.search("weights_only|trust|safe_globals", message)  # PyTorch's advice to run what the file holds
        return message
    assert isinstance(generator, Generator)
    return None


def refusal(path):
    message = answer(path)
    assert message is not None, "it was read"
    return message


def saved(checkpoint, legacy=False):
    stream = io.BytesIO()
    torch.save(checkpoint, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


# A little generator in every format, with something changed


def plain_generator(**layout):
    rng = torch.Generator().manual_seed(0)
    return make_generator(rng, channels=(3, 2), z_dim=2, w_dim=2, num_layers=1, **layout)


def nvidia(change=lambda _: None, **layout):
    plain = plain_generator(**layout)
    change(plain)
    return snapshot_bytes({"G_ema": plain})


def tensorflow(change=lambda _: None, **layout):
    network = as_tensorflow(plain_generator(**layout))
    change(network)
    return tensorflow_bytes((None, None, network))


def rosinality(change=lambda _: None, **layout):
    state = as_rosinality(plain_generator(**layout))
    change(state)
    return saved({"g_ema": state})


def native(change=lambda _: None, config=None, generator=None, **layout):
    if generator is None:
        rng, sizes = torch.Generator().manual_seed(0), {"channel_base": 16, "channel_max": 3, "z_dim": 2, "w_dim": 2}
        generator = random_generator(rng, 8, **sizes, mapping_layers=1, **layout)
    state = {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}
    change(state)
    metadata = {"format": "stylegan2_ada", "config": json.dumps(config or {"conv_clamp": None})}
    return safetensors.torch.save(state, metadata)


FORMATS = {".pkl": nvidia, "-tensorflow.pkl": tensorflow, ".pt": rosinality, ".safetensors": native}


def holders(network):
    """Of each tensor in a network of any format, by some name: the dict that holds it, and its key there."""
    if isinstance(network, Persistent):
        found = {key: (held, key) for held in (network.state["_parameters"], network.state["_buffers"]) for key in held}
        for name, child in network.state["_modules"].items():
            found |= {f"{name}.{key}": held for key, held in holders(child).items()}
    elif isinstance(network, Network):
        parts = {part: network.part(part).variables for part in ("", "mapping", "synthesis")}
        found = {f"{part}/{key}": (held, key) for part, held in parts.items() for key in held if key != "lod"}
    else:
        found = {key: (network, key) for key in network}
    return {name: held for name, held in found.items() if not name.endswith(("resample_filter", "kernel"))}


def edited(change):
    """Puts another tensor in the place of one, in the form in which the dict holds it."""

    def edit(held, key):
        if isinstance(held[key], torch.Tensor):
            held[key] = change(held[key].detach())
        else:
            held[key] = change(torch.tensor(np.array(held[key]))).numpy()

    return edit


def apply(change, name, network):
    change(*holders(network)[name])


def under_another_name(held, key):
    held[f"{key}2"] = held[key] * 1


CONV = r"synthesis\.blocks\.1\.conv1\."
EDITS = {  # of any tensor; and what is said of the bias of that convolution
    "missing": (dict.pop, f"the tensor {CONV}bias is missing"),
    "empty": (edited(lambda _: torch.zeros(0, 0)), rf"tensor {CONV}bias has the shape \[0, 0\]"),
    "six dimensions": (edited(lambda _: torch.zeros((2,) * 6)), rf"tensor {CONV}bias has the shape \[2, 2"),
    "twice as large": (
        edited(lambda t: torch.atleast_1d(t).repeat([2] * max(t.ndim, 1))),
        rf"tensor {CONV}bias is \[4\], not \[2\]",
    ),
    "whole numbers": (edited(torch.Tensor.long), "is not a tensor of weights"),
    "under another name": (under_another_name, rf"unknown tensor {CONV}\S*bias2"),
    "text": (lambda held, key: held.update({key: "text"}), "is not a tensor of weights|a variable in it is malformed"),
}
BIASES = {
    ".pkl": "synthesis.b8.conv1.bias",
    "-tensorflow.pkl": "synthesis/8x8/Conv1/bias",
    ".pt": "convs.1.activate.bias",
    ".safetensors": "synthesis.blocks.1.conv1.bias",
}


@pytest.mark.parametrize(("form", "bias"), BIASES.items())
def test_tensors_that_do_not_fit_are_refused_by_name(form, bias, tmp_path):
    path, make, names = tmp_path / f"g{form}", FORMATS[form], []
    assert answer(write(path, make(lambda network: names.extend(holders(network))))) is None
    for edit, (change, sentence) in EDITS.items():
        if (form, edit) == (".safetensors", "text"):  # which it cannot hold
            continue
        thorough = edit in ("missing", "six dimensions") or (edit == "empty" and form != ".pkl")  # which is slow
        for name in names if thorough else [bias]:
            message = answer(write(path, make(functools.partial(apply, change, name))))
            assert message is not None, (name, edit)
            assert name != bias or re.search(sentence, message), message


# What else is wrong with a file


def at(*names, **values):
    """Changes the state of one of NVIDIA's modules."""

    def change(module):
        for name in names:
            module = module[name]
        module.state.update(values)

    return change


def setting(**values):
    return lambda network: network.state["static_kwargs"].update(values)


def state(**values):
    return lambda network: network.state.update(values)


def variables(part, values):
    return lambda network: network.part(part).variables.update(values)


def many_modules(G):
    modules = G["synthesis"].state["_modules"]
    modules |= {f"x{i}": modules["b8"] for i in range(500)}


def module_in_itself(G):
    G["synthesis"].state["_modules"]["loop"] = loop = Persistent("SynthesisBlock")
    loop.state = G["synthesis"].state


def one_dict_in_many(G):
    parameters = {f"x{i}": None for i in range(5000)} | dict.fromkeys((f"y{i}" for i in range(5000)), torch.zeros(()))
    for i in range(100):
        module = G["synthesis"].state["_modules"][f"m{i}"] = Persistent("SynthesisBlock")
        module.state["_parameters"] = parameters


def one_tensor_for_many(G):
    parameters = G["synthesis"]["b4"]["conv1"].state["_parameters"]
    parameters |= dict.fromkeys((f"x{i}" for i in range(1000)), torch.zeros(1000))


def no_variables(network):
    network.variables = None


def takes_classes(state):
    state["style.1.weight"] = torch.cat([state["style.1.weight"]] * 2, dim=1)  # [2, 4]: z and the embedding


def overlapping(state):
    state["conv1.activate.bias"] = torch.zeros(1).expand(1 << 40)


def compressed():
    packed = io.BytesIO()
    content = rosinality(lambda state: state.update({"conv1.activate.bias": torch.zeros(1_000_000)}))
    with zipfile.ZipFile(io.BytesIO(content)) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in plain.namelist():
            archive.writestr(entry, plain.read(entry))
    return packed.getvalue()


def torchscript():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), stream)
    return stream.getvalue()


def mobile(preview_sizes, *dropped):
    torch.manual_seed(0)
    synthesis = MobileSynthesis(4, (8, 8), 8, preview_sizes=(16,))
    generator = Generator(MappingNetwork(4, 4, synthesis.num_ws), synthesis)
    return native(lambda state: [state.pop(name) for name in dropped], {"preview_sizes": preview_sizes}, generator)


D = Persistent("Discriminator")
STYLEGAN3 = Persistent("SynthesisNetwork", modules={"input": Persistent("SynthesisInput")})
FLAT = torch.nn.Linear(2, 2).state_dict()
FILES = [  # the end of a file's name, its content, and words of the answer
    (".pkl", b"", "is empty"),
    (".pkl", b"\n<!DOCTYPE html><html><body>404</body></html>", "holds a web page"),
    (".pkl", b"PK\x03\x04", "a PyTorch archive, not what its suffix says"),
    (".pkl", b"GIF89a", "unknown data, not what its suffix says"),
    (".safetensors", b"\x80\x03K\x01.", "a pickle, not what its suffix says"),
    (".bin", b"\x80\x03K\x01.", "suffix '.bin'"),
    (".PKL", b"\x80\x03K\x01.", "type int, not a snapshot"),
    (".safetensors", struct.pack("<Q", 1 << 60) + b"{}", "it is damaged"),
    (".pt", b"PK\x03\x04 but no archive", "it is damaged"),
    (".pkl", b"\x80\x03ctraining.networks_stylegan3\nGenerator\nq\x00.", "it is a StyleGAN3 network"),
    (".pkl", (DATA / "stylegan3_t_16.pkl").read_bytes(), "a StyleGAN3 generator; supported are NVIDIA's"),
    (".pkl", b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00.", "type _Name, not a snapshot"),
    (".pkl", snapshot_bytes({"D": D}), "holds D, but no generator G_ema"),
    (".pkl", snapshot_bytes({"G_ema": None}), "holds G_ema, but no generator G_ema"),
    (".pkl", snapshot_bytes({"G_ema": D}), "a Discriminator, not a Generator"),
    *((".pkl", tensorflow_bytes(networks), "not hold a StyleGAN2's G, D and Gs") for networks in (
        (), (Network(),), Network(), (1, 2, 3), ({}, {}, {}), (Network(), Network(), None),
    )),
    (".pt", saved({"d": {}}), "holds d, but no g_ema"),
    (".pth", saved(FLAT), "holds weight, bias, but no g_ema, no g, and no generator's own weights"),
    (".pt", saved([1]), "type list, not a dict"),
    (".pt", torchscript, "it holds a TorchScript program"),
    (".pt", compressed, "it is compressed"),
    (".safetensors", functools.partial(mobile, [48]), "previews of [48] px"),
    (".safetensors", functools.partial(mobile, "ab"), "does not describe a generator"),
    (".safetensors", functools.partial(mobile, [float("inf")]), "does not describe a generator"),
    (".safetensors", functools.partial(mobile, []), "unknown tensor synthesis.previews"),
    (".safetensors", functools.partial(mobile, [16], "synthesis.const"), "tensor synthesis.const is missing"),
    (".safetensors", functools.partial(mobile, [16], "synthesis.blocks.1.up.affine.bias"), "up.affine.bias is missing"),
]  # fmt: skip
CHANGES = [  # a format, a change of the network in it, and words of the answer
    (nvidia, at("synthesis", _modules={"input": Persistent("SynthesisInput")}), "StyleGAN3"),
    (nvidia, at("synthesis", "b8", "conv1", activation="relu"), "synthesis.b8.conv1. has an activation other than"),
    *((nvidia, at("synthesis", "b8", "conv1", bias_gain=gain), "not a finite number")
      for gain in (float("inf"), float("nan"), "2", None)),
    (nvidia, many_modules, "more modules"),
    (nvidia, module_in_itself, "more modules"),
    (nvidia, one_dict_in_many, "more tensors"),
    (nvidia, one_tensor_for_many, "more tensor data"),
    (tensorflow, state(version=3), "StyleGAN1"),
    (tensorflow, state(version=None), "has no version"),
    (tensorflow, variables("synthesis", {"4x4/Const/StyleMod/weight": np.zeros((8, 8), "f4")}), "StyleGAN1"),
    (tensorflow, variables("mapping", {"LabelConcat/weight": np.zeros((2, 8), "f4")}), "LabelConcat"),
    (tensorflow, state(components=None), "has no components"),
    (tensorflow, lambda network: network.state["components"].pop("synthesis"), "has no synthesis/variables"),
    (tensorflow, no_variables, "has no variables"),
    (tensorflow, state(static_kwargs=None), "has no static_kwargs"),
    (tensorflow, setting(resolution=torch.zeros(3)), "static_kwargs"),
    (tensorflow, variables("synthesis", {"12x12/Conv1/bias": np.zeros(4, "f4")}), "unknown tensor synthesis/12x12"),
    (tensorflow, variables("synthesis", dict.fromkeys(map(str, range(10_001)), 0.5)), "more than any StyleGAN2"),
    (tensorflow, variables("synthesis", dict.fromkeys(map(str, range(999)), np.zeros(999, "f4"))), "more tensor data"),
    (tensorflow, variables("synthesis", {"x" * 101: np.zeros(4, "f4")}), "a variable in it is malformed"),
    (tensorflow, setting(nonlinearity="relu"), "nonlinearity is not lrelu"),
    (tensorflow, setting(normalize_latents=False), "normalize_latents is not True"),
    (tensorflow, setting(resample_kernel="1331"), "resample_kernel is not a list"),
    (tensorflow, setting(resample_kernel=[]), "no resample filter"),
    *((tensorflow, setting(**{name: value}), "not a finite number") for name, value in {
        "resample_kernel": [1, float("inf")], "conv_clamp": float("inf"), "mapping_lrmul": "0.01",
    }.items()),
    (rosinality, overlapping, "more tensor data than it holds"),
    (rosinality, takes_classes, "takes 4 numbers, not the 2 of z: it was exported from a class-conditional network"),
    (native, lambda state: state.pop("synthesis.resample_filter"), "no resample filter"),
]  # fmt: skip
COLOURS = [
    (form, functools.partial(make, img_channels=channels), f"images have {words}: this project restores RGB photos")
    for form, make in FORMATS.items()
    for channels, words in ((1, "1 channel"), (4, "4 channels"))
]
ENDS = {make: end for end, make in FORMATS.items()}
REFUSED = [*FILES, *((ENDS[make], functools.partial(make, change), words) for make, change, words in CHANGES), *COLOURS]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(("end", "content", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_a_file_without_such_a_generator_is_refused_in_one_sentence(end, content, words, tmp_path):
    message = refusal(write(tmp_path / f"g{end}", content() if callable(content) else content))
    assert words in message


def test_missing_files_and_folders_are_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.pkl")
    (tmp_path / "folder.pkl").mkdir()
    assert "not a file" in refusal(tmp_path / "folder.pkl")


# Hostile pickles


class Call:
    """Pickles as a call: reading the pickle naively makes it."""

    def __init__(self, function, *args, state=None):
        self.function, self.args, self.state = function, args, state

    def __reduce__(self):
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


class Whole(torch.nn.Module):
    pass


def hostile_objects(canary):
    """Those that leave a canary where they are run, and others."""
    code = f"open({str(canary)!r}, 'w').close()"
    loud = [
        Call(os.system, f"touch {canary}"), Call(open, str(canary), "w"), Call(exec, code), Call(eval, code),
        Call(subprocess.call, ["touch", str(canary)]), Call(exec, Call(compile, code, "x", "exec")),
    ]  # fmt: skip
    system = Call(getattr, Call(__import__, "os"), "system")
    silent = [
        Call(Call, system, f"touch {canary}"), Call(torch.load, str(canary)), Call(builtins.map, print, [1]),
        Whole(), torch.nn.Linear(2, 2),
    ]  # fmt: skip
    return loud, silent


PLACES = {  # in the pickle of a snapshot or a checkpoint
    "alone.pkl": snapshot_bytes,
    "beside G_ema.pkl": lambda evil: snapshot_bytes({"G_ema": plain_generator(), "training_set_kwargs": evil}),
    "in a module.pkl": lambda evil: nvidia(at(extra=evil)),
    "in another network.pkl": lambda evil: snapshot_bytes({"D": Persistent("Discriminator", hook=evil)}),
    "in the bytes of a tensor.pkl": lambda evil: pickle.dumps(load_call(legacy_stream(pickle.dumps(evil, 2)))),
    "as a setting.pkl": lambda evil: tensorflow(setting(evil=evil)),
    "as a variable.pkl": lambda evil: tensorflow(variables("synthesis", {"noise0": evil})),
    "in the source.pkl": lambda evil: tensorflow(state(build_module_src=evil)),
    "in place of a network.pkl": lambda evil: tensorflow_bytes((Network(), evil, Network())),
    "alone.pt": saved,
    "in a dict.pt": lambda evil: saved({"g_ema": evil}),
    "in a dict of an older version.pt": lambda evil: saved({"g_ema": evil}, legacy=True),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_a_pickle_calls_is_refused_by_name_and_never_run(place, tmp_path, recwarn):
    canary = tmp_path / "canary"
    loud, silent = hostile_objects(canary)
    of_snapshots = (
        argparse.Namespace(a=1),
        Call(argparse.Namespace, state={"__class__": 1}),
    )  # rosinality's may hold one
    for evil in (*loud, *silent, *([np.float64(2)] if place.endswith(".pt") else of_snapshots)):
        path = write(tmp_path / place, PLACES[place](evil))
        recwarn.clear()
        message = refusal(path)
        assert not recwarn.list
        if place.endswith(".pkl"):
            assert "it names" in message
            assert "nothing in the file was run" in message
        else:
            assert "holds not only weights but" in message
            assert "save a state dict" in message
        assert not canary.exists()


def test_the_hostile_pickles_do_what_they_say_when_they_are_run(tmp_path):
    canary = tmp_path / "canary"
    for evil in hostile_objects(canary)[0]:
        pickle.loads(pickle.dumps(evil))
        canary.unlink()


def legacy_stream(storage):
    """What ``torch.save`` used to write, up to the elements, around the pickle of the storage."""
    magic, protocol = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    return magic + protocol + pickle.dumps({}, 2) + storage + pickle.dumps(["0"], 2)


def storage_of(data, claimed=None):
    """The legacy stream of one storage of float32 with these bytes, written by hand."""
    pid = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01Nt"
    numel = struct.pack("<q", len(data) // 4 if claimed is None else claimed)
    return legacy_stream(b"\x80\x02" + pid + b"Q.") + numel + data


def load_call(data):
    return Call(torch.storage._load_from_bytes, data)


def tensor_call(offset, size, stride):
    storage = load_call(storage_of(bytes(400)))
    return Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, {})


class Array:
    """Pickles as a numpy array with this state."""

    def __init__(self, *state, kind=np.ndarray):
        self.state, self.kind = state, kind

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (self.kind, (0,), b"b"), self.state


FLOATS = np.dtype("f4")
ARRAYS = [
    Array(1, (1 << 40,), FLOATS, False, bytes(400)), Array(1, (0, 1 << 70), FLOATS, False, b""),
    Array(1, (-10, -10), FLOATS, False, bytes(400)), Array(1, (1,) * 64, FLOATS, False, bytes(4)),
    Array(1, (50,), FLOATS, False, bytes(400)), Array(1, (100,), FLOATS, False, bytes(399)),
    Array(1, [100], FLOATS, False, bytes(400)), Array(1, (True,), FLOATS, False, bytes(4)),
    Array(1, (100,), "f4", False, bytes(400)), Array(1, (100,), FLOATS, False, "x" * 400),
    Array(1, (1,), np.dtype("O"), False, [1]), Array(1, (100,), FLOATS),
    Array(1, (100,), FLOATS, False, bytes(400), kind=np.dtype), Call(np.ndarray, (1 << 40,)),
]  # fmt: skip
TENSORS = [  # offset, size and stride in 100 numbers
    (0, (100, 100, 100, 100), (0, 0, 0, 0)), (0, (1 << 40,), (0,)), (0, (0, 1 << 70), (1, 1)), (0, (1,), (1 << 70,)),
    (99, (50,), (-1,)), (50, (60,), (1,)), (0, (10, 10), (10, 11)), (1 << 62, (1,), (1,)),
]  # fmt: skip
MALFORMED = "malformed|larger than its data"


def nested(opening, closing):
    return b"\x80\x04" + opening * 10_000 + b"N" + closing * 10_000 + b"."


def bombs():
    """Pickles that describe more than they hold, or take forever to hash; and words of the answer."""
    # Tuples of two of the tuple before, 2 ** 60 leaves; lists of ten of the list before, 10 ** 20.
    doubled = b")" + b"".join(b"\x94h" + bytes([i]) + b"\x86" for i in range(60))
    laughs = b"]" + b"".join(b"\x94](" + (b"h" + bytes([i])) * 10 + b"e" for i in range(20))
    inner, items, data = storage_of(bytes(10_000)), list(range(1000)), bytes(100_000)
    storages = b"\x8c\x0dtorch.storage\x8c\x10_load_from_bytes\x93\x94B" + struct.pack("<I", len(inner)) + inner
    tensor = tensor_call(0, (100,), (1,))
    unfinished = pickle.dumps(tensor)[:-1]
    tensor.state = (load_call(storage_of(bytes(400))), 0, (100, 100), (0, 0))
    yield from {
        "BINBYTES8": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "truncated"),
        "BYTEARRAY8": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.", "truncated"),
        "BINUNICODE8": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.", "truncated"),
        "BINBYTES8 beyond the address space": (b"\x80\x04\x8e" + b"\xff" * 8 + b"x.", "truncated"),
        "FRAME": (b"\x80\x04\x95" + b"\xff" * 8 + b"x.", "truncated"),
        "LONG4": (b"\x80\x02\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.", "truncated"),
        "LONG_BINPUT": (b"\x80\x02Nr\xff\xff\xff\xff.", "type NoneType"),
        "deep lists": (nested(b"](", b"e"), "type list"),
        "deep tuples": (nested(b"(", b"t"), "G, D and Gs"),
        "deep dicts": (nested(b"}(\x8c\x01a", b"u"), "holds a, but no generator"),
        "too many instructions": (b"\x80\x02" + b"N" * 110_000 + b".", "more than 100,000 instructions"),
        "billion laughs": (b"\x80\x04" + laughs + b".", "type list"),
        "exponential hash": (b"\x80\x04}" + doubled + b"Ns.", "a dict in it is malformed"),
        "exponential hash in a set": (b"\x80\x04\x8f(" + doubled + b"\x90.", "type set"),
        "one list in many sets": (pickle.dumps([Call(set, items) for _ in range(3000)]), "type list"),
        "one storage many times": (
            b"\x80\x04" + storages + b"\x94" + b"h\x00h\x01\x85R" * 100 + b".", "more tensor data"
        ),
        "one array many times": (
            pickle.dumps([Array(1, (25_000,), FLOATS, False, data) for _ in range(100)]), "more tensor data",
        ),
        "Tensor.__setstate__": (pickle.dumps(tensor), "a state in it is"),
        "attributes of a tensor": (unfinished + b"N\x8c\x01<\x86b.", "a state in it is"),
        "Tensor.add": (unfinished + b"(K\x01\x90.", "adds items to something that holds none"),
        "Tensor.__setitem__": (unfinished + b"NK\x07s.", "adds items to something that holds none"),
        "attributes of a function": (b"\x80\x04cnumpy\ndtype\nN}\x8c\x0c__defaults__Ns\x86b.", "a state in it is"),
    }.items()  # fmt: skip
    for i, array in enumerate(ARRAYS):
        yield f"array {i}", (pickle.dumps(array), MALFORMED)
    for i, tensor in enumerate(TENSORS):
        yield f"tensor {i}", (pickle.dumps(tensor_call(*tensor)), MALFORMED)
    for claimed in (0, 99, 101, 1 << 40, -1):
        yield f"storage of {claimed} numbers", (pickle.dumps(load_call(storage_of(bytes(400), claimed))), MALFORMED)


BOMBS = dict(bombs())


@pytest.mark.parametrize(("content", "words"), BOMBS.values(), ids=BOMBS)
def test_small_files_cannot_allocate_much_nor_reach_what_stands_for_a_name(content, words, tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 100_000)
    path = write(tmp_path / "bomb.pkl", content)
    tracemalloc.start()
    message = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search(words, message), message
    assert peak < 5e6 + 100 * len(content)


# Damaged files


@pytest.mark.parametrize("form", FORMATS)
def test_no_truncated_file_is_read(form, tmp_path):
    content = FORMATS[form]()
    for end in range(1, len(content), max(61, len(content) // 100)):
        refusal(write(tmp_path / f"g{form}", content[:end]))


@st.composite
def mutations(draw, content):
    """The content with bytes changed, cut out, repeated, inserted or moved."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at, other = (draw(st.integers(0, len(content) - 1)) for _ in range(2))
        length = draw(st.sampled_from([1, 2, 4, 8, 100]))
        match draw(st.sampled_from(["set", "flip", "cut", "insert", "copy"])):
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
        content = content or bytearray(b"\x80")
    return bytes(content)


@pytest.mark.filterwarnings("ignore")  # pickletools and PyTorch warn of what they find in damaged files
@pytest.mark.parametrize(("form", "examples"), list(zip(FORMATS, (400, 400, 100, 100), strict=True)))
def test_mutated_files_are_read_or_refused(form, examples, tmp_path):
    """EX5_FUZZ=100000 reads that many others of each format."""
    more = int(os.environ.get("EX5_FUZZ", 0))

    @settings(
        max_examples=more or examples, derandomize=not more, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(content=mutations(FORMATS[form]()))
    def read(content):
        answer(write(tmp_path / f"g{form}", content))

    read()

"""Read the data in a pickle of PyTorch modules or TensorFlow networks without running anything that it names.

A pickle is a program for a small stack machine, and the dangerous instructions are those that import and call. This
machine imports nothing: a name in the stream is a key into a table of our own functions, and any other name is
refused. The length of a stream bounds what it can allocate: an instruction makes at most one small object, or one
string of its own bytes, and a tensor is never larger than the bytes that it is made from. ``pickle.Unpickler`` with
such a table would guard only the names (docs/experiments.md).
"""

import contextlib
import io
import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan2_ada.readers.errors import CheckpointError

# A snapshot of three 1024 px networks has about 30,000.
MAX_INSTRUCTIONS = 1_000_000

_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_MAKERS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
}
_STORAGE_DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class ForbiddenNameError(CheckpointError):
    """A pickle names something that is not in the table."""

    def __init__(self, name: str):
        super().__init__(f"it names {name[:100]!r}, which no network needs; nothing in the file was run")
        self.name = name


@dataclass
class PersistentObject:
    """An object of NVIDIA's ``torch_utils.persistence``, without its source text."""

    class_name: str
    state: dict


@dataclass
class TensorFlowNetwork:
    """An object of NVIDIA's ``dnnlib.tflib.network``. Its state also holds source text, which nothing reads."""

    state: dict = field(default_factory=dict, init=False)

    def build(self, state: Any):
        _require(isinstance(state, dict), "a network")
        self.state = state


@dataclass
class NumpyArray:
    """A NumPy array, which BUILD makes into a tensor; ``take`` counts the bytes that the stream uses."""

    take: Callable[[bytes], None]
    tensor: Tensor | None = None

    def build(self, state: Any):
        _require(isinstance(state, tuple) and len(state) == 5, "an array")
        _, shape, dtype, columns_first, data = state
        _require(isinstance(shape, tuple) and isinstance(dtype, _NumpyDtype) and isinstance(data, bytes), "an array")
        most = max(len(data), 1)
        _require(len(shape) <= 8 and all(type(n) is int and 0 <= n <= most for n in shape), "an array")
        _require(math.prod(shape) * dtype.size == len(data), "an array")
        self.take(data)
        values = np.frombuffer(data, dtype.byte_order + dtype.code)
        values = values.reshape(shape, order="F" if columns_first else "C")
        self.tensor = torch.from_numpy(values.astype(dtype.code, "C"))  # a copy, in this machine's byte order


@dataclass(frozen=True)
class _Name:
    name: str


@dataclass
class _NumpyDtype:
    code: str
    byte_order: str = "<"

    @property
    def size(self) -> int:
        return int(self.code[1])

    def build(self, state: Any):
        _require(isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"), "a numpy dtype")
        self.byte_order = state[1].replace("|", "<")


@dataclass(frozen=True)
class _StorageKey:
    """A storage in a stream of ``torch.save``; its bytes come after the pickles."""

    dtype: torch.dtype
    key: str


def read_snapshot(data: bytes) -> object:
    """The object in a pickle of NVIDIA's: dicts, lists, tuples, numbers, strings, tensors and the three classes above.

    Raises:
        CheckpointError: if it is damaged, or describes more data than it holds.
        ForbiddenNameError: if it names anything that such a snapshot does not need.
    """
    return _run(io.BytesIO(data), _SnapshotNames(data).known)


class _SnapshotNames:
    """The names that a snapshot may use; their functions share a count of the bytes that it takes."""

    def __init__(self, data: bytes):
        self._bytes_left = len(data)
        self.known: dict[str, Callable | None] = {  # None: a name that is never called
            "collections.OrderedDict": _empty_dict,
            "dnnlib.util.EasyDict": _empty_dict,
            "builtins.set": _ignored_set,
            "dnnlib.tflib.network.Network": TensorFlowNetwork,
            "numpy.dtype": _numpy_dtype,
            "numpy.ndarray": None,
            "numpy.core.multiarray.scalar": _numpy_scalar,
            "numpy._core.multiarray.scalar": _numpy_scalar,
            "numpy.core.multiarray._reconstruct": self._array,
            "numpy._core.multiarray._reconstruct": self._array,
            "torch._utils._rebuild_parameter": _parameter,
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch.storage._load_from_bytes": self._storage,
            "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
        }

    def _take(self, data: bytes):
        # A stream may ask for the same bytes again and again.
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise CheckpointError("it describes more tensor data than it holds")

    def _array(self, kind, _shape, _dtype) -> NumpyArray:
        _require(kind == _Name("numpy.ndarray"), "an array")
        return NumpyArray(self._take)

    def _storage(self, data) -> Tensor:
        """The flat tensor in a legacy stream of ``torch.save``: five pickles, the number of elements, the elements."""
        _require(isinstance(data, bytes), "a storage")
        self._take(data)
        stream = io.BytesIO(data)
        magic, protocol, _, storage, keys = (
            _run(stream, dict.fromkeys(_STORAGE_DTYPES), _storage_key) for _ in range(5)
        )
        _require((magic, protocol) == (_LEGACY_MAGIC, _LEGACY_PROTOCOL), "a storage")
        _require(isinstance(storage, _StorageKey) and keys == [storage.key], "a storage")
        header = stream.read(8)
        elements = bytearray(stream.read())
        _require(header == (len(elements) // storage.dtype.itemsize).to_bytes(8, "little"), "a storage")
        _require(len(elements) % storage.dtype.itemsize == 0, "a storage")
        return torch.frombuffer(elements, dtype=storage.dtype) if elements else torch.empty(0, dtype=storage.dtype)


def _run(stream: io.BytesIO, names: Mapping[str, Callable | None], persistent: Callable | None = None) -> Any:
    """Run one pickle, up to its STOP: a stack of values, the stacks below the marks, a memo of values by number."""
    stack: list = []
    marks: list[list] = []
    memo: dict[int, object] = {}
    arg: Any  # of an instruction: a number, a string or nothing
    try:
        for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
            if count == MAX_INSTRUCTIONS:
                raise CheckpointError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            match name := opcode.name:
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case _ if name in _NUMBERS or name in _STRINGS:
                    stack.append(arg)
                case _ if name in _MAKERS:
                    stack.append(_MAKERS[name]())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    size = int(name[-1])
                    _require(len(stack) >= size, "a tuple")
                    stack[-size:] = [tuple(stack[-size:])]
                case "MARK":
                    marks.append(stack)
                    stack = []
                case "TUPLE":
                    items, stack = stack, marks.pop()
                    stack.append(tuple(items))
                case "APPEND" | "SETITEM":
                    size = 1 if name == "APPEND" else 2
                    items = [stack.pop() for _ in range(size)][::-1]
                    _extend(stack[-1], items)
                case "APPENDS" | "SETITEMS" | "ADDITEMS":
                    items, stack = stack, marks.pop()
                    _extend(stack[-1], items)
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINPUT" | "LONG_BINPUT":
                    memo[arg] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[arg])
                case "GLOBAL":
                    stack.append(_lookup(names, arg.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    attribute, module = stack.pop(), stack.pop()
                    _require(isinstance(attribute, str) and isinstance(module, str), "a name")
                    stack.append(_lookup(names, f"{module}.{attribute}"))
                case "REDUCE" | "NEWOBJ":
                    args, function = stack.pop(), stack.pop()
                    _require(isinstance(function, _Name) and isinstance(args, tuple), "a call")
                    stack.append(_call(names[function.name], args, function.name))
                case "BUILD":
                    state = stack.pop()
                    _require(isinstance(stack[-1], _NumpyDtype | NumpyArray | TensorFlowNetwork), "a state")
                    stack[-1].build(state)
                case "BINPERSID" if persistent is not None:
                    stack.append(_call(persistent, (stack.pop(),), "a storage"))
                case _:
                    raise CheckpointError(f"it has the instruction {name}, which no snapshot needs")
    except CheckpointError:
        raise
    except (IndexError, KeyError):
        raise CheckpointError("it is damaged: an instruction needs values that are not there") from None
    except (ValueError, DeprecationWarning) as error:  # from genops: truncated, no such instruction, not UTF-8
        raise CheckpointError(f"it is truncated or damaged ({str(error)[:100]})") from None
    raise CheckpointError("it is truncated")


def _require(condition: bool, what: str):
    if not condition:
        raise CheckpointError(f"it is damaged: {what} in it is malformed")


def _lookup(names: Mapping[str, Callable | None], name: str) -> _Name:
    if name not in names:
        raise ForbiddenNameError(name)
    return _Name(name)


def _call(function: Callable | None, args: tuple, what: str) -> object:
    if function is not None:
        with contextlib.suppress(TypeError):  # the wrong number of arguments
            return function(*args)
    raise CheckpointError(f"it is damaged: {what} in it is malformed")


def _extend(container: object, items: list):
    match container:
        case list():
            container.extend(items)
        case dict():
            # Strings only: hashing nested tuples that share their parts takes exponential time.
            _require(len(items) % 2 == 0 and all(isinstance(key, str) for key in items[::2]), "a dict")
            container.update(zip(items[::2], items[1::2], strict=True))
        case set():
            pass  # a module's set names its non-persistent buffers, which is not needed
        case _:
            raise CheckpointError("it is damaged: it adds items to something that holds none")


def _empty_dict() -> dict:
    return {}


def _ignored_set(_items=()) -> set:
    # Copying the same items again and again could fill the memory.
    return set()


def _numpy_dtype(code, _align=False, _copy=True) -> _NumpyDtype:
    _require(code in ("b1", "u1", "i4", "i8", "f2", "f4", "f8"), "a numpy dtype")
    return _NumpyDtype(code)


def _numpy_scalar(dtype, data) -> float | int | bool:
    _require(isinstance(dtype, _NumpyDtype) and isinstance(data, bytes), "a numpy scalar")
    _require(len(data) == dtype.size, "a numpy scalar")
    return np.frombuffer(data, dtype.byte_order + dtype.code)[0].item()


def _parameter(data, _requires_grad, _hooks) -> Tensor:
    _require(isinstance(data, Tensor), "a parameter")
    return data


def _tensor(storage, offset, size, stride, _requires_grad, _hooks) -> Tensor:
    _require(isinstance(storage, Tensor) and storage.ndim == 1, "a tensor")
    _require(isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= 8, "a tensor")
    most = max(len(storage), 1)
    _require(all(type(n) is int and 0 <= n <= most for n in (offset, *size, *stride)), "a tensor")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # With overlapping elements, a small storage could describe a huge tensor.
    if math.prod(size) > len(storage) or (0 not in size and last >= len(storage)):
        raise CheckpointError("it describes a tensor that is larger than its data")
    return storage.as_strided(size, stride, offset)


def _persistent_object(meta) -> PersistentObject:
    _require(isinstance(meta, dict) and meta.get("type") == "class", "a persistent object")
    name, state = meta.get("class_name"), meta.get("state")
    _require(isinstance(name, str) and isinstance(state, dict), "a persistent object")
    return PersistentObject(name, state)


def _storage_key(pid) -> _StorageKey:
    # ("storage", class, key, device, number of elements, view); the number is checked against the bytes themselves.
    _require(isinstance(pid, tuple) and len(pid) == 6 and pid[0] == "storage" and pid[5] is None, "a storage")
    _require(isinstance(pid[1], _Name) and isinstance(pid[2], str), "a storage")
    return _StorageKey(_STORAGE_DTYPES[pid[1].name], pid[2])

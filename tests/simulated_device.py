"""A device that this machine need not have: what is on it is computed here, but refuses to be mixed with the rest.

PyTorch's own FakeTensorMode has no values, so nothing that reads one can run under it. Nor can a backward pass: with a
tensor of MPS in the graph, the process ends. Here a tensor's storage bears a label, which says where it would be.
Arithmetic, gradients and random numbers are the CPU's. What is refused, too, are operators that PyTorch lacks on MPS,
and those that do not give the same sums twice on CUDA.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import torch
import torchgen
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU = torch.device("cpu")
ANYWHERE = torch.device("meta")  # zeros that a backward pass makes of nothing: nobody has said where
_aten = torch.ops.aten
_FROM_HOST = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)  # they copy numbers that Python holds
_READS = (_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select)  # the host waits for their values
_INDEXES = (_aten.index, _aten.index_put, _aten.index_put_)  # take indices from the host
# Of those that torch.use_deterministic_algorithms names, what image networks use. They add up in any order.
_IN_ANY_ORDER = (
    _aten.reflection_pad2d_backward, _aten.upsample_bilinear2d_backward, _aten.upsample_bicubic2d_backward,
    _aten._upsample_bilinear2d_aa_backward, _aten._upsample_bicubic2d_aa_backward, _aten._adaptive_avg_pool2d_backward,
    _aten.scatter_add, _aten.scatter_add_, _aten.grid_sampler_2d_backward,
)  # fmt: skip


class Traffic:
    """How often the host waited for the device, by reading from it (``to_host``) or by a copy to it (``to_device``).

    And how many numbers the largest tensor had that was copied to the host (``largest``).
    """

    def __init__(self):
        self.to_host, self.to_device, self.largest = 0, 0, 0


@contextmanager
def simulated(place: str) -> Iterator[Traffic]:
    """Inside, tensors can be made on and moved to that device, and what PyTorch would refuse there raises."""
    traffic = Traffic()
    with ExitStack() as stack:
        stack.enter_context(_Operators(traffic))
        stack.enter_context(_Interface(traffic))
        yield traffic


@cache
def _lacking_on_mps() -> frozenset[str]:
    """Names of the operators that have no implementation for MPS, nor one for all devices, in PyTorch's own table."""
    table = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"
    entries = dict(re.findall(r"^- func: ([\w.]+)(.*?)(?=^- func: |\Z)", table.read_text(), re.M | re.S))

    def lacks(entry: str) -> bool:
        if delegate := re.search(r"^  structured_delegate: ([\w.]+)", entry, re.M):
            entry = entries[delegate[1]]
        dispatch = re.search(r"^  dispatch:\n((?:    .*\n)+)", entry, re.M)
        return dispatch is not None and not re.search(r"\bMPS\b.*:|Composite\w+.*:", dispatch[1])

    return frozenset(name for name, entry in entries.items() if lacks(entry))


def _check_operator(func: torch._ops.OpOverload, args: tuple, place: torch.device) -> None:
    """Raise what the device would say to an operator that it lacks; and refuse what is not the same twice."""
    name = func._schema.name.removeprefix("aten::") + f".{func._overloadname}".removesuffix(".default")
    if place.type == "mps":
        if name in _lacking_on_mps():
            raise NotImplementedError(f"MPS has no {name}.")
        if func.overloadpacket is _aten._adaptive_avg_pool2d and any(
            size % parts for size, parts in zip(args[0].shape[2:], args[1], strict=True)
        ):
            raise RuntimeError("MPS averages only into parts of equal size.")
    elif func.overloadpacket in _IN_ANY_ORDER:
        raise RuntimeError(f"{name} does not give the same sums twice on CUDA.")


def _label(tensor: Tensor) -> torch.device:
    return getattr(tensor.untyped_storage(), "label", CPU)


def _labelled(tensor: Tensor, place: torch.device) -> Tensor:
    if place.type == "mps" and tensor.dtype == torch.float64:
        raise TypeError("MPS has no float64.")
    tensor.untyped_storage().label = place
    return tensor


class _Operators(TorchDispatchMode):
    """Checks where the arguments of every operator are, also of those in a backward pass."""

    def __init__(self, traffic: Traffic):
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and not leaf.is_meta]
        packet = func.overloadpacket
        places = {_label(tensor) for tensor in given if tensor.ndim or _label(tensor) != CPU} - {ANYWHERE}
        if packet in _INDEXES:
            places = {_label(given[0])}
            elsewhere = any(_label(tensor) not in places for tensor in given[1:] if tensor.ndim)
            masks = any(tensor.dtype in (torch.bool, torch.uint8) for tensor in given[1:])
            values = args[2] if packet is not _aten.index else given[0]
            if (places == {CPU} and elsewhere) or (values.ndim and _label(values) not in places):
                raise RuntimeError(f"{func} mixes tensors on cpu and what indexes them.")
            self.traffic.to_device += elsewhere
            self.traffic.to_host += masks and places != {CPU}  # how many were chosen is needed for the shape
        elif packet is _aten.copy_:
            self.traffic.to_host += _label(args[0]) == CPU != _label(args[1])
            self.traffic.to_device += _label(args[0]) != CPU == _label(args[1]) and args[1].ndim > 0
            places = {_label(args[0])}
        elif packet in _READS:
            self.traffic.to_host += places - {CPU} != set()
        if len(places) > 1:
            raise RuntimeError(f"{func} mixes tensors on {' and '.join(sorted(map(str, places)))}.")
        for place in places - {CPU}:
            _check_operator(func, args, place)
        made = func(*args, **(kwargs or {}))
        if not given and torch._C._current_graph_task_id() != -1:
            places = {ANYWHERE}
        for place in places - {CPU}:
            for tensor in tree_leaves(made):
                if isinstance(tensor, Tensor) and _label(tensor) in (CPU, ANYWHERE):
                    _labelled(tensor, place)
        return made


class _Interface(TorchFunctionMode):
    """What Python asks of tensors: where they are, to be moved, to be made."""

    def __init__(self, traffic: Traffic):
        super().__init__()
        self.traffic = traffic

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            asked = func.__self__.__name__
            if asked == "device" and not args[0].is_meta:
                return _label(args[0])
            if asked in ("is_cuda", "is_mps", "is_cpu"):
                return _label(args[0]).type == asked[3:]
        elif func in (Tensor.cpu, Tensor.cuda, Tensor.to):
            return self._moved(func, *args, **kwargs)
        elif func is Tensor.backward:  # in Python, where it must find this mode as well
            with self:
                return torch.autograd.backward(args[0], inputs=kwargs.get("inputs"))
        elif func in (Tensor.numpy, Tensor.__array__) and _label(args[0]) != CPU:
            raise TypeError(f"A tensor on {_label(args[0])} has no NumPy array.")
        elif func is Tensor.tolist:
            self.traffic.to_host += _label(args[0]) != CPU
        elif func is Tensor.__deepcopy__ and args[0].is_leaf and not isinstance(args[0], torch.nn.Parameter):
            return args[0].detach().clone().requires_grad_(args[0].requires_grad)
        place = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if place is None and func is Tensor.new_tensor:
            place = _label(args[0])
        if place is None or place.type in ("cpu", "meta"):
            return func(*args, **kwargs)
        kwargs.pop("device", None)
        self.traffic.to_device += func in _FROM_HOST
        return _labelled(func(*args, **kwargs), place)

    def _moved(self, func, tensor: Tensor, *args, **kwargs) -> Tensor:
        place, args = _label(tensor), list(args)
        if func is not Tensor.to:
            target, args, kwargs = CPU if func is Tensor.cpu else torch.device("cuda:0"), [], {}
        elif "other" in kwargs or (args and isinstance(args[0], Tensor)):
            other = kwargs.pop("other", None)
            other = args.pop(0) if other is None else other
            target, kwargs["dtype"] = _label(other), other.dtype
        elif args and not isinstance(args[0], torch.dtype):
            target = args.pop(0)
        else:
            target = kwargs.pop("device", None)
        target = place if target is None else torch.device(target)
        if target.type == "meta":
            return tensor.to(target, *args, **kwargs)
        made = tensor.to(CPU, *args, **kwargs)  # its type and layout; a label says the rest
        if target == place:
            return made
        self.traffic.to_host += target == CPU
        self.traffic.to_device += place == CPU
        self.traffic.largest = max(self.traffic.largest, tensor.numel() if target == CPU else 0)
        same = made.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        made = made.clone() if same else made
        return _labelled(made, target)

"""From a state dict in this project's names to a generator: the last step of every reader of generators."""

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from stylegan2_ada.generator import Generator, MappingNetwork
from stylegan2_ada.mobile import MobileSynthesis
from stylegan2_ada.networks import SynthesisNetwork
from stylegan2_ada.ops import fir_filter
from stylegan2_ada.readers.errors import CheckpointError

RESOLUTIONS = "4|8|16|32|64|128|256|512|1024"  # a regular expression: those of blocks, in px


def build_generator(state: dict[str, Tensor], taps: Tensor | None, conv_clamp: float | None) -> Generator:
    """The generator with this state dict, frozen, in evaluation mode; its sizes are read off the tensors' shapes.

    Args:
        state: tensors by name, without ``synthesis.resample_filter``.
        taps: the taps of the resample filter, [k] or [k, k].
        conv_clamp: the ``conv_clamp`` of ``SynthesisNetwork``.

    Raises:
        CheckpointError: if a tensor is missing, unknown or of the wrong shape, or the images are not RGB.
    """
    if taps is None or taps.ndim not in (1, 2) or not 1 <= len(taps) == taps.shape[-1] <= 64 or taps.sum() == 0:
        raise CheckpointError("it has no resample filter of 1 to 64 taps.")
    state = {**state, "synthesis.resample_filter": fir_filter(taps)}
    num_blocks = _count(state, r"synthesis\.blocks\.(\d+)\.")
    if not 2 <= num_blocks <= 9:
        raise CheckpointError(f"it has {num_blocks} resolutions: not a StyleGAN2.")
    (w_dim,) = _shape(state, "mapping.w_avg", 1)
    has_skips = any(".skip." in name for name in state)
    has_first_colours = any(name.startswith("synthesis.blocks.0.to_rgb.") for name in state)
    img_channels = _shape(state, f"synthesis.blocks.{num_blocks - 1}.to_rgb.weight", 2)[0]
    if img_channels != 3:
        channels = "1 channel" if img_channels == 1 else f"{img_channels} channels"
        raise CheckpointError(f"its images have {channels}: this project restores RGB photos and needs 3.")
    with torch.device("meta"):
        synthesis = SynthesisNetwork(
            w_dim,
            [_shape(state, f"synthesis.blocks.{i}.conv1.weight", 4)[0] for i in range(num_blocks)],
            img_channels,
            architecture="resnet" if has_skips else "skip" if has_first_colours else "orig",
            resample_filter=[1.0] * len(state["synthesis.resample_filter"]),
            use_noise=any(name.endswith(".noise_strength") for name in state),
            conv_clamp=conv_clamp,
        )
        generator = Generator(_mapping(state, synthesis.num_ws), synthesis)
    return _filled(generator, state)


def build_mobile_generator(state: dict[str, Tensor], preview_sizes: tuple[int, ...]) -> Generator:
    """Like ``build_generator``, for a MobileStyleGAN; ``preview_sizes`` as in ``MobileSynthesis``."""
    num_blocks = _count(state, r"synthesis\.blocks\.(\d+)\.")
    sizes = {2 ** (i + 4) for i in range(num_blocks - 1)}
    if not 1 <= num_blocks <= 8 or not sizes.issuperset(preview_sizes):
        raise CheckpointError(f"it has {num_blocks} blocks and previews of {list(preview_sizes)} px.")
    (w_dim,) = _shape(state, "mapping.w_avg", 1)
    channels = tuple(_shape(state, f"synthesis.blocks.{i}.conv2.bias", 4)[1] for i in range(num_blocks))
    const_channels = _shape(state, "synthesis.const", 4)[1]
    if any(width % 4 for width in (const_channels, *channels)):
        raise CheckpointError(f"its layers have {[const_channels, *channels]} channels, which are not multiples of 4.")
    with torch.device("meta"):
        synthesis = MobileSynthesis(w_dim, channels, const_channels, preview_sizes=preview_sizes)
        generator = Generator(_mapping(state, synthesis.num_ws), synthesis)
    return _filled(generator, state)


def _shape(state: dict[str, Tensor], name: str, ndim: int) -> torch.Size:
    if name not in state:
        raise CheckpointError(f"the tensor {name} is missing.")
    if state[name].ndim != ndim or state[name].numel() == 0:
        raise CheckpointError(f"its tensor {name} has the shape {list(state[name].shape)}.")
    return state[name].shape


def _count(state: dict[str, Tensor], pattern: str) -> int:
    return len({m[1] for m in map(re.compile(pattern).match, state) if m})


def _mapping(state: dict[str, Tensor], num_ws: int) -> MappingNetwork:
    num_layers = _count(state, r"mapping\.layers\.(\d+)\.")
    if num_layers == 0:
        raise CheckpointError("it has no mapping layers: not a StyleGAN.")
    (w_dim,) = _shape(state, "mapping.w_avg", 1)
    hidden, in_features = _shape(state, "mapping.layers.0.weight", 2)
    conditional = any(name.startswith("mapping.embed.") for name in state)
    embed_features, c_dim = _shape(state, "mapping.embed.weight", 2) if conditional else (0, 0)
    return MappingNetwork(
        max(in_features - embed_features, 1),
        w_dim,
        num_ws,
        c_dim=c_dim,
        num_layers=num_layers,
        embed_features=embed_features,
        layer_features=hidden,
    )


def _filled(generator: Generator, state: dict[str, Tensor]) -> Generator:
    """A generator that has no values yet, with these."""
    expected = generator.state_dict()
    for name, tensor in expected.items():
        if _shape(state, name, tensor.ndim) != tensor.shape:
            raise CheckpointError(f"its tensor {name} is {list(state[name].shape)}, not {list(tensor.shape)}.")
    if unknown := state.keys() - expected.keys():
        raise CheckpointError(f"it has the unknown tensor {min(unknown)[:100]}.")
    generator.load_state_dict({name: tensor.contiguous() for name, tensor in state.items()}, assign=True)
    return generator.eval().requires_grad_(False)


def conv_name(index: int) -> str:
    """Our name for styled convolution ``index``, counted from coarse to fine: one at 4 px, then two per resolution."""
    return f"blocks.{(index + 1) // 2}.conv{(index + 1) % 2}"


def block_name(resolution: int) -> str:
    """Our name for the block of that height and width in px."""
    return f"blocks.{resolution.bit_length() - 3}"


def equalised(fan_in: torch.Size) -> float:
    """The run-time gain 1/√fan_in of an equalised learning rate, from the input dimensions of a weight."""
    return 1 / math.sqrt(max(fan_in.numel(), 1))


def check_tensors(tensors: Mapping[str, object], max_bytes: int):
    """Make sure that a file's values are dense floating-point tensors, together no larger than the file itself.

    Raises:
        CheckpointError: if one is not, or if overlapping tensors add up to more than ``max_bytes``.
    """
    total = 0
    for name, tensor in tensors.items():
        if not (
            isinstance(tensor, Tensor)
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
            and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        ):
            raise CheckpointError(f"its {str(name)[:100]} is not a tensor of weights.")
        total += tensor.nbytes
    if total > max_bytes:
        raise CheckpointError("it describes more tensor data than it holds.")


def finite_number(value: object) -> float:
    """A gain or a clamp as a float.

    Raises:
        CheckpointError: if it is not a number, or not a finite one.
    """
    if not isinstance(value, int | float) or not abs(value) < 1e9:
        raise CheckpointError("a gain or a clamp of one of its layers is not a finite number.")
    return float(value)

"""StyleGAN2-ADA: the mapping network, the synthesis network and the generator interface.

Karras et al. 2019 (StyleGAN, arXiv 1812.04948), Karras et al. 2020 (StyleGAN2, arXiv 1912.04958) and
Karras et al. 2020 (StyleGAN2-ADA, arXiv 2006.06676).
"""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_ada.ops import bias_act, fir_filter, styled_conv2d, upsample2d

Noise = dict[str, Tensor] | str | None

ARCHITECTURES = ("skip", "resnet", "orig")
CONFIG_F_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)


def normalize_2nd_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale every row of x [N, C] to a mean square of 1 (StyleGAN's pixel norm applied to z)."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class MappingNetwork(nn.Module):
    """f: Z → W, a stack of fully connected layers with leaky ReLU (StyleGAN, section 2).

    Training scales these weights at run time by a learning-rate multiplier and 1/√fan_in ("equalised learning
    rate"). A pretrained network needs neither: readers fold both into the weights, so that a layer here is an
    ordinary ``nn.Linear``.

    Args:
        z_dim: width of z.
        w_dim: width of w.
        num_ws: how many layers of the synthesis network take a w of their own.
        c_dim: number of classes, 0 for an unconditional network.
        num_layers: fully connected layers.
        embed_features: width of the class embedding; ``w_dim`` if None.
        layer_features: width of the hidden layers; ``w_dim`` if None.
    """

    def __init__(
        self,
        z_dim: int = 512,
        w_dim: int = 512,
        num_ws: int = 18,
        *,
        c_dim: int = 0,
        num_layers: int = 8,
        embed_features: int | None = None,
        layer_features: int | None = None,
    ):
        super().__init__()
        self.z_dim, self.w_dim, self.num_ws, self.c_dim = z_dim, w_dim, num_ws, c_dim
        embed_features = (embed_features or w_dim) if c_dim else 0
        hidden = layer_features or w_dim
        widths = [z_dim + embed_features] + [hidden] * (num_layers - 1) + [w_dim]
        self.embed = nn.Linear(c_dim, embed_features) if c_dim else None
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map z to the style of every layer.

        Args:
            z: [N, z_dim], standard normal as in training.
            c: [N, c_dim] one-hot classes; only for a conditional network.
            truncation_psi: ψ of the truncation trick, w̄ + ψ (w − w̄); 1 leaves w alone, 0 gives w̄.
            truncation_cutoff: truncate only the first so many of the ``num_ws`` layers; None means all.

        Returns:
            ws [N, num_ws, w_dim], the same w in every layer where no cutoff is given.

        Raises:
            ValueError: if z or c has another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must have the shape [N, {self.z_dim}], not {list(z.shape)}.")
        x = normalize_2nd_moment(z)  # [N, z_dim]
        if self.embed is not None:
            if c is None or c.shape != (len(z), self.c_dim):
                found = None if c is None else list(c.shape)
                raise ValueError(f"This network is class-conditional: c must be [{len(z)}, {self.c_dim}], not {found}.")
            x = torch.cat([x, normalize_2nd_moment(self.embed(c))], dim=1)  # [N, z_dim + embed_features]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2) * math.sqrt(2)
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)  # [N, num_ws, w_dim]
        if truncation_psi != 1:
            cut = self.num_ws if truncation_cutoff is None else truncation_cutoff
            ws = torch.cat([self.w_avg.lerp(ws[:, :cut], truncation_psi), ws[:, cut:]], dim=1)
        return ws


def estimate_w_avg(mapping: MappingNetwork, num_samples: int = 10_000, seed: int = 0) -> Tensor:
    """w̄ [w_dim], the mean of mapped z, for a network that was published without it.

    Classes, where there are any, are drawn uniformly.
    """
    random = torch.Generator().manual_seed(seed)
    device, dtype = mapping.w_avg.device, mapping.w_avg.dtype
    z = torch.randn(num_samples, mapping.z_dim, generator=random).to(device, dtype)
    c = None
    if mapping.c_dim:
        classes = torch.randint(mapping.c_dim, (num_samples,), generator=random)
        c = F.one_hot(classes, mapping.c_dim).to(device, dtype)
    with torch.no_grad():
        return mapping(z, c)[:, 0].mean(dim=0)


class StyledConv(nn.Module):
    """A style s = A w + b, then ``ops.styled_conv2d`` with a 3 × 3 kernel.

    Args:
        w_dim: width of w.
        resolution: height and width of the result.
        up: double the resolution on the way.
        use_noise: add noise, times a learned strength.
    """

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, resolution: int, *, up: bool, use_noise: bool):
        super().__init__()
        self.up, self.resolution = up, resolution
        self.affine = nn.Linear(w_dim, in_channels)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(())) if use_noise else None
        self.register_buffer("noise", torch.randn(1, 1, resolution, resolution) if use_noise else None)

    def forward(
        self, x: Tensor, w: Tensor, noise: Tensor | None, f: Tensor, *, gain: float = 1.0, clamp: float | None = None
    ) -> Tensor:
        noise = None if noise is None else self.noise_strength * noise
        up = f if self.up else None
        gain, clamp = math.sqrt(2) * gain, None if clamp is None else clamp * gain
        return styled_conv2d(x, self.weight, self.affine(w), self.bias, noise, up=up, gain=gain, clamp=clamp)


class ToRGB(nn.Module):
    """Features to colours: a 1 × 1 convolution, modulated but not demodulated (StyleGAN2, section 2.2)."""

    def __init__(self, w_dim: int, in_channels: int, img_channels: int):
        super().__init__()
        self.affine = nn.Linear(w_dim, in_channels)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels) / math.sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(img_channels))

    def forward(self, x: Tensor, w: Tensor, *, clamp: float | None = None) -> Tensor:
        weight = self.weight * self.affine(w)[:, None]  # [N, img_channels, C]
        y = weight.to(x.dtype) @ x.flatten(2)  # [N, img_channels, R R]
        y = y.to(w.dtype).unflatten(2, x.shape[2:])  # [N, img_channels, R, R]
        return bias_act(y, self.bias, slope=1.0, gain=1.0, clamp=clamp)


class SynthesisBlock(nn.Module):
    """One resolution R: the constant or an upsampling convolution, a second convolution, colours.

    Args:
        in_channels: channels from the block before; 0 in the first block, which holds the constant instead.
        skip: a residual block (architecture "resnet").
        to_rgb: make colours.
    """

    def __init__(
        self,
        w_dim: int,
        in_channels: int,
        out_channels: int,
        resolution: int,
        img_channels: int,
        *,
        skip: bool,
        to_rgb: bool,
        use_noise: bool,
    ):
        super().__init__()
        first = in_channels == 0
        styled = {"resolution": resolution, "use_noise": use_noise}
        self.const = nn.Parameter(torch.randn(1, out_channels, resolution, resolution)) if first else None
        self.conv0 = None if first else StyledConv(w_dim, in_channels, out_channels, up=True, **styled)
        self.conv1 = StyledConv(w_dim, out_channels, out_channels, up=False, **styled)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if skip and not first else None
        self.to_rgb = ToRGB(w_dim, out_channels, img_channels) if to_rgb else None

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: Tensor,
        noise: list[Tensor | None],
        f: Tensor,
        *,
        dtype: torch.dtype,
        clamp: float | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The features [N, C, R, R] and the image so far [N, img_channels, R, R].

        Args:
            x: [N, C, R/2, R/2]; None for the first block.
            img: [N, img_channels, R/2, R/2], or None where there is none yet.
            ws: [N, 2 or 3, w_dim], one w per convolution and one for the colours.
            noise: one buffer per convolution.
            f: FIR filter.
            dtype: of the features.
            clamp: largest magnitude of the features.
        """
        # On a CPU and in half precision, convolutions are fastest with the channels innermost.
        innermost = ws.device.type == "cpu" or dtype in (torch.float16, torch.bfloat16)
        layout = {"dtype": dtype, "memory_format": torch.channels_last if innermost else torch.contiguous_format}
        *w, w_rgb = ws.unbind(dim=1)  # each [N, w_dim]
        if self.conv0 is None:
            x = self.const.expand(len(ws), -1, -1, -1).to(**layout)  # [N, C, 4, 4]
            x = self.conv1(x, w[0], noise[0], f, clamp=clamp)
        elif self.skip is None:
            x = self.conv0(x.to(**layout), w[0], noise[0], f, clamp=clamp)  # [N, C, R, R]
            x = self.conv1(x, w[1], noise[1], f, clamp=clamp)
        else:
            # The sum of two branches has twice their variance, hence √½ (StyleGAN2, section 4.1).
            half = math.sqrt(0.5)
            x = x.to(**layout)
            y = upsample2d(F.conv2d(x, half * self.skip.weight.to(dtype)), f)  # [N, C, R, R]
            y = y if clamp is None else y.clamp(-clamp * half, clamp * half)
            x = self.conv0(x, w[0], noise[0], f, clamp=clamp)
            x = y + self.conv1(x, w[1], noise[1], f, gain=half, clamp=clamp)
        if img is not None:
            img = upsample2d(img, f)  # [N, img_channels, R, R]
        if self.to_rgb is not None:
            rgb = self.to_rgb(x, w_rgb, clamp=clamp)
            img = rgb if img is None else img + rgb
        return x, img


class SynthesisNetwork(nn.Module):
    """ws [N, num_ws, w_dim] → image [N, img_channels, R, R]: a learned 4 × 4 constant, then a block per resolution.

    StyleGAN2, figures 2 and 7. As in ``MappingNetwork``, run-time gains are folded into the weights. Every
    convolution takes a w of its own, and the colours of a block take that of the convolution after them.

    Args:
        w_dim: width of w.
        channels: channels at 4, 8, … R px; their number sets the resolution, 2 ** (len(channels) + 1).
        img_channels: 3 for RGB.
        architecture: "skip" adds up the colours of all resolutions; "resnet" has residual blocks and makes colours
            at the last; "orig" makes colours at the last.
        resample_filter: taps of the FIR filter.
        use_noise: add noise after every convolution.
        conv_clamp: largest magnitude of features and colours; None does not clamp.
        num_fp16_res: compute the finest so many resolutions in ``half_dtype`` on a GPU; a CPU stays in float32.
            Needs a network that was trained with a ``conv_clamp``.
        half_dtype: torch.float16 or torch.bfloat16.

    ``num_fp16_res`` and ``half_dtype`` are attributes that may be changed at any time.

    Raises:
        ValueError: for an unknown architecture, or a resolution outside 8 to 1024 px.
    """

    def __init__(
        self,
        w_dim: int = 512,
        channels: Sequence[int] = CONFIG_F_CHANNELS,
        img_channels: int = 3,
        *,
        architecture: str = "skip",
        resample_filter: Sequence = (1, 3, 3, 1),
        use_noise: bool = True,
        conv_clamp: float | None = None,
        num_fp16_res: int = 0,
        half_dtype: torch.dtype = torch.float16,
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"The architecture is one of {', '.join(ARCHITECTURES)}, not {architecture}.")
        if not 2 <= len(channels) <= 9:
            raise ValueError(f"The resolution must be 8 to 1024 px, not {2 ** (len(channels) + 1)}.")
        self.w_dim, self.img_channels = w_dim, img_channels
        self.img_resolution = 2 ** (len(channels) + 1)
        self.num_ws = 2 * len(channels)
        self.conv_clamp, self.num_fp16_res, self.half_dtype = conv_clamp, num_fp16_res, half_dtype
        self.register_buffer("resample_filter", fir_filter(resample_filter))
        self.blocks = nn.ModuleList(
            SynthesisBlock(
                w_dim,
                channels[i - 1] if i else 0,
                channels[i],
                2 ** (i + 2),
                img_channels,
                skip=architecture == "resnet",
                to_rgb=architecture == "skip" or i == len(channels) - 1,
                use_noise=use_noise,
            )
            for i in range(len(channels))
        )

    @property
    def preview_sizes(self) -> tuple[int, ...]:
        """Sizes below R at which there is an image: in a skip network the sum of the colours so far."""
        skip = all(block.to_rgb is not None for block in self.blocks)
        return tuple(2 ** (i + 2) for i in range(len(self.blocks) - 1)) if skip else ()

    def _blocks_for(self, size: int | None) -> int:
        """How many blocks an image of that size takes."""
        if size not in (None, self.img_resolution, *self.preview_sizes):
            raise ValueError(f"This network makes images of {self.img_resolution} px, not {size}.")
        return (size or self.img_resolution).bit_length() - 2

    def styles_shared(self, size: int | None = None) -> int:
        """How many of the first styles act in an image of that size exactly as in the full one."""
        return 2 * self._blocks_for(size)

    def _noisy_layers(self, size: int | None) -> dict[str, StyledConv]:
        blocks = self.blocks[: self._blocks_for(size)]
        convs = {f"b{2 ** (i + 2)}.conv{j}": c for i, b in enumerate(blocks) for j, c in enumerate((b.conv0, b.conv1))}
        return {name: conv for name, conv in convs.items() if conv is not None and conv.noise is not None}

    def noise_buffers(self, size: int | None = None) -> dict[str, Tensor]:
        """Copies of the built-in noise, standard normal: {name: [1, 1, h, w]}, 4 px to R px; empty without noise.

        Args:
            size: only those that a preview of so many px takes.
        """
        return {name: layer.noise.clone() for name, layer in self._noisy_layers(size).items()}

    def forward(self, ws: Tensor, noise: Noise = None, size: int | None = None) -> Tensor:
        """The image of ws.

        Args:
            ws: [N, num_ws, w_dim], one w per layer (W+); repeat a single w for W.
            noise: None for the built-in buffers, "none" for no noise, or {name: [1 or N, 1, h, w]}.
            size: None for the image, or one of ``preview_sizes`` for what the first blocks make of it.

        Returns:
            [N, img_channels, R, R], or [N, img_channels, size, size], in about [−1, 1].

        Raises:
            ValueError: if ws or a noise buffer has another shape, or there is no preview of that size.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have the shape [N, {self.num_ws}, {self.w_dim}], not {list(ws.shape)}.")
        n = {name: layer_noise(noise, name, layer.noise) for name, layer in self._noisy_layers(size).items()}
        x = img = None
        for i, block in enumerate(self.blocks[: self._blocks_for(size)]):
            half = ws.is_cuda and i >= max(len(self.blocks) - self.num_fp16_res, 1)
            x, img = block(
                x,
                img,
                ws[:, max(2 * i - 1, 0) : 2 * i + 2],
                [n.get(f"b{2 ** (i + 2)}.conv{j}") for j in ((0, 1) if i else (1,))],
                self.resample_filter,
                dtype=self.half_dtype if half else ws.dtype,
                clamp=self.conv_clamp,
            )  # [N, channels[i], r, r], [N, img_channels, r, r] with r = 2 ** (i + 2)
        return img


class Generator(nn.Module):
    """A mapping and a synthesis network behind the one interface that the rest of the project uses.

    ``synthesis`` is any module with ``num_ws``, ``img_resolution``, ``img_channels``, ``preview_sizes``,
    ``noise_buffers(size=None)`` and ``forward(ws, noise=None, size=None)``.
    """

    def __init__(self, mapping: MappingNetwork, synthesis: nn.Module):
        super().__init__()
        if mapping.num_ws != synthesis.num_ws:
            raise ValueError(f"The mapping makes {mapping.num_ws} styles but the synthesis takes {synthesis.num_ws}.")
        self.mapping, self.synthesis = mapping, synthesis
        self.z_dim, self.w_dim, self.c_dim = mapping.z_dim, mapping.w_dim, mapping.c_dim
        self.num_ws = synthesis.num_ws
        self.img_resolution, self.img_channels = synthesis.img_resolution, synthesis.img_channels

    @property
    def w_avg(self) -> Tensor:
        """w̄, the mean of W, [w_dim]."""
        return self.mapping.w_avg

    @property
    def preview_sizes(self) -> tuple[int, ...]:
        """Sizes in px, below ``img_resolution``, for which ``synthesis(ws, noise, size)`` makes a cheap preview."""
        return self.synthesis.preview_sizes

    def noise_buffers(self, size: int | None = None) -> dict[str, Tensor]:
        """Copies of the built-in noise: {name: [1, 1, h, w]}, coarse to fine; for a preview only what it takes."""
        return self.synthesis.noise_buffers(size)

    def forward(self, z: Tensor, c: Tensor | None = None, *, noise: Noise = None, **truncation) -> Tensor:
        """Image [N, img_channels, R, R] in about [−1, 1] of z [N, z_dim]."""
        return self.synthesis(self.mapping(z, c, **truncation), noise=noise)


def random_generator(
    rng: torch.Generator,
    img_resolution: int = 1024,
    *,
    channel_base: int = 32768,
    channel_max: int = 512,
    z_dim: int = 512,
    w_dim: int = 512,
    c_dim: int = 0,
    mapping_layers: int = 8,
    **synthesis,
) -> Generator:
    """An untrained StyleGAN2-ADA generator, frozen, initialised as for training; by default config F of StyleGAN2.

    Args:
        rng: source of the weights and of the noise.
        img_resolution: R, a power of two from 8 to 1024.
        channel_base: resolution r has min(channel_base / r, channel_max) channels.
        channel_max: see there.
        z_dim: width of z.
        w_dim: width of w.
        c_dim: number of classes, 0 for an unconditional network.
        mapping_layers: fully connected layers of the mapping.
        synthesis: further arguments of ``SynthesisNetwork``.
    """
    channels = [min(channel_base // 2**i, channel_max) for i in range(2, img_resolution.bit_length())]
    network = SynthesisNetwork(w_dim, channels, **synthesis)
    generator = Generator(MappingNetwork(z_dim, w_dim, network.num_ws, c_dim=c_dim, num_layers=mapping_layers), network)
    generator.requires_grad_(False).eval()
    for name, tensor in generator.state_dict().items():
        if name.endswith("weight"):
            tensor.normal_(generator=rng).div_(math.sqrt(tensor[0].numel()))
        elif name.endswith(("const", "noise")):
            tensor.normal_(generator=rng)
        elif name.endswith("bias"):
            tensor.fill_(1.0 if "affine" in name else 0.0)
    return generator


def layer_noise(noise: Noise, name: str, built_in: Tensor) -> Tensor | None:
    """The noise of one layer under the three forms of the ``noise`` argument: None, "none" or a dict.

    Raises:
        ValueError: for any other string, or a buffer that is missing or of another size.
    """
    if noise is None:
        return built_in
    if isinstance(noise, str):
        if noise != "none":
            raise ValueError(f'noise must be None, "none" or a dict of buffers, not "{noise}".')
        return None
    if name not in noise:
        raise ValueError(f"The noise has no buffer for layer {name}; start from G.noise_buffers().")
    if noise[name].ndim != 4 or noise[name].shape[1:] != built_in.shape[1:]:
        raise ValueError(
            f"Noise {name} must be [1 or N, {', '.join(map(str, built_in.shape[1:]))}], not {list(noise[name].shape)}."
        )
    return noise[name]

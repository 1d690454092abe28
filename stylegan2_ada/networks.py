"""The synthesis network of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) and StyleGAN2-ADA (arXiv 2006.06676)."""

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_ada.generator import Generator, MappingNetwork, Noise, Synthesis, layer_noise
from stylegan2_ada.ops import bias_act, fir_filter, per_sample, styled_conv2d, upsample2d
from stylegan2_ada.windows import Cuts, Window

ARCHITECTURES = ("skip", "resnet", "orig")
CONFIG_F_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64, 32)


class StyledConv(nn.Module):
    """The style s = A w + b, then ``ops.styled_conv2d`` with a 3 × 3 kernel.

    Args:
        w_dim: width of w.
        resolution: height and width of the output.
        up: double the resolution.
        use_noise: add noise, scaled by a learned strength.
    """

    noise: Tensor | None

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
        noise = None if noise is None or self.noise_strength is None else self.noise_strength * noise
        up = f if self.up else None
        gain, clamp = math.sqrt(2) * gain, None if clamp is None else clamp * gain
        return styled_conv2d(x, self.weight, self.affine(w), self.bias, noise, up=up, gain=gain, clamp=clamp)


class ToRGB(nn.Module):
    """Features → colours by a 1 × 1 convolution, modulated but not demodulated (StyleGAN2, section 2.2)."""

    def __init__(self, w_dim: int, in_channels: int, img_channels: int):
        super().__init__()
        self.affine = nn.Linear(w_dim, in_channels)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels) / math.sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(img_channels))

    def forward(self, x: Tensor, w: Tensor, *, clamp: float | None = None) -> Tensor:
        weight = (self.weight * self.affine(w)[:, None])[..., None, None]  # [N, img_channels, C, 1, 1]
        y = per_sample(F.conv2d, x, weight.to(x.dtype))  # a product's gradient would have another layout than x
        y = y.to(w.dtype, memory_format=torch.contiguous_format)
        return bias_act(y, self.bias, slope=1.0, gain=1.0, clamp=clamp)


class SynthesisBlock(nn.Module):
    """One resolution R: the constant or an upsampling convolution, then a second convolution, then colours.

    Args:
        in_channels: channels of the previous block; 0 for the first block, which holds the constant instead.
        skip: make it a residual block (architecture "resnet").
        to_rgb: make colours here.
    """

    const: nn.Parameter  # only in the first block

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
        styled = functools.partial(StyledConv, resolution=resolution, use_noise=use_noise)
        if first:
            self.const = nn.Parameter(torch.randn(1, out_channels, resolution, resolution))
        self.conv0 = None if first else styled(w_dim, in_channels, out_channels, up=True)
        self.conv1 = styled(w_dim, out_channels, out_channels, up=False)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False) if skip and not first else None
        self.to_rgb = ToRGB(w_dim, out_channels, img_channels) if to_rgb else None

    def forward(
        self,
        x: Tensor | None,
        img: Tensor | None,
        ws: Sequence[Tensor],
        noise: list[Tensor | None],
        f: Tensor,
        *,
        dtype: torch.dtype,
        clamp: float | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The features [N, C, R, R] and the image so far [N, img_channels, R, R].

        Args:
            x: [N, C, R/2, R/2]; None for the first block.
            img: [N, img_channels, R/2, R/2], or None if no block has made colours yet.
            ws: [N, w_dim] each, one for each convolution and one for the colours.
            noise: a buffer, or None, for each convolution.
            f: FIR filter of the upsampling.
            dtype: type of the features.
            clamp: largest magnitude of features and colours; None does not clamp.
        """
        # Convolutions are fastest with the channels innermost on a CPU, and in half precision anywhere.
        innermost = ws[0].device.type == "cpu" or dtype in (torch.float16, torch.bfloat16)
        layout = torch.channels_last if innermost else torch.contiguous_format
        *w, w_rgb = ws
        if x is None:
            x = self.const.expand(len(w_rgb), -1, -1, -1)  # [N, C, 4, 4]
        x = x.to(dtype=dtype, memory_format=layout)
        if self.conv0 is None:
            x = self.conv1(x, w[0], noise[0], f, clamp=clamp)
        elif self.skip is None:
            x = self.conv0(x, w[0], noise[0], f, clamp=clamp)  # [N, C, R, R]
            x = self.conv1(x, w[1], noise[1], f, clamp=clamp)
        else:
            # The sum of two branches has twice their variance, hence √½ (StyleGAN2, section 4.1).
            half = math.sqrt(0.5)
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


class SynthesisNetwork(Synthesis):
    """ws [N, num_ws, w_dim] → image [N, img_channels, R, R]: a learned 4 × 4 constant, then one block per resolution.

    StyleGAN2, figures 2 and 7. As in ``MappingNetwork``, run-time gains are folded into the weights. Every
    convolution has its own w; the colours of a block share the w of the convolution after them.

    Args:
        w_dim: width of w.
        channels: number of channels at 4, 8, … R px; R is 2 ** (len(channels) + 1).
        img_channels: 3 for RGB.
        architecture: "skip" sums the colours of all resolutions; "resnet" has residual blocks, and "orig" plain ones,
            and both make colours only at the last resolution.
        resample_filter: taps of the FIR filter.
        use_noise: add noise after every convolution.
        conv_clamp: largest magnitude of features and colours; None does not clamp.

    Raises:
        ValueError: for an unknown architecture, or a resolution outside 8 to 1024 px.
    """

    demodulates = True
    resample_filter: Tensor
    blocks: Sequence[SynthesisBlock]

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
    ):
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"The architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture}.")
        if not 2 <= len(channels) <= 9:
            raise ValueError(f"The resolution must be 8 to 1024 px, not {2 ** (len(channels) + 1)}.")
        self.w_dim, self.img_channels = w_dim, img_channels
        self.img_resolution = 2 ** (len(channels) + 1)
        self.num_ws = 2 * len(channels)
        resolutions = [4 * 2**i for i in range(len(channels))]
        self.layer_resolutions = (4, *(r for r in resolutions[1:] for _ in range(2)), self.img_resolution)
        # In a skip network the sum of the colours so far is an image.
        self.preview_sizes = tuple(resolutions[:-1]) if architecture == "skip" else ()
        self.conv_clamp = conv_clamp
        self.register_buffer("resample_filter", fir_filter(resample_filter))
        self.blocks = nn.ModuleList(  # type: ignore[assignment]  # it does not know what its modules are
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

    def _blocks_for(self, size: int | None) -> int:
        """The number of blocks that an image of that size goes through."""
        if size not in (None, self.img_resolution, *self.preview_sizes):
            raise ValueError(f"This network makes images of {self.img_resolution} px, not {size}.")
        return (size or self.img_resolution).bit_length() - 2

    def styles_shared(self, size: int | None = None) -> int:
        return 2 * self._blocks_for(size)

    def _noise(self, size: int | None) -> dict[str, Tensor]:
        blocks = self.blocks[: self._blocks_for(size)]
        convs = {f"b{2 ** (i + 2)}.conv{j}": c for i, b in enumerate(blocks) for j, c in enumerate((b.conv0, b.conv1))}
        return {name: conv.noise for name, conv in convs.items() if conv is not None and conv.noise is not None}

    def noise_buffers(self, size: int | None = None) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self._noise(size).items()}

    def forward(
        self,
        ws: Tensor,
        noise: Noise = None,
        size: int | None = None,
        *,
        window: Window | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The image of ws.

        Args:
            ws: [N, num_ws, w_dim], one w per layer (W+); for W, the same w repeated.
            noise: None for the built-in buffers, "none" for no noise, or {name: [1 or N, 1, h, w]}.
            size: None for the full image, or one of ``preview_sizes`` for what the first blocks make of it.
            window: (top, left, height, width) in px of the only part of the image that is made; None makes all of it.
            dtype: type of the features; None is that of ws.

        Returns:
            [N, img_channels, R, R], [N, img_channels, size, size] or [N, img_channels, height, width], in about
            [−1, 1].

        Raises:
            ValueError: if ws or a noise buffer has the wrong shape, there is no preview of that size, or the window
                does not lie inside the image.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have the shape [N, {self.num_ws}, {self.w_dim}], not {list(ws.shape)}.")
        n = {name: layer_noise(noise, name, buffer) for name, buffer in self._noise(size).items()}
        w = ws.unbind(dim=1)  # num_ws × [N, w_dim]
        blocks = self.blocks[: self._blocks_for(size)]
        reach = len(self.resample_filter) // 2 + 1  # of the filter, and of a 3 × 3 convolution
        cuts = Cuts(window, size or self.img_resolution, [8 * 2**i for i in range(len(blocks) - 1)], reach)
        x = img = None
        for i, block in enumerate(blocks):
            noises = [n.get(f"b{2 ** (i + 2)}.conv{j}") for j in ((0, 1) if i else (1,))]
            if i:  # the first block has no input
                x = cuts.enter(i - 1, x)
                img = cuts.enter(i - 1, img)
                noises = [cuts.noise(i - 1, buffer) for buffer in noises]
            x, img = block(
                x,
                img,
                w[max(2 * i - 1, 0) : 2 * i + 2],
                noises,
                self.resample_filter,
                dtype=dtype or ws.dtype,
                clamp=self.conv_clamp,
            )  # [N, channels[i], r, r], [N, img_channels, r, r] with r = 2 ** (i + 2)
        return cuts.leave(img)  # type: ignore[arg-type]  # the last block makes colours


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
    """An untrained, frozen StyleGAN2-ADA generator, initialised as for training; by default StyleGAN2's config F.

    Args:
        rng: draws the weights and the noise.
        img_resolution: R, a power of two from 8 to 1024.
        channel_base: resolution r has min(channel_base / r, channel_max) channels.
        channel_max: see ``channel_base``.
        z_dim: width of z.
        w_dim: width of w.
        c_dim: number of classes, 0 for an unconditional network.
        mapping_layers: number of layers of the mapping network.
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

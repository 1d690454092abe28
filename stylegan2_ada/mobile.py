"""The MobileStyleGAN synthesis network (Belousov 2021, arXiv 2104.04767).

StyleGAN2 distilled into a network that is an order of magnitude cheaper. Three ideas save the three main costs: an
inverse Haar wavelet transform upsamples features and images instead of a FIR filter; each 3 × 3 convolution is split
into a depthwise and a pointwise one; demodulation is a constant, folded into the weights. As in StyleGAN2, a style
s = A w + b scales the input channels of every convolution.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2_ada.generator import Generator, MappingNetwork, Noise, Synthesis, layer_noise
from stylegan2_ada.ops import SLOPE, styled_pointwise
from stylegan2_ada.windows import Cuts, Window

FFHQ_CHANNELS = (512, 512, 512, 512, 256, 128, 64)


def haar_matrix(channels: int, like: Tensor) -> Tensor:
    """The matrix [C, C] of one level of the inverse orthonormal Haar transform, for the C = ``channels`` of a pixel.

    It takes LL (C/4 channels), then LH, HL and HH of one colour after the other, and gives the four new pixels: top
    left, top right, bottom left, bottom right, C/4 channels each. It has the type of ``like`` and is made on its
    device, without a copy from the host.
    """
    out, device = channels // 4, like.device
    pixel = torch.arange(4, device=device)
    rows, columns = 1 - 2 * (pixel // 2), 1 - 2 * (pixel % 2)  # +1 in the upper or left half, −1 in the other
    each = torch.arange(out, device=device)
    matrix = torch.zeros(4, out, channels, device=device)  # [pixel, new channel, old channel]
    matrix[:, each, each] = 0.5
    for band, signs in enumerate((rows, columns, rows * columns)):
        matrix[:, each, out + 3 * each + band] = 0.5 * signs[:, None]
    return matrix.flatten(0, 1).to(like)


def spread(x: Tensor) -> Tensor:
    """[N, 4C, H, W] → [N, C, 2H, 2W]: moves the four new pixels from the channels to their places."""
    n, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, height, width, 2, 2, channels // 4).transpose(2, 3)
    return x.reshape(n, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)


def drawn(*shape: int, variance: float = 1.0) -> Tensor:
    """Random numbers of that variance, for a network without a file.

    They are uniform: normal ones on the meta device, where a network is built before a file fills it, import half of
    PyTorch in a second.
    """
    bound = (3 * variance) ** 0.5
    return torch.empty(shape).uniform_(-bound, bound)


class Modulation(nn.Module):
    """The style s = A w + b of a layer, one factor per channel. A module only so that the weights keep their names."""

    def __init__(self, w_dim: int, channels: int):
        super().__init__()
        self.affine = nn.Linear(w_dim, channels)

    def forward(self, w: Tensor) -> Tensor:
        return self.affine(w)


class Pointwise(nn.Module):
    """The weights of a 1 × 1 convolution. A module only so that they keep their names."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(drawn(out_channels, in_channels, variance=1 / in_channels))


class StyledConv(nn.Module):
    """Modulation, 3 × 3 convolution, noise, bias, leaky ReLU.

    Args:
        resolution: height and width of the features.
        separable: a depthwise and a pointwise convolution instead of a full one.
    """

    noise: Tensor
    conv: Sequence[nn.Conv2d | Pointwise]

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, resolution: int, *, separable: bool = True):
        super().__init__()
        self.modulation = Modulation(w_dim, in_channels)
        convs: list[nn.Module]
        if separable:
            depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
            convs = [depthwise, Pointwise(in_channels, out_channels)]
        else:
            convs = [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)]
        self.conv = nn.Sequential(*convs)  # type: ignore[assignment]  # it does not know what its modules are
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", drawn(1, 1, resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        style = self.modulation(w)
        noise = None if noise is None else (self.noise_strength * noise).to(x.dtype)
        weight = self.conv[0].weight.to(x.dtype)
        if len(self.conv) == 1:
            x = F.conv2d(x * style[:, :, None, None].to(x.dtype), weight, padding=1) + self.bias.to(x.dtype)
            return F.leaky_relu(x if noise is None else x + noise, SLOPE)
        # A depthwise convolution commutes with a factor per channel, so the style can wait for the pointwise one.
        x = F.conv2d(x, weight, padding=1, groups=x.shape[1])
        return styled_pointwise(x, self.conv[1].weight, style, self.bias.flatten(), noise, slope=SLOPE)


class Block(nn.Module):
    """Double the resolution, then two styled convolutions."""

    def __init__(self, w_dim: int, in_channels: int, out_channels: int, resolution: int):
        super().__init__()
        self.up = Modulation(w_dim, in_channels)
        self.conv1 = StyledConv(w_dim, in_channels // 4, out_channels, resolution)
        self.conv2 = StyledConv(w_dim, out_channels, out_channels, resolution)

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor, noise1: Tensor | None, noise2: Tensor | None) -> Tensor:
        style = self.up(w1)
        x = spread(styled_pointwise(x, haar_matrix(x.shape[1], style), style))
        return self.conv2(self.conv1(x, w1, noise1), w2, noise2)


def to_image(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor) -> Tensor:
    """Features x [N, C, R/2, R/2] → the image [N, 3, R, R], whose Haar bands are a styled product with weight [12, C].

    The transform is linear, so it is folded into the weight and the bias [1, 12, 1, 1].
    """
    haar = haar_matrix(len(weight), weight)
    return spread(styled_pointwise(x, haar @ weight, style, haar @ bias.flatten()))


class PreviewHead(nn.Module):
    """Features of an inner layer [N, C, R/2, R/2] → a preview [N, 3, R, R] of the image that they become.

    A narrow stand-in for all the layers that follow: it squeezes the features to ``width`` channels, applies one
    3 × 3 convolution and makes the Haar bands of the colours. Each of its two styles comes from a learned weighted
    mean of the w of the layers it stands in for.

    Args:
        w_dim: width of w.
        in_channels: channels of the features.
        num_ws: number of layers, each with a w, that the head stands in for.
        width: number of channels inside.
    """

    def __init__(self, w_dim: int, in_channels: int, num_ws: int, *, width: int = 64, img_channels: int = 3):
        super().__init__()
        self.mix = nn.Parameter(torch.full((2, num_ws), 1 / num_ws))
        self.modulation = Modulation(w_dim, in_channels)
        self.squeeze = Pointwise(in_channels, width)
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.to_img = Modulation(w_dim, width)
        self.to_img_conv = Pointwise(width, 4 * img_channels)
        self.to_img_bias = nn.Parameter(torch.zeros(1, 4 * img_channels, 1, 1))

    def forward(self, x: Tensor, ws: Tensor) -> Tensor:
        """The preview of features x [N, C, R/2, R/2] under the remaining styles ws [N, num_ws, w_dim]."""
        inner, outer = (self.mix @ ws).unbind(dim=1)  # each [N, w_dim]
        style = self.modulation(inner)
        x = styled_pointwise(x, self.squeeze.weight, style, self.bias.flatten(), slope=SLOPE)
        bias = self.conv.bias.to(x.dtype)  # type: ignore[union-attr]  # this convolution has one
        x = F.leaky_relu(F.conv2d(x, self.conv.weight.to(x.dtype), bias, padding=1), SLOPE)
        return to_image(x, self.to_img_conv.weight, self.to_img(outer), self.to_img_bias)


class MobileSynthesis(Synthesis):
    """ws [N, num_ws, w_dim] → image [N, 3, R, R].

    A learned 4 × 4 constant, one full convolution, blocks at 8, 16, … R/2 px, and a head whose twelve channels are
    the Haar bands of the RGB image. Style 0 goes to the first convolution, styles 2i + 1 and 2i + 2 to block i, the
    last to the head.

    Args:
        w_dim: width of w.
        channels: number of channels after each block; R is 2 ** (len(channels) + 3).
        const_channels: channels of the constant.
        preview_sizes: sizes in px that have a ``PreviewHead``, each on the features of half that size.
    """

    img_channels = 3
    demodulates = False  # by a constant: styles far from those of W make stripes, not faces
    blocks: Sequence[Block]

    def __init__(
        self,
        w_dim: int = 512,
        channels: tuple[int, ...] = FFHQ_CHANNELS,
        const_channels: int = 512,
        *,
        preview_sizes: tuple[int, ...] = (),
    ):
        super().__init__()
        self.w_dim, self.preview_sizes = w_dim, preview_sizes
        self.num_ws = 2 * len(channels) + 2
        self.img_resolution = 2 ** (len(channels) + 3)
        resolutions = [8 * 2**i for i in range(len(channels))]
        self.layer_resolutions = (4, *(r for r in resolutions for _ in range(2)), self.img_resolution // 2)
        self.const = nn.Parameter(drawn(1, const_channels, 4, 4))
        self.conv = StyledConv(w_dim, const_channels, const_channels, 4, separable=False)
        widths = (const_channels, *channels)
        blocks = (Block(w_dim, widths[i], widths[i + 1], resolutions[i]) for i in range(len(channels)))
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]  # it does not know what its modules are
        self.to_img = Modulation(w_dim, channels[-1])
        self.to_img_conv = Pointwise(channels[-1], 4 * self.img_channels)
        self.to_img_bias = nn.Parameter(torch.zeros(1, 4 * self.img_channels, 1, 1))
        self.previews = nn.ModuleDict()
        for size in preview_sizes:
            used = self._blocks_for(size)
            self.previews[str(size)] = PreviewHead(w_dim, channels[used - 1], self.num_ws - 2 * used - 1)

    def drop_previews(self) -> None:
        """Remove the preview heads, which no longer fit when the layers that they stand in for have changed."""
        self.previews, self.preview_sizes = nn.ModuleDict(), ()

    def _blocks_for(self, size: int | None) -> int:
        """The number of blocks that an image of that size goes through."""
        if size is None or size == self.img_resolution:
            return len(self.blocks)
        if size not in self.preview_sizes:
            raise ValueError(f"This network makes images of {self.img_resolution} px and has no preview of {size} px.")
        return size.bit_length() - 4

    def styles_shared(self, size: int | None = None) -> int:
        used = self._blocks_for(size)  # a preview's head only approximates what the other styles do
        return self.num_ws if used == len(self.blocks) else 2 * used + 1

    def _noise(self, size: int | None) -> dict[str, Tensor]:
        buffers = {"conv": self.conv.noise}
        for i, block in enumerate(self.blocks[: self._blocks_for(size)]):
            buffers |= {f"block{i}.conv1": block.conv1.noise, f"block{i}.conv2": block.conv2.noise}
        return buffers

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
            size: None for the full image, or one of ``preview_sizes`` for a preview by the first layers and a head.
            window: (top, left, height, width) in px of the only part of the image that is made; None makes all of it.
            dtype: type of the features; None is that of ws.

        Returns:
            [N, 3, R, R], [N, 3, size, size] or [N, 3, height, width], in about [−1, 1].

        Raises:
            ValueError: if ws or a noise buffer has the wrong shape, there is no preview of that size, or the window
                does not lie inside the image.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must have the shape [N, {self.num_ws}, {self.w_dim}], not {list(ws.shape)}.")
        n = {name: layer_noise(noise, name, buffer) for name, buffer in self._noise(size).items()}
        w = ws.unbind(dim=1)  # num_ws × [N, w_dim]
        const = self.const.to(dtype or ws.dtype).expand(len(ws), -1, -1, -1)
        x = self.conv(const.contiguous(memory_format=torch.channels_last), w[0], n["conv"])  # [N, 512, 4, 4]
        blocks = self.blocks[: self._blocks_for(size)]
        # Two 3 × 3 convolutions, and one in a preview's head.
        cuts = Cuts(window, size or self.img_resolution, [8 * 2**i for i in range(len(blocks))], reach=3)
        for i, block in enumerate(blocks):
            noises = (cuts.noise(i, n[f"block{i}.conv{j}"]) for j in (1, 2))
            x = block(cuts.enter(i, x), w[2 * i + 1], w[2 * i + 2], *noises)
        if len(blocks) < len(self.blocks):
            image = self.previews[str(size)](x, ws[:, 2 * len(blocks) + 1 :])
        else:
            image = to_image(x, self.to_img_conv.weight, self.to_img(w[-1]), self.to_img_bias)
        return cuts.leave(image, 2).to(ws.dtype)


def mobile_generator(state: dict[str, Tensor], preview_sizes: tuple[int, ...] = ()) -> Generator:
    """The frozen FFHQ generator, 1024 px, from the tensors that ``readers.read_mobilestylegan`` returns.

    Args:
        state: those tensors, and those of the preview heads if there are any.
        preview_sizes: as in ``MobileSynthesis``.

    Raises:
        RuntimeError: if a tensor is missing, unknown or of the wrong shape.
    """
    with torch.device("meta"):
        synthesis = MobileSynthesis(preview_sizes=preview_sizes)
        generator = Generator(MappingNetwork(num_ws=synthesis.num_ws), synthesis)
    generator.load_state_dict(state, assign=True)
    return generator.eval().requires_grad_(False)

"""The terms of the objective L(w, n) = d(D(x), y) + λ_c c(D(x), y) + λ_i ‖f(D(x)) − f(y)‖² + λ_w ‖w − w̄‖₂ + λ_n R."""

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ex5lib import weights
from ex5lib.errors import unknown_name
from ex5lib.faces.descriptor import FaceDescriptor, chip
from ex5lib.images.tensors import check_image, resize_area

# The last ReLU of each block in torchvision's vgg16().features.
VGG16_TAPS = (3, 8, 15, 22, 29)
COLOR_SIZE = 16  # px: small enough to say nothing about shapes
COMPARISON_SIZE = 256  # px at which images are compared
# At that size an iris has five pixels. So some steps compare the face alone, from its brows to the chin, in twice the
# detail; VGG16 sees as many pixels as ever.
FACE_SIZE = 512
FACE = (160, 128, 256, 256)  # top, left, height, width in px of FACE_SIZE


class PerceptualDistance(nn.Module):
    """d(x, y): squared distance between unit-length VGG16 features, averaged over pixels, summed over five blocks.

    With ``kind="lpips"`` the channels are weighted by the fitted heads of LPIPS (Zhang et al. 2018, arXiv
    1801.03924, equation 1), with torchvision's VGG16, to which the heads were fitted. Without heads it is the same
    distance with every weight 1.

    Args:
        kind: "vgg16" (the project's own weights) or "lpips" (fetched from the internet).
        device: as in ``weights.load_generator``.
        vgg: the project's VGG16, if it is loaded already; it stays on its device.

    Raises:
        SettingError: if kind is anything else.
        DeviceError, WeightsError: as in ``weights.load_vgg16``.

    Example:
        >>> d = PerceptualDistance()
        >>> target = d.features(photo)  # once
        >>> loss = d(image, target)  # [N], as often as needed
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, kind: str = "vgg16", device: str | torch.device = "auto", *, vgg: nn.Sequential | None = None):
        super().__init__()
        if kind == "vgg16":
            self.vgg = vgg or weights.load_vgg16("vgg16", device)
            heads = None
            scale = torch.tensor(127.5)  # to 0 … 255, minus the mean
            offset = torch.tensor([127.5 - mean for mean in (123.68, 116.779, 103.939)])
        elif kind == "lpips":
            self.vgg = weights.load_vgg16("vgg16-imagenet", device)
            heads = weights.load_lpips_heads()
            mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            scale, offset = 0.5 / std.view(1, 3, 1, 1), (0.5 - mean) / std
        else:
            raise unknown_name("perceptual distance", kind, ["vgg16", "lpips"])
        self.kind = kind
        self.fits_warm_start = heads is None  # the warm start was fitted to these features
        weight = self._weight
        self.register_buffer("scale", scale.to(weight))
        self.register_buffer("offset", offset.view(1, 3, 1, 1).to(weight))
        # The plain squared distance of (√head · feature) is the head-weighted squared distance of the feature.
        roots = [None] * len(VGG16_TAPS) if heads is None else [h.clamp(min=0).sqrt().view(1, -1, 1, 1) for h in heads]
        for i, root in enumerate(roots):
            self.register_buffer(f"head{i}", None if root is None else root.to(weight))
        self._others: dict[tuple[torch.dtype, torch.device], PerceptualDistance] = {}

    @property
    def _weight(self) -> Tensor:
        """VGG16's first: its type and device are those in which d computes."""
        return next(self.vgg.parameters())

    def in_precision(self, dtype: torch.dtype) -> "PerceptualDistance":
        """The same distance with VGG16's convolutions in another type. Features and sums stay in float32."""
        weight = self._weight
        if dtype == weight.dtype:
            return self
        key = dtype, weight.device
        if key not in self._others:
            other = copy.copy(self)  # shares everything but VGG16
            # In half precision a GPU, too, is fastest with the channels innermost.
            vgg = copy.deepcopy(self.vgg).to(dtype).to(memory_format=torch.channels_last)
            other._modules = self._modules | {"vgg": vgg}
            other._others = {(weight.dtype, weight.device): self}
            self._others[key] = other
        return self._others[key]

    def features(self, image: Tensor) -> list[Tensor]:
        """The normalised features of the five blocks, [N, C_b, H_b, W_b] each.

        Args:
            image: [N, 3, H, W] in [−1, 1], at the size at which images are to be compared (256 px in this project).

        Raises:
            SettingError: if it is not an image tensor.
        """
        check_image(image)
        x = (image * self.scale + self.offset).to(self._weight.dtype)
        found: list[Tensor] = []
        for i, layer in enumerate(self.vgg):
            x = layer(x)
            if i in VGG16_TAPS:
                feature = F.normalize(x.float(), dim=1, eps=1e-10)
                head = getattr(self, f"head{len(found)}")
                found.append(feature if head is None else feature * head)
        return found

    def forward(self, image: Tensor, target: Tensor | list[Tensor]) -> Tensor:
        """d [N] between images and a target: an image tensor, or its ``features``, computed once.

        A target of batch 1 serves any number of images. Gradients flow to the image, not to the target.
        """
        if isinstance(target, Tensor):
            with torch.no_grad():
                target = self.features(target)
        pairs = zip(self.features(image), target, strict=True)
        first, *others = ((a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs)
        return sum(others, start=first)


def color_distance(image: Tensor, target: Tensor) -> Tensor:
    """c(x, y) [N]: mean absolute difference of images [N, 3, S, S] averaged down to 16 × 16 px.

    VGG16's features hardly change with a gentle shift of the colours, so d alone lets skin drift to grey or orange.
    """
    a, b = (resize_area(x, COLOR_SIZE) for x in (image, target))
    return (a - b).abs().mean(dim=(1, 2, 3))


def latent_distances(ws: Tensor, w_avg: Tensor, *, mean_absolute: bool = False) -> Tensor:
    """‖w − w̄‖₂ of every layer, [N, L], of ws and w̄, or another centre, [N, L, w_dim] or less. Its gradient there is 0.

    Args:
        mean_absolute: take each layer's mean absolute difference instead of its norm, as the course does.
    """
    away = ws - w_avg
    return away.abs().mean(dim=2) if mean_absolute else torch.linalg.vector_norm(away, dim=2)


def latent_distance(ws: Tensor, w_avg: Tensor) -> Tensor:
    """‖w − w̄‖₂ [N] of ws [N, L, w_dim] and w̄ [w_dim]; in W+ the mean of the layers' norms."""
    return latent_distances(ws, w_avg).mean(dim=1)


def noise_regularization(noise: dict[str, Tensor]) -> Tensor:
    """R(n) [N]: squared autocorrelation of the noise at a shift of one pixel (arXiv 1912.04958, appendix D, eq. 5).

    Each buffer [N, 1, h, w] counts at every level of a pyramid of plain 2 × 2 averages down to 8 px, as in NVIDIA's
    projector. The paper doubles each level, which keeps white noise at unit variance; but then R of any random noise
    is ten times the perceptual distance and drowns the rest of the objective.
    """
    total = torch.zeros(())  # stays 0 for a network without noise
    for buffer in noise.values():
        while True:
            for axis in (2, 3):
                total = total + (buffer * buffer.roll(1, dims=axis)).mean(dim=(1, 2, 3)).square()
            if min(buffer.shape[2:]) <= 8:
                break
            buffer = F.avg_pool2d(buffer, 2)
    return total


@torch.no_grad()
def renormalize_noise(noise: dict[str, Tensor]) -> None:
    """Set every buffer, in place, to zero mean and unit variance, as the paper does after each step."""
    for buffer in noise.values():
        buffer -= buffer.mean(dim=(1, 2, 3), keepdim=True)
        buffer *= buffer.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()


_Target = tuple[Tensor, list[Tensor], Tensor | None]  # an image, its features and its descriptor


@dataclass
class Objective:
    """L(w, n) of images x = G(w, n), for N photos at once:

        d(D(x), y) + λ_c c(D(x), y) + λ_i ‖f(D(x)) − f(y)‖² + λ_w ‖w − w̄‖₂ + λ_n R(n)

    Attributes:
        target: y [N, 3, H, H], degraded.
        degradation: D.
        distance: d, with the target's features computed once for each size.
        latent_weights: λ_w of each layer, [num_ws].
        color_weight, identity_weight, noise_weight: λ_c, λ_i, λ_n.
        descriptor: f; without one the identity term is 0.
        margin: px of ``FACE_SIZE`` around the face on which D(x) in the face depends.
        clamp: compare images clamped to [−1, 1], as they are displayed.
        mean_absolute: as in ``latent_distances``.
    """

    target: Tensor
    degradation: nn.Module
    distance: PerceptualDistance
    latent_weights: Tensor
    color_weight: float = 0.0
    identity_weight: float = 0.0
    noise_weight: float = 1e5
    clamp: bool = False
    mean_absolute: bool = False
    descriptor: FaceDescriptor | None = None
    margin: int = 0
    _targets: dict[int, _Target] = field(init=False, default_factory=dict, repr=False)

    def __call__(
        self, image: Tensor, ws: Tensor, center: Tensor, noise: dict[str, Tensor], *, face: bool = False
    ) -> dict[str, Tensor]:
        """The terms, [N] each: distance, color_distance, identity_distance, latent_distance, noise_regularization;
        loss, the weighted sum; score, the sum without the noise term, which early on can be far larger than the others.

        Args:
            image: x [N, 3, R, R], degraded and compared at 256 px, or at the size of x or y if that is smaller.
            ws: [N, num_ws, w_dim], from which it was made.
            center: w̄, or whatever else ws is held to, [w_dim] or one for each layer, [N, num_ws, w_dim].
            noise: the buffers that are searched, {name: [N, 1, h, w]}; R is 0 if there are none.
            face: x is only the part of an image that is ``window`` px of ``FACE_SIZE``; the face alone is compared, in
                that detail, and the identity term, which needs all of the head, is 0.
        """
        x = image.clamp(-1, 1) if self.clamp else image
        size = FACE_SIZE if face else min(COMPARISON_SIZE, x.shape[-1], self.target.shape[-1])
        y, features, identity = self.target_at(size)
        degraded = self._degraded_face(x) if face else self.degradation(resize_area(x, size))  # D(x)
        d = self.distance(degraded, features)
        c = color_distance(degraded, y)
        i = torch.zeros_like(d)
        if self.descriptor is not None and not face:
            i = (self.descriptor(chip(degraded)) - identity).square().sum(dim=1)
        away = latent_distances(ws, center, mean_absolute=self.mean_absolute)  # [N, num_ws]
        r = torch.zeros_like(d) + noise_regularization(noise)
        score = d + self.color_weight * c + self.identity_weight * i + (self.latent_weights * away).mean(dim=1)
        return {
            "loss": score + self.noise_weight * r,
            "score": score,
            "distance": d,
            "color_distance": c,
            "identity_distance": i,
            "latent_distance": away.mean(dim=1),
            "noise_regularization": r,
        }

    @property
    def window(self) -> tuple[int, int, int, int]:
        """What has to be made to compare the face: top, left, height and width in px of ``FACE_SIZE``."""
        top, left, height, width = FACE
        return top - self.margin, left - self.margin, height + 2 * self.margin, width + 2 * self.margin

    def _degraded_face(self, x: Tensor) -> Tensor:
        """The face of D(x) [N, 3, 256, 256]. D may depend on the place, so it gets a whole image."""
        top, left, height, width = self.window
        x = F.pad(resize_area(x, height), (left, FACE_SIZE - left - width, top, FACE_SIZE - top - height))
        return face_alone(self.degradation(x))

    @torch.no_grad()
    def target_at(self, size: int) -> _Target:
        """The target at a size, [N, 3, size, size], its features and its descriptor; at ``FACE_SIZE``, its face."""
        if size not in self._targets:
            y, identity = resize_area(self.target, size), None
            if size == FACE_SIZE:
                y = face_alone(y)
            elif self.descriptor is not None:
                identity = self.descriptor(chip(y))
            self._targets[size] = y, self.distance.features(y), identity
        return self._targets[size]


def face_alone(image: Tensor) -> Tensor:
    """The face [N, 3, 256, 256], brows to chin, of aligned faces [N, 3, S, S], S ≥ 512, at 512 px."""
    image = resize_area(image, FACE_SIZE)
    top, left, height, width = FACE
    return image[:, :, top : top + height, left : left + width]

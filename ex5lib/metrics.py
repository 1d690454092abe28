"""How near a result is to the original photo."""

import numpy as np
import torch
from torch import Tensor

from ex5lib import zoo
from ex5lib.alignment import aligned_box
from ex5lib.errors import ImageShapeError
from ex5lib.images import check_image, resize_area, to_uint8
from ex5lib.losses import PerceptualDistance

_DESCRIPTOR_SIZE = 512


def _as_arrays(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray]:
    for image in (a, b):
        check_image(image, batch=1)
    if a.shape != b.shape:
        raise ImageShapeError(f"Images of one size can be compared, not {list(a.shape[2:])} and {list(b.shape[2:])}.")
    return tuple(image[0].detach().float().clamp(-1, 1).permute(1, 2, 0).cpu().numpy() for image in (a, b))


def psnr(image: Tensor, original: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images [1, 3, H, W] in [−1, 1], whose range is 2.

    Raises:
        ImageShapeError: if they are not two images of one size.
    """
    from skimage.metrics import peak_signal_noise_ratio  # imports half of SciPy, half a second

    a, b = _as_arrays(image, original)
    with np.errstate(divide="ignore"):  # equal images: infinity
        return float(peak_signal_noise_ratio(b, a, data_range=2))


def ssim(image: Tensor, original: Tensor) -> float:
    """Structural similarity (Wang et al. 2004, with its Gaussian window) of two images [1, 3, H, W] in [−1, 1].

    Raises:
        ImageShapeError: if they are not two images of one size.
    """
    from skimage.metrics import structural_similarity

    a, b = _as_arrays(image, original)
    return float(
        structural_similarity(
            b, a, data_range=2, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def face_descriptor(face: Tensor) -> np.ndarray:
    """dlib's descriptor [128] of an aligned face [1, 3, S, S].

    The face is not searched for: in an aligned crop it is where alignment has put it.
    """
    pixels = np.ascontiguousarray(to_uint8(resize_area(face, _DESCRIPTOR_SIZE)))
    shape = zoo.landmark_model()(pixels, aligned_box(pixels.shape[0]))
    return np.array(zoo.descriptor_model().compute_face_descriptor(pixels, shape))


def identity_distance(face: Tensor, original: Tensor) -> float:
    """Distance of two aligned faces' descriptors; dlib takes two photos below about 0.6 for one person."""
    return float(np.linalg.norm(face_descriptor(face) - face_descriptor(original)))


@torch.no_grad()
def compare(
    image: Tensor, original: Tensor, distance: PerceptualDistance | None = None, size: int = 256
) -> dict[str, float]:
    """PSNR, SSIM and perceptual distance at ``size`` px, and identity distance, of a result and the original.

    Args:
        image, original: aligned faces [1, 3, S, S], of any size from ``size`` up.
        distance: d; by default the project's VGG16 distance.
    """
    distance = distance or PerceptualDistance()
    place = distance.offset.device
    image = image.clamp(-1, 1)  # as it is seen: contrast beyond white brings a lower distance that nobody sees
    small, small_original = resize_area(image, size), resize_area(original, size)
    return {
        "distance": distance(small.to(place), small_original.to(place)).item(),
        "psnr": psnr(small, small_original),
        "ssim": ssim(small, small_original),
        "identity_distance": identity_distance(image, original),
    }

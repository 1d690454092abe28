"""How close a result is to the original photo.

Images of different sizes, and masks of another size or that select no pixel, raise a ``SettingError``.
"""

import dlib
import numpy as np
import torch
from torch import Tensor

from ex5lib import weights
from ex5lib.degradations.known import REFERENCE_SIZE, Grayscale
from ex5lib.errors import SettingError
from ex5lib.faces.descriptor import CHIP_SIZE, load_descriptor
from ex5lib.faces.landmarks import aligned_box, aligned_landmarks
from ex5lib.images.tensors import check_image, from_uint8, resize_area, to_uint8
from ex5lib.inversion.losses import PerceptualDistance


def _as_arrays(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray]:
    for image in (a, b):
        check_image(image, batch=1)
    if a.shape != b.shape:
        raise SettingError(f"Only images of one size can be compared, not {list(a.shape[2:])} and {list(b.shape[2:])}.")
    x, y = (image[0].detach().float().clamp(-1, 1).permute(1, 2, 0).cpu().numpy() for image in (a, b))
    return x, y


def psnr(image: Tensor, original: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two images [1, 3, H, W] in [−1, 1]; arguments as in ``color_difference``."""
    a, b = _as_arrays(image, original)
    if mask is not None:
        chosen = _chosen(mask, a)
        a, b = a[chosen], b[chosen]
    with np.errstate(divide="ignore"):  # identical images: infinity
        return float(10 * np.log10(4 / np.square(a - b, dtype=np.float64).mean()))


def ssim(image: Tensor, original: Tensor) -> float:
    """Structural similarity (Wang et al. 2004, with its Gaussian window) of two images [1, 3, H, W] in [−1, 1]."""
    from skimage.metrics import structural_similarity

    a, b = _as_arrays(image, original)
    return float(
        structural_similarity(
            b, a, data_range=2, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def _chosen(mask: Tensor, pixels: np.ndarray) -> np.ndarray:
    """A mask as booleans [H, W] for pixels [H, W, 3]."""
    chosen = mask.squeeze().cpu().numpy() > 0.5
    if chosen.shape != pixels.shape[:2] or not chosen.any():
        height, width = pixels.shape[:2]
        raise SettingError(f"A mask must be [1, 1, {height}, {width}] and select a pixel; this is {list(mask.shape)}.")
    return chosen


def gradient_energy(image: Tensor) -> float:
    """Sharpness of an image [1, 3, S, S]: the mean squared difference of neighbouring pixels of the luma at 256 px."""
    luma = Grayscale()(resize_area(image, REFERENCE_SIZE).clamp(-1, 1))[:, :1]
    return sum(luma.diff(dim=axis).square().mean().item() for axis in (2, 3))


def color_difference(image: Tensor, original: Tensor, mask: Tensor | None = None) -> float:
    """Mean CIEDE2000 (Sharma, Wu, Dalal 2005) of two images [1, 3, H, W] in [−1, 1], taken as sRGB.

    Differences above about 2 are visible; from about 20 on, nobody would call two colours the same.

    Args:
        mask: [1, 1, H, W]; only pixels where it is above one half are compared.
    """
    from skimage.color import deltaE_ciede2000, rgb2lab

    a, b = _as_arrays(image, original)
    differences = deltaE_ciede2000(rgb2lab((a + 1) / 2), rgb2lab((b + 1) / 2))
    return float(differences.mean() if mask is None else differences[_chosen(mask, a)].mean())


def face_mask(face: Tensor, size: int = 256) -> Tensor:
    """The convex hull of an aligned face's 68 landmarks: [1, 1, size, size], 1 inside, 0 outside."""
    from skimage.morphology import convex_hull_image

    points = np.clip((aligned_landmarks(face) * size).astype(int), 0, size - 1)
    marked = np.zeros((size, size), bool)
    marked[points[:, 1], points[:, 0]] = True
    return torch.from_numpy(convex_hull_image(marked)).float()[None, None]


def iris_colors(face: Tensor) -> np.ndarray:
    """Colours of the two irises of an aligned face [1, 3, S, S]: [2, 3] sRGB in [0, 1], the image's left one first.

    Each is a median over pixels between the lids, near the eye's centre, of medium brightness: neither pupil nor
    reflection.
    """
    from skimage.draw import polygon

    pixels = to_uint8(face) / 255
    size = pixels.shape[0]
    colours = []
    for eye in (slice(36, 42), slice(42, 48)):
        lids = aligned_landmarks(face)[eye] * size
        rows, columns = polygon(lids[:, 1], lids[:, 0], (size, size))
        radius = 0.22 * np.ptp(lids[:, 0])
        x, y = lids.mean(axis=0)
        near = np.hypot(columns - x, rows - y) < radius
        # A closed eye may have no such pixel: take the one at its centre.
        iris = pixels[rows[near], columns[near]] if near.any() else pixels[None, round(y), round(x)]
        brightness = iris.sum(axis=1)
        low, high = np.quantile(brightness, (0.25, 0.75))
        colours.append(np.median(iris[(brightness >= low) & (brightness <= high)], axis=0))
    return np.array(colours)


def face_descriptors(*faces: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """dlib's descriptors [N, 128] of N aligned faces [1, 3, S, S]; alignment fixes where the face lies in the crop."""
    chips = []
    for face in faces:
        pixels = np.ascontiguousarray(to_uint8(resize_area(face, 512)))
        shape = weights.landmark_model()(pixels, aligned_box(pixels.shape[0]))
        chips.append(from_uint8(dlib.get_face_chip(pixels, shape, CHIP_SIZE)))
    with torch.no_grad():
        return load_descriptor(device)(torch.cat(chips).to(device)).cpu()


def identity_distance(face: Tensor, original: Tensor) -> float:
    """Distance between two aligned faces' descriptors; below about 0.6, dlib takes them for the same person."""
    return float(torch.dist(*face_descriptors(face, original)))


def likeness(distance: float) -> str:
    """An identity distance in words: "likely", "perhaps" or "hardly" the same person, with the number."""
    words = "likely" if distance < 0.45 else "perhaps" if distance < 0.6 else "hardly"
    return f"{words} ({distance:.2f})"


def compare(image: Tensor, original: Tensor, distance: PerceptualDistance | None = None) -> dict[str, float]:
    """PSNR, SSIM and perceptual distance at 256 px, and identity distance, between a result and the original.

    Args:
        image, original: aligned faces [1, 3, S, S], each of any size; a smaller one is compared at its own size.
        distance: d; by default the project's VGG16 distance.
    """
    return compare_all({"image": image}, original, distance)["image"]


@torch.no_grad()
def compare_all(
    images: dict[str, Tensor], original: Tensor, distance: PerceptualDistance | None = None
) -> dict[str, dict[str, float]]:
    """Like ``compare``, for several images of one original."""
    distance = distance or PerceptualDistance()
    device = distance.offset.device
    identity, *identities = face_descriptors(original, *images.values(), device=device)
    features: dict[int, list[Tensor]] = {}
    found: dict[str, dict[str, float]] = {}
    for (name, image), own in zip(images.items(), identities, strict=True):
        image = image.clamp(-1, 1)  # as displayed: values beyond white would lower the distance but cannot be seen
        side = min(REFERENCE_SIZE, image.shape[-1], original.shape[-1])
        small, small_original = resize_area(image, side), resize_area(original, side)
        if side not in features:
            features[side] = distance.features(small_original.to(device))
        found[name] = {
            "distance": distance(small.to(device), features[side]).item(),
            "psnr": psnr(small, small_original),
            "ssim": ssim(small, small_original),
            "identity_distance": float(torch.dist(own, identity)),
        }
    return found

"""Pivotal tuning: a copy of the generator is changed a little, so that the latent of a result gives the photo itself.

Roich, Mokady, Bermano and Cohen-Or 2021 (arXiv 2106.05744). A search ends at the nearest image that the generator can
make. Tuning fixes its latent, the pivot, and changes the generator's weights instead.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ex5lib.devices import on_device, pick_device, pick_dtype, readable_memory_errors
from ex5lib.errors import SettingError
from ex5lib.images.tensors import resize_area
from ex5lib.inversion.float16 import ScaledBackward
from ex5lib.inversion.losses import COMPARISON_SIZE, PerceptualDistance
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recorder import check_finite
from stylegan2_ada.generator import Generator
from stylegan2_ada.mobile import MobileSynthesis

PIXEL_SIZE = 512  # px at which pixels are compared


@readable_memory_errors()
def tune(
    G: Generator,
    run: Projection,
    *,
    degradation: nn.Module | None = None,
    num_steps: int = 50,
    learning_rate: float = 1e-4,
    pixel_weight: float = 1.0,
    distance: PerceptualDistance | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
) -> tuple[Generator, Projection]:
    """Tune a copy of the generator until the latent of a result gives its target:

        min over θ of  d(D(G_θ(w, n)), y) + λ ‖D(G_θ(w, n)) − y‖² / pixels

    The generator itself is not modified. Ctrl-C ends the tuning and returns what was reached.

    Args:
        G: the generator that the result was found with.
        run: the result, of one photo or several; its latent and noise stay as they are.
        degradation: D of that search.
        num_steps: of Adam. Its rate rises over the first tenth of them and falls along half a cosine. Adam's first
            steps move every weight by the full rate, whatever its gradient; without the rise a short tuning would spend
            the rest on repairing that.
        learning_rate: the peak rate. At four times the default the generator forgets what faces are.
        pixel_weight: λ; pixels are compared at 512 px, d at the size of the search.
        distance: d; by default the project's VGG16 distance.
        device, dtype: as in ``project``.
        progress: show a progress bar.
        callback: called after every step with a dict: "step", "num_steps", "image", "distance" and "pixel_error",
            averaged over the photos. Returning True ends the tuning.

    Returns:
        the tuned copy, on the CPU and frozen, and the result with its image, ``distances`` and ``settings["tune"]``.
        A MobileStyleGAN's copy has no previews, because their heads stand in for layers that have changed.

    Raises:
        SettingError: if a number is out of range.
        DeviceError: as in ``project``.
        DivergedError: if the loss becomes NaN or infinite.
    """
    if not isinstance(num_steps, int) or num_steps < 1:
        raise SettingError(f"num_steps of a tuning must be a whole number from 1 up, not {num_steps}.")
    if not (learning_rate > 0 and math.isfinite(learning_rate)):
        raise SettingError(f"learning_rate of a tuning must be positive, not {learning_rate}.")
    if run.ws.shape[1:] != (G.num_ws, G.w_dim):
        raise SettingError("The result is a projection by another generator: tune the one that it was found with.")
    if not (pixel_weight >= 0 and math.isfinite(pixel_weight)):
        raise SettingError(f"pixel_weight of a tuning must be 0 or a positive number, not {pixel_weight}.")
    device = pick_device(device)
    dtype = pick_dtype(dtype, device)
    tuned = copy.deepcopy(G).to(device)
    if isinstance(tuned.synthesis, MobileSynthesis):
        tuned.synthesis.drop_previews()
    D = on_device(device, degradation or nn.Identity())
    distance = on_device(device, distance or PerceptualDistance(device=device))
    target, ws = run.target.to(device), run.ws.to(device)
    noise = {name: buffer.to(device) for name, buffer in run.noise.items()}
    low, high = (min(size, G.img_resolution, target.shape[-1]) for size in (COMPARISON_SIZE, PIXEL_SIZE))
    pixels = resize_area(target, high)
    with torch.no_grad():
        features = distance.features(resize_area(target, low))

    def evaluate(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        image = tuned.synthesis(ws, noise, dtype=dtype)
        x = image.clamp(-1, 1) if run.settings["clamp"] else image
        compare = distance if dtype == torch.float32 else distance.in_precision(dtype)
        d = compare(D(resize_area(x, low)), features)
        error = (D(resize_area(image, high)) - pixels).square().mean(dim=(1, 2, 3))
        return image, d, error

    done = 0
    parameters = list(tuned.synthesis.requires_grad_(True).parameters())
    backward = ScaledBackward(device) if dtype == torch.float16 else torch.autograd.backward
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    try:
        for step in tqdm(range(num_steps), desc="tuning", unit="step", disable=not progress):
            rise = min(1.0, (step + 1) / (num_steps / 10 + 1))
            fall = 0.5 + 0.5 * math.cos(math.pi * step / num_steps)
            optimizer.param_groups[0]["lr"] = learning_rate * rise * fall
            image, d, error = evaluate(dtype)
            loss = d + pixel_weight * error
            optimizer.zero_grad(set_to_none=True)
            backward(loss.sum(), inputs=parameters)
            optimizer.step()
            done += 1
            losses, distances, errors = torch.stack([loss, d, error]).detach().cpu()  # in one transfer
            check_finite(losses, step)
            report = {"step": step, "num_steps": num_steps, "image": image.detach()}
            report |= {"distance": distances.mean().item(), "pixel_error": errors.mean().item()}
            if callback is not None and callback(report) is True:
                break
    except KeyboardInterrupt:
        pass
    tuned.eval().requires_grad_(False)
    with torch.no_grad():
        image, d, _ = evaluate(torch.float32)
    check_finite(d, done)
    tuning = {"num_steps": num_steps, "learning_rate": learning_rate, "pixel_weight": pixel_weight, "done": done}
    settings = run.settings | {"tune": tuning}
    run = replace(run, image=image.cpu(), distances=np.array(d.tolist()), settings=settings)
    return tuned.cpu(), run

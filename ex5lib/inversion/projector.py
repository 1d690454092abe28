"""The search: gradient descent on the latent and the noise buffers of a frozen generator.

    L(w, n) = d(D(x), y) + λ_c c(D(x), y) + λ_i ‖f(D(x)) − f(y)‖² + λ_w ‖w − w̄‖₂ + λ_n R(n),   x = G(w, n)

After Karras et al. 2020 (StyleGAN2, arXiv 1912.04958, appendix D), with the degradation D applied to the generated
image before it is compared with the degraded target y. The recipe (``recipes``) says how long, how fast, in which space
and from where. The terms are in ``losses``; ``search`` prepares, and ``recorder`` makes the result.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ex5lib.devices import readable_memory_errors
from ex5lib.inversion.latents import LatentStatistics
from ex5lib.inversion.losses import PerceptualDistance, renormalize_noise
from ex5lib.inversion.projection import Projection
from ex5lib.inversion.recipes import Recipe, Start, pick_recipe
from ex5lib.inversion.recorder import Recorder
from ex5lib.inversion.search import Search, State, Step, prepare
from stylegan2_ada.generator import Generator


@readable_memory_errors()
def project(
    G: Generator,
    target: Tensor,  # y [N, 3, H, H] in [−1, 1], square, already degraded
    degradation: nn.Module | None = None,
    recipe: str | Recipe = "karras2020",
    *,
    start: Start = None,
    seed: int = 0,
    statistics: LatentStatistics | None = None,
    distance: PerceptualDistance | None = None,
    snapshots: Iterable[int] | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool | str = False,
    progress: bool = True,
    callback: Callable[[dict], bool | None] | None = None,
    **settings,
) -> Projection:
    """Search for the latent whose image, degraded in the same way, looks like the target.

    The generator is not modified. Ctrl-C ends the search and returns the best result so far.

    Args:
        G: the generator.
        target: y. Several photos are searched at once, each with a latent and noise of its own.
        degradation: D, any module from images to images, applied at the size of the comparison: 256 px or less
            and, where a stage looks at the face, 512 px; None is the identity.
        recipe: a name in ``RECIPES`` or a ``Recipe``; the published one by default.
        start: a Projection to continue (of a batch, or one per photo); a latent z, w or ws to begin at
            (``starting_latent`` gives the shapes; one whose layers differ is searched in w+ from the first stage);
            "mean" or "warm"; None leaves it to the recipe.
        seed: of the noise buffers, the noise on w and the statistics.
        statistics: w̄ and σ_w of another class or distribution (``latent_statistics``).
        distance: d; by default the project's VGG16 distance. One of your own needs what PerceptualDistance has:
            features, forward and, for half precision, in_precision; and ``kind``, its name.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of them.
        device: "auto", "cuda", "mps", "cpu" or a torch.device. What is elsewhere is copied there.
        dtype: type in which the networks compute: "auto" (``devices.pick_dtype``), float32, bfloat16 or float16.
            Latents, sums and Adam stay in float32, and so do the image and the distance of the result.
        compile: run the networks through ``torch.compile``, which takes up to a minute once and saves a quarter of each
            step. A string is one of its modes; True is "reduce-overhead" on CUDA, which replays a recorded graph.
        progress: show a progress bar.
        callback: called in every step, before its update, with a dict: "step", "num_steps", "image", "latent" and
            "noise" as evaluated, the terms' means over the photos, "learning_rate", "size", "face", "seconds". If
            "face" is true, only the face was made and compared, and the rest of the image is that of the step
            before. The update overwrites the noise: clone what you keep. Returning True ends the search.
        settings: other values for the recipe, as ``pick_recipe`` takes them: num_steps, space, latent_weight, …

    Raises:
        SettingError: if an argument is out of range, or there is no such setting.
        DeviceError: if the machine lacks the device, the memory or the compiler.
        DivergedError: if the loss becomes NaN or infinite.
    """
    began = time.perf_counter()
    recipe = pick_recipe(recipe, start=start, **settings)
    search, state = prepare(
        G, target, degradation, recipe, start=start, seed=seed, statistics=statistics, distance=distance,
        device=device, dtype=dtype, compile=compile,
    )  # fmt: skip
    with Recorder(search, state, began, snapshots=snapshots, progress=progress, callback=callback) as record:
        for step in descend(search, state):
            record.step(step)
    return record.result()


def descend(search: Search, state: State) -> Iterator[Step]:
    """Gradient descent from a state, one step per iteration; the tensors of a Step are overwritten by its update."""
    for stage in search.plan.stages:
        state = search.enter(state, stage)
        n = search.searched_noise(state, stage.size)
        variables = [state.latent, *n.values()]
        optimizers = adam, *_ = search.optimizers(variables)
        for i, jitter in enumerate(search.latent_noise(state, stage)):
            rate = adam.rate = stage.rate(i / stage.num_steps)
            point = replace(state, latent=state.latent + jitter)  # w + noise
            face = stage.on_face(i)
            x, ws = search.generate(point, stage.size, face=face)  # x = G(w, n)
            terms = search.objective(x, ws, state.center, n, face=face)  # d, c, ‖f − f‖², ‖w − w̄‖, R(n), their sum L
            yield Step(stage, rate, state, point, face, x, terms)
            for each in optimizers:
                each.zero_grad()
            search.backward(terms["loss"].sum(), inputs=[*variables, *search.unknown.values()])
            for each in optimizers:
                each.step()
            renormalize_noise(n)

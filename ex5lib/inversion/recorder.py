"""What is kept of a search while it runs: the history, snapshots, and the best point in case it is stopped."""

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from ex5lib.errors import DivergedError
from ex5lib.inversion.losses import latent_distance
from ex5lib.inversion.projection import SCHEDULE, TERMS, Projection
from ex5lib.inversion.search import Search, State, Step, where
from ex5lib.inversion.stages import Stage

# Steps: a GPU that must report numbers at every step idles while the next one is prepared. The number is odd: where
# every other step looks at the face, an even one would meet only those, and the bar shows d of the whole.
_READ_EVERY = 9


class StopSearch(Exception):
    """Raised when a callback ends a search early."""


class Recorder:
    """Records the steps of a search, shows its progress, calls the caller's callback, and makes the result.

    It is a context manager, in which Ctrl-C ends the search and not the program.

    Args:
        search: the search.
        first: where it begins.
        began: ``time.perf_counter()`` before its preparation.
        snapshots: steps whose image is kept; None means 0, 10, 20, 40 and 100 % of the steps.
        progress: whether to show a progress bar.
        callback: as in ``project``.

    Attributes:
        snapshots: {step: [N, 3, R, R]}.
        stopped: whether the search was ended early.
    """

    def __init__(
        self,
        search: Search,
        first: State,
        began: float,
        *,
        snapshots: Iterable[int] | None = None,
        progress: bool = True,
        callback: Callable[[dict], bool | None] | None = None,
    ):
        self.search, self.num_steps = search, search.plan.num_steps
        self.snapshots: dict[int, Tensor] = {}
        self.stopped = False
        self._state, self._best = first, Best()
        shares = (0, 0.1, 0.2, 0.4, 1)
        self._marks = {round(self.num_steps * share) for share in shares} if snapshots is None else set(snapshots)
        self._rows: list[tuple[Tensor, tuple]] = []  # one entry per step, so that Ctrl-C leaves none half-written
        self._read: list[Tensor] = []  # the terms of the steps that have been copied to the host
        self._began, self._callback = began, callback
        self._image: Tensor | None = None  # the latest one, whole
        self._bar = None
        if progress:
            from tqdm.auto import tqdm  # imported here: without a bar, a search needs only PyTorch

            self._bar = tqdm(total=self.num_steps, desc="projecting", unit="step")

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, *_: object) -> bool:
        if self._bar is not None:
            self._bar.close()
        self.stopped = kind is not None and issubclass(kind, KeyboardInterrupt | StopSearch)
        return self.stopped

    @property
    def done(self) -> int:
        """Steps done."""
        return len(self._rows)

    def step(self, step: Step) -> None:
        """Record one step.

        The terms are copied from a GPU every ten steps, or at every step for a callback.

        Raises:
            DivergedError: if the loss is NaN or infinite, at this step or at one since the terms were last copied.
            StopSearch: if the callback returns True.
        """
        self._state = step.state
        if self.done in self._marks:
            self.snapshots[self.done] = self.search.show(step.state).cpu().clone()
        if not step.face:
            self._best.update(step)
        values = torch.stack([step.terms[name].detach() for name in TERMS])  # [terms, N]
        seconds = time.perf_counter() - self._began
        size = step.stage.size or self.search.G.img_resolution
        schedule = {"learning_rate": step.rate, "size": size, "face": step.face, "seconds": seconds}
        self._rows.append((values, tuple(schedule.values())))
        if self._bar is not None:
            self._bar.update()
        if values.device.type == "cpu" or self._callback is not None or self.done % _READ_EVERY == 0:
            means = dict(zip(TERMS, self._latest().mean(dim=1).tolist(), strict=True))
            if self._bar is not None and not step.face:  # the face alone has another d
                self._bar.set_postfix(distance=f"{means['distance']:.3f}", px=schedule["size"], refresh=False)
        if self._callback is not None:
            report = {"step": self.done - 1, "num_steps": self.num_steps, "image": self._whole(step)}
            report |= {"latent": step.point.latent.detach()}
            report |= {"noise": {name: buffer.detach() for name, buffer in step.point.noise.items()}}
            if self._callback(report | means | schedule) is True:
                raise StopSearch

    def _whole(self, step: Step) -> Tensor:
        """The image of a step; if only the face was made, with the rest of the image before."""
        image = step.image.detach()
        if step.face:
            top, left, height, width = self.search.window
            before = self._image
            if before is None or before.shape[-1] < self.search.G.img_resolution:  # a stage that begins with a look
                before = self.search.show(step.point)
            face, image = image, before.clone()
            image[:, :, top : top + height, left : left + width] = face
        # A compiled network may write its next image into the same memory.
        self._image = image.clone() if self.search.settings["compile"] and not step.face else image
        return self._image

    def _latest(self) -> Tensor:
        """Copy the terms of all new steps to the host, in one transfer; returns the latest, [terms, N]."""
        first = len(self._read)
        steps = torch.stack([values for values, _ in self._rows[first:]]).cpu()  # [steps, terms, N]
        for step, values in enumerate(steps, start=first):
            check_finite(values[0], step)
        self._read += steps
        return steps[-1]

    def result(self) -> Projection:
        """The Projection of the last state or, if the search was stopped, of the best state of each photo.

        Raises:
            DivergedError: if the loss there is NaN or infinite.
        """
        state = self._state
        image, ws, terms = self.search.evaluate(state)
        if self.stopped and self._best.state is not None:
            best = self._best.state
            best_image, best_ws, best_terms = self.search.evaluate(best)
            better = ~(terms["score"] <= best_terms["score"])  # also where the last step diverged
            noise = {name: where(better, best.noise[name], buffer) for name, buffer in state.noise.items()}
            state = State(state.space, where(better, best.latent, state.latent), noise, state.center, state.tied_from)
            image, ws = where(better, best_image, image), where(better, best_ws, ws)
            terms = {name: where(better, best_terms[name], value) for name, value in terms.items()}
        if len(self._read) < self.done:
            self._latest()
        check_finite(terms["loss"].cpu(), self.done)
        if self.done in self._marks or self.stopped:
            self.snapshots[self.done] = image.cpu().clone()
        rows = np.array([values.tolist() for values in self._read]).reshape(-1, len(TERMS), len(ws))
        schedule = np.array([numbers for _, numbers in self._rows]).reshape(-1, len(SCHEDULE))
        found = {name: parameter.tolist() for name, parameter in self.search.unknown.items()}
        settings = self.search.settings | {"space": state.space, "tied_from": state.tied_from, "found": found}
        settings["degradation"] = repr(self.search.exact.degradation)
        return Projection(
            ws=ws.detach().cpu().clone(),
            latent=state.latent.detach().cpu().clone(),
            noise={name: buffer.detach().cpu().clone() for name, buffer in state.noise.items()},
            image=image.cpu().clone(),
            target=self.search.exact.target.cpu().clone(),
            snapshots=self.snapshots,
            terms={name: rows[:, i] for i, name in enumerate(TERMS)},
            schedule={name: schedule[:, i] for i, name in enumerate(SCHEDULE)},
            distances=np.array(terms["distance"].tolist()),
            latent_distances=np.array(latent_distance(ws, self.search.statistics.w_avg).tolist()),
            settings=settings,
            seed=settings["seed"],
            seconds=time.perf_counter() - self._began,
            stopped=self.stopped,
        )


class Best:
    """The best point that the current stage has evaluated for each photo.

    Attributes:
        state: that point; None before the first step.
    """

    def __init__(self):
        self.state: State | None = None
        self._stage: Stage | None = None
        self._score = torch.tensor(math.inf)  # [N] after the first step

    @torch.no_grad()
    def update(self, step: Step) -> None:
        """Replace the point of each photo whose score is lower than before. Scores of two stages cannot be compared."""
        point, score = step.point, step.terms["score"]
        before, best = self.state, self._score
        if before is None or step.stage is not self._stage:
            before, best = point, torch.full_like(score, math.inf)
        better = score < best
        noise = {
            name: where(better, buffer, before.noise[name]) if buffer.requires_grad else buffer
            for name, buffer in point.noise.items()
        }
        state = State(point.space, where(better, point.latent, before.latent), noise, point.center, point.tied_from)
        self.state, self._stage, self._score = state, step.stage, where(better, score, best)


def check_finite(losses: Tensor, step: int) -> None:
    """Raise DivergedError, naming the photo and the step, unless every loss [N] is finite."""
    for i, loss in enumerate(losses.tolist()):
        if not math.isfinite(loss):
            photo = f" of photo {i}" if len(losses) > 1 else ""
            raise DivergedError(
                f"The loss{photo} became {loss} at step {step}: lower the learning rate or the weights."
            )

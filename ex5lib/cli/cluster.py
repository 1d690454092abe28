"""A folder shared by workers, on this machine or on a cluster. Dask runs them: a task is a photo, or a batch of photos.

What a worker needs is sent to it once, as a plugin: the ``Job``, which loads the networks at its first photo and keeps
them. Each worker is handed one task at a time, so that the scheduler's memory does not grow with the folder.
"""

import contextlib
import hashlib
import io
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast
from uuid import uuid4

import psutil
import torch
from tqdm.auto import tqdm

from ex5lib.cli.jobs import Job, Task
from ex5lib.cli.options import SearchOptions, say
from ex5lib.cli.summary import Outcome
from ex5lib.errors import ClusterError, SettingError
from ex5lib.restoration import results

try:
    import distributed
    from distributed.comm import CommClosedError
except ModuleNotFoundError:
    raise SettingError('Workers need Dask: pip install "ex5lib[cluster]".') from None

# What --cluster may name, and the class of dask-jobqueue that asks that system for workers.
SYSTEMS = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}
_MAX_LOST = 3  # workers that a photo may end before it counts as failed
_GIBIBYTES = 4  # of memory for a worker of this machine: a search takes 3
_FETCH_SECONDS = {False: 5, True: 60}  # that an outcome may take; if it is sent with its result, some 24 MB
_CONNECT_SECONDS = 10  # after which no scheduler is there
_LOOK_SECONDS = 2  # after which it looks for workers that have come meanwhile
_LOST = "The scheduler is gone: start it and run the same command again; what is done is not done again."
_PACKAGES = ("ex5lib", "stylegan2_ada")


def search(job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Have workers search the tasks, one at a time each; the outcome of each task, as it comes.

    Ctrl-C hands out no more tasks and waits for those that have begun; a second one leaves them.

    Raises:
        SettingError: if there is no such cluster.
        ClusterError: if it is lost, or a worker has another version of this program.
        Ex5Error: what ends a job in one process, too: networks that cannot be loaded.
    """
    with _client(job.options) as client:
        _check_code(client)
        # A name of its own: others may search on the same workers, with other settings.
        name = f"ex5-{uuid4().hex}"
        client.register_plugin(_Searching(job), name=name)
        say(f"{len(client.nthreads())} workers so far; watch them at {client.dashboard_link}")
        waiting = deque(map(_Work, tasks))
        given: dict[distributed.Future, _Work] = {}
        stopped, is_sent = False, job.options.send
        with tqdm(total=sum(map(len, tasks)), unit="photo") as bar:
            while True:
                try:
                    workers = client.nthreads().keys()
                    bar.set_postfix(workers=len(workers))
                    free = workers - {work.worker for work in given.values()}
                    while waiting and free and not stopped:
                        work = waiting.popleft()
                        work.worker = free.pop()
                        given[client.submit(*work.call(name, is_sent), pure=False, workers=work.worker)] = work
                    if not given and (stopped or not waiting):
                        break
                    for future in _finished(given):
                        outcome = given[future].outcome(future, is_sent)
                        if outcome is not None:
                            bar.update(len(given.pop(future).task))
                            yield outcome
                    for future in [future for future, work in given.items() if work.worker not in workers]:
                        future.cancel()
                        work = given.pop(future)
                        work.lost += 1
                        if work.lost < _MAX_LOST:
                            waiting.appendleft(work)
                        else:
                            bar.update(len(work.task))
                            yield work.failed(work.lost)
                except KeyboardInterrupt:
                    if stopped:
                        break
                    say("Stopping: what is being searched is finished first. Ctrl-C again leaves it.")
                    stopped = True
        yield Outcome(stopped=stopped)
        client.unregister_worker_plugin(name)


def _finished(given: Collection[distributed.Future]) -> Iterable[distributed.Future]:
    """The first of the futures to finish, or none if that takes long: workers come and go meanwhile."""
    if not given:
        time.sleep(_LOOK_SECONDS)
        return ()
    try:
        return distributed.wait(list(given), timeout=_LOOK_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return ()
    except distributed.CancelledError:
        raise ClusterError(_LOST) from None


def job_script(system: str | None) -> str:
    """What would be submitted to a system for each of its jobs."""
    if system not in SYSTEMS:
        raise SettingError(f"--dry-run shows what a system is asked for: --cluster {', '.join(SYSTEMS)}.")
    with _system(system) as cluster:
        return cluster.job_script()


@contextlib.contextmanager
def _client(options: SearchOptions) -> Iterator[distributed.Client]:
    """A client of the cluster that is asked for, with at least one worker; a cluster of our own ends with it."""
    where = options.cluster
    cluster: contextlib.AbstractContextManager
    if where is None:
        # One thread each: a search brings threads of its own.
        cluster = distributed.LocalCluster(
            n_workers=worker_count(options.workers), threads_per_worker=1, dashboard_address=":0",
            silence_logs=logging.ERROR,
        )  # fmt: skip
    elif where in SYSTEMS:
        cluster = system = _system(where)
        system.scale(jobs=worker_count(options.workers))
    elif "://" in where:
        cluster = contextlib.nullcontext(where)  # not ours to end
    else:
        raise SettingError(f"A cluster is {', '.join(SYSTEMS)} or a scheduler's address, not {where}.")
    with cluster as address:
        try:
            client = distributed.Client(address, timeout=_CONNECT_SECONDS)
        except OSError:
            raise ClusterError(f"No scheduler answers at {where}: start one with dask scheduler.") from None
        try:
            with client:
                say("waiting for a worker …")
                client.wait_for_workers(1)
                yield client
        except CommClosedError:
            raise ClusterError(_LOST) from None


def _system(name: str):
    """The cluster of a system, which has no workers yet."""
    try:
        import dask_jobqueue
    except ModuleNotFoundError:
        raise SettingError('A cluster\'s system needs dask-jobqueue: pip install "ex5lib[cluster]".') from None
    try:
        return getattr(dask_jobqueue, SYSTEMS[name])()
    except ValueError as error:  # what every job needs is missing
        raise SettingError(f"{error} Write it to jobqueue.yaml, section {name}.") from None


def worker_count(asked: str | None) -> int:
    """The number of workers: the one asked for or, for "auto", one per GPU, else what cores and memory allow.

    Raises:
        SettingError: if it is not a number from 1 up.
    """
    if asked not in (None, "auto"):
        if not asked.isdecimal() or int(asked) < 1:
            raise SettingError(f"The number of workers must be 1 or more, or auto, not {asked}.")
        return int(asked)
    room = int(psutil.virtual_memory().available / 2**30 / _GIBIBYTES)
    return torch.cuda.device_count() or max(1, min(_cores() // 2, room))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def code_digest() -> str:
    """SHA-256 of this program: its sources, and with them the digests of all weights."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        folder = Path(__file__).parents[2] / package
        for path in sorted(folder.rglob("*.py")) + sorted(folder.rglob("*.toml")):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _check_code(client: distributed.Client) -> None:
    try:
        digests = client.run(code_digest)
    except (ImportError, AttributeError) as error:
        raise ClusterError(f"A worker lacks this program ({error}): install ex5lib there, in this version.") from None
    if others := sorted(address for address, digest in digests.items() if digest != code_digest()):
        raise ClusterError(f"Another version of this program runs on {', '.join(others)}: install this one there.")


class _Searching(distributed.WorkerPlugin):
    """What every worker gets, also one that joins later: the job, and its share of the machine."""

    def __init__(self, job: Job):
        self.job, self.digest = job, code_digest()
        is_local = job.options.cluster is None
        self.threads = max(1, _cores() // worker_count(job.options.workers)) if is_local else None
        self.picks_gpu = is_local and job.options.device in ("auto", "cuda")

    async def setup(self, worker: distributed.Worker) -> None:
        if code_digest() != self.digest:
            raise ClusterError(f"Another version of this program runs on {worker.address}: install the client's there.")
        torch.set_num_threads(self.threads or worker.state.nthreads)
        # A search's memory is no data of Dask's, and some stays with the process: paused, a worker would wait for ever.
        worker.memory_manager.memory_pause_fraction = False
        if self.picks_gpu and torch.cuda.is_available():
            self.job.options.device = f"cuda:{int(worker.name) % torch.cuda.device_count()}"


def _search(name: str, task: Task) -> Outcome:
    """On a worker: search a task with the plugin of a name."""
    worker, quiet = distributed.get_worker(), io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        outcome = cast(_Searching, worker.plugins[name]).job.search(task)
    outcome.messages = {photo: f"{text} (on {worker.address})" for photo, text in outcome.messages.items()}
    return outcome


@dataclass(frozen=True)
class _Sent:
    """A photo's file, or one of a result's, on its way."""

    name: str  # relative to its folder
    content: bytes

    @classmethod
    def of(cls, path: Path, folder: Path | None = None) -> "_Sent":
        content = b""
        with contextlib.suppress(OSError):  # what cannot be read here is no image there, and is reported as such
            content = path.read_bytes()
        return cls(path.relative_to(folder or path.parent).as_posix(), content)


def _search_sent(name: str, photos: list[_Sent]) -> tuple[Outcome, list[list[_Sent]]]:
    """The same with photos and results that travel: the outcome, and the files of each photo's result."""
    with tempfile.TemporaryDirectory() as here:
        task = []
        for i, photo in enumerate(photos):
            folder = Path(here, str(i))
            folder.mkdir()
            (folder / photo.name).write_bytes(photo.content)
            task.append((folder / photo.name, folder / "found"))
        outcome = _search(name, task)
        found = [[_Sent.of(p, place) for p in sorted(place.rglob("*")) if p.is_file()] for _, place in task]
        return outcome, found


@dataclass
class _Work:
    """A task, the worker that has it, and how many have ended over it."""

    task: Task
    worker: str = ""
    lost: int = 0

    def call(self, name: str, is_sent: bool) -> tuple:
        """The function that a worker calls, and its arguments."""
        return (
            (_search_sent, name, [_Sent.of(photo) for photo, _ in self.task]) if is_sent else (_search, name, self.task)
        )

    def failed(self, ended: int) -> Outcome:
        """The outcome of a task that has ended so many workers."""
        reason = f"It ended {ended} workers, the last {self.worker}: look at its log, it may need more memory."
        return Outcome({photo: "failed" for photo, _ in self.task}, {photo: reason for photo, _ in self.task})

    def outcome(self, future: distributed.Future, is_sent: bool) -> Outcome | None:
        """What became of the task, or None if it does not come; results that were sent are written."""
        try:
            result = future.result(timeout=_FETCH_SECONDS[is_sent])
        except TimeoutError:  # the worker died with it, or the network is slow
            return None
        except distributed.KilledWorker as error:  # workers that came back at the same address
            return self.failed(error.allowed_failures + 1)
        if not is_sent:
            return result
        outcome, found = result
        for (_, folder), files in zip(self.task, found, strict=True):
            results.receive(folder, {file.name: file.content for file in files})
        for kept in (outcome.outcomes, outcome.messages):  # there, photos lie in folders that are numbers
            for path in list(kept):
                kept[self.task[int(path.parent.name)][0]] = kept.pop(path)
        return outcome

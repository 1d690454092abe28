"""Marking a class's notebooks, one notebook after the other, with everything that was marked before kept."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import nbformat

import ex5lib
from ex5lib.course.handin import OPTIONAL
from ex5lib.errors import CheckFailed, FileError
from ex5lib.files import check_writable, replacing
from scripts.assignment import solution_copy
from scripts.marking.attempt import Prepared
from scripts.marking.handins import HandIn, parse, read_hand_ins
from scripts.marking.results import Marked, marked, unmarked, write_results
from scripts.marking.running import Limits, Run, run_all
from scripts.marking.scheme import Scheme


def mark_class(
    folder: Path, out: Path, limits: Limits, *, notebooks: Path, data: Path, say: Callable[[str], None]
) -> dict[str, float]:
    """Mark the hand-ins in a folder, and write the results to ``out``; returns the sum of each hand-in.

    Args:
        notebooks: folder of the notebooks with solutions and checks.
        data: the folder that notebooks find as ../data.
        say: called with a line for each notebook that was marked.

    Raises:
        FileError: if there are no hand-ins, or ``out`` cannot be written to.
        CheckFailed: if the solutions do not pass their own checks on this machine.
    """
    if not folder.is_dir():
        raise FileError(f"There is no folder {folder}: name the one with the hand-ins.")
    out, data = out.absolute(), data.absolute()
    check_writable(out)
    graded = [path for path in sorted(notebooks.glob("*.ipynb")) if path.stem not in OPTIONAL]
    schemes = [Scheme(path.stem, nbformat.read(path, as_version=4)) for path in graded]
    hand_ins = read_hand_ins(folder, [scheme.notebook for scheme in schemes])
    if not hand_ins:
        raise FileError(f"There are no hand-ins in {folder}: it must hold a zip or a folder for each student.")
    results: dict[str, dict[str, Marked]] = {hand_in.name: {} for hand_in in hand_ins}
    here = Path.cwd()
    os.chdir(data)  # from where it is ../data, as the set-up expects
    try:
        for scheme in schemes:
            began, count = time.perf_counter(), 0
            for hand_in, made in _waiting(scheme, hand_ins, results, out / "kept", limits, data):
                results[hand_in.name][scheme.notebook] = made
                count += 1
            say(f"{scheme.notebook}: {count} of {len(hand_ins)} were marked, in {time.perf_counter() - began:.0f} s")
    finally:
        os.chdir(here)
    return write_results(out, schemes, [(hand_in, results[hand_in.name]) for hand_in in hand_ins])


def _waiting(
    scheme: Scheme,
    hand_ins: Sequence[HandIn],
    results: dict[str, dict[str, Marked]],
    kept: Path,
    limits: Limits,
    data: Path,
) -> Iterator[tuple[HandIn, Marked]]:
    """Mark one notebook of those whose mark is not known, and keep it; the others go to ``results`` at once."""
    runs: list[tuple[Run, HandIn, Path]] = []
    asked = json.dumps([scheme.source, limits.seconds, limits.gigabytes, _library()]).encode()
    for hand_in in hand_ins:
        if scheme.notebook not in hand_in.notebooks:
            results[hand_in.name][scheme.notebook] = unmarked(scheme, "the notebook is absent")
            continue
        content = hand_in.notebooks[scheme.notebook]
        place = kept / f"{hashlib.sha256(asked + content).hexdigest()}.json"
        if place.is_file():
            results[hand_in.name][scheme.notebook] = Marked.from_json(json.loads(place.read_text(encoding="utf-8")))
            continue
        try:
            runs.append((Run(scheme.plan(parse(content))), hand_in, place))
        except Exception as error:  # whatever a damaged file makes of it
            found = f"it is no notebook ({type(error).__name__}: {str(error)[:100]})"
            reason = str(error) if isinstance(error, FileError) else found
            results[hand_in.name][scheme.notebook] = unmarked(scheme, reason, [reason])
    if not runs:
        return
    prepared = _prepared(scheme, data)
    places = {id(run): (hand_in, place) for run, hand_in, place in runs}
    for run in run_all(prepared, [run for run, *_ in runs], limits, data):
        hand_in, place = places[id(run)]
        made = marked(scheme, run)
        with replacing(place) as temporary:
            temporary.write_text(json.dumps(asdict(made)), encoding="utf-8")
        yield hand_in, made


def _library() -> str:
    """A digest of the code by which marks come about, besides the notebooks' own."""
    packages = Path(ex5lib.__file__).parent, Path(__file__).parent
    code = (path.read_bytes() for package in packages for path in sorted(package.rglob("*.py")))
    return hashlib.sha256(b"".join(code)).hexdigest()


def _prepared(scheme: Scheme, data: Path) -> Prepared:
    """A notebook's set-up; CheckFailed if the sample solutions do not pass with it."""
    prepared = Prepared(scheme)
    (run,) = run_all(prepared, [Run(scheme.plan(solution_copy(scheme.source)))], Limits(jobs=1, seconds=600), data)
    for mark in marked(scheme, run).marks:
        if mark.points < mark.of:
            raise CheckFailed(f"The sample solution of {scheme.notebook} fails {mark.check} here: {mark.said}.")
    return prepared

"""Mark a class.

    python -m scripts.marking FOLDER

FOLDER holds one zip or folder for each student, or one student's notebooks. Written to --out: marks.csv, a page for
each student in feedback/, answers.md with what students answered in words, and read.csv with everything that a person
must look at; points that are filled in there count the next time. What was marked before and has not changed is not
marked again. Run it in a container or an account of its own: students' code runs with your rights.
"""

import os

# Before anything imports torch: a process that has threads, or uses a GPU, cannot be forked.
os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "EX5_RECIPE": "smoke", "MPLBACKEND": "Agg"}

import argparse
import sys
from functools import partial
from pathlib import Path

import psutil

from ex5lib.errors import Ex5Error, sentence
from scripts.assignment import ROOT, SOURCES
from scripts.marking.marking import mark_class
from scripts.marking.running import Limits


def main() -> None:
    """Run the command."""
    usual = Limits()
    parser = argparse.ArgumentParser("python -m scripts.marking", description=__doc__.partition("\n\n")[2])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("marks"), help="folder to write to; default: %(default)s")
    parser.add_argument("--jobs", type=int, help="students at a time; default: 2 if memory allows")
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of a processor, for a cell; default: %(default)s"
    )
    parser.add_argument("--gigabytes", type=float, default=usual.gigabytes, help="for a student; default: %(default)s")
    parser.add_argument("--notebooks", type=Path, default=SOURCES, help="the notebooks with the solutions")
    options = parser.parse_args()
    if not hasattr(os, "fork"):
        sys.exit("Marking needs Linux or macOS: on Windows, run it in WSL or a container.")
    room = psutil.virtual_memory().available / 2**30 / (options.gigabytes + 1)
    limits = Limits(options.seconds, options.gigabytes, options.jobs or max(1, min(2, int(room))))
    try:
        mark_class(
            options.folder,
            options.out,
            limits,
            notebooks=options.notebooks,
            data=ROOT / "data",
            say=partial(print, flush=True),
        )
    except (Ex5Error, OSError) as error:
        sys.exit(sentence(error))


if __name__ == "__main__":
    main()

"""Read mutated weights files for as long as one likes: python tests/fuzz_checkpoints.py [suffix] [examples].

The suffix is .pkl, -tensorflow.pkl, .pt or .safetensors.
"""

import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from test_checkpoints import is_read, mutations, small_files


def main(suffix: str = ".pkl", examples: str = "10000"):
    warnings.simplefilter("ignore")
    outcomes: Counter = Counter()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:

        @settings(
            max_examples=int(examples),
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(content=mutations(small_files()[suffix]))
        def read(content):
            outcomes[is_read(Path(folder) / f"mutated{suffix}", content)] += 1

        read()
    seconds = time.perf_counter() - start
    print(f"{outcomes.total():,} streams in {seconds:.0f} s: {outcomes[True]:,} read, {outcomes[False]:,} refused")


if __name__ == "__main__":
    main(*sys.argv[1:])

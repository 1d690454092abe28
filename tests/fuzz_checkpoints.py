"""Read mutated snapshots for as long as one likes: python tests/fuzz_checkpoints.py [number of examples]."""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from test_checkpoints import mutations, only_a_result_or_a_refusal


def main(examples: int):
    outcomes: Counter = Counter()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(content=mutations())
        def read(content):
            outcomes[only_a_result_or_a_refusal(Path(folder) / "mutated.pkl", content)] += 1

        read()
    seconds = time.perf_counter() - start
    print(f"{outcomes.total():,} streams in {seconds:.0f} s: {outcomes[True]:,} read, {outcomes[False]:,} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)

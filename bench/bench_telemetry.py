"""The whole pipeline, for pytest-benchmark: f1buf's, the plain pattern, and f1buf's on a queue.Queue of arrays.

Their speed is the extra information ``a_second``: each runs for a fixed time.

    python -m pytest bench/bench_telemetry.py
"""

import pytest
from bench_ring import measure
from workloads import pipeline


@pytest.mark.parametrize("kind", ["f1buf", "plain", "queue.Queue of arrays"])
def test_pipeline(benchmark, kind):
    measure(benchmark, pipeline, kind, 0.5)

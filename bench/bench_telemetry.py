"""The whole pipeline, for pytest-benchmark: f1buf's, the plain pattern, and f1buf's on a queue.Queue of arrays.

Their speed is the extra information ``a_second``: each runs for a fixed time.

    python -m pytest bench/bench_telemetry.py
"""

import pytest
from bench_ring import measure
from pipelines import PIPELINES, Pipeline
from workloads import pipeline


@pytest.mark.parametrize("kind", PIPELINES)
def test_pipeline(benchmark, kind):
    measure(benchmark, pipeline, Pipeline(kind), 0.5)

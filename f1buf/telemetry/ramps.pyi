import numpy as np
from numpy.typing import NDArray

def write_ramps(
    out: NDArray[np.void],
    start: int,
    stop: int,
    sensor_id: int,
    channel: int,
    number: int,
    rate: float,
    knots: NDArray[np.float64],
    steps: int,
    place: int,
) -> None: ...
def ease(
    knots: NDArray[np.float64],
    seconds: float,
    number: int,
    times: NDArray[np.float64],
    levels: NDArray[np.float64],
    low: float,
    high: float,
) -> int: ...

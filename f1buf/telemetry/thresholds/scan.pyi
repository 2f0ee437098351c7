from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from f1buf.telemetry.thresholds.check import DampedFound, Found, Rule, Run

@disjoint_base
class Scan:
    def __init__(self, rules: Sequence[Rule], kinds: tuple[type[Found], type[DampedFound], type[Run]]) -> None: ...
    def scan(self, readings: NDArray[np.void]) -> tuple[NDArray[np.intp], dict[int, Found | DampedFound]]: ...

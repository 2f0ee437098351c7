"""The record that the telemetry system moves: one reading of one sensor."""

import numpy as np

READING = np.dtype(
    [
        ("timestamp", "f8"),  # [s]: n / rate, session time or Unix time, by where the reading comes from
        ("sensor_id", "u4"),  # one number a physical series: each wheel and each axis has its own
        ("channel", "u2"),  # Channel.number: what is measured
        ("flags", "u2"),  # 0, or what the source says of it: replayed readings, the number of their set of drivers
        ("value", "f8"),  # in the channel's unit
    ]
)
"""24 bytes, packed; see the comments above for the units."""

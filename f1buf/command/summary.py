"""The summary of a run for people, and durations as people read them."""

from collections.abc import Sequence
from typing import Any

from f1buf.telemetry import Summary


def summary_lines(summary: Summary, capacity: int, further: Sequence[str]) -> list[str]:
    """Return the summary line by line; `further` is what the input and the recorder add."""
    buffer = summary.buffer
    p50, p99, longest = (short_time(summary.latency_s[name]) for name in ("p50", "p99", "max"))
    lines = [
        "",
        f"readings   {summary.readings:,} made, {summary.analysed:,} analysed, {summary.dropped:,} dropped",
        f"rate       {summary.readings_per_s:,.0f} readings/s over {summary.seconds:.3f} s",
        f"latency    {p50} p50, {p99} p99, {longest} max from put to check",
        f"buffer     {buffer.high_water:,} of {capacity:,} at most; "
        f"puts waited {buffer.put_waits:,} times ({buffer.put_wait_seconds:.3f} s), "
        f"gets {buffer.get_waits:,} times ({buffer.get_wait_seconds:.3f} s)",
        *further,
        "alerts" if summary.thresholds else "alerts     none: there are no thresholds (--thresholds FILE)",
    ]
    for each in summary.thresholds:
        side, sign = ("above", ">") if "above" in each else ("below", "<")
        limit = f"{'|x| ' if each.get('absolute') else ''}{sign} {each[side]:g}"
        lines.append(
            f"  {each['channel']:<14} {limit:<10} {each['rises']:>9,} rises  {each['samples']:>12,} samples  "
            f"{each['message']}{_damping(each)}"
        )
    return lines


def _damping(threshold: dict[str, Any]) -> str:
    said = [f"hysteresis {threshold['hysteresis']:g}"] if "hysteresis" in threshold else []
    said += [f"for {threshold['min_duration']:g} s"] if "min_duration" in threshold else []
    return f" ({', '.join(said)})" if said else ""


def short_time(seconds: float | None) -> str:
    """Return a duration [s] for people; ``"-"`` for none."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"

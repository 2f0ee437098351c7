# distutils: language = c++
"""Writing simulated readings: one pass over a batch, without the GIL.

A simulated series is linear between knots, which are equally many readings apart. `write_ramps` writes readings of such
a series, all fields at once; `ease` works out the knots.
What they compute, and in which order, is as numpy would do it, one operation after the other, without a fused multiply
and add (see setup.py): so a seed gives the same readings everywhere, to the last bit.
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

cdef extern from "telemetry/reading.hpp" namespace "f1buf":
    ctypedef struct Reading:
        double timestamp
        uint32_t sensor_id
        uint16_t channel
        uint16_t flags
        double value

cdef extern from "core/arrays.hpp" namespace "f1buf":
    char* data_of(object) noexcept
    uint64_t length_of(object) noexcept

# Below so many readings the GIL is kept: 20 us of work, which is what it often takes to get it back from another
# thread.
cdef Py_ssize_t MANY = 8192


cdef struct Series:
    uint32_t sensor_id
    uint16_t channel
    double rate         # [Hz]
    const double* knots
    Py_ssize_t steps    # readings from one knot to the next


def write_ramps(out, Py_ssize_t start, Py_ssize_t stop, uint32_t sensor_id, uint16_t channel, int64_t number,
                double rate, knots, Py_ssize_t steps, Py_ssize_t place):
    """
    Write readings `start` to `stop` of `out`.

    Parameters
    ----------
    out : ndarray of READING, contiguous
        Its other readings stay as they are.
    start, stop : int
        Of the readings.
    sensor_id, channel : int
        Of all of them.
    number : int
        The first one's in the series: its time is ``number / rate``.
    rate : float
        Readings a second [Hz].
    knots : ndarray of float64, contiguous
        The values between which the readings lie.
    steps : int
        Readings from one knot to the next.
    place : int
        Of the first one to be written, counted from the first knot.

    Raises
    ------
    IndexError
        They are more than there is room for, or lie beyond the last knot. (For `SimulatedSensor` alone: the kinds of
        the arrays are not looked at.)
    """
    if not 0 <= start <= stop <= <Py_ssize_t> length_of(out):
        raise IndexError(f"readings {start} to {stop} of {length_of(out)}")
    if not 0 <= place <= (<Py_ssize_t> length_of(knots) - 1) * steps - (stop - start):
        raise IndexError(f"{stop - start} readings from {place} on; {length_of(knots)} knots, {steps} readings apart")
    cdef Series series = Series(sensor_id, channel, rate, <const double*> data_of(knots), steps)
    cdef Reading* readings = <Reading*> data_of(out) + start
    if stop - start < MANY:
        write(&series, readings, stop - start, number, place)
    else:
        with nogil:
            write(&series, readings, stop - start, number, place)


cdef void write(const Series* series, Reading* out, Py_ssize_t n, int64_t number, Py_ssize_t place) noexcept nogil:
    cdef Py_ssize_t knot = place // series.steps
    cdef Py_ssize_t step = place % series.steps
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t count
    while done < n:
        count = min(n - done, series.steps - step)
        write_ramp(series, out + done, count, number + done, knot, step)
        done += count
        knot += 1
        step = 0


cdef inline void write_ramp(const Series* series, Reading* out, Py_ssize_t n, int64_t number, Py_ssize_t knot,
                            Py_ssize_t step) noexcept nogil:
    cdef double first = series.knots[knot]
    cdef double slope = (series.knots[knot + 1] - first) / <double> series.steps
    cdef double rate = series.rate
    cdef Py_ssize_t i
    for i in range(n):
        out[i].timestamp = <double> (number + i) / rate
        out[i].sensor_id = series.sensor_id
        out[i].channel = series.channel
        out[i].flags = 0
        out[i].value = slope * <double> (step + i) + first


def ease(knots, double seconds, int64_t number, times, levels, double low, double high):
    """
    Add a motion to what deviates from it: it eases from each waypoint to the next, with a slope of 0 at each.

    Parameters
    ----------
    knots : ndarray of float64, shape (n,), contiguous
        By how much each deviates; then its value, at ``(number + i) * seconds``.
    seconds : float
        From one knot to the next [s].
    number : int
        Of the first knot.
    times, levels : ndarray of float64, contiguous
        The waypoints, at least two. The times rise; the first is not beyond the first knot's time, the last is beyond
        the last one's.
    low, high : float
        Within which the values stay.

    Returns
    -------
    int
        The waypoint from which the last value has come.

    Raises
    ------
    IndexError
        There are not as many levels as times. (For `SimulatedSensor` alone: the kinds of the arrays are not looked at.)
    """
    cdef Py_ssize_t n = length_of(knots)
    cdef double* values = <double*> data_of(knots)
    cdef const double* at = <const double*> data_of(times)
    cdef const double* level = <const double*> data_of(levels)
    cdef Py_ssize_t last_but_one = <Py_ssize_t> length_of(times) - 2
    cdef Py_ssize_t before = 0
    cdef Py_ssize_t i
    cdef double time, share, value
    if last_but_one < 0 or length_of(levels) != length_of(times):
        raise IndexError(f"{length_of(times)} times with {length_of(levels)} levels")
    with nogil:
        for i in range(n):
            time = <double> (number + i) * seconds
            while before < last_but_one and at[before + 1] <= time:
                before += 1
            share = (time - at[before]) / (at[before + 1] - at[before])
            share *= share * (3.0 - 2.0 * share)
            value = level[before] + (level[before + 1] - level[before]) * share + values[i]
            values[i] = min(max(value, low), high)
    return before

# distutils: language = c++
"""Writing simulated readings: one pass over a batch, without the GIL.

A simulated series is linear between knots: it consists of *stretches* of equally many readings, each with a value at
its start and a slope. `write_ramps` writes readings of such a series, all fields at once; `ease` works out the knots.
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

# Below so many readings the GIL is kept: 10 us of work, less than it may take to get it back from another thread.
cdef Py_ssize_t MANY = 4096


cdef struct Series:
    uint32_t sensor_id
    uint16_t channel
    double rate         # [Hz]
    const double* starts
    const double* slopes
    Py_ssize_t steps    # readings a stretch


def write_ramps(out, Py_ssize_t start, Py_ssize_t stop, uint32_t sensor_id, uint16_t channel, int64_t number,
                double rate, starts, slopes, Py_ssize_t steps, Py_ssize_t place):
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
    starts, slopes : ndarray of float64, contiguous
        Each stretch's first value, and by how much the next ones rise.
    steps : int
        Readings in each stretch.
    place : int
        Of the first one to be written, counted from the start of stretch 0.

    Raises
    ------
    IndexError
        They are more than there is room for, or than the stretches have. (For `SimulatedSensor` alone: the kinds of the
        arrays are not looked at.)
    """
    if not 0 <= start <= stop <= <Py_ssize_t> length_of(out):
        raise IndexError(f"readings {start} to {stop} of {length_of(out)}")
    if not 0 <= place <= <Py_ssize_t> min(length_of(starts), length_of(slopes)) * steps - (stop - start):
        raise IndexError(f"{stop - start} readings from {place} on, of {length_of(starts)} stretches of {steps}")
    cdef Series series = Series(
        sensor_id, channel, rate, <const double*> data_of(starts), <const double*> data_of(slopes), steps
    )
    cdef Reading* readings = <Reading*> data_of(out) + start
    if stop - start < MANY:
        write(&series, readings, stop - start, number, place)
    else:
        with nogil:
            write(&series, readings, stop - start, number, place)


cdef void write(const Series* series, Reading* out, Py_ssize_t n, int64_t number, Py_ssize_t place) noexcept nogil:
    cdef Py_ssize_t stretch = place // series.steps
    cdef Py_ssize_t step = place % series.steps
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t count
    while done < n:
        count = min(n - done, series.steps - step)
        write_stretch(series, out + done, count, number + done, stretch, step)
        done += count
        stretch += 1
        step = 0


cdef inline void write_stretch(const Series* series, Reading* out, Py_ssize_t n, int64_t number, Py_ssize_t stretch,
                               Py_ssize_t step) noexcept nogil:
    cdef double first = series.starts[stretch]
    cdef double slope = series.slopes[stretch]
    cdef double rate = series.rate
    cdef Py_ssize_t i
    for i in range(n):
        out[i].timestamp = <double> (number + i) / rate
        out[i].sensor_id = series.sensor_id
        out[i].channel = series.channel
        out[i].flags = 0
        out[i].value = slope * <double> (step + i) + first


def ease(out, double seconds, int64_t number, times, levels):
    """
    Work out a motion at equal steps of time: it eases from each waypoint to the next, with a slope of 0 at each.

    Parameters
    ----------
    out : ndarray of float64, shape (n,), contiguous
        The values, at ``(number + i) * seconds``.
    seconds : float
        Between two of them [s].
    number : int
        Of the first one.
    times, levels : ndarray of float64, contiguous
        The waypoints, at least two. The times rise; the first is not beyond the first value's time, the last is beyond
        the last one's.

    Returns
    -------
    int
        The waypoint from which the last value has come.

    Raises
    ------
    IndexError
        There are not as many levels as times. (For `SimulatedSensor` alone: the kinds of the arrays are not looked at.)
    """
    cdef Py_ssize_t n = length_of(out)
    cdef double* values = <double*> data_of(out)
    cdef const double* at = <const double*> data_of(times)
    cdef const double* level = <const double*> data_of(levels)
    cdef Py_ssize_t last_but_one = <Py_ssize_t> length_of(times) - 2
    cdef Py_ssize_t before = 0
    cdef Py_ssize_t i
    cdef double time, share
    if last_but_one < 0 or length_of(levels) != length_of(times):
        raise IndexError(f"{length_of(times)} times with {length_of(levels)} levels")
    with nogil:
        for i in range(n):
            time = <double> (number + i) * seconds
            while before < last_but_one and at[before + 1] <= time:
                before += 1
            share = (time - at[before]) / (at[before + 1] - at[before])
            share *= share * (3.0 - 2.0 * share)
            values[i] = level[before] + (level[before + 1] - level[before]) * share
    return before

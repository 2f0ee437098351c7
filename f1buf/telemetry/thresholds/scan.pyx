# distutils: language = c++
"""Scanning one batch for what is over: the compiled part of `ThresholdTable.check`.

Two steps, both without the GIL where the batch is large. Nothing of Python is touched meanwhile, and no result is kept
(only memory, which one thread at a time has): any number of threads may scan with the same `Scan`.

1. The *screen* counts the readings of each channel, and those outside the limits of their channel: within these a
   reading is neither over any threshold nor held. It decides most batches, at less than a nanosecond a reading.
2. Where there are some, the *closer look*: the readings of each series that has one outside are put together, in the
   stream's order, and each rule of the channel goes through them once.
"""

from libc.math cimport INFINITY, NAN, fabs, fmin
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.algorithm cimport sort
from libcpp.vector cimport vector

import numpy as np

cdef extern from "telemetry/reading.hpp" namespace "f1buf":
    ctypedef struct Reading:
        double timestamp
        uint32_t sensor_id
        uint16_t channel
        uint16_t flags
        double value
    Reading differences(const Reading*, Py_ssize_t) noexcept nogil

cdef extern from "core/arrays.hpp" namespace "f1buf":
    char* data_of(object) noexcept
    uint64_t length_of(object) noexcept
    bint is_in_one_piece(object) noexcept

cdef object empty = np.empty
cdef object intp = np.dtype(np.intp)

cdef enum:
    CHANNELS = 65536     # READING.channel is u2
    BLOCK = 64           # readings that are screened at once
    MOST_KEPT = 1 << 17  # positions, and samples and parts of all rules: 1 MB of each of the first two
    MANY = 2048          # readings; of fewer the GIL is kept: 5 us of work, less than getting it back may take
    SENSOR_BITS = 32     # of a series' key: its channel's number above its sensor's


cdef struct Limits:
    # Of a channel. NaN compares as within.
    double low
    double high
    uint32_t place       # where its readings are counted; 0: the place of all channels without a rule


cdef struct Rule:
    uint16_t channel
    bint damped
    bint above           # or below
    bint absolute
    double limit
    double release
    double min_duration  # [s]


cdef struct Series:
    # The readings of one sensor on one channel, as they lie in `Look.positions`.
    uint64_t key
    Py_ssize_t start
    Py_ssize_t stop


cdef struct Stretch:
    # Readings of one series in a row in the batch.
    Py_ssize_t series
    Py_ssize_t start
    Py_ssize_t stop


cdef struct Part:
    # What one rule finds in one series. Indices are those of `Look.positions`.
    uint32_t sensor
    Py_ssize_t opened    # its first reading, where that is over (held, if the rule is damped); or -1
    Py_ssize_t rise      # damped: the first reading of that run that counts if nothing was over before; or `stop`
    Py_ssize_t stop      # damped: where that run stops
    bint goes_on         # damped: whether that is the series' last reading
    bint lasts           # whether the series is over behind its last reading, if it was not before
    bint counts          # and whether that counts already; it does at once, unless the rule has a minimum duration
    double lowest        # else the lowest timestamp of the stretch


cdef struct Finding:
    # What one rule finds in a batch: ranges of `Look.parts`, `samples` and `rises`, and of `positions`.
    int rule
    bint over            # whether a reading is beyond the limit
    Py_ssize_t parts, samples, rises          # where they start; they stop where the next finding's start
    Py_ssize_t start, stop                    # the readings that were looked at


cdef cppclass Look:
    # A closer look, as it grows.
    vector[Py_ssize_t] blocks      # where those of the screen start that have a reading outside
    vector[uint64_t] keys          # a hash table, of series with a reading outside; NO_KEY: free
    vector[Py_ssize_t] numbers     # and which of `series` each is
    vector[Series] series
    vector[Stretch] stretches      # of readings of these series, in the batch's order
    vector[Py_ssize_t] positions   # in the batch, series by series; never cleared: `resize` would write zeros
    vector[Py_ssize_t] samples     # positions in the batch
    vector[Py_ssize_t] rises
    vector[Part] parts
    vector[Finding] findings

    void clear() noexcept nogil:
        blocks.clear()
        series.clear()
        stretches.clear()
        samples.clear()
        rises.clear()
        parts.clear()
        findings.clear()


cdef class _Room:
    # Memory for closer looks, one at a time. Kept: a large look's memory would come from the system, and go back to it,
    # each time, which took more than half of the time.
    cdef Look look


cdef uint64_t NO_KEY = 1 << 63  # above all keys


cdef class Scan:
    """Scan(rules, kinds)\n--\n
    A table's rules, ready to scan batches.

    Parameters
    ----------
    rules : sequence of Rule
        Of a `ThresholdTable`, as it has them.
    kinds : tuple
        What to make of findings: `Found`, `DampedFound` and `Run`.
    """

    cdef vector[Limits] limits       # by channel
    cdef vector[Rule] rules
    cdef vector[uint32_t] places     # by rule, its channel's
    cdef Py_ssize_t counters         # places there are
    cdef list rooms                  # that nobody uses now
    cdef object found, damped_found, run

    def __init__(self, rules, kinds):
        cdef Limits nothing = Limits(-float("inf"), float("inf"), 0)
        cdef Rule one
        self.found, self.damped_found, self.run = kinds
        self.limits.assign(CHANNELS, nothing)
        self.rules.clear()
        self.places.clear()
        self.counters = 1
        self.rooms = []
        for rule in rules:
            threshold = rule.threshold
            one = Rule(
                rule.channel, rule.damped, threshold.side == "above", threshold.absolute, threshold.limit,
                threshold.release, threshold.min_duration,
            )
            self.rules.push_back(one)
            narrow(&self.limits[one.channel], &one)
            if self.limits[one.channel].place == 0:
                self.limits[one.channel].place = self.counters
                self.counters += 1
            self.places.push_back(self.limits[one.channel].place)

    def scan(self, readings):
        """
        Scan a batch.

        Parameters
        ----------
        readings : ndarray of READING, shape (n,)
            Not changed. It must not change meanwhile.

        Returns
        -------
        seen : ndarray of intp, shape (rules,)
            How many readings each rule's channel has.
        found : dict
            By the number of the rule, a `Found` or a `DampedFound`; only of rules that found something.
        """
        cdef vector[uint64_t] counts
        cdef Py_ssize_t n = length_of(readings)
        if not is_in_one_piece(readings):
            readings = np.ascontiguousarray(readings)
        cdef const Reading* batch = <const Reading*> data_of(readings)
        counts.resize(self.counters)
        cdef _Room room = self.free_room()
        if n < MANY:
            self.look(batch, n, counts.data(), &room.look)
        else:
            with nogil:
                self.look(batch, n, counts.data(), &room.look)
        seen = empty(<Py_ssize_t> self.rules.size(), intp)
        cdef Py_ssize_t* to = <Py_ssize_t*> data_of(seen)
        cdef size_t i
        for i in range(self.places.size()):
            to[i] = counts[self.places[i]]
        found = self.told(&room.look) if room.look.findings.size() else {}
        self.give_back(room)
        return seen, found

    cdef _Room free_room(self):
        try:
            return self.rooms.pop()
        except IndexError:  # all are in use
            return _Room.__new__(_Room)

    cdef int give_back(self, _Room room) except -1:
        if max(room.look.positions.size(), room.look.samples.size(), room.look.parts.size()) <= MOST_KEPT:
            room.look.clear()
            self.rooms.append(room)
        return 0

    cdef int look(self, const Reading* batch, Py_ssize_t n, uint64_t* counts, Look* look) except -1 nogil:
        screen(self.limits.data(), batch, n, counts, &look.blocks)
        if look.blocks.size():
            gather(self.limits.data(), batch, n, look)
            self.apply_rules(batch, look)
        return 0

    cdef int apply_rules(self, const Reading* batch, Look* look) except -1 nogil:
        """Each rule to its channel's series, which lie together."""
        cdef size_t i, first, stop
        cdef uint64_t channel
        for i in range(self.rules.size()):
            channel = self.rules[i].channel
            first = 0
            while first < look.series.size() and look.series[first].key >> SENSOR_BITS < channel:
                first += 1
            stop = first
            while stop < look.series.size() and look.series[stop].key >> SENSOR_BITS == channel:
                stop += 1
            if first != stop:
                apply_rule(&self.rules[i], i, batch, first, stop, look)
        return 0

    cdef dict told(self, Look* look):
        """What was found, as Python has it."""
        cdef dict found = {}
        cdef Finding end
        cdef size_t i
        end.parts, end.samples, end.rises = look.parts.size(), look.samples.size(), look.rises.size()
        look.findings.push_back(end)
        for i in range(look.findings.size() - 1):
            found[look.findings[i].rule] = self.told_of(look, look.findings[i], look.findings[i + 1])
        return found

    cdef object told_of(self, Look* look, Finding one, Finding behind):
        """One rule's, whose ranges stop where those of the finding behind it start."""
        cdef bint damped = self.rules[one.rule].damped
        cdef dict opened = {}, lasting = {}
        cdef set ended = set()
        cdef Py_ssize_t i
        for i in range(one.parts, behind.parts):
            part = look.parts[i]
            if part.opened >= 0 and damped:
                opened[part.sensor] = self.run(
                    part.opened - one.start, part.rise - one.start, part.stop - one.start, bool(part.goes_on)
                )
            elif part.opened >= 0:
                opened[part.sensor] = look.positions[part.opened]
            if part.lasts:
                lasting[part.sensor] = None if part.counts else part.lowest
            else:
                ended.add(part.sensor)
        samples = array_of(look.samples, one.samples, behind.samples)
        rises = array_of(look.rises, one.rises, behind.rises)
        looked_at = one.stop - one.start
        if not damped:
            return self.found(looked_at, samples, rises, opened, lasting, ended)
        positions = array_of(look.positions, one.start, one.stop)
        return self.damped_found(looked_at, positions, bool(one.over), samples, rises, opened, lasting, ended)


cdef object array_of(const vector[Py_ssize_t]& numbers, Py_ssize_t start, Py_ssize_t stop):
    array = empty(stop - start, intp)
    if stop != start:
        memcpy(data_of(array), numbers.data() + start, (stop - start) * sizeof(Py_ssize_t))
    return array


cdef void narrow(Limits* limits, const Rule* rule) noexcept:
    """Bring the limits to where the rule's readings are held; where it is absolute and below, nearer than that."""
    if not rule.above:
        limits.low = max(limits.low, rule.release)
        return
    limits.high = min(limits.high, rule.release)
    if rule.absolute:
        limits.low = max(limits.low, -rule.release)


# -- the screen ---------------------------------------------------------------------------------------------------

cdef int screen(const Limits* limits, const Reading* batch, Py_ssize_t n, uint64_t* counts,
                vector[Py_ssize_t]* blocks) except -1 nogil:
    """Count the readings of each channel, and note the blocks that have one outside its limits."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t size
    cdef bint outside
    while at < n:
        size = min(n - at, <Py_ssize_t> BLOCK)
        if is_one_channel(batch + at, size):
            outside = screen_one_channel(limits, batch + at, size, counts)
        else:
            outside = screen_mixed(limits, batch + at, size, counts)
        if outside:
            blocks.push_back(at)
        at += size
    return 0


cdef inline bint is_one_channel(const Reading* batch, Py_ssize_t n) noexcept nogil:
    cdef uint16_t channel = batch[0].channel
    if batch[n // 2].channel != channel or batch[n - 1].channel != channel:  # that decides most of those that are mixed
        return False
    return differences(batch, n).channel == 0


cdef inline bint screen_one_channel(const Limits* limits, const Reading* batch, Py_ssize_t n,
                                    uint64_t* counts) noexcept nogil:
    """By the lowest and the highest value; two at a time, since each comparison waits for the one before."""
    cdef const Limits* its = &limits[batch[0].channel]
    cdef double low = INFINITY, other_low = INFINITY, high = -INFINITY, other_high = -INFINITY
    cdef Py_ssize_t i
    counts[its.place] += n
    for i in range(0, n - 1, 2):
        low = batch[i].value if batch[i].value < low else low  # a NaN is not
        high = batch[i].value if batch[i].value > high else high
        other_low = batch[i + 1].value if batch[i + 1].value < other_low else other_low
        other_high = batch[i + 1].value if batch[i + 1].value > other_high else other_high
    return (
        min(low, other_low) < its.low or max(high, other_high) > its.high
        or (n % 2 and is_outside(limits, batch + n - 1))
    )


cdef inline bint screen_mixed(const Limits* limits, const Reading* batch, Py_ssize_t n,
                              uint64_t* counts) noexcept nogil:
    cdef int outside = 0
    cdef Py_ssize_t i
    cdef const Limits* its
    for i in range(n):
        its = &limits[batch[i].channel]
        outside |= <int> (batch[i].value < its.low) | <int> (batch[i].value > its.high)
        counts[its.place] += 1
    return outside


cdef inline bint is_outside(const Limits* limits, const Reading* reading) noexcept nogil:
    cdef const Limits* its = &limits[reading.channel]
    return (reading.value < its.low) | (reading.value > its.high)


# -- the closer look ----------------------------------------------------------------------------------------------

cdef inline uint64_t key_of(const Reading* reading) noexcept nogil:
    return (<uint64_t> reading.channel << SENSOR_BITS) | reading.sensor_id


cdef bint by_key(const Series& one, const Series& other) noexcept nogil:
    return one.key < other.key


cdef inline size_t slot_of(Look* look, uint64_t key) noexcept nogil:
    """Where it is in the hash table, or the free place where it would be. (By Knuth's multiplicative hashing.)"""
    cdef size_t mask = look.keys.size() - 1
    cdef size_t slot = ((key * <uint64_t> 0x9E3779B97F4A7C15) >> 32) & mask
    while look.keys[slot] != key and look.keys[slot] != NO_KEY:
        slot = (slot + 1) & mask
    return slot


cdef int gather(const Limits* limits, const Reading* batch, Py_ssize_t n, Look* look) except -1 nogil:
    """Find the series that have a reading outside, and the positions of all their readings."""
    cdef vector[Py_ssize_t] next_place
    cdef Py_ssize_t place = 0
    cdef Stretch stretch
    cdef size_t i
    find_series(limits, batch, n, look)
    find_stretches(batch, n, look)
    for i in range(look.series.size()):
        look.series[i].start = place
        next_place.push_back(place)
        place += look.series[i].stop
        look.series[i].stop = place
    look.positions.resize(place)
    for i in range(look.stretches.size()):
        stretch = look.stretches[i]
        number_from(look.positions.data() + next_place[stretch.series], stretch.start, stretch.stop)
        next_place[stretch.series] += stretch.stop - stretch.start
    return 0


cdef inline void number_from(Py_ssize_t* to, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(stop - start):
        to[i] = start + i


cdef int find_series(const Limits* limits, const Reading* batch, Py_ssize_t n, Look* look) except -1 nogil:
    """Those with a reading outside, ordered by channel and sensor."""
    cdef uint64_t key, before = NO_KEY
    cdef Py_ssize_t at, i
    resize_table(look, 64)
    for at in look.blocks:
        for i in range(at, min(at + <Py_ssize_t> BLOCK, n)):
            if is_outside(limits, batch + i):
                key = key_of(batch + i)
                if key != before:
                    before = key
                    add_series(look, key)
    sort(look.series.begin(), look.series.end(), by_key)
    for i in range(<Py_ssize_t> look.series.size()):
        look.numbers[slot_of(look, look.series[i].key)] = i
    return 0


cdef int find_stretches(const Reading* batch, Py_ssize_t n, Look* look) except -1 nogil:
    """Their readings: all, not those outside alone. The `stop` of each series becomes how many they are."""
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t stop
    cdef uint64_t key
    cdef size_t slot
    while start < n:
        key = key_of(batch + start)
        stop = stop_of(batch, start, n)
        slot = slot_of(look, key)
        if look.keys[slot] == key:
            look.stretches.push_back(Stretch(look.numbers[slot], start, stop))
            look.series[look.numbers[slot]].stop += stop - start
        start = stop
    return 0


cdef inline Py_ssize_t stop_of(const Reading* batch, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """Where the stretch that begins at `start` stops: most are very short, or long."""
    cdef uint64_t key = key_of(batch + start)
    cdef Py_ssize_t stop = start + 1
    while (
        stop + BLOCK <= n and key_of(batch + stop) == key
        # One load decides most blocks that are mixed: this one is start + 63, another series' where 2, 4, .. 64 of them
        # take turns.
        and key_of(batch + stop + BLOCK - 2) == key
        and is_one_series(batch + stop)
    ):
        stop += BLOCK
    while stop < n and key_of(batch + stop) == key:
        stop += 1
    return stop


cdef inline bint is_one_series(const Reading* block) noexcept nogil:
    cdef Reading found = differences(block, BLOCK)
    return found.sensor_id == 0 and found.channel == 0


cdef int add_series(Look* look, uint64_t key) except -1 nogil:
    cdef size_t slot = slot_of(look, key)
    if look.keys[slot] == key:
        return 0
    look.keys[slot] = key
    look.series.push_back(Series(key, 0, 0))
    if 2 * look.series.size() > look.keys.size():
        resize_table(look, 4 * look.keys.size())
    return 0


cdef int resize_table(Look* look, size_t size) except -1 nogil:
    cdef size_t i
    look.keys.assign(size, NO_KEY)
    look.numbers.assign(size, -1)
    for i in range(look.series.size()):
        look.keys[slot_of(look, look.series[i].key)] = look.series[i].key
    return 0


cdef inline bint is_beyond(const Rule* rule, double limit, double value) noexcept nogil:
    if rule.absolute:
        value = fabs(value)
    return value > limit if rule.above else value < limit


cdef int apply_rule(const Rule* rule, int number, const Reading* batch, size_t first, size_t stop,
                    Look* look) except -1 nogil:
    """Go through the series `first` to `stop`, and note what was found, if anything was."""
    cdef Finding finding
    cdef bint found = False
    cdef size_t i
    finding.rule, finding.over = number, False
    finding.parts, finding.samples, finding.rises = look.parts.size(), look.samples.size(), look.rises.size()
    finding.start, finding.stop = look.series[first].start, look.series[stop - 1].stop
    for i in range(first, stop):
        if rule.damped:
            found |= follow_damped(rule, batch, &look.series[i], look, &finding.over)
        else:
            found |= follow(rule, batch, &look.series[i], look)
    if found:
        look.findings.push_back(finding)
    else:
        look.parts.resize(finding.parts)
    return 0


cdef int follow(const Rule* rule, const Reading* batch, const Series* series, Look* look) except -1 nogil:
    """One series, by its runs of readings that are over; whether there is one."""
    cdef Part part = Part(<uint32_t> series.key, -1, 0, 0, False, False, False, NAN)
    cdef size_t samples = look.samples.size()
    cdef Py_ssize_t i = series.start
    cdef Py_ssize_t start
    while i < series.stop:
        if not is_beyond(rule, rule.limit, batch[look.positions[i]].value):
            i += 1
            continue
        start = i
        while i < series.stop and is_beyond(rule, rule.limit, batch[look.positions[i]].value):
            i += 1
        look.samples.insert(look.samples.end(), look.positions.begin() + start, look.positions.begin() + i)
        if start == series.start:
            part.opened = start
        else:
            look.rises.push_back(look.positions[start])
        part.lasts = part.counts = i == series.stop
    look.parts.push_back(part)
    return look.samples.size() != samples


cdef int follow_damped(const Rule* rule, const Reading* batch, const Series* series, Look* look,
                       bint* over) except -1 nogil:
    """One series, by its runs of readings that are held; whether there is one."""
    cdef Part part = Part(<uint32_t> series.key, -1, 0, 0, False, False, False, NAN)
    cdef bint found = False
    cdef Py_ssize_t i = series.start
    while i < series.stop:
        if is_beyond(rule, rule.release, batch[look.positions[i]].value):
            found = True
            i = follow_run(rule, batch, series, i, look, &part, over)
        else:
            i += 1
    look.parts.push_back(part)
    return found


cdef Py_ssize_t follow_run(const Rule* rule, const Reading* batch, const Series* series, Py_ssize_t start, Look* look,
                           Part* part, bint* over) except -1 nogil:
    """A run from `start` on; returns where it stops.

    It begins to be over with a reading beyond the limit, and counts from the first one on that is `min_duration` later
    than the lowest timestamp since. If it starts with the series' first reading, what came before the batch matters:
    then it is noted as `opened`, else its samples are.
    """
    cdef bint begun = False
    cdef Py_ssize_t rise = -1
    cdef double lowest = NAN
    cdef Py_ssize_t i = start
    cdef const Reading* reading
    while i < series.stop:
        reading = batch + look.positions[i]
        if not is_beyond(rule, rule.release, reading.value):
            break
        begun = begun or is_beyond(rule, rule.limit, reading.value)
        if begun:
            lowest = fmin(lowest, reading.timestamp)
            if rise < 0 and (rule.min_duration == 0.0 or reading.timestamp - lowest >= rule.min_duration):
                rise = i
        i += 1
    over[0] |= begun
    if start == series.start:
        part.opened, part.stop, part.goes_on = start, i, i == series.stop
        part.rise = rise if rise >= 0 else i
    elif rise >= 0:
        look.rises.push_back(look.positions[rise])
        look.samples.insert(look.samples.end(), look.positions.begin() + rise, look.positions.begin() + i)
    if begun and i == series.stop:
        part.lasts, part.counts, part.lowest = True, rise >= 0, lowest
    return i

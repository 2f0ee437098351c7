"""Break the code on purpose, one piece at a time, and see that the tests notice.

    python tools/mutate.py                 every mutant, one after the other: some 20 minutes on two cores
    python tools/mutate.py --only NAME     these mutants, by name; may be given several times
    python tools/mutate.py --list          their names, and what is changed

Each of `MUTANTS` changes one place of the sources, in a copy of the tree, where it is built and tested: first by the
test that is to notice it, then, if that passes, by all the tests of rings or of queues, as the everyday run has them.
Without a change, all of these must pass: that is the first run. A mutant is killed by the test that fails, crashes or
hangs, and by nothing else: one that does not compile is an error. Needs what `pip install -e '.[test]'` installs,
setuptools and Cython.

Prints a table of the mutants and the tests that killed them; standard error tells what happens meanwhile. Exit status:
0 where all are killed, 1 where one survives, 2 where something else went wrong.

What is no mutant, since it changes nothing that could be noticed but time, and why:

- A waiter that was granted just as it gave up does not wait for its wake-up: the next waiter with that node gets it,
  and looks again.
- One grant a SETTLE after a shutdown, too: each that was granted SETTLEs as it returns.
- A spinner that does not SETTLE as it unlocks: it does within 10 us, when it parks, or acts.
- A standard wait that a signal handler's exception ends, and that does not pass on what it was told: its callers do.
- No promise while a get allocates: others are woken for the same records, find nothing and wait on.
- A coroutine that goes on to a condition, but stays in the lists of the queue's PLAIN days: only a debug build sees it.

And that a parker keeps a wake-up that comes before the sleep is for the model of the protocol: between the two lies too
little for a test to meet.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STALLED = 90.0  # [s] without a sign of life, after which the test that runs counts as hanging; no test takes that long
RING_TESTS = ("test_ring*.py", "test_stress.py", "test_coroutines.py", "test_async_frameworks.py")
QUEUE_TESTS = ("test_queue*.py", "test_coroutines.py", "test_async_frameworks.py")


def files_of_tests(patterns):
    """The files of tests, or the tests in them, that each pattern names, from the root of the project on."""
    found = set()
    for pattern in patterns:
        file, *test = pattern.split("::")
        found |= {"::".join([str(path.relative_to(ROOT)), *test]) for path in (ROOT / "tests").rglob(file)}
    return sorted(found)


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    file: str  # in f1buf/
    old: str  # what is there, exactly once
    new: str
    test: str  # in tests/: the one that is to notice

    def suite(self):
        """Everything that could notice."""
        room = Path(self.file).parts[0]
        return files_of_tests({"ring": RING_TESTS, "queue": QUEUE_TESTS}.get(room, RING_TESTS + QUEUE_TESTS))


MUTANTS = [
    # Wake-ups, grants -------------------------------------------------------------------------------------------------
    Mutant(
        "of several wake-ups the last is dropped",
        "core/sync.pyx",
        "chain = chain.next  # before",
        "chain = chain.next if chain.next == NULL or chain.next.next != NULL else NULL  # before",
        "test_ring_waiting.py::test_a_shutdown_wakes_everybody",
    ),
    Mutant(
        "nobody who waits for room is granted",
        "core/sync.pyx",
        "grant(m, &m.puts, grant(m, &m.gets, NULL))",
        "grant(m, &m.gets, NULL)",
        "test_ring_waiting.py::test_a_put_waits_for_a_get",
    ),
    Mutant(
        "only the head of the line is granted",
        "core/sync.pyx",
        "    while node != NULL and node.need != 0 and stock < side.waiters.promised + node.need:\n"
        "        node = node.next\n"
        "    return node",
        "    if node != NULL and node.need != 0 and stock < side.waiters.promised + node.need:\n"
        "        return NULL\n"
        "    return node",
        "test_ring_waiting.py::test_a_get_that_needs_many_does_not_block_a_get_behind_it_that_needs_few",
    ),
    Mutant(
        "a promise outlives the return of who was granted",
        "core/sync.pyx",
        "waiters.promised -= node.need",
        "pass",
        "test_ring_waiting.py::test_gets_are_served_in_the_order_they_came",
    ),
    Mutant(
        "a promise outlives the way to allocate",
        "core/sync.pyx",
        "w.held_side.waiters.promised -= w.held",
        "pass",
        "test_ring_waiting.py::test_a_promise_ends_once_the_get_has_its_records",
    ),
    Mutant(
        "who looks for signals just as it is served does not pass that on",
        "core/sync.pyx",
        "        w.tick = now + SIGNAL_TICK_NS\n        settle_and_unlock(m)",
        "        w.tick = now + SIGNAL_TICK_NS\n        unlock(m)",
        "test_ring_signals.py::test_a_waiter_that_is_interrupted_just_as_it_is_served_passes_its_grant_on",
    ),
    Mutant(
        "who is interrupted with a promise does not pass it on",
        "core/sync.pyx",
        "    unhold(w)\n    release(m)\n\n\n",
        "    unhold(w)\n    m.lock.unlock()\n\n\n",
        "test_ring_signals.py::test_a_waiter_that_is_interrupted_just_as_it_is_served_passes_its_grant_on",
    ),
    Mutant(
        "who waits in a signal handler keeps what it was promised before",
        "core/sync.pyx",
        "    if w.held == 0:\n        lend()\n",
        "",
        "test_ring_signals.py::test_a_handler_that_waits_gives_up_the_main_threads_promise",
    ),
    Mutant(
        "who comes again goes to the end of the line",
        "core/sync.pyx",
        "while before != NULL and before.ticket > node.ticket:",
        "while False:",
        "test_ring_signals.py::test_a_waiter_that_looks_for_signals_keeps_its_place_in_the_line",
    ),
    Mutant(
        "the pieces of a large put keep its place in the line",
        "core/sync.pxd",
        "w.node.ticket = 0",
        "pass",
        "test_ring_waiting.py::test_a_large_put_does_not_hold_up_the_others",
    ),
    Mutant(
        "a wake-up is not followed by another look",
        "core/sync.pyx",
        "        if outcome != DONE:\n            return outcome\n    if w.began",
        "        if outcome != DONE:\n            return outcome\n        break\n    if w.began",
        "test_stress.py::test_every_record_arrives_once_and_in_order",
    ),
    # Locks, turns -----------------------------------------------------------------------------------------------------
    Mutant(
        "a put unlocks without a look at who waits",
        "ring/ring.pyx",
        "    fill_and_publish(self, source, admit(self, n))\n    release(m)",
        "    fill_and_publish(self, source, admit(self, n))\n    m.lock.unlock()",
        "test_ring_waiting.py::test_a_get_waits_for_a_put",
    ),
    Mutant(
        "a get that finds nothing does not unlock",
        "ring/ring.pyx",
        "outcome[0] = end_of(self, &m.gets)\n        release(m)\n        return 0",
        "outcome[0] = end_of(self, &m.gets)\n        return 0",
        "test_ring.py::test_the_nowait_calls_give_up_at_once",
    ),
    Mutant(
        "a large put does not give its turn back",
        "ring/ring.pyx",
        "        m.puts.turn.store(FREE, memory_order_relaxed)\n        publish(self, admitted)",
        "        publish(self, admitted)",
        "test_ring_waiting.py::test_put_many_may_be_longer_than_the_capacity",
    ),
    Mutant(
        "a large get does not give its turn back",
        "ring/ring.pyx",
        "begins(m, END)\n    m.gets.turn.store(FREE, memory_order_relaxed)",
        "begins(m, END)",
        "test_ring_waiting.py::test_large_copies_of_several_threads_each_way",
    ),
    Mutant(
        "a large put takes no turn",
        "ring/ring.pyx",
        "m.puts.turn.store(COPYING, memory_order_relaxed)",
        "pass",
        "test_ring_waiting.py::test_a_non_blocking_put_waits_for_a_copy_in_progress",
    ),
    Mutant(
        "what is being read is overwritten",
        "ring/ring.pyx",
        "if self.policy != DROP_OLDEST or m.gets.turn.load(memory_order_relaxed):",
        "if self.policy != DROP_OLDEST:",
        "test_ring_waiting.py::test_what_is_being_read_is_not_overwritten",
    ),
    # Bounds, copies ---------------------------------------------------------------------------------------------------
    Mutant(
        "a ring has room for one more than there is",
        "ring/ring.pyx",
        "room = m.capacity - m.count.load(memory_order_relaxed)\n    if n <= room:\n        return n\n",
        "room = m.capacity + 1 - m.count.load(memory_order_relaxed)\n    if n <= room:\n        return n\n",
        "test_ring.py::test_drop_policies_keep_the_oldest_or_the_newest_exactly",
    ),
    Mutant(
        "a small batch is put where only a part of it fits",
        "ring/ring.pyx",
        "n > (m.capacity if self.policy != BLOCK else m.capacity - m.count.load(memory_order_relaxed))",
        "n > m.capacity",
        "test_ring.py::test_capacity_is_exact",
    ),
    Mutant(
        "what goes in around the end begins with what went in before it",
        "ring/ring.pyx",
        "memcpy(self.slots, source + straight * self.itemsize,",
        "memcpy(self.slots, source,",
        "test_ring.py::test_any_dtype_goes_in_and_out_unchanged",
    ),
    Mutant(
        "what comes out around the end overwrites what came out before it",
        "ring/ring.pyx",
        "memcpy(out + straight * self.itemsize, self.slots,",
        "memcpy(out, self.slots,",
        "test_ring.py::test_drop_policies_keep_the_oldest_or_the_newest_exactly",
    ),
    Mutant(
        "gaps between fields are not filled",
        "ring/ring.pyx",
        "    if self.padded:\n",
        "    if False:\n",
        "test_ring.py::test_padding_is_zero",
    ),
    Mutant(
        "a negative number enters an unsigned field",
        "ring/ring.pyx",
        "return 0 <= number <= UINT32_MAX",
        "return number <= <int64_t> UINT32_MAX",
        "test_ring.py::test_odd_values_are_packed_as_converted",
    ),
    # Counters ---------------------------------------------------------------------------------------------------------
    Mutant(
        "sequence numbers have 32 bits",
        "ring/ring.pyx",
        "self.write_seq += n",
        "self.write_seq = <unsigned int> (self.write_seq + n)",
        "test_ring.py::test_sequence_numbers_go_on_beyond_32_bits",
    ),
    Mutant(
        "sequence numbers of a batch that was waited for are off by one",
        "ring/ring.pyx",
        "first_seq[0] = self.read_seq\n    get_piece",
        "first_seq[0] = self.read_seq + 1\n    get_piece",
        "test_ring_waiting.py::test_each_take_is_one_contiguous_range",
    ),
    Mutant(
        "what is overwritten is not counted",
        "ring/ring.pyx",
        "self.evicted += n - room",
        "pass",
        "test_ring.py::test_drop_policies_keep_the_oldest_or_the_newest_exactly",
    ),
    Mutant(
        "what is refused is not counted",
        "ring/ring.pyx",
        "self.refused += n - room",
        "pass",
        "test_ring.py::test_drop_policies_keep_the_oldest_or_the_newest_exactly",
    ),
    Mutant(
        "what is discarded is not counted",
        "ring/ring.pyx",
        "self.discarded += m.count.load(memory_order_relaxed)",
        "pass",
        "test_ring.py::test_an_immediate_shutdown_discards_what_is_left_and_counts_it",
    ),
    Mutant(
        "the high-water mark falls",
        "ring/ring.pyx",
        "if count > self.high_water:",
        "if True:",
        "test_ring.py::test_high_water_is_the_most_that_it_held",
    ),
    Mutant(
        "waits are not counted",
        "core/sync.pyx",
        "side.waits += 1",
        "pass",
        "test_ring_waiting.py::test_a_wait_that_ends_at_the_timeout_counts",
    ),
    # Shutdown ---------------------------------------------------------------------------------------------------------
    Mutant(
        "what a put was copying outlives an immediate shutdown",
        "ring/ring.pyx",
        "        discard_if_shut_now(self)\n    release(m)",
        "    release(m)",
        "test_ring_waiting.py::test_a_shutdown_beside_a_copy_in_keeps_or_discards_the_copys_records",
    ),
    Mutant(
        "what a get left outlives an immediate shutdown",
        "ring/ring.pyx",
        "copy_in_turn(self, out, self.read_pos, n)\n    take_out(self, n)\n    discard_if_shut_now(self)",
        "copy_in_turn(self, out, self.read_pos, n)\n    take_out(self, n)",
        "test_ring_waiting.py::test_a_shutdown_beside_a_copy_out_leaves_the_copy_its_records",
    ),
    Mutant(
        "a ring that is shut down is drained before a put has copied",
        "core/sync.pxd",
        "return how != OPEN and not (how == SHUT and side == &m.gets and m.puts.turn.load(memory_order_relaxed))",
        "return how != OPEN",
        "test_ring_waiting.py::test_gets_after_a_shutdown_wait_for_a_put_that_is_copying",
    ),
    Mutant(
        "a shutdown turns milder",
        "core/sync.pyx",
        "if how > m.shut.load(memory_order_relaxed):",
        "if True:",
        "test_ring_waiting.py::test_a_shutdown_beside_a_copy_in_does_not_turn_milder",
    ),
    # Blocks -----------------------------------------------------------------------------------------------------------
    Mutant(
        "a put that drops waits for a reservation",
        "core/sync.pyx",
        "return w.expired or w.need == 0 or how != OPEN",
        "return w.expired or how != OPEN",
        "test_ring_blocks.py::test_puts_under_a_drop_policy_drop_and_count_while_a_reservation_is_out",
    ),
    Mutant(
        "who waits for its own block is not told so",
        "core/sync.pyx",
        "return is_own(side) or (is_own(other) and available(m, side) < w.need)",
        "return is_own(other) and available(m, side) < w.need",
        "test_ring_blocks.py::test_a_thread_that_has_a_block_out_cannot_enter_its_side_again",
    ),
    Mutant(
        "who waits for what its own block keeps away is not told so",
        "core/sync.pyx",
        "return is_own(side) or (is_own(other) and available(m, side) < w.need)",
        "return is_own(side)",
        "test_ring_blocks.py::test_a_get_that_waits_for_the_last_records_of_its_own_thread_raises",
    ),
    Mutant(
        "a ring whose last records are peeked at is drained",
        "ring/ring.pyx",
        "if side == &m.gets and how == SHUT and m.count.load(memory_order_relaxed) != 0:",
        "if False:",
        "test_ring_blocks.py::test_gets_after_a_graceful_shutdown_wait_for_a_peek",
    ),
    Mutant(
        "a block goes on beyond the end of the slots",
        "ring/ring.pyx",
        "span.count = min(n, m.capacity - self.write_pos)",
        "span.count = n",
        "test_ring_blocks.py::test_a_block_ends_where_the_slots_end",
    ),
    Mutant(
        "a block that an exception left counts",
        "ring/ring.pyx",
        "        if exc_type is not None:\n            self.used = 0",
        "        if False:\n            self.used = 0",
        "test_ring_blocks.py::test_an_exception_that_leaves_the_block_changes_nothing",
    ),
    Mutant(
        "a block that was dropped counts",
        "ring/ring.pyx",
        "            self.used = 0\n            self.drop_user()",
        "            self.drop_user()",
        "test_ring_blocks.py::test_a_block_that_is_dropped_without_leaving_it_changes_nothing",
    ),
    Mutant(
        "an array does not hold its slots",
        "ring/ring.pyx",
        "        self.add_user(RuntimeError)\n        lease.block = self",
        "        self.must_be_entered(RuntimeError)",
        "test_ring_blocks.py::test_what_is_still_alive_holds_the_slots",
    ),
    Mutant(
        "the child of a fork ends its parent's block",
        "ring/ring.pyx",
        "        if self.forks == forks:  # else the turn was its parent's",
        "        if True:",
        "test_ring_blocks.py::test_arrays_of_the_parents_block_do_no_harm_in_the_child",
    ),
    # Time, signals ----------------------------------------------------------------------------------------------------
    Mutant(
        "a timeout of seconds is one of milliseconds",
        "core/sync.pyx",
        "return now + <int64_t> ceil(seconds * 1e9)",
        "return now + <int64_t> ceil(seconds * 1e6)",
        "test_ring_waiting.py::test_a_timeout_is_kept",
    ),
    Mutant(
        "a timeout near the end of time overflows",
        "core/sync.pyx",
        "if seconds * 1e9 >= <double> (FOREVER - now - 2048):",
        "if seconds * 1e9 >= <double> FOREVER:",
        "test_ring_waiting.py::test_timeouts_just_below_the_saturation_do_not_pass_at_once",
    ),
    Mutant(
        "a deadline that has come is not noticed",
        "core/sync.pyx",
        "    if now >= deadline:\n",
        "    if False:\n",
        "test_ring_waiting.py::test_a_timeout_is_kept",
    ),
    Mutant(
        "the main thread does not look for signals",
        "core/sync.pyx",
        "now_ns() + SIGNAL_TICK_NS if PyThread_get_thread_ident() == main_thread else FOREVER",
        "FOREVER",
        "test_ring_signals.py::test_ctrl_c_ends_a_wait_and_leaves_the_ring_as_it_was",
    ),
    Mutant(
        "a get takes before it looks for the signal that came first",
        "core/sync.pyx",
        "            w.tick != FOREVER and not m.attached\n",
        "            False\n",
        "test_ring_signals.py::test_a_record_that_comes_right_behind_the_signal_is_left_to_the_next_get",
    ),
    # Forks, freeing ---------------------------------------------------------------------------------------------------
    Mutant(
        "the child of a fork waits for its parent's threads",
        "core/sync.pyx",
        "        forget_waiters(&m.gets.waiters)",
        "        pass",
        "test_ring_fork.py::test_a_child_can_use_a_ring_on_which_its_parents_threads_wait",
    ),
    Mutant(
        "the child of a fork trusts a copy that was cut in two",
        "core/sync.pyx",
        "m.shut.store(TORN, memory_order_relaxed)",
        "pass",
        "test_ring_fork.py::test_a_ring_that_was_being_read_at_the_fork_raises_in_the_child",
    ),
    Mutant(
        "a ring that is freed is visited at the next fork",
        "ring/ring.pyx",
        "unregister_for_fork(&self.monitor)  # nobody",
        "pass  # nobody",
        "test_ring_fork.py::test_rings_that_were_freed_before_a_fork_are_forgotten",
    ),
    Mutant(
        "a ring that is freed keeps its slots",
        "ring/ring.pyx",
        "        PyMem_RawFree(self.slots)",
        "        pass",
        "test_ring.py::test_a_ring_that_is_freed_gives_its_memory_back",
    ),
    # C calls ----------------------------------------------------------------------------------------------------------
    Mutant(
        "a pop that was late is told that the ring is drained",
        "ring/ring.pyx",
        "return EMPTY if w.expired else SHUT_DOWN",
        "return SHUT_DOWN",
        "test_ring_nogil.py::test_what_is_there_is_taken",
    ),
    Mutant(
        "who waits without the GIL looks for signals",
        "ring/ring.pyx",
        "    start_wait(w, need, deadline)\n    w.tick = FOREVER",
        "    start_wait(w, need, deadline)",
        "test_ring_nogil.py::test_the_main_thread_goes_on_behind_a_signal_and_its_handler_runs_then",
    ),
    Mutant(
        "a push that waited leaves its waiter behind",
        "ring/ring.pyx",
        "done[0] = put_records(self, source, n, &w, &outcome)\n    drop_node(&w)",
        "done[0] = put_records(self, source, n, &w, &outcome)",
        "test_ring_nogil.py::test_waits_leave_no_memory_behind",
    ),
    Mutant(
        "a ring that is shut down is drained while a block shows its records",
        "ring/ring.pyx",
        "if side == &m.gets and how == SHUT and m.count.load(memory_order_relaxed) != 0:",
        "if False:",
        "test_ring_nogil.py::test_a_ring_is_not_drained_while_records_are_peeked_at",
    ),
    # Queue: waiting ---------------------------------------------------------------------------------------------------
    Mutant(
        "who joins is not woken by the last task",
        "core/sync.pyx",
        "grant(m, &m.joins, grant(m, &m.puts, grant(m, &m.gets, NULL)))",
        "grant(m, &m.puts, grant(m, &m.gets, NULL))",
        "test_queue.py::test_several_joiners_wait_for_the_last_task",
    ),
    Mutant(
        "a lower bound leaves who waits for more",
        "queue/queue.pyx",
        "node.need = min(node.need, limit)",
        "pass",
        "test_queue.py::test_a_maxsize_that_makes_the_queue_full_serves_a_get_that_waits_for_more",
    ),
    Mutant(
        "a conversion loses who waits for items",
        "queue/queue.pyx",
        "shut(&self.monitor, ENDED)  # ends the waiting here",
        "pass",
        "test_queue.py::test_conversion_while_gets_wait",
    ),
    Mutant(
        "a conversion loses who joins",
        "core/sync.pxd",
        "return how == ENDED",
        "return False",
        "test_queue.py::test_conversion_while_joins_wait",
    ),
    Mutant(
        "a batch got by the standard algorithm tells nobody who waits for room",
        "queue/classic.py",
        "self.not_full.notify(len(batch))",
        "pass",
        "test_queue.py::test_one_large_get_makes_room_for_as_many_as_it_can",
    ),
    Mutant(
        "who waits for several by the standard algorithm is not told of one",
        "queue/classic.py",
        "            self.enough.notify_all()",
        "            pass",
        "test_queue.py::test_min_count_waits_for_that_many_and_takes_what_is_there",
    ),
    # Queue: bounds, the fast path -------------------------------------------------------------------------------------
    Mutant(
        "a queue takes one more than it may",
        "queue/queue.pyx",
        "if length(self) >= self.monitor.capacity:\n        return FULL",
        "if length(self) > self.monitor.capacity:\n        return FULL",
        "test_queue.py::test_block_and_timeout_have_the_standard_outcomes",
    ),
    Mutant(
        "a fast put does not look at the bound",
        "queue/queue.pyx",
        "self.put_below = min(self.monitor.capacity, self.room)",
        "self.put_below = self.room",
        "test_queue.py::test_a_put_waits_for_a_get",
    ),
    Mutant(
        "the fast paths are open while somebody waits",
        "queue/queue.pyx",
        "        or self.monitor.puts.waiters.head != NULL\n",
        "",
        "test_queue.py::test_a_put_waits_for_a_get",
    ),
    Mutant(
        "the fast paths are open after a shutdown",
        "queue/queue.pyx",
        "        or self.closed\n",
        "",
        "test_queue.py::test_a_shutdown_lets_gets_take_what_is_left",
    ),
    Mutant(
        "the fast paths do not see a put or get of the instance's own",
        "queue/queue.pyx",
        "self.direct.store(direct and not self.own_calls)",
        "self.direct.store(direct)",
        "test_queue.py::test_a_put_or_get_set_on_an_instance_is_seen_by_the_nowait_calls",
    ),
    Mutant(
        "a change of the class is not seen",
        "queue/queue.pyx",
        "return self.version.load(memory_order_relaxed) == version_of(<PyObject*> self)",
        "return self.version.load(memory_order_relaxed) != UNKNOWN",
        "test_queue.py::test_patching_the_class_is_seen",
    ),
    Mutant(
        "a heap gives the larger child",
        "queue/heap.hpp",
        "child += !smaller;",
        "child += smaller;",
        "test_queue.py::test_items_come_back_in_the_queues_order",
    ),
    Mutant(
        "a heap moves what it has not compared yet",
        "queue/heap.hpp",
        "    path[++depth] = child;",
        "    path[++depth] = child;\n    heap[path[depth - 1]] = heap[child];",
        "test_queue.py::test_what_cannot_be_compared_loses_nothing",
    ),
    Mutant(
        "items that go around the end are left there as the slots grow",
        "queue/queue.pyx",
        "if self.head + length(self) > self.room:",
        "if False:",
        "test_queue.py::test_the_order_holds_around_the_end_of_the_slots",
    ),
    Mutant(
        "slots that are empty are kept",
        "queue/queue.pyx",
        "if self.room > max(kept(self), 2 * count + SPARE):",
        "if False:",
        "test_queue.py::test_the_memory_limit_holds_along_a_drain",
    ),
    # Queue: references, tasks -----------------------------------------------------------------------------------------
    Mutant(
        "a put that was refused keeps a reference",
        "queue/queue.pyx",
        "        drop_node(&w)\n        if outcome != DONE:\n            Py_DECREF(item)",
        "        drop_node(&w)",
        "test_queue.py::test_a_refused_put_keeps_no_reference",
    ),
    Mutant(
        "a batch that was put loses a reference too many",
        "queue/queue.pyx",
        "for i in range(done, n):\n            Py_DECREF",
        "for i in range(n):\n            Py_DECREF",
        "test_queue.py::test_items_that_leave_leave_no_reference",
    ),
    Mutant(
        "a get keeps the reference of the slot",
        "queue/queue.pyx",
        "    taken = <object> item\n    Py_DECREF(taken)",
        "    taken = <object> item",
        "test_queue.py::test_items_that_leave_leave_no_reference",
    ),
    Mutant(
        "a bound that is replaced keeps a reference",
        "queue/queue.pyx",
        "    release(self)\n    Py_XDECREF(before)",
        "    release(self)",
        "test_queue.py::test_a_maxsize_that_is_replaced_keeps_no_reference",
    ),
    Mutant(
        "the collector does not see the items",
        "queue/queue.pyx",
        "stop = visit(self.slots[at], arg)",
        "pass",
        "test_queue.py::test_the_collector_sees_the_items",
    ),
    Mutant(
        "the collector does not see a batch",
        "queue/queue.pyx",
        "    if batch is not None:\n        PyObject_GC_Track(batch)\n    return batch",
        "    return batch",
        "test_queue.py::test_the_collector_sees_a_batch",
    ),
    Mutant(
        "a put is no task",
        "queue/queue.pyx",
        "self.slots[place(self, count)] = item\n"
        "    self.monitor.count.store(count + 1, memory_order_relaxed)\n"
        "    self.monitor.unfinished += 1",
        "self.slots[place(self, count)] = item\n    self.monitor.count.store(count + 1, memory_order_relaxed)",
        "test_queue.py::test_unfinished_tasks_counts_puts_and_task_dones",
    ),
    Mutant(
        "what is cleared stays to be done",
        "queue/queue.pyx",
        "self.monitor.unfinished -= max(0, min(<int64_t> removed.count, self.monitor.unfinished))",
        "pass",
        "test_queue.py::test_clear_removes_everything_and_does_its_tasks",
    ),
    Mutant(
        "what a coroutine that is cancelled was granted stays with it",
        "core/sync.pyx",
        "    unhold(w)\n    leave(&w.side.waiters, w.node)",
        "    unhold(w)",
        "test_coroutines.py::test_the_grant_of_a_cancelled_get_goes_to_the_next",
    ),
    Mutant(
        "a coroutine that is cancelled wakes nobody",
        "core/sync.pyx",
        "    leave(&w.side.waiters, w.node)\n    settle_and_unlock(m)",
        "    leave(&w.side.waiters, w.node)\n    unlock(m)",
        "test_coroutines.py::test_the_grant_of_a_cancelled_get_goes_to_the_next",
    ),
    Mutant(
        "what a coroutine on a condition was told stays with it",
        "queue/classic.py",
        "            if wait.told:\n",
        "            if False:\n",
        "test_coroutines.py::test_the_grant_of_a_cancelled_get_goes_to_the_next",
    ),
    Mutant(
        "a closed loop keeps who waits there",
        "core/loop.pyx",
        "            end_for_good(wait)",
        "            pass",
        "test_coroutines.py::test_a_loop_that_is_closed_while_it_waits_keeps_nothing",
    ),
    Mutant(
        "a closed loop keeps its file",
        "core/loop.pyx",
        "            close_bell(bell.file)",
        "            pass",
        "test_coroutines.py::test_a_loop_that_is_closed_lets_go_of_its_file",
    ),
    Mutant(
        "a bell does not ring",
        "core/loop.pyx",
        "            ring(bell.file)",
        "            pass",
        "test_coroutines.py::test_it_waits_for_min_count",
    ),
    Mutant(
        "a coroutine never lets its loop run",
        "core/loop.pyx",
        "    tally.paused = now\n    return True",
        "    return False",
        "test_coroutines.py::test_a_timeout_comes_to_a_coroutine_that_never_waits",
    ),
    Mutant(
        "a coroutine puts what there is room for",
        "ring/ring.pyx",
        "    wait.w.need = step if self.policy == BLOCK else 0",
        "    wait.w.need = 1 if self.policy == BLOCK else 0",
        "test_coroutines.py::test_what_fits_the_ring_enters_together_or_not_at_all",
    ),
    Mutant(
        "a coroutine whose block is out waits for it as a thread",
        "core/sync.pyx",
        "        if side.turn.load(memory_order_relaxed) != RESERVED or not gives_up(m, side, w):",
        "        if side.turn.load(memory_order_relaxed) != RESERVED:",
        "test_coroutines.py::test_a_coroutine_waits_for_its_own_threads_block",
    ),
]


# Trees ----------------------------------------------------------------------------------------------------------------


def copied_tree(folder):
    """A copy of the tree without what was built."""
    what_was_built = shutil.ignore_patterns(
        ".*", "bench", "build", "dist", "*.so", "*.pyd", "*.cpp", "*.egg-info", "__pycache__"
    )
    return Path(shutil.copytree(ROOT, folder, ignore=what_was_built))


def edit(path, old, new):
    """Replace what must be there exactly once."""
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise SystemExit(f"{path.name} has {text.count(old)} times what is to be replaced once:\n{old}")
    path.write_text(text.replace(old, new), encoding="utf-8")


def build(tree, **environment):
    """Build what has changed, and see that this is what would be imported. Raises CalledProcessError."""
    run = {"cwd": tree, "check": True, "capture_output": True, "text": True}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, env={**os.environ, **environment}, **run)
    look = [sys.executable, "-c", "from importlib.util import find_spec; print(find_spec('f1buf.queue.queue').origin)"]
    origin = subprocess.run(look, env={**os.environ, "PYTHONPATH": str(tree)}, **run).stdout.strip()
    if tree.resolve() not in Path(origin).resolve().parents:
        raise SystemExit(f"{origin} would be tested, not what was built in {tree}")


# Runs -----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Failure:
    test: str
    how: str
    says: str


def first_failure(tree, tests):
    """Run tests until one fails, crashes or hangs; None where all of them pass."""
    log = tree / "tests.log"
    command = [sys.executable, "-m", "pytest", "-x", "-v", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = wait_for_progress(process, log)
        finally:
            with contextlib.suppress(ProcessLookupError):  # its children, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = log.read_text(errors="replace")
    if status == 0:
        return None
    if status in (4, 5):  # pytest: usage, nothing to run
        raise SystemExit(f"pytest cannot run {' '.join(tests)}:\n{text[-2000:]}")
    how = "hangs" if status is None else "fails" if status > 0 else f"crashes ({signal.Signals(-status).name})"
    started = re.findall(
        r"^tests/(?:\w+/)*(\S+\.py::\w+(?:\[.*?\])?)(?= |$)", text, re.MULTILINE
    )  # the last one ended it
    says = re.search(r"^E +(.*)$", text, re.MULTILINE)
    return Failure(started[-1] if started else "importing the tests", how, says[1] if says else "")


def wait_for_progress(process, log):
    """The exit status of a process, or None where it has written nothing for too long."""
    size, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.1)  # a look at a file
        if log.stat().st_size != size:
            size, since = log.stat().st_size, time.monotonic()
        elif time.monotonic() - since > STALLED:
            return None
    return process.returncode


def try_mutant(mutant, base, folder):
    """The first failure with it; None where it survives."""
    tree = Path(shutil.copytree(base, folder))
    try:
        edit(tree / "f1buf" / mutant.file, mutant.old, mutant.new)
        try:
            build(tree)
        except subprocess.CalledProcessError as error:
            tell(f"{mutant.name} does not compile: {error.stdout[-1000:]}{error.stderr[-2000:]}")
            return None
        file, name = mutant.test.split("::")  # by -k, so that what the everyday run leaves out is left out here, too
        return first_failure(tree, [*files_of_tests([file]), "-k", name]) or first_failure(tree, mutant.suite())
    finally:
        shutil.rmtree(tree)


def try_all(mutants, folder):
    """[(mutant, the failure that killed it, seconds), ...]"""
    base = copied_tree(folder / "base")
    edit(base / "setup.py", '"-O3"', '"-O0"')  # a third of the time
    began = time.monotonic()
    build(base)
    tests = sorted({test for mutant in mutants for test in mutant.suite()})
    failure = first_failure(base, tests)
    if failure is not None:
        raise SystemExit(f"nothing is broken yet, but {failure.test} {failure.how}: {failure.says}")
    tell(f"{time.monotonic() - began:.0f} s: without a change, all of {len(tests)} files pass")
    outcomes = []
    for mutant in mutants:
        began = time.monotonic()
        killer = try_mutant(mutant, base, folder / "mutant")
        outcomes.append((mutant, killer, time.monotonic() - began))
        end = "SURVIVES" if killer is None else f"{killer.test} {killer.how}: {killer.says}"
        tell(f"{outcomes[-1][2]:.0f} s: {mutant.name}: {end}")
    return outcomes


def tell(line):
    print(line, file=sys.stderr, flush=True)


def table(outcomes):
    yield "| what is broken | in | which test says so | how | s |"
    yield "| --- | --- | --- | --- | --- |"
    for mutant, killer, seconds in outcomes:
        test, how = ("**none**", "survives") if killer is None else (f"`{killer.test}`", killer.how)
        yield f"| {mutant.name} | `{mutant.file}` | {test} | {how} | {seconds:.0f} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help="this one; repeatable")
    parser.add_argument("--list", action="store_true", help="the mutants, and nothing else")
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in MUTANTS if not options.only or mutant.name in options.only]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}\n  {mutant.file}: {mutant.old!r}\n  becomes {mutant.new!r}\n  {mutant.test}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            outcomes = try_all(mutants, Path(folder))
        except subprocess.CalledProcessError as error:
            tell(f"{error}\n{error.stdout[-2000:]}\n{error.stderr[-2000:]}")
            return 2
        except SystemExit as error:
            tell(error)
            return 2
    print("\n".join(table(outcomes)))
    survivors = sum(killer is None for _, killer, _ in outcomes)
    print(f"\n{len(outcomes)} mutants, {survivors} survive; {sum(seconds for *_, seconds in outcomes):.0f} s.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

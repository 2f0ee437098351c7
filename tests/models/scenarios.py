"""The scenarios: some threads each, on a ring or a Queue of one or two records. `programs` says how they are written.

P puts, C gets, J joins, S shuts down or converts, F forks; A and B are coroutines, each letter those of a loop; H is
what a signal handler does, K is started in the child of a fork.
"""

from programs import Scenario, scenarios
from protocol_model import Protocol
from queue_model import Queue
from ring_model import Ring
from shared_model import Shared


def model_of(scenario: Scenario) -> type[Protocol] | type[Shared]:
    return {"ring": Ring, "queue": Queue, "shared": Shared}[scenario.of]


RING = scenarios(
    "ring",
    """
# Small copies, nobody gives up. One slot; then needs that differ, and batches longer than the ring.
one record each: capacity 1; P1 put; P2 put; C1 get; C2 get
two records each: capacity 1; P1 put, put; P2 put, put; C1 get, get; C2 get, get
room for two: capacity 2; P1 put, put; P2 put, put; C1 get, get; C2 get, get
needs that differ: capacity 2; P1 put, put; P2 put 2; C1 get 2; C2 get, get
pieces of one: capacity 1; P1 put 3; P2 put 2; C1 get, get, get; C2 get, get
pieces of two: capacity 2; some_sleep_on; P1 put 4; P2 put 3; C1 get 1-2, get 2; C2 get 1-2, get
# Spinning.
spinning: capacity 1; spins; P1 put, put; P2 put 2; C1 get, get; C2 get, get
# Large copies.
turns: capacity 2; spins; some_sleep_on; P1 put 3 turn>0; P2 put 2 turn>0; C1 get 1-2 turn>0, get turn>0;
    C2 get 2 turn>0
large and small copies: capacity 2; some_sleep_on; P1 put 4 turn>1; P2 put; C1 get 1-2 turn>1, get 1-2 turn>1;
    C2 get, get
# Deadlines. In the second, all of them; in the third, operations that wait for nothing but a copy.
deadlines: capacity 1; some_sleep_on; P1 put timed, put timed; P2 put; C1 get timed, get timed; C2 get
deadlines everywhere: capacity 2; P1 put 3 timed; P2 put 2 timed; C1 get 2 timed; C2 get 2 timed, get timed
without waiting: capacity 2; some_sleep_on; P1 put 3 turn>0; P2 put nowait, put nowait; C1 get 1-2 turn>0;
    C2 get 2 nowait, get 2 nowait
deadlines and turns: capacity 2; P1 put 3 timed turn>0; P2 put 2 timed turn>0; C1 get 1-2 timed turn>0;
    C2 get 2 timed turn>0
# So much may be done before the woken threads are back, and no more.
overtaking ends: capacity 1; overtakes 1; some_sleep_on; P1 put, put timed, put; P2 put; C1 get, get; C2 get timed
overtaking ends, turns: capacity 2; overtakes 1; P1 put 3 turn>0; P2 put; C1 get turn>0, get; C2 get 2
overtaking ends, a handler puts: capacity 1; ticks C1; handler H; overtakes 1; some_sleep_on; P1 put, put;
    C1 get timed, get; C2 get; H put timed
overtaking ends, away to allocate: capacity 2; overtakes 1; memory_fails; some_sleep_on; P1 put, put 2;
    C1 get 1-2 room 0; C2 get 1-2 room 0; C3 get
overtaking ends, shutdown: capacity 1; overtakes 1; P1 put, put; P2 put; C1 get, get; C2 get; S shutdown
overtaking ends, drop_oldest: capacity 1; overflow drop_oldest; overtakes 1; some_sleep_on; P1 put, put; P2 put;
    C1 get, get timed; C2 get
# Signals: the waiter leaves and comes back with its ticket, or a handler raises.
signals to a consumer: capacity 1; ticks C1; some_sleep_on; P1 put, put; P2 put; C1 get, get; C2 get, get
signals to a producer: capacity 1; ticks P1; some_sleep_on; P1 put 3 timed; P2 put, put; C1 get; C2 get, get
# Its handler uses the same ring meanwhile.
a handler puts: capacity 1; ticks C1; handler H; some_sleep_on; P1 put; C1 get timed, get; C2 get; H put 2 timed
a handler gets: capacity 1; ticks C1; handler H; some_sleep_on; P1 put, put; C1 get; C2 get; H get
signals amid turns: capacity 2; ticks C1; some_sleep_on; P1 put 2 turn>0; P2 put; C1 get 1-2 turn>0 room 1;
    C2 get 2 timed turn>0
# Away to allocate, with a promise; without memory.
away to allocate: capacity 2; memory_fails; some_sleep_on; P1 put 2; P2 put 2; C1 get 2 room 1; C2 get 1-2 room 1;
    C3 get
away, then spinning: capacity 2; spins; memory_fails; some_sleep_on; P1 put 2; P2 put; C1 get 2 room 1; C2 get; C3 get
# Shutdowns.
shutdown: capacity 1; P1 put, put; P2 put 2; C1 get, get; C2 get, get; S shutdown
shutdown amid turns: capacity 2; P1 put 3 turn>0; P2 put 2 turn>1; C1 get 1-2 turn>0, get 1-2 turn>0; C2 get 2 turn>0;
    S shutdown
immediate shutdown: capacity 2; P1 put 3 turn>0; P2 put 2 turn>1; C1 get 1-2 turn>0, get 1-2 turn>0; C2 get 2 turn>0;
    S shutdown now
one shutdown, then another: capacity 2; P1 put 3 turn>0; P2 put; C1 get 1-2 turn>0; C2 get; S1 shutdown;
    S2 shutdown now
# Blocks, which are out for as long as their owners like. Beside copies, operations that must not wait, shutdowns.
blocks: capacity 2; some_sleep_on; P1 reserve 2, put; P2 put 2; C1 peek 1-2; C2 get 1-2
blocks that follow blocks: capacity 2; some_sleep_on; P1 reserve 2; P2 reserve; C1 peek 2; C2 peek
blocks and large copies: capacity 2; some_sleep_on; P1 put turn>0; P2 reserve; P3 put nowait; P4 put nowait;
    P5 put nowait
a peek and large copies: capacity 1; some_sleep_on; P1 put 2; C1 get turn>0; C2 peek; C3 snapshot turn>0;
    C4 get nowait
blocks, deadlines: capacity 2; some_sleep_on; P1 reserve 2 timed; P2 put 2 timed, put nowait;
    C1 peek 2 timed, peek nowait; C2 get nowait, get timed
blocks, signals: capacity 1; ticks C1; spins; some_sleep_on; P1 reserve, put; C1 peek, get; C2 peek timed
blocks, memory: capacity 1; memory_fails; some_sleep_on; P1 put 2; P2 reserve; C1 peek; C2 get
blocks, shutdown: capacity 2; P1 reserve 2, reserve; P2 put 2; C1 peek 1-2, get nowait; C2 get 2; S shutdown
blocks, immediate shutdown: capacity 2; P1 reserve 2; P2 put 2; C1 peek 1-2; C2 snapshot turn>0; C3 get;
    S shutdown now
blocks, overtaking ends: capacity 1; overtakes 1; some_sleep_on; P1 reserve, put; P2 put; C1 peek, get; C2 get timed
blocks, drop_oldest: capacity 2; overflow drop_oldest; some_sleep_on; P1 put 2, reserve 2; P2 put 3 turn>0;
    C1 peek 1-2; C2 snapshot turn>0
blocks, drop_newest: capacity 2; overflow drop_newest; P1 reserve 2, reserve; P2 put 3 turn>0; C1 peek 1-2;
    C2 get timed; S shutdown
blocks, fork: capacity 1; children K1 K2; some_sleep_on; P1 put, reserve; C1 peek, get; F fork, get; K1 reserve;
    K2 peek
# Drop policies, with a snapshot, which reads under a turn.
drop_oldest: capacity 2; overflow drop_oldest; some_sleep_on; P1 put 2 turn>0, put 2 turn>0; P2 put 3;
    C1 get 1-2 turn>0; C2 snapshot turn>0, get
drop_newest: capacity 2; overflow drop_newest; P1 put 2 turn>0, put; P2 put 3; C1 get 1-2 turn>0;
    C2 snapshot turn>0, get; S shutdown now
drop_oldest, deadlines: capacity 1; overflow drop_oldest; P1 put 2 turn>0; P2 put turn>0;
    C1 get timed turn>0, snapshot turn>0; C2 snapshot turn>0, get timed turn>0
drop_oldest, signals: capacity 1; overflow drop_oldest; ticks C1; memory_fails; some_sleep_on; P1 put turn>0, put;
    C1 get turn>0; C2 snapshot turn>0, get
drop_newest, signals: capacity 1; overflow drop_newest; ticks P1; some_sleep_on; P1 put 2 turn>0; P2 put turn>0;
    C1 snapshot turn>0, get turn>0; C2 get timed; S shutdown
drop_oldest, large copies on each side: capacity 2; overflow drop_oldest; ticks C1; memory_fails; long;
    P1 put 2 turn>0, put turn>0; P2 put 2 turn>0; C1 get 1-2 timed turn>0 room 1; C2 snapshot turn>0, get timed turn>0
# Coroutines, beside threads and each other, cancelled, on loops that end.
coroutines get: capacity 2; loops AB; cancelled A1; some_sleep_on; P1 put, put; P2 put; A1 get; A2 get; B1 get; C1 get
coroutines put: capacity 2; loops A; cancelled A1; some_sleep_on; A1 put 2; A2 put 3; P1 put 2; C1 get 1-2, get 1-2;
    C2 get 2
coroutines, needs that differ: capacity 2; loops AB; cancelled A1; some_sleep_on; P1 put 2; P2 put, put; A1 get 2;
    B1 get 1-2; C1 get
coroutines, loops that are closed: capacity 1; loops AB; cancelled A1; closed AB; some_sleep_on; P1 put; A1 get, get;
    A2 get; B1 put; C1 get
coroutines and large copies: capacity 2; loops AB; cancelled A1 B1; closed A; memory_fails; some_sleep_on;
    P1 put 3 turn>0; A1 get 1-2 turn>0 room 1; B1 put 2 turn>0; C1 get 2 turn>0
coroutines, overtaking ends: capacity 1; loops AB; cancelled A1; overtakes 1; some_sleep_on; P1 put, put; P2 put;
    A1 get; B1 get; C1 get, get timed
coroutines, shutdown: capacity 2; loops AB; cancelled A1; closed B; P1 put 2; A1 put 2; A2 get 2; B1 get; C1 get;
    S shutdown
coroutines, immediate shutdown: capacity 2; loops A; cancelled A2; some_sleep_on; P1 put 2 turn>0; A1 put 2 turn>0;
    A2 get 1-2 turn>0; C1 get 2; S shutdown now
coroutines and blocks: capacity 1; loops AB; cancelled A1; some_sleep_on; P1 reserve; A1 put; B1 get; C1 peek;
    S shutdown
coroutines, drop_oldest: capacity 1; overflow drop_oldest; loops A; cancelled A1; some_sleep_on;
    P1 put turn>0, reserve; A1 put turn>0; A2 get; C1 get turn>0
# Its handler runs a loop; the main thread lends what it was promised.
a loop in a handler: capacity 1; ticks C1; handler H; loops H; some_sleep_on; P1 put; C1 get timed, get; C2 get; H put
# Forks. K is started in the child.
fork: capacity 2; children K1 K2; some_sleep_on; P1 put 3 turn>1; C1 get 2 turn>1 room 1; F fork, get; K1 put 2;
    K2 snapshot, get
a handler forks: capacity 1; ticks C1; handler H; children K1; some_sleep_on; P1 put, put turn>0; C1 get; C2 get;
    H fork, put nowait; K1 put, put
# All of it.
everything: capacity 2; ticks C1; spins; memory_fails; P1 put 3 timed turn>1; P2 put nowait;
    C1 get 1-2 timed turn>1 room 1; C2 get 2; S shutdown
""",
)

# Names of a queue's scenarios begin with "queue: ".
QUEUE = scenarios(
    "queue",
    """
# The fast paths, batches, what ends the waiting.
one slot: capacity 1; P1 put, put; P2 put; C1 get; C2 get, get
batches: capacity 2; some_sleep_on; P1 put, put_many 2; P2 put; C1 get_many 2, get; C2 get_many 1-2
batches, one slot: capacity 1; some_sleep_on; P1 put_many 3; P2 put; C1 get_many 2, get; C2 get_many 1-2
deadlines: capacity 1; some_sleep_on; P1 put timed, put; P2 put_many 2 timed; C1 get_many 1-2 timed, get nowait;
    C2 get
without memory: capacity 2; memory_fails; some_sleep_on; P1 put, put; P2 put; C1 get_many 2; C2 get
spinning: capacity 1; spins; some_sleep_on; P1 put, put; P2 put timed; C1 get, get_many 1-2; C2 get
spinning, the end: capacity 1; spins; P1 put, put; P2 put timed; C1 get timed; C2 get; S1 shutdown
spinning, conversion: capacity 1; spins; memory_fails; some_sleep_on; P1 put, put; C1 get; J1 join; S1 convert
signals to a consumer: capacity 1; ticks C1; handler H; some_sleep_on; P1 put, put; C1 get timed, get_many; C2 get;
    H put nowait
# A finalizer, which the collector runs while a list is made, waits for what another get is to do.
a finalizer puts: capacity 2; ticks C1; handler H; some_sleep_on; P1 put, put; C1 get_many 1-2; C2 get_many 2; H put
signals to a producer: capacity 1; ticks P1; some_sleep_on; P1 put_many 2 timed; P2 put; C1 get; C2 get
# Joins, and what changes what others wait for.
joins: capacity 2; P1 put, put, join; C1 get, task_done; C2 get, task_done; J1 join
signals to a join: capacity 1; ticks J1; some_sleep_on; P1 put, put; C1 get, task_done; J1 join; J2 join
clear: capacity 1; some_sleep_on; P1 put, put; P2 put; C1 get; J1 join; S1 clear
maxsize: capacity 2; some_sleep_on; P1 put_many 3; C1 get_many 2; C2 get; S1 bound 1, bound 3
shutdown: capacity 1; P1 put_many 2; P2 put; C1 get, get_many 2; C2 get; S1 shutdown
immediate shutdown: capacity 1; some_sleep_on; P1 put, put; C1 get_many, task_done; C2 get timed; J1 join;
    S1 shutdown now
started anew: capacity 1; some_sleep_on; P1 put, put; C1 get_many 2, get; J1 join; S1 shutdown, start 2
# The way to the standard library's algorithm.
conversion: capacity 1; memory_fails; some_sleep_on; P1 put, put; C1 get; J1 join; S1 convert
conversion amid waits: capacity 1; long; P1 put_many 2; P2 put timed; C1 get timed; C2 get; J1 join; S1 convert
two conversions: capacity 1; P1 put_many 2; C1 get_many 2; S1 convert; S2 clear, convert
conversion, started anew: capacity 1; some_sleep_on; P1 put; C1 get; S1 convert; S2 start 2
# Forks.
fork: capacity 1; children K1 K2; some_sleep_on; P1 put, put; C1 get_many, get; J1 join; S1 fork, get; K1 put;
    K2 get, task_done
a handler forks: capacity 1; ticks C1; handler H; children K1; some_sleep_on; P1 put, put; C1 get_many; C2 get;
    H fork; K1 put
fork amid a conversion: capacity 1; children K1; some_sleep_on; P1 put; C1 get; S1 convert; S2 fork, get; K1 put
# Coroutines.
coroutines: capacity 1; loops AB; cancelled A1; some_sleep_on; P1 put, put; A1 get; A2 put; B1 get; C1 get
coroutines put: capacity 1; loops A; cancelled A1; some_sleep_on; A1 put; A2 put, put; P1 put; C1 get_many 1-2; C2 get
coroutines, batches: capacity 2; loops AB; cancelled A1; memory_fails; some_sleep_on; P1 put_many 2; P2 put; A1 get;
    B1 get; C1 get_many 2
coroutines join: capacity 1; loops A; cancelled A1; some_sleep_on; P1 put, put; A1 join; A2 get, join;
    C1 get, task_done; J1 task_done, join
coroutines, loops that are closed: capacity 1; loops AB; cancelled A1; closed AB; some_sleep_on; P1 put; A1 get;
    A2 join; B1 get; C1 get, task_done
coroutines, shutdown: capacity 1; loops AB; cancelled A1; some_sleep_on; P1 put_many 2; A1 get; A2 put; B1 join;
    S1 shutdown now
coroutines, conversion: capacity 1; loops AB; cancelled A1; closed AB; memory_fails; some_sleep_on; P1 put; A1 get;
    A2 put; B1 join; S1 convert
a loop in a handler: capacity 1; ticks C1; handler H; loops H; some_sleep_on; P1 put; C1 get timed, get; C2 get; H put
""",
    prefix="queue: ",
)

# Those of a ring that processes share begin with "shared: ".
SHARED = scenarios(
    "shared",
    """
# Nobody is killed: nobody waits for a tick.
one record each: capacity 1; P1 put; P2 put; C1 get; C2 get
one put for two gets: capacity 2; P1 put 2; C1 get; C2 get
two puts for one get: capacity 2; some_sleep_on; P1 put; P2 put; C1 get 1-2; C2 get
two records: capacity 1; some_sleep_on; P1 put, put; C1 get; C2 get
three puts: capacity 1; overflow drop_newest; some_sleep_on; P1 put; P2 put; P3 put
three puts, a deadline: capacity 1; overflow drop_newest; some_sleep_on; P1 put; P2 put timed; P3 put
needs that differ, one record: capacity 2; some_sleep_on; P1 put; C1 get 2; C2 get
needs that differ: capacity 2; some_sleep_on; P1 put; P2 put; C1 get 2; C2 get
deadlines: capacity 1; some_sleep_on; P1 put timed; P2 put; C1 get timed
deadlines of gets: capacity 2; some_sleep_on; P1 put 2, get; C1 get timed; C2 get
signals: capacity 1; ticks C1; some_sleep_on; P1 put; C1 get; C2 get
drop_oldest: capacity 1; overflow drop_oldest; some_sleep_on; P1 put, put; P2 put; C1 get
drop_oldest, two gets: capacity 1; overflow drop_oldest; some_sleep_on; P1 put, put; C1 get; C2 get
drop_oldest, peek: capacity 1; overflow drop_oldest; some_sleep_on; P1 put, put; C1 peek; C2 get
drop_newest: capacity 1; overflow drop_newest; some_sleep_on; P1 put, put; P2 put; C1 get
reserve: capacity 1; some_sleep_on; P1 reserve; P2 put; C1 get
blocks on each side: capacity 1; long; some_sleep_on; P1 reserve; P2 put; C1 peek; C2 get
peek: capacity 1; some_sleep_on; P1 put, put; C1 peek; C2 get
peek and snapshot: capacity 1; some_sleep_on; P1 put; C1 peek; C2 get; C3 snapshot
shutdown: capacity 1; P1 put; C1 get; C2 get; S shutdown
shutdown, without waiting: capacity 1; P1 put; C1 get nowait; S shutdown
shutdown, puts: capacity 1; long; P1 put, put; P2 put; C1 get; S shutdown
shutdown, reserve: capacity 1; P1 reserve; C1 get; S shutdown
shutdown, reserve, two gets: capacity 1; P1 reserve; C1 get; C2 shutdown, get
immediate shutdown: capacity 1; P1 put; C1 get; S shutdown now
# One is killed. K comes then, and has its place.
killed: capacity 1; long; kills P1 C1; some_sleep_on; P1 put; P2 put; C1 get; C2 get
any of them is killed: capacity 1; long; kills P1 P2 C1 C2; some_sleep_on; P1 put; P2 put; C1 get; C2 get
killed, needs that differ: capacity 2; long; kills P1 C1; some_sleep_on; P1 put; P2 put; C1 get 2; C2 get
killed, deadlines: capacity 1; kills P1 C1; some_sleep_on; P1 put timed; P2 put; C1 get timed
killed, drop_oldest: capacity 1; kills P1 C1; overflow drop_oldest; some_sleep_on; P1 put, put; P2 put; C1 get
killed, blocks: capacity 1; kills P1 C1; some_sleep_on; P1 reserve; P2 put; C1 peek
killed, peek: capacity 1; kills C1; some_sleep_on; P1 put, put; C1 peek; C2 get
killed, another comes: capacity 1; kills P1; children K1; some_sleep_on; P1 put; C1 get; K1 put
killed, shutdown: capacity 1; kills P1 C1 S; some_sleep_on; P1 put; C1 get; S shutdown
killed, immediate shutdown: capacity 1; kills P1 C1 S; some_sleep_on; P1 put; C1 get; S shutdown now
""",
    prefix="shared: ",
)
SCENARIOS = RING | QUEUE | SHARED

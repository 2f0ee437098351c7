"""Models of a shared ring that are wrong: each lacks one piece of the protocol, as in `mutations`."""

from __future__ import annotations

from mutations import Instead, as_if, mutation, never, nothing
from programs import DROP_OLDEST
from shared_model import GETS, OPEN, PUTS, SHUT, Process, Shared, Side

ASLEEP = "sleeps, and nobody will act"
STUCK = "livelock"
TORN = "torn"
LEFT_BEHIND = "a get says ShutDown, and a record is left behind"


def goes_on(m: Shared, usual: Instead, t: Process) -> None:
    """In place of a step: nothing but what comes next."""
    m.go(t)


def unless(kind: str) -> Instead:
    """The step is left out of these operations."""
    return lambda m, usual, t: m.go(t) if t.op.kind == kind else usual(t)


# -- going to sleep, and waking ---------------------------------------------------------------------------------------


def checks_first(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    t.at = "CHECK"


def lowers_then(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    if t.at == "SLEEP":
        t.at = "LOWER"
    else:
        m.sides[t.on].sleepers += 1


def sleeps_then(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    t.at = "SLEEP"


mutation(
    "a waiter looks at the number before it lowers wake_at",
    {"shared: one record each": ASLEEP},
    begin_sleep=checks_first,
    check=lowers_then,
    lower=sleeps_then,
)


def rings_before_it_publishes(m: Shared, usual: Instead, t: Process) -> None:
    """RING, then PUBLISH."""
    if t.copied:
        t.copied = ()
        usual(t)
        t.agenda = tuple([step for step in t.agenda if step != ("RING", GETS)])
        if (t.at, t.on) == ("RING", GETS):
            t.seq = 0
            m.go(t)
    else:
        t.copied = (True,)
        t.seq = m.puts.seq + t.n
        m.go(t, ("RING", GETS), ("PUBLISH", PUTS))


mutation(
    "a put looks at wake_at before it stores the number",
    {"shared: one record each": ASLEEP},
    publish=rings_before_it_publishes,
)
mutation("a sleeper does not look at the bell", {"shared: one record each": ASLEEP}, change=nothing)


def wakes_first(m: Shared, usual: Instead, t: Process, reached: bool) -> None:
    usual(t, reached)
    if t.at == "CHANGE":
        t.at = "WAKE"
        t.agenda = (("CHANGE", t.on), *t.agenda[1:])


mutation("the sleeper is woken before the bell changes", {"shared: one record each": ASLEEP}, ring_if=wakes_first)
mutation("wake_at is not lowered again for others", {"shared: one record each": ASLEEP}, relower_before=nothing)
mutation("nothing is passed on", {"shared: one put for two gets": ASLEEP}, pass_on=goes_on)
mutation("one is woken where one needs two", {"shared: needs that differ, one record": ASLEEP}, wants_many=never)
mutation(
    "one is woken where one needs nothing but the turn",
    {"shared: peek and snapshot": ASLEEP},
    wants_many=lambda m, usual, t: m.need(t) > 1,
)
mutation("a get wakes no put", {"shared: one record each": ASLEEP}, wake_from=unless("get"))
mutation("a put wakes no get", {"shared: one record each": ASLEEP}, wake_from=unless("put"))


def looks_for_signals_at_once(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    if t.at == "RELOWER":
        t.agenda = tuple([step for step in t.agenda if step[0] != "PASS ON"])
    elif t.at == "PASS ON":
        m.go(t)


mutation(
    "one that looks for signals passes nothing on",
    {"shared: signals": ASLEEP},
    woken_ticked=looks_for_signals_at_once,
)


def without_pass_on(m: Shared, usual: Instead, t: Process) -> None:
    t.instead = tuple([step for step in t.instead if step[0] != "PASS ON"])
    usual(t)


mutation(
    "one that gives up waiting for the lock passes nothing on",
    {"shared: deadlines of gets": ASLEEP},
    give_up_lock=without_pass_on,
)
mutation(
    "one that sleeps on after a kill has no tick",
    {"shared: killed, peek": STUCK},
    goes_on=lambda m, usual, t: tuple([step for step in usual(t) if step != "TICK"]),
)

# -- locks ------------------------------------------------------------------------------------------------------------


def wakes_nobody(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    if t.at == "WAKE LOCKER":
        m.go(t)


mutation("a contended lock is left without waking one", {"shared: one record each": ASLEEP}, unlock=wakes_nobody)


def takes_it_unmarked(m: Shared, usual: Instead, t: Process) -> None:
    side = m.sides[t.on]
    if side.lock == 0:
        side.lock = t.id
        m.locked(t)
    else:
        usual(t)


mutation("one that slept takes the lock without its mark", {"shared: three puts": ASLEEP}, contend=takes_it_unmarked)
mutation(
    "one that gives up waiting for the lock wakes nobody in its place",
    {"shared: three puts, a deadline": ASLEEP, "shared: drop_oldest, two gets": ASLEEP},
    hand_on_lock=goes_on,
)
mutation(
    "one parks though the lock has changed",
    {"shared: one record each": ASLEEP},
    park=lambda m, usual, t: (setattr(t, "saw", m.sides[t.on].lock), usual(t)),
)
mutation("a dead one's lock stays taken", {"shared: killed, shutdown": STUCK}, is_dead=never)


def is_dead_until_another_comes(m: Shared, usual: Instead, word: int) -> bool:
    return usual(word) and not any(t.name[0] == "K" and t.at != "TRY" for t in m.threads)


mutation(
    "who takes a place has the id of the one before it",
    {"shared: killed, another comes": STUCK},
    is_dead=is_dead_until_another_comes,
)


def takes_any_lock(m: Shared, usual: Instead, t: Process) -> None:
    if m.sides[t.on].lock:
        m.take_over(t, m.sides[t.on])
    else:
        usual(t)


mutation("a living one's lock is taken for a dead one's", {"shared: one record each": "S2"}, contend=takes_any_lock)


def unlocks_first(m: Shared, usual: Instead, t: Process) -> None:
    if m.puts.lock >> 1 == t.id >> 1:
        m.puts.lock = 0
        t.at = "PUBLISH"
        return
    usual(t)


mutation("a put publishes after it unlocked", {"shared: one record each": "S2"}, publish=unlocks_first)

# -- records ----------------------------------------------------------------------------------------------------------


def stores_before_it_copies(m: Shared, usual: Instead, t: Process) -> None:
    m.count_published(t)


mutation("a put publishes before it copies", {"shared: one record each": TORN}, publish=stores_before_it_copies)


def gives_back_first(m: Shared, usual: Instead, t: Process) -> None:
    if t.seq == 0:
        t.seq = m.gets.seq + t.n
        m.gets.seq = t.seq
        return
    m.pass_by(m.records(t.seq - t.n, t.n))
    m.go(t, ("LEAVE", GETS), ("RING", PUTS), ("END", GETS))


mutation("a get gives its slots back before it copies", {"shared: two records": TORN}, take=gives_back_first)


def looks_no_more(m: Shared, usual: Instead, side: Side) -> bool:
    return True


mutation(
    "a side works on while a block of it is out",
    {"shared: reserve": "S1", "shared: drop_oldest, peek": TORN, "shared: peek": TORN},
    is_free=looks_no_more,
)
mutation(
    "a dead one's block stays out",
    {"shared: killed, blocks": STUCK, "shared: killed, peek": STUCK},
    is_free=lambda m, usual, side: side.turn == 0,
)
mutation("the end of a block tells its own side nothing", {"shared: reserve": ASLEEP}, ring=goes_on)
mutation("the end of a block tells the other side nothing", {"shared: reserve": ASLEEP}, wake_from=unless("reserve"))


# -- evictions --------------------------------------------------------------------------------------------------------


def without_intent(m: Shared, usual: Instead, t: Process, side: Side) -> None:
    side.intent = None
    usual(t, side)


mutation("a dead one's lock is taken without repair", {"shared: killed, drop_oldest": "S4"}, take_over=without_intent)


def has_not_written_it_yet(m: Shared, usual: Instead, t: Process) -> None:
    if t.at == "TALLY":
        m.gets.intent = None
    usual(t)


mutation(
    "the intent is written down after the store",
    {"shared: killed, drop_oldest": "S4", "shared: killed, immediate shutdown": "S4"},
    kill=has_not_written_it_yet,
)


def counts_in_any_case(m: Shared, usual: Instead, t: Process) -> None:
    _, m.gets.lost, m.gets.discarded = m.gets.intent
    usual(t)


mutation("a repair counts what was not done", {"shared: killed, drop_oldest": "S4"}, repair=counts_in_any_case)


def locks_nothing_more(m: Shared, usual: Instead, t: Process) -> None:
    wanted = m.wanted(t)
    if m.scenario.overflow == DROP_OLDEST and m.there(PUTS, wanted) < wanted:
        m.go(t, ("EVICT", GETS), ("FILL", PUTS))
    else:
        usual(t)


mutation("an eviction does without the gets' lock", {"shared: drop_oldest": "S4"}, act=locks_nothing_more)

# -- shutdown ---------------------------------------------------------------------------------------------------------


def seals_at_once(m: Shared, usual: Instead, t: Process) -> None:
    m.sealed = True
    usual(t)


mutation(
    "sealed is written while a put goes on",
    {"shared: shutdown, without waiting": LEFT_BEHIND, "shared: shutdown": LEFT_BEHIND},
    shut_down=seals_at_once,
)
mutation(
    "sealed is written while a block is out",
    {"shared: shutdown, reserve": LEFT_BEHIND},
    leave_puts=lambda m, usual, t: (setattr(m, "sealed", m.shut != 0), usual(t)),
)
mutation(
    "a get asks for records before it asks whether all is over",
    {"shared: shutdown, without waiting": LEFT_BEHIND},
    end_of_get=lambda m, usual: (("ANY", GETS), ("OVER", GETS), ("LEAVE", GETS), ("END", GETS)),
    see_whether_any=lambda m, usual, t: (setattr(t, "copied", (m.there(GETS, 1) > 0,)), m.go(t)),
    see_whether_over=lambda m, usual, t: (setattr(t, "copied", (m.over(GETS), *t.copied)), m.go(t)),
)
mutation(
    "a shutdown wakes nobody",
    {"shared: shutdown": ASLEEP, "shared: shutdown, puts": ASLEEP},
    wake_everybody=goes_on,
)


mutation(
    "an immediate shutdown leaves what a put that goes on publishes",
    {"shared: immediate shutdown": "an immediate shutdown leaves records behind"},
    leave_puts=lambda m, usual, t: as_if(m, usual, t, shut=min(m.shut, SHUT)),
)


def tells_all_the_gets(m: Shared, usual: Instead, t: Process) -> None:
    usual(t)
    if m.shut != OPEN and ("HUSH", GETS) not in ((t.at, t.on), *t.agenda):
        t.agenda = (("HUSH", GETS), (t.at, t.on), *t.agenda)
        m.go(t)


mutation(
    "one that cannot seal tells all the gets",
    {"shared: shutdown, reserve, two gets": "storm"},
    leave_puts=tells_all_the_gets,
)

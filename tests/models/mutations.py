"""Models that are wrong: each lacks one piece of the protocol, which the explorer must notice.

A mutation says where it shows (scenario: what the violation says), and what is done in place of functions of the model:
`release=instead` has `instead(m, usual, *args)` called, where `usual` is the model's own `release`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from programs import Scenario
from protocol_model import (
    ANSWERED,
    AWAITS_TOKEN,
    ENTERED,
    FREE,
    HANDLES,
    HAS_BLOCK,
    LETS_GO,
    LOOKS,
    NONE,
    OPEN,
    RESERVED,
    SHUT,
    SUSPENDED,
    WAITS,
    Loop,
    Protocol,
    Side,
    Thread,
    without,
)
from queue_model import CLASSIC, CONVERTING, HALFWAY, PLAIN
from ring_model import COPIED
from scenarios import model_of

Instead = Callable[..., Any]
MUTATIONS: dict[str, Mutation] = {}


@dataclass(frozen=True)
class Mutation:
    """A protocol that is wrong, and where that shows."""

    name: str
    scenario: str
    finds: str  # what the violation says
    instead: dict[str, Instead]


def mutation(name: str, shows: dict[str, str], **instead: Instead) -> None:
    """Names of those of a queue's scenario begin with "queue: ", too; of a shared ring's with their scenario's name."""
    for scenario, finds in shows.items():
        its = f"queue: {name}" if scenario.startswith("queue: ") else name
        if scenario.startswith("shared: "):
            its = f"{scenario}: {name}"
        assert its not in MUTATIONS, its
        MUTATIONS[its] = Mutation(its, scenario, finds, instead)


def mutated(scenario: Scenario, *mutations: Mutation) -> type[Protocol]:
    model = model_of(scenario)
    for it in mutations:
        model = type("Mutated", (model,), {name: method(getattr(model, name), do) for name, do in it.instead.items()})
    return model


def method(usual: Callable[..., Any], instead: Instead) -> Callable[..., Any]:
    return lambda m, *args: instead(m, partial(usual, m), *args)


# -- what several have in common --------------------------------------------------------------------------------------


def nothing(m: Protocol, usual: Instead, *args: Any) -> None:
    """Has no effect."""


def never(m: Protocol, usual: Instead, *args: Any) -> bool:
    return False


def as_if(it: Any, usual: Instead, *args: Any, **attributes: Any) -> Any:
    """What is usual, while these attributes are others; afterwards they are as before."""
    before = {name: getattr(it, name) for name in attributes}
    vars(it).update(attributes)
    result = usual(*args)
    vars(it).update(before)
    return result


def after_setting(**attributes: Any) -> Instead:
    """What is usual, of a thread that has these attributes."""

    def instead(m: Protocol, usual: Instead, t: Thread) -> None:
        vars(t).update(attributes)
        usual(t)

    return instead


def no_settle(m: Protocol, usual: Instead, *args: Any) -> None:
    """All but the SETTLE at its end."""
    as_if(m, usual, *args, release=lambda t: m.settled())


def no_settle_if(when: Callable[[Thread], bool]) -> Instead:
    """In place of `release`."""
    return lambda m, usual, t: m.settled() if when(t) else usual(t)


def no_settle_of(kind: str) -> Instead:
    return no_settle_if(lambda t: t.op.kind == kind)


def ignores_readers(m: Protocol, usual: Instead, *args: Any) -> Any:
    return as_if(m.gets, usual, *args, turn=FREE)


# -- waking up --------------------------------------------------------------------------------------------------------

mutation("a get does not SETTLE", {"two records each": "I3"}, release=no_settle_of("get"))
mutation("a get_many does not SETTLE", {"queue: batches": "I3"}, release=no_settle_of("get_many"))
mutation("a larger maxsize wakes nobody", {"queue: maxsize": "I3"}, release=no_settle_of("bound"))
mutation("a shutdown wakes nobody", {"shutdown": "I3", "queue: shutdown": "I3"}, release=no_settle_of("shutdown"))
mutation("END does not SETTLE", {"turns": "I3"}, release=no_settle_if(lambda t: t.at is COPIED))
mutation(
    "a thread that looks for signals passes nothing on",
    {"signals to a consumer": "I3", "queue: signals to a consumer": "I3"},
    release=no_settle_if(lambda t: t.at is HANDLES),
)
mutation(
    "NO MEMORY unlocks without a SETTLE",
    {"away to allocate": "I3"},
    acquire_without_memory=lambda m, usual, t: usual(t) if m.ready(t) else no_settle(m, usual, t),
)


def does_not_settle_in_vain(m: Protocol, usual: Instead, t: Thread) -> None:
    count, release = m.count, m.release
    as_if(m, usual, t, release=lambda t: m.count != count and release(t))


mutation(
    "a TRY that may not act unlocks without a SETTLE", {"signals amid turns": "I3"}, try_once=does_not_settle_in_vain
)
mutation(
    "a coroutine's TRY in vain does not SETTLE",
    {"coroutines, needs that differ": "I3"},
    try_once=does_not_settle_in_vain,
)
mutation(
    "the wake-up of a grant is lost",
    {"one record each": "was granted, and nobody wakes it"},
    settle=lambda m, usual: usual()[1:],
)
mutation(
    "a wake-up before the sleep is lost",
    {"one record each": "was granted, and nobody wakes it", "queue: one slot": "was granted, and nobody wakes it"},
    wake=lambda m, usual, woken: woken.at is ENTERED or usual(woken),
)
mutation(
    "SETTLE looks at the first waiter only",
    {"needs that differ": "I3"},
    servable=lambda m, usual, side: t if (t := usual(side)) in side.waiters[:1] else None,
)
mutation(
    "SETTLE forgets what is promised",
    {"needs that differ": "promised already"},
    servable=lambda m, usual, side: as_if(side, usual, side, promised=0),
)
mutation(
    "no LOOK after RETURN",
    {"two records each": "does not wait for what it needs"},
    ready=lambda m, usual, t: t.at in WAITS or usual(t),
)

# -- leaving ----------------------------------------------------------------------------------------------------------


def takes_no_token(m: Protocol, usual: Instead, t: Thread) -> None:
    m.return_(t)


mutation(
    "a waiter that is granted at its deadline takes no token",
    {"deadlines": "freed or is used again", "queue: deadlines": "freed or is used again"},
    await_token=takes_no_token,
)
mutation(
    "a waiter that is granted at a tick takes no token",
    {"signals to a consumer": "freed or is used again", "queue: signals to a consumer": "freed or is used again"},
    await_token=takes_no_token,
)


def forgets_grant(m: Protocol, usual: Instead, t: Thread) -> None:
    if t.at is AWAITS_TOKEN:
        t.token = False
        m.leave(t)
        m.finish(t)
    else:
        usual(t)


mutation("a waiter that is granted as it gives up passes nothing on", {"deadlines": "I3"}, return_=forgets_grant)


def keeps_promise_if(when: Callable[[Thread], bool]) -> Instead:
    """In place of `leave`."""
    return lambda m, usual, t: vars(t).update(granted=False) if when(t) else usual(t)


mutation(
    "a waiter that is granted as it gives up keeps its promise",
    {"deadlines": "promises of the gets balance"},
    leave=keeps_promise_if(lambda t: t.at is AWAITS_TOKEN),
)
mutation("the need stays after the deadline", {"without waiting": "I3"}, node_need=lambda m, usual, t: m.needs(t))
mutation(
    "a waiter that returns waits for more than fits",
    {"queue: batches, one slot": "I3"},
    node_need=lambda m, usual, t: m.needs(t),
)
mutation("a smaller maxsize leaves needs that cannot be met", {"queue: maxsize": "I3"}, cut_needs=nothing)


def queues_by_arrival(m: Protocol, usual: Instead, t: Thread) -> None:
    usual(t)
    t.side.waiters = (*without(t.side.waiters, t), t)


mutation("waiters queue by arrival", {"signals to a consumer": "I2"}, enter=queues_by_arrival)
mutation(
    "a put out of time looks for ever",
    {"deadlines": "livelock"},
    end_piece=lambda m, usual, t: usual(t) if t.piece else vars(t).update(at=LOOKS),
)

# -- promises, overtaking ---------------------------------------------------------------------------------------------

mutation(
    "hold is not undone",
    {"away to allocate": "promises of the gets balance"},
    unhold=lambda m, usual, t: vars(t).update(held=0),
)
mutation(
    "a thread that looks for signals before it takes keeps its promise",
    {"a handler puts": "gets balance"},
    end_wait=after_setting(held=0),
)
mutation(
    "a handler that waits keeps what was promised before",
    {"a handler puts": "sleeps, though it could"},
    must_lend=never,
)
mutation("a loop in a handler does not lend", {"a loop in a handler": "sleeps, though it could"}, must_lend=never)
mutation(
    "a thread that may not overtake never may again",
    {"overtaking ends": "only woken threads are overtaken"},
    leave=lambda m, usual, t: as_if(t.side, usual, t, overtakes=t.side.overtakes),
)


def counts_the_away(m: Protocol, usual: Instead, side: Side) -> None:
    if side.granted:
        side.overtakes = min(side.overtakes + 1, m.scenario.overtakes)


mutation(
    "a thread that is away keeps others from overtaking",
    {"overtaking ends, a handler puts": "only woken threads are overtaken"},
    overtake=counts_the_away,
)
mutation(
    "a coroutine counts as woken",
    {"coroutines, overtaking ends": "only woken threads are overtaken"},
    overtake=lambda m, usual, side: as_if(m, usual, side, is_woken=lambda t: True),
)

# -- copies -----------------------------------------------------------------------------------------------------------

mutation(
    "the turn is not looked at",
    {"turns": "acts in another's turn"},
    ready=lambda m, usual, t: m.available(t.side) >= m.needs(t) or usual(t),
)
mutation("what is being read is dropped", {"drop_oldest": "no slot is written while being read"}, admit=ignores_readers)
mutation(
    "what is being read is discarded",
    {"immediate shutdown": "a slot is read that holds no record"},
    discard_rest=ignores_readers,
)


def takes_no_turn(m: Protocol, usual: Instead, t: Thread, first: int, n: int) -> None:
    usual(t, first, n)
    if t.op.kind == "snapshot":
        t.side.turn = FREE


mutation(
    "a snapshot takes no turn",
    {"drop_oldest": "is read that holds no record"},
    copy_in_turn=takes_no_turn,
    check_state=nothing,  # else that would be all that is seen: a turn without an owner
)

# -- blocks -----------------------------------------------------------------------------------------------------------

mutation("SETTLE does not wake a waiter that gives up", {"blocks, shutdown": "I3"}, first_to_give_up=nothing)
mutation(
    "SETTLE does not wake a waiter that is out of time",
    {"blocks and large copies": "I3"},
    first_to_give_up=lambda m, usual, side: next((t for t in side.waiters if not t.expired and m.gives_up(t)), None),
)
mutation(
    "a put that must not wait waits for a reservation",
    {"blocks, deadlines": "P2 waits for"},
    is_held=lambda m, usual, t: t.op.kind != "put" and usual(t),
)
mutation(
    "a put that drops waits for a reservation",
    {"blocks, drop_oldest": "P2 waits for"},
    gives_up=lambda m, usual, t: usual(t) and (t.expired or m.shut is not OPEN),
)
mutation(
    "a shutdown does not end the waiting for a reservation",
    {"blocks, shutdown": "I3"},
    gives_up=lambda m, usual, t: usual(t) and t.expired,
)
mutation(
    "nobody waits for a reservation", {"blocks": "does not wait for a reservation"}, gives_up=lambda m, usual, t: True
)
mutation("an operation that gives up passes nothing on", {"blocks and large copies": "I3"}, give_up=no_settle)
mutation(
    "END of a block does not SETTLE",
    {"blocks": "I3"},
    release=no_settle_if(lambda t: t.at is HAS_BLOCK and t.side.turn != RESERVED),
)
mutation(
    "a block without records ends without a SETTLE",
    {"blocks that follow blocks": "I3"},
    end_block_and_release=lambda m, usual, t, n: usual(t, n) if n else no_settle(m, usual, t, n),
)
mutation(
    "a put that gives up does not count what it drops",
    {"blocks, drop_newest": "offered"},
    drop_rest=lambda m, usual, t: as_if(m, usual, t, refused=m.refused),
)
mutation(
    "drop_oldest drops what is peeked at",
    {"blocks, drop_oldest": "no slot is written while being"},
    admit=ignores_readers,
)
mutation(
    "a reservation drops what is peeked at",
    {"blocks, drop_oldest": "no slot is written while being"},
    reserve_slots=ignores_readers,
)
mutation(
    "what is peeked at is discarded",
    {"blocks, immediate shutdown": "peeks at is not the oldest"},
    discard_rest=ignores_readers,
)
mutation(
    "a snapshot does not wait for a peek",
    {"blocks, immediate shutdown": "acts in another's turn"},
    ready=lambda m, usual, t: t.op.kind == "snapshot" or usual(t),
)
mutation(
    "a block begins after a shutdown",
    {"blocks, drop_newest": "a record enters after"},
    reserve_slots=lambda m, usual, t: as_if(m, usual, t, shut=OPEN),
)
mutation(
    "a shutdown ends a get before a reservation",
    {"blocks, shutdown": "a record enters after"},
    over=lambda m, usual, side: usual(side) or (m.shut is SHUT and m.puts.turn == RESERVED),
)
mutation(
    "a get that gives up beside a peek is told: drained",
    {"blocks, drop_newest": "though records are there"},
    may_leave_records=never,
)
mutation(
    "END of a block discards nothing",
    {"blocks, immediate shutdown": "immediate shutdown leaves nothing"},
    discard_if_shut_now=lambda m, usual, t: t.at is HAS_BLOCK or usual(t),
)

# -- forks ------------------------------------------------------------------------------------------------------------

mutation("a fork leaves a turn taken", {"fork": "turn of the puts has one owner"}, forget_turn=nothing)
mutation("a fork amid a copy does not tear", {"fork": "a fork amid a copy tears the ring"}, tear=nothing)
mutation(
    "the child keeps the parent's waiters",
    {"fork": "though it does not wait"},
    forget_waiters=lambda m, usual, side: vars(side).update(promised=0, granted=0),
)
mutation(
    "the child keeps the parent's joiners",
    {"queue: fork": "though it does not wait"},
    forget_waiters=lambda m, usual, side: side is m.joins or usual(side),
)
mutation(
    "the child keeps the parent's promises",
    {"fork": "balance", "queue: fork": "promises of the gets balance"},
    forget_waiters=lambda m, usual, side: as_if(side, usual, side, promised=side.promised, granted=side.granted),
)
mutation(
    "a promise of before the fork is given back",
    {"a handler forks": "promises of the gets balance"},
    unhold=lambda m, usual, t: as_if(m, usual, t, forks=t.held_forks),
)
mutation(
    "the child waits by a node of the parent's",
    {"a handler forks": "node of the parent's", "queue: a handler forks": "node of the parent's"},
    make_node=lambda m, usual, t: t.node != NONE or usual(t),
)

# -- coroutines -------------------------------------------------------------------------------------------------------

mutation(
    "a cancelled coroutine keeps what it was promised",
    {"coroutines get": "promises of the gets balance", "queue: coroutines": "promises of the gets balance"},
    leave=keeps_promise_if(lambda t: t.at is SUSPENDED and t.granted),
)
mutation(
    "WITHDRAW does not SETTLE",
    {"coroutines get": "I3", "queue: coroutines": "I3"},
    release=no_settle_if(lambda t: t.at is LETS_GO),
)
mutation(
    "a closed loop does not withdraw",
    {
        "coroutines, loops that are closed": "was granted, and nobody wakes it",
        "queue: coroutines, loops that are closed": "was granted, and nobody wakes it",
    },
    goes_on=lambda m, usual, t: () if t.loop.dead else usual(t),
)
mutation(
    "a coroutine's grant ends a SETTLE",
    {"coroutines, needs that differ": "I3", "queue: coroutines, batches": "I3"},
    settle=lambda m, usual: as_if(m, usual, is_woken=lambda t: True),
)
mutation(
    "a node is freed though its bell is still to ring",
    {"coroutines get": "freed or is used again", "queue: coroutines": "freed or is used again"},
    let_go=lambda m, usual, t: m.finish(t),
)
mutation(
    "a node that waits again counts as rung",
    {"coroutines get": "freed or is used again"},
    suspend=lambda m, usual, t: as_if(t, usual, t, rung=t.rung),
)
mutation(
    "a node that has rung is left to the thread that rang",
    {"coroutines get": "nobody frees the node"},
    let_go=after_setting(rung=False),
)


def frees_nothing(m: Protocol, usual: Instead, it: Thread | Loop) -> Any:
    """In what is usual, no loop's bell loses a reference."""
    before = [loop.references for loop in m.loops]
    result = usual(it)
    for loop, references in zip(m.loops, before, strict=True):
        loop.references = references
    return result


mutation(
    "a thread that rings for a node without an owner does not free it",
    {"coroutines get": "is freed once"},
    wake_next=frees_nothing,
)
mutation("a loop does not free nodes without an owner", {"coroutines get": "is freed once"}, take_woken=frees_nothing)
mutation(
    "a closed loop's bell collects nodes",
    {"coroutines, loops that are closed": "a node is left to"},
    ring=lambda m, usual, woken: as_if(woken.loop, usual, woken, dead=False),
)


def rings_once(m: Protocol, usual: Instead, woken: Thread) -> None:
    loop = woken.loop
    if any(t.at is ANSWERED for t in loop.coroutines):
        as_if(loop, usual, woken, rings=loop.rings)
    else:
        usual(woken)


mutation(
    "the bell does not ring again before a coroutine that was answered has gone on",
    {
        "coroutines get": "was granted, and nobody wakes it",
        "queue: coroutines, conversion": "was granted, and nobody wakes it",
    },
    ring=rings_once,
)
mutation(
    "a coroutine that returns does not leave its list",
    {"coroutines get": "frees a node that is in", "queue: coroutines join": "frees a node that is in use"},
    leave=lambda m, usual, t: t.at is ANSWERED or usual(t),
)
mutation(
    "a coroutine puts what there is room for",
    {"coroutines put": "a part of what fits"},
    needs=lambda m, usual, t: min(usual(t), 1) if t.loop and t.side is m.puts else usual(t),
)
mutation(
    "a coroutine that is served by a fast path does not withdraw",
    {"queue: coroutines": "that is in use"},
    act_fast=after_setting(at=LOOKS),
)
mutation(
    "a coroutine moves on without a WITHDRAW",
    {"queue: coroutines, conversion": "frees a node that is in use"},
    returns=lambda m, usual, t: ("MOVE ON",) if m.mode is CLASSIC else usual(t),
)

# -- shutdowns --------------------------------------------------------------------------------------------------------

mutation(
    "a shutdown wakes one a side, which passes nothing on",
    {"shutdown": "I3"},
    servable=lambda m, usual, side: None if m.shut is not OPEN and side.granted else usual(side),
    release=lambda m, usual, t: (m.shut is not OPEN and t.op.kind != "shutdown") or usual(t),
)
mutation(
    "a shutdown ends a get before a put in its turn",
    {"shutdown amid turns": "drained"},
    over=lambda m, usual, side: m.shut is not OPEN,
)
mutation(
    "END of a put discards nothing",
    {"immediate shutdown": "an immediate shutdown leaves nothing"},
    discard_if_shut_now=lambda m, usual, t: t.side is m.puts or usual(t),
)


def shuts_first(m: Protocol, usual: Instead, t: Thread) -> None:
    m.shut, m.removed = SHUT, True
    m.release(t)
    t.at = HALFWAY


mutation(
    "an immediate shutdown is two sections",
    {"queue: immediate shutdown": "after an immediate shutdown"},
    shutdown=shuts_first,
    choices=lambda m, usual, t: ("CLEAR",) if t.at is HALFWAY and not t.wakes else usual(t),
)

# -- the fast paths of a queue ----------------------------------------------------------------------------------------


def ignores_waiters(m: Protocol, usual: Instead) -> None:
    as_if(m.puts, lambda: as_if(m.gets, usual, waiters=()), waiters=())


def ignores_shutdown(m: Protocol, usual: Instead) -> None:
    as_if(m, usual, shut=OPEN)


def keeps_bound(m: Protocol, usual: Instead) -> None:
    before = getattr(m, "put_below", 0)
    usual()
    m.put_below = max(before, m.put_below)


mutation("the fast path is not closed when somebody waits", {"queue: one slot": "Q2"}, settled=ignores_waiters)
mutation(
    "the same, and nobody looks at Q2", {"queue: one slot": "I3"}, settled=ignores_waiters, check_fast_paths=nothing
)
mutation("the fast path is not closed by a shutdown", {"queue: shutdown": "Q2"}, settled=ignores_shutdown)
mutation(
    "the same of a shutdown",
    {"queue: shutdown": "an item enters a queue that is shut down"},
    settled=ignores_shutdown,
    check_fast_paths=nothing,
)
mutation(
    "the fast path is not closed by a conversion",
    {"queue: conversion": "items change"},
    settled=lambda m, usual: as_if(m, usual, mode=PLAIN),
    check_fast_paths=nothing,
)
mutation("a smaller maxsize leaves the fast put its bound", {"queue: maxsize": "Q2"}, settled=keeps_bound)

# -- joins ------------------------------------------------------------------------------------------------------------


def grants_no_join_at(kind: str) -> Instead:
    """In place of `release`."""
    return lambda m, usual, t: as_if(m, usual, t, sides=(m.gets, m.puts)) if t.op.kind == kind else usual(t)


mutation("task_done grants no joiner", {"queue: joins": "Q3"}, release=grants_no_join_at("task_done"))
mutation("clear grants no joiner", {"queue: clear": "Q3"}, release=grants_no_join_at("clear"))
mutation(
    "an immediate shutdown grants no joiner", {"queue: immediate shutdown": "Q3"}, release=grants_no_join_at("shutdown")
)
mutation(
    "a queue that is started anew grants no joiner", {"queue: started anew": "Q3"}, release=grants_no_join_at("start")
)
mutation(
    "one joiner is granted, which passes nothing on",
    {"queue: joins": "Q3"},
    servable=lambda m, usual, side: None if side is m.joins and side.granted else usual(side),
)
mutation(
    "a joiner does not look again",
    {"queue: joins": "a join ends before all is done"},
    ready=lambda m, usual, t: usual(t) or (t.side is m.joins and t.waited),
)

# -- the way to the standard library's algorithm ----------------------------------------------------------------------

mutation("conversion leaves waiters behind", {"queue: conversion": "I3"}, end_waiting=nothing)
mutation("conversion leaves coroutines behind", {"queue: coroutines, conversion": "I3"}, end_waiting=nothing)
mutation(
    "conversion leaves joiners behind",
    {"queue: conversion": "I3"},
    servable=lambda m, usual, side: usual(side) if side is not m.joins or not m.unfinished else None,
)


def acts_amid_conversion(m: Protocol, usual: Instead, t: Thread) -> None:
    as_if(m, usual, t, mode=PLAIN if m.mode is CONVERTING else m.mode)
    m.settled()


def starts_amid_conversion(m: Protocol, usual: Instead, t: Thread) -> tuple[str, ...]:
    starts = t.at is HALFWAY and t.op.kind == "start" and m.mode is CONVERTING and not t.wakes
    return ("START",) if starts else usual(t)


def awaits_conversion(m: Protocol, usual: Instead, t: Thread) -> None:
    m.made_after = m.forks
    m.release(t)


mutation("a get goes on while the items are copied", {"queue: conversion": "items change"}, act=acts_amid_conversion)
mutation(
    "a queue is started anew while the items are copied",
    {"queue: conversion, started anew": "items change"},
    choices=starts_amid_conversion,
)
mutation(
    "the child waits for the parent's conversion",
    {"queue: fork amid a conversion": "deadlock"},
    renew=awaits_conversion,
)

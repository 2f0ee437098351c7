"""What the threads of a scenario do, and how that is written: `capacity 2; P1 put 3 timed; C1 get 1-2, get`.

A part that begins with a name in capitals is a thread's program, of one operation or several:

    put 3           all of them; `put` is of one record, as get, reserve, peek are
    get 1-2         wait for one, take up to two; `get 2`: for two
    timed, nowait   the operation has a deadline, or does not wait; else it waits for ever
    turn>1          a copy of more than one record takes a turn
    room 1          it must go away to allocate where it finds more than one record
    shutdown now    an immediate one

The other parts are settings: fields of `Scenario`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BLOCK, DROP_OLDEST, DROP_NEWEST = "block", "drop_oldest", "drop_newest"
FOR_EVER, TIMED, NOT = "for ever", "timed", "nowait"  # how long an operation waits
MANY = 9  # more than there ever is
SYNTAX = re.compile(
    r"(?P<kind>\w+)(?: (?:(?P<least>\d)-)?(?P<n>\d))?(?: (?P<wait>timed|nowait))?"
    r"(?: turn>(?P<locked>\d))?(?: room (?P<room>\d))?(?P<now> now)?"
)


@dataclass(frozen=True, eq=False)
class Op:
    """One operation of a thread's program."""

    kind: str  # "put", "get", "reserve", "peek", "snapshot", "shutdown", "fork"; a queue's "put_many", "join" ...
    n: int  # records: put all of them, take that many at most, wait for so many slots; maxsize
    least: int  # get, peek: how many it waits for
    wait: str
    locked: int  # the largest copy under the lock [records]; a larger one takes a turn
    room: int  # get: what it allocates before it knows what is there [records]
    immediate: bool  # shutdown


def operation(text: str) -> Op:
    it = SYNTAX.fullmatch(text)
    if it is None:
        raise ValueError(f"{text!r} is no operation; expected one such as 'get 1-2 timed turn>0 room 1'")
    wait = {None: FOR_EVER, "timed": TIMED, "nowait": NOT}[it["wait"]]
    sees_all = it["kind"] == "snapshot"
    n = MANY if sees_all else int(it["n"] or 1)
    least = 0 if sees_all else int(it["least"] or n)
    return Op(it["kind"], n, least, wait, int(it["locked"] or MANY), int(it["room"] or MANY), bool(it["now"]))


@dataclass(frozen=True)
class Scenario:
    """Some threads that use one buffer."""

    name: str
    text: str
    of: str  # "ring", "queue" or "shared"
    threads: dict[str, tuple[Op, ...]]
    capacity: int = 1
    overflow: str = BLOCK
    ticks: str = ""  # the main thread, which looks for signals
    handler: str = ""  # its program is what a signal handler of that thread does, once
    children: str = ""  # threads that are started in the child of a fork
    loops: str = ""  # letters, each an event loop's: threads with names that begin with it are coroutines there
    cancelled: str = ""  # which coroutines may be cancelled
    closed: str = ""  # which loops may be closed
    spins: bool = False  # a thread that may not act spins once before it enters the list
    memory_fails: bool = False  # any allocation may fail
    kills: str = ""  # of a shared ring: the processes of which one may be killed
    overtakes: int = 0  # after how many actions the woken must come back first; 0: there is no limit
    some_sleep_on: bool = False  # for ever, and rightly
    long: bool = False  # takes a minute or so

    def __str__(self) -> str:
        return self.text


def scenario(name: str, text: str, of: str) -> Scenario:
    settings: dict[str, str | int | bool] = {}
    threads = {}
    for part in text.split("; "):
        word, _, rest = part.partition(" ")
        if word.isupper():
            threads[word] = tuple(map(operation, rest.split(", ")))
        else:
            settings[word] = int(rest) if rest.isdigit() else rest or True
    return Scenario(name, text, of, threads, **settings)


def scenarios(of: str, table: str, prefix: str = "") -> dict[str, Scenario]:
    """Those of a table: `NAME: TEXT`, each on a line of its own, and on indented ones; `#` begins a comment."""
    lines = [line for line in table.strip().splitlines() if not line.startswith("#")]
    entries = re.split(r"\n(?! )", "\n".join(lines))
    pairs = [(prefix + name, " ".join(text.split())) for name, text in (entry.split(": ", 1) for entry in entries)]
    return {name: scenario(name, text, of) for name, text in pairs}

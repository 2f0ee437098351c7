"""The explorer: every state that a model can reach, by every interleaving of its threads' steps, is checked.

Breadth first, so that the trace that leads to the first violation is a shortest one. Then: from every state an end can
be reached, so there is no livelock. Of a model that names the steps that take time: without these no state comes again,
so nothing is done over and over. A `Model` is in one state at a time; here nothing is known of what it models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


class Violation(Exception):  # noqa: N818
    """Something that must hold does not."""


def insist(holds: Any, what: str) -> None:
    if not holds:
        raise Violation(what)


def takes(*names: str) -> Callable[[Any], Any]:
    """Of a model's function: these are the names of the steps that it takes."""

    def note(function: Any) -> Any:
        function.steps = names
        return function

    return note


def keeper(*fields: str) -> tuple[Callable[[Any], tuple[Any, ...]], Callable[[Any, tuple[Any, ...]], None]]:
    """`freeze` and `thaw` of a class with these attributes.

    Compiled for them, as `namedtuple` does: each step calls both of every thread, and all takes twice as long by
    `attrgetter` and a loop.
    """
    own = "".join(f"self.{it}, " for it in fields)
    space: dict[str, Any] = {}
    exec(f"def freeze(self): return {own}\ndef thaw(self, state): {own} = state", space)
    return space["freeze"], space["thaw"]


class Model:
    """What can be explored: threads, each with a name and its `index`, and a state.

    A subclass has `freeze()`, which returns the state as a value, and `thaw(state)`; `choices(t)`, the steps that a
    thread may take now; `check_state()` for every state; `check_rest(choices)`, which is given all that may come next,
    and returns whether this is an end; `str` and `describe()`, which say what is explored and how it stands.
    """

    steps: dict[str, str] = {}  # noqa: RUF012  # the function that takes it, by the name of a step
    threads: list[Any]
    time: tuple[str, ...] | None = None  # the steps that take time
    story: list[str] | None = None  # what the steps tell of themselves, while a trace is told

    def __init_subclass__(cls) -> None:
        cls.steps = cls.steps | {it: name for name, own in vars(cls).items() for it in getattr(own, "steps", ())}

    def step(self, t: Any, choice: str) -> None:
        getattr(self, self.steps[choice])(t)

    def say(self, *words: Any) -> None:
        if self.story is not None:
            self.story.append(" ".join(map(str, words)))


Step = tuple[int, int, str]  # from which state; which thread; what it did


@dataclass
class Exploration:
    """What `explore` found."""

    states: int = 0
    steps: int = 0
    ends: int = 0  # states in which nothing but ticks can follow
    kinds: set[str] = field(default_factory=set)  # of steps
    violation: str | None = None
    trace: str = ""  # the shortest way to the violation


def explore(m: Model) -> Exploration:
    """Go through every interleaving from the model's state on; end at the first violation."""
    states = [m.freeze()]
    numbers = {states[0]: 0}
    came: list[Step | None] = [None]  # how each state was reached first
    following: list[list[int]] = []
    at_once: list[list[int]] = []  # by steps that take no time
    found = Exploration()
    ends = []
    for here, state in enumerate(states):  # which grows meanwhile
        m.thaw(state)
        choices = [(t, choice) for t in m.threads for choice in m.choices(t)]
        step = None
        try:
            if m.check_rest(choices):
                ends.append(here)
            following.append([])
            at_once.append([])
            for t, choice in choices:
                if step is not None:
                    m.thaw(state)
                step = (here, t.index, choice)
                m.step(t, choice)
                reached = m.freeze()
                number = numbers.setdefault(reached, len(states))
                if number == len(states):
                    m.check_state()
                    states.append(reached)
                    came.append(step)
                following[here].append(number)
                if m.time is not None and choice not in m.time:
                    at_once[here].append(number)
                found.kinds.add(choice)
        except Violation as violation:
            found.violation = str(violation)
            found.trace = tell(m, states[0], way_to(here, came) + [step] * (step is not None), found.violation)
            break
    found.states, found.steps, found.ends = len(states), sum(map(len, following)), len(ends)
    trap = None if found.violation else without_end(following, ends)
    if trap is not None:
        found.violation = "livelock: from here no end can be reached"
        found.trace = tell(m, states[0], way_to(trap, came), found.violation)
    again = None if found.violation else in_circle(at_once)
    if again is not None:
        found.violation = "a storm: this state comes again, and no time has passed"
        found.trace = tell(m, states[0], way_to(again, came), found.violation)
    return found


def without_end(following: list[list[int]], ends: list[int]) -> int | None:
    """The first state, if any, from which no end can be reached."""
    before: list[list[int]] = [[] for _ in following]
    for state, reached in enumerate(following):
        for later in reached:
            before[later].append(state)
    good = bytearray(len(following))
    todo = list(ends)
    while todo:
        state = todo.pop()
        if not good[state]:
            good[state] = 1
            todo += before[state]
    trap = good.find(0)
    return None if trap < 0 else trap


def in_circle(following: list[list[int]]) -> int | None:
    """The first state, if any, that follows from itself or from one that does."""
    ways = [0] * len(following)  # to each state, from those that have not been struck off
    for reached in following:
        for later in reached:
            ways[later] += 1
    todo = [state for state, number in enumerate(ways) if number == 0]
    while todo:
        for later in following[todo.pop()]:
            ways[later] -= 1
            if ways[later] == 0:
                todo.append(later)
    return next((state for state, number in enumerate(ways) if number), None)


def way_to(state: int, came: list[Step | None]) -> list[Step]:
    way = []
    step = came[state]
    while step is not None:
        way.append(step)
        step = came[step[0]]
    return way[::-1]


def tell(m: Model, start: tuple[Any, ...], way: list[Step], violation: str) -> str:
    """A trace for people: the steps, and how it stands at the end."""
    lines = [str(m)]
    m.thaw(start)
    for number, (_, index, choice) in enumerate(way, 1):
        m.story = []
        try:
            m.step(m.threads[index], choice)
        except Violation:
            m.story.append("...")
        lines.append(f"{number:4}  {m.threads[index].name:3} {choice:16} {'; '.join(m.story)}".rstrip())
    m.story = None
    return "\n".join([*lines, f"  =>  {violation}", f"      {m.describe()}"])

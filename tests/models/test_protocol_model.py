"""Each protocol holds in every interleaving, and the models notice where a piece of it is missing."""

import re
from pathlib import Path

import protocol_model
import pytest
import ring_model
import shared_model
from explore import explore_scenario, main
from explorer import Exploration
from helpers import FULL, thorough
from mutations import MUTATIONS, Mutation
from programs import Scenario
from protocol_model import Protocol
from queue_model import Queue
from ring_model import Ring
from scenarios import SCENARIOS, model_of
from shared_model import Shared

HEADER = Path(__file__).parents[2] / "f1buf" / "core" / "sync.pyx"

# What is explored every day: small ones that take every kind of step together.
EVERYDAY = {
    "one record each",
    "needs that differ",
    "fork",
    "a loop in a handler",
    "signals amid turns",
    "blocks, fork",
    "blocks that follow blocks",
    "coroutines and blocks",
    "coroutines and large copies",
    "queue: one slot",
    "queue: joins",
    "queue: conversion",
    "queue: two conversions",
    "queue: started anew",
    "queue: without memory",
    "queue: fork amid a conversion",
    "queue: a loop in a handler",
    "queue: coroutines, loops that are closed",
    "shared: one put for two gets",
    "shared: three puts, a deadline",
    "shared: needs that differ, one record",
    "shared: deadlines",
    "shared: signals",
    "shared: drop_oldest, two gets",
    "shared: reserve",
    "shared: shutdown, without waiting",
    "shared: shutdown, reserve",
    "shared: immediate shutdown",
    "shared: killed, blocks",
    "shared: killed, peek",
    "shared: killed, drop_oldest",
    "shared: killed, another comes",
    "shared: killed, shutdown",
}


def those(values, scenario_of):
    """Parameters by name, of which the everyday run takes those of small scenarios."""
    return [
        pytest.param(value, id=name, marks=[] if scenario_of(value) in EVERYDAY else thorough)
        for name, value in values.items()
    ]


@pytest.fixture(scope="module")
def explored() -> dict[str, Exploration]:
    """What has been found so far, by scenario."""
    return {}


@pytest.mark.parametrize("scenario", those(SCENARIOS, lambda scenario: scenario.name))
def test_every_interleaving_holds(scenario: Scenario, explored: dict[str, Exploration]) -> None:
    if scenario.long and not FULL:
        pytest.skip("takes a minute or so: explored where F1BUF_STRESS is 10 or more")
    found = explored[scenario.name] = explore_scenario(scenario)
    assert found.violation is None, found.trace
    assert found.states > 100
    assert found.ends > 0


@pytest.mark.parametrize("model", [Ring, Queue, Shared])
def test_the_scenarios_of_every_day_take_every_kind_of_step(
    model: type[Protocol | Shared], explored: dict[str, Exploration]
) -> None:
    names = {name for name in EVERYDAY if model_of(SCENARIOS[name]) is model}
    if not explored.keys() >= names:
        pytest.skip("not every scenario was explored")
    assert set().union(*(explored[name].kinds for name in names)) == model.steps.keys()


@pytest.mark.parametrize("mutation", those(MUTATIONS, lambda mutation: mutation.scenario))
def test_a_missing_piece_is_noticed(mutation: Mutation) -> None:
    found = explore_scenario(SCENARIOS[mutation.scenario], mutation)
    print(found.trace)
    assert found.violation is not None, "the explorer misses it"
    assert mutation.finds in found.violation
    assert found.trace.splitlines()[0] == str(SCENARIOS[mutation.scenario])
    assert f"=>  {found.violation}" in found.trace


def test_mutations_can_be_combined() -> None:
    both = [MUTATIONS["a get does not SETTLE"], MUTATIONS["a shutdown wakes nobody"]]
    assert "I3" in str(explore_scenario(SCENARIOS["shutdown"], *both).violation)


def test_a_trace_is_the_shortest_and_can_be_read() -> None:
    trace = explore_scenario(SCENARIOS["one record each"], MUTATIONS["a wake-up before the sleep is lost"]).trace
    steps = [re.sub(" +", " ", line).strip() for line in trace.splitlines()[1:]]
    assert steps[2:-1] == [
        "3 C2 LOOK may not act: ENTER",
        "4 P2 LOOK puts 1; SETTLE grants C2",
        "5 P2 WAKE C2",
        "6 C2 PARK",
        "=> deadlock: C2 was granted, and nobody wakes it",
    ]


def test_the_model_has_the_names_of_the_code() -> None:
    """Each step that the header of `sync` lists is one of the model's, or what its headers say of one."""
    if not HEADER.exists():
        pytest.skip("the sources of f1buf are not beside the tests")
    named = re.findall(r"^    ([A-Z]{3,})  ", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    model = f"{protocol_model.__doc__} {ring_model.__doc__}"
    assert {"LOOK", "PARK", "RETURN", "SETTLE", "WAKE"} <= set(named)
    assert [name for name in named if not re.search(rf"\b{name}\b", model)] == []


def test_each_step_of_the_shared_ring_s_model_is_explained() -> None:
    text = " ".join(str(shared_model.__doc__).split())
    assert [step for step in Shared.steps if not re.search(rf"\b{step}\b", text)] == []


def test_the_command_line_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutation"]) == 2
    assert "usage" in capsys.readouterr().err

"""Explore the models of the protocols: `python tests/models/explore.py` goes through all scenarios.

`python tests/models/explore.py mutations` switches off one piece of a protocol after the other, and prints the trace
by which each of these fails.
"""

import sys
import time

import shared_mutations  # noqa: F401  # which adds its own to MUTATIONS
from explorer import Exploration, explore
from mutations import MUTATIONS, Mutation, mutated
from programs import Scenario
from scenarios import SCENARIOS


def explore_scenario(scenario: Scenario, *mutations: Mutation) -> Exploration:
    return explore(mutated(scenario, *mutations)(scenario))


def main(arguments: list[str]) -> int:
    if arguments == ["mutations"]:
        return show_mutations()
    if arguments:
        print("usage: explore.py [mutations]", file=sys.stderr)
        return 2
    return show_scenarios()


def show_scenarios() -> int:
    print(f"{'scenario':40} {'states':>8} {'steps':>9} {'ends':>5} {'seconds':>8}")
    began = time.perf_counter()
    total = Exploration()
    failed = 0
    for it in SCENARIOS.values():
        start = time.perf_counter()
        found = explore_scenario(it)
        seconds = time.perf_counter() - start
        print(f"{it.name:40} {found.states:8,} {found.steps:9,} {found.ends:5} {seconds:8.1f}", flush=True)
        total.states += found.states
        total.steps += found.steps
        if found.violation:
            failed += 1
            print(found.trace)
    seconds = time.perf_counter() - began
    verdict = f"{failed} of them fail" if failed else "nothing that must not be is reachable"
    print(f"{len(SCENARIOS)} scenarios, {total.states:,} states, {total.steps:,} steps, {seconds:.1f} s: {verdict}")
    return 1 if failed else 0


def show_mutations() -> int:
    missed = []
    for it in MUTATIONS.values():
        found = explore_scenario(SCENARIOS[it.scenario], it)
        print(f"{it.name}, in the scenario {it.scenario!r}:", found.trace or "not found", "", sep="\n", flush=True)
        if found.violation is None or it.finds not in found.violation:
            missed.append(it.name)
    print(f"{len(MUTATIONS)} mutations: " + (f"missed {', '.join(missed)}" if missed else "each is found"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What becomes of each peer of processes.py when its producer is killed (SIGKILL) while a consumer reads.

A producer puts numbered batches as fast as it can, is killed at a random moment some milliseconds after
its first batch has arrived, and another one takes its place, 50 times each. Prints how often that went on, and what the
consumer saw: batches that were lost although their put had returned, came twice or out of order, or were torn. Where
nothing of the new producer arrives within two seconds, all begins anew with another channel. It takes four minutes.

    python bench/killed_peers.py                              # batches of 256 records
    python bench/killed_peers.py --batch 4096 --only Pipe     # a pipe takes these in parts
"""

import contextlib
import mmap
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from common import Parser, positive
from peers import FORK, Flow
from process_peers import PEERS, Ends, left_out

from f1buf import READING

STUCK_S = 2.0
WORDS = ("producer", "taken", "lost", "again", "torn", "put")  # of the shared memory; the first five are the consumer's


@dataclass
class Seen:
    """What came of one peer."""

    killed: int = 0
    stuck: list[str] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("lost", "again", "torn"), 0))


class Board:
    """Numbers that all processes see."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def __getitem__(self, name: str) -> int:
        return self._words[WORDS.index(name)]

    def __setitem__(self, name: str, value: int) -> None:
        self._words[WORDS.index(name)] = value


def produce(ends: Ends, form: Callable[[Any], Any], size: int, number: int, board: Board) -> None:
    """Batches without end; each record carries its producer and, twice, its batch."""
    board["put"] = 0
    put, block = ends.sender(), np.zeros(size, READING)
    block["sensor_id"] = number
    for n in count():
        block["timestamp"] = block["value"] = n
        put(form(block))
        board["put"] = n + 1


def consume(ends: Ends, size: int, board: Board) -> None:
    def check(out: Any = None) -> Callable[[Any], int]:
        def seen(message: Any) -> int:
            records = np.frombuffer(message, READING) if out is None else out[:message]
            for at in range(0, len(records), size):
                look_at(records[at : at + size], size, board)
            return len(records)

        return seen

    ends.receiver(check)(1 << 60)


def look_at(batch: Any, size: int, board: Board) -> None:
    producer, n = int(batch["sensor_id"][0]), int(batch["value"][0])
    whole = len(batch) == size and (batch == batch[0]).all() and batch["timestamp"][0] == n
    if not whole:
        board["torn"] += 1
    elif producer > board["producer"]:  # the one before was killed: what it had put and did not come is lost
        board["taken"], board["producer"] = n + 1, producer
        board["lost"] += n
    elif producer < board["producer"] or n < board["taken"]:
        board["again"] += 1
    else:
        board["lost"] += n - board["taken"]
        board["taken"] = n + 1


def quietly(work: Callable[..., None], *args: Any) -> None:
    with contextlib.suppress(Exception):  # it ends, and that is seen
        work(*args)


def start(*work_and_args: Any) -> Any:
    process = FORK.Process(target=quietly, args=work_and_args, daemon=True)
    process.start()
    return process


def end(process: Any) -> None:
    process.kill()
    process.join()


def wait_until(holds: Callable[[], bool], seconds: float = STUCK_S) -> bool:
    give_up = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.0005)  # the peers give no sign
    return True


def kill_producers(name: str, size: int, rounds: int, seen: Seen, rng: random.Random) -> None:
    """Until it is stuck, or so many have been killed."""
    board, peer = Board(), PEERS[name]
    with peer.open(Flow(name, size)) as ends:
        consumer = start(consume, ends, size, board)
        while seen.killed < rounds:
            number = board["producer"] + 1
            producer = start(produce, ends, peer.form, size, number, board)
            arrived = wait_until(lambda number=number: board["producer"] == number)
            if not arrived:
                seen.stuck.append(why(producer, consumer, board))
            else:
                time.sleep(0.01 * rng.random())  # killed at any moment of its work
            end(producer)
            if not arrived:
                break
            seen.killed += 1
            put = board["put"]
            wait_until(lambda put=put: board["taken"] >= put, 0.5)
            board["lost"] += max(0, put - board["taken"])
        end(consumer)
    for what in seen.totals:
        seen.totals[what] += board[what]


def why(producer: Any, consumer: Any, board: Board) -> str:
    if not consumer.is_alive():
        return f"the consumer {'fails' if consumer.exitcode == 0 else 'crashes'}"
    if not producer.is_alive():
        return f"the next producer {'fails' if producer.exitcode == 0 else 'crashes'}"
    return "the next producer hangs" if board["put"] == 0 else "the consumer hangs"


def row(name: str, size: int, rounds: int) -> list[str]:
    seen, rng = Seen(), random.Random(1)
    while seen.killed < rounds and len(seen.stuck) < rounds:
        kill_producers(name, size, rounds, seen, rng)
    reasons = dict.fromkeys(seen.stuck)
    then = ", ".join(f"{why} ({seen.stuck.count(why)})" for why in reasons) or "it goes on"
    return [PEERS[name].title, str(seen.killed), then, *(f"{n:,}" for n in seen.totals.values())]


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("--rounds", type=positive, default=50, metavar="N", help="kills of each (default: 50)")
    parser.add_argument("--batch", type=positive, default=256, metavar="N", help="records (default: 256)")
    parser.add_argument(
        "--only", nargs="+", action="extend", choices=list(PEERS), metavar="PEER", help=f"some of: {', '.join(PEERS)}"
    )
    args = parser.parse_args()
    missing = left_out()
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}")
    names: Sequence[str] = [name for name in args.only or PEERS if name not in missing]
    print("| what | killed | then | lost | again | torn |\n| --- | --- | --- | --- | --- | --- |")
    for name in names:
        print("| " + " | ".join(row(name, args.batch, args.rounds)) + " |", flush=True)


if __name__ == "__main__":
    main()

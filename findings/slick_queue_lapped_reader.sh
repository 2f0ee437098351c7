#!/usr/bin/env bash
# slick-queue-py 2.3.0: a reader that was lapped loses also items that are still in the queue, up to nearly all of them.
#
# One would expect the oldest item that is there. The reader goes on with whatever stands in the slot at which it was:
# having read three items, it looks at slot 3 of 8 when 20 more have come. That slot has item 19, counted from 0, and so
# it gets the items 19 to 22, of the eight (15 to 22) that the queue holds; loss_count() says 16.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install slick-queue-py==2.3.0
found=$(timeout 60 venv/bin/python - "finding-$$" <<'PYTHON'
import sys

from slick_queue_py import SlickQueue

queue = SlickQueue(name=sys.argv[1], size=8, element_size=1)
count = at = 0


def put(items):
    global count
    for _ in range(items):
        place = queue.reserve()
        queue[place][:] = bytes([count])
        queue.publish(place)
        count += 1


def read(at):
    items = []
    while (found := queue.read(at))[0] is not None:
        items.append(found[0][0])
        at = found[2]
    return items, at


try:
    put(3)
    first, at = read(at)
    put(20)
    second, at = read(at)
    print(f"{first}, then {second}, lost {queue.loss_count()}")
finally:
    queue.close()
    queue.unlink()
PYTHON
)
echo "slick-queue-py 2.3.0, a queue of 8, 3 items, then 20: $found"
[[ $found == "[0, 1, 2], then [19, 20, 21, 22], lost 16" ]] || { echo "the behaviour has changed" >&2; exit 1; }

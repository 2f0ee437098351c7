"""`f1buf subscribe`: the readings that another machine publishes by ``--publish``."""

import argparse
import datetime
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from f1buf.command.feed import Feed, added_up
from f1buf.command.game import session_details
from f1buf.command.parser import add_common_options, number
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry.errors import StreamError

if TYPE_CHECKING:
    from f1buf.telemetry.nats.subscriber import Subscriber

HELP = "what another machine publishes by --publish"
EXAMPLES = """\
examples:
  f1buf subscribe nats://127.0.0.1:4222/race              what `f1buf replay --publish nats://.../race` has published
  f1buf subscribe nats://pit:4222/race --from new --follow
  f1buf subscribe nats://pit:4222/race --durable wall --record race/ --alerts alerts.jsonl     again and again
  f1buf subscribe nats://pit:4222/race --from 2026-11-29T14:00+01:00 --record race/
"""


def beginning(text: str) -> str | int | datetime.datetime:
    """Return where to begin, for `Subscriber`."""
    if text in ("start", "new"):
        return text
    try:
        if text.isdigit() and int(text) < 1 << 64:
            return max(1, int(text))
        moment = datetime.datetime.fromisoformat(text)
        moment.astimezone(datetime.UTC)  # is it there, too?
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected start, new, a message's number, or a time such as 2026-11-29T14:00+01:00"
        ) from None
    return moment


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `subscribe`."""
    parser.add_argument("url", metavar="URL", help="as the publisher's --publish has it: nats://HOST[:PORT]/STREAM")
    places = "where to begin: start (default), new, a message's number, or a time"
    parser.add_argument("--from", dest="start", type=beginning, default="start", metavar="PLACE", help=places)
    parser.add_argument("--follow", action="store_true", help="go on where the publisher has ended, for the next one")
    durable = (
        "keep what was done under this name, so that the next subscriber of it goes on there, whatever ends this one"
    )
    parser.add_argument("--durable", metavar="NAME", help=f"{durable}; with --record it is kept in the recording")
    wait = "how long to wait for the stream, and for a time of --from that is to come (default: not at all)"
    parser.add_argument("--timeout", type=number(0), metavar="S", help=wait)
    add_common_options(parser, 8192, "default", "the publisher's")


def execute(args: argparse.Namespace) -> int:
    """Analyse what is published until that ends; return the exit status."""
    try:
        from f1buf.telemetry.nats.subscriber import Subscriber
    except ImportError:
        raise UsageError("needs nats-py and pyarrow: pip install 'f1buf[nats]'") from None
    if args.durable is not None and args.publish is not None:
        raise UsageError("--durable is of no use with --publish: after a crash some readings would be published twice")
    if args.publish is not None and is_same(args.url, args.publish):
        raise UsageError(f"--publish is the stream that is read, {args.url.rpartition('/')[2]}; expected another one")
    drops = args.overflow != "block" or args.record_overflow not in (None, "block")
    if args.durable is not None and drops:
        options = "--overflow and --record-overflow"
        raise UsageError(f"--durable is of no use with readings that are dropped; expected block for {options}")
    try:
        source = Subscriber(args.url, start=args.start, follow=args.follow, timeout=args.timeout, durable=args.durable)
    except StreamError as error:
        raise UsageError(str(error)) from None
    if source.thresholds is not None:
        args.default_thresholds = source.thresholds
    feed = Feed(
        ", ".join(filter(None, (source.source, source.name))),
        [source],
        source.describe,
        rejected=lambda: added_up(source.rejected),
        lost_elsewhere=lambda: losses(source),
        details=lambda: {"position": source.position, **session_details(source.sessions)},
        lines=lambda: [f"position   message {source.position:,}"],
        notices=Notices(source, args.thresholds is None).notices,
        durable=None if args.durable is None else source,
    )
    try:
        return Runner(args).run(feed)
    except UsageError:
        with suppress(StreamError):
            source.close()
        raise


def is_same(url: str, other: str) -> bool:
    """Return whether two addresses are of one stream; one that is no address is not."""
    from f1buf.telemetry.nats.link import StreamAddress

    try:
        one, two = StreamAddress(url), StreamAddress(other)
    except StreamError:
        return False
    return one.stream == two.stream and not set(one.servers).isdisjoint(two.servers)


def losses(source: "Subscriber") -> dict[str, int]:
    """How many readings are known to be lost in the stream; and how many messages, whatever they held."""
    whole = {"messages that the stream forgot": source.forgotten} if source.forgotten else {}
    return {"in the stream": source.missed, **whole}


class Notices:
    """What people should see of a stream: why nothing comes, and where the publisher's thresholds have changed."""

    def __init__(self, source: "Subscriber", checks_publishers: bool) -> None:
        self._source = source
        self._checked = source.thresholds if checks_publishers else None
        self._trouble = ""
        self._waits = True

    def notices(self) -> Iterator[str]:
        """Yield lines for what is new."""
        source, trouble = self._source, self._source.trouble
        if trouble != self._trouble:
            self._trouble = trouble
            yield f"f1buf: waiting for the server: {trouble}" if trouble else "f1buf: reading again"
        if self._waits:
            self._waits = False
            if source.waits_for_new:
                yield "f1buf: nothing has come yet behind the place to begin; waiting for what is published next"
        if self._checked not in (None, source.thresholds):
            yield (
                f"f1buf: from message {source.position:,} on the publisher has other thresholds; expected those with "
                "which this subscriber has begun, which it goes on with"
            )
            self._checked = None

"""`f1buf subscribe`: the readings that another machine publishes by ``--publish``."""

import argparse
import datetime

from f1buf.command.feed import Feed, added_up
from f1buf.command.game import session_details
from f1buf.command.parser import add_common_options, number
from f1buf.command.runner import Runner
from f1buf.command.status import UsageError
from f1buf.telemetry.errors import StreamError

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
        if text.isdigit():
            return max(1, int(text))
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected start, new, a message's number, or a time such as 2026-11-29T14:00+01:00"
        ) from None


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
    wait = "how long to wait for the stream (default: not at all)"
    parser.add_argument("--timeout", type=number(0), metavar="S", help=wait)
    add_common_options(parser, 8192, "default", "the publisher's")


def execute(args: argparse.Namespace) -> int:
    """Analyse what is published until that ends; return the exit status."""
    try:
        from f1buf.telemetry.nats.subscriber import Subscriber
    except ImportError:
        raise UsageError("needs nats-py and pyarrow: pip install 'f1buf[nats]'") from None
    if (args.durable is not None and args.overflow != "block") or args.record_overflow not in (None, "block"):
        raise UsageError("--durable is of no use with readings that are dropped; expected --overflow block")
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
        lost_elsewhere=lambda: {"in the stream": source.missed},
        details=lambda: {"position": source.position, **session_details(source.sessions)},
        lines=lambda: [f"position   message {source.position:,}"],
        durable=None if args.durable is None else source,
    )
    return Runner(args).run(feed)

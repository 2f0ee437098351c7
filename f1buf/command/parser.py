"""The command line's parser, and the options that all sub-commands which analyse have in common."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import f1buf
from f1buf.command.status import BAD_USAGE, UsageError
from f1buf.command.streams import at_end, print_data, say_error
from f1buf.telemetry import PROFILES
from f1buf.telemetry.text import clean, one_line


class Parser(argparse.ArgumentParser):
    """Says bad usage in one line; fails where its help cannot be written, which argparse would not say."""

    def print_help(self, file: Any = None) -> None:
        if file is not None:
            super().print_help(file)
        elif status := print_data(self.prog, self.format_help()):
            self.exit(status)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        if message:
            say_error(message.rstrip("\n"))
        sys.exit(at_end(status))

    def error(self, message: str) -> NoReturn:
        said = f"{self.prog}: error: {one_line(Exception(message))} (see {self.prog} --help)"
        self.exit(BAD_USAGE, f"{clean(said)}\n")


class Version(argparse.Action):
    """Prints the version; fails where it cannot be written, which argparse's own action would not say."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        parser.exit(print_data(parser.prog, f"f1buf {f1buf.__version__}\n"))


def number(
    least: float, most: float = 1e9, *, exclusive: bool = False, whole: bool = False, word: str | None = None
) -> Callable[[str], Any]:
    """Return a converter for argparse: a number from `least` to `most`; None for `word`, where one is allowed."""
    kind = "a whole number" if whole else "a number"
    expected = f"expected {kind} {'above' if exclusive else 'of at least'} {least:g}"
    if most < math.inf:
        expected += f" and at most {most:g}"
    if word:
        expected += f", or {word!r}"

    def convert(text: str) -> float | int | None:
        if word is not None and text == word:
            return None
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r}: {expected}") from None
        if not least <= value <= most or (exclusive and value == least):
            raise argparse.ArgumentTypeError(f"{text}: {expected}")
        return value

    return convert


def path_name(text: str) -> str:
    """Refuse ``-``, which stands for a stream everywhere else and for none here, and an empty name."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; expected one")
    if text == "-":
        raise argparse.ArgumentTypeError("'-': expected a name, no stream; ./- for what is called so")
    return text


def web_address(text: str) -> tuple[str, int]:
    """Convert ``[HOST:]PORT``, an IPv6 address in brackets; loopback where no host is given."""
    host, colon, port = text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if in_brackets else host
    is_number = port.isascii() and port.isdecimal() and int(port[:9]) < 65536
    if not is_number or bool(host) != bool(colon) or in_brackets != (":" in host):
        raise argparse.ArgumentTypeError(f"{text!r}: expected [HOST:]PORT, such as 8000, 0.0.0.0:8000 or [::1]:8000")
    return host or "127.0.0.1", int(port)


def add_common_options(parser: argparse.ArgumentParser, buffer_size: int, thresholds: Any, said: str = "") -> None:
    """Add the common options; `said` tells people what the default thresholds are, where their name does not."""
    option, policies = parser.add_argument, ("block", "drop_oldest", "drop_newest")
    option("--duration", type=number(0, exclusive=True), metavar="S", help="stop the sensors after S seconds")
    analyzers = number(0, 10_000, whole=True)
    threads = "analyzer threads (default: 3); 0 with --share, --publish or --record, to leave the analysis to others"
    option("--analyzers", type=analyzers, default=3, metavar="N", help=threads)
    delay = "seconds of further work for each reading, to stand for a slow analysis"
    option("--analyzer-delay", type=number(0, 3600), default=0.0, metavar="S", help=delay)
    size = number(1, math.inf, whole=True)
    option("--buffer-size", type=size, metavar="N", help=f"readings (default: {buffer_size})")
    full = "what happens when the buffer is full (default: block, which loses nothing)"
    option("--overflow", choices=policies, default="block", help=full)
    profiles = f"a profile ({', '.join(PROFILES)}) or a TOML file (default: {said or thresholds})"
    option("--thresholds", type=path_name, metavar="NAME|FILE", help=profiles)
    option("--alerts", metavar="FILE", help="write alerts as JSON lines to a new file; - for standard output")
    samples = "an alert for each reading over its threshold, not only rises"
    option("--alert-samples", action="store_true", help=samples)
    option("--fail-on-alert", action="store_true", help="exit with status 3 if there was an alert")
    folder = "keep all readings in a new folder, as Parquet files, which `f1buf replay DIR` plays back "
    option("--record", type=path_name, metavar="DIR", help=f"{folder}(needs f1buf[record])")
    behind = "what happens when the recorder falls behind (default: block, which loses nothing)"
    option("--record-overflow", choices=policies, help=behind)
    name = "share all readings with another process of this machine: `f1buf attach NAME`"
    option("--share", type=path_name, metavar="NAME", help=name)
    slow = "what happens when that process falls behind (default: drop_oldest; block loses nothing, but waits for it)"
    option("--share-overflow", choices=("drop_oldest", "drop_newest", "block"), help=slow)
    option("--share-size", type=size, metavar="N", help="readings that it may be behind (default: 65536)")
    stream = (
        "publish all readings to a stream of a NATS server, for other machines: `f1buf subscribe URL` (f1buf[nats])"
    )
    option("--publish", metavar="URL", help=f"{stream}; such as nats://HOST/race")
    away = "what happens while the server is away or too slow (default: block, which loses nothing)"
    option("--publish-overflow", choices=policies, help=away)
    parts = "of a new stream: into how many subjects the sensors are divided (default: 1)"
    option("--publish-shards", type=number(1, 256, whole=True), metavar="N", help=parts)
    spool = "a folder for what the buffer cannot hold while the server is away; what is left in it the next run sends"
    option("--publish-spool", type=path_name, metavar="DIR", help=spool)
    copies = "of a new stream: on how many servers of a cluster it is kept (default: 1)"
    option("--replicas", type=number(1, 5, whole=True), metavar="N", help=copies)
    page = "show the run in browsers, at http://127.0.0.1:PORT/ (needs f1buf[web]); 0 for a port that is free"
    option("--web", type=web_address, metavar="[HOST:]PORT", help=f"{page}; beyond this machine the link has a token")
    option("--plain", action="store_true", help="no live view: lines, as where standard error is no terminal")
    option("--json", action="store_true", help="print the summary as one JSON object on standard output")
    parser.set_defaults(check=check_options, default_buffer_size=buffer_size, default_thresholds=thresholds)


def check_options(args: argparse.Namespace) -> None:
    """Refuse common options that contradict each other, before anything is opened or waited for."""
    if args.json and args.alerts == "-":
        raise UsageError("--json and --alerts - both want standard output; write the alerts to a file")
    if args.record is None and args.record_overflow is not None:
        raise UsageError("--record-overflow is of no use without --record DIR")
    if args.share is None and (args.share_overflow, args.share_size) != (None, None):
        raise UsageError("--share-overflow and --share-size are of no use without --share NAME")
    publishing = args.publish_overflow, args.publish_shards, args.publish_spool, args.replicas
    if args.publish is None and any(each is not None for each in publishing):
        options = "--publish-overflow, --publish-shards, --publish-spool and --replicas"
        raise UsageError(f"{options} are of no use without --publish URL")
    if args.analyzers == 0:
        if args.share is None and args.publish is None and args.record is None:
            ways = "--share NAME, --publish URL or --record DIR"
            raise UsageError(f"--analyzers 0: nobody would take the readings; expected {ways}")
        if args.alerts is not None or args.fail_on_alert or getattr(args, "classic", False):
            raise UsageError("--analyzers 0 is of no use with --alerts, --fail-on-alert and --classic")

"""Subscribers of one durable name: who of them reads which shards, and what was done, kept by the server in one record.

The record is one message of a stream of its own, replaced only where it is the one that the writer has read last
(expected last number of its subject). So each change is a step from one state of the whole group to the next, and of
two that are made at once one is made again on top of the other.

A shard has one owner at a time. A member says several times in its lease that it is alive, by a number in the record
that grows; one whose number has stood still for its lease, by the clock of whoever looks, is no member any more, and
its shards are free. (No clocks are compared, and the time in which the server did not answer does not count.)
What an owner has done with counts once it is in the record. An owner that was only slow finds itself no owner when it
next writes: nothing of what it did since its last step is kept, here or in its recording, and another one does it
again.
"""

import asyncio
import copy
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

import nats.errors

from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import PROGRESS, Link, RefusedError, heed_cancellation

__all__ = ["Group"]

_PAUSE = 0.05  # [s] between attempts
_ANSWER = 2.0  # [s] for an answer
_FILES = 256  # of which the record tells: those that were changed last
_OTHER_CONFIG = 10058  # there is such a stream, and it is another one
_WRONG_NUMBER = (10071, 10164)  # how servers refuse what expects another last number
_EMPTY: dict[str, Any] = {"members": {}, "shards": {}, "files": {}}


class Group:
    """One member of a group, and its view of the record; for one event loop at a time.

    Parameters
    ----------
    stream : dict
        What the server says of the stream that is read.
    name : str
        Of the group.
    shards : int
        Into how many the stream is divided.
    lease : float
        How long the member may give no sign of life until others take its shards [s].

    Attributes
    ----------
    owned : list of int
        The shards that this member reads.
    record : dict
        As it was read or written last.
    """

    def __init__(self, stream: dict[str, Any], name: str, shards: int, lease: float) -> None:
        self.owned: list[int] = []
        self.record = copy.deepcopy(_EMPTY)
        stream_name = stream["config"]["name"]
        self._subject = f"{PROGRESS}.{stream_name}.{name}"
        self._said = f"the durable name {name!r} of the stream {stream_name!r}"
        self._created, self._replicas = str(stream["created"]), int(stream["config"].get("num_replicas", 1))
        self._shards, self._lease = [str(shard) for shard in range(shards)], lease
        self._me = os.urandom(8).hex()
        self._number = 0  # of the message that holds the record
        self._signs: dict[str, tuple[int, float]] = {}  # of other members: their number, and since when it stands still
        self._generation = 0  # of the connection, at the last step
        self._changing = asyncio.Lock()

    def progress(self, shard: int) -> dict[str, Any] | None:
        """Return what was done with a shard, as its owner kept it last."""
        kept: dict[str, Any] | None = self.record["shards"].get(str(shard), {}).get("progress")
        return kept

    @property
    def last_place(self) -> int:
        """The number of the last message that was done with; 0 before the first one."""
        return max(self._places(), default=0)

    @property
    def first_place(self) -> int:
        """The number of the message behind which the shard stands that is least far; 0 where one has not begun."""
        places = self._places()
        return min(places) if len(places) == len(self._shards) else 0

    def _places(self) -> list[int]:
        kept = [self.progress(int(shard)) for shard in self._shards]
        return [int(each["place"][0]) for each in kept if each]

    @property
    def has_ended(self) -> bool:
        """Whether all shards were read to their publisher's end."""
        kept = [self.progress(int(shard)) for shard in self._shards]
        return all(progress is not None and progress["ended"] for progress in kept)

    # -- steps --------------------------------------------------------------------------------------------------------

    async def join(self, link: Link) -> None:
        """Become a member, and the owner of shards that are free."""

        def step(record: dict[str, Any]) -> None:
            if record.get("created") != self._created:  # what was kept is of another stream of this name
                record["created"], record["shards"] = self._created, {}
            self._divide(record, gives_back=False)

        await self._make_stream(link)
        self._number, self.record = await self._read(link)
        self._watch(self.record)
        await self._change(link, step)
        self._adopt()

    async def _make_stream(self, link: Link) -> None:
        """Have a stream for the record, on as many servers as the one that is read: it lives as long."""
        config = {
            "name": PROGRESS, "subjects": [f"{PROGRESS}.>"], "storage": "file", "max_msgs_per_subject": 1,
            "num_replicas": self._replicas,
        }  # fmt: skip
        try:
            try:
                await link.request(f"STREAM.CREATE.{PROGRESS}", **config)
            except RefusedError as error:
                if error.code != _OTHER_CONFIG:
                    raise
                config = (await link.request(f"STREAM.INFO.{PROGRESS}"))["config"]
                if config["num_replicas"] < self._replicas:
                    await link.request(f"STREAM.UPDATE.{PROGRESS}", **config | {"num_replicas": self._replicas})
        except RefusedError as error:
            raise StreamError(f"{link.address}: the server keeps no progress: {error}") from error

    async def give_sign(self, link: Link) -> None:
        """Say that this member is alive; StreamError where others have given it up."""
        await self._change(link, lambda record: None)

    async def keep(self, link: Link, progress: dict[int, dict[str, Any]], files: dict[str, Any]) -> None:
        """Keep what was done with the own shards; take free ones then, or give some back, so that each has as many.

        Parameters
        ----------
        link : Link
            The connection.
        progress : dict of int to dict
            By shard.
        files : dict of str to object
            What is known of the member's own files, by their names.
        """

        def step(record: dict[str, Any]) -> None:
            for shard, done in progress.items():
                record["shards"][str(shard)]["progress"] = done
            kept = {name: known for name, known in record["files"].items() if name not in files} | files
            record["files"] = dict([*kept.items()][-_FILES:])
            self._divide(record, gives_back=True)

        await self._change(link, step)
        self._adopt()

    async def leave(self, link: Link) -> None:
        """Be no member any more: others need not wait for the lease."""

        def step(record: dict[str, Any]) -> None:
            for shard in record["shards"].values():
                if shard["owner"] == self._me:
                    shard["owner"] = None

        await self._change(link, step, stays=False)

    # -- the record ---------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        self.owned = [int(name) for name, shard in self.record["shards"].items() if shard["owner"] == self._me]

    def _watch(self, record: dict[str, Any]) -> None:
        """Note which other members have given a sign of life."""
        now = time.monotonic()
        for member, said in record["members"].items():
            if self._signs.get(member, (None, 0.0))[0] != said["sign"]:
                self._signs[member] = said["sign"], now

    def _excuse(self) -> None:
        """Let the others' leases begin anew: nobody could give a sign."""
        now = time.monotonic()
        self._signs = {member: (sign, now) for member, (sign, _) in self._signs.items()}

    def _divide(self, record: dict[str, Any], *, gives_back: bool) -> None:
        """Free the shards of members that are gone; take, or give back, so that each member has its share."""
        now = time.monotonic()
        for member, said in list(record["members"].items()):
            if member != self._me and now - self._signs.get(member, (0, now))[1] > said["lease"]:
                del record["members"][member]
        shards = record["shards"]
        for name in self._shards:
            shard = shards.setdefault(name, {"owner": None, "progress": None})
            if shard["owner"] not in (self._me, None) and shard["owner"] not in record["members"]:
                shard["owner"] = None
        share = math.ceil(len(self._shards) / len(record["members"].keys() | {self._me}))
        mine = [name for name in self._shards if shards[name]["owner"] == self._me]
        free = [name for name in self._shards if shards[name]["owner"] is None]
        for name in free[: max(0, share - len(mine))]:
            shards[name]["owner"] = self._me
        for name in mine[share:] if gives_back else ():
            shards[name]["owner"] = None

    def _check(self, record: dict[str, Any], link: Link) -> None:
        lost = [shard for shard in self.owned if record["shards"].get(str(shard), {}).get("owner") != self._me]
        if lost:
            raise StreamError(
                f"{link.address}: this subscriber stood still for more than {self._lease:g} s, and another one of "
                f"{self._said} has gone on in its place; start it again"
            )

    async def _change(self, link: Link, step: Callable[[dict[str, Any]], None], *, stays: bool = True) -> None:
        """Make a step, on top of whatever others have made; waits for a server that is away.

        Raises
        ------
        StreamError
            A shard of this member is another one's by now.
        """
        async with self._changing:
            once = os.urandom(8).hex()
            while True:
                heed_cancellation()
                if link.generation != self._generation:  # the connection was lost since
                    self._generation = link.generation
                    self._excuse()
                if stays:
                    self._check(self.record, link)
                record = copy.deepcopy(self.record)
                sign = record["members"].pop(self._me, {"sign": 0})["sign"] + 1
                if stays:
                    record["members"][self._me] = {"sign": sign, "lease": self._lease, "once": once}
                step(record)
                asked = time.monotonic()
                is_written = await self._write(link, record)
                if time.monotonic() - asked > self._lease / 2:  # a sign takes as long, and is given in time before that
                    self._excuse()
                if is_written:
                    return
                await asyncio.sleep(_PAUSE)
                try:
                    self._number, self.record = await self._read(link)
                except (TimeoutError, nats.errors.Error, RefusedError):
                    continue
                self._watch(self.record)
                if self.record["members"].get(self._me, {}).get("once") == once:
                    return  # it had been written, though no answer came

    async def _write(self, link: Link, record: dict[str, Any]) -> bool:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self._number)}
        data = json.dumps(record).encode()
        try:
            answer = await link.client.request(self._subject, data, _ANSWER, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise StreamError(
                f"{link.address}: what is to be kept for {self._said} is {len(data):,} bytes, and the server takes at "
                f"most {link.client.max_payload:,}; expected a server with a larger max_payload"
            ) from error
        except (TimeoutError, nats.errors.Error):
            self._excuse()
            return False
        said = json.loads(answer.data)
        if "error" in said:
            if said["error"].get("err_code") not in _WRONG_NUMBER:
                link.trouble = str(said["error"].get("description"))
                self._excuse()  # where there is no room, say, the others' signs have none, either
            return False
        self._number, self.record = int(said["seq"]), record
        return True

    async def _read(self, link: Link) -> tuple[int, dict[str, Any]]:
        from nats.js.errors import NotFoundError

        try:  # of the leader, not of any replica
            message = await link.client.jetstream(timeout=_ANSWER).get_last_msg(PROGRESS, self._subject)
        except NotFoundError:
            return 0, copy.deepcopy(_EMPTY)
        return message.seq or 0, json.loads(message.data or b"{}")

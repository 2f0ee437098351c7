"""What durable subscribers have done, kept by the server beside the stream: one message a name, in a stream of its own.

The server replaces it only where it is the one that the subscriber wrote last (expected last number of its subject): so
of two subscribers of one name the newer one wins, and the older one is told.
"""

import asyncio
import json
import os
from typing import Any

import nats.errors

from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.nats.link import Link, RefusedError

__all__ = ["KeptProgress"]

_STREAM = "f1buf-progress"
_PAUSE = 0.05  # [s] between attempts
_WRONG_NUMBER = (10071, 10164)  # how servers refuse what expects another last number


class KeptProgress:
    """The progress of one durable subscriber.

    Parameters
    ----------
    stream, name : str
        Of the stream that is read, and of the subscriber.
    """

    def __init__(self, stream: str, name: str) -> None:
        self._subject = f"{_STREAM}.{stream}.{name}"
        self._said = f"the durable name {name!r} of the stream {stream!r}"
        self._number = 0  # of the message that holds it
        self._who = os.urandom(8).hex()

    async def take_over(self, link: Link) -> dict[str, Any] | None:
        """Return what was kept, None where nothing was; from now on only this subscriber can change it."""
        config = {"name": _STREAM, "subjects": [f"{_STREAM}.>"], "storage": "file", "max_msgs_per_subject": 1}
        try:
            await link.request(f"STREAM.CREATE.{_STREAM}", **config)
        except RefusedError as error:
            if error.code != 10058:  # it is there already, perhaps with more replicas
                raise StreamError(f"{link.address}: the server keeps no progress: {error}") from error
        self._number, kept = await self._read(link)
        progress = kept.get("progress")
        await self.store(link, progress)
        return progress

    async def store(self, link: Link, progress: dict[str, Any] | None) -> None:
        """Replace it; waits for a server that is away.

        Raises
        ------
        StreamError
            Another subscriber has taken the name over.
        """
        said = {"who": self._who, "once": os.urandom(8).hex(), "progress": progress}
        while True:
            headers = {"Nats-Expected-Last-Subject-Sequence": str(self._number)}
            try:
                answer = json.loads(
                    (await link.client.request(self._subject, json.dumps(said).encode(), 2.0, headers=headers)).data
                )
                if "error" not in answer:
                    self._number = int(answer["seq"])
                    return
                if answer["error"].get("err_code") in _WRONG_NUMBER and await self._is_stored(link, said):
                    return
            except (TimeoutError, nats.errors.Error):
                pass  # it is not known whether it was stored: the next attempt tells
            await asyncio.sleep(_PAUSE)

    async def _is_stored(self, link: Link, said: dict[str, Any]) -> bool:
        """Whether an attempt of which there was no answer had been successful."""
        number, kept = await self._read(link)
        if kept.get("once") == said["once"]:
            self._number = number
            return True
        if kept.get("who") != self._who:
            raise StreamError(f"{link.address}: another subscriber has taken over {self._said}; use one name for each")
        return False

    async def _read(self, link: Link) -> tuple[int, dict[str, Any]]:
        from nats.js.errors import NotFoundError

        try:
            message = await link.client.jetstream(timeout=2.0).get_last_msg(_STREAM, self._subject)
        except NotFoundError:
            return 0, {}
        return message.seq or 0, json.loads(message.data or b"{}")

"""What a durable subscriber's readings are done with: the analysis, the recording, the file of alerts."""

import os
import socket
from collections.abc import Callable
from typing import Any

from f1buf.telemetry.errors import StreamError
from f1buf.telemetry.recorder import Recorder
from f1buf.telemetry.system import F1TelemetrySystem

__all__ = ["Keeper", "file_name"]


def file_name(path: str | os.PathLike[str]) -> str:
    """Return how a file or folder of this machine is called in what the server keeps."""
    return f"{socket.gethostname()}:{os.path.realpath(path)}"


class Keeper:
    """Sees to it that what a durable `f1buf.telemetry.nats.subscriber.Subscriber` has yielded is done with.

    Done with is what has been checked, with its alerts on the disk, and is in a complete part of the recording. The
    subscriber asks for that, has the server keep how far it is, and says when that is so: then the part counts.

    Parameters
    ----------
    system : F1TelemetrySystem
        That the subscriber is a source of, the only one; with ``overflow="block"``.
    files : dict
        The subscriber's, of before: whether an earlier run's last part counts.
    recorder : Recorder, optional
        A consumer of the system, made with ``goes_on=True``, which blocks when its ring is full.
    alerts : str or path-like, optional
        The file of alerts, if there is one.
    bring_to_disk : callable, optional
        Brings what was written to that to the disk, and returns how many bytes it is; may raise an OSError.

    Attributes
    ----------
    alerts_size : int or None
        How many bytes of the file of alerts count, of an earlier run; None where there was none.
    """

    def __init__(
        self,
        system: F1TelemetrySystem,
        files: dict[str, Any],
        recorder: Recorder | None = None,
        alerts: str | os.PathLike[str] | None = None,
        bring_to_disk: Callable[[], int] = lambda: 0,
    ) -> None:
        self._system, self._recorder, self._bring_to_disk = system, recorder, bring_to_disk
        self._alerts = None if alerts is None else file_name(alerts)
        self._folder = "" if recorder is None else file_name(recorder.folder)
        self.alerts_size: int | None = files.get(self._alerts) if self._alerts is not None else None
        if recorder is not None and recorder.pending is not None:
            if recorder.pending["cut"] in files.values():  # however this machine is called by now
                recorder.keep_cut()
            else:
                recorder.drop_cut()

    def settle(self, is_last: bool) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Wait until all readings so far are done with.

        Parameters
        ----------
        is_last : bool
            Whether no more will come, in later runs either.

        Returns
        -------
        (dict, dict) or None
            How the analysis stands, and what is to be known of this member's files; None where the run is failing.

        Raises
        ------
        StreamError
            Alerts cannot be brought to the disk.
        RecorderError
            The recorder has failed.
        """
        analysis = self._system.settle()
        if analysis is None:
            return None
        files: dict[str, Any] = {}
        if self._alerts is not None:
            try:
                files[self._alerts] = self._bring_to_disk()
            except OSError as error:
                raise StreamError(
                    f"alerts cannot be written: {error.strerror}; what came since then is not done with: make room and "
                    "start again"
                ) from error
        if self._recorder is not None:
            self._recorder.is_last = is_last
            files[self._folder] = cut = os.urandom(8).hex()
            self._recorder.cut({"cut": cut})
        return analysis, files

    def keep(self) -> None:
        """The server has kept it."""
        if self._recorder is not None:
            self._recorder.keep_cut()

    def restore(self, analysis: dict[str, Any]) -> None:
        """Go on with the series of other shards."""
        self._system.restore(analysis)

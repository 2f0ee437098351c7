"""`--web`: the live page of the command."""

import contextlib
import http.client
import json
import re
import signal
import socket
from urllib.parse import urlsplit

import pytest
from cli_helpers import (
    call,
    command,
    finish,
    json_lines,
    program_without,
    read_until,
    running,
    watchdog,
    write_thresholds,
)

pytest.importorskip("uvicorn", reason="the live page needs uvicorn")
pytest.importorskip("starlette", reason="the live page needs starlette")


def page_of(process):
    """The address that the command prints."""
    return re.search(r"^the page is at (\S+)$", read_until(process.stderr, "the page is at"), re.MULTILINE)[1]


def first_events(address, wanted):
    """Read events until one has all that is wanted; return it."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/events?{parts.query}")
        answer, seen = connection.getresponse(), {}
        with contextlib.closing(answer):
            assert answer.status == 200
            while line := answer.readline():
                if line.startswith(b"data: "):
                    seen |= json.loads(line[6:])
                    if all(seen.get(name) for name in wanted):
                        return seen
    raise AssertionError(f"the events ended: {seen}")


def test_a_run_is_shown_while_it_goes_on(tmp_path):
    thresholds = write_thresholds(tmp_path / "all.toml", {"channel": "SPEED", "above": 0.0})
    with running("run", "--web", "0", "--json", "--thresholds", thresholds, "--alerts", tmp_path / "alerts") as process:
        address = page_of(process)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        seen = first_events(address, ("series", "status", "alert_count"))
        assert (seen["source"], seen["thresholds"][0]["above"]) == ("5 sensors", 0.0)
        status = seen["status"]
        assert (status["capacity"], status["losses"], status["draining"]) == (100, {"in the buffer": 0}, None)
        process.send_signal(signal.SIGINT)
        done = finish(process).ended()
    summary = done.summary
    assert summary["page"] == {"readings": summary["readings"], "passed_over": 0}
    assert f"shown      {summary['readings']:,} readings, 0 passed over" in done.err
    assert len(json_lines((tmp_path / "alerts").read_text())) == 1


def test_it_says_what_was_lost_and_how_the_recorder_does(tmp_path):
    pytest.importorskip("pyarrow", reason="--record needs pyarrow")
    with running("run", "--web", "0", "--record", tmp_path / "kept") as process:
        status = first_events(page_of(process), ("status",))["status"]
        assert set(status["losses"]) == {"in the buffer", "in the recorder"}
        assert status["recorder"].startswith("recorded ")
        process.send_signal(signal.SIGINT)
        finish(process).ended()


def test_the_alerts_are_those_without_a_page(tmp_path):
    alerts = [
        call("run", "--rate", "max", "--count", 6000, "--seed", 7, "--alerts", "-", *web).ended().out
        for web in ((), ("--web", "0"))
    ]
    assert alerts[0] == alerts[1] != ""


def test_a_browser_that_never_reads_does_not_hold_the_command_up():
    with watchdog(), running("run", "--web", "0") as process:
        port = urlsplit(page_of(process)).port
        with socket.create_connection(("127.0.0.1", port)) as silent:
            silent.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert silent.recv(8) == b"HTTP/1.1"  # nothing more
            process.send_signal(signal.SIGINT)
            finish(process).ended()


def test_beyond_this_machine_the_link_has_a_token():
    with running("run", "--web", "0.0.0.0:0", "--sensors-per-type", 1) as process:
        address = page_of(process)
        assert re.fullmatch(r"http://[\w.]+:\d+/\?token=\S{20,}", address)
        first_events(address, ("status",))
        with pytest.raises(AssertionError):
            first_events(address.partition("?")[0], ("status",))


BAD = ["", "x", "-1", "65536", ":8000", "localhost:", "[::1]", "::1:80", "[127.0.0.1]:80", "1.5", "9" * 5000, "٣"]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("sub", ["run", "replay x"])
def test_a_bad_address_is_told_in_one_line(sub, text):
    error = call(*sub.split(), f"--web={text}").ended(2).error
    assert error.startswith(
        f"f1buf {sub.split()[0]}: error: argument --web: {text!r}: expected [HOST:]PORT, such as 8000"
    )


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = call("run", "--web", port, "--count", 1).ended(2).error
        said = f"--web 127.0.0.1:{port}: Address already in use; choose another port, or 0 for one that is free"
        assert error == f"f1buf run: error: {said}"


@pytest.mark.parametrize("package", ["uvicorn", "starlette"])
def test_without_its_packages_it_says_how_to_get_them(package):
    done = command("run", "--web", "0", "--count", 1, program=program_without(package)).ended(2)
    assert done.error == "f1buf run: error: --web needs starlette and uvicorn: pip install 'f1buf[web]'"

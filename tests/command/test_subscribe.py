"""`--publish` and `f1buf subscribe`: a run on two machines, and what each says when something is wrong."""

import asyncio
import itertools
import shlex
import signal
import sys
from contextlib import ExitStack

import pytest
from cli_helpers import (
    CROSSED,
    call,
    command,
    finish,
    free_port,
    json_lines,
    participants,
    read_until,
    running,
    telemetry,
    write_recording,
)
from documentation import ROOT, blocks
from helpers import WATCHDOG, thorough
from nats_helpers import Server, asked, numbered, published

MANY = ("--count", 2000, "--rate", "max", "--seed", 7)
TIMEOUT = ("--timeout", WATCHDOG)
# The command, whose place among the subscribers of a durable name nobody takes while this machine holds it up.
PATIENT = (
    "-c",
    "import sys\n"
    "from f1buf.command.cli import main\n"
    "from f1buf.telemetry.nats.subscriber import Subscriber\n"
    f"Subscriber.__init__.__kwdefaults__['lease'] = {WATCHDOG}\n"
    "sys.exit(main())",
)
GUIDE = (ROOT / "docs" / "guides" / "between-machines.md").read_text(encoding="utf-8")
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that no test harms."""
    with Server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
def url(server):
    """The address of a stream that no other test uses."""
    return f"{server.url}/stream-{next(_numbers)}"


# All is well ----------------------------------------------------------------------------------------------------------


def test_alerts_are_the_first_process_own(url, tmp_path, crossed):
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    limits = ("--thresholds", crossed, "--alert-samples")
    with running("subscribe", url, *TIMEOUT, "--alert-samples", "--alerts", files[1], "--json") as second:
        first = command("run", *MANY, *limits, "--publish", url, "--alerts", files[0], "--json").ended()
        second = finish(second).ended()
    assert f"published at {url}: f1buf subscribe {url}" in first.err
    assert f"published  10,000 readings in {first.summary['publishing']['messages']} messages, " in first.err
    assert f"5 sensors, subscribed to {url}, 3 analyzers" in second.err
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(json_lines(files[1].read_text())) == 10_000
    assert second.summary["analysed"] == 10_000
    assert second.summary["position"] == first.summary["publishing"]["messages"]
    assert f"position   message {second.summary['position']:,}" in second.err
    assert first.summary["publishing"].keys() == {
        *("stream", "readings", "messages", "bytes", "resent", "dropped"),
        *("put_waits", "put_wait_seconds", "notes", "lost"),
    }
    assert (first.summary["publishing"]["readings"], first.summary["publishing"]["lost"]) == (10_000, 0)


def test_alerts_name_the_drivers_whom_the_first_process_knows(url, tmp_path):
    packets = [participants(5.0, "ANN", "BÖB"), telemetry(5.0, 345, 290), telemetry(6.0, 300, 344)]
    race = write_recording(tmp_path / "race.sqlite3", enumerate(packets))
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    call("replay", race, "--speed", "max", "--alerts", files[0], "--publish", url).ended()
    call("subscribe", url, "--alerts", files[1]).ended()
    assert files[0].read_bytes() == files[1].read_bytes()
    alerts = json_lines(files[1].read_text())
    assert [(alert["driver"], alert["value"]) for alert in alerts] == [("ANN", 345.0), ("BÖB", 344.0)]


@pytest.mark.parametrize("shards", [1, 4])
def test_the_race(url, tmp_path, recordings_dir, shards):
    """Replayed, published, read, recorded, and replayed again: the same alerts each time."""
    names = ("plain", "first", "second", "again")
    files = {name: tmp_path / f"{name}.jsonl" for name in names}
    race = ("replay", recordings_dir / "f1_2026_race.sqlite3", "--speed", "max")
    if shards == 1:
        call(*race, "--alerts", files["plain"]).ended()
    first = call(*race, "--alerts", files["first"], "--publish", url, "--publish-shards", shards, "--json").ended()
    second = call("subscribe", url, "--alerts", files["second"], "--record", tmp_path / "kept", "--json").ended()
    assert second.summary["analysed"] == first.summary["publishing"]["readings"] == first.summary["analysed"]
    assert second.summary["recording"]["readings"] == second.summary["analysed"]
    call("replay", tmp_path / "kept", "--speed", "max", "--alerts", files["again"]).ended()
    if shards == 1:
        alerts = {name: file.read_bytes() for name, file in files.items()}
        assert alerts["plain"]
        assert alerts == dict.fromkeys(names, alerts["plain"])
    else:  # the order of different sensors may be another one
        alerts = [sorted(map(repr, without_position(files[name]))) for name in names[1:]]
        assert alerts[0] == alerts[1] == alerts[2]


def test_the_race_in_the_guides_two_terminals(server, tmp_path, recordings_dir):
    """As printed, but for the port, the speed, and that what is shown can be read here."""
    (tmp_path / "race.sqlite3").symlink_to(recordings_dir / "f1_2026_race.sqlite3")
    printed = next(block.text for block in blocks(GUIDE) if block.text.startswith("f1buf replay race.sqlite3 "))
    printed = printed.replace("nats://127.0.0.1:4222", server.url)
    replay, subscribe = (shlex.split(line)[1:] for line in printed.splitlines())
    with running(*subscribe, "--json", cwd=tmp_path) as second:
        first = command(*replay, "--speed", "max", "--json", cwd=tmp_path).ended()
        second = finish(second).ended()
    assert first.summary["analysed"] == second.summary["analysed"] == 220_000
    assert first.summary["thresholds"] == second.summary["thresholds"]


@pytest.mark.parametrize("members", [1, 3])
def test_the_race_by_several_of_one_name(url, tmp_path, recordings_dir, members):
    """Their alerts together are the race's, whatever their number; each reading is in one recording."""
    race = ("replay", recordings_dir / "f1_2026_race.sqlite3", "--speed", "max", "--publish-shards", 5)
    with ExitStack() as stack:
        options = [
            ("--alerts", tmp_path / f"alerts-{i}.jsonl", "--record", tmp_path / f"part-{i}") for i in range(members)
        ]
        subscribers = [
            stack.enter_context(
                running("subscribe", url, *TIMEOUT, "--durable", "wall", *each, "--json", program=PATIENT)
            )
            for each in options
        ]
        first = command(*race, "--publish", url, "--alerts", tmp_path / "first.jsonl", "--json").ended()
        ended = [finish(each).ended() for each in subscribers]
    assert sum(each.summary["recording"]["readings"] for each in ended) == first.summary["analysed"] == 220_000
    alerts = [each for i in range(members) for each in without_position(tmp_path / f"alerts-{i}.jsonl")]
    assert sorted(map(repr, alerts)) == sorted(map(repr, without_position(tmp_path / "first.jsonl")))


def without_position(file):
    return [{key: value for key, value in each.items() if key != "position"} for each in json_lines(file.read_text())]


def test_the_analysis_is_left_to_the_second_process(url, crossed):
    first = call("run", *MANY, "--thresholds", crossed, "--analyzers", 0, "--publish", url, "--json").ended()
    assert (first.summary["readings"], first.summary["analysed"], first.summary["dropped"]) == (10_000, 0, 0)
    second = call("subscribe", url, "--json").ended()
    assert CROSSED in second.err
    assert second.summary["analysed"] == 10_000


@pytest.mark.parametrize("place", ["start", "new", 1, 3, "2000-01-01", "2000-01-01T00:00+01:00"])
def test_where_one_begins(url, place):
    published(url, numbered(1000), batch=500)
    if place == "new":
        with running("subscribe", url, "--from", place, "--json") as process:
            read_until(process.stderr, "Ctrl-C stops")
            published(url, numbered(500, 1000))
            done = finish(process).ended()
    else:
        done = call("subscribe", url, "--from", place, "--json").ended()
    assert done.summary["analysed"] == {"new": 500, 3: 500}.get(place, 1000)


def test_ctrl_c(url, crossed):
    with (
        running("run", "--rate", 1000, "--plain", "--thresholds", crossed, "--publish", url, "--json") as first,
        running("subscribe", url, *TIMEOUT, "--plain", "--json") as second,
    ):
        read_until(second.stderr, CROSSED)
        second.send_signal(signal.SIGINT)
        done = finish(second).ended()
        assert done.summary["position"] > 0
        first.send_signal(signal.SIGINT)
        assert finish(first).ended().summary["publishing"]["lost"] == 0


def test_ctrl_c_while_nothing_is_published(url):
    with running("subscribe", url, *TIMEOUT, env={"PYTHONFAULTHANDLER": "0"}) as process:
        asked(url, wait_for_client)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.status == 130, done
    assert "Traceback" not in done.err


async def wait_for_client(client, stream):
    """Return once another client has asked for a stream."""
    subscription = await client.subscribe("$JS.API.STREAM.INFO.>")
    await subscription.next_msg(timeout=WATCHDOG)
    await asyncio.sleep(0)


# What cannot be published to or read ----------------------------------------------------------------------------------


def refused(*args):
    done = call(*args).ended(2)
    prefix = f"f1buf {args[0]}: error: "
    assert done.error.startswith(prefix)
    return done.error.removeprefix(prefix)


def both_refuse(url, said):
    """Both commands end with this line."""
    assert refused("subscribe", url).startswith(said), refused("subscribe", url)
    assert refused("run", *MANY, "--publish", url).startswith(f"--publish {said}"), refused(
        "run", *MANY, "--publish", url
    )


@pytest.mark.parametrize(
    "wrong",
    ["", "race", "http://127.0.0.1/race", "nats://a:b:c/race", "nats://a/b?c=d", "nats://a/b#c", "nats://[::1/race"],
)
def test_what_is_no_address(wrong):
    both_refuse(wrong, f"{wrong.partition('?')[0]}: no address of a stream; expected nats://HOST[:PORT]/STREAM, ")


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "a b", "*", "x" * 65])
def test_what_is_no_name_of_a_stream(name):
    url = f"nats://127.0.0.1/{name}"
    both_refuse(url, f"{url}: the stream's name is {name!r}; expected up to 64 letters, digits, - and _ behind the")


def test_the_stream_of_durable_names_is_no_place_for_readings(server):
    url = f"{server.url}/f1buf-progress"
    both_refuse(url, f"{url}: f1buf-progress is where the server keeps durable names; expected another name")


def test_a_stream_is_not_published_to_itself(url):
    call("run", *MANY, "--publish", url).ended()
    other = url.replace("//", "//me:secret@")
    said = refused("subscribe", url, "--publish", other)
    assert said == f"--publish is the stream that is read, {url.rpartition('/')[2]}; expected another one"
    assert call("subscribe", url, "--json").ended().summary["analysed"] == 10_000


def test_people_are_told_why_nothing_comes(tmp_path, crossed):
    with Server(tmp_path / "nats") as server:
        url = f"{server.url}/race"
        published(url, numbered(1000))
        with running(
            "subscribe", url, "--follow", "--from", "new", "--plain", env={"PYTHONFAULTHANDLER": "0"}
        ) as process:
            read_until(
                process.stderr, "nothing has come yet behind the place to begin; waiting for what is published next"
            )
            server.kill()
            read_until(process.stderr, "f1buf: waiting for the server: ")
            server.start()
            read_until(process.stderr, "f1buf: reading again")
            process.send_signal(signal.SIGINT)
            finish(process).ended()


def test_people_are_told_of_other_thresholds(url, crossed):
    call("run", *MANY, "--publish", url).ended()
    call("run", *MANY, "--thresholds", crossed, "--publish", url).ended()
    with running("subscribe", url, "--follow", "--plain", env={"PYTHONFAULTHANDLER": "0"}) as process:
        read_until(
            process.stderr, "on the publisher has other thresholds; expected those with which this subscriber has"
        )
        process.send_signal(signal.SIGINT)
        finish(process).ended()


def test_a_password_with_any_characters(tmp_path):
    with Server(
        tmp_path / "nats", 'authorization { timeout: 60, users: [{ user: "c@r", password: "p/w#?%:@" }] }'
    ) as server:
        url = server.url.replace("//", "//c%40r:p%2Fw%23%3F%25%3A%40@") + "/race"
        call("run", *MANY, "--publish", url).ended()
        assert call("subscribe", url, "--json").ended().summary["analysed"] == 10_000


def test_a_token(tmp_path):
    with Server(tmp_path / "nats", 'authorization { timeout: 60, token: "s3cret" }') as server:
        call("run", *MANY, "--publish", server.url.replace("//", "//s3cret@") + "/race").ended()


@pytest.mark.parametrize("secret", ["pa#ss", "p?x", "p/w"])
def test_a_password_that_was_not_written_as_in_urls_is_not_shown(secret):
    said = refused("subscribe", f"nats://car:{secret}@127.0.0.1:4222/race")
    assert "ss" not in said.split(":")[0]
    assert f"car:{secret[0]}" not in said


def test_a_password_is_not_shown():
    port = free_port()
    both_refuse(f"nats://me:secret@127.0.0.1:{port}/race", f"nats://127.0.0.1:{port}/race: no server answers there")


def test_nobody_listens():
    url = f"nats://127.0.0.1:{free_port()}/race"
    both_refuse(url, f"{url}: no server answers there; start one (f1buf broker), or correct the address")


def test_an_unknown_host():
    url = "nats://no-such-host.invalid/race"
    both_refuse(url, f"{url}: no server answers there")


@pytest.mark.parametrize("who", ["", "me:wrong@", "you:secret@"])
def test_wrong_credentials(tmp_path, who):
    with Server(tmp_path, 'authorization { timeout: 60, user: "me", password: "secret" }\n') as server:
        address = server.url.removeprefix("nats://")
        right = f"nats://me:secret@{address}/race"
        call("run", "--count", 10, "--rate", "max", "--publish", right).ended()
        done = call("subscribe", right, "--json").ended()
        assert done.summary["analysed"] == 50
        assert "secret" not in done.err
        said = f"nats://{address}/race: the server refuses these credentials; give them in the address "
        both_refuse(f"nats://{who}{address}/race", said)


def test_a_file_of_credentials_that_is_missing(server):
    pytest.importorskip("nkeys", reason="a file of credentials needs it")
    both_refuse(f"{server.url}/race?creds=/nowhere/at.all", f"{server.url}/race: /nowhere/at.all: No such file or di")


@pytest.mark.parametrize(
    "text", ["", "hello", "-----BEGIN USER NKEY SEED-----\nSUXXX\n------END USER NKEY SEED------\n"]
)
def test_a_file_of_credentials_that_holds_none(tmp_path, text):
    pytest.importorskip("nkeys", reason="a file of credentials needs it")
    (tmp_path / "bad.creds").write_text(text)
    key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
    with Server(tmp_path, f"authorization {{ timeout: 60, users: [{{ nkey: {key} }}] }}") as server:
        said = f"{server.url}/race: {tmp_path}/bad.creds: no credentials as NATS makes them: "
        both_refuse(f"{server.url}/race?creds={tmp_path}/bad.creds", said)


def test_a_file_of_credentials_needs_a_package(server, monkeypatch):
    monkeypatch.setitem(sys.modules, "nkeys", None)
    said = "import of nkeys halted; None in sys.modules; pip install 'nats-py[nkeys]'"
    both_refuse(f"{server.url}/race?creds=/nowhere/at.all", f"{server.url}/race: {said}")


def test_a_file_of_certificates_that_is_missing(server):
    both_refuse(f"{server.url}/race?ca=/nowhere/at.all", f"{server.url}/race: /nowhere/at.all: No such file or direct")


def test_a_server_without_encryption(server):
    url = server.url.replace("nats:", "tls:") + "/race"
    both_refuse(url, f"{url}: no encrypted connection: the server offers no TLS; see ?ca=FILE")


def test_a_server_without_jetstream(tmp_path):
    with Server(tmp_path) as server:
        server.stop()
        path = server.folder / "nats.conf"
        path.write_text(path.read_text().partition("jetstream {")[0])
        server.start()
        both_refuse(f"{server.url}/race", f"{server.url}/race: the server has no JetStream; start it with -js")


def test_a_stream_of_another_program(url):
    name = url.rpartition("/")[2]

    async def make(client, stream):
        await stream.add_stream(name=name, subjects=[f"{name}.>"])
        await stream.publish(f"{name}.x", b"hello")

    asked(url, make)
    both_refuse(url, f"{url}: is no stream of readings that this f1buf understands; choose another stream's name")


def test_subjects_of_another_stream(url):
    name = url.rpartition("/")[2]
    asked(url, lambda _, stream: stream.add_stream(name=f"{name}-other", subjects=[f"{name}.*"]))
    said = refused("run", *MANY, "--publish", url)
    assert said.startswith(f"--publish {url}: the server makes no such stream: subjects overlap")


def test_more_replicas_than_servers(url):
    said = refused("run", *MANY, "--publish", url, "--replicas", 3)
    assert said.startswith(f"--publish {url}: the server makes no such stream: ")


@pytest.mark.parametrize("timeout", [(), ("--timeout", 0.1)])
def test_nothing_has_been_published(url, timeout):
    waited = " (waited 0.1 s)" if timeout else ""
    assert refused("subscribe", url, *timeout) == (
        f"{url}: nothing has been published there{waited}; publish first (--publish {url}), or wait longer for it "
        "(--timeout)"
    )


@pytest.mark.parametrize("place", ["yesterday", "9" * 20, "0001-01-01T00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_a_beginning_that_makes_no_sense(url, place):
    said = refused_by_parser("subscribe", url, "--from", place)
    assert f"argument --from: '{place}': expected start, new, a message's number, or a time such as 2026-" in said


def test_a_durable_subscriber_does_not_publish(url):
    assert refused("subscribe", url, "--durable", "wall", "--publish", url).startswith(
        "--durable is of no use with --pub"
    )


@pytest.mark.parametrize(
    "drops", [("--overflow", "drop_oldest"), ("--record", "kept", "--record-overflow", "drop_newest")]
)
def test_a_durable_subscriber_drops_nothing_and_others_may(url, tmp_path, drops, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call("run", "--count", 10, "--rate", "max", "--publish", url).ended()
    said = refused("subscribe", url, "--durable", "wall", *drops)
    assert said.startswith("--durable is of no use with readings that are dropped; expected block for --overflow")
    call("subscribe", url, *drops).ended()


def refused_by_parser(*args):
    done = call(*args)
    assert done.status == 2
    assert "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize(
    "option", [("--publish-overflow", "block"), ("--publish-shards", 2), ("--replicas", 3)], ids=lambda each: each[0]
)
def test_options_without_publish(option):
    said = "--publish-overflow, --publish-shards, --publish-spool and --replicas are of no use without --publish URL"
    assert refused("run", *MANY, *option) == said


@thorough
@pytest.mark.parametrize("package", ["nats", "pyarrow"])
def test_a_package_that_is_missing(package):
    from cli_helpers import program_without

    for args in (("subscribe", "nats://a/b"), ("run", *MANY, "--publish", "nats://a/b")):
        done = command(*args, program=program_without(package)).ended(2)
        assert done.error.endswith("needs nats-py and pyarrow: pip install 'f1buf[nats]'"), done


# Failures amid --------------------------------------------------------------------------------------------------------


def test_the_stream_is_removed(url, crossed):
    name = url.rpartition("/")[2]
    with (
        running("run", "--rate", 1000, "--plain", "--thresholds", crossed, "--publish", url, "--json") as first,
        running("subscribe", url, *TIMEOUT, "--plain") as second,
    ):
        read_until(second.stderr, CROSSED)
        asked(url, lambda _, stream: stream.delete_stream(name))
        said = read_until(first.stderr, "f1buf: the publisher failed")
        assert f"the publisher failed, the analysis goes on: {url}: the stream was removed; " in said
        done = finish(second).ended(1)
        assert f"f1buf: subscribed to {url} failed: StreamError: {url}: the stream was removed\n" in done.err
        first.send_signal(signal.SIGINT)
        done = finish(first).ended(1)
    assert done.summary["readings"] == done.summary["analysed"]
    assert done.summary["publishing"]["lost"] == done.summary["readings"] - done.summary["publishing"]["readings"]


def test_the_server_goes_and_comes_back(tmp_path, crossed):
    with Server(tmp_path) as server:
        url = f"{server.url}/race"
        publishing = ("run", "--rate", 1000, "--plain", "--thresholds", crossed, "--publish", url, "--json")
        with running(*publishing) as first, running("subscribe", url, *TIMEOUT, "--plain", "--json") as second:
            read_until(second.stderr, CROSSED)
            server.kill()
            read_until(first.stderr, f"f1buf: waiting to publish: {url}: ")
            server.start()
            read_until(first.stderr, "f1buf: publishing again")
            first.send_signal(signal.SIGINT)
            done = finish(first).ended()
            assert done.summary["publishing"]["readings"] == done.summary["readings"]
            assert finish(second).ended().summary["analysed"] == done.summary["readings"]

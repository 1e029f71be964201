"""Starting, reloading, draining and stopping a gateway while it works."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import answers
import pytest
from fake_catalog import catalog_for
from fakes import End, FakeProvider, Gate, Reply, eventually, stream_reply
from running import ADMIN_TOKEN, ROOT, RunningGateway, free_port, running_gateway, start_gateway
from talk import CHAT, HELLO, Talk, admin, chat, entries, events_of

STREAM = {"model": "fast", "messages": HELLO, "stream": True}


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


@pytest.fixture
def catalog(fake: FakeProvider, tmp_path: Path) -> Path:
    """One tier with one provider."""
    return catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["one"]})


@contextlib.contextmanager
def streaming(gateway: RunningGateway) -> Iterator[http.client.HTTPResponse]:
    """A stream of which the first event has come."""
    with Talk(gateway) as talk:
        talk.send(CHAT, STREAM)
        response = talk.connection.getresponse()
        assert response.readline().startswith(b"data: {")
        yield response


def held(gate: Gate) -> Reply:
    """A streamed answer that waits amid its text."""
    events = answers.chunks("One two three")
    return stream_reply([*events[:2], gate, *events[2:]])


def listens(gateway: RunningGateway) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", gateway.port), timeout=1):
        return True
    return False


def test_an_orderly_stop_lets_streams_end(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """After SIGTERM no new connection is taken, running streams come to their [DONE], and the exit status is 0."""
    gate = Gate()
    fake.script("one", *[held(gate)] * 5)
    gateway = start_gateway(tmp_path / "gateway", catalog=catalog)
    with contextlib.ExitStack() as stack:
        responses = [stack.enter_context(streaming(gateway)) for _ in range(5)]
        gateway.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: not listens(gateway))
        gate.open()
        assert all(response.read().endswith(b"data: [DONE]\n\n") for response in responses)
    assert gateway.process.wait(30) == 0
    with running_gateway(tmp_path / "gateway", catalog=catalog) as again:
        (entry,) = entries(again, responses[0].headers["x-gateway-request-id"])
        assert (entry["settlement"], entry["usage_source"]) == ("complete", "provider")


def test_streams_beyond_the_drain_deadline(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """D37: they end with an error frame, are booked once, and the exit status is 0 all the same."""
    fake.script("one", stream_reply([*answers.chunks("One two")[:2], End.HANG]))
    env = {"TIERGATE_DRAIN_DEADLINE_S": "1"}
    gateway = start_gateway(tmp_path / "gateway", catalog=catalog, env=env)
    with streaming(gateway) as response:
        gateway.process.send_signal(signal.SIGTERM)
        rest = list(events_of(response.read()))
    assert rest[-1]["error"]["code"] == "draining"
    assert gateway.process.wait(30) == 0
    with running_gateway(tmp_path / "gateway", catalog=catalog) as again:
        (entry,) = entries(again, response.headers["x-gateway-request-id"])
        assert entry["usage_source"] == "estimated"


def test_a_delayed_drain_still_serves(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """Between SIGTERM and the close, /readyz says no while requests are served."""
    env = {"TIERGATE_DRAIN_DELAY_S": "2"}
    gateway = start_gateway(tmp_path / "gateway", catalog=catalog, env=env)
    gateway.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: gateway.get("/readyz")[0] == 503)
    assert chat(gateway, "fast").status == 200
    assert gateway.process.wait(30) == 0


def test_more_than_it_can_take(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """Beyond its limit the gateway sheds at once, says when to come back, and serves again when there is room."""
    gate = Gate()
    fake.script("one", held(gate))
    with running_gateway(tmp_path / "gateway", catalog=catalog, env={"TIERGATE_MAX_INFLIGHT": "1"}) as gateway:
        with streaming(gateway) as response:
            shed = chat(gateway, "fast")
            assert (shed.status, shed.error["code"], shed.headers["retry-after"]) == (503, "overloaded", "1")
            gate.open()
            response.read()
        assert eventually(lambda: chat(gateway, "fast").status == 200)
    assert len(fake.seen("one")) == 2


def test_a_crash_keeps_the_books(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """What was answered before a kill is there after the next start, once; what was under way is booked as well."""
    fake.script(
        "one", answers_of := stream_reply(answers.chunks("Fine")), stream_reply([*answers.chunks("One")[:2], End.HANG])
    )
    assert answers_of.status == 200
    gateway = start_gateway(tmp_path / "gateway", catalog=catalog)
    done = chat(gateway, "fast", stream=True)
    with streaming(gateway) as response:
        gateway.process.kill()
        gateway.process.wait()
    with running_gateway(tmp_path / "gateway", catalog=catalog) as again:
        (entry,) = entries(again, done.request_id)
        assert (entry["settlement"], entry["usage_source"]) == ("complete", "provider")
        (lost,) = entries(again, response.headers["x-gateway-request-id"])
        assert lost["usage_source"] in ("held", "estimated")


def test_a_new_catalog_takes_effect_while_streams_run(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """A running stream keeps its catalog; the next request is routed by the new one."""
    gate = Gate()
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway:
        fake.script("one", held(gate))
        with streaming(gateway) as response:
            before = response.headers["x-gateway-catalog"]
            catalog_for(fake, catalog, {"fast": ["two"]})
            eventually(lambda: chat(gateway, "fast").headers["x-gateway-deployment"] == "two/two-model")
            gate.open()
            assert response.read().endswith(b"data: [DONE]\n\n")
        assert chat(gateway, "fast").headers["x-gateway-catalog"] != before


def test_a_bad_catalog_changes_nothing(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """D41: the last good one keeps serving, and operators are told the place and the fix within two seconds."""
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway:
        before = chat(gateway, "fast").headers["x-gateway-catalog"]
        good = catalog.read_text()
        catalog.write_text(good.replace('"one-model"\n', '"one-modle"\n'))
        saved = time.monotonic()
        problem = eventually(lambda: admin(gateway, "/health").body["catalog"]["problem"])
        assert time.monotonic() - saved < 2 + 2  # some for a test machine that does much else
        assert "one-modle" in problem and "did you mean 'one-model'" in problem
        answer = chat(gateway, "fast")
        assert (answer.status, answer.headers["x-gateway-catalog"]) == (200, before)
        refused = admin(gateway, "/catalog/reload", method="POST")
        assert (refused.status, refused.error["code"]) == (400, "catalog_invalid")
        assert gateway.get("/readyz")[0] == 200
        catalog.write_text(good)
        assert eventually(lambda: admin(gateway, "/health").body["catalog"]["problem"] is None)


def test_a_signal_reads_secrets_again(fake: FakeProvider, tmp_path: Path) -> None:
    """SIGHUP loads the catalog anew, and with it a credential that was replaced in its file."""
    secret = tmp_path / "secrets" / "key"
    secret.parent.mkdir()
    secret.write_text("first-key")
    catalog = catalog_for(
        fake,
        tmp_path / "catalog.yaml",
        {"fast": ["one"]},
        providers={"one": {"adapter": "anthropic", "api_key": f"file:{secret}"}},
    )
    with running_gateway(tmp_path / "gateway", catalog=catalog) as gateway:
        chat(gateway, "fast")
        secret.write_text("second-key")
        gateway.process.send_signal(signal.SIGHUP)

        def key_sent() -> str:
            assert chat(gateway, "fast").status == 200
            return fake.seen("one")[-1].headers["x-api-key"]

        assert fake.seen("one")[0].headers["x-api-key"] == "first-key"
        assert eventually(lambda: key_sent() == "second-key")


def test_several_workers(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """Workers share the port and the books; one that dies is replaced; SIGTERM ends all with status 0."""
    with running_gateway(tmp_path / "gateway", catalog=catalog, workers=2) as gateway:
        answers_given = [chat(gateway, "fast") for _ in range(10)]
        assert {answer.status for answer in answers_given} == {200}
        for answer in answers_given:
            assert len(entries(gateway, answer.request_id)) == 1
        counted = b'\ntiergate_request_seconds_count{tier="fast"} 10.0\n'  # whichever worker is asked tells of all
        assert eventually(lambda: counted in gateway.get("/metrics", ADMIN_TOKEN)[1])
        workers = _children(gateway.process.pid)
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: len(set(_children(gateway.process.pid)) - {workers[0]}) == len(workers))
        assert chat(gateway, "fast").status == 200
        assert gateway.stop() == 0


def test_several_workers_greet_once_and_refuse_while_they_drain(
    fake: FakeProvider, catalog: Path, tmp_path: Path
) -> None:
    """One greeting, whoever is ready first; after SIGTERM new connections are refused, not left waiting."""
    gate = Gate()
    fake.script("one", held(gate))
    with running_gateway(tmp_path / "gateway", catalog=catalog, workers=2) as gateway:
        eventually(lambda: "is listening on" in gateway.log.read_text())
        with streaming(gateway) as response:
            gateway.process.send_signal(signal.SIGTERM)
            assert eventually(lambda: not listens(gateway))
            gate.open()
            assert response.read().endswith(b"data: [DONE]\n\n")
        assert gateway.process.wait(30) == 0
        assert gateway.log.read_text().count("is listening on") == 1


def test_a_killed_parent_leaves_no_workers(fake: FakeProvider, catalog: Path, tmp_path: Path) -> None:
    """They take nothing new, so that the port is free for the next start, let their streams end, and go."""
    gate = Gate()
    fake.script("one", held(gate))
    gateway = start_gateway(tmp_path / "gateway", catalog=catalog, workers=2)
    workers = _children(gateway.process.pid)
    try:
        with streaming(gateway) as response:
            gateway.stop(signal.SIGKILL)
            assert eventually(lambda: not listens(gateway))
            gate.open()
            assert response.read().endswith(b"data: [DONE]\n\n")
        assert eventually(lambda: not any(map(_runs, workers)))
    finally:
        for pid in filter(_runs, workers):
            os.kill(pid, signal.SIGKILL)


def test_an_interrupted_start_of_several_workers_is_quiet(catalog: Path, tmp_path: Path) -> None:
    """Ctrl-C while they are still loading ends them all with status 0 and no traceback."""
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        [*command, "--catalog", str(catalog), "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        eventually(lambda: len(_children(process.pid)) == 2)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert "Traceback" not in said


def _children(pid: int) -> list[int]:
    """The worker processes of a supervisor, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"gateway.server" in command:
                found.append(int(entry.name))
    return sorted(found)


def _runs(pid: int) -> bool:
    """Whether this process is there and no zombie that only its new parent has yet to bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def serve(tmp_path: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`tiergate serve` that is expected to end by itself."""
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    return subprocess.run(
        [*command, *options],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_bad_catalog_at_the_start(catalog: Path, tmp_path: Path) -> None:
    """The gateway refuses to start and names file, line, value and fix."""
    catalog.write_text(catalog.read_text().replace('"one-model"\n', '"one-modle"\n'))
    done = serve(tmp_path, "--catalog", str(catalog))
    assert done.returncode != 0
    assert f"{catalog}:" in done.stderr
    assert "did you mean 'one-model'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_at_the_start(tmp_path: Path) -> None:
    """It is named by its variable."""
    done = serve(tmp_path, TIERGATE_MAX_INFLIGHT="none")
    assert done.returncode == 2
    assert "TIERGATE_MAX_INFLIGHT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(catalog: Path, tmp_path: Path) -> None:
    """The message says which, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = serve(tmp_path, "--catalog", str(catalog), "--port", port)
    assert done.returncode != 0
    assert port in done.stderr
    assert "--port or TIERGATE_PORT" in done.stderr  # `make run` takes no options
    assert "Traceback" not in done.stderr


def test_a_host_that_is_not_ours(catalog: Path, tmp_path: Path) -> None:
    """The message speaks of the host, not of the port."""
    done = serve(tmp_path, "--catalog", str(catalog), "--host", "nowhere.invalid")
    assert done.returncode != 0
    assert "nowhere.invalid" in done.stderr and "--host or TIERGATE_HOST" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_not_there(catalog: Path, tmp_path: Path) -> None:
    """The message says that it is the store, and which setting names it; nothing of its password."""
    address = f"redis://user:hunter2@127.0.0.1:{free_port()}"
    done = serve(tmp_path, "--catalog", str(catalog), REDIS_URL=address)
    assert done.returncode != 0
    assert done.stderr.startswith("tiergate: the store that REDIS_URL names cannot be used: ")
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


def test_a_data_folder_that_cannot_be_made(catalog: Path, tmp_path: Path) -> None:
    """The message names it and says why, in words."""
    (tmp_path / "file").write_text("")
    done = serve(tmp_path, "--catalog", str(catalog), "--data-dir", str(tmp_path / "file" / "data"))
    assert done.returncode != 0
    assert done.stderr.endswith(": Not a directory\n") and str(tmp_path / "file") in done.stderr
    assert "Errno" not in done.stderr and "Traceback" not in done.stderr


def test_a_start_without_settings_makes_its_credentials(catalog: Path, tmp_path: Path) -> None:
    """The app key is printed once and works; the admin token lies in a file that only its owner reads."""
    blank = {"TIERGATE_APP_KEY": "", "TIERGATE_ADMIN_TOKEN": ""}
    folder = tmp_path / "gateway"
    command = [sys.executable, "-m", "gateway.cli", "serve", "--port", "0", "--data-dir", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name not in blank}
    with subprocess.Popen(
        [*command, "--catalog", str(catalog)], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        while "curl" not in printed or "gw1_" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    (token,) = [path for path in folder.rglob("*") if path.is_file() and "admin" in path.name]
    assert token.stat().st_mode & 0o777 == 0o600
    key = next(word for word in printed.replace('"', " ").split() if word.startswith("gw1_"))
    assert not any(key.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert json.loads(catalog.read_text())["tiers"]

"""Gateways that are stopped, one or all, while callers stream."""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import answers
import pytest
from billing import Bill
from fake_catalog import catalog_for
from fakes import FakeProvider, Reply, Seen, eventually, stream_reply
from fleet import all_over, check_books, quiet, running_fleet, two_providers
from load import steadily
from running import RunningGateway, start_gateway
from stores import StoreServer
from talk import CHAT, Talk, chat

STREAMS = 100


def test_a_stop_amid_a_hundred_streams(tmp_path: Path, soak: bool) -> None:
    """D36: all come to their [DONE], none is cut, and the gateway ends with status 0."""
    seconds = 30 if soak else 4

    def slow(seen: Seen) -> Reply:
        events = answers.chunks("One two three four")
        return stream_reply(events, gap=seconds / len(events))

    with FakeProvider(slow) as fake, ThreadPoolExecutor(STREAMS) as pool:
        catalog = catalog_for(fake, tmp_path / "catalog.yaml", {"fast": ["alpha"]})
        gateway = start_gateway(tmp_path / "gateway", catalog=catalog, env={"TIERGATE_DRAIN_DEADLINE_S": "60"})
        asked = [pool.submit(chat, gateway, "fast", stream=True) for _ in range(STREAMS)]
        eventually(lambda: sum(seen.sent_bytes > 0 for seen in list(fake.requests)) == STREAMS, 30)
        assert not any(one.done() for one in asked)
        gateway.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        answered = [one.result(60) for one in asked]
        assert gateway.process.wait(45) == 0
        took = time.monotonic() - began
    assert took <= 45
    assert {answer.status for answer in answered} == {200}
    assert all(answer.raw.endswith(b"data: [DONE]\n\n") for answer in answered)


class Balancer:
    """A TCP load balancer: each new connection goes to the next gateway that says it is ready."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self._turn = itertools.count()
        self._ready: list[int] = []
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._look, self._accept)]

    def __enter__(self) -> Balancer:
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self._ready) == len(self.ports))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._listener.close()

    @property
    def ready(self) -> list[int]:
        return self._ready

    def _look(self) -> None:
        while not self._stop.is_set():
            self._ready = [port for port in self.ports if _is_ready(port)]
            self._stop.wait(0.1)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            ready = self._ready
            with socket.create_connection(("127.0.0.1", ready[next(self._turn) % len(ready)]), timeout=5) as far:
                far.settimeout(None)
                both = {near: far, far: near}
                while True:
                    for one in select.select(list(both), [], [])[0]:
                        data = one.recv(65_536)
                        if not data:
                            return
                        both[one].sendall(data)


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return probe.recv(12).endswith(b"200")
    except OSError:
        return False


@pytest.mark.timeout(300)
def test_a_rolling_restart_fails_nobody(
    fake: FakeProvider, bill: Bill, kept_store: StoreServer, tmp_path: Path, soak: bool
) -> None:
    """D38: behind a load balancer that asks /readyz, replicas are replaced one by one; the books are exact."""
    count, per_second = (4, 50) if soak else (3, 25)
    order = json.dumps({"words": 5, "gap": 0.05})
    catalog = two_providers(fake, tmp_path)
    env = {"TIERGATE_DRAIN_DELAY_S": "1"}  # the time that the load balancer needs to notice
    with running_fleet(tmp_path, catalog, f"unix://{kept_store.socket}", count, **env) as fleet:
        outcomes: list[tuple[int, bool]] = []
        replaced = threading.Event()
        with Balancer([gateway.port for gateway in fleet.gateways]) as balancer:
            front = RunningGateway(fleet.gateways[0].process, balancer.port, tmp_path, tmp_path / "log")

            def ask(number: int) -> None:
                stream = number % 2 == 0
                body = {"model": "fast", "messages": [{"role": "user", "content": order}], "stream": stream}
                with Talk(front) as talk:
                    answer = talk.ask(CHAT, body)
                outcomes.append((answer.status, not stream or answer.raw.endswith(b"data: [DONE]\n\n")))

            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(
                    steadily, ask, per_second=per_second, seconds=240, threads=per_second, until=replaced.is_set
                )
                began = time.monotonic()
                try:
                    for number in range(count):
                        old = fleet.gateways[number]
                        old.process.send_signal(signal.SIGTERM)
                        assert old.process.wait(60) == 0
                        fleet.start_again(number)
                        balancer.ports[number] = fleet.gateways[number].port
                        eventually(lambda: len(balancer.ready) == count, 30)
                        served = len(outcomes)
                        eventually(lambda served=served: len(outcomes) > served + 2 * per_second, 30)
                finally:
                    replaced.set()
                    took = time.monotonic() - began
                asking.result(60)
        assert set(outcomes) == {(200, True)}
        assert len(outcomes) > 0.9 * per_second * took
        all_over(fake)
        quiet(fleet, kept_store)
        assert check_books(fleet, kept_store, fake, bill, []) == 0

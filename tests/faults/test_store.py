"""The store stops, dies, forgets its scripts, is read-only, full, or loses its answers, with traffic on two gateways.

Callers without limits see no error at all; callers with a hard budget are refused in time; and the books are exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from billing import PROMPT_TOKENS, Bill
from fakes import FakeProvider, eventually
from fleet import Callers, Fleet, ask, check_books, journal_of, quiet, running_fleet, two_providers
from running import APP_KEY, running_gateway
from soak import SOAK
from stores import StoreServer
from talk import admin

Fault = Callable[[StoreServer], None]
LONGEST_REFUSAL_S = 5.0
"""As its caller sees it. A second is promised; the rest is for a test machine that does much else: `Stalls` and the
gateway's own clock hold the promise below."""


def command(store: StoreServer, *words: str) -> None:
    async def run() -> None:
        client = store.client()
        try:
            await client.execute_command(*words)
        finally:
            await client.aclose()

    asyncio.run(run())


def stopped(store: StoreServer) -> None:
    """D8, D9: it accepts and says nothing."""
    store.signal(signal.SIGSTOP)
    time.sleep(3)
    store.signal(signal.SIGCONT)


def killed(store: StoreServer) -> None:
    """D10: it dies and comes back with what it had on disk."""
    for _ in range(20 if SOAK else 4):
        store.stop()
        store.start()
        time.sleep(0.7)


def full(store: StoreServer) -> None:
    """D12."""
    command(store, "CONFIG", "SET", "maxmemory", "1")
    time.sleep(2)
    command(store, "CONFIG", "SET", "maxmemory", "0")


def read_only(store: StoreServer) -> None:
    """D13: a failover makes it a replica for a while."""
    command(store, "REPLICAOF", "127.0.0.1", "1")
    time.sleep(2)
    command(store, "REPLICAOF", "NO", "ONE")


def forgetful(store: StoreServer) -> None:
    """D14: nobody's error."""
    for _ in range(30):
        command(store, "SCRIPT", "FLUSH")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("fault", "may_refuse"),
    [(stopped, True), (killed, True), (full, True), (read_only, True), (forgetful, False)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@pytest.mark.timeout(300)
def test_the_books_are_exact_whatever_the_store_does(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, fault: Fault, may_refuse: bool
) -> None:
    """And nobody waits for long."""
    with running_fleet(tmp_path, two_providers(fake, tmp_path), f"unix://{kept_store.socket}", 2) as fleet:
        keys = [APP_KEY, fleet.key(budget={"usd": "1000", "per": "month"})]
        callers = Callers(fleet, keys, most=1_000_000)
        time.sleep(0.5)
        fault(kept_store)
        time.sleep(2.5)
        callers.stop()
        check_books(fleet, kept_store, fake, bill, callers.outcomes)
        refused = [outcome for outcome in callers.outcomes if outcome.status == 503]
        assert all(outcome.limited for outcome in refused)
        assert all(outcome.seconds < LONGEST_REFUSAL_S for outcome in refused)
        assert may_refuse or not refused
        assert ask(fleet.gateways[0], keys[1], {"words": 3}, max_tokens=5).status == 200


class Stalls:
    """How long this machine kept everybody waiting who only wanted to sleep, in a thread."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.wait(0.01):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - before - 0.01)
            before = now


@pytest.mark.timeout(300)
def test_a_stopped_store_keeps_nobody_waiting_for_a_second(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, soak: bool
) -> None:
    """D8: whoever must be held is refused in time by the gateway's own clock; those under way come to their end.

    D9: whoever may overrun while the store is away sees no error, and soon afterwards the store has all of it.
    """
    most, under_way = 2_000 if soak else 400, 30
    env = {"REDIS_URL": f"unix://{kept_store.socket}", "TIERGATE_LOG_LEVEL": "info"}
    catalog = two_providers(fake, tmp_path)
    with running_gateway(tmp_path / "g0", catalog=catalog, env=env) as gateway, Stalls() as stalls:
        fleet = Fleet(tmp_path, catalog, env["REDIS_URL"], [gateway])
        key = fleet.key(budget={"usd": "0.05", "per": "month"})
        free = fleet.key(budget={"usd": "1000", "per": "month", "on_store_down": "allow"}, rpm=1_000_000)
        assert ask(gateway, free, {"words": 3}, max_tokens=5).status == 200
        with ThreadPoolExecutor(under_way) as streams, ThreadPoolExecutor(100 if soak else 16) as callers:
            slow = {"words": 60, "gap": 0.1}
            running = [streams.submit(ask, gateway, key, slow, stream=True, max_tokens=60) for _ in range(under_way)]
            eventually(lambda: len(fake.requests) > under_way, 30)
            for n in range(40):  # endings on their way, whose patience must not become a caller's
                callers.submit(ask, gateway, (key, APP_KEY)[n % 2], {"words": 3}, max_tokens=5)
            kept_store.signal(signal.SIGSTOP)
            until = time.monotonic() + 10
            asked = []
            for _ in range(most):
                asked.append(callers.submit(ask, gateway, key, {"words": 3}, max_tokens=5))
                time.sleep(max(0.0, min(0.005, until - time.monotonic())))
            few = {"words": 3}
            allowed = [callers.submit(ask, gateway, free, few, max_tokens=5, stream=n % 2 == 0) for n in range(most)]
            statuses = [each.result().status for each in asked]
            let_through = [each.result() for each in allowed]
            kept_store.signal(signal.SIGCONT)
            assert all(each.result().done for each in running)
        assert {outcome.status for outcome in let_through} == {200}
        eventually(lambda: admin(gateway, "/health").body["ledger"]["entries_waiting"] == 0, 30)
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) > most // 4
        check_books(fleet, kept_store, fake, bill, [*(each.result() for each in running), *let_through])
    lines = [json.loads(line) for line in gateway.log.read_text().splitlines() if line.startswith('{"event":"request"')]
    refused = [line["latency_ms"] for line in lines if line["status"] == 503]
    assert len(refused) >= statuses.count(503)
    assert max(refused) <= 1_000 + 3_000 * stalls.longest_s


class LossyStore:
    """Between gateways and store, in a thread: drops every tenth answer with its connection, after it was applied."""

    def __init__(self, store: Path) -> None:
        self.socket = store.with_name("lossy.sock")
        self.losing = False
        self.lost = 0
        self._store = store
        self._answers = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> LossyStore:
        self._thread.start()
        serving = asyncio.start_unix_server(self._serve, self.socket)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_unix_connection(self._store)
        asked = asyncio.create_task(_copy(reader, to_store))
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await from_store.read(65536):
                self._answers += 1
                if self.losing and self._answers % 10 == 0:
                    self.lost += 1
                    break
                writer.write(data)
        asked.cancel()
        writer.close()
        to_store.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(65536):
            writer.write(data)


@pytest.fixture
def lossy(kept_store: StoreServer) -> Iterator[LossyStore]:
    with LossyStore(kept_store.socket) as proxy:
        yield proxy


@pytest.mark.timeout(300)
def test_lost_answers_cost_nothing(
    kept_store: StoreServer, lossy: LossyStore, fake: FakeProvider, bill: Bill, tmp_path: Path
) -> None:
    """D11: one answer in ten is lost after it was applied; each thing is asked for again and known by its attempt."""
    with running_fleet(tmp_path, two_providers(fake, tmp_path), f"unix://{lossy.socket}", 2) as fleet:
        lossy.losing = True
        callers = Callers(fleet, [APP_KEY], most=300)
        eventually(lambda: not callers.busy, 60)
        callers.stop()
        lossy.losing = False
        check_books(fleet, kept_store, fake, bill, callers.outcomes)
        assert lossy.lost > 10
        repeated = [admin(gateway, "/health").body["ledger"].get("endings_dup", 0) for gateway in fleet.gateways]
        assert sum(repeated) >= 1


@pytest.mark.timeout(120)
def test_a_price_that_changes_amid_streams_is_not_theirs(
    kept_store: StoreServer, fake: FakeProvider, tmp_path: Path
) -> None:
    """D20: each attempt keeps the row it began with, and the report has both."""
    began = {"from": "2026-01-01", "usd_per_mtok": {"input": "1", "output": "2"}}
    since = {"from": "2026-11-01", "usd_per_mtok": {"input": "10", "output": "20"}}
    source = {"source": "https://example.com/prices", "checked": "2026-11-20"}
    catalog = two_providers(fake, tmp_path, models={"alpha": {"prices": [{**began, **source}]}})
    with running_fleet(tmp_path, catalog, f"unix://{kept_store.socket}", 1) as fleet:
        gateway = fleet.gateways[0]
        with ThreadPoolExecutor(20) as pool:
            for _ in range(20):
                pool.submit(ask, gateway, APP_KEY, {"words": 10, "gap": 0.3}, stream=True)
            eventually(lambda: len(fake.requests) == 20)
            two_providers(fake, tmp_path, models={"alpha": {"prices": [{**began, **source}, {**since, **source}]}})
            assert admin(gateway, "/catalog/reload", {}, method="POST").status == 200
            for _ in range(5):
                assert ask(gateway, APP_KEY, {"words": 10}).status == 200
        quiet(fleet, kept_store)
        costs = [entry["cost_nano_usd"] for entry in journal_of(kept_store)]
        cheap = PROMPT_TOKENS * 1_000 + 10 * 2_000
        assert sorted(costs) == [cheap] * 20 + [10 * cheap] * 5
        rows = admin(gateway, "/report?by=price_id").body["rows"]
        assert sorted(row["attempts"] for row in rows) == [5, 20]

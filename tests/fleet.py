"""Several gateway processes on one store, callers of every sort, and the audit after all of it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from billing import PROMPT_TOKENS, Bill
from books import audit
from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from running import ADMIN_TOKEN, APP_KEY, RunningGateway, start_gateway
from stores import StoreServer
from talk import CHAT, Talk, admin, events_of
from typer.testing import CliRunner

from gateway.cli.main import app

PEPPER = "pepper-of-the-fault-tests-0123456789"


@dataclass
class Fleet:
    """Gateways that share a store. One that was killed can be started again on its own folder."""

    folder: Path
    catalog: Path
    address: str
    gateways: list[RunningGateway] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    """Further settings."""

    def start(self, number: int) -> RunningGateway:
        env = {"REDIS_URL": self.address, "TIERGATE_PEPPER": PEPPER, "TIERGATE_LOG_LEVEL": "warning"}
        return start_gateway(self.folder / f"g{number}", catalog=self.catalog, env={**env, **self.env})

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.gateways[number].process.kill()
        self.gateways[number].process.wait()

    def start_again(self, number: int) -> None:
        self.gateways[number] = self.start(number)

    def any(self, chance: random.Random) -> RunningGateway:
        return chance.choice(self.gateways)

    def key(self, **fields: Any) -> str:
        """A fresh key."""
        answer = admin(self.gateways[0], "/keys", {"name": "faults", **fields}, method="POST")
        assert answer.status == 201, answer.raw
        key: str = answer.body["key"]
        return key


@contextlib.contextmanager
def running_fleet(folder: Path, catalog: Path, address: str, count: int, **env: str) -> Iterator[Fleet]:
    """`env` are further settings."""
    fleet = Fleet(folder, catalog, address, env=env)
    try:
        with ThreadPoolExecutor(count) as pool:
            fleet.gateways = list(pool.map(fleet.start, range(count)))
        yield fleet
    finally:
        for gateway in fleet.gateways:
            if gateway.process.poll() is None:
                gateway.process.send_signal(signal.SIGTERM)
        for gateway in fleet.gateways:
            gateway.process.wait(60)


def two_providers(fake: FakeProvider, folder: Path, **fields: Any) -> Path:
    """A catalog with one tier of two providers, `alpha` before `beta`."""
    return catalog_for(fake, folder / "catalog.yaml", {"fast": ["alpha", "beta"]}, **fields)


@dataclass(frozen=True)
class Outcome:
    """What a caller saw of a request."""

    status: int
    """0 where no answer came at all."""
    request_id: str = ""
    usage: dict[str, Any] | None = None
    done: bool = False
    """Whether it was told that this was all."""
    failed: bool = False
    """Whether it was told, after a beginning, that no more would come."""
    seconds: float = 0.0
    """Until the end of the answer."""
    limited: bool = False
    """Whether its key has limits, for which the store must be asked."""


def ask(
    gateway: RunningGateway, key: str, order: dict[str, Any], *, leave_after: int | None = None, **body: Any
) -> Outcome:
    """One request; its caller hangs up after `leave_after` bytes of a stream, or soon after asking for all at once."""
    request = {"model": "fast", "messages": [{"role": "user", "content": json.dumps(order)}], **body}
    if body.get("stream"):
        request["stream_options"] = {"include_usage": True}
    try:
        with Talk(gateway, key, timeout_s=60) as talk:
            talk.send(CHAT, request)
            if leave_after is not None and not body.get("stream"):
                time.sleep(0.03)
                return Outcome(0)
            response = talk.connection.getresponse()
            request_id = response.headers.get("x-gateway-request-id", "")
            raw = response.read() if leave_after is None else response.read(leave_after)
            if leave_after is not None:
                return Outcome(response.status, request_id)
    except (OSError, http.client.HTTPException):
        return Outcome(0)
    if response.status != 200:
        return Outcome(response.status, request_id)
    if not body.get("stream"):
        return Outcome(200, request_id, json.loads(raw)["usage"], done=True)
    events = list(events_of(raw))
    told = [e["usage"] for e in events if isinstance(e, dict) and e.get("usage")]
    failed = any(isinstance(e, dict) and "error" in e for e in events)
    return Outcome(200, request_id, told[-1] if told else None, done="[DONE]" in events, failed=failed)


class Callers:
    """Keeps asking from many threads until told to stop; every sort of request in turn, by chance of a fixed seed."""

    def __init__(self, fleet: Fleet, keys: list[str], *, threads: int = 6, most: int) -> None:
        self.outcomes: list[Outcome] = []
        self._fleet, self._keys, self._most = fleet, keys, most
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self._running: list[Future[None]] = [self._pool.submit(self._ask, n) for n in range(threads)]

    @property
    def busy(self) -> bool:
        return not all(running.done() for running in self._running)

    def stop(self) -> None:
        """Lets the requests under way end."""
        self._stop.set()
        self._pool.shutdown(wait=True)
        for running in self._running:
            running.result()

    def _ask(self, thread: int) -> None:
        chance = random.Random(thread)
        while next(self._numbers) < self._most and not self._stop.is_set():
            order: dict[str, Any] = {"words": chance.randint(2, 30), "gap": chance.choice([0.0, 0.005, 0.03])}
            if chance.random() < 0.15:
                order["fails"] = ["alpha"]
            stream = chance.random() < 0.6
            leave_after = chance.randint(1, 4000) if chance.random() < 0.2 else None
            if stream and leave_after is None and chance.random() < 0.2:
                order["cut"] = chance.randint(0, 10)
            key = chance.choice(self._keys)
            gateway = self._fleet.any(chance)
            began = time.monotonic()
            outcome = ask(gateway, key, order, leave_after=leave_after, stream=stream, max_tokens=100)
            took = time.monotonic() - began
            self.outcomes.append(replace(outcome, seconds=took, limited=key != APP_KEY))
            if outcome.status == 0:
                time.sleep(0.02)


def all_over(fake: FakeProvider) -> None:
    """Waits until the provider works on nothing any more."""
    eventually(lambda: all(seen.over for seen in list(fake.requests)), 30)


def quiet(fleet: Fleet, store: StoreServer) -> None:
    """Waits until the logs of the dead are booked, all that ended is in the store, and nothing is held or in flight."""

    async def in_flight() -> int:
        client = store.client()
        try:
            return await client.hlen("{t:main}:h") + await client.zcard("{t:main}:if")
        finally:
            await client.aclose()

    def waiting(gateway: RunningGateway) -> int:
        ledger = admin(gateway, "/health").body["ledger"]
        dead = len(list((gateway.data_dir / "wal").iterdir())) - 1
        return int(ledger["entries_waiting"] + ledger["attempts_open"] + dead)

    eventually(lambda: sum(map(waiting, fleet.gateways)) + asyncio.run(in_flight()) == 0, 60)


def journal_of(store: StoreServer) -> list[dict[str, Any]]:
    """The audited journal: sums agree everywhere and nothing is held."""

    async def read() -> list[dict[str, Any]]:
        client = store.client()
        try:
            return await audit(client)
        finally:
            await client.aclose()

    return asyncio.run(read())


def reconcile(fleet: Fleet, bill: Bill, provider: str) -> dict[str, Any]:
    """Imports the provider's whole bill of these days by the command."""
    today = datetime.now(UTC).date()
    period = ["--from", str(today - timedelta(days=1)), "--to", str(today + timedelta(days=1))]
    gateway = next(g for g in fleet.gateways if g.process.poll() is None)
    env = {"TIERGATE_URL": gateway.url, "TIERGATE_ADMIN_TOKEN": ADMIN_TOKEN}
    words = ["reconcile", "import", str(bill.file(provider)), "--provider", provider, *period, "--format", "json"]
    result = CliRunner().invoke(app, words, env=env)
    assert result.exit_code == 0, result.output
    done: dict[str, Any] = json.loads(result.stdout)
    return done


def check_books(fleet: Fleet, store: StoreServer, fake: FakeProvider, bill: Bill, outcomes: list[Outcome]) -> int:
    """I1 to I6: what was billed is in the journal once, what was seen is exact, and the bill mends the rest.

    Gives how many attempts the bill corrected.
    """
    all_over(fake)
    quiet(fleet, store)
    found = journal_of(store)
    entries = {e["attempt_id"]: e for e in found if e["kind"] == "entry"}
    assert len(entries) == sum(e["kind"] == "entry" for e in found), "an attempt is in the journal twice"
    missing = bill.lines.keys() - entries.keys()
    assert not missing, f"{len(missing)} attempts were billed and are not in the journal"
    for aid, entry in entries.items():
        billed = bill.lines.get(aid)
        if entry["usage_source"] in ("provider", "drained") and entry["settlement"] != "void":
            assert billed is not None, f"booked as exact and never billed: {entry}"
            assert (entry["cost_nano_usd"], entry["usage"]["output"]) == (billed.cost_nano, billed.output), entry
        elif entry["settlement"] == "void":
            assert billed is None, f"booked as not billed, and billed: {entry}"
    for outcome in outcomes:
        if outcome.done and outcome.usage is not None:
            served = [e for e in entries.values() if e["request_id"] == outcome.request_id]
            exact = [e for e in served if e["usage_source"] == "provider" and e["settlement"] == "complete"]
            assert [e["usage"]["output"] for e in exact] == [outcome.usage["completion_tokens"]], served
            assert exact[0]["usage"]["input"] == PROMPT_TOKENS
    providers = sorted({line.provider for line in bill.lines.values()})
    corrected: int = sum(reconcile(fleet, bill, provider)["corrected"] for provider in providers)
    found = journal_of(store)
    booked: dict[str, int] = {}
    for entry in found:
        booked[entry["attempt_id"]] = booked.get(entry["attempt_id"], 0) + entry["cost_nano_usd"]
    assert {aid: nano for aid, nano in booked.items() if nano} == {a: b.cost_nano for a, b in bill.lines.items()}
    assert sum(booked.values()) == bill.cost_nano
    return corrected

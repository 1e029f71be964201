"""The admin API over a real socket and a real store."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from clocks import SetClock
from redis.asyncio import Redis
from starlette.applications import Starlette

from gateway.admin.audit import Audit
from gateway.admin.desk import Desk
from gateway.admin.routes import admin_routes
from gateway.callers.bootstrap import Opened, open_callers
from gateway.callers.caller import Caller
from gateway.callers.keys import mint
from gateway.callers.records import KeyRecord, StoredSecret
from gateway.callers.roles import Role
from gateway.catalog.living import LivingCatalog
from gateway.catalog.source import CatalogSource
from gateway.errors import CatalogError
from gateway.ledger.journal import Journal
from gateway.money import usd
from gateway.upstream.client import Upstream

ADMIN = "admin-token-of-the-tests"
APP = "app-key-of-the-tests-----"
DOCUMENT = """\
# Kept by hand.
providers:
  one: {adapter: openai, base_url: https://one.example/v1, defaults: {text: alpha}}   # the first
  two: {adapter: openrouter, base_url: https://two.example/v1}
models:
  alpha:
    display_name: Alpha
    capabilities: [text_input, text_output, streaming, function_calling]
    context: {input_tokens: 128000, output_tokens: 16000}
    prices:
      - from: 2026-01-01
        usd_per_mtok: {input: "1.00", output: "4.00"}
        source: https://one.example/pricing
        checked: 2026-11-20
    deployments:
      - {provider: one, id: alpha-1}

  beta:                                        # the small one
    capabilities: [text_input, text_output]
    deployments:
      - {provider: one, id: beta-1}
# What apps ask for.
tiers:
  fast: {models: [beta, alpha]}
"""


@dataclasses.dataclass
class Answer:
    """What the admin API answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


@dataclasses.dataclass
class AdminApi:
    """A client of a running admin API, and the parts behind it."""

    url: str
    opened: Opened
    store: Redis
    audit: Audit
    clock: SetClock
    seen: dict[str, Any]
    """What the hooks were called with."""
    living: LivingCatalog
    document: Path
    """The catalog file."""
    answers: dict[str, Any]
    """Host of a provider -> status and JSON of its model list; a host that is not here answers 404."""

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = ADMIN,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        lines = {**({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, lines, method=method)
        return await asyncio.to_thread(_send, request)

    async def key(self, **fields: Any) -> tuple[str, str]:
        """Makes a key: its text and its id."""
        made = await self("POST", "/admin/api/keys", {"name": "a key", **fields})
        assert made.status == 201, made.text
        return made.json["key"], made.json["id"]

    async def outsider(self, role: Role) -> str:
        """A key of another tenant, whose id is `abcdefghijkl`."""
        key = mint("other", "abcdefghijkl").reveal()
        record = KeyRecord(
            key_id="abcdefghijkl",
            tenant="other",
            name="theirs",
            role=role,
            secrets=(StoredSecret(self.opened.pepper.digest(key.encode())),),
            created_at=1.0,
            created_by="bootstrapadm",
        )
        assert await self.opened.records.write(record)
        return key


def _send(request: urllib.request.Request) -> Answer:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=20) as response:
            return Answer(response.status, dict(response.headers), response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read().decode())


@contextlib.asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """A real uvicorn on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


class FakeTrials:
    """Two trials: an experiment with two arms, and a canary that is stopped until it is resumed."""

    def __init__(self) -> None:
        self.reason: str | None = "error rate 27%, the rest's is 0%"

    def listed(self) -> list[dict[str, Any]]:
        state = {"state": "running" if self.reason is None else "stopped", "reason": self.reason}
        return [
            {"experiment": "size", "kind": "experiment", "tier": "fast", "models": ["a", "b"]},
            {"experiment": "next", "kind": "canary", "tier": "fast", "models": ["b"], **state},
        ]

    async def report(self, tenant: str, title: str, start: datetime, end: datetime) -> dict[str, Any]:
        arms = [_arm("large", 4, 1_500_000), _arm("small", 0, 0)] if title == "size" else []
        return {"experiment": title, "from": f"{start:%Y-%m-%d}", "to": f"{end:%Y-%m-%d}", "arms": arms}

    async def resume(self, title: str) -> bool:
        stopped, self.reason = title == "next" and self.reason is not None, None
        return stopped


def _arm(name: str, requests: int, cost_nano: int) -> dict[str, Any]:
    """An arm of the report, by which half of the requests were liked."""
    return {
        "arm": name,
        "requests": requests,
        "errors": 1 if requests else 0,
        "mean_latency_ms": 1234 if requests else None,
        "mean_ttft_ms": None,
        "attempts": requests,
        "input_tokens": 5000,
        "output_tokens": 70,
        "estimated": 0,
        "cost_nano_usd": cost_nano,
        "cost_usd": usd(cost_nano),
        "feedback": {"count": requests // 2, "scored": 1, "mean_score": 0.5, "labels": {"liked": requests // 2}},
    }


@pytest.fixture
async def admin(store: Redis, clock: SetClock, monotonic: SetClock, tmp_path: Path) -> AsyncIterator[AdminApi]:
    """A running admin API with fakes behind its hooks."""
    opened = await open_callers(
        store, tmp_path, pepper=None, admin_token=ADMIN, app_key=APP, clock=clock, monotonic=monotonic
    )
    audit = Audit(store, opened.pepper, clock)
    seen: dict[str, Any] = {}
    answers: dict[str, Any] = {}

    def providers(request: httpx.Request) -> httpx.Response:
        status, body = answers.get(request.url.host, (404, {}))
        return httpx.Response(status, json=body)

    async def health() -> Mapping[str, Any]:
        return {"status": "ok"}

    async def reload_catalog() -> Mapping[str, Any]:
        if seen.get("bad_catalog"):
            raise CatalogError("catalog.yaml:3: tiers.fast: unknown model 'x'")
        return {"catalog": "abc"}

    async def explain_past(request_id: str, caller: Caller) -> Mapping[str, Any] | None:
        return {"request_id": request_id} if request_id == "req_known" else None

    async def decisions(since: float, caller: Caller) -> AsyncIterator[bytes]:
        seen["decisions"] = (since, caller.key_id)
        yield b'{"format":"tiergate.decisions.1"}\n'

    async def explain(body: bytes, caller: Caller) -> Mapping[str, Any]:
        if seen.get("fails"):
            raise RuntimeError("inner words")
        seen["explained"] = (body, caller.key_id)
        return {"candidates": []}

    document = tmp_path / "catalog.yaml"
    document.write_text(DOCUMENT)
    source = CatalogSource(document, {}, clock)
    upstream = Upstream(httpx.MockTransport(lambda request: providers(request)))
    living = LivingCatalog(source, store, upstream, in_store=False, clock=clock, monotonic=monotonic)
    await living.fleet.step()
    app = Starlette(routes=admin_routes())
    app.state.desk = Desk(
        store=store,
        journal=Journal(store),
        callers=opened.callers,
        records=opened.records,
        pepper=opened.pepper,
        audit=audit,
        catalog=living,
        clock=clock,
        new_request_id=lambda: f"req_{secrets.token_hex(8)}",
        health=health,
        reload_catalog=reload_catalog,
        explain_past=explain_past,
        decisions=decisions,
        trials=FakeTrials(),  # type: ignore[arg-type]
        explain=explain,
    )
    async with serving(app) as url:
        yield AdminApi(url, opened, store, audit, clock, seen, living, document, answers)
    await opened.callers.close()

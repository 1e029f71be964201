"""create_app(settings): every route and all the wiring, on one screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.admin.routes import admin_routes
from gateway.api.chat import ChatCompletions
from gateway.api.departures import Departures
from gateway.api.errors import handlers
from gateway.api.health import healthz, metrics, readyz
from gateway.api.models import list_models, show_model
from gateway.banner import banner
from gateway.callers.bootstrap import open_callers
from gateway.callers.idempotency import Idempotency
from gateway.catalog.source import CatalogSource, default_catalog_path
from gateway.gateway import Gateway
from gateway.ledger.ledger import Alert, Ledger
from gateway.log import get_logger
from gateway.routing.health import Breakers
from gateway.routing.retry import RetryBudget
from gateway.routing.stats import Statistics
from gateway.settings import Settings
from gateway.storage.store import open_store
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog
from gateway.upstream.client import Upstream
from gateway.upstream.engine import Engine
from gateway.upstream.sandbox import SandboxTransport


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The gateway as an ASGI application. `transport` replaces the upstream engine in tests."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_gateway(settings, transport, clock, monotonic, chance) as gateway:
            app.state.gateway = gateway
            yield

    chance = random.Random(settings.seed)  # noqa: S311  # for ids and routing, never for secrets
    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/v1/chat/completions", ChatCompletions(), methods=["POST"]),
            Route("/v1/models", list_models, methods=["GET"]),
            Route("/v1/models/{model:path}", show_model, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            *admin_routes(),
        ],
        exception_handlers=handlers(clock, chance),
    )


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings,
    transport: httpx.AsyncBaseTransport | None,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    chance: random.Random,
) -> AsyncIterator[Gateway]:
    """Everything that runs, opened in order and closed in the opposite one."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        catalog = CatalogSource(
            settings.catalog or default_catalog_path(),
            os.environ,
            clock,
            on_change=lambda snapshot: metrics.catalog_reloads.labels("loaded").inc(),
        )
        store = await stack.enter_async_context(open_store(settings.redis_url, settings.data_dir))
        opened = await open_callers(
            store,
            settings.data_dir,
            pepper=_text(settings.pepper),
            admin_token=_text(settings.admin_token),
            app_key=_text(settings.app_key),
            clock=clock,
            monotonic=monotonic,
        )
        stack.push_async_callback(opened.callers.close)
        ledger = Ledger(store, settings.data_dir, clock=clock, monotonic=monotonic, on_alert=_log_alert)
        await ledger.start()
        stack.push_async_callback(ledger.close)
        upstream = Upstream(transport or Engine(), {SANDBOX_HOST: SandboxTransport()})
        stack.push_async_callback(upstream.aclose)
        requests = RequestLog(metrics, log=settings.log_level in ("debug", "info"))
        await requests.start()
        stack.push_async_callback(requests.close)
        gateway = Gateway(
            settings=settings,
            clock=clock,
            monotonic=monotonic,
            chance=chance,
            catalog=catalog,
            callers=opened.callers,
            idempotency=Idempotency(store),
            ledger=ledger,
            upstream=upstream,
            breakers=Breakers(monotonic, clock, chance.random, [metrics.breaker_moved]),
            statistics=Statistics(),
            retries=RetryBudget(monotonic),
            departures=Departures(),
            metrics=metrics,
            requests=requests,
            store=store,
        )
        metrics.inflight.set_function(lambda: gateway.inflight)
        watching = asyncio.create_task(catalog.watch(), name="catalog-watch")
        stack.callback(watching.cancel)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(catalog.reload()))
        sys.stdout.write(banner(settings, opened.new_app_key, opened.new_admin_token))
        sys.stdout.flush()
        yield gateway
        gateway.draining = True


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _log_alert(alert: Alert) -> None:
    get_logger("alerts").warning("ledger_alert", **asdict(alert))

"""create_app(settings): every route and all the wiring, on one screen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import partial

import httpx
from pydantic import SecretStr
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.routing import Route

from gateway.admin.alerts import Alerts
from gateway.admin.desk import Desk
from gateway.admin.hooks import open_desk
from gateway.admin.routes import admin_routes
from gateway.api.chat import ChatCompletions, serve_chat
from gateway.api.errors import handlers
from gateway.api.feedback import take_feedback
from gateway.api.health import healthz, metrics, readyz
from gateway.api.models import list_models, show_model
from gateway.api.recall import SHARE_KEPT_S
from gateway.api.shadows import Shadows
from gateway.banner import QUIET, banner
from gateway.callers.bootstrap import open_callers
from gateway.callers.idempotency import Idempotency
from gateway.callers.rules import RuleRecords, Rules
from gateway.catalog.living import LivingCatalog
from gateway.catalog.source import CatalogSource, default_catalog_path
from gateway.direct import Hot
from gateway.errors import TiergateError
from gateway.gateway import Gateway
from gateway.ledger.ledger import Ledger
from gateway.ledger.rates import Rates
from gateway.log import get_logger
from gateway.routing.arms import Arms
from gateway.routing.canaries import Canaries
from gateway.routing.decisions import Decisions
from gateway.routing.feedback import Feedback
from gateway.routing.health import Breakers, Transition
from gateway.routing.outliers import Outliers
from gateway.routing.recent import Recent
from gateway.routing.retry import RetryBudgets
from gateway.routing.sessions import Sessions
from gateway.routing.sharing import SharedHealth
from gateway.routing.stats import Statistics
from gateway.settings import Settings
from gateway.storage.client import StoreTooOld
from gateway.storage.embedded import StoreFailed
from gateway.storage.opening import open_store
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.requests import RequestLog
from gateway.upstream.client import Upstream
from gateway.upstream.engine import Engine, Limits
from gateway.upstream.sandbox import SANDBOX_HOST, SandboxTransport


class Application(Starlette):
    """Starlette, and the endpoints that are called all the time: by path, for our own protocol to call past ASGI.

    Matching routes and two layers of middleware cost as much as planning a request. Such an endpoint stands among the
    routes too, identifies its caller itself and answers every error itself.
    """

    hot: Mapping[bytes, Hot] = {}


_HOT_BYTES = 256 * 1024
"""Longer bodies are read only after their caller is known."""
_CANNOT_START = (TiergateError, StoreFailed, StoreTooOld, RedisError, OSError, ValueError)


def create_app(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Application:
    """The gateway as an ASGI application. `transport` replaces the upstream engine in tests."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Application) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                opening = open_gateway(settings, transport, clock, monotonic, chance, ids)
                app.state.gateway, app.state.desk = gateway, _ = await stack.enter_async_context(opening)
            except _CANNOT_START as error:
                sys.stderr.write(f"tiergate: {_said(error, settings)}\n")
                logging.getLogger("uvicorn.error").disabled = True  # it would repeat this with a traceback
                raise
            most_bytes = min(_HOT_BYTES, settings.max_body_bytes)
            app.hot = {b"/v1/chat/completions": Hot(partial(serve_chat, gateway), most_bytes)}
            yield

    chance = random.Random(settings.seed)  # noqa: S311  # for routing, never for secrets
    ids = random.Random()  # noqa: S311  # not seeded: ids must differ between processes
    app = Application(
        lifespan=lifespan,
        routes=[
            Route("/v1/chat/completions", ChatCompletions(), methods=["POST"]),
            Route("/v1/feedback", take_feedback, methods=["POST"]),
            Route("/v1/models", list_models, methods=["GET"]),
            Route("/v1/models/{model:path}", show_model, methods=["GET"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            *admin_routes(),
        ],
        exception_handlers=handlers(clock, ids),
    )
    app.router.redirect_slashes = False  # a redirect would name a host that the caller gave
    return app


@contextlib.asynccontextmanager
async def open_gateway(
    settings: Settings,
    transport: httpx.AsyncBaseTransport | None,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
    chance: random.Random,
    ids: random.Random,
) -> AsyncIterator[tuple[Gateway, Desk]]:
    """Everything that runs, opened in order and closed in the opposite one."""
    async with contextlib.AsyncExitStack() as stack:
        metrics = Metrics()
        catalog = CatalogSource(
            settings.catalog or default_catalog_path(),
            os.environ,
            clock,
            on_change=lambda snapshot: metrics.catalog_reloads.labels("loaded").inc(),
        )
        store = await stack.enter_async_context(open_store(_text(settings.redis_url), settings.data_dir))
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
        rules = Rules(RuleRecords(store))
        await rules.start()
        stack.push_async_callback(rules.close)
        secret = _text(settings.alert_secret)
        alerts = Alerts(settings.alert_webhook, secret, metrics, clock=clock, chance=chance)
        ledger = Ledger(
            store,
            settings.data_dir,
            clock=clock,
            monotonic=monotonic,
            chance=ids,
            on_alert=alerts.tell,
            archive_dir=settings.archive,
            wal_fsync=settings.wal_fsync,
        )
        await ledger.start()
        stack.push_async_callback(ledger.close)
        rates = Rates(store)
        await rates.start()
        stack.push_async_callback(rates.close)
        limits = Limits(connections_per_origin=settings.max_inflight)  # all may go to one provider
        upstream = Upstream(transport or Engine(limits), {SANDBOX_HOST: SandboxTransport()})
        stack.push_async_callback(upstream.aclose)
        await alerts.start(upstream.post)
        stack.push_async_callback(alerts.close)
        living = LivingCatalog(
            catalog,
            store,
            upstream,
            in_store=settings.catalog_in == "store",
            clock=clock,
            monotonic=monotonic,
            price_data=settings.price_data,
            discover_every_s=settings.discover_every_hours * 3600,
            on_vanished=alerts.tell_of_model,
        )
        requests = RequestLog(metrics, log=settings.log_level in ("debug", "info"))
        await requests.start()
        stack.push_async_callback(requests.close)
        decisions = Decisions(store, kept_hours=settings.decisions_kept_hours)
        await decisions.start()
        stack.push_async_callback(decisions.close)
        sessions = Sessions(store, monotonic)
        await sessions.start()
        stack.push_async_callback(sessions.close)
        statistics = Statistics(monotonic)
        breakers = Breakers(monotonic, clock, chance.random, [_log_transition(metrics)])
        breakers.on_refused = alerts.tell_of_credential
        outliers = Outliers(breakers, lambda: catalog.current, monotonic)
        shared_health = SharedHealth(store, breakers, statistics, outliers, monotonic)
        canaries = Canaries(store, statistics, lambda: catalog.current, clock)
        await canaries.start()
        stack.push_async_callback(canaries.close)
        arms = Arms(store)
        await arms.start()
        stack.push_async_callback(arms.close)
        shadows = Shadows()
        stack.push_async_callback(shadows.close)
        gateway = Gateway(
            settings=settings,
            clock=clock,
            monotonic=monotonic,
            chance=chance,
            ids=ids,
            catalog=catalog,
            living=living,
            callers=opened.callers,
            rules=rules,
            idempotency=Idempotency(store),
            ledger=ledger,
            rates=rates,
            upstream=upstream,
            breakers=breakers,
            statistics=statistics,
            retries=RetryBudgets(monotonic),
            metrics=metrics,
            requests=requests,
            decisions=decisions,
            sessions=sessions,
            budget_shares=Recent(monotonic, SHARE_KEPT_S),
            canaries=canaries,
            arms=arms,
            shadows=shadows,
            feedback=Feedback(store),
            store=store,
        )
        desk = open_desk(gateway, opened)
        metrics.inflight.set_function(lambda: gateway.inflight)
        metrics.journal_records.set_function(lambda: ledger.lag["journal_records"])
        await living.start()
        stack.push_async_callback(living.close)
        await shared_health.start()
        stack.push_async_callback(shared_health.close)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(catalog.reload()))
        if QUIET not in os.environ or opened.new_app_key or opened.new_admin_token:
            sys.stdout.write(banner(settings, opened.new_app_key, opened.new_admin_token))
            sys.stdout.flush()
        yield gateway, desk
        gateway.draining = True


def _said(error: Exception, settings: Settings) -> str:
    """Why it cannot start, in words; the system's own errors with the place where they happened."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or settings.data_dir}: {error.strerror}"
    if isinstance(error, RedisError):
        whose = "that REDIS_URL names" if settings.redis_url else f"in {settings.data_dir}"
        return f"the store {whose} cannot be used: {error}"
    return str(error)


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _log_transition(metrics: Metrics) -> Callable[[Transition], None]:
    """Tells log and metrics of a breaker's change of state."""
    log = get_logger("breakers")

    def moved(transition: Transition) -> None:
        log.warning("breaker_moved", **asdict(transition))
        metrics.breaker_transitions.labels(transition.deployment, transition.new).inc()

    return moved

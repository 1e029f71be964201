"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

import os

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.requests import Request
from starlette.responses import Response

from gateway.callers.callers import credential
from gateway.callers.roles import Permission
from gateway.gateway import Gateway


async def healthz(request: Request) -> Response:
    """Alive: the process answers. Says nothing else, since anybody may ask."""
    return Response(b'{"status":"ok"}', media_type="application/json")


async def readyz(request: Request) -> Response:
    """Ready: 200 while requests should be sent here, else 503 with the parts that are not well."""
    gateway: Gateway = request.app.state.gateway
    problems: dict[str, str] = {}
    if gateway.draining:
        problems["draining"] = "the gateway is shutting down"
    if not gateway.ledger.lag["store_up"]:
        problems["store"] = "the store does not answer"
    body = msgspec.json.encode({"status": "unavailable" if problems else "ok", "problems": sorted(problems)})
    return Response(body, status_code=503 if problems else 200, media_type="application/json")


async def metrics(request: Request) -> Response:
    """Prometheus metrics of all workers; for keys that may see operations, or anybody where the operator says so."""
    gateway: Gateway = request.app.state.gateway
    if not gateway.settings.metrics_public:
        client = request.client.host if request.client else None
        caller = await gateway.callers.identify(credential(request.scope["headers"]), client)
        caller.require(Permission.READ_HEALTH)
    gateway.requests.flush()
    registry = gateway.metrics.registry
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the package has no types there
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

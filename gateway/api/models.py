"""GET /v1/models and /v1/models/{id}: the tiers and models that this key may use, and what the catalog says of them."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.callers.caller import Caller
from gateway.callers.callers import credential
from gateway.catalog.prices import rates_text
from gateway.catalog.snapshot import Snapshot
from gateway.errors import CallerError, Kind
from gateway.gateway import Gateway
from gateway.types import Deployment, Model, Tier, capabilities_of

OWNER = "tiergate"


async def list_models(request: Request) -> Response:
    gateway, caller = await _caller(request)
    snapshot = gateway.catalog.current
    now = gateway.clock()
    rows = [_tier(tier) for tier in snapshot.tiers.values() if _may_tier(caller, tier)]
    rows += [_model(model, snapshot, now) for model in snapshot.models.values() if _may_model(caller, model)]
    return _json({"object": "list", "data": rows})


async def show_model(request: Request) -> Response:
    gateway, caller = await _caller(request)
    snapshot, name = gateway.catalog.current, request.path_params["model"]
    tier, model = snapshot.tiers.get(name), snapshot.models.get(name)
    if tier is not None and _may_tier(caller, tier):
        return _json(_tier(tier))
    if model is not None and _may_model(caller, model):
        return _json(_model(model, snapshot, gateway.clock()))
    target = snapshot.targets.get(name)
    if target is not None and _may_tier(caller, target.tier) and target.kind == "tier":
        return _json({**_tier(target.tier), "id": name})
    if target is not None and target.model is not None and _may_model(caller, target.model):
        return _json({**_model(target.model, snapshot, gateway.clock()), "id": name})
    near = snapshot.nearest(name)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise CallerError(Kind.UNKNOWN_MODEL, f"The model '{name[:128]}' does not exist.{hint}", param="model")


async def _caller(request: Request) -> tuple[Gateway, Caller]:
    gateway: Gateway = request.app.state.gateway
    client = request.client.host if request.client else None
    return gateway, await gateway.callers.identify(credential(request.scope["headers"]), client)


def _may_tier(caller: Caller, tier: Tier) -> bool:
    return caller.tiers is None or tier.name in caller.tiers


def _may_model(caller: Caller, model: Model) -> bool:
    if model.category != "text" or model.status in ("pending", "disabled", "retired"):
        return False
    allowed = caller.models is None or model.name in caller.models
    return allowed and model.name not in caller.denied_models and caller.tiers is None


def _tier(tier: Tier) -> dict[str, Any]:
    usable = [d for d in (*tier.deployments, *tier.fallback) if d.provider.unavailable is None]
    return {
        "id": tier.name,
        "object": "model",
        "created": max((d.model.created_at for d in tier.deployments), default=0),
        "owned_by": OWNER,
        "kind": "tier",
        "description": tier.description,
        "available": bool(usable),
        "default": tier.default,
        "models": list(dict.fromkeys(d.model.name for d in tier.deployments)),
    }


def _model(model: Model, snapshot: Snapshot, now: float) -> dict[str, Any]:
    deployments = [d for d in snapshot.deployments.values() if d.model is model]
    usable = [d for d in deployments if d.provider.unavailable is None]
    reasons = {d.provider.name: d.provider.unavailable for d in deployments if d.provider.unavailable}
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at,
        "owned_by": deployments[0].provider.name if deployments else OWNER,
        "kind": "model",
        "display_name": model.display_name,
        "status": model.status,
        "available": bool(usable),
        **({"unavailable": reasons} if not usable else {}),
        "capabilities": [c.value for c in capabilities_of(model.capabilities)],
        "context": {"input_tokens": model.input_tokens, "output_tokens": model.output_tokens},
        "shutdown_at": model.retires_at,
        "replacement": model.replacement,
        "guidance": dict(model.guidance),
        "deployments": [_served(deployment, now) for deployment in deployments],
    }


def _served(deployment: Deployment, now: float) -> dict[str, Any]:
    price = deployment.price_at(now)
    return {
        "name": deployment.name,
        "usd_per_mtok": None if price is None else rates_text(price.rates),
        "available": deployment.provider.unavailable is None,
    }


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")

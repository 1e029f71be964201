"""GET /v1/models and /v1/models/{id}: the tiers and models that this key may use, and what the catalog says of them."""

from __future__ import annotations

from collections.abc import Iterable
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
from gateway.routing.resolve import resolve
from gateway.types import Deployment, Model, Options, Tier, capabilities_of

OWNER = "tiergate"
_NO_OPTIONS = Options()


async def list_models(request: Request) -> Response:
    gateway, caller = await _caller(request)
    snapshot = gateway.catalog.current
    reach, now = _Reach(caller, snapshot), gateway.clock()
    rows = [_tier(tier) for tier in snapshot.tiers.values() if reach.tier(tier)]
    rows += [_model(model, snapshot, now) for model in snapshot.models.values() if reach.model(model)]
    return _json({"object": "list", "data": rows})


async def show_model(request: Request) -> Response:
    gateway, caller = await _caller(request)
    snapshot, name = gateway.catalog.current, request.path_params["model"]
    reach, now = _Reach(caller, snapshot), gateway.clock()
    model = snapshot.models.get(name)
    if model is not None and reach.model(model):
        return _json(_model(model, snapshot, now))
    target = resolve(snapshot, name, _NO_OPTIONS)
    if target.kind == "tier" and reach.tier(target.tier):
        return _json({**_tier(target.tier), "id": name})
    if target.model is not None and reach.model(target.model):
        return _json({**_model(target.model, snapshot, now), "id": name})
    message = f"The model '{name[:128]}' is none that this key may use. GET /v1/models lists those."
    raise CallerError(Kind.UNKNOWN_MODEL, message, param="model")


async def _caller(request: Request) -> tuple[Gateway, Caller]:
    gateway: Gateway = request.app.state.gateway
    client = request.client.host if request.client else None
    return gateway, await gateway.callers.identify(credential(request.scope["headers"]), client)


class _Reach:
    """What a caller may ask for, by the rules that requests are held to."""

    def __init__(self, caller: Caller, snapshot: Snapshot) -> None:
        self._caller = caller
        self._allowed = caller.allowed_models(snapshot.models)
        tiers = (snapshot.tiers[name] for name in caller.tiers or () if name in snapshot.tiers)
        self._of_tiers = {d.model.name for tier in tiers for d in _deployments(tier)}
        self._served: dict[str, list[Deployment]] = {}
        for deployment in snapshot.deployments.values():
            self._served.setdefault(deployment.model.name, []).append(deployment)

    def tier(self, tier: Tier) -> bool:
        """Whether it may name the tier, and one of the tier's models may serve it."""
        named = self._caller.tiers is None or tier.name in self._caller.tiers
        return named and self._serves(_deployments(tier))

    def model(self, model: Model) -> bool:
        """Whether it may name the model: one limited to tiers, only those of its tiers and of its own list."""
        if model.category != "text" or model.status in ("pending", "disabled", "retired"):
            return False
        caller = self._caller
        listed = caller.models is not None and model.name in caller.models
        named = caller.tiers is None or listed or model.name in self._of_tiers
        return named and self._serves(self._served.get(model.name, ()))

    def _serves(self, deployments: Iterable[Deployment]) -> bool:
        allowed = self._allowed
        return allowed is None or any(d.model.name in allowed or d.name in allowed for d in deployments)


def _deployments(tier: Tier) -> list[Deployment]:
    """All that may serve the tier, for whomever."""
    return [*tier.deployments, *tier.fallback, *(d for override in tier.overrides for d in override.deployments)]


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

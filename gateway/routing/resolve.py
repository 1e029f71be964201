"""From the name a caller sent to what it stands for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from gateway.catalog.snapshot import Snapshot, Target
from gateway.errors import CallerError, Kind, bad_request
from gateway.types import Capability, Model, Options, mask_of

TRIAL = "trial:"
"""Before a model's name, from an admin: ask it whatever the catalog says of it."""
_EVERYTHING = mask_of(tuple(Capability))


def resolve(snapshot: Snapshot, alias: str, options: Options, *, previews: bool = False) -> Target:
    """The tier, model or deployment that a name means in this version of the catalog.

    `previews` also finds models that were discovered and are not approved yet, by `provider/id`, and with `trial:`
    before a name any model as if it were in use and could do everything.

    Raises:
        CallerError: UNKNOWN_MODEL with the nearest names, MODEL_DISABLED with the reason, or BAD_REQUEST where
            `prefer_provider` names no provider.
    """
    target = snapshot.targets.get(alias)
    if target is None and previews:
        target = previewed(snapshot, alias)
    if target is None:
        raise _unknown(snapshot, alias)
    if target.model is not None and target.model.status not in ("enabled", "deprecated"):
        raise _out_of_use(target.model, target.note)
    if options.prefer_provider is not None and options.prefer_provider not in snapshot.providers:
        known = ", ".join(sorted(snapshot.providers))
        raise bad_request(
            f"Unknown provider '{options.prefer_provider}'. Providers of this gateway: {known}.",
            "gateway.prefer_provider",
        )
    return target


def previewed(snapshot: Snapshot, alias: str) -> Target | None:
    """What only admins may ask for: a model that is not approved yet, or `trial:NAME`; None where it is neither."""
    if alias in snapshot.previews:
        return snapshot.previews[alias]
    name = alias.removeprefix(TRIAL)
    found = snapshot.targets.get(name) or snapshot.previews.get(name)
    if name == alias or found is None or found.kind == "tier":
        return None
    deployments = tuple(
        replace(d, model=replace(d.model, status="enabled", retires_at=None), capabilities=_EVERYTHING)
        for d in found.tier.deployments
    )
    model = None if found.model is None else replace(found.model, status="enabled", retires_at=None)
    return replace(found, tier=replace(found.tier, deployments=deployments), model=model)


def _unknown(snapshot: Snapshot, alias: str) -> CallerError:
    shown = alias if len(alias) <= 128 else alias[:127] + "…"
    near = snapshot.nearest(alias)
    if near:
        hint = f" Did you mean {' or '.join(repr(name) for name in near)}?"
    else:
        hint = f" Tiers: {', '.join(snapshot.tiers) or 'none'}. GET /v1/models lists every name."
    return CallerError(
        Kind.UNKNOWN_MODEL,
        f"The model '{shown}' does not exist here.{hint}",
        param="model",
        details={"nearest": near} if near else None,
    )


def _out_of_use(model: Model, note: str) -> CallerError:
    if model.status == "retired":
        when = f" on {datetime.fromtimestamp(model.retires_at, UTC):%Y-%m-%d}" if model.retires_at is not None else ""
        message = f"The model '{model.name}' was retired{when} and has no replacement here."
        return CallerError(Kind.UNKNOWN_MODEL, message, param="model")
    reason = note or (
        "it is not approved yet" if model.status == "pending" else "the gateway's operators switched it off"
    )
    return CallerError(Kind.MODEL_DISABLED, f"The model '{model.name}' is {model.status}: {reason}.", param="model")

"""From the name a caller sent to what it stands for."""

from __future__ import annotations

from datetime import UTC, datetime

from gateway.catalog.snapshot import Snapshot, Target
from gateway.errors import CallerError, Kind, bad_request
from gateway.types import Model, Options


def resolve(snapshot: Snapshot, alias: str, options: Options, *, previews: bool = False) -> Target:
    """The tier, model or deployment that a name means in this version of the catalog.

    `previews` also finds models that were discovered and are not approved yet, by `provider/id`.

    Raises:
        CallerError: UNKNOWN_MODEL with the nearest names, MODEL_DISABLED with the reason, or BAD_REQUEST where
            `prefer_provider` names no provider.
    """
    target = snapshot.targets.get(alias)
    if target is None and previews:
        target = snapshot.previews.get(alias)
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

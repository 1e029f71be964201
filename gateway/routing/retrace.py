"""A past decision made again, and whether it came out the same."""

from __future__ import annotations

from typing import Any

from gateway.catalog.snapshot import Snapshot
from gateway.errors import GatewayError
from gateway.routing.circumstances import Unavailable, under
from gateway.routing.decision import Record, code_of, replay
from gateway.routing.explain import explain

_NOT_KEPT = "Catalog {} is not kept any more, so the plan cannot be made again; this is what was recorded."
_DIFFERS = "Made again from the same document, the plan is another: what was learned of providers' models has changed."


def retrace(
    request_id: str, record: Record, snapshot: Snapshot | None, unavailable: Unavailable | None
) -> dict[str, Any]:
    """How a request was routed, as a JSON object.

    `snapshot` is of the version that the record names, None where that is not kept; `unavailable` are the providers
    that could not be used then, None where that is not known. `reproduced` tells whether the plan made again has the
    same candidates in the same order at the same expected cost, and is null where it could not be made.
    """
    said: dict[str, Any] = {
        "request_id": request_id,
        "catalog": record.catalog,
        "alias": record.alias,
        "tier": record.tier,
        "order": record.order,
        "at": record.facts.now,
        "refused": record.refused,
        "reproduced": None,
    }
    if snapshot is None:
        return {**said, "note": _NOT_KEPT.format(record.catalog)}
    if unavailable is not None:
        snapshot = under(snapshot, unavailable)
    try:
        plan = replay(record, snapshot, explain=True)
    except ValueError:
        return {**said, "reproduced": False, "note": _DIFFERS}
    except GatewayError as error:
        if code_of(error) != record.refused:
            return {**said, "reproduced": False, "note": _DIFFERS}
        return {**said, "reproduced": True, "note": error.message}
    order = [candidate.deployment.name for candidate in plan.candidates]
    same = order == record.order and plan.candidates[0].expected_nano == record.expected_nano
    said |= {"plan": explain(plan), "reproduced": same}
    return said if same else {**said, "note": _DIFFERS}

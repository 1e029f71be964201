"""What the admin API asks of the running gateway: its health, a catalog reload, the plan of a request."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.admin.audit import Audit
from gateway.admin.decisions import PastDecisions
from gateway.admin.desk import Desk, Facts
from gateway.admin.trials import Trials, canaries
from gateway.api.decide import decide
from gateway.api.recall import asked, known
from gateway.callers.bootstrap import Opened
from gateway.callers.caller import Caller
from gateway.callers.records import STORE_AWAY
from gateway.chat import parse_chat
from gateway.errors import bad_request
from gateway.gateway import Gateway
from gateway.ledger.attempt import new_request_id
from gateway.routing.explain import explain
from gateway.routing.options import parse_options


def open_desk(gateway: Gateway, opened: Opened) -> Desk:
    """The admin API's desk for this gateway."""

    async def health() -> Facts:
        return {**_health(gateway), "processes": await _processes(gateway)}

    async def reload() -> Facts:
        if not await gateway.catalog.reload():
            raise bad_request(f"The catalog cannot take effect:\n{gateway.catalog.problem}", code="catalog_invalid")
        return {"version": gateway.catalog.current.version}

    async def explain_now(body: bytes, caller: Caller) -> Facts:
        chat = parse_chat(body)
        options = parse_options({**(chat.head.gateway or {}), "explain": True}, {})
        request = asked(gateway, caller, chat, options)
        return explain(decide(gateway, request, gateway.clock(), known(gateway, request)).plan)

    past = PastDecisions(gateway)
    return Desk(
        store=gateway.store,
        journal=gateway.ledger.journal,
        callers=opened.callers,
        records=opened.records,
        pepper=opened.pepper,
        audit=Audit(gateway.store, opened.pepper, gateway.clock),
        catalog=gateway.living,
        clock=gateway.clock,
        new_request_id=lambda: new_request_id(gateway.clock(), gateway.ids),
        health=health,
        reload_catalog=reload,
        explain_past=past.explain,
        decisions=past.lines,
        trials=Trials(gateway),
        explain=explain_now,
    )


async def _processes(gateway: Gateway) -> list[dict[str, Any]] | None:
    """Every process that shares the store, with the catalog that it serves by; None while the store is away."""
    try:
        return [msgspec.structs.asdict(member) for member in await gateway.living.fleet.members()]
    except STORE_AWAY:
        return None


def _health(gateway: Gateway) -> dict[str, Any]:
    snapshot, problem = gateway.catalog.current, gateway.catalog.problem
    standings = gateway.breakers.standings()
    troubles = gateway.breakers.view()
    deployments = []
    for name, deployment in snapshot.deployments.items():
        standing, trouble = standings.get(name), troubles.get(name)
        deployments.append(
            {
                "deployment": name,
                "available": deployment.provider.unavailable is None,
                "unavailable": deployment.provider.unavailable,
                "status": deployment.model.status,
                "breaker": standing.breaker if standing else "closed",
                "in_flight": standing.in_flight if standing else 0,
                "ejections": standing.ejections if standing else 0,
                "ejection_ignored": standing.ejection_ignored if standing else False,
                "state": trouble.state if trouble else "healthy",
                "until_at": trouble.until_at if trouble else None,
                "detail": trouble.detail if trouble else "",
            }
        )
    return {
        "catalog": {"version": snapshot.version, "problem": problem, "warnings": list(snapshot.warnings)},
        "ledger": gateway.ledger.lag,
        "canaries": canaries(gateway),
        "inflight": gateway.inflight,
        "draining": gateway.draining,
        "deployments": deployments,
    }

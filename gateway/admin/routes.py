"""The table of the admin API: every path, who may use it, what it takes and what answers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.routing import BaseRoute, Route

from gateway.admin import budgets, catalog, experiments, keys, models, reconcile, reports, system
from gateway.admin.bodies import ChangedKey, KeyChange, KeyList, KeyView, MintedKey, NewKey, Nothing, Rotation
from gateway.admin.budgets import RuleList
from gateway.admin.guard import Guarded
from gateway.admin.openapi import describe
from gateway.admin.operation import ROOT, Call, Operation, Query, Reply, operation, reply
from gateway.callers.roles import Permission

_KEY = f"{ROOT}/keys/{{key_id}}"


async def describe_api(call: Call[Nothing, Query]) -> Reply:
    return reply(describe(OPERATIONS))


OPERATIONS: Sequence[Operation[Any, Any]] = (
    operation("GET", f"{ROOT}/keys", Permission.READ_KEYS, "List keys.", keys.list_keys, gives=KeyList),
    operation(
        "POST",
        f"{ROOT}/keys",
        Permission.WRITE_KEYS,
        "Make a key; its secret is in this answer only.",
        keys.create_key,
        body=NewKey,
        gives=MintedKey,
        status=201,
    ),
    operation("GET", _KEY, Permission.READ_KEYS, "Show a key.", keys.show_key, gives=KeyView),
    operation("PATCH", _KEY, Permission.WRITE_KEYS, "Change a key.", keys.change_key, body=KeyChange, gives=ChangedKey),
    operation("DELETE", _KEY, Permission.REVOKE_KEYS, "Revoke a key for good.", keys.revoke_key, gives=KeyView),
    operation(
        "POST",
        f"{_KEY}/rotate",
        Permission.WRITE_KEYS,
        "Give a key a new secret; the one in use stays valid for the overlap.",
        keys.rotate_key,
        body=Rotation,
        gives=MintedKey,
    ),
    operation(
        "GET", f"{ROOT}/budgets", Permission.READ_KEYS, "Budgets beyond keys.", budgets.list_rules, gives=RuleList
    ),
    operation(
        "POST",
        f"{ROOT}/budgets",
        Permission.WRITE_KEYS,
        "Make or replace a budget or rates of a team, tag, tier, session or the tenant.",
        budgets.set_rule,
        body=budgets.RuleFields,
        gives=budgets.ChangedRule,
    ),
    operation("DELETE", f"{ROOT}/budgets/{{rule_id}}", Permission.WRITE_KEYS, "Delete a budget.", budgets.delete_rule),
    operation(
        "GET",
        f"{ROOT}/report",
        Permission.READ_REPORTS,
        "Cost and usage of a period by its dimensions.",
        reports.show_report,
        query=reports.ReportQuery,
    ),
    operation(
        "GET",
        f"{ROOT}/ledger",
        Permission.READ_REPORTS,
        "Ledger entries of a request or a period.",
        reports.list_entries,
        query=reports.EntriesQuery,
    ),
    operation(
        "POST",
        f"{ROOT}/reconcile/import",
        Permission.CORRECT_BOOKS,
        "Correct the ledger to rows of a provider's bill; tells every difference.",
        reconcile.import_rows,
        body=reconcile.Bill,
    ),
    operation(
        "POST",
        f"{ROOT}/reconcile/close",
        Permission.CORRECT_BOOKS,
        "After the whole bill of a period: what is still an estimate there was not billed.",
        reconcile.close,
        body=reconcile.BilledPeriod,
    ),
    operation(
        "POST",
        f"{ROOT}/prices/rerate",
        Permission.CORRECT_BOOKS,
        "Compare booked costs with the prices known now, and book the differences where told to.",
        reconcile.rerate_period,
        body=reconcile.Rerating,
    ),
    operation("GET", f"{ROOT}/reconcile", Permission.READ_REPORTS, "The latest imports of bills.", reconcile.status),
    operation("GET", f"{ROOT}/health", Permission.READ_HEALTH, "Deployments, catalog, ledger lag.", system.health),
    operation(
        "POST",
        f"{ROOT}/catalog/reload",
        Permission.OPERATE,
        "Load the catalog anew; a bad one changes nothing.",
        system.reload_catalog,
    ),
    operation(
        "GET",
        f"{ROOT}/explain",
        Permission.OPERATE,
        "How a past request was routed.",
        system.explain_past,
        query=system.ExplainPast,
    ),
    operation(
        "POST",
        f"{ROOT}/explain",
        Permission.OPERATE,
        "How a request would be routed now.",
        system.explain_now,
        body=system.ExplainNow,
    ),
    operation(
        "GET",
        f"{ROOT}/decisions",
        Permission.OPERATE,
        "Routing decisions of the last hours, a line each: needs and facts, no prompts.",
        system.list_decisions,
        query=system.DecisionsQuery,
    ),
    operation(
        "GET",
        f"{ROOT}/experiments",
        Permission.READ_HEALTH,
        "Experiments, canaries and shadows of the catalog, and how the canaries stand.",
        experiments.list_experiments,
    ),
    operation(
        "GET",
        f"{ROOT}/experiments/{{name}}",
        Permission.READ_REPORTS,
        "Requests, errors, latency, cost and feedback by arm.",
        experiments.show_experiment,
        query=experiments.ExperimentPeriod,
    ),
    operation(
        "POST",
        f"{ROOT}/experiments/{{name}}/resume",
        Permission.OPERATE,
        "Let a stopped canary go on.",
        experiments.resume_experiment,
    ),
    operation(
        "GET",
        f"{ROOT}/audit",
        Permission.READ_AUDIT,
        "The newest changes and who made them.",
        system.list_audit,
        query=system.AuditQuery,
    ),
    operation("GET", f"{ROOT}/audit/verify", Permission.READ_AUDIT, "Check the audit chain.", system.verify_audit),
    *models.OPERATIONS,
    *catalog.OPERATIONS,
    operation("GET", f"{ROOT}/openapi.json", Permission.READ_DESCRIPTION, "This description.", describe_api),
)


def admin_routes(operations: Sequence[Operation[Any, Any]] = OPERATIONS) -> list[BaseRoute]:
    """The routes of these operations, and one that refuses every other path below them.

    The application's state must hold a `Desk` as `desk` while requests are served.
    """
    paths: dict[str, dict[str, Operation[Any, Any]]] = {}
    for op in operations:
        paths.setdefault(op.path, {})[op.method] = op
    guarded: list[BaseRoute] = [Route(path, Guarded(by_method)) for path, by_method in paths.items()]
    return [*guarded, Route(f"{ROOT}/{{rest:path}}", Guarded({}))]

"""Models: those of the catalog and those that wait for a decision; deciding on them, singly and in bulk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.admin.bodies import CatalogName, Input, Nothing
from gateway.admin.model_view import known, waiting
from gateway.admin.operation import ROOT, Call, Operation, Query, Reply, operation, reply
from gateway.admin.shelf import change_document
from gateway.callers.roles import Permission
from gateway.catalog.edit import Change
from gateway.catalog.entry import Category
from gateway.catalog.lifecycle import ModelChange, approval, default_change, revision, with_facts
from gateway.catalog.pending import Pending
from gateway.catalog.refresh import ago, described
from gateway.errors import CallerError, GatewayError, Kind, bad_request

AnyStatus = Literal["pending", "rejected", "enabled", "disabled", "deprecated", "retired", "vanished"]
ModelId = Annotated[str, Field(min_length=1, max_length=700, pattern=r"^[!-~]+$")]


class ModelsQuery(Query):
    """Which models to list."""

    provider: CatalogName | None = Field(None, description="Only those that this provider serves or lists.")
    category: Literal["text", "speech", "other"] | None = Field(None, description="Only those of this category.")
    status: AnyStatus | None = Field(None, description="Only those of this status.")


class Discover(Input):
    """Which providers to ask."""

    provider: CatalogName | None = Field(None, description="Only this one; left out: all.")
    category: Literal["text", "speech", "other"] | None = Field(None, description="Tell only new models of it.")
    force: bool = Field(False, description="Ask although five minutes have not passed.")


class Decision(ModelChange, Input):
    """A decision on a model, or facts about it. What is left out stays as it is."""


class Bulk(Input):
    """One decision on many models."""

    ids: Annotated[list[ModelId], Field(min_length=1, max_length=500)]
    status: Literal["enabled", "disabled", "deprecated", "retired", "pending", "rejected"]
    force: bool = Field(False, description="Approve although a price or capability is missing.")
    reason: str | None = Field(None, min_length=1, max_length=2000, description="Why they are disabled.")


class Default(Input):
    """The model to which a provider's deprecated and vanished ones fall."""

    provider: CatalogName
    category: Category = "text"
    model_id: CatalogName


async def list_models(call: Call[Nothing, ModelsQuery]) -> Reply:
    """Models of the catalog, then those that wait, each with its status, and when the lists were refreshed."""
    catalog, query = call.desk.catalog, call.query
    listings = await catalog.findings.listings()
    rows = [known(name, entry, catalog.source.learned) for name, entry in catalog.source.entries.models.items()]
    rows += [waiting(pending) for _, pending in sorted((await catalog.findings.pending()).items())]
    shown = [
        row
        for row in rows
        if (query.provider is None or query.provider in row["providers"])
        and (query.category is None or query.category == row["category"])
        and (query.status is None or query.status == row["status"])
    ]
    now = call.desk.clock()
    refreshed = {
        name: {"refreshed": ago(now - found.asked_at), "error": found.error, "listed": len(found.ids)}
        for name, found in sorted(listings.items())
    }
    return reply({"data": shown, "lists": refreshed})


async def show_model(call: Call[Nothing, Query]) -> Reply:
    model_id = call.path["model_id"]
    entry = call.desk.catalog.source.entries.models.get(model_id)
    if entry is not None:
        return reply(known(model_id, entry, call.desk.catalog.source.learned))
    return reply(waiting(await _pending(call, model_id)))


async def change_model(call: Call[Decision, Query]) -> Reply:
    """Decides on one model; approving writes it into the document."""
    model_id, change = call.path["model_id"], call.body
    catalog = call.desk.catalog
    entry = catalog.source.entries.models.get(model_id)
    if entry is not None:
        await change_document(call, f"model.{change.status or 'update'}", model_id, _revised(call, model_id, change))
        return reply(known(model_id, catalog.source.entries.models[model_id], catalog.source.learned))
    pending = with_facts(await _pending(call, model_id), change)
    if change.status in (None, "pending", "rejected"):
        await _note(call, f"model.{change.status or 'update'}", pending)
        return reply(waiting(pending))
    if change.status != "enabled":
        raise bad_request(f"'{model_id}' waits for a decision; it can be enabled or rejected.", "status")
    await change_document(call, "model.approve", model_id, _approved(call, pending, change))
    await catalog.findings.drop(pending.key)
    await catalog.fleet.step()
    return reply(known(pending.name, catalog.source.entries.models[pending.name], catalog.source.learned))


async def change_models(call: Call[Bulk, Query]) -> Reply:
    """One decision on many: those that can be changed are, in one new version; the others are told with the reason."""
    catalog = call.desk.catalog
    fields = call.body.model_dump(exclude={"ids"}, exclude_none=True)
    change = ModelChange(**fields)
    pendings = await catalog.findings.pending()
    changes: list[Change] = []
    done: list[str] = []
    approved: list[Pending] = []
    refused: list[dict[str, str]] = []
    for model_id in dict.fromkeys(call.body.ids):
        try:
            if model_id in catalog.source.entries.models:
                changes += _revised(call, model_id, change)
            else:
                pending = with_facts(_found(pendings, model_id), change)
                if change.status == "enabled":
                    changes += _approved(call, pending, change)
                    approved.append(pending)
                elif change.status in ("pending", "rejected"):
                    await _note(call, f"model.{change.status}", pending)
                else:
                    raise bad_request(f"'{model_id}' waits for a decision; it can be enabled or rejected.", "status")
            done.append(model_id)
        except GatewayError as error:
            refused.append({"id": model_id, "reason": error.message})
    target = ",".join(done)
    await change_document(call, f"models.{call.body.status}", target, changes)
    for pending in approved:
        await catalog.findings.drop(pending.key)
    await catalog.fleet.step()
    return reply({"changed": done, "refused": refused, "catalog": catalog.source.current.version})


async def discover(call: Call[Discover, Query]) -> Reply:
    """Asks the providers for their lists; one that fails is told beside the others."""
    catalog, body = call.desk.catalog, call.body
    if body.provider is not None and body.provider not in catalog.source.current.providers:
        known = ", ".join(sorted(catalog.source.current.providers))
        raise bad_request(f"Unknown provider '{body.provider}'; known: {known}.", "provider")
    target = body.provider or "all providers"
    await call.desk.audit.append(call.caller, "models.discover", target, request_id=call.request_id, ip=call.ip)
    outcomes = [described(found) for found in await catalog.discovery.refresh(body.provider, force=body.force)]
    if body.category is not None:
        pendings = await catalog.findings.pending()
        for row in outcomes:
            row["new"] = [key for key in row["new"] if key in pendings and pendings[key].category == body.category]
    await catalog.fleet.step()
    return reply({"data": outcomes})


async def set_default(call: Call[Default, Query]) -> Reply:
    body = call.body
    entries = call.desk.catalog.source.entries
    change = default_change(entries, body.provider, body.category, body.model_id)
    await change_document(call, "model.default", f"{body.provider}/{body.category}={body.model_id}", [change])
    return reply({"provider": body.provider, "category": body.category, "model_id": body.model_id})


def _revised(call: Call[Any, Any], name: str, change: ModelChange) -> list[Change]:
    return revision(name, call.desk.catalog.source.entries.models[name], change, _today(call))


def _approved(call: Call[Any, Any], pending: Pending, change: ModelChange) -> list[Change]:
    return approval(pending, call.desk.catalog.source.entries, change, _today(call))


async def _note(call: Call[Any, Any], action: str, pending: Pending) -> None:
    """Keeps what was said of a pending model, audited."""
    await call.desk.audit.append(call.caller, action, pending.key[:200], request_id=call.request_id, ip=call.ip)
    await call.desk.catalog.findings.change(pending)
    await call.desk.catalog.fleet.step()


async def _pending(call: Call[Any, Any], model_id: str) -> Pending:
    return _found(await call.desk.catalog.findings.pending(), model_id)


def _found(pendings: dict[str, Pending], model_id: str) -> Pending:
    if model_id not in pendings:
        raise CallerError(
            Kind.NOT_FOUND, f"No model '{model_id[:200]}' is in the catalog or waits for a decision.", param="model_id"
        )
    return pendings[model_id]


def _today(call: Call[Any, Any]) -> str:
    return f"{datetime.fromtimestamp(call.desk.clock(), UTC):%Y-%m-%d}"


_MODELS = f"{ROOT}/models"
OPERATIONS: Sequence[Operation[Any, Any]] = (
    operation("GET", _MODELS, Permission.READ_HEALTH, "List models.", list_models, query=ModelsQuery),
    operation(
        "POST", f"{_MODELS}/discover", Permission.OPERATE, "Ask providers for their models.", discover, body=Discover
    ),
    operation("POST", f"{_MODELS}/bulk", Permission.OPERATE, "Decide on many models.", change_models, body=Bulk),
    operation(
        "POST", f"{_MODELS}/default", Permission.OPERATE, "Set a provider's default model.", set_default, body=Default
    ),
    operation("GET", f"{_MODELS}/{{model_id:path}}", Permission.READ_HEALTH, "Show a model.", show_model),
    operation(
        "PATCH",
        f"{_MODELS}/{{model_id:path}}",
        Permission.OPERATE,
        "Decide on a model, or give facts about it.",
        change_model,
        body=Decision,
    ),
)

"""What a decision on a model changes in the catalog document. Pure: entries and pending models in, changes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from gateway.catalog.edit import Change, Cut, Put
from gateway.catalog.entry import Can, Category, Count, Name, Text
from gateway.catalog.models import ModelEntry
from gateway.catalog.pending import Pending, model_entry, price_row
from gateway.catalog.prices import UsdPerMtokEntry
from gateway.catalog.schema import CatalogEntry
from gateway.errors import CallerError, Kind, bad_request

Wanted = Literal["enabled", "disabled", "deprecated", "retired", "pending", "rejected"]


class ModelChange(BaseModel):
    """A decision on a model, or facts about it. What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    status: Wanted | None = Field(None, description="`enabled` approves a pending model, `rejected` hides it.")
    force: bool = Field(False, description="Approve although a price or capability is missing.")
    reason: Text | None = Field(None, description="Why it is disabled; callers who ask for it are told.")
    replacement: Name | None = Field(None, description="What answers in its place once it is deprecated or retired.")
    retires_on: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = Field(None, description="Day of its end.")
    name: Name | None = Field(None, description="What the catalog shall call a pending model.")
    display_name: Text | None = Field(None, description="Its name for people.")
    quality: Name | None = Field(None, description="Its quality class.")
    category: Category | None = Field(None, description="What a pending model is for.")
    capabilities: list[Can] | None = Field(None, min_length=1, description="What it can do.")
    input_tokens: Count | None = Field(None, description="Most tokens of prompt.")
    output_tokens: Count | None = Field(None, description="Most tokens of one answer.")
    usd_per_mtok: UsdPerMtokEntry | None = Field(
        None, description="Its price; for a model of the catalog a new row from today, or from `price_from`."
    )
    price_from: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = Field(
        None, description="First day (UTC) of the price. Default: today."
    )
    price_source: Text | None = Field(None, description="Where the price stands.")


def with_facts(pending: Pending, change: ModelChange) -> Pending:
    """The pending model with the facts that the change gives."""
    given: dict[str, Any] = {
        name: value
        for name in ("name", "display_name", "category", "input_tokens", "output_tokens")
        if (value := getattr(change, name)) is not None
    }
    sources = dict(pending.sources)
    if change.capabilities is not None:
        given["capabilities"] = tuple(c.value for c in change.capabilities)
        sources["capabilities"] = "given by hand"
    if change.usd_per_mtok is not None:
        given["usd_per_mtok"] = rates_text(change.usd_per_mtok)
        sources["price"] = change.price_source or "given by hand"
    if change.status in ("rejected", "pending"):
        given["rejected"] = change.status == "rejected"
    return msgspec.structs.replace(pending, sources=sources, **given)


def approval(pending: Pending, catalog: CatalogEntry, change: ModelChange, today: str) -> list[Change]:
    """What puts a pending model into the document: an entry of its own, or a deployment of a model that is there.

    Raises:
        CallerError: a needed fact is missing and the change does not force it, or its name is taken.
    """
    existing = catalog.models.get(pending.name)
    if existing is not None and any(d.provider == pending.provider for d in existing.deployments):
        raise bad_request(
            f"The catalog has a model '{pending.name}' at {pending.provider} already; give this one another name.",
            "name",
        )
    missing = pending.missing()
    if existing is not None:
        missing = [fact for fact in missing if "usd_per_mtok" in fact and not existing.prices]
    if missing and not change.force:
        raise bad_request(
            f"'{pending.key}' cannot be approved: missing {'; '.join(missing)}. Give it, or force the approval.",
            "force",
        )
    starts = change.price_from or today
    if existing is not None:
        deployment: dict[str, Any] = {"provider": pending.provider, "id": pending.id}
        if (row := price_row(pending, starts)) is not None:
            deployment["prices"] = [row]
        return [Put(("models", pending.name, "deployments", len(existing.deployments)), deployment)]
    made: list[Change] = [Put(("models", pending.name), model_entry(pending, starts))]
    if change.quality is not None:
        made.append(Put(("models", pending.name, "quality"), change.quality))
    return made


def revision(name: str, entry: ModelEntry, change: ModelChange, today: str) -> list[Change]:
    """What a decision changes of a model that is in the document.

    Raises:
        CallerError: the change makes no sense for such a model, saying why.
    """
    here = ("models", name)
    changes: list[Change] = []
    if change.status in ("pending", "rejected"):
        raise bad_request(f"'{name}' is in the catalog; it can be disabled, deprecated or retired.", "status")
    if change.name is not None or change.category is not None:
        raise bad_request(f"'{name}' is in the catalog; its name and category are changed in the document.", "name")
    if change.status is not None and change.status != entry.status:
        changes.append(Put((*here, "status"), change.status))
        if change.status == "deprecated" and entry.deprecated_on is None:
            changes.append(Put((*here, "deprecated_on"), today))
        if change.status == "enabled":
            changes += [
                Cut((*here, field)) for field in ("deprecated_on", "reason") if getattr(entry, field) is not None
            ]
    for field in ("reason", "replacement", "retires_on", "display_name", "quality"):
        if (value := getattr(change, field)) is not None:
            changes.append(Put((*here, field), value))
    if change.capabilities is not None:
        changes.append(Put((*here, "capabilities"), [c.value for c in change.capabilities]))
    for field in ("input_tokens", "output_tokens"):
        if (value := getattr(change, field)) is not None:
            changes.append(Put((*here, "context", field), value))
    if change.usd_per_mtok is not None:
        row = {
            "from": change.price_from or today,
            "usd_per_mtok": rates_text(change.usd_per_mtok),
            "source": change.price_source or "given by hand",
            "checked": today,
        }
        changes.append(
            Put((*here, "prices", len(entry.prices)), row) if entry.prices else Put((*here, "prices"), [row])
        )
    return changes


def default_change(catalog: CatalogEntry, provider: str, category: Category, model: str) -> Change:
    """What makes a model the one to which a provider's deprecated and vanished models of a category fall.

    Raises:
        CallerError: there is no such provider or model, or they do not go together.
    """
    if provider not in catalog.providers:
        raise CallerError(Kind.NOT_FOUND, f"There is no provider '{provider[:128]}'.", param="provider")
    entry = catalog.models.get(model)
    if entry is None:
        raise CallerError(Kind.NOT_FOUND, f"The catalog has no model '{model[:128]}'.", param="model_id")
    if entry.category != category:
        raise bad_request(f"'{model}' is for {entry.category}, not for {category}.", "category")
    if entry.status != "enabled":
        raise bad_request(f"'{model}' is {entry.status}; a default must be enabled.", "model_id")
    return Put(("providers", provider, "defaults", category), model)


def rates_text(rates: UsdPerMtokEntry) -> Mapping[str, str]:
    """Rates as the document writes them."""
    return {name: f"{usd:f}" for name, usd in rates if usd is not None}

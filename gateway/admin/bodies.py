"""What the admin API takes and gives, as pydantic models; its OpenAPI description is made from them."""

from __future__ import annotations

import contextlib
import ipaddress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from gateway.callers.records import BudgetRule, Criticality, KeyRecord
from gateway.callers.roles import Role
from gateway.ledger.limits import OnStoreDown, Per
from gateway.money import NANO_PER_USD

LONGEST_OVERLAP_S = 86_400


class Input(BaseModel):
    """A body: JSON types are taken as they are, and a field that is not described is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Nothing(Input):
    """No body, no parameters."""


def _network(text: str) -> str:
    return str(ipaddress.ip_network(text))


def _time_of(value: object) -> datetime:
    """RFC 3339 text, or a date for its midnight UTC."""
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(value if isinstance(value, str) else "")
        if at.tzinfo is not None:
            return at.astimezone(UTC)
        if len(str(value)) == len("2027-01-31"):
            return at.replace(tzinfo=UTC)
    raise ValueError("want a date, or date and time with zone, such as 2027-01-31T00:00:00Z")


Text = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
# Names become part of report rows and store fields: a word character first, and none that those take for their own.
Label = Annotated[str, StringConstraints(max_length=64, pattern=r"^\w[\w .@/+=,-]*$")]
CatalogName = Annotated[str, StringConstraints(max_length=128, pattern=r"^[\w][\w .@/:+#-]*$")]
Cidr = Annotated[str, AfterValidator(_network)]
Time = Annotated[datetime, BeforeValidator(_time_of)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Budget(Input):
    """A cap on cost over a calendar period, UTC."""

    usd: Annotated[Decimal, Field(ge=0, le=9_000_000, decimal_places=9, description="US dollars.")]
    per: Per = Field(description="The period; `total` never starts anew.")
    hard: bool = Field(True, description="Refuse what might exceed it; otherwise only count and warn.")
    on_store_down: OnStoreDown = Field(
        "deny", description="While the store is away: refuse, let through and book later, or let a small share through."
    )


def _one_a_period(budgets: Budget | list[Budget]) -> Budget | list[Budget]:
    if isinstance(budgets, list) and len({b.per for b in budgets}) < len(budgets):
        raise ValueError("want one budget a period at most")
    return budgets


# The tags only steer pydantic to the right branch; they are left out of error paths.
OneOrMoreBudgets = Annotated[
    Annotated[Budget, Tag("<one>")] | Annotated[list[Budget], Field(max_length=4), Tag("<more>")],
    Discriminator(lambda value: "<more>" if isinstance(value, list) else "<one>"),
    AfterValidator(_one_a_period),
]


class KeyFields(Input):
    """What a key may be given; null or left out means no limit."""

    team: Label | None = Field(None, description="The team whose costs these are.")
    tags: Annotated[dict[Label, Label], Field(max_length=10)] = Field({}, description="Reported by, as `tag:NAME`.")
    tiers: list[CatalogName] | None = Field(None, description="Tiers it may ask for.")
    models: list[CatalogName] | None = Field(None, description="Models that may serve it.")
    denied_models: list[CatalogName] = Field([], description="Models that may not serve it.")
    budget: OneOrMoreBudgets | None = Field(None, description="A budget, or several of different periods.")
    rpm: Count | None = Field(None, description="Requests per minute.")
    tpm: Count | None = Field(None, description="Tokens per minute.")
    concurrency: Count | None = Field(None, description="Requests at once.")
    rates_on_store_down: OnStoreDown = Field(
        "allow", description="What becomes of requests under rpm, tpm and concurrency while the store is away."
    )
    cidrs: Annotated[list[Cidr], Field(max_length=64)] = Field([], description="Networks it may be used from.")
    criticality: Criticality = Field("default", description="What is shed first under overload.")
    not_before: Time | None = Field(None, description="When it becomes valid.")
    expires_at: Time | None = Field(None, description="When it stops being valid.")


class NewKey(KeyFields):
    """A key to make."""

    name: Text
    role: Role = Role.APP
    tenant: Annotated[str, StringConstraints(pattern=r"^[a-z2-7]{1,26}$")] | None = Field(
        None, description="Another tenant to make an admin for; takes the installation's own admin token."
    )


class KeyChange(KeyFields):
    """Changes of a key; fields left out stay as they are."""

    name: Text = Field("", description="A new name.")
    role: Role = Role.APP


class Rotation(Input):
    """How long the secret in use so far stays valid beside the new one."""

    overlap_s: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_S)] = 3600


class KeyView(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    role: Role
    status: Literal["active", "revoked", "expired", "not_yet_valid"]
    team: str | None
    tags: dict[str, str]
    tiers: list[str] | None
    models: list[str] | None
    denied_models: list[str]
    budget: Budget | list[Budget] | None
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    rates_on_store_down: OnStoreDown
    cidrs: list[str]
    criticality: Criticality
    not_before: datetime | None
    expires_at: datetime | None
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    rotation_ends_at: datetime | None = Field(description="When the former secret stops being valid.")


class ChangedKey(KeyView):
    """A key just made or changed."""

    warnings: list[str] = Field([], description="What of it can have no effect: names that the catalog does not have.")


class MintedKey(ChangedKey):
    """A key just made, with its secret: shown this once."""

    key: str


class KeyList(BaseModel):
    """Keys, oldest first."""

    data: list[KeyView]


def rules(budget: Budget | list[Budget] | None) -> tuple[BudgetRule, ...]:
    """Budgets as a record keeps them."""
    budgets = [] if budget is None else budget if isinstance(budget, list) else [budget]
    return tuple(BudgetRule(int(b.usd * NANO_PER_USD), b.per, b.hard, b.on_store_down) for b in budgets)


def view(record: KeyRecord, now: float) -> KeyView:
    """A record as callers of the admin API see it."""
    budgets = [
        Budget(usd=Decimal(b.limit_nano) / NANO_PER_USD, per=b.per, hard=b.hard, on_store_down=b.on_store_down)
        for b in record.budgets
    ]
    former = record.secrets[1].expires_at if len(record.secrets) > 1 else None
    return KeyView(
        id=record.key_id,
        name=record.name,
        role=record.role,
        status=_status(record, now),
        team=record.team or None,
        tags=record.tags,
        tiers=None if record.tiers is None else list(record.tiers),
        models=None if record.models is None else list(record.models),
        denied_models=list(record.denied_models),
        budget=budgets if len(budgets) > 1 else budgets[0] if budgets else None,
        rpm=record.rpm,
        tpm=record.tpm,
        concurrency=record.concurrency,
        rates_on_store_down=record.rates_on_store_down,
        cidrs=list(record.cidrs),
        criticality=record.criticality,
        not_before=_time(record.not_before),
        expires_at=_time(record.expires_at),
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        created_by=record.created_by,
        revoked_at=_time(record.revoked_at),
        rotation_ends_at=_time(former) if former is not None and now < former else None,
    )


def _status(record: KeyRecord, now: float) -> Literal["active", "revoked", "expired", "not_yet_valid"]:
    if record.revoked_at is not None:
        return "revoked"
    if record.active(now):
        return "active"
    return "expired" if record.expires_at is not None and record.expires_at <= now else "not_yet_valid"


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)

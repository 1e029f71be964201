"""Budgets and rates beyond keys: set, list, delete. A change holds everywhere within five seconds."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, Field, StringConstraints, model_validator

from gateway.admin.bodies import Count, Input, Nothing
from gateway.admin.names import unknown_names
from gateway.admin.noted import noted
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.callers.rules import Rule, RuleRecords, Subject, budget_of
from gateway.errors import CallerError, Kind
from gateway.ledger.exchange import tag
from gateway.ledger.limits import OnStoreDown, Per, window
from gateway.money import NANO_PER_USD, usd

RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
Dollars = Annotated[Decimal, Field(ge=0, le=9_000_000, decimal_places=9)]
_MOST = 500


class RuleFields(Input):
    """A budget or rates for everyone of a subject together."""

    id: RuleId = Field(description="Its name; setting it again replaces it, and what was spent stays counted.")
    of: Subject = Field(description="What it is for; `session` gives each caller's session one of its own.")
    name: Annotated[str, StringConstraints(max_length=130, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = Field(
        "", description="The team, the tier, or NAME=VALUE of a tag; nothing for the tenant and for sessions."
    )
    usd: Dollars | None = Field(None, description="US dollars; left out, there is no budget.")
    per: Per = Field("month", description="The period; `total` never starts anew.")
    hard: bool = Field(True, description="Refuse what might exceed it; otherwise only count and warn.")
    on_store_down: OnStoreDown = Field(
        "deny", description="While the store is away: refuse, let through and book later, or let a small share through."
    )
    rpm: Count | None = Field(None, description="Requests per minute.")
    tpm: Count | None = Field(None, description="Tokens per minute.")
    concurrency: Count | None = Field(None, description="Requests at once.")
    rates_on_store_down: OnStoreDown = Field("allow", description="The same for rpm, tpm and concurrency.")

    @model_validator(mode="after")
    def _whole(self) -> RuleFields:
        if self.of in ("tenant", "session") and self.name:
            raise ValueError(f"a rule of the {self.of} takes no name")
        if self.of in ("team", "tier", "tag") and not self.name:
            raise ValueError(f"a rule of a {self.of} needs its name")
        if self.of == "tag" and not all(self.name.partition("=")):
            raise ValueError("a tag's name must be NAME=VALUE")
        if self.of == "session" and self.per == "total":
            raise ValueError("a session's budget needs a period that ends")
        if self.usd is None and not (self.rpm or self.tpm or self.concurrency):
            raise ValueError("want at least one of usd, rpm, tpm and concurrency")
        return self


class RuleView(BaseModel):
    """A rule, and what its budget's current period holds."""

    id: str
    of: Subject
    name: str
    usd: str | None
    per: Per
    hard: bool
    on_store_down: OnStoreDown
    rpm: int | None
    tpm: int | None
    concurrency: int | None
    rates_on_store_down: OnStoreDown
    spent_usd: str | None = Field(None, description="Posted in the current period; null for sessions.")
    held_usd: str | None = None


class ChangedRule(RuleView):
    """A rule just made or replaced."""

    warnings: list[str] = Field([], description="What of it can have no effect: a tier that the catalog does not have.")


class RuleList(BaseModel):
    """Rules, by id."""

    data: list[RuleView]


async def list_rules(call: Call[Nothing, Query]) -> Reply:
    tenant, store = call.caller.tenant, call.desk.store
    views = []
    for rule in await RuleRecords(store).all(tenant):
        view = _view(rule)
        budget = budget_of(rule)
        if budget is not None and rule.of != "session":
            counter = tag(tenant) + window(budget, call.desk.clock()).counter
            posted, held = await store.execute_command("HMGET", counter, "post", "res")
            view.spent_usd, view.held_usd = usd(int(posted or 0)), usd(int(held or 0))
        views.append(view)
    return reply(RuleList(data=views))


async def set_rule(call: Call[RuleFields, Query]) -> Reply:
    records, fields = RuleRecords(call.desk.store), call.body
    _check_unlimited(call)
    known = {rule.id for rule in await records.all(call.caller.tenant)}
    if len(known) >= _MOST and fields.id not in known:
        raise CallerError(Kind.BAD_REQUEST, f"There are {_MOST} rules already; delete some first.")
    given = fields.model_dump(exclude={"usd"})
    limit = None if fields.usd is None else int(fields.usd * NANO_PER_USD)
    rule = Rule(**given, limit_nano=limit)
    after = hashlib.sha256(fields.model_dump_json().encode()).hexdigest()
    async with noted(call, "budget.set", rule.id, after=after):
        await records.write(call.caller.tenant, rule)
    tiers = [rule.name] if rule.of == "tier" else []
    return reply(ChangedRule(**dict(_view(rule)), warnings=unknown_names(call.desk.catalog.source.current, tiers)))


async def delete_rule(call: Call[Nothing, Query]) -> Reply:
    _check_unlimited(call)
    rule_id = call.path["rule_id"]
    async with noted(call, "budget.delete", rule_id[:40]):
        if not await RuleRecords(call.desk.store).delete(call.caller.tenant, rule_id):
            raise CallerError(Kind.NOT_FOUND, "There is no budget with this id.")
    return reply({"id": rule_id, "deleted": True})


def _check_unlimited(call: Call[Any, Any]) -> None:
    """Whoever is limited does not set limits: it could lift its own."""
    caller = call.caller
    if caller.limits is not None or caller.tiers is not None or caller.models is not None:
        raise CallerError(Kind.FORBIDDEN, "A key that is limited itself may not change budgets.")


def _view(rule: Rule) -> RuleView:
    fields = msgspec.structs.asdict(rule)
    limit = fields.pop("limit_nano")
    return RuleView(**fields, usd=None if limit is None else usd(limit))

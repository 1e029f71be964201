"""Correcting the books: to the provider's bill, and to prices that are known better by now."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, StringConstraints, model_validator

from gateway.admin.bodies import Input, Nothing, Text, Time
from gateway.admin.noted import noted
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.errors import CallerError, GatewayUnavailable, Kind, bad_request
from gateway.ledger.corrections import CorrectionsBusy
from gateway.ledger.exchange import StoreDown, tag
from gateway.ledger.reconcile import BillRow, Reconciled, close_period, import_bill
from gateway.ledger.records import USAGE_FIELDS
from gateway.ledger.rerate import rerate
from gateway.money import NANO_PER_USD
from gateway.types import Price

MOST_ROWS = 1000
_RUNS_KEPT = 10_000
_NAME = StringConstraints(max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
Name = Annotated[str, _NAME]
UsageField = Literal[USAGE_FIELDS]  # type: ignore[valid-type]  # the fields of a usage, told apart at run time
Tokens = Annotated[int, Field(ge=0, le=10**15)]


class BillEntry(Input):
    """A row of the bill."""

    attempt_id: Name | None = Field(
        None, description="The attempt, which the provider got as X-Client-Request-Id; another client's is unknown."
    )
    provider_request_id: Name = Field("", description="The provider's own id of the request; needs `day`.")
    provider: Name = Field("", description="As the catalog names it.")
    model: Name = Field("", description="As the catalog names it.")
    day: Annotated[str, StringConstraints(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = Field("", description="UTC.")
    cost_usd: Annotated[Decimal, Field(ge=0, le=9_000_000, description="US dollars.")]
    usage: dict[UsageField, Tokens] | None = Field(None, description="Counts as in ledger entries.")

    @model_validator(mode="after")
    def _names_something(self) -> BillEntry:
        whole_day = self.provider and self.model and self.day
        if not (self.attempt_id or (self.provider_request_id and self.day) or whole_day):
            raise ValueError("want attempt_id, or provider_request_id and day, or provider, model and day")
        return self


class Bill(Input):
    """Rows of a bill. All rows of an attempt, or of a model's day, must come together."""

    name: Text = Field(description="The bill's name; the corrections carry it.")
    rows: Annotated[list[BillEntry], Field(min_length=1, max_length=MOST_ROWS)]


class BilledPeriod(Input):
    """A period of which the whole bill of a provider was imported."""

    provider: Text
    from_: Time = Field(alias="from")
    to: Time


class Rerating(Input):
    """A period to compare with the prices known now."""

    from_: Time = Field(alias="from")
    to: Time = Field(description="At most a day later.")
    model: Text | None = None
    book: bool = Field(False, description="Book the differences; otherwise only tell them.")


async def import_rows(call: Call[Bill, Query]) -> Reply:
    rows = [_row(entry) for entry in call.body.rows]
    async with noted(call, "reconcile.import", call.body.name):
        with _Refusing():
            done = await import_bill(call.desk.journal, call.caller.tenant, rows, call.body.name, run=call.request_id)
    await _note(call, call.body.name, done)
    return reply(msgspec.to_builtins(done))


async def close(call: Call[BilledPeriod, Query]) -> Reply:
    """What the whole bill left an estimate was not billed."""
    body = call.body
    if body.to <= body.from_:
        raise bad_request("'to' must lie after 'from'.", "to")
    start, end = body.from_.timestamp(), body.to.timestamp()
    async with noted(call, "reconcile.close", body.provider):
        with _Refusing():
            done = await close_period(
                call.desk.journal, call.caller.tenant, start, end, body.provider, run=call.request_id
            )
    await _note(call, f"{body.provider} {body.from_:%Y-%m-%d} to {body.to:%Y-%m-%d} closed", done)
    return reply(msgspec.to_builtins(done))


async def rerate_period(call: Call[Rerating, Query]) -> Reply:
    body = call.body
    if not timedelta(0) < body.to - body.from_ <= timedelta(days=1):
        raise bad_request("'to' must lie after 'from', by a day at most.", "to")
    deployments = call.desk.catalog.source.current.deployments

    def price_at(deployment: str, at: float) -> Price | None:
        known = deployments.get(deployment)
        return None if known is None else known.price_at(at)

    note = noted(call, "prices.rerate", body.model or "all models") if body.book else contextlib.nullcontext()
    async with note:
        with _Refusing():
            done = await rerate(
                call.desk.journal,
                call.caller.tenant,
                body.from_.timestamp(),
                body.to.timestamp(),
                price_at,
                model=body.model,
                now=call.desk.clock(),
                run=call.request_id,
                book=body.book,
            )
    return reply(msgspec.to_builtins(done))


async def status(call: Call[Nothing, Query]) -> Reply:
    """The latest imports, newest first."""
    found = await call.desk.store.execute_command("XREVRANGE", _runs(call), "+", "-", "COUNT", 100)
    return reply({"data": [msgspec.json.decode(fields[b"e"]) for _, fields in found]})


async def _note(call: Call[Any, Any], name: str, done: Reconciled) -> None:
    noted = {
        "at": call.desk.clock(),
        "by": call.caller.key_id,
        "name": name,
        **{field: getattr(done, field) for field in ("rows", "exact", "corrected", "moved", "unknown", "unknown_nano")},
        "billed_nano": sum(group.billed_nano for group in done.groups),
        "booked_before_nano": sum(group.booked_before_nano for group in done.groups),
        "booked_after_nano": sum(group.booked_after_nano for group in done.groups),
    }
    text = msgspec.json.encode(noted)
    await call.desk.store.execute_command("XADD", _runs(call), "MAXLEN", "~", _RUNS_KEPT, "*", "e", text)


def _runs(call: Call[Any, Any]) -> str:
    return tag(call.caller.tenant) + "reconciled"


def _row(entry: BillEntry) -> BillRow:
    nano = (entry.cost_usd * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN)
    return BillRow(
        cost_nano=int(nano),
        attempt_id=entry.attempt_id or "",
        upstream_id=entry.provider_request_id,
        provider=entry.provider,
        model=entry.model,
        day=entry.day,
        usage=None if entry.usage is None else tuple([entry.usage.get(field, 0) for field in USAGE_FIELDS]),
    )


class _Refusing:
    """Says in the admin API's words why corrections could not be booked."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CorrectionsBusy):
            raise CallerError(
                Kind.BAD_REQUEST,
                "Corrections of another import are being booked; try again when it is done.",
                status=409,
                code="conflict",
            ) from None
        if isinstance(error, StoreDown):
            raise GatewayUnavailable(
                Kind.LEDGER_DOWN, "The store did not answer; import again, nothing is booked twice.", retry_after_s=1
            ) from None
        if isinstance(error, ValueError):
            raise bad_request(f"This bill cannot be read: {error}.") from None

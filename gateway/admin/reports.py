"""Cost and usage: reports as JSON, CSV or FOCUS, and single ledger entries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from pydantic import Field

from gateway.admin.bodies import Nothing, Time
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.admin.spreadsheet import csv_of
from gateway.errors import bad_request
from gateway.ledger.focus import COLUMNS, NUMBERS, focus_rows, grouping
from gateway.ledger.records import DIMENSIONS, METRICS
from gateway.ledger.reports import PERIODS, Row, report

_LONGEST = timedelta(days=400)
_BATCH = 256


class Period(Query):
    """A period, its end excluded."""

    from_: Time | None = Field(None, alias="from", description="Its start, UTC; left out: the first of this month.")
    to: Time | None = Field(None, description="Its end, not part of it; left out: the end of today, UTC.")

    def bounds(self, now: float) -> tuple[datetime, datetime]:
        """Start and end.

        Raises:
            CallerError: BAD_REQUEST, it is empty or longer than 400 days.
        """
        today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        start = self.from_ or today.replace(day=1)
        end = self.to or today + timedelta(days=1)
        if end <= start:
            raise bad_request("'to' must lie after 'from': the day named by 'to' is not part of the period.", "to")
        if end - start > _LONGEST:
            raise bad_request("The period must not be longer than 400 days.", "from")
        return start, end


class ReportQuery(Period):
    """Which report."""

    by: str | None = Field(
        None,
        description=f"Comma-separated: {', '.join((*PERIODS, *DIMENSIONS))}, tag:NAME. Left out: day; in FOCUS all.",
        max_length=500,
    )
    format: Literal["json", "csv", "focus"] = Field("json", description="Form of the answer; focus: CSV by FOCUS 1.2.")


class EntriesQuery(Period):
    """Which entries: those of a request, or those of a period."""

    request_id: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="All attempts of this request.")


async def show_report(call: Call[Nothing, ReportQuery]) -> Reply:
    start, end = call.query.bounds(call.desk.clock())
    given = None if call.query.by is None else [name for name in call.query.by.split(",") if name]
    by = grouping(given) if call.query.format == "focus" else ["day"] if given is None else given
    try:
        rows = await report(
            call.desk.store, call.caller.tenant, start.timestamp(), end.timestamp(), by, now=call.desk.clock()
        )
    except ValueError as error:
        raise bad_request(f"This report cannot be made: {error}.", "by") from None
    names: dict[str, str] = {}
    if "key" in by:
        names = {record.key_id: record.name for record in await call.desk.records.all(call.caller.tenant)}
    if call.query.format == "focus":
        told = focus_rows(rows, by, call.caller.tenant, names)
        return _download(csv_of(COLUMNS, NUMBERS, told), f"focus-{start:%Y%m%d}-{end:%Y%m%d}.csv")
    shown = [row.as_dict(by) for row in rows]
    columns = list(by)
    if "key" in by:
        columns.insert(by.index("key") + 1, "key_name")
        shown = [{**row, "key_name": names.get(str(row["key"]), "")} for row in shown]
    total = Row((), tuple(map(sum, zip(*(row.numbers for row in rows), strict=True))) or (0,) * len(METRICS)).as_dict(
        ()
    )
    if call.query.format == "json":
        period = {"from": f"{start:%Y-%m-%dT%H:%M:%SZ}", "to": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
        return reply({**period, "by": by, "rows": shown, "total": total})
    content = csv_of([*columns, *total], frozenset(total), shown)
    return _download(content, f"report-{start:%Y%m%d}-{end:%Y%m%d}.csv")


def _download(content: bytes, name: str) -> Reply:
    disposition = f'attachment; filename="{name}"'.encode()
    return Reply(content, media_type=b"text/csv; charset=utf-8", headers=[(b"content-disposition", disposition)])


async def list_entries(call: Call[Nothing, EntriesQuery]) -> Reply:
    """Entries in the order they were booked, streamed, so that a period of any size needs little memory."""
    query, desk, tenant = call.query, call.desk, call.caller.tenant
    if query.request_id is None:
        start, end = query.bounds(desk.clock())
        return Reply(_array(desk.journal.entries(tenant, start.timestamp(), end.timestamp())))
    if query.from_ or query.to:
        raise bad_request("Ask for a request_id or for a period, not for both.", "request_id")
    return reply({"data": await desk.journal.entries_of(tenant, query.request_id)})


async def _array(found: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """`{"data":[...]}` in pieces."""
    piece: list[bytes] = []
    lead = b'{"data":['
    async for entry in found:
        piece.append(msgspec.json.encode(entry))
        if len(piece) == _BATCH:
            yield lead + b",".join(piece)
            piece, lead = [], b","
    yield (lead + b",".join(piece) if piece or lead != b"," else b"") + b"]}"

"""Reports and entries over the admin API, from a real ledger."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import COST, attempt, flushed, open_ledger, settle

from gateway.admin.spreadsheet import csv_of
from gateway.callers.roles import Role
from gateway.types import Usage

REPORT, ENTRIES = "/admin/api/report", "/admin/api/ledger"


@pytest.fixture
async def booked(admin: Any, tmp_path: Path) -> list[Any]:
    """Five attempts of two teams today; their owner's clock is the admin API's too."""
    admin.clock.at = time.time()
    made = [attempt(team="=cmd|' /C calc'!A0", tags=(("env", "+prod"),)), *(attempt() for _ in range(4))]
    async with open_ledger(admin.store, tmp_path / "ledger") as ledger:
        for n, a in enumerate(made):
            ledger.begin(a)
            settle(ledger, a, Usage(input=10, output=20) if n else Usage(input=10, output=20, cache_read=1))
        await flushed(ledger)
    return made


async def test_a_report_adds_up_to_the_entries(admin: Any, booked: list[Any]) -> None:
    """By any dimension: rows, total and entries have one sum, and money is text."""
    entries = (await admin("GET", ENTRIES)).json["data"]
    assert len(entries) == len(booked)
    nano = sum(e["cost_nano_usd"] for e in entries)
    assert nano > 5 * COST
    today = datetime.fromtimestamp(admin.clock(), UTC).date()
    for by in ("day", "day,tier,model", "team,key,provider,deployment,price_id", "hour", "tag:env", "month", ""):
        report = (await admin("GET", f"{REPORT}?by={by}&from={today}")).json
        assert sum(row["cost_nano_usd"] for row in report["rows"]) == report["total"]["cost_nano_usd"] == nano
        assert Decimal(report["total"]["cost_usd"]) * 10**9 == nano
        assert report["total"]["attempts"] == 5


async def test_a_report_names_its_period(admin: Any, booked: list[Any]) -> None:
    """Left out: from the first of the month to the end of today; an end is not part of it."""
    today = datetime.fromtimestamp(admin.clock(), UTC).date()
    report = (await admin("GET", REPORT)).json
    assert report["from"] == f"{today.replace(day=1)}T00:00:00Z"
    assert [row["day"] for row in report["rows"]] == [str(today)]
    empty = (await admin("GET", f"{REPORT}?from=2026-01-01&to=2026-01-02")).json
    assert (empty["rows"], empty["total"]["cost_usd"]) == ([], "0.00")


async def test_a_csv_report_is_harmless_and_its_numbers_are_numbers(admin: Any, booked: list[Any]) -> None:
    """What reads as a formula is quoted; sums can be made from the cost column as it is."""
    answer = await admin("GET", f"{REPORT}?by=team,tag:env&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith('attachment; filename="report-')
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(row["team"], row["tag:env"]) for row in rows} == {("'=cmd|' /C calc'!A0", "'+prod"), ("search", "(none)")}
    total = (await admin("GET", REPORT)).json["total"]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(total["cost_usd"])
    assert sum(int(row["attempts"]) for row in rows) == 5


MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
"""Of FOCUS 1.2."""


async def test_focus_has_what_the_specification_demands(admin: Any, booked: list[Any]) -> None:
    """Every mandatory column, dates and money in its forms, and the report's sum to the nano-dollar."""
    answer = await admin("GET", f"{REPORT}?format=focus")
    assert answer.headers["content-disposition"].startswith('attachment; filename="focus-')
    reader = csv.DictReader(io.StringIO(answer.text))
    rows = list(reader)
    names = reader.fieldnames or []
    assert set(names) >= MANDATORY
    own = [name for name in names if name.startswith("x_")]
    assert sorted(names[: -len(own)]) == names[: -len(own)] and len(set(names)) == len(names)
    today = datetime.fromtimestamp(admin.clock(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    total = (await admin("GET", REPORT)).json["total"]
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal(total["cost_usd"])
    assert sum(int(row["x_Attempts"]) for row in rows) == 5
    assert sum(Decimal(row["ConsumedQuantity"]) for row in rows) == 5 * 30 + 1
    for row in rows:
        assert row["ChargePeriodStart"] == f"{today:%Y-%m-%dT%H:%M:%SZ}"
        assert row["ChargePeriodEnd"] == f"{today + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
        assert row["BillingPeriodStart"] == f"{today:%Y-%m}-01T00:00:00Z"
        assert row["BilledCost"] == row["EffectiveCost"] == row["ListCost"] == row["ContractedCost"]
        assert (row["ProviderName"], row["ServiceName"], row["SkuPriceId"]) == ("acme", "m1", "p1")
        assert (row["ChargeCategory"], row["ChargeClass"], row["BillingCurrency"]) == ("Usage", "", "USD")
    assert {row["SubAccountName"] for row in rows} == {"'=cmd|' /C calc'!A0", "search"}


@pytest.mark.parametrize(
    ("by", "start", "end", "tags"),
    [
        ("hour", "%Y-%m-%dT%H:00:00Z", 3600, {""}),
        ("month", "%Y-%m-01T00:00:00Z", None, {""}),
        ("team", "%Y-%m-%dT00:00:00Z", 86_400, {""}),
        ("tag:env", "%Y-%m-%dT00:00:00Z", 86_400, {"", '{"env":"+prod"}'}),
    ],
)
async def test_focus_can_be_by_less(
    admin: Any, booked: list[Any], by: str, start: str, end: int | None, tags: set[str]
) -> None:
    """A period, provider and model are always told; what it is not by is null; nothing is lost."""
    now = datetime.fromtimestamp(admin.clock(), UTC)
    period = f"from={now:%Y-%m-%d}" if by == "hour" else ""
    rows = list(csv.DictReader(io.StringIO((await admin("GET", f"{REPORT}?format=focus&by={by}&{period}")).text)))
    assert sum(int(row["x_Attempts"]) for row in rows) == 5
    assert {row["Tags"] for row in rows} == tags
    assert {row["ResourceId"] + row["x_KeyId"] for row in rows} == {""}
    for row in rows:
        began = datetime.fromisoformat(row["ChargePeriodStart"])
        assert row["ChargePeriodStart"] == began.strftime(start)
        if end is not None:
            assert datetime.fromisoformat(row["ChargePeriodEnd"]) - began == timedelta(seconds=end)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain; text - with, signs", "plain; text - with, signs"),
        ("=1+1", "'=1+1"),
        ("  =1+1", "'  =1+1"),
        ("\uff1d1", "'\uff1d1"),
        ("a;=1+1", "a;'=1+1"),
        ("a; @SUM(A1)", "a;' @SUM(A1)"),
        ("a\t-1", "a\t'-1"),
        ("a\n+1", "a\n'+1"),
        ("a-b=c", "a-b=c"),
    ],
)
def test_text_is_no_formula_whatever_parts_the_cells(text: str, shown: str) -> None:
    """Also where a spreadsheet parts them at semicolons, tabs or line ends, as it does in some countries."""
    (_, cell), *_ = zip(*csv.reader(io.StringIO(csv_of(["x"], frozenset(), [{"x": text}]).decode())), strict=True)
    assert cell == shown


async def test_a_report_by_key_tells_their_names(admin: Any, tmp_path: Path) -> None:
    """Harmless in CSV; a key without a record has no name."""
    admin.clock.at = time.time()
    _, key_id = await admin.key(name='=HYPERLINK("http://evil")')
    async with open_ledger(admin.store, tmp_path / "ledger") as ledger:
        for a in (attempt(key=key_id), attempt(key="bootstrapadm")):
            ledger.begin(a)
            settle(ledger, a)
        await flushed(ledger)
    rows = (await admin("GET", f"{REPORT}?by=team,key")).json["rows"]
    names = {row["key"]: row["key_name"] for row in rows}
    assert names == {key_id: '=HYPERLINK("http://evil")', "bootstrapadm": ""}
    text = (await admin("GET", f"{REPORT}?by=team,key&format=csv")).text
    assert text.startswith("team,key,key_name,attempts,")
    assert f"""search,{key_id},"'=HYPERLINK(""http://evil"")",1,""" in text


async def test_the_entries_of_a_request_are_found_by_its_id(admin: Any, booked: list[Any]) -> None:
    """And by nothing else; an unknown one has none."""
    found = (await admin("GET", f"{ENTRIES}?request_id={booked[2].request_id}")).json["data"]
    assert [e["attempt_id"] for e in found] == [booked[2].aid]
    assert (await admin("GET", f"{ENTRIES}?request_id=req_unknown")).json == {"data": []}


async def test_many_entries_stream_whole(admin: Any, tmp_path: Path) -> None:
    """More than one batch comes out as one JSON array."""
    admin.clock.at = time.time()
    async with open_ledger(admin.store, tmp_path / "ledger") as ledger:
        for _ in range(600):
            a = attempt()
            ledger.begin(a)
            settle(ledger, a)
        await flushed(ledger)
    data = (await admin("GET", ENTRIES)).json["data"]
    assert len({e["attempt_id"] for e in data}) == 600


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=colour", "by"),
        ("by=day,day", "by"),
        ("from=2026-11-02&to=2026-11-02", "to"),
        ("from=2020-01-01&to=2026-11-02", "from"),
        ("from=yesterday", "from"),
        ("format=xls", "format"),
        ("until=2026-11-01", "until"),
        ("from=2026-11-01T00:30:00Z", "by"),
    ],
)
async def test_a_report_that_cannot_be_made_says_why(admin: Any, query: str, param: str) -> None:
    """400 naming the parameter."""
    answer = await admin("GET", f"{REPORT}?{query}")
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize(
    "query", ["request_id=a%0d%0ab", "request_id=req_1&from=2026-11-01", "request_id=a&request_id=b", "x=%ff"]
)
async def test_a_question_for_entries_that_is_none_is_refused(admin: Any, query: str) -> None:
    """400, whatever it tries."""
    assert (await admin("GET", f"{ENTRIES}?{query}")).status == 400


async def test_another_tenants_books_are_closed(admin: Any, booked: list[Any]) -> None:
    """The store is asked for the caller's own tenant only."""
    theirs = await admin.outsider(Role.FINANCE)
    assert (await admin("GET", REPORT, token=theirs)).json["rows"] == []
    assert (await admin("GET", f"{ENTRIES}?request_id={booked[0].request_id}", token=theirs)).json == {"data": []}

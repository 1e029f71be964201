"""The provider's bill against the books: what differs is corrected once, and everything still sums up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from books import COST, USAGE, attempt, audit, budget, flushed, journal, open_ledger, posted, settle
from redis.asyncio import Redis

from gateway.ledger.attempt import Attempt
from gateway.ledger.corrections import Corrections, CorrectionsBusy
from gateway.ledger.exchange import tag
from gateway.ledger.journal import Journal
from gateway.ledger.lines import Line
from gateway.ledger.reconcile import BillRow, Reconciled, close_period, import_bill
from gateway.ledger.records import usage_numbers
from gateway.ledger.reports import report
from gateway.types import Usage

TRUTH = usage_numbers(Usage(input=12, output=30))


async def booked(store: Redis, folder: Path, **how: Any) -> Attempt:
    """An attempt that ended as `settle()` is told."""
    async with open_ledger(store, folder) as ledger:
        a = attempt()
        await ledger.reserve(a, budget(10**9))
        settle(ledger, a, **how)
        await flushed(ledger)
    return a


async def bill(store: Redis, *rows: BillRow, run: str = "r1") -> Reconciled:
    return await import_bill(Journal(store), "main", rows, "november.csv", run=run)


async def test_an_estimate_becomes_what_the_bill_says(store: Redis, tmp_path: Path) -> None:
    """A new entry has the difference and its reason; budgets, hours, days and tags follow."""
    a = await booked(store, tmp_path, usage_source="estimated", settlement="upstream_cut")
    done = await bill(store, BillRow(attempt_id=a.aid, cost_nano=150_000, usage=TRUTH))
    assert (done.corrected, done.exact, done.unknown) == (1, 0, 0)
    assert [(g.billed_nano, g.booked_before_nano, g.booked_after_nano) for g in done.groups] == [
        (150_000, COST, 150_000)
    ]
    found = await audit(store)
    assert [(e["kind"], e["cost_nano_usd"], e["reason"]) for e in found] == [
        ("entry", COST, ""),
        ("adjustment", 150_000 - COST, "bill november.csv"),
    ]
    assert (found[1]["usage"]["input"], found[1]["usage"]["output"]) == (12 - USAGE.input, 30 - USAGE.output)
    assert await posted(store) == 150_000
    day = time.time() // 86_400 * 86_400
    (row,) = await report(store, "main", day - 86_400, day + 2 * 86_400, now=time.time())
    assert row.as_dict(())["estimated"] == 0
    assert row.as_dict(())["attempts"] == 1


async def test_the_same_bill_again_corrects_nothing(store: Redis, tmp_path: Path) -> None:
    """While the markers last and when they are forgotten, as long after as may be."""
    a = await booked(store, tmp_path)
    row = BillRow(attempt_id=a.aid, cost_nano=COST + 7)
    assert (await bill(store, row)).corrected == 1
    assert (await bill(store, row, run="r2")).exact == 1
    for name in await store.keys(tag("main") + "d:*"):
        await store.delete(name)
    assert (await bill(store, row, run="r3")).exact == 1
    assert [e["cost_nano_usd"] for e in await Journal(store).entries_of("main", a.request_id)] == [COST, 7]
    assert len(await audit(store)) == 2


async def test_a_late_correction_is_found_with_its_period(store: Redis, tmp_path: Path) -> None:
    """Months later the journal of the attempt's own days does not hold it, and still every list of entries has it."""
    a = await booked(store, tmp_path)
    await bill(store, BillRow(attempt_id=a.aid, cost_nano=COST + 7))
    records = await store.xrange(tag("main") + "out")
    (_, first), (when, second) = records
    late = int(time.time() * 1000) + 60 * 86_400_000
    await store.delete(tag("main") + "out")
    await store.xadd(tag("main") + "out", first, id=records[0][0])
    await store.xadd(tag("main") + "out", second, id=f"{late}-0")
    for name in await store.keys(tag("main") + "d:*"):
        await store.delete(name)
    (index,) = await store.keys(tag("main") + "x:*")
    assert await store.hget(index, a.aid) == when
    await store.hset(index, a.aid, f"{late}-0")
    assert sum(e["cost_nano_usd"] for e in await journal(store)) == COST + 7
    assert sum(e["cost_nano_usd"] for e in await Journal(store).entries_of("main", a.request_id)) == COST + 7
    assert (await bill(store, BillRow(attempt_id=a.aid, cost_nano=COST + 7), run="r2")).exact == 1


async def test_rows_of_one_attempt_are_summed(store: Redis, tmp_path: Path) -> None:
    """Bills list input and output apart."""
    a = await booked(store, tmp_path)
    rows = [
        BillRow(attempt_id=a.aid, cost_nano=10_000, usage=usage_numbers(Usage(input=10))),
        BillRow(attempt_id=a.aid.upper(), cost_nano=100_000, usage=usage_numbers(Usage(output=20))),
    ]
    assert (await bill(store, *rows)).exact == 1
    assert len(await audit(store)) == 1


async def test_a_request_is_found_by_the_providers_id(store: Redis, tmp_path: Path) -> None:
    """On the day that the row names."""
    await booked(store, tmp_path, upstream_id="up-1")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    done = await bill(
        store,
        BillRow(upstream_id="up-1", day=today, cost_nano=COST + 1),
        BillRow(upstream_id="up-2", day=today, cost_nano=5),
    )
    assert (done.corrected, done.unknown, done.unknown_nano, done.unknown_rows) == (1, 1, 5, ["up-2"])
    assert sum(e["cost_nano_usd"] for e in await audit(store)) == COST + 1


async def test_what_the_books_do_not_know_is_said_and_not_booked(store: Redis, tmp_path: Path) -> None:
    """A foreign attempt, no attempt at all, and a model that nobody used."""
    await booked(store, tmp_path)
    done = await bill(
        store,
        BillRow(attempt_id=attempt().aid, cost_nano=1),
        BillRow(attempt_id="not one", cost_nano=10),
        BillRow(provider="acme", model="m9", day="2026-11-21", cost_nano=100),
    )
    assert (done.rows, done.unknown, done.unknown_nano, done.corrected) == (3, 3, 111, 0)
    assert len(await audit(store)) == 1


async def test_a_days_sum_is_corrected_under_no_key(store: Redis, tmp_path: Path) -> None:
    """Where the bill tells days and models alone; the second import finds it exact."""
    a = await booked(store, tmp_path)
    day = datetime.fromtimestamp(a.at, UTC).strftime("%Y-%m-%d")
    row = BillRow(provider="acme", model="m1", day=day, cost_nano=COST - 10)
    done = await bill(store, row)
    assert (done.corrected, done.groups[0].booked_before_nano) == (1, COST)
    entry, adjustment = await journal(store)
    assert (adjustment["key"], adjustment["cost_nano_usd"], entry["cost_nano_usd"]) == ("", -10, COST)
    assert (await bill(store, row, run="r2")).exact == 1
    assert await posted(store) == COST


async def test_a_closed_period_has_no_estimates(store: Redis, tmp_path: Path) -> None:
    """What the whole bill did not name was not billed; other providers and exact entries stay as they are."""
    a = await booked(store, tmp_path)
    b = await booked(store, tmp_path, usage_source="estimated", settlement="failed")
    done = await close_period(Journal(store), "main", a.at - 60, a.at + 60, "acme", run="r1")
    assert (done.corrected, done.groups[0].booked_before_nano, done.groups[0].booked_after_nano) == (1, COST, 0)
    assert (await close_period(Journal(store), "main", a.at - 60, a.at + 60, "acme", run="r2")).corrected == 0
    assert sum(e["cost_nano_usd"] for e in await audit(store)) == COST == await posted(store)
    assert sum(e["cost_nano_usd"] for e in await Journal(store).entries_of("main", b.request_id)) == 0


async def test_only_one_run_corrects_at_a_time(store: Redis, tmp_path: Path) -> None:
    """A second one is refused, and so is one that lost its turn by taking too long."""
    a = await booked(store, tmp_path)
    async with Corrections(store, "main", "r1"):
        with pytest.raises(CorrectionsBusy):
            await bill(store, BillRow(attempt_id=a.aid, cost_nano=1), run="r2")
        await store.set(tag("main") + "correcting", "r3")
    assert await store.get(tag("main") + "correcting") == b"r3"


async def test_a_run_that_reads_for_long_stays_the_only_one(
    store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy day's journal may take longer to read than the lock lasts that a dead run leaves."""
    monkeypatch.setattr("gateway.ledger.corrections._LOCK_S", 1)
    a = await booked(store, tmp_path)

    class Slow(Journal):
        async def lines_of(self, tenant: str, aids: Iterable[str]) -> list[Line]:
            await asyncio.sleep(1.5)
            with pytest.raises(CorrectionsBusy):
                async with Corrections(store, "main", "another"):
                    pass
            return await super().lines_of(tenant, aids)

    rows = [BillRow(attempt_id=a.aid, cost_nano=COST + 7)]
    assert (await import_bill(Slow(store), "main", rows, "november.csv", run="r1")).corrected == 1
    assert (await bill(store, *rows, run="r2")).exact == 1


async def test_an_ending_after_the_bill_is_set_aside(store: Redis, tmp_path: Path) -> None:
    """The truth of a machine that comes back contradicts the bill: totals stay the bill's, and people are told."""
    async with open_ledger(store, tmp_path / "a") as lost, open_ledger(store, tmp_path / "b", sweep_every_s=0.2):
        a = attempt()
        await lost.reserve(a, budget(10**9))
        await store.zadd(tag("main") + "if", {a.aid: 1})
        while not await journal(store):
            pass
        await bill(store, BillRow(attempt_id=a.aid, cost_nano=77))
        settle(lost, a)
        await flushed(lost)
        assert lost.lag["endings_conflict"] == 1
    assert sum(e["cost_nano_usd"] for e in await audit(store)) == 77 == await posted(store)


@pytest.mark.parametrize(
    "row",
    [BillRow(cost_nano=1, provider="acme"), BillRow(cost_nano=1, upstream_id="x"), BillRow(cost_nano=1, day="2026")],
)
async def test_a_row_that_names_nothing_is_refused(store: Redis, row: BillRow) -> None:
    """Before anything is booked."""
    with pytest.raises(ValueError, match="day"):
        await bill(store, row)
    assert await store.get(tag("main") + "correcting") is None

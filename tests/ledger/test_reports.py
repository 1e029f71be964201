"""Reports from roll-ups, and entries from the journal: the sum of one is the sum of the other."""

from __future__ import annotations

import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from books import COST, attempt, audit, flushed, journal, open_ledger, settle
from redis.asyncio import Redis

from gateway.ledger.account import SEPARATOR
from gateway.ledger.attempt import new_request_id
from gateway.ledger.exchange import Exchange, tag
from gateway.ledger.journal import Journal
from gateway.ledger.records import METRICS, booking, encode, line, usage_numbers
from gateway.ledger.reports import NO_TAG, report
from gateway.types import Usage

DAY = 86_400
NOON = 1_795_219_200 + DAY // 2
"""2026-11-21T12:00:00Z."""
CHANCE = random.Random(3)


async def book(store: Redis, at: float, nano: int, **changes: Any) -> str:
    """Books an attempt that started at `at`; gives its request id."""
    a = attempt(at=at, request_id=new_request_id(at, CHANCE), **changes)
    numbers = usage_numbers(Usage(input=nano // 1000))
    text = encode(("P", nano, numbers, "provider", "complete", 1, None, None, 200, False))
    ending = booking(a, "P", nano, numbers, line(a.seal(), text), may_be_held=False)
    await Exchange(store, "o1").run("main", at, [ending], [], [])
    return a.request_id


def costs(rows: list[Any]) -> dict[tuple[str, ...], int]:
    return {row.names: row.cost_nano for row in rows}


async def test_a_range_is_made_of_whole_days_and_single_hours(store: Redis) -> None:
    """Both ends count to the hour, and what lies outside is not in it."""
    hours = {NOON - 1: 1, NOON: 10, NOON + 3599: 100, NOON + DAY: 1_000, NOON + 2 * DAY + 7: 10_000}
    for at, nano in hours.items():
        await book(store, at, nano)
    rows = await report(store, "main", NOON, NOON + 2 * DAY, ("day",), now=NOON)
    assert costs(rows) == {("2026-11-21",): 110, ("2026-11-22",): 1_000}
    rows = await report(store, "main", NOON - 3600, NOON + 3600, ("hour",), now=NOON)
    assert costs(rows) == {("2026-11-21T11:00Z",): 1, ("2026-11-21T12:00Z",): 110}
    (month,) = await report(store, "main", NOON - NOON % DAY, NOON - NOON % DAY + 9 * DAY, ("month",), now=NOON)
    assert (month.names, month.cost_nano, month.numbers[0]) == (("2026-11",), 11_111, 5)


async def test_a_report_groups_by_any_names(store: Redis) -> None:
    """In the order asked for; what is not asked for is summed up."""
    start = NOON - NOON % DAY
    await book(store, NOON, 1, team="a", model="m1")
    await book(store, NOON, 10, team="a", model="m2", tier=None)
    await book(store, NOON, 100, team="b", model="m1")
    assert costs(await report(store, "main", start, start + DAY, ("model", "team"), now=NOON)) == {
        ("m1", "a"): 1,
        ("m1", "b"): 100,
        ("m2", "a"): 10,
    }
    assert costs(await report(store, "main", start, start + DAY, ("tier",), now=NOON)) == {("",): 10, ("fast",): 101}
    assert costs(await report(store, "main", start, start + DAY, (), now=NOON)) == {(): 111}


async def test_tags_sum_to_the_total_with_what_has_none(store: Redis) -> None:
    """One tag at a time, crossed with any other name; text of callers cannot break the cells apart."""
    start = NOON - NOON % DAY
    await book(store, NOON, 1, tags=(("app", "x"), ("env", "prod")), model="m1")
    await book(store, NOON, 10, tags=(("app", "y"),), model="m2")
    await book(store, NOON, 100, tags=(("env", "dev"),), model="m1")
    await book(store, NOON, 1_000, tags=(("app", f"x{SEPARATOR}m9"),), model="m1")
    assert costs(await report(store, "main", start, start + DAY, ("tag:app",), now=NOON)) == {
        ("x",): 1,
        ("y",): 10,
        ("x m9",): 1_000,
        (NO_TAG,): 100,
    }
    assert costs(await report(store, "main", start, start + DAY, ("model", "tag:env"), now=NOON)) == {
        ("m1", "prod"): 1,
        ("m1", "dev"): 100,
        ("m1", NO_TAG): 1_000,
        ("m2", NO_TAG): 10,
    }


@pytest.mark.parametrize(
    ("from_at", "to_at", "by", "reason"),
    [
        (NOON + 1, NOON + DAY, (), "whole UTC hours"),
        (NOON, NOON + DAY, ("colour",), "cannot report by 'colour'"),
        (NOON, NOON + DAY, ("day", "day"), "once"),
        (NOON, NOON + DAY, ("tag:a", "tag:b"), "one tag"),
        (NOON, NOON + DAY, ("tag:a",), "whole UTC days"),
        (NOON - 30 * DAY, NOON, (), "14 days"),
        (NOON - 30 * DAY, NOON, ("hour",), "begin at 2026-11-07T12:00:00Z or later"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    store: Redis, from_at: float, to_at: float, by: tuple[str, ...], reason: str
) -> None:
    """Never a total with a part missing."""
    with pytest.raises(ValueError, match=reason):
        await report(store, "main", from_at, to_at, by, now=NOON)


async def test_the_hour_that_a_refusal_names_is_kept(store: Redis) -> None:
    """Also between two hours."""
    for now in (NOON, NOON + 1, NOON + 3_599):
        with pytest.raises(ValueError, match="begin at") as refused:
            await report(store, "main", NOON - 30 * DAY, NOON, ("hour",), now=now)
        named = datetime.fromisoformat(str(refused.value).partition("begin at ")[2].split()[0])
        assert await report(store, "main", named.timestamp(), NOON, ("hour",), now=now) == []
        with pytest.raises(ValueError, match="14 days"):
            await report(store, "main", named.timestamp() - 3_600, NOON, ("hour",), now=now)


async def test_the_entries_of_a_range_sum_to_its_report(store: Redis) -> None:
    """Over more pages than one, by the start of the attempt."""
    now = time.time()
    start = now - now % DAY
    for n in range(450):
        await book(store, start - 1_000 + 5 * n, n)
    found = [e async for e in Journal(store).entries("main", start, start + DAY)]
    (row,) = await report(store, "main", start, start + DAY, now=now)
    assert sum(e["cost_nano_usd"] for e in found) == row.cost_nano == sum(range(200, 450))
    assert len(found) == row.numbers[0] == 250


async def test_a_request_is_found_by_its_id(store: Redis, tmp_path: Path) -> None:
    """With all its attempts, by their markers, and by reading the journal once those are forgotten."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt()
        b = attempt(request_id=a.request_id, retry=1)
        for each in (a, attempt(), b):
            ledger.begin(each)
            settle(ledger, each)
        await flushed(ledger)
    assert [e["attempt_id"] for e in await Journal(store).entries_of("main", a.request_id)] == [a.aid, b.aid]
    for key in await store.keys(tag("main") + "d:*"):
        await store.delete(key)
    assert [e["attempt_id"] for e in await Journal(store).entries_of("main", a.request_id)] == [a.aid, b.aid]


async def test_a_correction_is_found_with_what_it_corrects(store: Redis, tmp_path: Path) -> None:
    """An estimate and its difference to the truth."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt()
        ledger.begin(a)
        settle(ledger, a, Usage(input=10), usage_source="estimated", settlement="upstream_cut")
        await flushed(ledger)
    text = encode(
        ("P", COST, usage_numbers(Usage(input=10, output=20)), *("provider", "complete", 1), *[None] * 3, False)
    )
    truth = booking(a, "P", COST, usage_numbers(Usage(input=10, output=20)), line(a.brief, text), may_be_held=False)
    await Exchange(store, "o2").run("main", time.time(), [truth], [], [])
    found = await Journal(store).entries_of("main", a.request_id)
    assert [(e["kind"], e["cost_nano_usd"]) for e in found] == [("entry", 10_000), ("adjustment", COST - 10_000)]


@pytest.mark.parametrize("request_id", ["", "req_", "x" * 36, "req_" + "z" * 32, "req_" + "0" * 32])
async def test_an_unknown_request_has_no_entries(store: Redis, request_id: str) -> None:
    """Whatever text is asked for."""
    assert await Journal(store).entries_of("main", request_id) == []


async def test_tenants_do_not_see_each_other(store: Redis, tmp_path: Path) -> None:
    """Neither entries nor sums."""
    async with open_ledger(store, tmp_path) as ledger:
        for tenant in ("main", "other", "other"):
            a = attempt(tenant=tenant)
            ledger.begin(a)
            settle(ledger, a)
        await flushed(ledger)
    assert (len(await audit(store)), len(await audit(store, "other"))) == (1, 2)
    assert await journal(store, "third") == []


async def test_many_tags_are_counted_as_others(store: Redis) -> None:
    """A caller who invents tags cannot fill the memory; sums stay whole."""
    key = tag("main") + "r:t:20261121"
    cell = msgspec.msgpack.encode([0] * len(METRICS))
    await store.hset(key, mapping={f"app{SEPARATOR}{n}{SEPARATOR}": cell for n in range(20_000)})
    await book(store, NOON, 5, tags=(("app", "one-more"),))
    rows = await report(store, "main", NOON - NOON % DAY, NOON - NOON % DAY + DAY, ("tag:app",), now=NOON)
    assert costs(rows) == {("__other__",): 5}


async def test_a_hundred_million_attempts_are_reported_from_their_cells(store: Redis) -> None:
    """A month of 6,000 cells a day is summed exactly."""
    start = NOON - NOON % DAY
    numbers = [560, *[1_000] * 10, 123_456_789_012, 1, 2, 3]
    cell = msgspec.msgpack.encode(numbers)
    for day in range(30):
        fields = {
            SEPARATOR.join([f"k{n % 2000}", "fast", f"m{n // 2000}", "p", "d", "r", "t"]): cell for n in range(6_000)
        }
        period = time.strftime("%Y%m%d", time.gmtime(start + day * DAY))
        await store.hset(tag("main") + "r:d:" + period, mapping=fields)
    rows = await report(store, "main", start, start + 30 * DAY, ("model",), now=NOON)
    assert costs(rows) == {(f"m{n}",): 30 * 2_000 * 123_456_789_012 for n in range(3)}
    assert sum(row.numbers[0] for row in rows) == 560 * 6_000 * 30

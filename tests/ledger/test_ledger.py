"""The ledger against a real store: what is booked, held, refused and corrected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from books import COST, HOLD, PRICE, USAGE, attempt, audit, budget, flushed, journal, open_ledger, posted, settle, until
from redis.asyncio import Redis

from gateway.errors import CallerError, GatewayUnavailable, Kind, RoutingError
from gateway.ledger.exchange import Exchange, tag
from gateway.ledger.history import read_log
from gateway.ledger.limits import Budget, Cap, Limits
from gateway.ledger.outbox import Alert
from gateway.ledger.records import aid_hour, booking, encode, line, tombstone, usage_numbers
from gateway.types import Price, Rates, Usage

FIELDS = {
    "attempt_id",
    "request_id",
    "at",
    "key",
    "team",
    "tags",
    "alias",
    "tier",
    "model",
    "provider",
    "deployment",
    "price_id",
    "usage",
    "cost_nano_usd",
    "usage_source",
    "settlement",
    "catalog",
    "latency_ms",
    "ttft_ms",
}


async def test_an_unlimited_attempt_is_booked_once_with_every_field(store: Redis, tmp_path: Path) -> None:
    """The entry has the contract's fields, and the second settlement changes nothing."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt(tags=(("app", "chat"),), stream=True)
        ledger.begin(a)
        assert settle(ledger, a, service_tier="flex") == COST
        assert settle(ledger, a) == 0
        await flushed(ledger)
        (entry,) = await audit(store)
    assert entry.keys() >= FIELDS
    assert entry["attempt_id"] == a.aid
    assert entry["cost_nano_usd"] == COST
    assert entry["usage"]["output"] == 20
    assert entry["tags"] == {"app": "chat"}
    assert (entry["settlement"], entry["usage_source"]) == ("complete", "provider")
    assert (entry["service_tier"], entry["stream"], entry["retry"], entry["status"]) == ("flex", True, 0, 200)


async def test_every_retry_is_an_entry_under_one_request(store: Redis, tmp_path: Path) -> None:
    """Two failed attempts that were billed and one that answered make three entries."""
    first = attempt()
    async with open_ledger(store, tmp_path) as ledger:
        for retry in range(3):
            a = attempt(request_id=first.request_id, retry=retry)
            ledger.begin(a)
            settle(ledger, a, settlement="complete" if retry == 2 else "failed")
        await flushed(ledger)
        found = await audit(store)
    assert [e["retry"] for e in found] == [0, 1, 2]
    assert {e["request_id"] for e in found} == {first.request_id}
    assert sum(e["cost_nano_usd"] for e in found) == 3 * COST


async def test_what_was_not_billed_costs_nothing(store: Redis, tmp_path: Path) -> None:
    """A void attempt has an entry, and its hold is free again."""
    limits = budget(HOLD)
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt()
        await ledger.reserve(a, limits)
        assert await ledger.spent("main", limits.budgets[0]) == (0, HOLD)
        ledger.void(a, status=503)
        ledger.void(a)
        await flushed(ledger)
        (entry,) = await audit(store)
        assert await ledger.spent("main", limits.budgets[0]) == (0, 0)
    assert (entry["settlement"], entry["cost_nano_usd"], entry["status"]) == ("void", 0, 503)


async def test_an_attempt_without_a_price_is_counted_as_unpriced(store: Redis, tmp_path: Path) -> None:
    """Its tokens are booked, its cost is zero and says that it is unknown."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt(price=None)
        ledger.begin(a)
        settle(ledger, a)
        await flushed(ledger)
        (entry,) = await audit(store)
    assert (entry["unpriced"], entry["cost_nano_usd"], entry["usage"]["input"]) == (True, 0, 10)


@pytest.mark.parametrize("usage", [Usage(input=-5, output=10), Usage(input=5, output=10**18), Usage(images=10**10)])
async def test_hostile_usage_is_none(store: Redis, tmp_path: Path, usage: Usage) -> None:
    """Negative and absurd counts of a provider cannot corrupt sums, and are not its word: an estimate is booked."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt()
        ledger.begin(a)
        ledger.progress(a, 4)
        settle(ledger, a, usage, service_tier="x" * 1000)
        await flushed(ledger)
        (entry,) = await audit(store)
    assert {name: n for name, n in entry["usage"].items() if n} == {"input": 10, "output": 4}
    assert (entry["usage_source"], entry["cost_nano_usd"]) == ("estimated", 30_000)
    assert len(entry["service_tier"]) == 64


async def test_the_price_is_pinned_when_the_attempt_begins(store: Redis, tmp_path: Path) -> None:
    """A new row serves new attempts; those under way keep theirs."""
    async with open_ledger(store, tmp_path) as ledger:
        old, new = attempt(), attempt(price=Price("p2", 0.0, Rates(2_000_000, 10_000_000)))
        ledger.begin(old)
        ledger.begin(new)
        assert (settle(ledger, new), settle(ledger, old)) == (2 * COST, COST)
        await flushed(ledger)
        assert {e["price_id"] for e in await audit(store)} == {"p1", "p2"}


async def test_a_hard_budget_refuses_what_might_exceed_it(store: Redis, tmp_path: Path) -> None:
    """The refusal says which budget, which period and when it starts anew, and that trying again is of no use."""
    async with open_ledger(store, tmp_path) as ledger:
        a, b = attempt(), attempt()
        headroom = await ledger.reserve(a, budget(HOLD + HOLD - 1))
        assert (headroom.hold_nano, headroom.budget_left_nano, headroom.output_cap_tokens) == (HOLD, HOLD - 1, 180)
        with pytest.raises(CallerError) as refused:
            await ledger.reserve(b, budget(HOLD + HOLD - 1))
        assert (refused.value.kind, refused.value.retryable) == (Kind.BUDGET_SPENT, False)
        assert refused.value.details.keys() == {"budget", "window", "resets_at"}
        settle(ledger, a)
        await flushed(ledger)
        await ledger.reserve(c := attempt(), budget(HOLD + HOLD - 1))
        ledger.void(c)
        await flushed(ledger)
        await audit(store)
        assert await posted(store) == COST


@pytest.mark.parametrize("own_cap", [None, 8_000])
async def test_an_answer_is_capped_to_what_the_budget_affords(
    store: Redis, tmp_path: Path, own_cap: int | None
) -> None:
    """With a cap of the caller's or without one, a nearly spent budget shortens the answer instead of refusing it."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt(output_tokens=own_cap, output_limit_tokens=64_000)
        headroom = await ledger.reserve(a, budget(100_000 + 5_000 * 2_000 + 4_999))
        assert headroom.output_cap_tokens == 2_000
        settle(ledger, a)
        b = attempt(output_tokens=own_cap, output_limit_tokens=64_000)
        with pytest.raises(CallerError, match=r"may cost \$0.00522 with 1,024 tokens of answer"):
            await ledger.reserve(b, budget(COST + 100_000 + 5_000 * 1_023))
        await flushed(ledger)
        await audit(store)


@pytest.mark.parametrize(("fewest", "own_cap", "affords"), [(10, None, 10), (10, 4, 4), (5_000, 200, 200)])
async def test_how_short_an_answer_may_become_is_the_tiers_word(
    store: Redis, tmp_path: Path, fewest: int, own_cap: int | None, affords: int
) -> None:
    """A budget that affords as many is enough, one token less is not; who wants fewer gets all it wants, or nothing."""
    async with open_ledger(store, tmp_path) as ledger:
        given: dict[str, Any] = {
            "output_tokens": own_cap,
            "output_limit_tokens": 64_000,
            "least_output_tokens": fewest,
        }
        with pytest.raises(CallerError):
            await ledger.reserve(attempt(**given), budget(100_000 + 5_000 * affords - 1))
        headroom = await ledger.reserve(a := attempt(**given), budget(100_000 + 5_000 * affords))
        assert headroom.output_cap_tokens == affords
        settle(ledger, a)
        await flushed(ledger)
        await audit(store)


async def test_a_hard_budget_needs_a_price_and_a_cap(store: Redis, tmp_path: Path) -> None:
    """Unknown is never free, and never unbounded."""
    async with open_ledger(store, tmp_path) as ledger:
        with pytest.raises(RoutingError, match="no price in force"):
            await ledger.reserve(attempt(price=None), budget(10**9))
        with pytest.raises(CallerError, match="max_tokens"):
            await ledger.reserve(attempt(output_tokens=None), budget(10**9))


async def test_all_budgets_hold_or_none(store: Redis, tmp_path: Path) -> None:
    """The team's refusal leaves nothing held on the key."""
    limits = Limits("main", budgets=(Budget("b1", 10 * HOLD, "day"), Budget("b2", HOLD - 1, "month", scope="team")))
    async with open_ledger(store, tmp_path) as ledger:
        with pytest.raises(CallerError, match="team's budget"):
            await ledger.reserve(attempt(), limits)
        assert await ledger.spent("main", limits.budgets[0]) == (0, 0)
        assert await audit(store) == []


async def test_a_soft_budget_counts_and_never_refuses(store: Redis, tmp_path: Path) -> None:
    """Overspent, it says so in the headroom of the next request."""
    limits = budget(COST // 2, hard=False)
    async with open_ledger(store, tmp_path) as ledger:
        for expected in (COST // 2, COST // 2 - COST):
            a = attempt()
            headroom = await ledger.reserve(a, limits)
            assert headroom.budget_left_nano == expected
            settle(ledger, a)
            await flushed(ledger)
        await audit(store)
        assert await posted(store) == 2 * COST


async def test_the_share_left_is_known_without_asking(store: Redis, tmp_path: Path) -> None:
    """Of the tightest budget, as of the last answer that touched it."""
    limits = Limits("main", budgets=(Budget("b1", 10 * COST, "day"), Budget("b2", 100 * COST, "month")))
    async with open_ledger(store, tmp_path) as ledger:
        assert ledger.left_share(Limits("main")) is None
        assert ledger.left_share(limits) == 1.0
        await ledger.reserve(a := attempt(output_tokens=180), limits)
        settle(ledger, a)
        await flushed(ledger)
        assert ledger.left_share(limits) == 0.9


async def test_the_share_left_is_that_of_the_period_that_runs(store: Redis, tmp_path: Path) -> None:
    """Though the store has answered nothing since it began."""
    limits, later_s = budget(10 * COST), 0.0
    async with open_ledger(store, tmp_path, clock=lambda: time.time() + later_s) as ledger:
        await ledger.reserve(a := attempt(output_tokens=180), limits)
        settle(ledger, a)
        await flushed(ledger)
        assert ledger.left_share(limits) == 0.9
        later_s = 86_400.0
        assert ledger.left_share(limits) == 1.0


async def test_thresholds_are_told_once_each(store: Redis, tmp_path: Path) -> None:
    """50, 80 and 100 %, however many attempts pass them."""
    told: list[Alert] = []
    async with open_ledger(store, tmp_path, on_alert=told.append) as ledger:
        for _ in range(12):
            a = attempt()
            await ledger.reserve(a, budget(10 * COST, hard=False))
            settle(ledger, a)
            await flushed(ledger)
    assert [(t.kind, t.percent, t.spent_nano) for t in told] == [
        ("budget", 50, 5 * COST),
        ("budget", 80, 8 * COST),
        ("budget", 100, 10 * COST),
    ]


async def test_requests_per_minute_are_a_bucket_that_refills(store: Redis, tmp_path: Path) -> None:
    """Five at once, the sixth is told when to come again."""
    limits = Limits("main", rpm=(Cap("k1", 5),))
    async with open_ledger(store, tmp_path) as ledger:
        left = []
        for _ in range(5):
            a = attempt()
            left.append((await ledger.reserve(a, limits)).remaining_requests)
            settle(ledger, a)
        with pytest.raises(CallerError) as refused:
            await ledger.reserve(attempt(), limits)
        await flushed(ledger)
        await audit(store)
    assert left == [4, 3, 2, 1, 0]
    assert refused.value.kind is Kind.RATE_LIMIT
    assert refused.value.retry_after_s is not None
    assert 0 < refused.value.retry_after_s <= 12


@pytest.mark.parametrize("limit", [7, 60, 999, 12_347])
async def test_a_rate_admits_exactly_its_limit_at_once(store: Redis, tmp_path: Path, limit: int) -> None:
    """Fractions of milliseconds neither refuse the last one nor admit one more (bar what refills meanwhile)."""
    exchange = Exchange(store, "o1")
    items = [_reservation(f"{n:032x}", rpm=[("k1", limit)]) for n in range(limit + 100)]
    admitted = 0
    for start in range(0, len(items), 128):
        reply = await exchange.run("main", await _now(store), [], items[start : start + 128], [])
        admitted += sum(v[0] == "OK" for v in reply.verdicts)
    refilled = 20 * limit / 60  # twenty seconds, many times what this takes
    assert limit <= admitted <= min(limit + 100, limit + 1 + refilled)


async def test_tokens_per_minute_are_corrected_by_the_truth(store: Redis, tmp_path: Path) -> None:
    """The estimate is taken in advance and the difference given back or taken at the end."""
    limits = Limits("main", tpm=(Cap("k1", 1_000),))
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt(input_tokens=600, output_tokens=300)
        assert (await ledger.reserve(a, limits)).remaining_tokens == 100
        settle(ledger, a, Usage(input=50, output=50))
        await flushed(ledger)
        b = attempt(input_tokens=800, output_tokens=None)
        assert (await ledger.reserve(b, limits)).remaining_tokens == pytest.approx(100, abs=60)
        settle(ledger, b, Usage(input=800, output=5_000))
        await flushed(ledger)
        with pytest.raises(CallerError, match="tokens per minute"):
            await ledger.reserve(attempt(input_tokens=1, output_tokens=None), limits)
        await audit(store)


async def test_concurrency_is_freed_by_the_end(store: Redis, tmp_path: Path) -> None:
    """The third waits for one of the first two."""
    limits = Limits("main", concurrency=(Cap("k1", 2),))
    async with open_ledger(store, tmp_path) as ledger:
        a, b = attempt(), attempt()
        await ledger.reserve(a, limits)
        await ledger.reserve(b, limits)
        with pytest.raises(CallerError, match="at the same time"):
            await ledger.reserve(attempt(), limits)
        settle(ledger, a)
        await flushed(ledger)
        c = attempt()
        await ledger.reserve(c, limits)
        settle(ledger, b)
        ledger.void(c)
        await flushed(ledger)
        await audit(store)


async def test_limits_whose_record_is_gone_are_refused(store: Redis, tmp_path: Path) -> None:
    """A store that lost its keys has lost its counters; they must not start again at zero."""
    record = tag("main") + "k:k1"
    limits = Limits("main", budgets=(Budget("b1", 10**9, "day"),), record=record)
    async with open_ledger(store, tmp_path) as ledger:
        with pytest.raises(GatewayUnavailable, match="limits"):
            await ledger.reserve(attempt(), limits)
        await store.hset(record, "id", "k1")
        a = attempt()
        await ledger.reserve(a, limits)
        ledger.void(a)


async def test_a_clock_far_off_the_stores_is_refused(store: Redis, tmp_path: Path) -> None:
    """Periods would be wrong."""
    async with open_ledger(store, tmp_path, clock=lambda: 1_700_000_000.0) as ledger:
        with pytest.raises(GatewayUnavailable, match="clock"):
            await ledger.reserve(attempt(), budget(10**9))


async def test_a_caller_who_leaves_while_holding_frees_the_hold(store: Redis, tmp_path: Path) -> None:
    """Cancelled between asking and sending, nothing is held and no entry is made."""
    async with open_ledger(store, tmp_path) as ledger:
        task = asyncio.create_task(ledger.reserve(attempt(), budget(10 * HOLD)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await flushed(ledger)
        assert await audit(store) == []


async def test_a_charge_stays_in_the_period_it_was_held_in(store: Redis, tmp_path: Path) -> None:
    """Reserved before midnight and settled after it, it is counted once, on the day before."""
    offset = 0.0

    def clock() -> float:
        return time.time() + offset

    async with open_ledger(store, tmp_path, clock=clock) as ledger:
        a = attempt()
        await ledger.reserve(a, budget(10 * HOLD, per="hour"))
        before = a.windows[0].counter
        offset = 3600.0
        settle(ledger, a)
        await flushed(ledger)
    assert await posted(store) == COST
    assert [k.decode() for k in await store.keys("*b:b1:*")] == [tag("main") + before]


# ------------------------------------------------------------------------------------ the same ending more than once


def _ending(a: Any, outcome: str, usage: Usage, nano: int) -> tuple[Any, ...]:
    numbers = usage_numbers(usage)
    text = encode((outcome, nano, numbers, "provider", "complete", 1, None, None, 200, False))
    return booking(a, outcome, nano, numbers, line(a.seal(), text), may_be_held=True)  # type: ignore[arg-type]


def _reservation(aid: str, **changes: Any) -> tuple[Any, ...]:
    given: dict[str, Any] = {"nano": 0, "budgets": [], "rpm": [], "tpm": [], "concurrency": [], **changes}
    return (
        *(aid, 0, given["nano"], given["nano"], 120_000, False, "[]", "", given["budgets"], given["rpm"]),
        *(given["tpm"], given["concurrency"], 0),
    )


async def _now(store: Redis) -> float:
    seconds, micros = await store.time()
    return float(seconds) + micros / 1e6


async def test_the_same_ending_from_everywhere_is_booked_once(store: Redis) -> None:
    """Three processes, five times each, at once and within one batch: one NEW, fourteen DUP."""
    ending = _ending(attempt(), "P", USAGE, COST)
    exchanges = [Exchange(store, f"o{n}") for n in range(3)]
    replies = await asyncio.gather(
        *(e.run("main", 0.0, [ending] * size, [], []) for e in exchanges for size in (1, 1, 3))
    )
    verdicts = [verdict for reply in replies for _, verdict in reply.exceptions]
    assert verdicts == ["DUP"] * 14
    assert len(await audit(store)) == 1


async def test_another_amount_for_a_booked_attempt_is_set_aside(store: Redis) -> None:
    """The totals stay; the contradiction is kept for people to look at."""
    a = attempt()
    exchange = Exchange(store, "o1")
    await exchange.run("main", 0.0, [_ending(a, "P", USAGE, COST)], [], [])
    reply = await exchange.run("main", 0.0, [_ending(a, "P", USAGE, COST + 1)], [], [])
    assert reply.exceptions == [(1, "CONFLICT")]
    assert await store.xlen(tag("main") + "quarantine") == 1
    (entry,) = await audit(store)
    assert entry["cost_nano_usd"] == COST


@pytest.mark.parametrize("first", ["E", "V"])
@pytest.mark.parametrize("together", [True, False])
async def test_the_truth_replaces_an_estimate_by_its_difference(store: Redis, first: str, together: bool) -> None:
    """The correction is an entry of its own, for usage as for cost, and a repeated one changes nothing."""
    a = attempt()
    exchange = Exchange(store, "o1")
    guess = _ending(a, first, Usage(input=10, output=100) if first == "E" else Usage(), 510_000 if first == "E" else 0)
    truth = _ending(a, "P", USAGE, COST)
    batches = [[guess, truth, truth]] if together else [[guess], [truth], [truth]]
    verdicts = [v for b in batches for _, v in (await exchange.run("main", 0.0, b, [], [])).exceptions]
    assert verdicts == ["ADJ", "DUP"]
    booked, adjusted = await audit(store)
    assert adjusted["kind"] == "adjustment"
    assert booked["cost_nano_usd"] + adjusted["cost_nano_usd"] == COST
    assert booked["usage"]["output"] + adjusted["usage"]["output"] == 20


async def test_an_estimate_never_replaces_what_is_booked(store: Redis) -> None:
    """Late guesses of sweepers and recoveries are dropped."""
    a, b = attempt(), attempt()
    exchange = Exchange(store, "o1")
    await exchange.run("main", 0.0, [_ending(a, "P", USAGE, COST), _ending(b, "E", USAGE, 7)], [], [])
    late = [_ending(a, "E", USAGE, 9), _ending(b, "E", USAGE, 8), _ending(b, "V", Usage(), 0)]
    reply = await exchange.run("main", 0.0, late, [], [])
    assert [v for _, v in reply.exceptions] == ["LATE", "LATE", "LATE"]
    assert sum(e["cost_nano_usd"] for e in await audit(store)) == COST + 7


async def test_sums_are_exact_where_floats_are_not(store: Redis) -> None:
    """Nine million dollars and one nano."""
    exchange = Exchange(store, "o1")
    big = 9_000_000 * 10**9
    await exchange.run("main", 0.0, [_ending(attempt(), "P", USAGE, big)], [], [])
    await exchange.run("main", 0.0, [_ending(attempt(), "P", USAGE, 1)], [], [])
    assert sum(e["cost_nano_usd"] for e in await audit(store)) == big + 1


async def test_a_reservation_that_arrives_after_its_end_is_refused(store: Redis, tmp_path: Path) -> None:
    """A tombstone keeps a delayed reservation from holding for ever."""
    aid = attempt().aid
    exchange = Exchange(store, "o1")
    now = await _now(store)
    await exchange.run("main", now, [tombstone(aid)], [], [])
    late = list(_reservation(aid, nano=5, budgets=[("b:b1:total", 100, 0)]))
    late[1] = aid_hour(aid)
    reply = await exchange.run("main", now, [], [tuple(late)], [])
    assert reply.verdicts[0][0] == "DONE"
    assert await journal(store) == []


async def test_asking_again_for_the_same_hold_holds_once(store: Redis) -> None:
    """The answer to the first try was lost: the second tells what is held."""
    exchange = Exchange(store, "o1")
    item = _reservation(attempt().aid, nano=60, budgets=[("b:b1:total", 100, 0)])
    now = await _now(store)
    first = await exchange.run("main", now, [], [item, item], [])
    again = await exchange.run("main", now, [], [item], [])
    assert [v[0] for v in first.verdicts] == ["OK", "HELD"]
    assert again.verdicts[0] == ("HELD", 60)
    assert await store.hget(tag("main") + "b:b1:total", "res") == b"60"


async def test_a_price_definition_outlives_its_segment(store: Redis, tmp_path: Path) -> None:
    """Attempts over many segments are all booked, and settled segments are let go."""
    async with open_ledger(store, tmp_path, segment_bytes=8192) as ledger:
        for _ in range(150):
            a = attempt(price=PRICE)
            ledger.begin(a)
            settle(ledger, a)
        await flushed(ledger)
        assert len(await audit(store)) == 150
        assert len(list((tmp_path / "wal").glob("*/*.log"))) > 3


async def test_how_far_a_stream_has_come_is_noted_while_it_runs(store: Redis, tmp_path: Path) -> None:
    """Its meter is read by the ledger's own clock, and let go of at the end."""
    async with open_ledger(store, tmp_path) as ledger:
        a = attempt()
        a.meter = lambda: 7
        await ledger.reserve(a, budget(10**9))
        (log,) = (tmp_path / "wal").iterdir()
        await until(lambda: [story.output_tokens for story in read_log(log)] == [7])
        settle(ledger, a)
        assert a.meter is None
        await flushed(ledger)
    assert len(await audit(store)) == 1


async def test_of_many_budgets_those_touched_last_stay_known(
    store: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, as one for each session: what is known of a busy one is never given up."""
    monkeypatch.setattr("gateway.ledger.outbox._MOST_KNOWN", 2)
    limits = {name: Limits("main", budgets=(Budget(name, 2 * COST, "day", hard=False),)) for name in "abc"}
    async with open_ledger(store, tmp_path) as ledger:
        for name in "abca":
            await ledger.reserve(a := attempt(), limits[name])
            settle(ledger, a)
            await flushed(ledger)
        assert {name: ledger.left_share(limits[name]) for name in "abc"} == {"a": 0.0, "b": 1.0, "c": 0.5}

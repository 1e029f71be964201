"""Streams that do not come to their end: every attempt is booked once, and the bill mends what was guessed."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from billing import Bill
from fakes import FakeProvider
from fleet import Fleet, Outcome, all_over, ask, check_books, journal_of, quiet, running_fleet, two_providers
from running import APP_KEY
from stores import StoreServer

CALLERS = 8
GUESSED = ("estimated", "held")


def many(fleet: Fleet, keys: list[str], orders: list[tuple[dict[str, Any], int | None]]) -> list[Outcome]:
    """Streams of all of these orders by callers who leave after so many bytes (None: stay), some at a time."""

    def one(number: int) -> Outcome:
        order, leave_after = orders[number]
        gateway = fleet.gateways[number % len(fleet.gateways)]
        return ask(gateway, keys[number % len(keys)], order, leave_after=leave_after, stream=True, max_tokens=2_000)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(one, range(len(orders))))


def sources(fleet: Fleet, store: StoreServer, fake: FakeProvider) -> dict[str, str]:
    """Where each attempt's usage came from, by its request, once all is quiet."""
    all_over(fake)
    quiet(fleet, store)
    return {entry["request_id"]: entry["usage_source"] for entry in journal_of(store)}


@pytest.mark.timeout(600)
def test_callers_who_leave_are_charged_exactly_where_streams_are_drained(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, soak: bool
) -> None:
    """D4: at a random byte; the rest is read for the usage that ends it, and nothing is a guess."""
    chance = random.Random(4)
    drain = {"fast": {"on_caller_left": {"action": "drain", "seconds": 60, "tokens": 1_000_000}}}
    catalog = two_providers(fake, tmp_path, tier_fields=drain)
    with running_fleet(tmp_path, catalog, f"unix://{kept_store.socket}", 2) as fleet:
        keys = [APP_KEY, fleet.key(budget={"usd": "1000", "per": "month"})]
        count = 5_000 if soak else 150
        orders = [({"words": chance.randint(5, 40), "gap": 0.01}, chance.randint(1, 3_000)) for _ in range(count)]
        outcomes = many(fleet, keys, orders)
        assert {outcome.status for outcome in outcomes} == {200}
        assert set(sources(fleet, kept_store, fake).values()) <= {"provider", "drained"}
        assert len(bill.lines) == count
        assert check_books(fleet, kept_store, fake, bill, outcomes) == 0


@pytest.mark.timeout(600)
def test_callers_who_leave_are_estimated_where_streams_are_cancelled(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, soak: bool
) -> None:
    """D5: as many estimates as callers who left before the usage came; the provider's bill corrects every one."""
    chance = random.Random(5)
    catalog = two_providers(fake, tmp_path, tier_fields={"fast": {"on_caller_left": "cancel"}})
    with running_fleet(tmp_path, catalog, f"unix://{kept_store.socket}", 2) as fleet:
        keys = [APP_KEY, fleet.key(budget={"usd": "1000", "per": "month"})]
        count = 5_000 if soak else 150
        long, short = {"words": 1_000, "gap": 0.05}, {"words": 5}
        orders = [(long, chance.randint(1, 1_500)) if n % 3 else (short, None) for n in range(count)]
        outcomes = many(fleet, keys, orders)
        found = sources(fleet, kept_store, fake)
        assert [found[o.request_id] in GUESSED for o in outcomes] == [leave is not None for _, leave in orders]
        check_books(fleet, kept_store, fake, bill, outcomes)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["cut", "untold"])
def test_streams_that_tell_no_usage_are_estimated(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, soak: bool, end: str
) -> None:
    """D6, D7: who gets a part is told so, and never that it was all; a part and a whole without usage are guesses."""
    chance = random.Random(6)
    with running_fleet(tmp_path, two_providers(fake, tmp_path), f"unix://{kept_store.socket}", 2) as fleet:
        keys = [APP_KEY, fleet.key(budget={"usd": "1000", "per": "month"})]
        count = 2_000 if soak else 200
        orders: list[tuple[dict[str, Any], int | None]] = []
        for n in range(count):
            words = chance.randint(2, 30)
            odd = {"cut": chance.randint(1, words - 1)} if end == "cut" else {"untold": True}
            orders.append(({"words": words, **(odd if n // 2 % 4 == 0 else {})}, None))
        outcomes = many(fleet, keys, orders)
        found = sources(fleet, kept_store, fake)
        for outcome, (order, _) in zip(outcomes, orders, strict=True):
            odd_one = len(order) > 1
            assert outcome.status == 200
            assert (outcome.done, outcome.failed) == ((False, True) if "cut" in order else (True, False))
            assert (found[outcome.request_id] in GUESSED) == odd_one
        exact = [outcome for outcome, (order, _) in zip(outcomes, orders, strict=True) if len(order) == 1]
        assert check_books(fleet, kept_store, fake, bill, exact) > 0

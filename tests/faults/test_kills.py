"""Gateways that are killed at any moment, under every sort of traffic: the books hold every attempt once, exactly."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from billing import Bill
from fakes import FakeProvider
from fleet import Callers, check_books, running_fleet, two_providers
from running import APP_KEY
from stores import StoreServer

GATEWAYS = 4
KILL_EVERY_S = 2.0


@pytest.mark.timeout(1800)
def test_the_bill_is_in_the_books_whoever_dies(
    kept_store: StoreServer, fake: FakeProvider, bill: Bill, tmp_path: Path, soak: bool
) -> None:
    """Streams and whole answers, callers who leave, failures and cuts; one of four gateways is killed every 2 s.

    Afterwards the provider's bill is imported and no nano-dollar is left over, lost or doubled.
    """
    catalog = two_providers(fake, tmp_path)
    with running_fleet(tmp_path, catalog, f"unix://{kept_store.socket}", GATEWAYS) as fleet:
        keys = [APP_KEY, fleet.key(budget={"usd": "1000", "per": "month"}, rpm=1_000_000, tpm=1_000_000_000)]
        callers = Callers(fleet, keys, most=10_000 if soak else 1_000)
        kills = 0
        for number in itertools.cycle(range(GATEWAYS)):
            kills += 1
            killed_at = time.monotonic()
            fleet.kill(number)
            fleet.start_again(number)
            while callers.busy and time.monotonic() < killed_at + KILL_EVERY_S:
                time.sleep(0.05)
            if not callers.busy:
                break
        callers.stop()
        assert check_books(fleet, kept_store, fake, bill, callers.outcomes) > 0, "nobody's death left an estimate"
        assert kills > GATEWAYS
        statuses = [outcome.status for outcome in callers.outcomes]
        assert statuses.count(200) > len(statuses) // 2
        assert set(statuses) <= {0, 200, 429, 502, 503}

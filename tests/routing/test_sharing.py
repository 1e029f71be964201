"""What replicas tell each other of deployments, through a real store."""

from __future__ import annotations

import pytest
from clocks import SetClock
from made_catalogs import deployment, price, snapshot, tier
from redis.asyncio import Redis
from stores import StoreServer

from gateway.routing.health import Breakers, Transition
from gateway.routing.outliers import Outliers
from gateway.routing.sharing import SharedHealth
from gateway.routing.stats import Statistics
from gateway.storage.client import Store

NAME = "openai/small"
CATALOG = snapshot(tier("fast", deployment(NAME, price(1, 1))))


class Replica:
    """One process's health, with a clock of its own that is far from the others'."""

    def __init__(self, store: Store, at: float) -> None:
        self.clock = SetClock(at)
        self.transitions: list[Transition] = []
        self.breakers = Breakers(self.clock, lambda: 1e9 + self.clock(), lambda: 0.5, [self.transitions.append])
        self.statistics = Statistics(self.clock)
        outliers = Outliers(self.breakers, lambda: CATALOG, self.clock)
        self.shared = SharedHealth(store, self.breakers, self.statistics, outliers, self.clock)

    def calls(self, verdict: str, count: int) -> int:
        made = 0
        for _ in range(count):
            if (permit := self.breakers.admit(NAME)) is not None:
                permit.settle(verdict)  # type: ignore[arg-type]
                made += 1
        return made

    async def statistics_round(self) -> None:
        """Until measurements were exchanged once more."""
        for _ in range(5):
            await self.shared.step()

    def left_s(self, name: str = NAME) -> float:
        health = self.breakers.view()[name]
        assert health.until_at is not None
        return health.until_at - 1e9 - self.clock()


@pytest.fixture
def here(store: Redis) -> Replica:
    return Replica(store, 1000.0)


@pytest.fixture
def there(store: Redis) -> Replica:
    return Replica(store, 77_000.0)


async def test_an_open_breaker_is_told(here: Replica, there: Replica) -> None:
    """The other opens too, for as long as is left of it, and says whose word it took; trials are its own."""
    here.calls("failure", 5)
    await here.shared.step()
    await there.shared.step()
    health = there.breakers.view()[NAME]
    assert (health.state, health.detail) == ("open", "another replica: 5 failures in a row")
    assert there.left_s() == pytest.approx(5, abs=0.5)
    assert there.calls("success", 3) == 0
    there.clock.advance(5.1)
    assert there.calls("success", 2) == 2
    assert there.breakers.standings()[NAME].breaker == "closed"


async def test_hearsay_is_a_last_resort_and_not_passed_on(here: Replica, there: Replica, store: Redis) -> None:
    """Who has nobody else is served; and a third replica hears of it from the first alone."""
    here.calls("failure", 5)
    await here.shared.step()
    await there.shared.step()
    assert there.breakers.view()[NAME].last_resort
    assert there.breakers.admit(NAME, despite_rest=True) is not None
    assert there.breakers.take_news() == {}
    assert here.breakers.admit(NAME, despite_rest=True) is None


async def test_calls_that_go_well_here_count_for_more(here: Replica, there: Replica) -> None:
    """A replica that itself is cut off does not stop the others; the first failure makes them listen."""
    there.calls("success", 1)
    here.calls("failure", 5)
    await here.shared.step()
    await there.shared.step()
    assert NAME not in there.breakers.view()
    there.calls("failure", 1)
    await there.shared.step()
    assert there.breakers.view()[NAME].state == "open"


async def test_rests_and_ejections_are_told(here: Replica, there: Replica) -> None:
    """With what is left of them, once each however often they are heard; a credential's for all that it reaches."""
    here.breakers.rest(NAME, 30)
    here.breakers.eject("openai/large", "5 gateway errors in a row")
    here.breakers.rest_credential("groq", 1)
    await here.shared.step()
    for _ in range(3):
        await there.shared.step()
    assert there.left_s() == pytest.approx(30, abs=0.5)
    assert there.left_s("openai/large") == pytest.approx(30, abs=0.5)
    assert there.breakers.admit("groq/never-called") is None
    told = sorted((t.deployment, t.new) for t in there.transitions)
    assert told == [("groq/never-called", "resting"), ("openai/large", "ejected"), (NAME, "resting")]


async def test_one_learns_at_its_start(here: Replica, store: Redis) -> None:
    """A fresh process does not find out anew."""
    here.breakers.rest(NAME, 30)
    await here.shared.step()
    fresh = Replica(store, 5.0)
    await fresh.shared.start()
    await fresh.shared.close()
    assert fresh.breakers.view()[NAME].state == "resting"


async def test_news_goes_out_at_once(here: Replica, there: Replica, store: Redis) -> None:
    """Without waiting for the next round."""
    await here.shared.start()
    here.breakers.rest(NAME, 30)
    for _ in range(200):
        if await store.zcard("{routing}:troubles"):
            break
        await there.shared.step()
    await here.shared.close()
    assert await store.zcard("{routing}:troubles") == 1


async def test_what_is_over_is_not_kept(here: Replica, store: Redis) -> None:
    """The store's clock ends it, and it has an end of its own should nobody come any more."""
    here.breakers.rest(NAME, 0.05)
    await here.shared.step()
    assert 0 < await store.ttl("{routing}:troubles") <= 7200
    for _ in range(500):
        await here.shared.step()
        if not await store.exists("{routing}:troubles"):
            break
    assert not await store.exists("{routing}:troubles")


async def test_a_store_that_is_away_delays_it(own_store: StoreServer) -> None:
    """Nothing else happens to it, and nothing that still holds is lost."""
    client = own_store.client()
    here, there = Replica(client, 1000.0), Replica(client, 77_000.0)
    own_store.stop()
    here.breakers.rest(NAME, 100)
    here.breakers.rest("openai/large", 1)
    await here.shared.step()
    await here.shared.step()
    here.clock.advance(10)
    own_store.start()
    await here.shared.step()
    await there.shared.step()
    await client.aclose()
    assert set(there.breakers.view()) == {NAME}
    assert there.left_s() == pytest.approx(90, abs=0.5)


async def test_words_of_another_version_are_passed_over(here: Replica, there: Replica, store: Redis) -> None:
    """A fleet is not upgraded all at once."""
    await store.zadd("{routing}:troubles", {b'["other","openai/small","haunted","?"]': 9e12, b"not json": 9e12})
    await store.hset("{routing}:statistics", mapping={"other openai/small": "9999999999 []", "junk": "?", "": "1 [1]"})
    here.breakers.rest(NAME, 30)
    await here.shared.step()
    await there.shared.step()
    assert set(there.breakers.view()) == {NAME}
    assert dict(there.statistics.view()) == {}


async def test_measurements_are_shared(here: Replica, there: Replica) -> None:
    """Each counts as many calls as it made, up to some twenty; both plan by the same means."""
    for _ in range(100):
        here.statistics.observe(NAME, ttft_ms=100, output_tokens=50, bytes_per_token=3.0)
    for _ in range(10):
        there.statistics.observe(NAME, ttft_ms=400, failed=True)
    await here.statistics_round()
    await there.statistics_round()
    await here.statistics_round()
    mine, theirs = here.statistics.view()[NAME], there.statistics.view()[NAME]
    assert mine == theirs
    assert mine.ttft_ms == pytest.approx((100 * 20 + 400 * 10) / 30)
    assert mine.error_rate == pytest.approx(1 / 3)
    assert (mine.output_tokens, mine.samples, mine.bytes_per_token) == (50, 110, 3.0)
    here.statistics.observe(NAME, ttft_ms=100)
    assert here.statistics.view()[NAME].samples == 111


async def test_what_only_others_called_is_known_too(here: Replica, there: Replica) -> None:
    """So a fresh replica orders by speed and expects lengths as the others do."""
    for _ in range(12):
        here.statistics.observe(NAME, ttft_ms=100)
    await here.statistics_round()
    await there.statistics_round()
    assert there.statistics.view()[NAME].samples == 12


async def test_what_is_forgotten_is_not_heard_again(here: Replica, there: Replica, store: Redis) -> None:
    """An operator who lets a canary go on does so everywhere; nobody brings the old numbers back."""
    for replica in (here, there):
        replica.statistics.observe(NAME, failed=True)
        await replica.statistics_round()
    here.statistics.forget(NAME)
    await here.statistics_round()
    assert NAME not in here.statistics.view()
    assert not await store.exists("{routing}:statistics")
    there.statistics.forget(NAME)
    there.statistics.observe(NAME, ttft_ms=5)
    await there.statistics_round()
    here.clock.advance(16)
    await here.statistics_round()
    assert here.statistics.view()[NAME].samples == 1


async def test_what_could_not_be_told_of_measurements_is_told_later(
    here: Replica, there: Replica, store: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was forgotten, and what was measured since; of what was forgotten meanwhile nothing."""
    there.statistics.observe(NAME, failed=True)
    await there.statistics_round()
    send = store.eval

    async def away(script: str, keys: int, key: str, *words: object) -> object:
        if key == "{routing}:statistics":
            raise ConnectionError
        return await send(script, keys, key, *words)

    with monkeypatch.context() as patch:
        patch.setattr(store, "eval", away)
        here.statistics.observe(NAME, failed=True)
        here.statistics.observe("openai/large", failed=True)
        await here.shared.step()
        here.statistics.forget(NAME)
        await here.shared.step()
    await here.statistics_round()
    assert [field.partition(b" ")[2] for field in await store.hkeys("{routing}:statistics")] == [b"openai/large"]


async def test_what_was_heard_long_ago_is_forgotten(here: Replica, there: Replica) -> None:
    """Also while the store is away."""
    here.statistics.observe(NAME, ttft_ms=100)
    await here.statistics_round()
    await there.statistics_round()
    assert NAME in there.statistics.view()
    there.clock.advance(901)
    assert NAME not in there.statistics.view()

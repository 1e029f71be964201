"""Decisions in the store: found by id, listed by time, each tenant's apart, and made again."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from made_catalogs import NOW, deployment, needs, price, snapshot, tier
from redis.asyncio import Redis
from stores import StoreServer

from gateway.catalog.snapshot import Snapshot
from gateway.errors import GatewayError
from gateway.ledger.attempt import new_request_id
from gateway.routing.circumstances import circumstances, read, under
from gateway.routing.decision import Record, decode, encode, recorded_refusal
from gateway.routing.decision import recorded as record_of
from gateway.routing.decisions import Decisions
from gateway.routing.plan import Planner
from gateway.routing.retrace import retrace
from gateway.types import Facts, Health, Options

CHEAP = deployment("groq/small", price(0.1, 0.2), model={"input_tokens": 8_000})
DEAR = deployment("openai/large", price(5, 25))
KEYLESS = deployment("openai/large", price(5, 25), unavailable="no key: OPENAI_API_KEY is not set")
BOTH = snapshot(tier("fast", CHEAP, DEAR))
ONE = snapshot(tier("fast", CHEAP, KEYLESS))
CHANCE = random.Random(1)


def recorded(catalog: Snapshot = BOTH, tenant: str = "main", at: float = NOW, **facts: Any) -> tuple[str, bytes]:
    """A request's id and record."""
    planner, target = Planner(catalog), catalog.targets["fast"]
    wanted, options, known = needs(output_tokens=100), Options(session="their words"), Facts(at, **facts)
    made = planner.plan("fast", target, wanted, options, known)
    record = encode(record_of(planner, target, wanted, options, known, made, explained=False, tenant=tenant))
    return new_request_id(at, CHANCE), record


def keep(decisions: Decisions, kept: tuple[str, bytes]) -> None:
    decisions.record(kept[0], decode(kept[1]))


async def listed(decisions: Decisions, since: float, now: float, tenant: str = "main") -> set[str]:
    return {request_id async for request_id, _ in decisions.since(since, now, tenant)}


async def test_a_decision_is_found_by_its_request(store: Redis) -> None:
    """At once, by its own tenant alone, and for as long as records are kept."""
    decisions = Decisions(store, kept_hours=2)
    request_id, record = recorded()
    decisions.begin(BOTH, b"both")
    decisions.record(request_id, decode(record))
    assert await decisions.find(request_id, "main") == decode(record)
    assert await decisions.find(request_id, "other") is None
    assert await decisions.find("req_nonsense", "main") is None
    assert await decisions.find(recorded()[0], "main") is None
    for name in await store.keys("{decisions}:*"):
        assert 2 * 3600 < await store.ttl(name) <= 3 * 3600


async def test_decisions_are_listed_by_time_and_tenant(store: Redis) -> None:
    """Over the border of hours, and none twice however many there are."""
    decisions = Decisions(store, kept_hours=24)
    old, new = recorded(at=NOW - 7200), recorded(at=NOW)
    many = dict(recorded(at=NOW - 3600 + n) for n in range(1200))
    foreign = recorded(tenant="other")
    for request_id, record in (old, new, foreign, *many.items()):
        decisions.record(request_id, decode(record))
    assert await listed(decisions, NOW - 3600, NOW) == {new[0], *many}
    assert await listed(decisions, NOW - 10_000, NOW) == {old[0], new[0], *many}
    assert await listed(decisions, NOW - 3600, NOW, "other") == {foreign[0]}


async def test_circumstances_are_kept_beside_the_records(store: Redis) -> None:
    """A record names those it was made under; whoever reads it later can look them up."""
    decisions = Decisions(store, kept_hours=1)
    request_id, record = recorded(ONE)
    decisions.begin(BOTH, b"both")
    keep(decisions, recorded())
    await decisions.flush()
    decisions.begin(ONE, b"one")
    decisions.record(request_id, decode(record))
    digest = decode(record).circumstances
    assert await decisions.unavailable("unknown") is None
    found = await decisions.find(request_id, "main")
    assert found is not None and found.circumstances == digest
    assert await decisions.unavailable(digest) == {"openai": "no key: OPENAI_API_KEY is not set"}
    assert len(await decisions.all_circumstances()) == 2


async def test_the_catalog_is_kept_as_long_as_its_records(store: Redis) -> None:
    """So that a decision can be made again after the document has changed; it is written once."""
    decisions = Decisions(store, kept_hours=1)
    decisions.begin(BOTH, b"the document")
    keep(decisions, recorded())
    await decisions.flush()
    assert await decisions.document(BOTH.version) == b"the document"
    assert await decisions.document("ffffffffffff") is None
    await store.delete("{decisions}:documents")
    keep(decisions, recorded())
    await decisions.flush()
    assert await decisions.document(BOTH.version) is None


async def test_records_wait_for_a_store_that_is_away(own_store: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are allowed, the newest; serving goes on."""
    monkeypatch.setattr("gateway.routing.decisions._MOST_WAITING", 3)
    monkeypatch.setattr("gateway.routing.decisions._BATCH", 1)
    store = own_store.client()
    decisions = Decisions(store, kept_hours=1)
    own_store.stop()
    kept = [recorded() for _ in range(5)]
    for earlier in kept[:3]:
        keep(decisions, earlier)
    await decisions.flush()
    for later in kept[3:]:
        keep(decisions, later)
    await decisions.flush()
    own_store.start()
    assert await listed(decisions, NOW - 10, NOW) == {request_id for request_id, _ in kept[2:]}
    await store.aclose()


async def test_what_begins_amid_a_write_is_written_with_the_next(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that is loaded just then would else be unknown to all its decisions."""
    decisions = Decisions(store, kept_hours=1)
    decisions.begin(BOTH, b"both")
    keep(decisions, recorded())
    real, begun = decisions._store.expire, []

    async def expire(*asked: Any) -> Any:
        if not begun:
            begun.append(decisions.begin(ONE, b"one"))
        return await real(*asked)

    monkeypatch.setattr(decisions._store, "expire", expire)
    await decisions.flush()
    keep(decisions, recorded(ONE))
    await decisions.flush()
    assert await decisions.unavailable(circumstances(ONE)[0]) is not None


def test_records_hold_no_words_of_the_caller() -> None:
    """A session's name may say anything."""
    _, record = recorded()
    assert b"their words" not in record


def again(catalog: Snapshot | None, record: bytes, unavailable: Any = None) -> dict[str, Any]:
    return retrace("req_1", decode(record), catalog, unavailable)


def test_a_decision_is_reproduced() -> None:
    """With the reasons that nobody asked for at the time."""
    _, record = recorded(health={"groq/small": Health("open", NOW + 5, "5 failures in a row")})
    said = again(BOTH, record)
    assert (said["reproduced"], said["order"], said["catalog"]) == (True, ["openai/large"], BOTH.version)
    assert [drop["rule"] for drop in said["plan"]["dropped"]] == ["healthy"]
    assert "note" not in said


def test_a_provider_that_had_no_key_then_has_none_in_the_replay() -> None:
    """Keys come and go without a new version of the document; the other way round too."""
    _, record = recorded(ONE)
    then = read(circumstances(ONE)[1])
    assert again(BOTH, record, then)["reproduced"] is True
    assert again(BOTH, record)["reproduced"] is False
    _, record = recorded(BOTH)
    assert again(ONE, record, {})["reproduced"] is True


def test_a_catalog_that_is_not_kept_is_owned_up_to() -> None:
    """What was recorded is shown all the same."""
    _, record = recorded()
    said = again(None, record)
    assert said["reproduced"] is None
    assert said["order"] == ["groq/small", "openai/large"]
    assert BOTH.version in said["note"]


def test_another_plan_is_owned_up_to() -> None:
    """A document of the same name that plans otherwise, or not at all."""
    _, record = recorded()
    for other in (snapshot(tier("fast", DEAR)), snapshot(tier("smart", CHEAP)), snapshot(tier("fast", KEYLESS))):
        said = again(other, record)
        assert said["reproduced"] is False
        assert "another" in said["note"]


def refused(catalog: Snapshot, **facts: Any) -> bytes:
    """The record of a request that got no plan."""
    planner, target = Planner(catalog), catalog.targets["fast"]
    known, options = Facts(NOW, **facts), Options(session="their words")
    with pytest.raises(GatewayError) as error:
        planner.plan("fast", target, needs(), options, known)
    return encode(recorded_refusal(planner, "fast", target, needs(), options, known, error.value, tenant="main"))


def test_a_refusal_is_reproduced_too() -> None:
    """With its reasons; and where the same catalog would serve it now, that is told."""
    record = refused(snapshot(tier("fast", KEYLESS)))
    said = again(snapshot(tier("fast", KEYLESS)), record)
    assert (said["refused"], said["reproduced"], said["order"]) == ("no_usable_deployment", True, [])
    assert "OPENAI_API_KEY is not set" in said["note"]
    assert again(snapshot(tier("fast", DEAR)), record)["reproduced"] is False
    assert b"their words" not in record


def test_another_refusal_is_not_the_same() -> None:
    """Forbidden then, nobody capable now."""
    record = refused(snapshot(tier("fast", DEAR)), allowed_models=frozenset())
    assert decode(record).refused == "forbidden"
    assert again(snapshot(tier("fast", KEYLESS)), record)["reproduced"] is False


def test_circumstances_change_availability_and_nothing_else() -> None:
    """Everywhere in the catalog alike."""
    moved = under(BOTH, {"openai": "no key"})
    assert moved.deployments["openai/large"].provider.unavailable == "no key"
    assert moved.deployments["groq/small"].provider.unavailable is None
    for target in (moved.targets["fast"], moved.targets["fast@groq"], moved.targets["large"]):
        by_name = {d.provider.name: d.provider.unavailable for d in target.tier.deployments}
        assert by_name.get("openai") in (None, "no key") and by_name.get("groq") is None
    assert moved.targets["fast"].tier is moved.tiers["fast"]
    assert circumstances(under(moved, {})) == circumstances(BOTH)
    assert circumstances(moved) != circumstances(BOTH)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"a":1}', b"\xff"])
def test_what_are_no_circumstances_is_refused(text: bytes) -> None:
    """A damaged value is told apart."""
    with pytest.raises(ValueError, match="not a list of unavailable providers"):
        read(text)


def test_old_records_are_still_read() -> None:
    """Fields were added at the end."""
    _, record = recorded()
    whole = decode(record)
    assert isinstance(whole, Record)
    shortened = msgspec.json.encode(msgspec.json.decode(record)[:9])
    assert decode(shortened).order == whole.order
    assert decode(shortened).circumstances == ""


async def test_many_batches_are_written_together(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a minute with one command, up to so many; none is left out nor written to another minute."""
    monkeypatch.setattr("gateway.routing.decisions._BATCH", 1)
    monkeypatch.setattr("gateway.routing.decisions._WRITTEN_TOGETHER", 3)
    decisions = Decisions(store, kept_hours=1)
    kept = dict(recorded(at=NOW + 60 * minute) for minute in (0, 0, 0, 0, 1, 0, 1, 1, 2))
    for request_id, record in kept.items():
        decisions.record(request_id, decode(record))
    await decisions.flush()
    for request_id, record in kept.items():
        assert await decisions.find(request_id, "main") == decode(record)
    assert await listed(decisions, NOW, NOW + 200) == set(kept)
    assert [await store.hlen(f"{{decisions}}:{int(NOW) // 60 + minute}") for minute in range(3)] == [5, 3, 1]

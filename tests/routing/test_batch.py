"""Decision records of many requests, kept together: each comes back as if it were kept alone."""

from __future__ import annotations

import random
import zlib
from itertools import product
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import NOW, deployment, needs, price, snapshot, tier

from gateway.ledger.attempt import new_request_id
from gateway.routing.batch import Decided, Whole, minute_of, packed, unpacked
from gateway.routing.decision import Record, recorded
from gateway.routing.plan import Planner
from gateway.types import Facts, Health, Options, Override, Stats

CHEAP = deployment("groq/small", price(0.1, 0.2), model={"input_tokens": 8_000})
DEAR = deployment("openai/large", price(5, 25))
LOW = {"step_down": {"when": "budget_left < 20%", "to": "fast"}}
PLANNERS = [
    Planner(
        snapshot(
            tier("fast", CHEAP, DEAR, policy=["healthy", "random"]),
            tier("smart", DEAR, CHEAP, policy=[LOW, "cheapest"], overrides=(Override("tag:a=b", (CHEAP, DEAR)),)),
            version=version,
        )
    )
    for version in ("0123456789ab", "ba9876543210")
]
PLAIN = Options()
CHANCE = random.Random(1)


def decided(
    planner: Planner = PLANNERS[0],
    alias: str = "fast",
    options: Options = PLAIN,
    tenant: str = "main",
    **facts: Any,
) -> Decided:
    """A plan for a request of its own length."""
    known = Facts(**{"now": NOW + CHANCE.random(), "seed": CHANCE.getrandbits(32)} | facts)
    target, wanted = planner.snapshot.targets[alias], needs(input_tokens=CHANCE.randint(1, 5_000), output_tokens=100)
    plan = planner.plan(alias, target, wanted, options, known, explain=options.explain)
    return Decided(new_request_id(known.now, CHANCE), planner, target, wanted, options, known, plan, tenant)


def alone(one: Decided | Whole) -> Record:
    """Its record, as it was made for it alone."""
    if isinstance(one, Whole):
        return one.record
    made = recorded(
        one.planner,
        one.target,
        one.needs,
        one.options,
        one.facts,
        one.plan,
        explained=one.options.explain,
        tenant=one.tenant,
    )
    return msgspec.json.decode(msgspec.json.encode(made), type=Record)


def read(kept: list[Decided | Whole]) -> dict[str, Record]:
    return {whole.id: whole.record for batch in packed(kept) for whole in unpacked(batch.data)}


STATS = {DEAR.name: Stats(0.1, 1 / 3, 0.01, 300.5, 20), "far/away": Stats(1, 1, 0, 1, 1)}
DIFFERENT: dict[str, list[Any]] = {
    "planner": PLANNERS,
    "alias": ["fast", "smart", "smart@groq"],
    "tenant": ["main", "other"],
    "options": [PLAIN, Options(tags=(("a", "b"),)), Options(session="theirs"), Options(explain=True)],
    "health": [{}, {CHEAP.name: Health("open", NOW + 5, "5 failures in a row")}],
    "stats": [{}, STATS],
    "budget_left_share": [None, 0.1, 0.9],
    "priced_only": [False, True],
    "allowed_models": [None, frozenset({"large", "small", "elsewhere"})],
    "sticky": [None, DEAR.name],
    "labels": [frozenset(), frozenset({"key:k"})],
    "subject": [None, 7],
    "stopped": [frozenset(), frozenset({"x"})],
}


@given(
    st.lists(st.fixed_dictionaries({name: st.sampled_from(values) for name, values in DIFFERENT.items()}), min_size=1)
)
def test_every_record_comes_back_exactly(made: list[dict[str, Any]]) -> None:
    """Whatever its neighbours were made from."""
    kept: list[Decided | Whole] = [decided(**one) for one in made]
    kept.append(Whole("req_" + "0" * 32, alone(kept[0])))
    assert read(kept) == {one.id: alone(one) for one in kept}


def test_each_difference_alone_comes_back() -> None:
    """Beside records that differ in nothing else, before and behind."""
    for name, value in ((name, value) for name, values in DIFFERENT.items() for value in values):
        kept: list[Decided | Whole] = [decided(), decided(**{name: value}), decided(), decided(**{name: value})]
        assert read(kept) == {one.id: alone(one) for one in kept}, name


def test_alike_requests_share_one_record() -> None:
    """Of all others only what is their own is kept; of each order the plan came to, one whole record."""
    kept: list[Decided | Whole] = [
        decided(stats=STATS, sticky=sticky) for sticky in (None, DEAR.name) for _ in range(100)
    ]
    (batch,) = packed(kept)
    lines = [msgspec.json.decode(line) for line in zlib.decompress(batch.data).splitlines()]
    wholes = [line for line in lines if len(line) == 2]
    assert sorted(whole[1][7] for whole in wholes) == [[CHEAP.name, DEAR.name], [DEAR.name, CHEAP.name]]
    assert (len(lines), batch.count) == (200, 200)
    assert len(batch.data) < 200 * 50


def test_records_are_kept_by_the_minute_of_their_requests() -> None:
    """So that a reader finds them by it; each part stands alone."""
    kept: list[Decided | Whole] = [decided(now=NOW + 60 * minute) for minute, _ in product((0, 2, 1), range(5))]
    CHANCE.shuffle(kept)
    batches = packed(kept)
    assert [batch.count for batch in batches] == [5, 5, 5]
    for batch in batches:
        ids = [whole.id for whole in unpacked(batch.data)]
        assert {minute_of(name) for name in ids} == {batch.minute}
        assert batch.span == f"{min(ids)} {max(ids)}"
    assert read(kept) == {one.id: alone(one) for one in kept}


def test_batches_of_whole_records_alone_are_read() -> None:
    """As they were kept before."""
    one = decided(stats=STATS)
    old = zlib.compress(b"\n".join([msgspec.json.encode((name, alone(one))) for name in ("req_1", "req_2")]))
    assert [(whole.id, whole.record) for whole in unpacked(old)] == [("req_1", alone(one)), ("req_2", alone(one))]
    assert list(unpacked(None)) == []

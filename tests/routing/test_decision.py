"""Decision records: enough to make the same plan again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import NOW, deployment, needs, price, snapshot, tier

from gateway.routing import decision
from gateway.routing.plan import Planner
from gateway.types import Capability, Facts, Health, Options, Override, Plan, Stats

CHEAP = deployment("groq/small", price(0.1, 0.2))
DEAR = deployment("anthropic/large", price(5, 25))
LOW = {"step_down": {"when": "budget_left < 20%", "to": "fast"}}
CATALOG = snapshot(
    tier("fast", DEAR, CHEAP, policy=["healthy", "balanced", "weighted"]),
    tier("smart", DEAR, policy=[LOW, "cheapest"], overrides=(Override("tag:team=x", (CHEAP, DEAR)),)),
)
FACTS = Facts(
    now=NOW + 0.1234567,
    seed=2**63,
    health={"groq/small": Health("open", NOW + 5.25, "5 failures in a row"), "far/away": Health("open")},
    stats={"anthropic/large": Stats(0.1, 1 / 3, 0.01, 300.5, 20), "far/away": Stats(1, 1, 0, 1, 1)},
    budget_left_share=0.123,
    priced_only=True,
    allowed_tiers=frozenset({"fast", "smart"}),
    allowed_models=frozenset({"large", "small", "elsewhere"}),
    sticky="anthropic/large",
    labels=frozenset({"key:k"}),
)
OPTIONS = Options(
    require=Capability.STREAMING.bit, prefer_provider="groq", policy="cheapest", max_cost_nano=10**9, tags=(("a", "b"),)
)


def recorded(alias: str, options: Options, facts: Facts, *, explain: bool) -> tuple[Plan, bytes]:
    """A plan and its record."""
    target, wanted = CATALOG.targets[alias], needs(Capability.STREAMING, input_tokens=1234, output_tokens=50)
    made = Planner(CATALOG).plan(alias, target, wanted, options, facts, explain=explain)
    record = decision.recorded(Planner(CATALOG), target, wanted, options, facts, made, explained=explain)
    return made, decision.encode(record)


@pytest.mark.parametrize("alias", ["fast", "fast@anthropic", "smart", "large", "anthropic/large"])
@pytest.mark.parametrize("explain", [False, True])
def test_replaying_a_record_gives_the_same_plan(alias: str, explain: bool) -> None:
    """Candidates, costs, drops, reasons and steps."""
    made, data = recorded(alias, OPTIONS, FACTS, explain=explain)
    assert decision.replay(decision.decode(data), CATALOG) == made


def test_an_explanation_can_be_asked_for_later() -> None:
    """The same candidates, now with every reason."""
    made, data = recorded("fast", OPTIONS, FACTS, explain=False)
    again = decision.replay(decision.decode(data), CATALOG, explain=True)
    assert made.dropped == ()
    assert again.candidates == made.candidates
    assert [drop.rule for drop in again.dropped] == ["healthy"]


@given(
    seed=st.integers(0, 2**64),
    now=st.floats(NOW, NOW + 1e6),
    share=st.one_of(st.none(), st.floats(0, 1)),
    stats=st.dictionaries(
        st.sampled_from([CHEAP.name, DEAR.name]),
        st.builds(Stats, *(st.floats(0, 1e6) for _ in range(4)), st.integers(0, 10**6)),
    ),
    tags=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
)
def test_any_facts_survive_the_record(
    seed: int, now: float, share: float | None, stats: dict[str, Stats], tags: tuple[tuple[str, str], ...]
) -> None:
    """Numbers come back exactly, so chance and balance come out the same."""
    facts = Facts(now, seed=seed, stats=stats, budget_left_share=share)
    made, data = recorded("smart", Options(tags=tags), facts, explain=True)
    assert decision.replay(decision.decode(data), CATALOG) == made


def test_a_record_tells_the_order_and_keeps_to_its_subject() -> None:
    """It is small: nothing of deployments and models that the plan was not about."""
    _, data = recorded("fast", OPTIONS, FACTS, explain=True)
    record = decision.decode(data)
    assert (record.catalog, record.alias, record.tier) == (CATALOG.version, "fast", "fast")
    assert record.order == ["anthropic/large"]
    assert [(drop.deployment, drop.rule) for drop in record.dropped] == [("groq/small", "healthy")]
    assert b"far/away" not in data
    assert b"elsewhere" not in data
    assert len(data) < 700


def test_another_version_is_refused() -> None:
    """A plan can be made again only from the catalog that it was made from."""
    _, data = recorded("fast", OPTIONS, FACTS, explain=False)
    other = snapshot(tier("fast", DEAR), version="ba9876543210")
    with pytest.raises(ValueError, match="made from catalog 0123456789ab, not from ba9876543210"):
        decision.replay(decision.decode(data), other)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", msgspec.json.encode(["x"] * 20), b"\xff"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    """A damaged record is told apart."""
    with pytest.raises(ValueError, match="not a decision record"):
        decision.decode(data)

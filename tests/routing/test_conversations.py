"""Conversations stay on the model they began on, in plans and in what is remembered after an answer."""

from __future__ import annotations

import pytest
from made_catalogs import NOW, deployment, plan, price, snapshot, tier

from gateway.catalog.snapshot import Snapshot
from gateway.routing.conversations import Conversations
from gateway.types import Deployment, Health, Options, Plan

CHEAP = deployment("groq/small", price(0.1, 0.2))
DEAR = deployment("openai/large", price(5, 25))
DEAR_TOO = deployment("azure/large", price(6, 30))
HEIR = deployment("openai/heir", price(9, 9))


def order(made: Plan) -> list[str]:
    return [candidate.deployment.name for candidate in made.candidates]


def large(status: str) -> Deployment:
    return deployment("openai/large", price(5, 25), model={"status": status, "replacement": "heir"})


def test_a_session_keeps_its_model_whatever_it_costs() -> None:
    """Its deployment first, then the model's others, then the tier's order; without a session the cheapest leads."""
    fast = tier("fast", CHEAP, DEAR_TOO, DEAR)
    assert order(plan(fast)) == ["groq/small", "openai/large", "azure/large"]
    assert order(plan(fast, sticky="openai/large")) == ["openai/large", "azure/large", "groq/small"]
    assert order(plan(fast, sticky="azure/large")) == ["azure/large", "openai/large", "groq/small"]


def test_an_outage_moves_a_session_only_for_its_time() -> None:
    """Another deployment of the same model is nearer than another model."""
    fast = tier("fast", CHEAP, DEAR_TOO, DEAR)
    down = {"openai/large": Health("open", NOW + 5)}
    assert order(plan(fast, sticky="openai/large", health=down)) == ["azure/large", "groq/small"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("enabled", ["openai/large", "groq/small", "openai/heir"]),
        ("deprecated", ["openai/heir", "openai/large", "groq/small"]),
        ("disabled", ["openai/heir", "groq/small"]),
        ("retired", ["openai/heir", "groq/small"]),
    ],
)
def test_a_model_out_of_use_is_followed_by_its_replacement(status: str, expected: list[str]) -> None:
    """While it is enabled it stays; then its conversations go where the catalog sends them."""
    assert order(plan(tier("fast", CHEAP, large(status), HEIR), sticky="openai/large")) == expected


def test_replacements_are_followed_to_the_one_in_use() -> None:
    """The replacement may have been replaced."""
    middle = deployment("openai/middle", price(1, 1), model={"status": "retired", "replacement": "heir"})
    gone = deployment("openai/large", price(5, 25), model={"status": "retired", "replacement": "middle"})
    assert order(plan(tier("fast", CHEAP, gone, middle, HEIR), sticky="openai/large"))[0] == "openai/heir"


@pytest.mark.parametrize("sticky", ["openai/vanished", "nonsense", ""])
def test_a_session_of_an_unknown_model_is_as_good_as_new(sticky: str) -> None:
    """The store may remember what the catalog does not have any more."""
    assert order(plan(tier("fast", DEAR, CHEAP), sticky=sticky)) == ["groq/small", "openai/large"]


def test_a_deployment_that_moved_keeps_its_model() -> None:
    """The model is served elsewhere now."""
    assert order(plan(tier("fast", DEAR_TOO, CHEAP), sticky="openai/large"))[0] == "azure/large"


def test_what_the_caller_asks_for_now_decides() -> None:
    """A provider or policy named in this request comes before the session."""
    fast = tier("fast", CHEAP, DEAR)
    assert order(plan(fast, "fast@groq", sticky="openai/large"))[0] == "groq/small"
    assert order(plan(fast, options=Options(policy="cheapest"), sticky="openai/large"))[0] == "groq/small"


def test_a_tier_with_sticky_weighs_the_cost() -> None:
    """There the warm prompt must pay; here it has no price of its own, so nothing is known to be won."""
    assert order(plan(tier("fast", CHEAP, DEAR, policy=["cheapest", "sticky"]), sticky=DEAR.name))[0] == "groq/small"


def test_explanations_name_the_session() -> None:
    """Whoever reads the plan sees why the dear one leads."""
    steps = plan(tier("fast", CHEAP, DEAR), sticky=DEAR.name, explain=True).steps
    assert "session: order is now openai/large, groq/small" in steps


def kept(catalog: Snapshot, sticky: str | None, answered: str) -> str:
    return Conversations(catalog).goes_on(catalog.tiers["fast"], sticky, catalog.deployments[answered])


def test_the_first_answer_begins_a_session() -> None:
    """Whoever gave it; and a move within the model is a move."""
    catalog = snapshot(tier("fast", CHEAP, DEAR, DEAR_TOO))
    assert kept(catalog, None, "groq/small") == "groq/small"


def test_another_model_that_helped_out_does_not_take_over() -> None:
    """The conversation returns to the model that it began on."""
    catalog = snapshot(tier("fast", CHEAP, DEAR))
    assert kept(catalog, "openai/large", "groq/small") == "openai/large"


def test_the_replacement_takes_over() -> None:
    """Likewise where the tier lost the model."""
    replaced = snapshot(tier("fast", CHEAP, large("deprecated"), HEIR))
    lost = snapshot(tier("fast", CHEAP), tier("smart", DEAR))
    assert kept(replaced, "openai/large", "openai/heir") == "openai/heir"
    assert kept(lost, "openai/large", "groq/small") == "groq/small"


def test_in_a_tier_with_sticky_the_last_answer_counts() -> None:
    """That is where the prompt is warm."""
    catalog = snapshot(tier("fast", CHEAP, DEAR, policy=["cheapest", "sticky"]))
    assert kept(catalog, "openai/large", "groq/small") == "groq/small"

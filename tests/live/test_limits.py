"""Budgets and rates beyond keys, and what one request may cost, on a running gateway."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from running import RunningGateway, running_gateway
from talk import admin, chat, key_with


@pytest.fixture(scope="module")
def limited(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway of its own: budgets of the tenant would be everyone's."""
    folder: Path = tmp_path_factory.mktemp("limited")
    tiers = {"fast": ["quick"], "smart": ["clever"], "narrow": ["thin", "wide"], "brief": ["short"]}
    models = {"thin": {"deployments": [{"provider": "thin", "id": "x", "rpm": 1}]}}
    fields = {"brief": {"min_output_tokens": 50, "params": {"max_tokens": 700}}}
    catalog = catalog_for(fake, folder / "catalog.yaml", tiers, models=models, tier_fields=fields)
    with running_gateway(folder, catalog=catalog) as running:
        yield running


def set_budget(gateway: RunningGateway, **fields: object) -> None:
    assert admin(gateway, "/budgets", fields, method="POST").status == 200


def test_a_teams_budget_refuses_every_key_of_the_team(limited: RunningGateway) -> None:
    """Within five seconds of being set, and nobody else's."""
    mine, theirs = key_with(limited, team="red"), key_with(limited, team="blue")
    set_budget(limited, id="red", of="team", name="red", usd="0")
    bearer = {"authorization": f"Bearer {mine}"}
    refused = eventually(lambda: (a := chat(limited, "fast", headers=bearer, max_tokens=5)).status == 429 and a)
    assert "The team's budget of $0.00 per month" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    other = chat(limited, "fast", headers={"authorization": f"Bearer {theirs}"}, max_tokens=5)
    assert (other.status, "x-gateway-limits-mode" in other.headers) == (200, False)


def test_a_tiers_rate_holds_for_the_tier_alone(limited: RunningGateway) -> None:
    """Callers without limits of their own included; the headers tell what is left."""
    set_budget(limited, id="smart-rate", of="tier", name="smart", rpm=2)
    told = eventually(lambda: (a := chat(limited, "smart")).headers.get("x-ratelimit-limit-requests") == "2" and a)
    assert (told.headers["x-ratelimit-remaining-requests"], told.headers["x-gateway-limits-mode"]) == ("1", "exact")
    assert [chat(limited, "smart").status for _ in range(2)] == [200, 429]
    assert chat(limited, "fast").status == 200


def test_sessions_have_budgets_of_their_own(limited: RunningGateway) -> None:
    """The one that is spent is refused, the next one is served."""
    set_budget(limited, id="sessions", of="session", usd="0.0003", per="day")

    def ask(session: str) -> int:
        return chat(limited, "fast", headers={"x-gateway-session": session}, max_tokens=3).status

    eventually(lambda: ask("a") == 429)
    assert ask("b") == 200
    assert chat(limited, "fast", max_tokens=3).status == 200
    assert admin(limited, "/budgets/sessions", method="DELETE").status == 200


def test_a_deployment_at_its_rate_gives_way_to_the_next(limited: RunningGateway) -> None:
    """The caller sees none of it."""
    answers = [chat(limited, "narrow") for _ in range(3)]
    assert [a.status for a in answers] == [200] * 3
    served = [a.headers["x-gateway-deployment"].partition("/")[0] for a in answers]
    assert served == ["thin", "wide", "wide"]


def test_what_a_request_may_cost_caps_its_answer(limited: RunningGateway, fake: FakeProvider) -> None:
    """Under the caller's own cap or without one; at $1 in and $2 out for a million tokens."""
    before = len(fake.seen("quick"))
    assert chat(limited, "fast", headers={"x-gateway-max-cost-usd": "0.001"}).status == 200
    assert chat(limited, "fast", headers={"x-gateway-max-cost-usd": "0.001"}, max_tokens=20).status == 200
    uncapped, capped = (seen.body for seen in fake.seen("quick")[before:])
    assert 400 < uncapped["max_tokens"] <= 500
    assert capped["max_tokens"] == 20
    refused = chat(limited, "fast", headers={"x-gateway-max-cost-usd": "0.00002"})
    assert refused.status == 400
    assert len(fake.seen("quick")) == before + 2


def test_a_budget_caps_the_answer_as_long_as_that_is_of_use(limited: RunningGateway, fake: FakeProvider) -> None:
    """The tier says how short an answer may become and what caps it usually; each cap that is held is sent upstream."""
    key = key_with(limited, budget={"usd": "0.0009", "per": "total"})
    bearer = {"authorization": f"Bearer {key}"}

    def sent(**fields: object) -> dict[str, Any]:
        assert chat(limited, "brief", headers=bearer, **fields).status == 200
        body: dict[str, Any] = fake.seen("short")[-1].body
        return body

    affords = sent()["max_tokens"]  # at $2 for a million tokens, less the prompt's bound
    assert 300 < affords < 450
    assert sent(max_tokens=100)["max_tokens"] == 100
    shortened = sent(max_completion_tokens=16_000)
    assert affords - 60 < shortened["max_completion_tokens"] < affords
    assert "max_tokens" not in shortened
    rich = {"authorization": f"Bearer {key_with(limited, budget={'usd': '1', 'per': 'total'})}"}
    assert chat(limited, "brief", headers=rich).status == 200
    assert fake.seen("short")[-1].body["max_tokens"] == 700
    before = len(fake.seen("short"))
    poor = {"authorization": f"Bearer {key_with(limited, budget={'usd': '0.0002', 'per': 'total'})}"}
    refused = chat(limited, "brief", headers=poor)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert "with 50 tokens of answer" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert len(fake.seen("short")) == before


def test_a_whole_answer_tells_what_is_left_after_its_own_cost(limited: RunningGateway) -> None:
    """Not after its hold, which may be all that there is: $0.002 would not cover an answer of full length."""
    key = key_with(limited, budget={"usd": "0.002", "per": "day", "hard": True})
    spent = Decimal(0)
    for _ in range(3):
        answer = chat(limited, "fast", headers={"authorization": f"Bearer {key}"}, max_tokens=900)
        assert answer.status == 200, answer.raw
        spent += Decimal(answer.headers["x-gateway-cost-usd"])
        left = Decimal(answer.headers["x-gateway-budget"].rpartition("left_usd=")[2])
        assert left == Decimal("0.002") - spent

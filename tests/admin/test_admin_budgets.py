"""Budgets over the admin API."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.callers.rules import RuleRecords

PATH = "/admin/api/budgets"
TEAM = {"id": "search", "of": "team", "name": "search", "usd": "500.5"}


async def test_a_budget_is_set_listed_and_deleted(admin: Any, store: Redis) -> None:
    """With what its period holds; setting it again replaces it."""
    assert (await admin("POST", PATH, TEAM)).status == 200
    await store.hset("{t:main}:b:r-search:202611", mapping={"post": 1_500_000_000, "res": 7})
    (shown,) = (await admin("GET", PATH)).json["data"]
    assert (shown["usd"], shown["per"], shown["hard"], shown["spent_usd"], shown["held_usd"]) == (
        *("500.50", "month", True),
        *("1.50", "0.000000007"),
    )
    changed = {**TEAM, "usd": "1", "hard": False, "on_store_down": "local", "rpm": 5, "rates_on_store_down": "deny"}
    await admin("POST", PATH, changed)
    (rule,) = await RuleRecords(store).all("main")
    assert (rule.limit_nano, rule.hard, rule.on_store_down) == (10**9, False, "local")
    assert (rule.rpm, rule.rates_on_store_down) == (5, "deny")
    assert (await admin("DELETE", f"{PATH}/search")).status == 200
    assert (await admin("DELETE", f"{PATH}/search")).status == 404
    said = [(entry["action"], entry["outcome"]) for entry in (await admin("GET", "/admin/api/audit")).json["data"]]
    assert said.count(("budget.set", "done")) == 2
    assert said[:3] == [("budget.delete", outcome) for outcome in ("failed", "done", "done")]


@pytest.mark.parametrize(
    ("tier", "warnings"), [("fast", []), ("fsat", ["the catalog has no tier 'fsat'; did you mean 'fast'?"])]
)
async def test_a_budget_of_a_tier_that_there_is_not_is_warned_of(admin: Any, tier: str, warnings: list[str]) -> None:
    """It would hold nobody to anything."""
    made = await admin("POST", PATH, {**TEAM, "of": "tier", "name": tier})
    assert (made.status, made.json["warnings"]) == (200, warnings)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "Search!"},
        {"of": "tenant"},
        {"of": "tag"},
        {"name": ""},
        {"usd": "-1"},
        {"usd": None},
        {"of": "session", "name": "", "per": "total"},
        {"colour": "red"},
    ],
)
async def test_a_budget_that_means_nothing_is_refused(admin: Any, store: Redis, change: dict[str, Any]) -> None:
    """And nothing is written."""
    assert (await admin("POST", PATH, {**TEAM, **change})).status == 400
    assert await RuleRecords(store).all("main") == []


async def test_who_is_limited_sets_no_limits(admin: Any) -> None:
    """Neither an admin with limits of its own nor another role."""
    limited, _ = await admin.key(role="admin", rpm=5)
    finance, _ = await admin.key(role="finance")
    for token in (limited, finance):
        assert (await admin("POST", PATH, TEAM, token=token)).status == 403
        assert (await admin("DELETE", f"{PATH}/x", token=token)).status == 403

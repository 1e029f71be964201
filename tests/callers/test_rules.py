"""Budgets and rates beyond keys: who falls under which, and how they come from the store."""

from __future__ import annotations

from typing import Any

import pytest
from books import until
from redis.asyncio import Redis

from gateway.callers.caller import Caller
from gateway.callers.roles import Role
from gateway.callers.rules import Rule, RuleRecords, Rules, RuleSet
from gateway.errors import GatewayUnavailable
from gateway.ledger.limits import Budget, Cap, Limits


def caller(**fields: Any) -> Caller:
    return Caller("main", "k1", "a key", Role.APP, **fields)


def of(
    rules: RuleSet, who: Caller, tier: str | None = "fast", session: str | None = None, **rest: Any
) -> Limits | None:
    return rules.of_request(who, tier, session, rest.get("tags", ()))


def ids(limits: Limits | None) -> list[str]:
    return [] if limits is None else [b.id for b in limits.budgets]


def test_without_rules_a_callers_own_limits_are_all() -> None:
    """And who has none is not limited."""
    limits = Limits("main", rpm=(Cap("k:k1", 5),))
    assert of(RuleSet([]), caller(limits=limits)) is limits
    assert of(RuleSet([]), caller()) is None


def test_a_request_falls_under_the_union() -> None:
    """Key, tenant, team, tags, tier: each that names it, and no other."""
    rules = RuleSet(
        [
            Rule(id="all", of="tenant", limit_nano=1),
            Rule(id="mine", of="team", name="search", limit_nano=2, per="day", hard=False),
            Rule(id="theirs", of="team", name="ads", limit_nano=3),
            Rule(id="prod", of="tag", name="env=prod", limit_nano=4),
            Rule(id="dev", of="tag", name="env=dev", limit_nano=5),
            Rule(id="quick", of="tier", name="fast", limit_nano=6),
            Rule(id="smart", of="tier", name="smart", limit_nano=7),
        ]
    )
    own = Limits("main", budgets=(Budget("k1-day", 9, "day"),), record="a record")
    who = caller(limits=own, team="search", tags=(("env", "prod"),))
    limits = of(rules, who)
    assert ids(limits) == ["k1-day", "r-all", "r-mine", "r-prod", "r-quick"]
    assert limits is not None and limits.record == "a record"
    assert [(b.limit_nano, b.per, b.hard, b.scope) for b in limits.budgets[2:3]] == [(2, "day", False, "team")]
    assert ids(of(rules, who, "smart")) == ["k1-day", "r-all", "r-mine", "r-prod", "r-smart"]
    assert ids(of(rules, caller(), None)) == ["r-all"]


def test_a_requests_own_tags_count_besides_those_of_its_key() -> None:
    """Nobody leaves a budget by sending other tags."""
    rules = RuleSet([Rule(id=v, of="tag", name=f"env={v}", limit_nano=1) for v in ("prod", "dev")])
    who = caller(tags=(("env", "prod"),))
    assert ids(of(rules, who, tags=(("env", "dev"),))) == ["r-prod", "r-dev"]
    assert ids(of(rules, who, tags=(("env", "prod"),))) == ["r-prod"]


def test_each_session_has_a_budget_of_its_own() -> None:
    """Told apart by key and name, and never by the name in clear."""
    rules = RuleSet([Rule(id="s", of="session", limit_nano=1, rpm=3)])
    (one,), (two,), (other,) = (
        ids(of(rules, who, session=session))
        for who, session in (
            (caller(), "a"),
            (caller(), "b"),
            (Caller("main", "k2", "x", Role.APP), "a"),
        )
    )
    assert len({one, two, other}) == 3
    assert of(rules, caller()) is None
    limits = of(rules, caller(), session="secret name")
    assert limits is not None and limits.rpm[0].limit == 3 and "secret" not in limits.rpm[0].scope


@pytest.mark.parametrize("limit", ["limit_nano", "rpm", "tpm", "concurrency"])
def test_sessions_are_quickly_told_apart(limit: str) -> None:
    """Much is remembered by the limits of a request: those of sessions must not all be alike in their hash."""
    rule: dict[str, Any] = {limit: 3}
    rules = RuleSet([Rule(id="t", of="tenant", limit_nano=9, rpm=9), Rule(id="s", of="session", **rule)])
    assert len({hash(of(rules, caller(), session=f"s{n}")) for n in range(100)}) == 100


def test_rates_of_key_and_subject_add_up() -> None:
    """Each is counted apart."""
    rules = RuleSet([Rule(id="t", of="team", name="search", rpm=10, tpm=1_000, concurrency=2)])
    own = Limits("main", rpm=(Cap("k:k1", 5),))
    limits = of(rules, caller(team="search", limits=own))
    assert limits is not None
    assert (limits.rpm, limits.tpm, limits.concurrency) == (
        (Cap("k:k1", 5), Cap("r:t", 10)),
        (Cap("r:t", 1_000),),
        (Cap("r:t", 2),),
    )


async def test_rules_are_read_once_and_then_in_the_background(store: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change holds soon, without any request asking."""
    monkeypatch.setattr("gateway.callers.rules.REFRESH_S", 0.02)
    records = RuleRecords(store)
    rules = Rules(records)
    await rules.start()
    try:
        before = await rules.of("main")
        assert before.rules == () and rules.known("other") is None
        rule = Rule(id="all", of="tenant", limit_nano=1)
        await records.write("main", rule)
        await until(lambda: (rules.known("main") or before).rules == (rule,))
        assert (await rules.of("other")).rules == ()
        assert await records.delete("main", "all")
        assert not await records.delete("main", "all")
        await until(lambda: not (rules.known("main") or before).rules)
    finally:
        await rules.close()


async def test_unknown_rules_and_no_store_is_no_answer(store: Redis) -> None:
    """A hard budget is never overlooked because it could not be asked for."""

    class Away:
        async def execute_command(self, *_: object) -> object:
            raise ConnectionError

    with pytest.raises(GatewayUnavailable):
        await Rules(RuleRecords(Away())).of("main")  # type: ignore[arg-type]

"""What each limit's policy lets through while the store is away."""

from __future__ import annotations

from typing import Any

import pytest
from books import HOLD, attempt
from clocks import SetClock

from gateway.ledger.attempt import Attempt
from gateway.ledger.limits import Budget, Cap, Limits, OnStoreDown, window
from gateway.ledger.outage import Outage

SHARE = 0.05


def limits(tenant: str = "main", *, budgets: tuple[Budget, ...] = (), **caps: tuple[Cap, ...]) -> Limits:
    return Limits(tenant, budgets, **caps)


def lent(
    outage: Outage, what: Limits, known: dict[tuple[str, str], tuple[int, int]] | None = None, **changes: Any
) -> tuple[str | None, Attempt]:
    """How a fresh attempt of `HOLD` at worst goes on."""
    a = attempt(tenant=what.tenant, **changes)
    a.windows = tuple(window(b, a.at) for b in what.budgets)
    a.hold_nano = HOLD
    return outage.admit(a, what, known or {}), a


def modes(outage: Outage, what: Limits, count: int, **changes: Any) -> list[str | None]:
    return [lent(outage, what, **changes)[0] for _ in range(count)]


def budget(policy: OnStoreDown, nano: int = 100 * HOLD, *, hard: bool = True) -> Budget:
    return Budget("b", nano, "day", hard, on_store_down=policy)


@pytest.mark.parametrize("kind", ["budgets", "rpm", "tpm", "concurrency"])
@pytest.mark.parametrize(("policy", "mode"), [("deny", None), ("allow", "allow"), ("local", "local")])
def test_each_limit_has_its_own_policy(monotonic: SetClock, kind: str, policy: OnStoreDown, mode: str | None) -> None:
    """Beside others that would let everything through; the header names the stricter one."""
    one: Any = budget(policy) if kind == "budgets" else Cap("k:1", 1_000_000, policy)
    given: dict[str, Any] = {
        "budgets": (Budget("other", 10**12, "day", on_store_down="allow"),),
        "rpm": (Cap("k:2", 10),),
        "tpm": (Cap("k:2", 10),),
        "concurrency": (Cap("k:2", 10),),
    }
    given[kind] = (*given[kind], one)
    assert lent(Outage(SHARE, monotonic), limits(**given))[0] == mode


def test_a_soft_budget_denies_nothing(monotonic: SetClock) -> None:
    """It only counts, whatever stands beside it as a policy."""
    what = limits(budgets=(budget("deny", hard=False),), rpm=(Cap("k:1", 1),))
    assert modes(Outage(SHARE, monotonic), what, 3) == ["allow"] * 3


def test_a_share_of_a_budget_is_lent_at_worst_and_given_back_as_used(monotonic: SetClock) -> None:
    """Five hundredths are five attempts at their worst; those that cost less make room for more."""
    outage, what = Outage(SHARE, monotonic), limits(budgets=(budget("local"),))
    first = [lent(outage, what) for _ in range(5)]
    assert [mode for mode, _ in first] == ["local"] * 5
    assert lent(outage, what)[0] is None
    for _, a in first:
        outage.settle(a.aid, HOLD // 5)
        outage.settle(a.aid, HOLD // 5)
    assert modes(outage, what, 5) == ["local"] * 4 + [None]
    outage.over("other")
    assert lent(outage, what)[0] is None
    outage.over("main")
    assert lent(outage, what)[0] == "local"


def test_no_more_is_lent_than_was_left(monotonic: SetClock) -> None:
    """A budget that was spent when the store went away lends nothing."""
    what = limits(budgets=(budget("local"),))
    (counter,) = [window(b, attempt().at).counter for b in what.budgets]
    for known, mode in (((0, 100 * HOLD), None), ((HOLD, 98 * HOLD + 1), None), ((HOLD, 98 * HOLD), "local")):
        assert lent(Outage(SHARE, monotonic), what, {("main", counter): known})[0] == mode


def test_a_share_of_a_rate_fills_up_again(monotonic: SetClock) -> None:
    """Sixty a minute lend three, then one every twenty seconds; a small rate lends one a minute."""
    outage = Outage(SHARE, monotonic)
    sixty, one = limits(rpm=(Cap("k:1", 60, "local"),)), limits(rpm=(Cap("k:2", 3, "local"),))
    assert modes(outage, sixty, 4) == ["local"] * 3 + [None]
    assert modes(outage, one, 2) == ["local", None]
    monotonic.advance(20)
    assert modes(outage, sixty, 2) == ["local", None]
    assert lent(outage, one)[0] is None
    monotonic.advance(40)
    assert modes(outage, one, 2) == ["local", None]


def test_a_share_of_tokens(monotonic: SetClock) -> None:
    """A request that is larger than the share has a whole one to itself."""
    outage, what = Outage(SHARE, monotonic), limits(tpm=(Cap("k:1", 20_000, "local"),))
    assert modes(outage, what, 3, input_tokens=100, output_tokens=400) == ["local", "local", None]
    monotonic.advance(60)
    assert modes(outage, what, 2, output_tokens=90_000) == ["local", None]


def test_a_share_of_requests_at_once(monotonic: SetClock) -> None:
    """Each that ends makes room; what was under way before is not counted."""
    outage, what = Outage(SHARE, monotonic), limits(concurrency=(Cap("k:1", 40, "local"),))
    (_, first), (mode, _), (refused, _) = (lent(outage, what) for _ in range(3))
    assert (mode, refused) == ("local", None)
    outage.settle(first.aid, 5)
    assert modes(outage, what, 2) == ["local", None]
    outage.over("main")
    assert lent(outage, what)[0] is None  # they still run


def test_a_refusal_takes_nothing(monotonic: SetClock) -> None:
    """Of all limits or of none; and tenants have shares of their own, whatever they call their budgets."""
    outage = Outage(SHARE, monotonic)
    tight = limits(budgets=(budget("local"),), rpm=(Cap("k:1", 20, "local"),))
    assert modes(outage, tight, 2) == ["local", None]
    assert modes(outage, limits(budgets=tight.budgets), 5) == ["local"] * 4 + [None]
    assert modes(outage, limits("acme", budgets=tight.budgets), 6) == ["local"] * 5 + [None]

"""Plans: who is tried, in which order, who is not and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import CHAT, NOW, deployment, needs, price, snapshot, tier

from gateway.catalog.snapshot import Snapshot
from gateway.errors import CallerError, GatewayError, Kind, RoutingError
from gateway.routing.plan import Planner
from gateway.types import (
    Candidate,
    Capability,
    Deployment,
    Facts,
    Health,
    Needs,
    Options,
    Override,
    Plan,
    Stats,
    Tier,
    capabilities_of,
)
from policies import compile_chain
from policies.base import Context, Decision
from policies.capability import offered

C = Capability
CHEAP = deployment("groq/small", price(0.1, 0.2))
MIDDLE = deployment("openai/middle", price(1, 2), capabilities=[*CHAT, C.FUNCTION_CALLING])
DEAR = deployment("anthropic/large", price(5, 25), capabilities=[*CHAT, C.FUNCTION_CALLING, C.IMAGE_INPUT])
FAST = tier("fast", DEAR, CHEAP, MIDDLE)


def plan(
    catalog: Snapshot | Tier,
    name: str = "fast",
    wanted: Needs | None = None,
    options: Options | None = None,
    explain: bool = False,
    **facts: Any,
) -> Plan:
    """The plan for a name in a catalog."""
    catalog = snapshot(catalog) if isinstance(catalog, Tier) else catalog
    return Planner(catalog).plan(
        name,
        catalog.targets[name],
        wanted or needs(),
        options or Options(),
        Facts(**{"now": NOW, **facts}),
        explain=explain,
    )


def order(made: Plan) -> list[str]:
    return [candidate.deployment.model.name for candidate in made.candidates]


def test_the_cheapest_capable_one_goes_first() -> None:
    """Those that lack something are not behind the others but absent."""
    assert order(plan(FAST)) == ["small", "middle", "large"]
    assert order(plan(FAST, wanted=needs(C.FUNCTION_CALLING))) == ["middle", "large"]
    assert order(plan(FAST, options=Options(require=C.IMAGE_INPUT.bit))) == ["large"]


def test_candidates_carry_the_expected_cost() -> None:
    """1,000 tokens in and 100 out at $1 and $2 a million."""
    made = plan(FAST, "middle", needs(input_tokens=1000, output_tokens=100))
    assert [c.expected_nano for c in made.candidates] == [1_200_000]


def test_learned_lengths_change_the_expectation() -> None:
    """A model that is known to answer at length is dearer than its prices say."""
    wordy = {CHEAP.name: Stats(1, 1, 0, 100_000, 50)}
    assert order(plan(FAST, stats=wordy)) == ["middle", "large", "small"]


def test_unhealthy_ones_are_left_out() -> None:
    """The rest serves."""
    assert order(plan(FAST, health={CHEAP.name: Health("open", NOW + 5)})) == ["middle", "large"]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fast@anthropic", Options(), ["large", "small", "middle"]),
        ("fast", Options(prefer_provider="openai"), ["middle", "small", "large"]),
        ("fast@anthropic", Options(prefer_provider="openai"), ["middle", "large", "small"]),
        ("fast", Options(policy="ordered"), ["large", "small", "middle"]),
        ("fast", Options(policy="newest", prefer_provider="openai"), ["middle", "small", "large"]),
    ],
)
def test_wishes_reorder_and_never_drop(name: str, options: Options, expected: list[str]) -> None:
    """A preferred provider or policy decides who is first; the others remain to fall back on."""
    assert order(plan(FAST, name, options=options)) == expected


def test_a_wished_policy_leaves_the_tiers_filters_in_force() -> None:
    """Asking for another order does not lead out of the region."""
    eu = tier("fast", replace(CHEAP, region="us"), replace(MIDDLE, region="eu"), policy=[{"region": "eu"}])
    assert order(plan(eu, options=Options(policy="cheapest"))) == ["middle"]


@pytest.mark.parametrize("name", ["fastset", "region", "step_down"])
def test_an_unusable_policy_is_the_callers_error(name: str) -> None:
    """Unknown ones and those that need arguments are refused at their place."""
    with pytest.raises(CallerError, match=r"Invalid value for 'gateway\.policy'") as error:
        plan(FAST, options=Options(policy=name))
    assert error.value.param == "gateway.policy"


def test_healthy_may_be_placed_in_the_chain() -> None:
    """It runs once, where the chain says; without a place, before the chain."""
    placed = plan(tier("fast", CHEAP, policy=["cheapest", "healthy"]), explain=True)
    unplaced = plan(tier("fast", CHEAP, policy=["cheapest"]), explain=True)
    for made, expected in ((placed, ["cheapest", "healthy"]), (unplaced, ["healthy", "cheapest"])):
        assert [s.partition(":")[0] for s in made.steps if s.startswith(("healthy", "cheapest"))] == expected


def test_budgets_use_priced_deployments_only() -> None:
    """What cannot be charged must not be chosen for a caller with a budget."""
    mixed = tier("fast", deployment("local/free"), CHEAP)
    assert order(plan(mixed)) == ["small", "free"]
    assert order(plan(mixed, priced_only=True)) == ["small"]


def test_a_price_takes_effect_at_its_time_in_a_running_gateway() -> None:
    """What is remembered of a catalog ends with the next price row."""
    rising = deployment("openai/rising", price(0.01, 0.01), price(100, 100, from_at=NOW + 10))
    catalog = snapshot(tier("fast", rising, CHEAP))
    planner = Planner(catalog)
    orders = [
        order(planner.plan("fast", catalog.targets["fast"], needs(), Options(), Facts(now)))
        for now in (NOW, NOW + 9.9, NOW + 10, NOW)
    ]
    assert orders == [["rising", "small"], ["rising", "small"], ["small", "rising"], ["rising", "small"]]


def test_stand_ins_serve_only_where_nothing_else_is_usable() -> None:
    """The sandbox answers as long as no provider has a key, and not while one is merely unwell."""
    sandbox = deployment("sandbox/small", price(0, 0))
    no_key = tier("fast", deployment("openai/a", unavailable="no key"), fallback=(sandbox,))
    unwell = tier("fast", deployment("openai/a"), fallback=(sandbox,))
    assert [c.deployment.name for c in plan(no_key).candidates] == ["sandbox/small"]
    assert [c.deployment.name for c in plan(unwell).candidates] == ["openai/a"]
    with pytest.raises(RoutingError):
        plan(unwell, health={"openai/a": Health("open", NOW + 5)})


OVERRIDDEN = tier(
    "fast",
    CHEAP,
    overrides=(Override("key:batch", (MIDDLE,)), Override("tag:team=legal", (DEAR,))),
)


@pytest.mark.parametrize(
    ("labels", "tags", "expected"),
    [
        (frozenset[str](), (), "small"),
        (frozenset({"key:other", "tag:team=art"}), (), "small"),
        (frozenset({"key:batch"}), (), "middle"),
        (frozenset({"tag:team=legal"}), (), "large"),
        (frozenset({"key:batch", "tag:team=legal"}), (), "middle"),
        (frozenset[str](), (("team", "legal"),), "large"),
    ],
)
def test_a_key_or_tag_has_its_own_models_in_a_tier(
    labels: frozenset[str], tags: tuple[tuple[str, str], ...], expected: str
) -> None:
    """The first override that applies counts; tags may come from the key or the request."""
    assert order(plan(OVERRIDDEN, options=Options(tags=tags), labels=labels)) == [expected]


LOW = {"when": "budget_left < 20%", "to": "fast"}
STEPPED = snapshot(tier("smart", DEAR, policy=["healthy", {"step_down": LOW}]), FAST)


@pytest.mark.parametrize(
    ("share", "served"), [(None, "smart"), (1.0, "smart"), (0.2, "smart"), (0.1999, "fast"), (0.0, "fast")]
)
def test_a_low_budget_steps_down(share: float | None, served: str) -> None:
    """The plan names the tier that serves; without a budget nothing is low."""
    made = plan(STEPPED, "smart", budget_left_share=share)
    assert (made.alias, made.tier) == ("smart", served)


def test_steps_down_end_somewhere() -> None:
    """Tiers that name each other do not go round for ever; a step to nowhere is none."""
    back = {"when": "budget_left < 20%", "to": "smart"}
    circle = snapshot(
        tier("smart", DEAR, policy=[{"step_down": LOW}]), tier("fast", CHEAP, policy=[{"step_down": back}])
    )
    nowhere = tier("fast", CHEAP, policy=[{"step_down": {**LOW, "to": "gone"}}])
    assert plan(circle, "smart", budget_left_share=0.1).tier == "fast"
    assert plan(nowhere, budget_left_share=0.1).tier == "fast"


# ----------------------------------------------------------------------------------------------------------- refusals


def refused(*args: Any, **rest: Any) -> GatewayError:
    with pytest.raises(GatewayError) as error:
        plan(*args, **rest)
    return error.value


def test_what_nobody_can_do_is_refused_with_what_each_lacks() -> None:
    """400, naming the needs and the candidates."""
    error = refused(FAST, wanted=needs(C.FUNCTION_CALLING, C.LOGPROBS, input_tokens=2500))
    assert (error.kind, error.status, error.param) == (Kind.NO_CANDIDATE, 400, "model")
    assert "needs function_calling, logprobs for about 2,500 input tokens" in error.message
    assert "openai/middle: lacks logprobs" in error.message
    assert "groq/small: lacks function_calling, logprobs" in error.message
    assert error.details["needs"] == ["function_calling", "logprobs"]
    assert {c["deployment"] for c in error.details["candidates"]} == {CHEAP.name, MIDDLE.name, DEAR.name}


def test_what_nobody_can_do_now_says_when() -> None:
    """503 with the soonest end of those that are capable."""
    health = {
        CHEAP.name: Health("open", NOW + 1),  # not capable, so its end does not matter
        MIDDLE.name: Health("resting", NOW + 9),
        DEAR.name: Health("open", NOW + 7.5, "5 failures in a row"),
    }
    error = refused(FAST, wanted=needs(C.FUNCTION_CALLING), health=health)
    assert (error.kind, error.status, error.retry_after_s) == (Kind.NONE_HEALTHY, 503, 7.5)
    assert "anthropic/large: breaker open (5 failures in a row), for 7.5 s more" in error.message


def test_where_only_room_is_missing_one_comes_back_soon() -> None:
    """A full deployment has no known end."""
    assert refused(FAST, "small", health={CHEAP.name: Health("full")}).retry_after_s == 1.0


def test_a_tier_without_a_usable_provider_is_the_operators_to_mend() -> None:
    """503, and no use in coming back; the reason is told."""
    error = refused(tier("fast", deployment("openai/a", unavailable="no key: set OPENAI_API_KEY")))
    assert (error.kind, error.code, error.retryable) == (Kind.NONE_HEALTHY, "no_usable_deployment", False)
    assert "provider openai cannot be used: no key: set OPENAI_API_KEY" in error.message


def test_a_tier_of_nothing_says_so() -> None:
    """An empty match is no crash."""
    assert "it has no deployment" in refused(tier("fast")).message


def test_long_lists_are_cut() -> None:
    """An error is read by people."""
    error = refused(tier("fast", *(deployment(f"p/m{i}") for i in range(50))), wanted=needs(C.LOGPROBS))
    assert "and 40 more" in error.message
    assert len(error.details["candidates"]) == 10


def test_models_that_a_key_may_not_use_are_not_named() -> None:
    """403 where other rights would help; otherwise the refusal speaks of the allowed ones only."""
    allowed = frozenset({"small"})
    others_could = refused(FAST, wanted=needs(C.FUNCTION_CALLING), allowed_models=allowed)
    nobody_could = refused(FAST, wanted=needs(C.LOGPROBS), allowed_models=allowed)
    assert (others_could.kind, others_could.status) == (Kind.FORBIDDEN, 403)
    assert nobody_could.kind is Kind.NO_CANDIDATE
    assert "groq/small: lacks logprobs" in nobody_could.message
    for error in (others_could, nobody_could):
        assert "large" not in error.message
        assert "large" not in str(error.details)


@pytest.mark.parametrize(
    ("name", "tiers", "models", "permitted"),
    [
        ("fast", frozenset({"fast"}), None, True),
        ("fast@openai", frozenset({"fast"}), None, True),
        ("smart", frozenset({"fast"}), None, False),
        ("large", frozenset({"fast"}), None, False),
        ("anthropic/large", frozenset({"fast"}), None, False),
        ("small", frozenset({"fast"}), None, True),
        ("groq/small", frozenset({"fast"}), None, True),
        ("large", frozenset({"fast"}), frozenset({"large"}), True),
        ("large", frozenset[str](), None, False),
        ("fast", frozenset({"gone"}), None, False),
        ("smart", None, None, True),
    ],
)
def test_a_key_limited_to_tiers_stays_within_them(
    name: str, tiers: frozenset[str] | None, models: frozenset[str] | None, permitted: bool
) -> None:
    """Naming a model does not lead around the tiers: it must be in one of them, or on the key's own list."""
    catalog = snapshot(tier("smart", DEAR), tier("fast", CHEAP, MIDDLE))
    if permitted:
        assert plan(catalog, name, allowed_tiers=tiers, allowed_models=models).candidates
    else:
        assert refused(catalog, name, allowed_tiers=tiers, allowed_models=models).kind is Kind.FORBIDDEN


class Forgetful:
    """A plugin's filter that does not say what it dropped."""

    name = "forgetful"

    def apply(self, candidates: Any, context: Context) -> Decision:
        return Decision(candidates[1:])


def test_a_plugin_that_forgets_reasons_is_named() -> None:
    """Even then every deployment is accounted for."""
    made = plan(Tier("fast", (CHEAP, MIDDLE), (Forgetful(),)), explain=True)
    (drop,) = made.dropped
    assert (drop.deployment, drop.rule, drop.reason) == (CHEAP.name, "forgetful", "dropped without a reason")


# --------------------------------------------------------------------------------------------------------- properties

OFFERED = [C.STREAMING, C.FUNCTION_CALLING, C.STRUCTURED_OUTPUT, C.JSON_MODE, C.IMAGE_INPUT, C.LOGPROBS]
ITEMS = [
    "healthy",
    "cheapest",
    "newest",
    "ordered",
    "default_first",
    "random",
    "weighted",
    "fastest",
    "reliable",
    "balanced",
    "sticky",
    "price_known",
    {"region": "eu"},
    {"max_cost": {"usd": "0.01"}},
    {"prefer_provider": "p1"},
    {"step_down": {"when": "budget_left < 50%", "to": "t1"}},
]
prices = st.builds(price, st.floats(0, 20), st.floats(0, 90), from_at=st.sampled_from([0.0, NOW - 5, NOW + 5]))
models = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["enabled", "enabled", "enabled", "deprecated", "disabled", "retired"]),
        "input_tokens": st.sampled_from([None, 100, 10_000]),
        "output_tokens": st.sampled_from([None, 100, 10_000]),
        "created_at": st.integers(0, 5),
    }
)


@st.composite
def catalogs(draw: st.DrawFn) -> Snapshot:
    """Up to three tiers over up to six deployments of everything."""
    made = [
        deployment(
            f"p{i % 3}/m{i}",
            *sorted(draw(st.lists(prices, max_size=2)), key=lambda row: row.from_at),
            capabilities=draw(st.lists(st.sampled_from(OFFERED), unique=True)),
            unavailable=draw(st.sampled_from([None, None, None, "no key"])),
            model=draw(models),
            region=draw(st.sampled_from([None, "eu", "us"])),
            weight=draw(st.integers(0, 3)),
        )
        for i in range(draw(st.integers(1, 6)))
    ]
    some = st.lists(st.sampled_from(made), max_size=6, unique=True).map(tuple)
    return snapshot(
        *(
            Tier(
                f"t{i}",
                draw(some),
                compile_chain(draw(st.lists(st.sampled_from(ITEMS), max_size=4))),
                default=draw(st.sampled_from([None, "m0", "p1/m1"])),
                fallback=draw(some),
                overrides=tuple(Override(f"tag:a={j}", draw(some)) for j in range(draw(st.integers(0, 2)))),
            )
            for i in range(draw(st.integers(1, 3)))
        )
    )


names = st.sampled_from([f"p{i % 3}/m{i}" for i in range(6)])
healths = st.builds(
    Health, st.sampled_from(["open", "resting", "full"]), st.sampled_from([None, NOW - 1, NOW + 1, NOW + 9])
)
observations = st.builds(
    Stats, st.floats(0, 5000), st.floats(0, 500), st.floats(0, 1), st.floats(0, 5000), st.integers(1, 50)
)
all_facts = st.builds(
    Facts,
    now=st.just(NOW),
    seed=st.integers(0, 2**32),
    health=st.dictionaries(names, healths, max_size=3),
    stats=st.dictionaries(names, observations, max_size=6),
    budget_left_share=st.sampled_from([None, 0.1, 0.9]),
    priced_only=st.booleans(),
    allowed_models=st.one_of(st.none(), st.frozensets(st.sampled_from([f"m{i}" for i in range(6)]))),
    sticky=st.one_of(st.none(), names),
    labels=st.frozensets(st.sampled_from(["tag:a=0", "tag:a=1", "key:k"])),
)
all_needs = st.builds(
    needs,
    *(st.sampled_from(OFFERED) for _ in range(2)),
    input_tokens=st.sampled_from([10, 1000, 50_000]),
    output_tokens=st.sampled_from([None, 50, 5000]),
    choices=st.integers(1, 3),
)
all_options = st.builds(
    Options,
    require=st.sampled_from([0, 0, C.FUNCTION_CALLING.bit]),
    prefer_provider=st.sampled_from([None, "p0", "p2"]),
    policy=st.sampled_from([None, None, "cheapest", "random", "price_known"]),
    max_cost_nano=st.sampled_from([None, None, 1_000_000]),
    tags=st.sampled_from([(), (("a", "1"),)]),
)


def attempt(
    catalog: Snapshot, name: str, wanted: Needs, options: Options, facts: Facts, explain: bool
) -> Plan | tuple[str, str, float | None]:
    """The plan, or what the refusal says."""
    try:
        return Planner(catalog).plan(name, catalog.targets[name], wanted, options, facts, explain=explain)
    except GatewayError as error:
        return error.kind.value, error.message, error.retry_after_s


@given(catalogs(), all_needs, all_options, all_facts, st.data())
def test_plans_keep_their_promises(
    catalog: Snapshot, wanted: Needs, options: Options, facts: Facts, data: st.DataObject
) -> None:
    """Any request to any catalog gets a plan that holds, or a refusal; the same one each time, explained or not."""
    name = data.draw(st.sampled_from(sorted(catalog.targets)))
    made = attempt(catalog, name, wanted, options, facts, True)
    assert made == attempt(catalog, name, wanted, options, facts, True)
    quiet = attempt(catalog, name, wanted, options, facts, False)
    if not isinstance(made, Plan):
        assert made == quiet
        return
    assert isinstance(quiet, Plan)
    assert quiet == replace(made, dropped=(), steps=())
    for candidate in made.candidates:
        promise_holds(candidate, wanted, options, facts)
    served = catalog.tiers[made.tier] if made.tier else catalog.targets[name].tier
    accounted_for(made, served, options, facts)


def promise_holds(candidate: Candidate, wanted: Needs, options: Options, facts: Facts) -> None:
    """A candidate, first or fallback, meets the needs and every limit."""
    made = candidate.deployment
    assert not set(capabilities_of(wanted.mask | options.require)) - set(capabilities_of(offered(made)))
    assert made.provider.unavailable is None
    assert made.model.status in ("enabled", "deprecated")
    assert (made.model.input_tokens or wanted.input_tokens) >= wanted.input_tokens
    assert (made.model.output_tokens or wanted.output_tokens or 0) >= (wanted.output_tokens or 0)
    assert candidate.price is made.price_at(facts.now)
    if facts.priced_only:
        assert candidate.price is not None
    if options.max_cost_nano is not None:
        assert candidate.expected_nano is not None
    if facts.allowed_models is not None:
        assert made.model.name in facts.allowed_models
    against = facts.health.get(made.name)
    assert against is None or (against.until_at is not None and against.until_at <= facts.now)


def accounted_for(made: Plan, served: Tier, options: Options, facts: Facts) -> None:
    """Every deployment of the tier that served is a candidate or is dropped once, with a rule and a reason."""
    labels = facts.labels | {f"tag:{name}={value}" for name, value in options.tags}
    override = next((o.deployments for o in served.overrides if o.label in labels), None)
    listed: tuple[Deployment, ...] = served.deployments if override is None else override
    candidates = [c.deployment.name for c in made.candidates]
    dropped = [d.deployment for d in made.dropped]
    assert all(drop.rule and drop.reason for drop in made.dropped)
    accounted = candidates + dropped
    assert len(set(accounted)) == len(accounted)
    assert {d.name for d in listed} <= set(accounted)
    assert set(accounted) <= {d.name for d in (*listed, *served.fallback)}

"""What holds for every plan, whatever catalog, request and facts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import NOW, deployment, needs, price, snapshot
from msgspec.structs import replace

from gateway.catalog.snapshot import Snapshot
from gateway.errors import GatewayError
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
from policies.capability import offered

C = Capability
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
    healthy_or_last_resort(made, facts)
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


def healthy_or_last_resort(made: Plan, facts: Facts) -> None:
    """No candidate has anything against it, or all of them merely rest and nobody else is left."""
    against = [facts.health.get(candidate.deployment.name) for candidate in made.candidates]
    unwell = [h for h in against if h is not None and (h.until_at is None or h.until_at > facts.now)]
    assert not unwell or (len(unwell) == len(against) and {h.state for h in unwell} == {"resting"})


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

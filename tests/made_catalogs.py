"""Small catalogs made by hand, for tests of routing and policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.catalog.snapshot import Snapshot, Target
from gateway.routing.plan import Planner
from gateway.types import (
    Candidate,
    Capability,
    Deployment,
    Facts,
    Model,
    Needs,
    Options,
    Plan,
    Price,
    Provider,
    Rates,
    Tier,
    mask_of,
)
from policies import compile_chain
from policies.base import Context
from policies.cost import charge

NOW = 1_790_000_000.0
CHAT = (Capability.TEXT_INPUT, Capability.TEXT_OUTPUT, Capability.STREAMING)


def price(input_usd: float, output_usd: float, *, from_at: float = 0.0, **rest: Any) -> Price:
    """A row with these prices for a million tokens."""
    rates = Rates(round(input_usd * 1_000_000), round(output_usd * 1_000_000), **rest.pop("rates", {}))
    return Price(f"{input_usd}/{output_usd}@{from_at:.0f}", from_at, rates, **rest)


def deployment(
    name: str,
    *prices: Price,
    capabilities: Sequence[Capability] = CHAT,
    unavailable: str | None = None,
    model: dict[str, Any] | None = None,
    **rest: Any,
) -> Deployment:
    """`provider/model`, with its own provider and model; `model` overrides fields of the model."""
    provider, _, base = name.partition("/")
    mask = mask_of(tuple(capabilities))
    fields = {"status": "enabled", "input_tokens": None, "output_tokens": None, **(model or {})}
    return Deployment(
        name=name,
        provider=Provider(provider, "openai", "https://example.test/v1", unavailable=unavailable),
        model=Model(name=base.partition("#")[0], display_name=base, capabilities=mask, **fields),
        upstream_id=base,
        prices=prices,
        capabilities=mask,
        **rest,
    )


def tier(name: str, *deployments: Deployment, policy: Sequence[Any] = ("healthy", "cheapest"), **rest: Any) -> Tier:
    """A tier with this chain."""
    return Tier(name, deployments, compile_chain(policy), **rest)


def snapshot(*tiers: Tier, version: str = "0123456789ab") -> Snapshot:
    """A catalog of these tiers, with every tier, `tier@provider`, model and deployment as a target."""
    deployments = {
        d.name: d
        for t in tiers
        for group in (t.deployments, t.fallback, *(override.deployments for override in t.overrides))
        for d in group
    }
    targets: dict[str, Target] = {}
    for d in deployments.values():
        for kind, name in (("model", d.model.name), ("deployment", d.name)):
            alone = Tier(name, (d,), compile_chain(["cheapest"]))
            targets[name] = Target(kind, name, alone, model=d.model)  # type: ignore[arg-type]
    for t in tiers:
        targets[t.name] = Target("tier", t.name, t)
        for d in t.deployments:
            targets[f"{t.name}@{d.provider.name}"] = Target("tier", t.name, t, prefer_provider=d.provider.name)
    return Snapshot(
        version=version,
        providers={d.provider.name: d.provider for d in deployments.values()},
        models={d.model.name: d.model for d in deployments.values()},
        deployments=deployments,
        tiers={t.name: t for t in tiers},
        targets=targets,
    )


def needs(
    *capabilities: Capability, input_tokens: int = 1000, output_tokens: int | None = None, choices: int = 1
) -> Needs:
    """What a request of this size needs."""
    return Needs(mask_of(capabilities), input_tokens, input_tokens * 4, output_tokens, choices)


def context(
    wanted: Needs | None = None, *, options: Options | None = None, tier: Tier | None = None, **facts: Any
) -> Context:
    """What a policy is given."""
    return Context(wanted or needs(), options or Options(), Facts(**{"now": NOW, **facts}), tier)


def candidate(made: Deployment, wanted: Needs | None = None) -> Candidate:
    """The deployment as a candidate, with 256 expected output tokens where the needs give no cap."""
    wanted = wanted or needs()
    row = made.price_at(NOW)
    output_tokens = (256 if wanted.output_tokens is None else wanted.output_tokens) * wanted.choices
    expected_nano = None if row is None else charge(row, wanted.input_tokens, output_tokens, NOW)
    return Candidate(made, row, expected_nano, wanted.input_tokens)


def plan(
    catalog: Snapshot | Tier,
    name: str = "fast",
    wanted: Needs | None = None,
    options: Options | None = None,
    explain: bool = False,
    **facts: Any,
) -> Plan:
    """The plan for a name in a catalog, or in one of just this tier."""
    catalog = snapshot(catalog) if isinstance(catalog, Tier) else catalog
    return Planner(catalog).plan(
        name,
        catalog.targets[name],
        wanted or needs(),
        options or Options(),
        Facts(**{"now": NOW, **facts}),
        explain=explain,
    )

"""Every name that a caller may send, and what it stands for; made once for each catalog version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from gateway.catalog.snapshot import Target
from gateway.types import Deployment, Model, Provider, Tier
from policies import compile_chain

DEFAULT_POLICY = ("healthy", "cheapest")
"""What orders the deployments of a model that was asked for by its own name."""

Served = Mapping[str, tuple[Deployment, ...]]
"""A model's deployments, by the model's name."""


def compile_targets(
    models: Mapping[str, Model],
    served: Served,
    tiers: Mapping[str, Tier],
    aliases: Mapping[str, str],
    reasons: Mapping[str, str],
) -> dict[str, Target]:
    """Targets by name. `reasons` says of models that are not in use why they are not, where the catalog says."""
    policy = compile_chain(DEFAULT_POLICY)
    targets: dict[str, Target] = {}

    def add(kind: str, name: str, model: Model, deployments: Sequence[Deployment]) -> None:
        tier = Tier(name=name, deployments=tuple(deployments), policy=policy)
        note = reasons.get(model.name, "") if model.status == "disabled" else ""
        targets[name] = Target("model" if kind == "model" else "deployment", name, tier, model=model, note=note)

    for name, model in models.items():
        add("model", name, model, served[name])
        for deployment in served[name]:
            add("deployment", deployment.name, model, [deployment])
        for provider, group in _by_provider(served[name]).items():
            if f"{provider}/{name}" not in targets:
                add("deployment", f"{provider}/{name}", model, group)
    for name, model in models.items():
        if model.status in ("deprecated", "retired"):
            _substitute(targets, model, models, served[name], reasons.get(name))
    for name, tier in tiers.items():
        targets[name] = Target("tier", name, tier)
        for provider in _by_provider((*tier.deployments, *tier.fallback)):
            targets[f"{name}@{provider}"] = Target("tier", name, tier, prefer_provider=provider)
    for alias, target in aliases.items():
        if target in targets:
            targets[alias] = targets[target]
    return targets


def _substitute(
    targets: dict[str, Target],
    model: Model,
    models: Mapping[str, Model],
    deployments: Sequence[Deployment],
    reason: str | None,
) -> None:
    """Points the names of an outdated model to what answers in its place, where there is something."""
    substitute = stand_in(model, models, [deployment.provider for deployment in deployments])
    if substitute is None:
        return
    dates = [
        f"{word} {datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
        for word, at in (("deprecated", model.deprecated_at), ("retired", model.retires_at))
        if at is not None
    ]
    note = f"{model.name} is {model.status} ({', '.join(dates)})" if dates else f"{model.name} is {model.status}"
    if reason:
        note = f"{note}: {reason}"
    found = targets[substitute.name]
    note = f"{note}; served by {found.name}"
    target = Target("model", found.name, found.tier, substituted=model.name, note=note, model=substitute)
    names = {model.name, *(f"{d.provider.name}/{model.name}" for d in deployments), *(d.name for d in deployments)}
    for name in names:
        targets[name] = target


def preview(name: str, deployment: Deployment) -> Target:
    """The target of a model that is not approved yet."""
    tier = Tier(name=name, deployments=(deployment,), policy=compile_chain(DEFAULT_POLICY))
    return Target("deployment", name, tier, model=deployment.model)


def stand_in(model: Model, models: Mapping[str, Model], providers: Sequence[Provider]) -> Model | None:
    """What answers in a model's place: the first enabled model along its replacements, else a provider's default."""
    step: Model | None = model
    while step is not None and step.replacement is not None:
        step = models[step.replacement]
        if step.status == "enabled":
            return step
    for provider in providers:
        default = models.get(provider.defaults.get(model.category, ""))
        if default is not None and default.status == "enabled":
            return default
    return None


def _by_provider(deployments: Sequence[Deployment]) -> dict[str, list[Deployment]]:
    groups: dict[str, list[Deployment]] = {}
    for deployment in deployments:
        groups.setdefault(deployment.provider.name, []).append(deployment)
    return groups

"""The record of a routing decision: what the plan was made from and what came of it, so that it can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gateway.catalog.snapshot import Snapshot, Target
from gateway.routing.plan import Planner
from gateway.types import Deployment, Drop, Facts, Health, Needs, Options, Plan, Stats, Tier

_T = TypeVar("_T", Needs, Options, Facts, Health, Stats, Drop)


class Record(Struct, array_like=True, frozen=True):
    """A decision as it is kept: JSON by position. Fields are only ever added at the end, here and in what they hold."""

    catalog: str
    """Version of the catalog that the plan was made from."""
    alias: str
    explained: bool
    needs: list[Any]
    options: list[Any]
    facts: list[Any]
    """Health, statistics and allowed models only of the deployments that the plan was about."""
    tier: str | None
    order: list[str]
    """Deployments, the first to try first."""
    dropped: list[list[str]]
    """Deployment, rule and reason of each; only where an explanation was asked for."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)
_VALUES = {kind: attrgetter(*(f.name for f in fields(kind))) for kind in (Needs, Options, Facts, Health, Stats, Drop)}


def encode(
    snapshot: Snapshot, target: Target, needs: Needs, options: Options, facts: Facts, plan: Plan, *, explained: bool
) -> bytes:
    """The record of a plan that was made from just these."""
    concerned = _concerned(target, snapshot.tiers.get(plan.tier or ""))
    kept = replace(
        facts,
        health={name: facts.health[name] for name in concerned if name in facts.health},
        stats={name: facts.stats[name] for name in concerned if name in facts.stats},
        allowed_models=None if facts.allowed_models is None else facts.allowed_models & _names(concerned),
    )
    row = list(_VALUES[Facts](kept))
    row[_HEALTH] = {name: _VALUES[Health](health) for name, health in kept.health.items()}
    row[_STATS] = {name: _VALUES[Stats](stats) for name, stats in kept.stats.items()}
    return _encoder.encode(
        Record(
            snapshot.version,
            plan.alias,
            explained,
            list(_VALUES[Needs](needs)),
            list(_VALUES[Options](options)),
            row,
            plan.tier,
            [candidate.deployment.name for candidate in plan.candidates],
            [list(_VALUES[Drop](drop)) for drop in plan.dropped],
        )
    )


def decode(data: bytes) -> Record:
    """A record as `encode()` wrote it.

    Raises:
        ValueError: it is none.
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a decision record: {error}") from None


def replay(record: Record, snapshot: Snapshot, *, explain: bool | None = None) -> Plan:
    """The plan made again from the record and the catalog it was made from; equal to the first.

    `explain` asks for its explanation, or (None) for as much as was asked for the first time.

    Raises:
        ValueError: the snapshot is another version, or the record does not fit it.
    """
    if record.catalog != snapshot.version:
        raise ValueError(f"the decision was made from catalog {record.catalog}, not from {snapshot.version}")
    target = snapshot.targets.get(record.alias)
    if target is None:
        raise ValueError(f"catalog {snapshot.version} has no name {record.alias!r}")
    row = list(record.facts)
    row[_HEALTH] = {name: _read(Health, health) for name, health in row[_HEALTH].items()}
    row[_STATS] = {name: _read(Stats, stats) for name, stats in row[_STATS].items()}
    return Planner(snapshot).plan(
        record.alias,
        target,
        _read(Needs, record.needs),
        _read(Options, record.options),
        _read(Facts, row),
        explain=record.explained if explain is None else explain,
    )


_FACTS = [f.name for f in fields(Facts)]
_HEALTH, _STATS = _FACTS.index("health"), _FACTS.index("stats")


def _read(kind: type[_T], row: list[Any]) -> _T:
    names = (f.name for f in fields(kind))
    return msgspec.convert(dict(zip(names, row, strict=False)), kind)


def _concerned(target: Target, served: Tier | None) -> Mapping[str, Deployment]:
    """Every deployment that the plan may have looked at: of the tier asked for, and of the one that served it."""
    tiers = [target.tier] if served is None or served is target.tier else [target.tier, served]
    found: dict[str, Deployment] = {}
    for tier in tiers:
        for group in (tier.deployments, tier.fallback, *(override.deployments for override in tier.overrides)):
            found.update((deployment.name, deployment) for deployment in group)
    return found


def _names(deployments: Mapping[str, Deployment]) -> frozenset[str]:
    return frozenset(deployments) | {deployment.model.name for deployment in deployments.values()}

"""The record of a routing decision: what the plan was made from and what came of it, so that it can be made again."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.catalog.snapshot import Snapshot, Target
from gateway.errors import GatewayError
from gateway.routing.plan import Planner
from gateway.routing.resolve import previewed
from gateway.types import Drop, Facts, Needs, Options, Plan


class Record(Struct, array_like=True, frozen=True):
    """A decision as it is kept: JSON by position. Fields are only ever added at the end, here and in what they hold."""

    catalog: str
    """Version of the catalog that the plan was made from."""
    alias: str
    explained: bool
    needs: Needs
    options: Options
    facts: Facts
    """Health, statistics and allowed models only of the deployments that the plan was about."""
    tier: str | None
    order: list[str]
    """Deployments, the first to try first."""
    dropped: tuple[Drop, ...]
    """Only where an explanation was asked for."""
    tenant: str = ""
    circumstances: str = ""
    """Digest of which providers could be used; see `circumstances.py`."""
    expected_nano: int | None = None
    """Expected cost at the first of `order`; None where it had no price."""
    context_tokens: int | None = None
    """The longest prompt that the first of `order` reads; None where unknown."""
    refused: str | None = None
    """The error's code where there was no plan; `order` is empty then."""


encode = msgspec.json.encode
"""A record as it is kept."""
_decoder = msgspec.json.Decoder(Record)


def recorded(
    planner: Planner,
    target: Target,
    needs: Needs,
    options: Options,
    facts: Facts,
    plan: Plan,
    *,
    explained: bool,
    tenant: str = "",
) -> Record:
    """The record of a plan that was made from just these; without the session's name, which plans do not look at."""
    order = [candidate.deployment.name for candidate in plan.candidates]
    first = plan.candidates[0]
    return Record(
        planner.snapshot.version,
        plan.alias,
        explained,
        needs,
        options if options.session is None else replace(options, session=None),
        _trimmed(facts, planner.concerned(target, plan.tier)),
        plan.tier,
        order,
        plan.dropped,
        tenant,
        planner.circumstances,
        first.expected_nano,
        first.deployment.model.input_tokens,
    )


def recorded_refusal(
    planner: Planner,
    alias: str,
    target: Target,
    needs: Needs,
    options: Options,
    facts: Facts,
    error: GatewayError,
    *,
    tenant: str = "",
) -> Record:
    """The record of a request for which there was no plan."""
    return Record(
        planner.snapshot.version,
        alias,
        options.explain,
        needs,
        options if options.session is None else replace(options, session=None),
        _trimmed(facts, planner.concerned(target, None)),
        target.name if target.kind == "tier" else None,
        [],
        (),
        tenant,
        planner.circumstances,
        refused=code_of(error),
    )


def code_of(error: GatewayError) -> str:
    """What callers know an error by."""
    return error.code or error.kind.value


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
    return plan_again(record, Planner(snapshot), explain=explain)


def plan_again(record: Record, planner: Planner, *, explain: bool | None = None) -> Plan:
    """The plan for a recorded request in any catalog; `explain` as for `replay()`.

    Raises:
        ValueError: the catalog has no such name.
        GatewayError: as `Planner.plan()`.
    """
    target = planner.snapshot.targets.get(record.alias) or previewed(planner.snapshot, record.alias)
    if target is None:
        raise ValueError(f"catalog {planner.snapshot.version} has no name {record.alias!r}")
    return planner.plan(
        record.alias,
        target,
        record.needs,
        record.options,
        record.facts,
        explain=record.explained if explain is None else explain,
    )


def _trimmed(facts: Facts, concerned: frozenset[str]) -> Facts:
    """The facts about these deployments and models alone."""
    health, stats, allowed, listed = facts.health, facts.stats, facts.allowed_models, facts.listed_models
    if allowed is None and concerned.issuperset(stats) and concerned.issuperset(health):
        return facts
    return replace(
        facts,
        health={name: health[name] for name in health if name in concerned},
        stats={name: stats[name] for name in stats if name in concerned},
        allowed_models=None if allowed is None else allowed & concerned,
        listed_models=None if listed is None else listed & concerned,
    )

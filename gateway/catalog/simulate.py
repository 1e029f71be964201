"""What another document would have made of recorded decisions: who moves where, who is served no more, at what cost.

Pure: records and a snapshot in, a report out. Health and statistics are those recorded; a deployment that the old
document did not have counts as healthy and unmeasured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from gateway.catalog.learned import Vanished
from gateway.catalog.snapshot import Snapshot
from gateway.errors import GatewayError
from gateway.routing.circumstances import Unavailable, under, vanished
from gateway.routing.decision import Record, code_of, plan_again
from gateway.routing.plan import Planner
from gateway.routing.resolve import resolve
from gateway.types import Plan

FORMAT = "tiergate.decisions.1"


class Header(msgspec.Struct, frozen=True):
    """The first line of exported decisions."""

    format: str
    catalog: str
    """The version in force at the export."""
    circumstances: dict[str, dict[str, str]]
    """By digest, the providers that could not be used and the models that had vanished; `now` is as of the export."""


class Line(msgspec.Struct, frozen=True):
    """Every other line."""

    id: str
    record: Record


NOW = "now"
"""What stands in `circumstances` for those at the export."""


@dataclass(slots=True)
class Outcome:
    """What became of the requests of one tier, or of one model or deployment that was asked for by name."""

    requests: int = 0
    unchanged: int = 0
    reordered: int = 0
    """The first to be tried is the same, those to fall back on are not."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the first to be tried, before and after; what was refused before and is served now is a move, too."""
    unroutable: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the first that was to be tried, and the error's code."""
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    """An error message for each row of `unroutable`."""
    cost_before_nano: int = 0
    cost_after_nano: int = 0
    """Expected at the first to be tried, over requests that have a price on both sides."""
    unpriced: int = 0
    """Requests whose cost is not known on either side, and so in neither sum."""
    context_smaller: int = 0
    context_larger: int = 0
    """Requests whose first deployment reads shorter or longer prompts than the one before."""


@dataclass(slots=True)
class Simulation:
    """The report, by what was asked for."""

    by_tier: dict[str, Outcome] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        return sum(outcome.requests for outcome in self.by_tier.values())

    @property
    def moved(self) -> int:
        return sum(outcome.moves.total() for outcome in self.by_tier.values())

    @property
    def unroutable(self) -> int:
        return sum(outcome.unroutable.total() for outcome in self.by_tier.values())


def simulate(
    records: Iterable[Record],
    snapshot: Snapshot,
    circumstances: Mapping[str, Unavailable],
    *,
    tier: str | None = None,
    at: float | None = None,
    where_vanished: Callable[[Vanished], Snapshot] | None = None,
) -> Simulation:
    """Plans every record anew in `snapshot`; of one tier only where `tier` names it.

    `circumstances` are by the digests that records carry; those of the export stand in for a digest that is not there.
    `where_vanished` compiles the document anew where some models are listed no longer; left out, nothing vanishes.
    `at` (epoch seconds) is the time to plan for, such as when a new price is in force; else it is each record's own.
    """
    planners: dict[str, Planner] = {}
    found = Simulation()
    for record in records:
        name = record.tier or record.alias
        if tier is not None and name != tier:
            continue
        digest = record.circumstances if record.circumstances in circumstances else NOW
        planner = planners.get(digest)
        if planner is None:
            unavailable = circumstances.get(digest, {})
            gone = vanished(unavailable)
            catalog = where_vanished(gone) if gone and where_vanished is not None else snapshot
            planner = planners[digest] = Planner(under(catalog, unavailable))
        outcome = found.by_tier.setdefault(name, Outcome())
        _compare(outcome, record if at is None else replace(record, facts=replace(record.facts, now=at)), planner)
    return found


def _compare(outcome: Outcome, record: Record, planner: Planner) -> None:
    outcome.requests += 1
    before = record.order[0] if record.order else f"refused ({record.refused})"
    try:
        resolve(planner.snapshot, record.alias, record.options, previews=True)
        plan = plan_again(record, planner, explain=False)
    except GatewayError as error:
        if not record.order:
            outcome.unchanged += 1
            return
        row = (before, code_of(error))
        outcome.unroutable[row] += 1
        outcome.examples.setdefault(row, error.message)
        return
    order = [candidate.deployment.name for candidate in plan.candidates]
    if order[0] != before:
        outcome.moves[before, order[0]] += 1
    elif order != record.order:
        outcome.reordered += 1
    else:
        outcome.unchanged += 1
    _add_deltas(outcome, record, plan)


def _add_deltas(outcome: Outcome, record: Record, plan: Plan) -> None:
    if not record.order:
        return
    first = plan.candidates[0]
    if record.expected_nano is None or first.expected_nano is None:
        outcome.unpriced += 1
    else:
        outcome.cost_before_nano += record.expected_nano
        outcome.cost_after_nano += first.expected_nano
    before, after = record.context_tokens, first.deployment.model.input_tokens
    if before is not None and after is not None:
        outcome.context_smaller += after < before
        outcome.context_larger += after > before

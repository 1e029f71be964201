"""Decision records in the pieces in which they are kept: of a plan made from the same as another, only what is its own.

A batch is compressed lines of JSON: `Whole` records, and ones `Like` a whole record of their batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from gateway.catalog.snapshot import Target
from gateway.routing.decision import Record, recorded
from gateway.routing.plan import Planner
from gateway.types import Drop, Facts, Needs, Options, Plan


class Whole(Struct, array_like=True, frozen=True):
    """A line that says all."""

    id: str
    record: Record


class Like(Struct, array_like=True, frozen=True):
    """A line of a record that is, but for these fields, the whole one of this number in its batch, counted from 0."""

    id: str
    number: int
    needs: Needs
    now: float
    seed: int
    budget_left_share: float | None
    sticky: str | None
    subject: int | None
    expected_nano: int | None


class Packed(Struct, frozen=True):
    """Records as they are kept."""

    minute: int
    """Since the epoch; of all of their requests."""
    span: str
    """The first and the last id in it."""
    data: bytes
    count: int


class Decided(Struct, frozen=True):
    """A request's plan with all that it was made from. Nothing of it changes, so its record can be made later."""

    id: str
    planner: Planner
    target: Target
    needs: Needs
    options: Options
    facts: Facts
    plan: Plan
    tenant: str


class _Kind(Struct, frozen=True):
    """What a plan must have been made from for its record to be like this whole one."""

    number: int
    options: Options
    facts: Facts
    dropped: Sequence[Drop]


_encode_lines = msgspec.json.Encoder().encode_lines
_decode_line = msgspec.json.Decoder(list[Raw]).decode
_decode_whole = msgspec.json.Decoder(Whole).decode
_decode_like = msgspec.json.Decoder(Like).decode
_id = attrgetter("id")
_deployment = attrgetter("deployment")


def packed(kept: Sequence[Whole | Decided]) -> list[Packed]:
    """The records as they are kept, those of each minute apart; as a rule all are of one."""
    ids = [one.id for one in kept]
    first, last = min(ids), max(ids)
    if minute_of(first) == minute_of(last):
        return [_packed(kept, first, last)]
    groups = [[*group] for _, group in groupby(sorted(kept, key=_id), key=lambda one: minute_of(one.id))]
    return [_packed(group, group[0].id, group[-1].id) for group in groups]


def unpacked(data: bytes | None) -> Iterator[Whole]:
    """The records of a batch as `Packed` has them; none where there is none."""
    if data is None:
        return iter(())
    lines = zlib.decompress(data).splitlines()
    return _made_whole([_decode_whole(line) if len(_decode_line(line)) == 2 else _decode_like(line) for line in lines])


def minute_of(request_id: str) -> int:
    """Since the epoch.

    Raises:
        ValueError: it is not an id of ours.
    """
    return milliseconds_of(request_id) // 60_000


def milliseconds_of(request_id: str) -> int:
    """When the request came, since the epoch, which its id (a UUIDv7) tells.

    Raises:
        ValueError: it is not an id of ours.
    """
    return int(request_id.removeprefix("req_")[:12], 16)


def _packed(kept: Sequence[Whole | Decided], first: str, last: str) -> Packed:
    """Some 25 bytes a record, of 330 that it takes whole, for a microsecond."""
    data = zlib.compress(_encode_lines(_lines(kept)), level=1)
    return Packed(minute_of(first), f"{first} {last}", data, len(kept))


def _lines(kept: Iterable[Whole | Decided]) -> list[Whole | Like]:
    lines: list[Whole | Like] = []
    kinds: dict[Hashable, _Kind] = {}
    wholes = 0
    for one in kept:
        if isinstance(one, Whole):
            lines.append(one)
            wholes += 1
            continue
        options, facts, plan = one.options, one.facts, one.plan
        candidates = plan.candidates
        first = candidates[0]
        order: Hashable = first.deployment if len(candidates) == 1 else tuple(map(_deployment, candidates))
        if options.session is not None:
            options = replace(options, session=None)
        key = one.planner, one.target, plan.alias, plan.tier, one.tenant, order
        shared = replace(facts, now=0.0, seed=0, budget_left_share=None, sticky=None, subject=None)
        kind = kinds.get(key)
        # Most comparisons end at once: what comes from the caller's key, the catalog or a view is the same object.
        if kind is None or kind.facts != shared or kind.options != options or kind.dropped != plan.dropped:
            kinds[key] = _Kind(wholes, options, shared, plan.dropped)
            lines.append(Whole(one.id, _record_of(one)))
            wholes += 1
            continue
        lines.append(
            Like(
                one.id,
                kind.number,
                one.needs,
                facts.now,
                facts.seed,
                facts.budget_left_share,
                facts.sticky,
                facts.subject,
                first.expected_nano,
            )
        )
    return lines


def _record_of(one: Decided) -> Record:
    return recorded(
        one.planner,
        one.target,
        one.needs,
        one.options,
        one.facts,
        one.plan,
        explained=one.options.explain,
        tenant=one.tenant,
    )


def _made_whole(lines: Iterable[Whole | Like]) -> Iterator[Whole]:
    wholes: list[Record] = []
    for line in lines:
        if isinstance(line, Whole):
            wholes.append(line.record)
            yield line
        else:
            like = wholes[line.number]
            facts = replace(
                like.facts,
                now=line.now,
                seed=line.seed,
                budget_left_share=line.budget_left_share,
                sticky=line.sticky,
                subject=line.subject,
            )
            yield Whole(line.id, replace(like, needs=line.needs, facts=facts, expected_nano=line.expected_nano))

"""Endings added up before they go to the store, which does everything else that it does between them.

Those of a batch are of a few keys and models, and most simply apply: the provider told the usage and no hold is freed.
Of these the store is told the sums, and each of the rest. Sums apply all together, where no attempt in them has ended
before, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.ledger.limits import Window
from gateway.ledger.records import METRICS, Booking, Cells

_COST = METRICS.index("cost_nano")


class Sums(NamedTuple):
    """What many endings come to, as finish.lua takes it. Money is nano-USD."""

    markers: list[tuple[int, list[str], list[str]]]
    """By hour of the attempt ids: ids, and what each is remembered by, `P:<nano>:`."""
    cells: list[tuple[str, str, str, tuple[str, ...], list[int]]]
    """Hour and day of the roll-up, the cell's name, those of its tags, the sums of their metrics."""
    budgets: list[tuple[str, int, int, int]]
    """Counter, what is posted, limit, when it is forgotten."""
    rates: list[tuple[str, int, int]]
    """Bucket, limit, what is to be corrected."""
    slabs: list[tuple[str, int]]
    """Slab, what is taken from it."""
    lines: bytes
    """The journal's, each with its `N `; given to the script as they are, beside the rest."""


def add_up(endings: list[Booking]) -> tuple[Sums | None, Sequence[int]]:
    """The sums of those that can be added up, and the indices of those that cannot."""
    if len({ending[0] for ending in endings}) < len(endings):  # an attempt ends twice here: the store looks at each
        return None, range(len(endings))
    apart: list[int] = []
    markers: dict[int, tuple[list[str], list[str]]] = {}
    metrics_of: dict[tuple[Cells, tuple[Window, ...]], list[tuple[int, ...]]] = {}
    rates: dict[tuple[str, int], int] = {}
    slabs: dict[str, int] = {}
    lines: list[bytes] = []
    for index, ending in enumerate(endings):
        if ending[2] != "P" or ending[4]:  # not what the provider told, or it may hold something
            apart.append(index)
            continue
        aid, aid_hour, _, nano, _, cells, metrics, windows, corrections, line, slab, hold = ending
        if (marked := markers.get(aid_hour)) is None:
            marked = markers[aid_hour] = [], []
        marked[0].append(aid)
        marked[1].append(f"P:{nano}:")
        if (alike := metrics_of.get((cells, windows))) is None:
            alike = metrics_of[cells, windows] = []
        alike.append(metrics)
        lines.append(line)
        for bucket, limit, amount in corrections:
            rates[bucket, limit] = rates.get((bucket, limit), 0) + amount
        if slab:
            slabs[slab] = slabs.get(slab, 0) + min(nano, hold)
    if not lines:
        return None, apart
    summed = {place: [*map(sum, zip(*alike, strict=True))] for place, alike in metrics_of.items()}
    return (
        Sums(
            [(hour, *marked) for hour, marked in markers.items()],
            [(*cells, metrics) for (cells, _), metrics in summed.items()],
            [
                (w.counter, metrics[_COST], w.limit_nano, w.forget_at)
                for (_, windows), metrics in summed.items()
                for w in windows
            ],
            [(bucket, limit, amount) for (bucket, limit), amount in rates.items()],
            [*slabs.items()],
            b"N " + b"\nN ".join(lines),
        ),
        apart,
    )

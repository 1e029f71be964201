"""Endings added up before they go to the store, which does everything else that it does between them.

Those of a batch are of a few keys and models, and most simply apply: the provider told the usage and no hold is freed.
Of these the store is told the sums, and each of the rest. Sums apply all together, where no attempt in them has ended
before, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.ledger.records import Booking


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
    lines: str
    """The journal's, each with its `N `."""


def add_up(endings: list[Booking]) -> tuple[Sums | None, Sequence[int]]:
    """The sums of those that can be added up, and the indices of those that cannot."""
    if len({ending[0] for ending in endings}) < len(endings):  # an attempt ends twice here: the store looks at each
        return None, range(len(endings))
    apart: list[int] = []
    markers: dict[int, tuple[list[str], list[str]]] = {}
    cells: dict[tuple[str, str, str, tuple[str, ...]], list[tuple[int, ...]]] = {}
    budgets: dict[str, tuple[str, int, int, int]] = {}
    rates: dict[tuple[str, int], int] = {}
    slabs: dict[str, int] = {}
    lines: list[str] = []
    for index, ending in enumerate(endings):
        if ending[2] != "P" or ending[4]:  # not what the provider told, or it may hold something
            apart.append(index)
            continue
        (
            aid,
            aid_hour,
            _,
            nano,
            _,
            hour,
            day,
            name,
            metrics,
            tags,
            windows,
            corrections,
            line,
            slab,
            hold,
        ) = ending
        if (marked := markers.get(aid_hour)) is None:
            marked = markers[aid_hour] = [], []
        marked[0].append(aid)
        marked[1].append(f"P:{nano}:")
        cell = hour, day, name, tags
        if cell in cells:
            cells[cell].append(metrics)
        else:
            cells[cell] = [metrics]
        lines.append(line)
        for counter, limit, forget_at in windows:
            before = budgets.get(counter)
            budgets[counter] = counter, nano if before is None else before[1] + nano, limit, forget_at
        for bucket, limit, amount in corrections:
            rates[bucket, limit] = rates.get((bucket, limit), 0) + amount
        if slab:
            slabs[slab] = slabs.get(slab, 0) + min(nano, hold)
    if not lines:
        return None, apart
    return (
        Sums(
            [(hour, *marked) for hour, marked in markers.items()],
            [(*cell, [*map(sum, zip(*rows, strict=True))]) for cell, rows in cells.items()],
            [*budgets.values()],
            [(bucket, limit, amount) for (bucket, limit), amount in rates.items()],
            [*slabs.items()],
            "N " + "\nN ".join(lines),
        ),
        apart,
    )

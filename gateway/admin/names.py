"""What a key or budget names and the catalog does not have: told, not refused, since the catalog may have it soon."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.catalog.snapshot import Snapshot

_MOST_TOLD = 20


def unknown_names(snapshot: Snapshot, tiers: Iterable[str] = (), models: Iterable[str] = ()) -> list[str]:
    """A sentence for each of these tiers and models (deployments among them) that is not in the catalog in force."""
    known_as = {"tier": set(snapshot.tiers), "model": snapshot.models.keys() | snapshot.deployments.keys()}
    unknown = [("tier", name) for name in tiers if name not in known_as["tier"]]
    unknown += [("model", name) for name in models if name not in known_as["model"]]
    told = []
    for kind, name in unknown[:_MOST_TOLD]:
        near = next((like for like in snapshot.nearest(name) if like in known_as[kind]), None)
        hint = f"; did you mean '{near}'?" if near else ""
        told.append(f"the catalog has no {kind} '{name}'{hint}")
    return told

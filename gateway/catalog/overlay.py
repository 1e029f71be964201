"""What vanished models mean for the catalog: who answers in their place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

from gateway.catalog.learned import Learned
from gateway.catalog.models import ModelEntry
from gateway.catalog.schema import CatalogEntry
from gateway.catalog.targets import stand_in
from gateway.types import Model, Provider


def all_vanished(entry: ModelEntry, learned: Learned) -> bool:
    """Whether no provider of a model lists it any longer."""
    return bool(entry.deployments) and all((d.provider, d.id) in learned.vanished for d in entry.deployments)


def stand_ins(
    catalog: CatalogEntry, models: Mapping[str, Model], providers: Mapping[str, Provider], learned: Learned
) -> dict[str, tuple[Model, date]]:
    """The models that no provider lists any longer, each with what answers in its place and since when.

    One that nothing can replace is left as it is: a provider's list may be wrong, and trying costs nothing.
    """
    vanished = {name for name, entry in catalog.models.items() if all_vanished(entry, learned)}
    left = {name: replace(model, status="retired") if name in vanished else model for name, model in models.items()}
    gone: dict[str, tuple[Model, date]] = {}
    for name in vanished:
        deployments = catalog.models[name].deployments
        found = stand_in(left[name], left, [providers[d.provider] for d in deployments])
        if found is not None and models[name].status in ("enabled", "deprecated"):
            since = min(learned.vanished[d.provider, d.id] for d in deployments)
            gone[name] = found, date.fromisoformat(since)
    return gone

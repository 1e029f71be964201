"""Choosing models by what they can do."""

from __future__ import annotations

from collections.abc import Collection

from gateway.catalog.snapshot import Snapshot
from gateway.types import Capability, Model, mask_of


def find_models(
    snapshot: Snapshot, required: Collection[Capability], preferred: Collection[Capability] = ()
) -> list[Model]:
    """Enabled models with every required capability, those with more of the preferred ones first, then by name."""
    needed, wished = mask_of(frozenset(required)), mask_of(frozenset(preferred))
    fitting = [
        model
        for model in snapshot.models.values()
        if model.status == "enabled" and model.capabilities & needed == needed
    ]
    return sorted(fitting, key=lambda model: (-(model.capabilities & wished).bit_count(), model.name))

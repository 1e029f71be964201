"""The catalog in force: one immutable value with every lookup made at load, swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.catalog.learned import Vanished
from gateway.catalog.nearest import Nearest
from gateway.types import Deployment, Model, Provider, Tier


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What a name that a caller sent stands for."""

    kind: Literal["tier", "model", "deployment"]
    name: str
    """The tier's, model's or deployment's own name."""
    tier: Tier
    """The tier asked for; for a model or deployment a tier made of just its deployments, with the default policy."""
    prefer_provider: str | None = None
    """From `tier@provider`."""
    substituted: str | None = None
    """The deprecated or vanished model whose replacement this is."""
    note: str = ""
    """Why it was substituted, with dates, for the Deprecation and Sunset headers."""
    model: Model | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One version of the catalog."""

    version: str
    """First 12 hex digits of the SHA-256 of the document."""
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    deployments: Mapping[str, Deployment]
    tiers: Mapping[str, Tier]
    targets: Mapping[str, Target]
    """Every name a caller may send: tiers, `tier@provider`, models, `provider/model`, aliases."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_tier: str | None = None
    warnings: tuple[str, ...] = ()
    secret_files: Mapping[str, int | None] = field(default_factory=dict)
    """Files that its secrets were read from, and when each had last changed (see `secrets.stamps`)."""
    previews: Mapping[str, Target] = field(default_factory=dict)
    """Discovered models that nobody has approved yet, by `provider/id`: for admins only."""
    vanished: Vanished = field(default_factory=dict)
    """Of what the document names, what its providers list no longer."""
    names: Nearest | None = None
    """The names of the targets, to be searched for one that is like another."""

    def nearest(self, name: str, count: int = 3) -> list[str]:
        """The names most like this one, for the error message."""
        return (self.names or Nearest(self.targets)).find(name, count)

"""What the gateway found out about the catalog's providers and models, beside what the document says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.catalog.pending import Pending

Vanished = Mapping[tuple[str, str], str]
"""(provider, upstream id) -> the day (ISO) since which the provider lists it no longer."""


@dataclass(frozen=True, slots=True)
class Learned:
    """Laid over the document when it is compiled; never written into it."""

    unusable: Mapping[str, str] = field(default_factory=dict)
    """Provider -> why it may not be used now (its key was refused, or is not checked yet)."""
    vanished: Vanished = field(default_factory=dict)
    pending: Mapping[str, Pending] = field(default_factory=dict)
    """Models that were discovered and are not decided on, by `provider/id`: for admins to try."""

"""Models as the admin API shows them."""

from __future__ import annotations

from typing import Any

from gateway.catalog.learned import Learned
from gateway.catalog.models import ModelEntry
from gateway.catalog.pending import Pending


def known(name: str, entry: ModelEntry, learned: Learned) -> dict[str, Any]:
    """A model of the catalog."""
    vanished = learned.vanished
    deployments = [
        {"provider": d.provider, "id": d.id, "vanished_on": vanished.get((d.provider, d.id))} for d in entry.deployments
    ]
    gone = bool(deployments) and all(row["vanished_on"] for row in deployments)
    return {
        "id": name,
        "name": name,
        "display_name": entry.display_name or name,
        "status": "vanished" if gone and entry.status in ("enabled", "deprecated") else entry.status,
        "category": entry.category,
        "providers": list(dict.fromkeys(d.provider for d in entry.deployments)),
        "capabilities": [c.value for c in entry.capabilities],
        "context": entry.context.model_dump(),
        "quality": entry.quality,
        "reason": entry.reason,
        "replacement": entry.replacement,
        "deprecated_on": entry.deprecated_on and entry.deprecated_on.isoformat(),
        "retires_on": entry.retires_on and entry.retires_on.isoformat(),
        "prices": [row.model_dump(mode="json", by_alias=True, exclude_defaults=True) for row in entry.prices],
        "deployments": deployments,
        "guidance": entry.guidance.model_dump(mode="json", exclude_defaults=True),
    }


def waiting(pending: Pending) -> dict[str, Any]:
    """A model that waits for a decision; what is suggested names its source."""
    return {
        "id": pending.key,
        "name": pending.name,
        "display_name": pending.display_name or pending.name,
        "status": "rejected" if pending.rejected else "pending",
        "category": pending.category,
        "providers": [pending.provider],
        "capabilities": list(pending.capabilities),
        "context": {"input_tokens": pending.input_tokens, "output_tokens": pending.output_tokens},
        "usd_per_mtok": None if pending.usd_per_mtok is None else dict(pending.usd_per_mtok),
        "sources": dict(pending.sources),
        "sort": pending.sort,
        "of": pending.of,
        "missing": pending.missing(),
        "first_seen_at": pending.first_seen_at,
    }

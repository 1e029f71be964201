"""Models that a provider lists and nobody has decided on yet: what is known of them, and what is only suggested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Sort = Literal["model", "snapshot", "fine_tune", "alias"]


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A discovered model. What is suggested came from listings and price data and was verified by nobody."""

    provider: str
    id: str
    """What the provider calls it."""
    name: str
    """What the catalog would call it."""
    category: Literal["text", "speech", "other"]
    sort: Sort
    """A model, a dated snapshot of one, a fine-tune of one, or a moving alias such as `-latest`."""
    of: str = ""
    """The upstream id of which it is a snapshot, fine-tune or alias; empty for a model."""
    display_name: str = ""
    first_seen_at: float
    """Seconds since the epoch."""
    rejected: bool = False
    capabilities: tuple[str, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd_per_mtok: Mapping[str, str] | None = None
    """Rates as the document writes them; None where no source knows them."""
    sources: Mapping[str, str] = {}
    """Where each suggestion comes from, by `capabilities`, `limits` and `price`."""

    @property
    def key(self) -> str:
        """How it is asked for until it is approved."""
        return f"{self.provider}/{self.id}"

    def missing(self) -> list[str]:
        """What must be known before it can be approved, in words that name the field."""
        found = []
        if self.category == "other":
            found.append("a category: it looks like neither text nor speech (category)")
        if not self.capabilities:
            found.append("what it can do (capabilities)")
        if self.usd_per_mtok is None:
            found.append("a price (usd_per_mtok)")
        return found


def model_entry(pending: Pending, starts: str) -> dict[str, Any]:
    """The model as the document writes it; its price holds from `starts` (ISO day) and is marked as not checked."""
    entry: dict[str, Any] = {}
    if pending.display_name and pending.display_name != pending.name:
        entry["display_name"] = pending.display_name
    if pending.category == "speech":
        entry["category"] = "speech"
    entry["capabilities"] = list(pending.capabilities or ("text_input", "text_output"))
    limits = {"input_tokens": pending.input_tokens, "output_tokens": pending.output_tokens}
    if known := {name: value for name, value in limits.items() if value}:
        entry["context"] = known
    if (row := price_row(pending, starts)) is not None:
        entry["prices"] = [row]
    entry["deployments"] = [{"provider": pending.provider, "id": pending.id}]
    return entry


def price_row(pending: Pending, starts: str) -> dict[str, Any] | None:
    """The suggested price as a dated row without a day of checking, which is warned of until somebody has checked."""
    if pending.usd_per_mtok is None:
        return None
    source = pending.sources.get("price", "given by hand")
    return {"from": starts, "usd_per_mtok": dict(pending.usd_per_mtok), "source": source}

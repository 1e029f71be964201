"""The catalog document: what ops write. Each field's docstring is its description in `catalog.schema.json`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from gateway.catalog.entry import Entry, Name
from gateway.catalog.models import ModelEntry
from gateway.catalog.params import Params
from gateway.catalog.providers import ProviderEntry
from gateway.catalog.tiers import TierEntry

AliasName = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]


class CatalogEntry(Entry):
    """The whole document."""

    providers: dict[Name, ProviderEntry]
    """APIs that can be called, by name."""
    models: dict[Name, ModelEntry]
    """Models, by name."""
    tiers: dict[Name, TierEntry] = Field(default_factory=dict)
    """Quality classes, by the name that apps send."""
    aliases: dict[AliasName, str] = Field(default_factory=dict)
    """Other names that apps send, and the tier, `tier@provider`, model or `provider/model` each stands for."""
    presets: dict[Name, Params] = Field(default_factory=dict)
    """Sets of request parameters that callers choose by name."""
    default_tier: Name | None = None
    """The tier for callers that name none."""

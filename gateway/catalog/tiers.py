"""Tiers as the document writes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, WithJsonSchema, model_validator

from gateway.catalog.entry import Can, Count, Entry, Name, Seconds, Text, Token
from gateway.catalog.params import Params
from gateway.catalog.providers import TimeoutsEntry

PolicyItem = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]})
]
"""Judged by the policies themselves when the references are checked."""


class MatchEntry(Entry):
    """Chooses the models of a tier by what they are. Only enabled models match; the catalog's order is kept."""

    quality: Name | None = None
    """Their quality class."""
    require: tuple[Can, ...] = ()
    """What they all must be able to do."""


class OverrideEntry(Entry):
    """What the tier means for some callers. Name a key or a tag, not both."""

    key: Token | None = None
    """Name of the callers' key."""
    tag: Annotated[str, StringConstraints(pattern=r"^[^=]{1,128}=.{0,256}$")] | None = None
    """A tag of the callers' key or request, as `NAME=VALUE`."""
    models: Annotated[tuple[Name, ...], Field(min_length=1)]
    """The models that replace the tier's own for them."""

    @model_validator(mode="after")
    def _one_label(self) -> Self:
        if (self.key is None) == (self.tag is None):
            raise ValueError("needs either key or tag; give exactly one of them")
        return self


class CallerLeftEntry(Entry):
    """What becomes of an answer whose caller has gone."""

    action: Literal["cancel", "drain"] = "drain"
    """Stop the provider at once, or read on for the exact usage."""
    seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Longest time to read on."""
    tokens: Annotated[int, Field(ge=0)] = 4096
    """Most tokens to read on."""


class TierEntry(Entry):
    """A quality class that apps ask for by name."""

    description: Text = ""
    """What it is for, shown by /v1/models."""
    models: tuple[Name, ...] | None = None
    """Its models, by name. Either this or `match`."""
    match: MatchEntry | None = None
    """Its models, by what they are. Either this or `models`."""
    fallback_models: tuple[Name, ...] = ()
    """Models that stand in only while no deployment of the others can be used (no key is set); never in an outage."""
    overrides: tuple[OverrideEntry, ...] = ()
    """Other models for some keys or tags; the first that fits the caller counts."""
    policy: tuple[PolicyItem, ...] = ("healthy", "cheapest")
    """Rules that filter and order the candidates, applied in turn."""
    default: Name | None = None
    """The model to take first where the rules leave it open (`default_first`)."""
    params: Params = Params()
    """Request parameters that apply where neither preset nor caller says otherwise."""
    timeouts: TimeoutsEntry | None = None
    """Limits of one attempt in this tier. Default: the provider's."""
    slow_ttft_s: Seconds | None = None
    """A stream that begins later counts as slow for the deployment's breaker. Default: the provider's."""
    on_caller_left: Literal["cancel", "drain"] | CallerLeftEntry = "cancel"
    """What becomes of an answer whose caller has gone: `cancel`, `drain`, or a mapping with limits."""
    min_output_tokens: Count | None = None
    """Fewest tokens of answer worth paying for: a hard budget that affords as many caps the answer to what it affords,
    one that does not refuses. Default: 1024, and 16 for a request's own `max_cost_usd`."""

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if (self.models is None) == (self.match is None):
            raise ValueError("needs either models or match; give exactly one of them")
        if self.match is not None and self.match.quality is None and not self.match.require:
            raise ValueError("match is empty; name a quality or required capabilities")
        return self

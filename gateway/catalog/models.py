"""Models and their deployments as the document writes them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from gateway.catalog.entry import Can, Category, Count, Entry, Name, Seconds, Text, Token
from gateway.catalog.params import ParamRanges, Params, UnsupportedParams
from gateway.catalog.prices import PriceEntry


class ContextEntry(Entry):
    """How much a model reads and writes. Leave out what is not known."""

    input_tokens: Count | None = None
    """Most tokens of prompt."""
    output_tokens: Count | None = None
    """Most tokens of one answer, reasoning included."""


class GuidanceEntry(Entry):
    """Advice to those who choose and use the model."""

    recommended_for: tuple[Text, ...] = ()
    """What it is good at."""
    best_practices: tuple[Text, ...] = ()
    """How to get the most of it."""
    tips: tuple[Text, ...] = ()
    """What helps."""
    pitfalls: tuple[Text, ...] = ()
    """What goes wrong."""
    url: Annotated[str, StringConstraints(pattern=r"^https://\S{1,1000}$")] | None = None
    """Its maker's page."""


class DeploymentEntry(Entry):
    """The model at one provider."""

    provider: Name
    """Name of the provider."""
    id: Token
    """What the provider calls the model."""
    suffix: Name | None = None
    """Tells several deployments of the model at one provider apart; the name becomes `provider/model#suffix`."""
    region: Name | None = None
    """Where it runs, for rules on residency."""
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Its share where traffic is spread by weight."""
    lacks: tuple[Can, ...] = ()
    """Capabilities of the model that this provider does not offer."""
    prices: tuple[PriceEntry, ...] | None = None
    """Its own dated prices. Default: the model's."""
    params: Params = Params()
    """Request parameters that apply at this deployment."""
    unsupported_params: UnsupportedParams = Field(default_factory=dict)
    """Request fields that it does not take: `drop`, `reject`, or the name to send it under."""
    param_ranges: ParamRanges = Field(default_factory=dict)
    """Lowest and highest value that it takes of a numeric field."""
    rpm: Count | None = None
    """Requests a minute, by everyone together. Default: the provider's."""
    tpm: Count | None = None
    """Tokens a minute, by everyone together. Default: the provider's."""
    concurrency: Count | None = None
    """Requests at once, at all replicas together. Default: no limit of its own."""
    slow_ttft_s: Seconds | None = None
    """A stream that begins later counts as slow for its breaker. Default: the tier's, else the provider's."""


class ModelEntry(Entry):
    """A model, whoever serves it."""

    display_name: Text | None = None
    """Its name for people. Default: its name here."""
    status: Literal["enabled", "disabled", "deprecated", "retired"] = "enabled"
    """Whether it may be used. Who asks for a deprecated or retired model gets its replacement and is told so."""
    reason: Text | None = None
    """Why it is disabled; callers who ask for it are told."""
    category: Category = "text"
    """What it is for."""
    quality: Name | None = None
    """Its quality class, by which a tier may match it, e.g. `fast` or `smart`."""
    capabilities: Annotated[tuple[Can, ...], Field(min_length=1)]
    """What it can do. `large_context` and `extra_large_context` follow from `context`."""
    context: ContextEntry = ContextEntry()
    """How much it reads and writes."""
    released: date | None = None
    """Day of its release."""
    deprecated_on: date | None = None
    """Day from which its maker advises against it."""
    retires_on: date | None = None
    """Day on which its maker switches it off."""
    replacement: Name | None = None
    """Model that answers in its place once it is deprecated or retired. Default: the provider's default."""
    guidance: GuidanceEntry = GuidanceEntry()
    """Advice to those who choose and use it."""
    prices: tuple[PriceEntry, ...] = ()
    """Dated prices. Without one in force, callers with a budget are not routed to it: unknown is never free."""
    params: Params = Params()
    """Request parameters that apply where neither tier, preset nor caller says otherwise."""
    unsupported_params: UnsupportedParams = Field(default_factory=dict)
    """Request fields that it does not take: `drop`, `reject`, or the name to send it under."""
    param_ranges: ParamRanges = Field(default_factory=dict)
    """Lowest and highest value that it takes of a numeric field."""
    deployments: tuple[DeploymentEntry, ...] = ()
    """Where it is served."""

    @model_validator(mode="after")
    def _ends_in_order(self) -> Self:
        if self.deprecated_on and self.retires_on and self.retires_on < self.deprecated_on:
            raise ValueError(f"retires_on {self.retires_on} lies before deprecated_on {self.deprecated_on}; swap them")
        return self

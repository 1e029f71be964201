"""The catalog document: what ops write. Strict; each field's docstring is its description in `catalog.schema.json`."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationInfo, WithJsonSchema, field_validator, model_validator

from gateway.catalog.addresses import check_base_url
from gateway.catalog.entry import Entry
from gateway.catalog.params import ParamRanges, Params, UnsupportedParams
from gateway.catalog.prices import PriceEntry
from gateway.catalog.secrets import check_reference
from gateway.types import Capability

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Can = Annotated[Capability, Field(strict=False)]
Token = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,512}$")]
AliasName = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,1024}$")]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
PolicyItem = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]})
]
"""Judged by the policies themselves when the references are checked."""
Category = Literal["text", "speech"]

_OURS_TO_SET = (
    *("authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"),
    *("host", "connection", "content-length", "content-type", "transfer-encoding", "te", "upgrade", "expect"),
)


class TimeoutsEntry(Entry):
    """Limits of one attempt, in seconds. What is left out keeps the gateway's default."""

    pool_s: Seconds | None = None
    """Longest wait for a free connection. Default: 2."""
    connect_s: Seconds | None = None
    """Longest time to connect, TLS included. Default: 3."""
    first_byte_s: Seconds | None = None
    """Longest wait for the first byte of the answer. Default: 120."""
    idle_s: Seconds | None = None
    """Longest silence between two reads of an answer. Default: 60."""
    total_s: Seconds | None = None
    """Longest time of the whole attempt. Default: 600."""


class DefaultsEntry(Entry):
    """A provider's default model for each category, to which its deprecated and vanished models fall."""

    text: Name | None = None
    """Model for chat."""
    speech: Name | None = None
    """Model for speech."""


class ProviderEntry(Entry):
    """A company's API, or a server of one's own: how it is spoken to, where, and with which credential."""

    adapter: Name
    """Which API it speaks: the name of an adapter, e.g. `openai` for every OpenAI-like server."""
    api_key: str | None = None
    """Where the credential is: `env:NAME` or `file:/path`. Never the credential itself. Local servers need none."""
    allow_private: bool = False
    """Whether the address may lie in our own network (loopback, private, link-local)."""
    base_url: str | None = None
    """Address with its version, e.g. `https://api.example.com/v1`, or `env:NAME`. Default: the adapter's."""
    defaults: DefaultsEntry = DefaultsEntry()
    """Default model for each category."""
    timeouts: TimeoutsEntry = TimeoutsEntry()
    """Limits of one attempt."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Further attempts after the first, over all candidates, that failures of this provider may cause."""
    rpm: Count | None = None
    """Requests a minute for each of its deployments that does not say otherwise. Default: no limit."""
    tpm: Count | None = None
    """Tokens a minute for each of its deployments that does not say otherwise. Default: no limit."""
    concurrency: Count | None = None
    """Requests at once, for the provider as a whole. Default: no limit."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Constant headers of every request. Credentials are refused here; they belong in `api_key`."""
    options: dict[Name, str] = Field(default_factory=dict)
    """What only this adapter understands, e.g. `api_version`."""
    params: Params = Params()
    """Request parameters that apply where neither model, tier, preset nor caller says otherwise."""
    unsupported_params: UnsupportedParams = Field(default_factory=dict)
    """Request fields that none of its models takes: `drop`, `reject`, or the name to send it under."""
    param_ranges: ParamRanges = Field(default_factory=dict)
    """Lowest and highest value that it takes of a numeric field, e.g. `temperature: [0, 1]`."""
    ca_file: Text | None = None
    """PEM file of the certificate authorities that may vouch for the server. Default: the system's."""
    client_cert: Text | None = None
    """PEM file with the certificate and key that we show to the server."""

    @field_validator("api_key")
    @classmethod
    def _only_references(cls, value: str | None) -> str | None:
        return None if value is None else check_reference(value)

    @field_validator("base_url")
    @classmethod
    def _only_addresses(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        if value.startswith("env:"):
            return check_reference(value)
        return check_base_url(value, allow_private=bool(info.data.get("allow_private")))

    @field_validator("headers")
    @classmethod
    def _no_credentials(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in _OURS_TO_SET:
                raise ValueError(f"header '{name}' is set by the gateway; remove it (credentials belong in api_key)")
        return {name.lower(): text for name, text in value.items()}


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
    """Requests a minute. Default: the provider's."""
    tpm: Count | None = None
    """Tokens a minute. Default: the provider's."""
    concurrency: Count | None = None
    """Requests at once. Default: no limit of its own."""


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
    on_caller_left: Literal["cancel", "drain"] | CallerLeftEntry = "cancel"
    """What becomes of an answer whose caller has gone: `cancel`, `drain`, or a mapping with limits."""

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> Self:
        if (self.models is None) == (self.match is None):
            raise ValueError("needs either models or match; give exactly one of them")
        if self.match is not None and self.match.quality is None and not self.match.require:
            raise ValueError("match is empty; name a quality or required capabilities")
        return self


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

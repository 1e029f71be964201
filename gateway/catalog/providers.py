"""Providers as the document writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from gateway.catalog.addresses import check_base_url
from gateway.catalog.entry import Count, Entry, Name, Seconds, Text
from gateway.catalog.params import ParamRanges, Params, UnsupportedParams
from gateway.catalog.secrets import check_reference

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,1024}$")]

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
    """Longest wait for the first byte of the answer, and from there for a stream's first event. Default: 120."""
    idle_s: Seconds | None = None
    """Longest silence between two reads of an answer. Default: 60."""
    progress_s: Seconds | None = None
    """Longest wait for a stream's next event while there come only signs of life: comments and pings. Default: 120."""
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
    slow_ttft_s: Seconds | None = None
    """A stream that begins later counts as slow; mostly slow ones open the breaker. Default: half of `first_byte_s`."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Further attempts after the first, over all candidates, that failures of this provider may cause."""
    breaker: bool | None = None
    """Whether failures open breakers and refusals cool deployments down. Off for what balances load by itself. Default:
    true, but not for the sandbox, which fails only where a caller asks it to."""
    rpm: Count | None = None
    """Requests a minute for each of its deployments that does not say otherwise. Default: no limit."""
    tpm: Count | None = None
    """Tokens a minute for each of its deployments that does not say otherwise. Default: no limit."""
    concurrency: Count | None = None
    """Requests at once in each worker, at all its deployments together. Default: no limit."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Constant headers of every request. Credentials are refused here; they belong in `api_key`."""
    options: dict[Name, str] = Field(default_factory=dict)
    """What only this adapter understands, e.g. `api_version`; a value may be `env:NAME`."""
    params: Params = Params()
    """Request parameters that apply where neither model, tier, preset nor caller says otherwise."""
    unsupported_params: UnsupportedParams = Field(default_factory=dict)
    """Request fields that none of its models takes: `drop`, `reject`, or the name to send it under."""
    param_ranges: ParamRanges = Field(default_factory=dict)
    """Lowest and highest value that it takes of a numeric field, e.g. `temperature: [0, 1]`."""
    verify: bool = False
    """Whether its key is checked before its models are offered; one that is refused is tried again every minute."""
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

    @field_validator("options")
    @classmethod
    def _only_whole_references(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            if text.startswith("env:"):
                check_reference(text)
        return value

    @field_validator("headers")
    @classmethod
    def _no_credentials(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name.lower() in _OURS_TO_SET:
                raise ValueError(f"header '{name}' is set by the gateway; remove it (credentials belong in api_key)")
        return {name.lower(): text for name, text in value.items()}

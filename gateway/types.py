"""The vocabulary of the gateway: frozen values that every other module speaks in.

What is made anew for every request is a msgspec Struct, which takes a fifth of a dataclass's time to make.

Units stand in the names: ``_tokens``, ``_nano`` (nano-USD), ``_pico`` (pico-USD), ``_s`` (seconds), ``_ms``, ``_at``
(seconds since the epoch, UTC, as a float unless said otherwise). Money is always an integer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec
from msgspec import Struct


class Capability(StrEnum):
    """What a model can do. A request needs some of them; a candidate must have all that are needed."""

    TEXT_INPUT = "text_input"
    """Reads text."""
    IMAGE_INPUT = "image_input"
    """Reads images, by URL or inline."""
    AUDIO_INPUT = "audio_input"
    """Reads audio parts."""
    VIDEO_INPUT = "video_input"
    """Reads video parts."""
    DOCUMENT_INPUT = "document_input"
    """Reads files such as PDF as message parts."""
    TEXT_OUTPUT = "text_output"
    """Writes text."""
    IMAGE_OUTPUT = "image_output"
    """Writes images."""
    AUDIO_OUTPUT = "audio_output"
    """Writes audio."""
    STRUCTURED_OUTPUT = "structured_output"
    """Keeps to a JSON Schema (`response_format: json_schema`)."""
    FUNCTION_CALLING = "function_calling"
    """Calls tools."""
    PARALLEL_TOOL_CALLS = "parallel_tool_calls"
    """Calls several tools in one turn."""
    JSON_MODE = "json_mode"
    """Answers with some JSON object (`response_format: json_object`)."""
    STREAMING = "streaming"
    """Streams its answer."""
    BATCH = "batch"
    """Can be asked through the provider's batch API."""
    LARGE_CONTEXT = "large_context"
    """Reads at least 100,000 tokens."""
    EXTRA_LARGE_CONTEXT = "extra_large_context"
    """Reads at least 1,000,000 tokens."""
    PROMPT_CACHING = "prompt_caching"
    """Charges less for a repeated prompt prefix."""
    EXTENDED_THINKING = "extended_thinking"
    """Reasons before it answers; takes a reasoning effort."""
    CODE_GENERATION = "code_generation"
    """Recommended by its maker for writing code."""
    MATH_REASONING = "math_reasoning"
    """Recommended by its maker for mathematics."""
    CONTENT_FILTERING = "content_filtering"
    """Reports the provider's content-filter findings."""
    SYSTEM_MESSAGES = "system_messages"
    """Takes a system or developer message."""
    LOGPROBS = "logprobs"
    """Returns token log probabilities."""
    MULTIPLE_CHOICES = "multiple_choices"
    """Answers with n > 1 choices in one call."""

    @property
    def bit(self) -> int:
        """This capability's bit in a capability mask."""
        return _BITS[self]


_BITS: Mapping[Capability, int] = {c: 1 << i for i, c in enumerate(Capability)}


def mask_of(capabilities: frozenset[Capability] | tuple[Capability, ...] | list[Capability]) -> int:
    """The capability mask of a set of capabilities."""
    mask = 0
    for c in capabilities:
        mask |= _BITS[c]
    return mask


def capabilities_of(mask: int) -> tuple[Capability, ...]:
    """The capabilities whose bits are set, in declaration order."""
    return tuple(c for c, bit in _BITS.items() if mask & bit)


class Secret:
    """A credential that no repr, format string, log or dump can show; `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


# --------------------------------------------------------------------------------------------------------------- money


class Usage(Struct, frozen=True):
    """Tokens of one attempt in disjoint buckets, as the provider reported them.

    All input is ``input + cache_read + cache_write_5m + cache_write_1h + audio_in``; all output is
    ``output + audio_out``. Only ``reasoning`` is no bucket of its own: it is the part of ``output`` spent on reasoning.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_in: int = 0
    audio_out: int = 0
    images: int = 0
    characters: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All input in OpenAI's way of counting: cached reads and writes included."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.audio_in

    @property
    def completion_tokens(self) -> int:
        """All output in OpenAI's way of counting: reasoning included."""
        return self.output + self.audio_out


@dataclass(frozen=True, slots=True)
class Rates:
    """What one unit costs, in integer pico-USD (per token, image, character). $1 per million tokens = 1,000,000.

    ``None`` means that the row does not price this apart: ``cache_*`` and ``audio_in`` then cost what input costs,
    ``reasoning`` and ``audio_out`` what output costs. ``image`` and ``character`` without a price cost nothing apart.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    image: int | None = None
    character: int | None = None
    dearest: tuple[int, int, int, int] = field(init=False, compare=False, repr=False)
    """The most that a unit of input, of output, an image and a character can cost, however it is counted."""

    def __post_init__(self) -> None:
        # Worked out once: each request of a caller with a budget asks for it.
        inputs = (self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h, self.audio_in)
        outputs = (self.output, self.reasoning, self.audio_out)
        dearest = *(max(rate or 0 for rate in of) for of in (inputs, outputs)), self.image or 0, self.character or 0
        object.__setattr__(self, "dearest", dearest)


@dataclass(frozen=True, slots=True)
class Cliff:
    """Long-context rates: they apply to the whole request once its prompt tokens exceed ``above_tokens``."""

    above_tokens: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class OffPeak:
    """Rates within a daily UTC window, ``start_minute`` inclusive, ``end_minute`` exclusive; it may pass midnight."""

    start_minute: int
    end_minute: int
    rates: Rates


@dataclass(frozen=True, slots=True)
class Price:
    """A dated price row. Rows are appended and never edited; an entry keeps the row it was charged by."""

    price_id: str
    from_at: float
    rates: Rates
    cliffs: tuple[Cliff, ...] = ()
    service_tiers: Mapping[str, Price] = field(default_factory=dict)
    """Rates of a service tier (flex, priority, batch) as the provider's answer names it; each is a whole row."""
    off_peak: tuple[OffPeak, ...] = ()
    source: str = ""
    checked: str = ""

    def rates_at(self, prompt_tokens: int, at: float) -> Rates:
        """What so long a prompt is charged by at this time: the highest cliff passed, else off-peak, else base."""
        if not self.cliffs and not self.off_peak:
            return self.rates
        passed = [cliff for cliff in self.cliffs if prompt_tokens > cliff.above_tokens]
        if passed:
            return max(passed, key=lambda cliff: cliff.above_tokens).rates
        minute = int(at // 60) % 1440
        for window in self.off_peak:
            start, end = window.start_minute, window.end_minute
            if start <= minute < end if start <= end else minute >= start or minute < end:
                return window.rates
        return self.rates


# ------------------------------------------------------------------------------------------------------------- catalog


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an HTTP connection goes: what the engine pools connections by."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    allow_private: bool = False
    """Whether the host may resolve to a loopback, private or link-local address."""
    ca_file: str | None = None
    client_cert: str | None = None

    def __hash__(self) -> int:
        return hash(self.host)  # which a string keeps; that of all fields would be worked out anew for every request

    @property
    def authority(self) -> str:
        """The Host header's value: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one upstream attempt, in seconds on the monotonic clock."""

    pool_s: float = 2.0
    connect_s: float = 3.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0
    progress_s: float = 120.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One URL of a provider with its constant headers, made once for each catalog version."""

    origin: Origin
    method: str
    target: str
    """Path and query, percent-encoded, as it stands in the request line."""
    headers: tuple[tuple[str, str], ...]
    """Constant headers in lower case, credentials included; never Host, Content-Length or Transfer-Encoding."""
    head: bytes = field(default=b"", repr=False)
    """Request line, Host and constant headers as on the wire, without the closing blank line; what is not asked for in
    an encoding is asked for as it is. Made, not given."""

    def __post_init__(self) -> None:
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.origin.authority}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if all(name != "accept-encoding" for name, _ in self.headers):
            lines.append("accept-encoding: identity")
        if any("\r" in line or "\n" in line or "\0" in line for line in lines):
            raise ValueError(f"an endpoint of {self.origin.authority} has a line break or NUL in its URL or headers")
        object.__setattr__(self, "head", ("\r\n".join(lines) + "\r\n").encode("latin-1"))

    def __repr__(self) -> str:
        return f"Endpoint({self.method} {self.origin.scheme}://{self.origin.authority}{self.target})"


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """A company's API: adapter, address and credentials."""

    name: str
    adapter: str
    base_url: str
    api_key: Secret | None = None
    unavailable: str | None = None
    """Why none of its deployments may be chosen (no key, key refused), in words for an operator; None if usable."""
    timeouts: Timeouts = Timeouts()
    retries: int = 2
    """Further attempts after the first, over all candidates of a plan, that failures of this provider may cause."""
    allow_private: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Default model per category (`text`, `speech`), to which vanished and deprecated models fall."""
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    """What only this adapter understands, e.g. Azure's `api_version`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    concurrency: int | None = None
    """Calls at once, all of its deployments together."""
    slow_ttft_s: float | None = None
    breaker: bool = True
    """Whether its failures open breakers and its refusals cool deployments down."""


Status = Literal["pending", "enabled", "disabled", "deprecated", "retired"]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What the catalog describes, whoever serves it."""

    name: str
    display_name: str
    status: Status
    capabilities: int
    """Capability mask."""
    input_tokens: int | None
    """Context limit for the prompt; None where unknown."""
    output_tokens: int | None
    """Most tokens in one answer; None where unknown."""
    quality: str | None = None
    category: Literal["text", "speech"] = "text"
    created_at: int = 0
    """Release date, whole seconds; orders `newest` and fills `created` in /v1/models."""
    deprecated_at: float | None = None
    retires_at: float | None = None
    replacement: str | None = None
    guidance: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A model at one provider: upstream id, prices, endpoints."""

    name: str
    """`provider/model`, or `provider/model#suffix` where a provider serves the model more than once. Unique."""
    provider: Provider
    model: Model
    upstream_id: str
    prices: tuple[Price, ...] = ()
    """Ascending by `from_at`."""
    region: str | None = None
    weight: int = 1
    capabilities: int = 0
    """The model's mask less what this deployment lacks."""
    params: Mapping[str, Any] = field(default_factory=dict)
    unsupported_params: Mapping[str, str] = field(default_factory=dict)
    """Request field -> `drop`, `reject`, or the name to send it under."""
    param_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    slow_ttft_s: float | None = None
    """From when on a stream that begins later than this counts as slow; None for what tier or provider say."""
    endpoint: Endpoint | None = None
    """None only where the provider is unavailable."""
    stream_endpoint: Endpoint | None = None

    def price_at(self, at: float) -> Price | None:
        """The row in force at `at`, or None: unknown is never free."""
        for price in reversed(self.prices):
            if price.from_at <= at:
                return price
        return None


@dataclass(frozen=True, slots=True)
class OnCallerLeft:
    """What becomes of an attempt whose caller has gone: cancel at once, or read on up to these limits."""

    action: Literal["cancel", "drain"] = "cancel"
    seconds: float = 10.0
    tokens: int = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Override:
    """What a tier means for one key or tag."""

    label: str
    """`key:NAME` or `tag:NAME=VALUE`, as in `Facts.labels`."""
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tier:
    """A quality class that apps ask for by name."""

    name: str
    deployments: tuple[Deployment, ...]
    """Every deployment of every model of the tier, in the order the catalog lists them; unusable ones included."""
    policy: tuple[Any, ...]
    """The compiled policy chain, in order; see policies/base.py."""
    default: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    on_caller_left: OnCallerLeft = OnCallerLeft()
    min_output_tokens: int | None = None
    """Fewest tokens of answer that a budget may leave; None for the defaults of each sort of budget."""
    timeouts: Timeouts | None = None
    slow_ttft_s: float | None = None
    description: str = ""
    fallback: tuple[Deployment, ...] = ()
    """Stand in where no other deployment of the tier is usable at all (no provider has a key): the sandbox, say."""
    overrides: tuple[Override, ...] = ()
    """The first whose label the caller carries replaces `deployments`."""


# ------------------------------------------------------------------------------------------------------------- routing


class Options(Struct, frozen=True, array_like=True):
    """What a caller adds beyond OpenAI's API: the body's `gateway` object or `x-gateway-*` headers."""

    require: int = 0
    """Capability mask demanded over what the body implies."""
    prefer_provider: str | None = None
    policy: str | None = None
    preset: str | None = None
    max_cost_nano: int | None = None
    deadline_s: float | None = None
    tags: tuple[tuple[str, str], ...] = ()
    session: str | None = None
    explain: bool = False
    show_cost: bool = False
    """Whether the usage chunk of a stream carries `cost_usd`."""


class Needs(Struct, frozen=True, array_like=True):
    """What a request demands of whoever answers it."""

    mask: int
    """Capability mask."""
    input_tokens: int
    """Estimate of the prompt."""
    input_bound_tokens: int
    """Upper bound of the prompt (one token per UTF-8 byte, plus media at their worst); what holds are made of."""
    output_tokens: int | None
    """The caller's cap on each choice, None where the caller gave none."""
    choices: int = 1
    stream: bool = False
    text_bytes: int = 0
    """Length of the prompt in JSON, from which tokens can be estimated; 0 where it holds media."""


class Health(Struct, frozen=True, array_like=True):
    """What is known against a deployment now. A deployment that is not in the view is healthy."""

    state: Literal["open", "half_open", "resting", "full", "ejected"]
    until_at: float | None = None
    """When that ends, where known."""
    detail: str = ""
    last_resort: bool = False
    """Whether an open breaker still lets a request through that nobody else can serve."""


class Stats(Struct, frozen=True, array_like=True):
    """Exponentially weighted observations of one deployment."""

    ttft_ms: float
    tokens_per_s: float
    error_rate: float
    output_tokens: float
    samples: int
    bytes_per_token: float = 0.0
    """Of prompts, as its provider counts them; 0 where that is not known."""


class Facts(Struct, frozen=True, array_like=True):
    """Everything outside catalog and request that a plan depends on; recorded, so that a plan can be replayed."""

    now: float
    seed: int = 0
    health: Mapping[str, Health] = msgspec.field(default_factory=dict)
    """By deployment name; only those with something against them."""
    stats: Mapping[str, Stats] = msgspec.field(default_factory=dict)
    budget_left_share: float | None = None
    """Smallest share (0..1) left of the caller's budgets; None without a budget."""
    priced_only: bool = False
    """The caller has a budget, so a deployment without a price in force cannot be charged and must not be chosen."""
    allowed_tiers: frozenset[str] | None = None
    allowed_models: frozenset[str] | None = None
    """What the caller's key limits it to; None for no limit."""
    sticky: str | None = None
    """The deployment that serves this caller's session so far."""
    labels: frozenset[str] = frozenset()
    """The caller's key and its tags, as `key:NAME` and `tag:NAME=VALUE`; what a tier's overrides look at."""
    subject: int | None = None
    """Digest of the key and session or user that stay in one arm of an experiment; None: each request draws its own."""
    stopped: frozenset[str] = frozenset()
    """Canaries that were stopped, by their marks."""
    listed_models: frozenset[str] | None = None
    """The key's own list of models, less those denied to it; None where it has none. A key limited to tiers may name
    these beside the models of its tiers."""


class Drop(Struct, frozen=True, array_like=True):
    """Why a deployment is not a candidate."""

    deployment: str
    rule: str
    """The policy or filter that dropped it, e.g. `capability`."""
    reason: str
    """In words, naming the values compared."""


class Candidate(Struct, frozen=True):
    """A deployment that may serve the request, with what is expected of it."""

    deployment: Deployment
    price: Price | None
    expected_nano: int | None
    """Cost of this request; None where no price is in force."""
    input_tokens: int
    """What it will count the prompt as."""


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One of the ways in which an experiment treats requests."""

    experiment: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """Request parameters of this arm; the caller's own still win."""
    copy: Copy | None = None

    @property
    def tag(self) -> tuple[str, str]:
        """How ledger entries tell it: reports by `tag:experiment:NAME` have a row for each arm."""
        return f"experiment:{self.experiment}", self.name


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """Where a shadowed request is sent once more, and what all its copies may cost."""

    to: str
    """A model or a deployment."""
    arm: Arm
    """What the copy counts for."""
    budget_nano: int
    per: Literal["hour", "day", "month", "total"]


class Plan(Struct, frozen=True):
    """The route of one request: candidates in the order to try them."""

    alias: str
    """The name the caller sent."""
    tier: str | None
    candidates: tuple[Candidate, ...]
    dropped: tuple[Drop, ...]
    substituted: str | None = None
    """What the request was moved from, where a deprecated or vanished model was asked for."""
    steps: tuple[str, ...] = ()
    """What each policy did, in words; only filled when an explanation is asked for."""
    arms: tuple[Arm, ...] = ()
    """The request's arm in each experiment of the tier."""


# -------------------------------------------------------------------------------------------------------------- ledger

UsageSource = Literal["provider", "drained", "estimated", "held"]
Settlement = Literal["complete", "caller_left", "upstream_cut", "deadline", "failed", "void"]

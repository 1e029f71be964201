"""What an adapter is: a pure translator between OpenAI's chat API and one provider's.

No I/O, no clock, no globals that change. One instance serves every request, so it keeps no state; what a stream must
remember lives in its `ChatStream`. `completion()` and the stream share one `usage()`, so both are priced alike.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from msgspec import DecodeError, Struct

from gateway.chat import Chat
from gateway.errors import UpstreamError
from gateway.types import Deployment, Endpoint, Provider, Usage

NOT_JSON = (DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a provider's JSON may raise: it is none, a string in it is no UTF-8, or it is nested without end."""


class Stamp(Struct, frozen=True):
    """What an answer needs and some providers do not give; made by the gateway, since adapters have no clock."""

    request_id: str
    """`req_…`, the gateway's own."""
    at: float
    """When the request came, seconds since the epoch."""

    @property
    def id(self) -> str:
        """`chatcmpl-…`, unique to the request."""
        return "chatcmpl-" + self.request_id.removeprefix("req_")

    @property
    def created(self) -> int:
        """Whole seconds since the epoch."""
        return int(self.at)


class Completion(Struct, frozen=True):
    """A buffered answer in OpenAI's form."""

    body: bytes
    """The `chat.completion` object as JSON; the provider's own bytes where nothing had to change."""
    usage: Usage | None
    """None where the provider told none; the gateway then estimates."""
    model: str | None = None
    """What the provider reported."""
    service_tier: str | None = None
    """What the provider charged by (`flex`, `priority`, `default`, …), where it says so."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of a provider's model list, with whatever metadata came along."""

    id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class ChatStream(ABC):
    """Turns a provider's streamed bytes into OpenAI's server-sent events, as they come.

    A push parser: `feed()` takes whatever a read returned, however it was cut, and gives the bytes that may go to the
    caller now (perhaps none). It never emits `data: [DONE]` nor the caller's usage chunk: those are given by `end()`,
    so that the attempt can be settled before the caller sees the end.
    """

    usage: Usage | None = None
    """What the provider has told so far; the last word wins."""
    model: str | None = None
    service_tier: str | None = None
    started: bool = False
    """Whether a first good event has been seen: from then on the gateway is committed to this candidate."""
    finished: bool = False
    """Whether the provider's own end was seen (`[DONE]`, `message_stop`, a finish reason at end of body …)."""
    failure: UpstreamError | None = None
    """Set when the provider reported an error within the stream, or sent what cannot be read. Feeding stops."""
    inner_events: int = 0
    """Reads that gave the caller nothing and were progress all the same; comments and pings are none."""
    output_bytes: int = 0
    """UTF-8 bytes of text, reasoning and arguments so far; usage is estimated from them where none is told."""

    @property
    def told_all(self) -> bool:
        """Whether the answer is over, so that `usage` is that of all of it; what is told on the way may grow yet."""
        return self.finished

    @abstractmethod
    def feed(self, data: bytes) -> bytes:
        """Takes the provider's next bytes; gives what the caller may have now."""

    @abstractmethod
    def end(self) -> bytes:
        """Call once when the provider's body has ended, or `finished` is set: the last bytes for the caller.

        Where the stream came to its proper end: the usage chunk if the caller asked for one, then `data: [DONE]`.
        Where it was cut short, `failure` is set and b"" returned.
        """


class Adapter(ABC):
    """One provider API."""

    name: ClassVar[str]
    default_base_url: ClassVar[str | None] = None
    """Base URL where the catalog gives none; None where it must."""
    needs_key: ClassVar[bool] = True
    """Whether a provider without `api_key` is unusable (False for local servers)."""
    steerable: ClassVar[bool] = False
    """Whether a caller may ask it to fail, so that a failure says nothing about it."""

    @abstractmethod
    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        """Where a chat request for this model goes, credentials included. Called once for each catalog version.

        Raises:
            ValueError: the provider's options are not usable, saying which and why.
        """

    @abstractmethod
    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        """The upstream body. `chat` already holds catalog, tier and preset parameters; it must not be changed.

        Raises:
            CallerError: the provider's API has no way to say what the request asks.
        """

    @abstractmethod
    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        """A 200 answer in OpenAI's form.

        Raises:
            UpstreamError: the body is not what this API answers, or reports an error under status 200.
        """

    @abstractmethod
    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        """A fresh translator for one streamed answer."""

    @abstractmethod
    def usage(self, raw: Mapping[str, Any]) -> Usage:
        """The provider's usage object in disjoint buckets."""

    @abstractmethod
    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        """What a status other than 200 means. `headers` are in lower case. Never shows the provider's raw body."""

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        """Where the provider lists its models; None where it has no such API."""
        return None

    def model_lists(self, provider: Provider) -> Sequence[Endpoint]:
        """The lists that make up what the provider offers; empty where our key can ask for none.

        They differ from `models_endpoint` where a list needs other rights than requests do, and so proves no key, or
        where it proves the key and names what cannot be called.
        """
        endpoint = self.models_endpoint(provider)
        return () if endpoint is None else (endpoint,)

    def models(self, body: bytes) -> Sequence[Listed]:
        """The models in an answer of `models_endpoint` or one of `model_lists`.

        Raises:
            UpstreamError: the list cannot be read, or is not whole.
        """
        return ()

"""Anthropic's Messages API.

Provider options: `anthropic_version` (default 2023-06-01) and `anthropic_beta` (a comma-separated list of betas).
Source: https://platform.claude.com/docs/en/api/overview (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from adapters.address import endpoint_at
from adapters.anthropic_answer import message_completion, usage_of
from adapters.anthropic_request import messages_request
from adapters.anthropic_stream import MessageStream
from adapters.base import Adapter, ChatStream, Completion, Listed, Stamp
from adapters.failures import failure, read_problem
from adapters.listing import read_list, refuse_part
from gateway.chat import Chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Deployment, Endpoint, Provider, Usage

_VERSION = "2023-06-01"

# Anthropic tells these under status 400 with the general type `invalid_request_error`, by their words alone.
_BY_SENTENCE: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"^prompt is too long\b|\bexceed context limit\b"), Kind.CONTEXT_TOO_LONG),
    (re.compile(r"^Your credit balance is too low\b"), Kind.PROVIDER_QUOTA),
)


class ModelList(Struct):
    data: list[dict[str, Any]] = []
    has_more: bool | None = None


_models = msgspec.json.Decoder(ModelList)


class AnthropicAdapter(Adapter):
    """Claude at Anthropic."""

    name: ClassVar[str] = "anthropic"
    default_base_url: ClassVar[str | None] = "https://api.anthropic.com/v1"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        return endpoint_at(provider, provider.base_url, "/messages", _headers(provider))

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        body: dict[str, Any] = {"model": deployment.upstream_id, **messages_request(chat, deployment)}
        if chat.stream:
            body["stream"] = True
        return msgspec.json.encode(body)

    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        return message_completion(body, stamp)

    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        return MessageStream(chat, stamp)

    def usage(self, raw: Mapping[str, Any]) -> Usage:
        return usage_of(raw)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        problem = read_problem(body)
        kind = next((kind for sentence, kind in _BY_SENTENCE if sentence.search(problem.message)), None)
        return failure(status, headers, problem, kind if status == 400 else None)

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        return endpoint_at(provider, provider.base_url, "/models?limit=1000", _headers(provider), method="GET")

    def models(self, body: bytes) -> Sequence[Listed]:
        found = read_list(_models, body)
        refuse_part(found.has_more)
        return [
            Listed(entry["id"], {name: value for name, value in entry.items() if name not in ("id", "type")})
            for entry in found.data
            if isinstance(entry.get("id"), str)
        ]


def _headers(provider: Provider) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "anthropic-version": provider.options.get("anthropic_version", _VERSION),
    }
    if provider.api_key is not None:
        headers["x-api-key"] = provider.api_key.reveal()
    if beta := provider.options.get("anthropic_beta"):
        headers["anthropic-beta"] = beta
    return headers

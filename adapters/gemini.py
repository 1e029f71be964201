"""Google's Gemini API (AI Studio).

Source: https://ai.google.dev/api, https://ai.google.dev/gemini-api/docs/troubleshooting (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from adapters.address import endpoint_at
from adapters.base import Adapter, ChatStream, Completion, Listed, Stamp
from adapters.failures import Problem, failure, read_problem
from adapters.gemini_answer import usage_of
from adapters.gemini_completion import generate_completion
from adapters.gemini_request import generate_request
from adapters.gemini_stream import GenerateStream
from adapters.listing import read_list, refuse_part
from gateway.chat import Chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Deployment, Endpoint, Provider, Usage

_TOO_LONG = re.compile(r"\binput token count\b.*\bexceeds the maximum\b")
"""A prompt beyond the context is a plain INVALID_ARGUMENT, told by its words alone."""


class ModelList(Struct):
    models: list[dict[str, Any]] = []
    nextPageToken: str | None = None


_models = msgspec.json.Decoder(ModelList)


class GeminiAdapter(Adapter):
    """Gemini at Google AI Studio."""

    name: ClassVar[str] = "gemini"
    default_base_url: ClassVar[str | None] = "https://generativelanguage.googleapis.com/v1beta"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        name = upstream_id if "/" in upstream_id else f"models/{upstream_id}"
        call = ":streamGenerateContent?alt=sse" if stream else ":generateContent"
        return endpoint_at(provider, provider.base_url, f"/{quote(name)}{call}", _headers(provider))

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        return msgspec.json.encode(generate_request(chat, deployment))

    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        return generate_completion(body, chat, stamp)

    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        return GenerateStream(chat, stamp)

    def usage(self, raw: Mapping[str, Any]) -> Usage:
        return usage_of(raw)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        problem = read_problem(body)
        return failure(status, headers, problem, _kind(status, problem, body))

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        return endpoint_at(provider, provider.base_url, "/models?pageSize=1000", _headers(provider), method="GET")

    def models(self, body: bytes) -> Sequence[Listed]:
        found = read_list(_models, body)
        refuse_part(found.nextPageToken)
        return [
            Listed(name.removeprefix("models/"), {key: value for key, value in entry.items() if key != "name"})
            for entry in found.models
            if isinstance(name := entry.get("name"), str)
            and isinstance(methods := entry.get("supportedGenerationMethods"), list)
            and "generateContent" in methods
        ]


def _kind(status: int, problem: Problem, body: bytes) -> Kind | None:
    """What Google's status and details say that the general tables do not know."""
    if status == 400 and _TOO_LONG.search(problem.message):
        return Kind.CONTEXT_TOO_LONG
    if "failed_precondition" in problem.marks:  # the key's project or region may not use the API
        return Kind.OUR_KEY_REFUSED
    if status == 429 and b"PerDay" in body:  # QuotaFailure: waiting for `retryDelay` would be vain
        return Kind.PROVIDER_QUOTA
    return None


def _headers(provider: Provider) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if provider.api_key is not None:
        headers["x-goog-api-key"] = provider.api_key.reveal()
    return headers

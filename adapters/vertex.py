"""Gemini and Claude on Google Cloud's Vertex AI.

Provider options: `project` and `location` (default `global`; a regional one wants its own base URL, e.g.
https://europe-west4-aiplatform.googleapis.com/v1). With a project `api_key` is an OAuth access token, which whoever
runs the gateway keeps fresh in a file; without one it is an API key of the express mode, which serves Gemini alone.

Models are listed by the API's v1beta1 alone, to access tokens; previews may be missing there.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference,
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude,
https://cloud.google.com/vertex-ai/docs/reference/rest/v1beta1/publishers.models/list (read 2026-11-21),
https://github.com/googleapis/google-cloud-node/issues/6962.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from adapters.address import endpoint_at
from adapters.anthropic import AnthropicAdapter
from adapters.anthropic_request import messages_request
from adapters.base import Listed
from adapters.gemini import GeminiAdapter
from adapters.gemini_request import generate_request
from adapters.listing import read_list, refuse_part
from gateway.chat import Chat
from gateway.types import Deployment, Endpoint, Provider

_CLAUDE_VERSION = "vertex-2023-10-16"
_PUBLIC = re.compile(r"https://(?:[a-z0-9-]+-)?aiplatform\.googleapis\.com/v1")
_DATE = re.compile(r"20\d{6}")


class _Model(msgspec.Struct):
    name: str
    versionId: str = ""


class _Lists(msgspec.Struct):
    publisherModels: list[_Model] = []
    nextPageToken: str | None = None


_lists = msgspec.json.Decoder(_Lists)


class VertexAdapter(GeminiAdapter):
    """Gemini on Vertex AI: the bodies of AI Studio at other addresses."""

    name: ClassVar[str] = "vertex"
    default_base_url: ClassVar[str | None] = "https://aiplatform.googleapis.com/v1"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        call = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return _endpoint(provider, "google", upstream_id, call)

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        body = generate_request(chat, deployment)
        body.pop("serviceTier", None)  # Vertex AI chooses its tier by contract and header
        return msgspec.json.encode(body)

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        return None

    def model_lists(self, provider: Provider) -> Sequence[Endpoint]:
        return _model_lists(provider, "google")

    def models(self, body: bytes) -> Sequence[Listed]:
        return _models(body, "gemini-")


class VertexClaudeAdapter(AnthropicAdapter):
    """Claude on Vertex AI: the model stands in the address, the API's version in the body."""

    name: ClassVar[str] = "vertex_claude"
    default_base_url: ClassVar[str | None] = "https://aiplatform.googleapis.com/v1"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        if not provider.options.get("project"):
            raise ValueError("Claude on Vertex AI needs the option `project`")
        return _endpoint(provider, "anthropic", upstream_id, "streamRawPredict" if stream else "rawPredict")

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        body: dict[str, Any] = {"anthropic_version": _CLAUDE_VERSION, **messages_request(chat, deployment)}
        body.pop("service_tier", None)
        if chat.stream:
            body["stream"] = True
        return msgspec.json.encode(body)

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        return None

    def model_lists(self, provider: Provider) -> Sequence[Endpoint]:
        return _model_lists(provider, "anthropic")

    def models(self, body: bytes) -> Sequence[Listed]:
        return _models(body, "claude-")


def _model_lists(provider: Provider, publisher: str) -> Sequence[Endpoint]:
    base_url = provider.base_url.rstrip("/")
    if provider.api_key is None or not provider.options.get("project") or not _PUBLIC.fullmatch(base_url):
        return ()
    headers = {"authorization": f"Bearer {provider.api_key.reveal()}"}
    path = f"beta1/publishers/{publisher}/models?pageSize=1000"
    origin, _, version = base_url.rpartition("/")
    return [endpoint_at(provider, origin, f"/{version}{path}", headers, method="GET")]


def _models(body: bytes, beginning: str) -> Sequence[Listed]:
    """A publisher's models of one family; a version that is a date belongs to the id, as in `claude-x@20251001`."""
    found = read_list(_lists, body)
    refuse_part(found.nextPageToken)
    listed = []
    for model in found.publisherModels:
        name = model.name.rpartition("/")[2]
        if name.startswith(beginning):
            listed.append(Listed(f"{name}@{model.versionId}" if _DATE.fullmatch(model.versionId) else name))
    return listed


def _endpoint(provider: Provider, publisher: str, upstream_id: str, call: str) -> Endpoint:
    project, headers = provider.options.get("project"), {"content-type": "application/json"}
    where = ""
    if project:
        where = f"/projects/{quote(project, safe='')}/locations/{quote(provider.options.get('location', 'global'))}"
    if provider.api_key is not None:
        key = provider.api_key.reveal()
        headers |= {"authorization": f"Bearer {key}"} if project else {"x-goog-api-key": key}
    path = f"{where}/publishers/{publisher}/models/{quote(upstream_id, safe='@')}:{call}"
    return endpoint_at(provider, provider.base_url, path, headers)

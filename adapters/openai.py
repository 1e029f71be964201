"""The adapter of OpenAI and of everything that speaks its dialect; how they differ is in `dialect.DIALECTS`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from adapters.address import endpoint_at
from adapters.base import Adapter, ChatStream, Completion, Listed, Stamp
from adapters.dialect import Dialect
from adapters.failures import failure, read_problem
from adapters.listing import read_list
from adapters.openai_answer import read_completion
from adapters.openai_request import splice
from adapters.openai_stream import OpenAiStream
from adapters.usage import read_usage, usage_of
from gateway.chat import Chat
from gateway.errors import UpstreamError
from gateway.types import Deployment, Endpoint, Provider, Usage

_JSON: Mapping[str, str] = {"content-type": "application/json", "accept": "application/json"}
_SSE: Mapping[str, str] = {"content-type": "application/json", "accept": "text/event-stream"}


class _Models(msgspec.Struct):
    data: list[dict[str, Any]] = []


_models = msgspec.json.Decoder(list[Any] | _Models)


class DialectAdapter(Adapter):
    """An OpenAI-like API, as its row says."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # One class serves many rows, so what other adapters say of their class is said here of the instance.
        self.name = dialect.name  # type: ignore[misc]  # a ClassVar elsewhere
        self.default_base_url = dialect.base_url  # type: ignore[misc]  # as above
        self.needs_key = dialect.needs_key  # type: ignore[misc]  # as above
        self.steerable = dialect.steerable  # type: ignore[misc]  # as above

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        headers = {**(_SSE if stream else _JSON), **self._credentials(provider)}
        return endpoint_at(provider, provider.base_url, self._dialect.path, headers)

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        return splice(chat, deployment, self._dialect)

    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        return read_completion(body, chat, stamp)

    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        return OpenAiStream(chat, stamp)

    def usage(self, raw: Mapping[str, Any]) -> Usage:
        told = read_usage(raw)
        return usage_of(told) if told is not None else Usage()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return failure(status, headers, read_problem(body))

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        if self._dialect.models_path is None:
            return None
        headers = {"accept": "application/json", **self._credentials(provider)}
        return endpoint_at(provider, provider.base_url, self._dialect.models_path, headers, method="GET")

    def models(self, body: bytes) -> Sequence[Listed]:
        """OpenAI's `{"data":[{"id":…}]}`, or a bare list of models (Together)."""
        found = read_list(_models, body)
        rows = found if isinstance(found, list) else found.data
        return [
            Listed(row["id"], {key: value for key, value in row.items() if key != "id"})
            for row in rows
            if isinstance(row, dict) and isinstance(row.get("id"), str) and row["id"]
        ]

    def _credentials(self, provider: Provider) -> dict[str, str]:
        if provider.api_key is None:
            return {}
        key = provider.api_key.reveal()
        return {"api-key": key} if self._dialect.auth == "api-key" else {"authorization": f"Bearer {key}"}


class AzureAdapter(DialectAdapter):
    """Azure OpenAI and Foundry models.

    By default the v1 API (`https://<resource>.openai.azure.com` or with `/openai/v1`). With option `api_version` the
    deployment stands in the path, or, where the base URL ends in `/models`, Foundry's inference endpoint is called.
    Source: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (read 2026-11-21).
    """

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        headers = {**(_SSE if stream else _JSON), **self._credentials(provider)}
        root, version = _azure_root(provider)
        if version is None:
            return endpoint_at(provider, f"{root}/openai/v1", "/chat/completions", headers)
        query = f"?api-version={quote(version, safe='')}"
        if root.endswith("/models"):
            return endpoint_at(provider, root, f"/chat/completions{query}", headers)
        deployment = f"/openai/deployments/{quote(upstream_id, safe='')}"
        return endpoint_at(provider, root, f"{deployment}/chat/completions{query}", headers)

    def models_endpoint(self, provider: Provider) -> Endpoint | None:
        root, _ = _azure_root(provider)
        if root.endswith("/models"):
            return None
        headers = {"accept": "application/json", **self._credentials(provider)}
        return endpoint_at(provider, f"{root}/openai/v1", "/models", headers, method="GET")

    def model_lists(self, provider: Provider) -> Sequence[Endpoint]:
        """None: what Azure lists are base models, and only deployments, which have names of one's own, can be called.

        Source: https://learn.microsoft.com/en-us/rest/api/azureopenai/models/list (read 2026-11-21).
        """
        return ()


def _azure_root(provider: Provider) -> tuple[str, str | None]:
    """The resource's URL without `/openai[/v1]`, and the API version where one is set."""
    root = provider.base_url.rstrip("/").removesuffix("/v1").removesuffix("/openai")
    return root, provider.options.get("api_version")

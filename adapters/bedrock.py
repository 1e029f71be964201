"""Amazon Bedrock's Converse API, with Bedrock's API keys.

The base URL names the region: https://bedrock-runtime.us-east-1.amazonaws.com. Requests signed with SigV4 are not made:
a signature is different for every body, while an endpoint's headers are made once.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html (read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from adapters.address import endpoint_at
from adapters.base import Adapter, ChatStream, Completion, Stamp
from adapters.bedrock_answer import EXCEPTIONS, converse_completion, usage_of
from adapters.bedrock_request import converse_request
from adapters.bedrock_stream import ConverseStream
from adapters.failures import failure, read_problem
from gateway.chat import Chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Deployment, Endpoint, Provider, Usage

# A ValidationException says what is wrong by its words alone.
_BY_SENTENCE: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"(?i)\binput is too long\b|\bprompt is too long\b|\btoo many input tokens\b"), Kind.CONTEXT_TOO_LONG),
    (
        re.compile(r"(?i)\bmodel identifier is invalid\b|\bon-demand throughput isn.t supported\b"),
        Kind.UPSTREAM_MODEL_MISSING,
    ),
)


class BedrockAdapter(Adapter):
    """Any model that Converse serves."""

    name: ClassVar[str] = "bedrock"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        headers = {"content-type": "application/json"}
        if provider.api_key is not None:
            headers["authorization"] = f"Bearer {provider.api_key.reveal()}"
        call = "converse-stream" if stream else "converse"
        return endpoint_at(provider, provider.base_url, f"/model/{quote(upstream_id, safe='')}/{call}", headers)

    def request(self, chat: Chat, deployment: Deployment) -> bytes:
        return msgspec.json.encode(converse_request(chat, deployment))

    def completion(self, body: bytes, chat: Chat, stamp: Stamp) -> Completion:
        return converse_completion(body, chat, stamp)

    def stream(self, chat: Chat, stamp: Stamp) -> ChatStream:
        return ConverseStream(chat, stamp)

    def usage(self, raw: Mapping[str, Any]) -> Usage:
        return usage_of(raw)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        problem = read_problem(body)
        name = headers.get("x-amzn-errortype", "").partition(":")[0].lower()
        kind = EXCEPTIONS.get(name)
        if status == 400 and kind is None:
            kind = next((kind for sentence, kind in _BY_SENTENCE if sentence.search(problem.message)), None)
        return failure(status, headers, problem, kind)

"""Amazon Bedrock's Converse API, with Bedrock's API keys.

The base URL names the region: https://bedrock-runtime.us-east-1.amazonaws.com. Requests signed with SigV4 are not made:
a signature is different for every body, while an endpoint's headers are made once.

Models are listed by another host, with the same key: its default policy, AmazonBedrockLimitedAccess, lets it list. Many
models can be called through an inference profile only, which is why those are listed too.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html, …/api-keys-reference.html,
https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonBedrockLimitedAccess.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_ListFoundationModels.html, …/API_ListInferenceProfiles.html
(read 2026-11-21).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from adapters.address import endpoint_at
from adapters.base import Adapter, ChatStream, Completion, Listed, Stamp
from adapters.bedrock_answer import EXCEPTIONS, converse_completion, usage_of
from adapters.bedrock_request import converse_request
from adapters.bedrock_stream import ConverseStream
from adapters.failures import failure, read_problem
from adapters.listing import read_list, refuse_part
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
_RUNTIME = re.compile(
    r"(?P<before>https://bedrock)-runtime(?P<after>(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|api\.aws))/?"
)
"""The public host of a region; a private one or a proxy need not have the lists beside it."""


class _Model(msgspec.Struct):
    modelId: str
    modelName: str | None = None
    outputModalities: list[str] = []
    inferenceTypesSupported: list[str] = []


class _Profile(msgspec.Struct):
    inferenceProfileId: str
    inferenceProfileName: str | None = None
    status: str | None = None


class _Lists(msgspec.Struct):
    modelSummaries: list[_Model] = []
    inferenceProfileSummaries: list[_Profile] = []
    nextToken: str | None = None


_lists = msgspec.json.Decoder(_Lists)


class BedrockAdapter(Adapter):
    """Any model that Converse serves."""

    name: ClassVar[str] = "bedrock"

    def endpoint(self, provider: Provider, upstream_id: str, *, stream: bool) -> Endpoint:
        headers = _headers(provider)
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

    def model_lists(self, provider: Provider) -> Sequence[Endpoint]:
        host = _RUNTIME.fullmatch(provider.base_url)
        if host is None or provider.api_key is None:
            return ()
        lists = ("/foundation-models", "/inference-profiles?maxResults=1000&typeEquals=SYSTEM_DEFINED")
        base_url = host["before"] + host["after"]
        return [endpoint_at(provider, base_url, path, _headers(provider), method="GET") for path in lists]

    def models(self, body: bytes) -> Sequence[Listed]:
        """What can be called as it is: models on demand, and the profiles through which the others are."""
        found = read_list(_lists, body)
        refuse_part(found.nextToken)
        on_demand = [
            Listed(model.modelId, {"name": model.modelName, "type": _type(model)})
            for model in found.modelSummaries
            if "ON_DEMAND" in model.inferenceTypesSupported
        ]
        profiles = [
            Listed(profile.inferenceProfileId, {"name": profile.inferenceProfileName})
            for profile in found.inferenceProfileSummaries
            if profile.status == "ACTIVE"
        ]
        return [*on_demand, *profiles]


def _headers(provider: Provider) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if provider.api_key is not None:
        headers["authorization"] = f"Bearer {provider.api_key.reveal()}"
    return headers


def _type(model: _Model) -> str | None:
    """What a model is for, where its outputs tell: as discovery knows the words."""
    outputs = model.outputModalities
    if "TEXT" in outputs:
        return None
    return next((kind for word, kind in (("SPEECH", "audio"), ("EMBEDDING", "embedding")) if word in outputs), "image")

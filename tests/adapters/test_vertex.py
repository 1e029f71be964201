"""Gemini and Claude at Vertex AI's addresses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapters import ADAPTERS
from gateway.chat import parse_chat
from gateway.types import Provider, Secret
from tests.adapters.wire_harness import deployment_of

BASE = "https://europe-west4-aiplatform.googleapis.com/v1"
OPTIONS = {"project": "p-1", "location": "europe-west4"}
CHAT = parse_chat(
    b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"service_tier":"priority","stream":true,"max_tokens":5}'
)


def provider(adapter: str, options: dict[str, str]) -> Provider:
    return Provider("v", adapter, BASE, Secret("k"), options=options)


@pytest.mark.parametrize(
    ("adapter", "stream", "target"),
    [
        ("vertex", False, "publishers/google/models/some-model@1:generateContent"),
        ("vertex", True, "publishers/google/models/some-model@1:streamGenerateContent?alt=sse"),
        ("vertex_claude", False, "publishers/anthropic/models/some-model@1:rawPredict"),
        ("vertex_claude", True, "publishers/anthropic/models/some-model@1:streamRawPredict"),
    ],
)
def test_endpoint_names_project_location_and_model(adapter: str, stream: bool, target: str) -> None:
    """A project's calls carry an access token."""
    endpoint = ADAPTERS[adapter].endpoint(provider(adapter, OPTIONS), "some-model@1", stream=stream)
    assert endpoint.target == f"/v1/projects/p-1/locations/europe-west4/{target}"
    assert dict(endpoint.headers)["authorization"] == "Bearer k"


def test_express_mode_needs_a_key_alone() -> None:
    """Without a project Gemini is asked with an API key, and Claude cannot be asked."""
    endpoint = ADAPTERS["vertex"].endpoint(provider("vertex", {}), "g", stream=False)
    assert endpoint.target == "/v1/publishers/google/models/g:generateContent"
    assert dict(endpoint.headers)["x-goog-api-key"] == "k"
    with pytest.raises(ValueError, match="project"):
        ADAPTERS["vertex_claude"].endpoint(provider("vertex_claude", {}), "c", stream=False)


@pytest.mark.parametrize(("adapter", "publisher"), [("vertex", "google"), ("vertex_claude", "anthropic")])
def test_models_are_listed_to_access_tokens_alone(adapter: str, publisher: str) -> None:
    """By v1beta1 of the same host; an API key, and a host that is not Google's, is not tried there."""
    (listing,) = ADAPTERS[adapter].model_lists(provider(adapter, OPTIONS))
    assert (listing.method, listing.target) == ("GET", f"/v1beta1/publishers/{publisher}/models?pageSize=1000")
    assert dict(listing.headers)["authorization"] == "Bearer k"
    assert ADAPTERS[adapter].model_lists(provider(adapter, {})) == ()
    elsewhere = replace(provider(adapter, OPTIONS), base_url="https://proxy.example/v1")
    assert ADAPTERS[adapter].model_lists(elsewhere) == ()


def test_publishers_models_are_read() -> None:
    """A version that is a date belongs to the id; other families of a publisher are left out."""
    rows = [("gemini-3.8-flash", "default"), ("gemini-2.0-flash", "001"), ("imagen-5", "001")]
    body = {"publisherModels": [{"name": f"publishers/google/models/{n}", "versionId": v} for n, v in rows]}
    listed = ADAPTERS["vertex"].models(json.dumps(body).encode())
    assert [row.id for row in listed] == ["gemini-3.8-flash", "gemini-2.0-flash"]
    rows = [("claude-haiku-4-5", "20251001"), ("claude-opus-5-5", "default")]
    body = {"publisherModels": [{"name": f"publishers/anthropic/models/{n}", "versionId": v} for n, v in rows]}
    listed = ADAPTERS["vertex_claude"].models(json.dumps(body).encode())
    assert [row.id for row in listed] == ["claude-haiku-4-5@20251001", "claude-opus-5-5"]


def test_bodies_are_those_of_the_makers_own_apis() -> None:
    """But for what stands in the address, and the service tier, which is no matter of the body here."""
    gemini = json.loads(ADAPTERS["vertex"].request(CHAT, deployment_of(ADAPTERS["vertex"])))
    assert gemini == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "generationConfig": {"maxOutputTokens": 5},
    }
    claude = json.loads(ADAPTERS["vertex_claude"].request(CHAT, deployment_of(ADAPTERS["vertex_claude"])))
    assert claude == {
        "anthropic_version": "vertex-2023-10-16",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


@pytest.mark.parametrize("adapter", ["vertex", "vertex_claude"])
def test_models_are_not_listed(adapter: str) -> None:
    """Vertex AI has no list of what a project may call."""
    assert ADAPTERS[adapter].models_endpoint(provider(adapter, OPTIONS)) is None

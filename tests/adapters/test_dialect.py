"""Where the OpenAI-like providers are, and what models they list."""

from __future__ import annotations

import json

import pytest

from adapters import ADAPTERS
from adapters.dialect import DIALECTS
from tests.adapters.answering import provider

KEYED = [row.name for row in DIALECTS if row.base_url is not None and row.auth == "bearer"]


@pytest.mark.parametrize("name", KEYED)
def test_endpoint_stands_below_the_base_url(name: str) -> None:
    """The chat path follows the base URL as OpenAI's SDKs have it, and the key goes as a bearer token."""
    base_url = ADAPTERS[name].default_base_url
    assert base_url is not None
    endpoint = ADAPTERS[name].endpoint(provider(name, base_url), "m", stream=False)
    origin = endpoint.origin
    assert f"{origin.scheme}://{origin.authority}{endpoint.target}" == f"{base_url}/chat/completions"
    assert dict(endpoint.headers)["authorization"] == "Bearer the-key"
    assert endpoint.method == "POST"


def test_server_without_key_gets_none() -> None:
    """A local server is called without credentials."""
    endpoint = ADAPTERS["openai"].endpoint(provider("openai", "http://127.0.0.1:8000/v1", key=None), "m", stream=True)
    assert "authorization" not in dict(endpoint.headers)
    assert (endpoint.origin.authority, endpoint.target) == ("127.0.0.1:8000", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("base_url", "options", "target"),
    [
        ("https://r.openai.azure.com", {}, "/openai/v1/chat/completions"),
        ("https://r.openai.azure.com/openai/v1/", {}, "/openai/v1/chat/completions"),
        (
            "https://r.openai.azure.com",
            {"api_version": "2024-10-21"},
            "/openai/deployments/my%2Fgpt/chat/completions?api-version=2024-10-21",
        ),
        (
            "https://r.services.ai.azure.com/models",
            {"api_version": "2024-05-01-preview"},
            "/models/chat/completions?api-version=2024-05-01-preview",
        ),
    ],
)
def test_azure_has_three_kinds_of_address(base_url: str, options: dict[str, str], target: str) -> None:
    """The v1 API, the deployment in the path where a version is set, and Foundry's endpoint; the key stands apart."""
    endpoint = ADAPTERS["azure"].endpoint(provider("azure", base_url, options=options), "my/gpt", stream=False)
    assert endpoint.target == target
    assert dict(endpoint.headers)["api-key"] == "the-key"
    assert "authorization" not in dict(endpoint.headers)


def test_headers_of_the_catalog_win() -> None:
    """What an operator sets for a provider replaces what the adapter would send."""
    own = provider("openrouter", "https://openrouter.ai/api/v1", headers={"X-Title": "Ours", "Accept": "*/*"})
    headers = dict(ADAPTERS["openrouter"].endpoint(own, "m", stream=False).headers)
    assert headers["x-title"] == "Ours"
    assert headers["accept"] == "*/*"


def test_models_are_listed_with_their_metadata() -> None:
    """OpenAI's list and a bare list give the same; rows without an id are passed over."""
    rows = [{"id": "a", "object": "model", "context_length": 9}, {"name": "nameless"}, {"id": ""}, 7]
    for body in ({"object": "list", "data": rows[:3]}, rows):
        (listed,) = ADAPTERS["together"].models(json.dumps(body).encode())
        assert (listed.id, listed.metadata["context_length"]) == ("a", 9)


def test_model_lists_have_an_address_where_they_exist() -> None:
    """GET below the base URL; Foundry's inference endpoint has none."""
    listing = ADAPTERS["groq"].models_endpoint(provider("groq", "https://api.groq.com/openai/v1"))
    assert listing is not None
    assert (listing.method, listing.target) == ("GET", "/openai/v1/models")
    assert ADAPTERS["azure"].models_endpoint(provider("azure", "https://r.services.ai.azure.com/models")) is None


def test_azure_lists_nothing_that_can_be_called() -> None:
    """Its list holds base models, not deployments: it shows whether the key is good, and discovery leaves it alone."""
    azure = provider("azure", "https://r.openai.azure.com")
    listing = ADAPTERS["azure"].models_endpoint(azure)
    assert listing is not None
    assert (listing.method, listing.target) == ("GET", "/openai/v1/models")
    assert ADAPTERS["azure"].model_lists(azure) == ()

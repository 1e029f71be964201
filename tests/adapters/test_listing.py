"""A model list that is none, or is not whole, is the provider's failure: no model must count as vanished by it."""

from __future__ import annotations

import pytest

from adapters import ADAPTERS
from gateway.errors import Kind, UpstreamError

LISTS = {
    "openai": b'{"data":[{"id":"%b"}]}',
    "anthropic": b'{"data":[{"id":"%b"}]}',
    "gemini": b'{"models":[{"name":"models/%b","supportedGenerationMethods":["generateContent"]}]}',
    "ollama": b'{"models":[{"model":"%b"}]}',
    "bedrock": b'{"modelSummaries":[{"modelId":"%b","inferenceTypesSupported":["ON_DEMAND"]}]}',
    "vertex": b'{"publisherModels":[{"name":"publishers/google/models/gemini-%b"}]}',
    "vertex_claude": b'{"publisherModels":[{"name":"publishers/anthropic/models/claude-%b"}]}',
}
"""The shape of each API's list, with room for an id."""
OTHER_TYPES = [
    ("openai", b'{"data":7}'),
    ("anthropic", b'{"data":7}'),
    ("gemini", b'{"models":7}'),
    ("ollama", b'{"data":7}'),
    ("bedrock", b'{"modelSummaries":7}'),
    ("bedrock", b'{"modelSummaries":[{"modelId":"m","inferenceTypesSupported":7}]}'),
    ("vertex", b'{"publisherModels":[{"name":7}]}'),
]
PARTS = [
    ("anthropic", b'{"data":[{"id":"m"}],"has_more":true}'),
    ("gemini", b'{"models":[],"nextPageToken":"x"}'),
    ("bedrock", b'{"modelSummaries":[],"nextToken":"x"}'),
    ("vertex", b'{"publisherModels":[],"nextPageToken":"x"}'),
]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_read(name: str) -> None:
    (listed,) = ADAPTERS[name].models(LISTS[name] % b"m")
    assert listed.id.endswith("m")


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[" * 100_000], ids=["none", "cut", "number", "deep"])
@pytest.mark.parametrize("name", LISTS)
def test_a_body_that_is_no_list_is_a_failure(name: str, body: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        ADAPTERS[name].models(body)
    assert caught.value.kind is Kind.BROKEN


@pytest.mark.parametrize("name", LISTS)
def test_an_id_that_is_no_text_is_a_failure(name: str) -> None:
    """Bytes that are not UTF-8 within JSON that is otherwise right."""
    with pytest.raises(UpstreamError):
        ADAPTERS[name].models(LISTS[name] % b"\xff")


@pytest.mark.parametrize(("name", "body"), OTHER_TYPES)
def test_a_list_of_other_types_is_a_failure(name: str, body: bytes) -> None:
    with pytest.raises(UpstreamError):
        ADAPTERS[name].models(body)


@pytest.mark.parametrize(("name", "body"), PARTS)
def test_a_part_of_a_list_is_a_failure(name: str, body: bytes) -> None:
    """All of it is asked for at once, and no second page is."""
    with pytest.raises(UpstreamError):
        ADAPTERS[name].models(body)


def test_a_gemini_model_of_unknown_methods_is_passed_over() -> None:
    """What cannot be asked for text is not listed; neither is what does not say."""
    assert ADAPTERS["gemini"].models(b'{"models":[{"name":"models/m","supportedGenerationMethods":7}]}') == []

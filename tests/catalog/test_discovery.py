"""What a model list means for the catalog."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from adapters.base import Listed
from gateway.catalog.discovery import Listing, compare, suggest
from gateway.catalog.load import check_text
from gateway.catalog.metadata import capabilities, limits, usd_per_mtok
from gateway.catalog.pending import Pending
from gateway.catalog.pricedata import PriceData
from gateway.catalog.recognise import category_of, name_of, sort_of
from gateway.catalog.schema import CatalogEntry

NOW = 1_795_219_200.0  # 2026-11-21


@pytest.fixture
def catalog(document: str) -> CatalogEntry:
    return check_text(document.encode(), "catalog.yaml")[1]


@pytest.mark.parametrize(
    ("upstream_id", "sort", "of"),
    [
        ("gpt-5-mini", "model", ""),
        ("gpt-5-mini-2025-08-07", "snapshot", "gpt-5-mini"),
        ("claude-haiku-4-5-20251001", "snapshot", "claude-haiku-4-5"),
        ("claude-haiku-4-5@20251001", "snapshot", "claude-haiku-4-5"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "snapshot", "anthropic.claude-haiku-4-5"),
        ("gpt-4-0613", "snapshot", "gpt-4"),
        ("mistral-large-2411", "snapshot", "mistral-large"),
        ("mistral-large-latest", "alias", "mistral-large"),
        ("llama3:latest", "alias", "llama3"),
        ("ft:gpt-5-mini-2025-08-07:org:name:abc", "fine_tune", "gpt-5-mini-2025-08-07"),
        ("qwen3-235b-a22b", "model", ""),
        ("gemini-2.5-pro", "model", ""),
        ("phi-3-4000", "model", ""),
    ],
)
def test_snapshots_aliases_and_fine_tunes_are_told_apart(upstream_id: str, sort: str, of: str) -> None:
    """By the forms of name that providers use."""
    assert sort_of(upstream_id) == (sort, of)


@pytest.mark.parametrize(
    ("upstream_id", "metadata", "category"),
    [
        ("gpt-5", {}, "text"),
        ("gpt-5-mini-tts", {}, "speech"),
        ("whisper-1", {}, "speech"),
        ("gpt-5-transcribe", {}, "speech"),
        ("text-embedding-4", {}, "other"),
        ("omni-moderation-latest", {}, "other"),
        ("gpt-image-2", {}, "other"),
        ("black-forest/flux", {}, "other"),
        ("some/model", {"type": "embedding"}, "other"),
        ("some/tts-like", {"type": "chat"}, "text"),
        ("attractst", {"type": 3}, "text"),
    ],
)
def test_text_speech_and_the_rest_are_told_apart(upstream_id: str, metadata: dict[str, Any], category: str) -> None:
    """By the list's own word, else by name."""
    assert category_of(upstream_id, metadata) == category


@pytest.mark.parametrize(
    ("upstream_id", "name"),
    [
        ("qwen/qwen3-max:free", "qwen3-max:free"),
        ("accounts/fireworks/models/glm-5", "glm-5"),
        ("ft:gpt-5:org/x:abc", "ft:gpt-5:org-x:abc"),
        ("claude@2025", "claude-2025"),
        ("global.anthropic.claude-opus-5-5", "claude-opus-5-5"),
        ("us.meta.llama4-scout-17b-instruct-v1:0", "llama4-scout-17b-instruct-v1:0"),
        ("amazon.nova-pro-v1:0", "nova-pro-v1:0"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("qwen2.5-72b", "qwen2.5-72b"),
        ("///", "model"),
    ],
)
def test_a_name_for_the_catalog_is_found(upstream_id: str, name: str) -> None:
    """Without an aggregator's path, of characters that the catalog allows."""
    assert name_of(upstream_id) == name


def test_the_words_of_each_provider_are_understood() -> None:
    """OpenRouter's, Gemini's, Mistral's, Anthropic's, Ollama's and Together's."""
    router = {
        "context_length": 200_000,
        "top_provider": {"max_completion_tokens": 8192},
        "architecture": {"input_modalities": ["text", "image", "file"], "output_modalities": ["text"]},
        "supported_parameters": ["tools", "structured_outputs", "temperature"],
        "pricing": {"prompt": "0.000003", "completion": "0.000015", "input_cache_read": "0.0000003"},
    }
    assert limits(router) == (200_000, 8192)
    assert set(capabilities(router)) == {
        *("text_input", "image_input", "document_input", "text_output", "system_messages", "streaming"),
        *("function_calling", "structured_output"),
    }
    assert usd_per_mtok(router) == {"input": "3", "output": "15", "cache_read": "0.3"}
    assert limits({"inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}) == (1_048_576, 65_536)
    assert "extended_thinking" in capabilities({"thinking": True})
    assert "function_calling" in capabilities({"capabilities": {"function_calling": True, "vision": False}})
    assert "image_input" not in capabilities({"capabilities": {"function_calling": True, "vision": False}})
    assert "document_input" in capabilities({"capabilities": {"pdf_input": {"supported": True}}})
    assert "image_input" in capabilities({"capabilities": ["completion", "vision"]})
    assert usd_per_mtok({"pricing": {"input": 0.6, "output": 2.2}}) == {"input": "0.6", "output": "2.2"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"context_length": True, "pricing": {"prompt": "NaN", "completion": "-1"}, "capabilities": 3},
        {"context_length": -5, "pricing": "free", "architecture": [], "supported_parameters": {"tools": 1}},
        {"context_length": 10**30, "pricing": {"prompt": "1e99", "completion": "0"}, "top_provider": 7},
        {"context_length": "many", "pricing": {"prompt": [], "completion": {}}},
        {"pricing": {"prompt": "-1", "completion": "-1"}},
    ],
)
def test_nonsense_suggests_nothing(metadata: dict[str, Any]) -> None:
    """A broken or hostile list leads to no limit and no price."""
    assert limits(metadata) == (None, None)
    assert usd_per_mtok(metadata) is None


def test_what_is_new_waits_and_what_is_known_does_not(catalog: CatalogEntry) -> None:
    """Names that are no plain text are passed over."""
    rows = [Listed("gpt-5-mini-2025-08-07"), Listed("gpt-9"), Listed("bad name"), Listed("x" * 600)]
    found = compare("openai", rows, catalog, None, {}, [], NOW)
    assert [pending.key for pending in found.new] == ["openai/gpt-9"]
    assert found.listing.ids == ["gpt-5-mini-2025-08-07", "gpt-9"]
    assert found.vanished == []


def test_a_model_vanishes_only_after_it_was_listed(catalog: CatalogEntry) -> None:
    """Providers serve models that they never list; the first day of absence is kept."""
    first = compare("openai", [Listed("gpt-9")], catalog, None, {}, [], NOW)
    assert first.listing.vanished == {}
    listed = compare("openai", [Listed("gpt-5-mini-2025-08-07")], catalog, first.listing, {}, [], NOW)
    gone = compare("openai", [Listed("gpt-9")], catalog, listed.listing, {}, [], NOW)
    assert (gone.listing.vanished, gone.vanished) == (
        {"gpt-5-mini-2025-08-07": "2026-11-21"},
        ["gpt-5-mini-2025-08-07"],
    )
    later = compare("openai", [Listed("gpt-9")], catalog, gone.listing, {}, [], NOW + 86_400)
    assert (later.listing.vanished, later.vanished) == ({"gpt-5-mini-2025-08-07": "2026-11-21"}, [])
    back = compare("openai", [Listed("gpt-5-mini-2025-08-07")], catalog, later.listing, {}, [], NOW)
    assert back.listing.vanished == {}


def test_what_waits_is_dropped_once_it_is_decided_or_gone(catalog: CatalogEntry) -> None:
    """Another provider's waiting models are left alone."""
    waiting = {
        key: Pending(
            provider=key.partition("/")[0],
            id=key.partition("/")[2],
            name="n",
            category="text",
            sort="model",
            first_seen_at=NOW,
        )
        for key in ("openai/gpt-9", "openai/gpt-5-mini-2025-08-07", "openai/gone", "local/gone")
    }
    rows = [Listed("gpt-9"), Listed("gpt-5-mini-2025-08-07")]
    found = compare("openai", rows, catalog, Listing(provider="openai", asked_at=NOW), waiting, [], NOW)
    assert found.new == []
    assert found.dropped == ["openai/gone", "openai/gpt-5-mini-2025-08-07"]


def test_a_relative_in_the_catalog_lends_what_the_list_does_not_tell(catalog: CatalogEntry) -> None:
    """A newer snapshot can what the model can; its price is never borrowed."""
    made = suggest("openai", Listed("gpt-5-mini-2026-09-01"), catalog, [], NOW)
    assert (made.sort, made.of) == ("snapshot", "gpt-5-mini")
    assert "function_calling" in made.capabilities
    assert made.input_tokens == 272_000
    assert made.usd_per_mtok is None
    assert made.sources == {"capabilities": "as gpt-5-mini, unverified", "limits": "as gpt-5-mini, unverified"}
    assert made.missing() == ["a price (usd_per_mtok)"]


def test_price_data_suggest_a_price_that_says_where_it_is_from(catalog: CatalogEntry) -> None:
    """Of the model itself, else of what it is a snapshot of."""
    data = PriceData("genai-prices", {("openai", "gpt-9"): {"input": "1", "output": "2"}})
    made = suggest("openai", Listed("gpt-9-2026-09-01"), catalog, [data], NOW)
    assert made.usd_per_mtok == {"input": "1", "output": "2"}
    assert made.sources["price"] == "genai-prices, unverified"


def test_what_waits_survives_the_store(catalog: CatalogEntry) -> None:
    """As JSON and back."""
    made = suggest("openai", Listed("gpt-9", {"display_name": "GPT\n9", "context_length": 9}), catalog, [], NOW)
    assert made.display_name == "GPT 9"
    assert msgspec.json.decode(msgspec.json.encode(made), type=Pending) == made

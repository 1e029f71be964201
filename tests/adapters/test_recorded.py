"""Recorded traffic through the adapters: every exchange, cut in every way. Adding a provider: a row of `RECORDED`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from tests.adapters.wire_harness import (
    CHUNKINGS,
    answer_complaints,
    exchange,
    exchange_ids,
    request_complaints,
    unexpected,
)

OPENAI = ["openai.chat"]
RECORDED = [  # provider, adapter, its chat API's names, its model list's name
    ("anthropic", "anthropic", ["anthropic.messages"], "anthropic.models"),
    ("gemini", "gemini", ["gemini.generateContent", "gemini.streamGenerateContent"], "gemini.models"),
    ("vertex", "vertex", ["gemini.generateContent", "gemini.streamGenerateContent"], "gemini.models"),
    ("vertex", "vertex_claude", ["anthropic.messages"], "anthropic.models"),
    ("bedrock", "bedrock", ["bedrock.converse", "bedrock.converse-stream"], "bedrock.models"),
    *[
        (provider, provider, OPENAI, "openai.models")
        for provider in ("openai", "azure", "openrouter", "mistral", "xai", "groq", "deepseek", "fireworks")
    ],
    ("ollama", "ollama", ["ollama.chat"], "ollama.tags"),
    ("ollama", "openai", OPENAI, "openai.models"),
    ("compat", "openai", OPENAI, "openai.models"),
]
CHATS = [
    pytest.param(adapter, ident, id=ident)
    for provider, adapter, apis, _ in RECORDED
    for ident in exchange_ids(provider, *apis)
]
LISTS = [
    pytest.param(adapter, ident, id=ident)
    for provider, adapter, _, api in RECORDED
    for ident in exchange_ids(provider, api)
]


@pytest.mark.parametrize(("adapter", "ident"), CHATS)
def test_recorded_exchange_keeps_its_meaning_however_it_is_cut(adapter: str, ident: str) -> None:
    """Request and answer say what the recorded ones say, in every chunking."""
    recorded = exchange(ident)
    complaints = [*request_complaints(ADAPTERS[adapter], recorded)]
    for chunking in CHUNKINGS:
        complaints += answer_complaints(ADAPTERS[adapter], recorded, chunking)
    assert unexpected(ident, complaints) == []


@pytest.mark.parametrize(("adapter", "ident"), LISTS)
def test_recorded_model_list_names_its_chat_models(adapter: str, ident: str) -> None:
    """Each chat model of a recorded list is listed under the id that requests use; an error lists none."""
    body = {**exchange(ident)["response_body"], "nextPageToken": None}  # recorded in shorter pages than we ask for
    assert [model.id for model in ADAPTERS[adapter].models(json.dumps(body).encode())] == _chat_models(body)


def _chat_models(body: dict[str, Any]) -> list[str]:
    entries: list[dict[str, Any]] = body.get("data") or body.get("models") or []
    return [
        entry.get("id") or entry["name"].removeprefix("models/")
        for entry in entries
        if "generateContent" in entry.get("supportedGenerationMethods", ["generateContent"])
    ]

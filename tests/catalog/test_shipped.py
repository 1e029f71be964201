"""The catalog, schema and page that ship with the project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.catalog.find import find_models
from gateway.catalog.load import load_catalog
from gateway.catalog.reference import render_reference
from gateway.catalog.snapshot import Snapshot
from gateway.catalog.validate import json_schema
from gateway.types import Capability, mask_of

ROOT = Path(__file__).parents[2]
NOW = 1_795_219_200.0  # 2026-11-21
CLOUDS = (
    *("OPENAI", "ANTHROPIC", "GEMINI", "AZURE_OPENAI", "MISTRAL", "XAI"),
    *("GROQ", "DEEPSEEK", "FIREWORKS", "TOGETHER", "CEREBRAS", "OPENROUTER"),
)
AZURE = {"AZURE_OPENAI_ENDPOINT": "https://unit.openai.azure.com"}
KEYS = {
    **{f"{cloud}_API_KEY": "k" for cloud in CLOUDS},
    **AZURE,
    "AWS_BEARER_TOKEN_BEDROCK": "k",
    "VERTEX_ACCESS_TOKEN": "k",
    "GOOGLE_CLOUD_PROJECT": "unit",
    "OLLAMA_BASE_URL": "http://127.0.0.1:11434",
    "LOCAL_BASE_URL": "http://127.0.0.1:8000/v1",
}


@pytest.fixture(scope="module")
def keyless() -> Snapshot:
    return load_catalog(ROOT / "catalog.yaml", {}, NOW)


@pytest.fixture(scope="module")
def keyed() -> Snapshot:
    return load_catalog(ROOT / "catalog.yaml", KEYS, NOW)


def test_it_is_good_and_without_warnings_once_keys_are_set(keyed: Snapshot) -> None:
    """Every provider becomes usable by its key or address alone, and every deployment has its endpoints."""
    assert keyed.warnings == ()
    assert [p.name for p in keyed.providers.values() if p.unavailable] == []
    assert [d.name for d in keyed.deployments.values() if d.endpoint is None or d.stream_endpoint is None] == []


def test_it_covers_the_providers_and_enough_models(keyed: Snapshot) -> None:
    """Each provider API that the project started with, and between 60 and 100 chat models."""
    families = (
        "openai azure openrouter mistral xai groq deepseek fireworks together cerebras ollama anthropic gemini sandbox"
    )
    assert {p.adapter for p in keyed.providers.values()} >= set(families.split())
    enabled = [m for m in keyed.models.values() if m.status == "enabled" and not m.name.startswith("sandbox")]
    assert 60 <= len(enabled) <= 100


def test_only_the_sandbox_is_usable_without_a_key(keyless: Snapshot) -> None:
    """Nothing leaves the machine before a key is set; every tier still answers."""
    assert [p.name for p in keyless.providers.values() if p.unavailable is None] == ["sandbox"]
    for tier in keyless.tiers.values():
        assert {d.provider.name for d in tier.fallback or tier.deployments} == {"sandbox"}


def test_the_sandbox_never_competes_with_a_real_provider(keyed: Snapshot) -> None:
    """Among the deployments of the real tiers there is none of its."""
    for name in ("fast", "smart", "reasoning"):
        assert "sandbox" not in {d.provider.name for d in keyed.tiers[name].deployments}
        assert keyed.tiers[name].fallback


def test_each_key_alone_serves_a_tier() -> None:
    """One key of any cloud provider is enough for `fast` or `smart`."""
    for cloud in CLOUDS:
        snapshot = load_catalog(ROOT / "catalog.yaml", {f"{cloud}_API_KEY": "k", **AZURE}, NOW)
        usable = [d for t in ("fast", "smart") for d in snapshot.tiers[t].deployments if d.provider.unavailable is None]
        assert usable, cloud


def test_every_price_names_its_source_and_its_date(keyed: Snapshot) -> None:
    """Also those to come; and every enabled model has a price in force somewhere."""
    for deployment in keyed.deployments.values():
        assert all(price.source and price.checked for price in deployment.prices), deployment.name
    for model in keyed.models.values():
        prices = [d.price_at(NOW) for d in keyed.deployments.values() if d.model is model]
        assert model.status != "enabled" or any(prices), model.name


def test_a_reasoning_model_of_openai_gets_its_limit_under_the_new_name(keyed: Snapshot) -> None:
    """Those that reason refuse max_tokens and temperature; those that do not refuse reasoning_effort."""
    for deployment in keyed.deployments.values():
        if deployment.provider.name == "openai" and deployment.model.status == "enabled":
            reasons = deployment.capabilities & Capability.EXTENDED_THINKING.bit
            expected = ("max_completion_tokens", "drop", None) if reasons else (None, None, "drop")
            fields = ("max_tokens", "temperature", "reasoning_effort")
            assert tuple(map(deployment.unsupported_params.get, fields)) == expected, deployment.name


def test_old_names_lead_somewhere(keyed: Snapshot) -> None:
    """Retired models have a replacement that is enabled."""
    assert keyed.targets["gpt-4"].name == "smart"
    assert keyed.targets["o4-mini"].substituted == "o4-mini"
    for model in keyed.models.values():
        if model.status == "retired":
            assert keyed.targets[model.name].substituted == model.name


def test_models_are_found_by_what_they_can_do(keyed: Snapshot) -> None:
    """All of the required capabilities; those with more of the preferred ones first."""
    required = (Capability.AUDIO_INPUT, Capability.FUNCTION_CALLING)
    found = find_models(keyed, required, [Capability.VIDEO_INPUT])
    assert found
    mask = mask_of(required)
    assert all(model.capabilities & mask == mask and model.status == "enabled" for model in found)
    films = [bool(model.capabilities & Capability.VIDEO_INPUT.bit) for model in found]
    assert films == sorted(films, reverse=True)
    assert find_models(keyed, [Capability.IMAGE_OUTPUT, Capability.LOGPROBS]) == []


def test_the_checked_in_schema_is_the_generated_one() -> None:
    """Made by `tiergate catalog schema --write catalog.schema.json`."""
    assert msgspec.json.decode((ROOT / "catalog.schema.json").read_bytes()) == msgspec.json.decode(
        msgspec.json.encode(json_schema())
    )


def test_the_catalog_names_its_schema_for_editors() -> None:
    """On its first line."""
    first = (ROOT / "catalog.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=./catalog.schema.json"


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for part in (schema, *schema["$defs"].values()):
        yield from part.get("properties", {}).items()


def test_every_field_is_documented() -> None:
    """Each has a description, and the page holds the generated reference to its end."""
    page = (ROOT / "docs" / "catalog.md").read_text()
    for name, field in fields(json_schema()):
        assert field.get("description"), name
        assert f"| `{name}`" in page
    assert page.endswith(render_reference())


def test_the_page_links_only_to_its_own_sections() -> None:
    """Each link of the reference has its heading."""
    page = (ROOT / "docs" / "catalog.md").read_text()
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in page.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= headings

"""A catalog that points at a fake provider."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fakes import FakeProvider

EVERYTHING = (
    *("text_input", "image_input", "audio_input", "document_input", "text_output", "audio_output", "structured_output"),
    *("function_calling", "parallel_tool_calls", "json_mode", "streaming", "prompt_caching", "extended_thinking"),
    *("system_messages", "logprobs", "multiple_choices"),
)
INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK = 1, 2


def model_of(provider: str) -> str:
    """The name of the one model that this provider serves."""
    return f"{provider}-model"


def catalog_for(
    fake: FakeProvider,
    path: Path,
    tiers: Mapping[str, Sequence[str]],
    *,
    providers: Mapping[str, Mapping[str, Any]] | None = None,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    tier_fields: Mapping[str, Mapping[str, Any]] | None = None,
    **document: Any,
) -> Path:
    """Writes a catalog in which each tier has these providers, in this order, each with a model of its own.

    `providers`, `models` (by provider) and `tier_fields` override fields, None takes one away; `document` adds whole
    sections.
    """
    names = list(dict.fromkeys(name for group in tiers.values() for name in group))
    written = {
        "providers": {
            name: _given(
                {
                    "adapter": "openai",
                    "base_url": f"{fake.url}/{name}/v1",
                    "allow_private": True,
                    **(providers or {}).get(name, {}),
                }
            )
            for name in names
        },
        "models": {
            model_of(name): {
                "capabilities": list(EVERYTHING),
                "context": {"input_tokens": 200_000, "output_tokens": 16_000},
                "prices": [
                    {
                        "from": "2026-01-01",
                        "usd_per_mtok": {"input": str(INPUT_USD_PER_MTOK), "output": str(OUTPUT_USD_PER_MTOK)},
                        "source": "https://example.com/prices",
                        "checked": "2026-11-20",
                    }
                ],
                "deployments": [{"provider": name, "id": f"{name}-upstream"}],
                **(models or {}).get(name, {}),
            }
            for name in names
        },
        "tiers": {
            tier: {
                "models": [model_of(name) for name in group],
                "policy": ["healthy", "ordered"],
                **(tier_fields or {}).get(tier, {}),
            }
            for tier, group in tiers.items()
        },
        **document,
    }
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(written, indent=1))  # JSON is YAML
    fresh.replace(path)
    return path


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
